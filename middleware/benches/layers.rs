//! What a layer costs per call, beside the others in the same run: `cargo bench -p campanile-middleware`.
//!
//! The service answers at once, so that what is measured is what stands in front of it. Machines are noisy: compare
//! lines of one run, not numbers of two.

use std::{
    convert::Infallible,
    hint::black_box,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, AdaptiveLimit, CatchPanicLayer, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerLayer,
    ConcurrencyLimit, ConcurrencyLimitLayer, DeadlineLayer, GenericCircuitBreakerLayer, GenericConcurrencyLimitLayer,
    HopLimitLayer, OverflowQueue, RequestIdLayer, Verdict, Window,
};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use failsafe::CircuitBreaker as _;
use http::{Request, Response};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer as Resilience, SlidingWindowType};

const WINDOW: Duration = Duration::from_secs(30);

/// Polls a future that has nothing to wait for.
fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there was something to wait for"),
    }
}

async fn answer(number: u32) -> Result<u32, &'static str> {
    Ok(number)
}

async fn http(_: Request<Empty<Bytes>>) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(Response::new(Empty::new()))
}

fn request() -> Request<Empty<Bytes>> {
    Request::new(Empty::new())
}

fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("bench")
}

fn consecutive() -> CircuitBreaker {
    builder().consecutive_failures(5).build()
}

fn rate() -> CircuitBreaker {
    builder().failure_rate(0.5, Window::time(WINDOW)).build()
}

/// One call after the other through one service, as a client does it.
fn calls(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: impl Service<u32, Response = u32>) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(ready, Poll::Ready(Ok(()))));
            drive(service.call(black_box(7))).ok().expect("answered")
        });
    });
}

fn handle(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, breaker: &CircuitBreaker) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| breaker.try_acquire().expect("closed").complete(black_box(Verdict::Success)));
    });
}

fn closed_consecutive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed, consecutive failures");
    calls(&mut group, "bare service", service_fn(answer));
    calls(&mut group, "ours", GenericCircuitBreakerLayer::new(consecutive()).layer(service_fn(answer)));
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("valid");
    calls(&mut group, "tower-resilience", resilience.layer(service_fn(answer)));
    handle(&mut group, "ours, handle alone", &consecutive());
    let policy = failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(WINDOW));
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    group.bench_function("failsafe, handle alone", |bencher| {
        bencher.iter(|| failsafe.call(|| Ok::<_, ()>(black_box(7))).expect("closed"));
    });
}

fn closed_rate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed, failure rate");
    calls(&mut group, "bare service", service_fn(answer));
    calls(&mut group, "ours, 30 s", GenericCircuitBreakerLayer::new(rate()).layer(service_fn(answer)));
    let counted = builder().failure_rate(0.5, Window::count(100)).build();
    calls(&mut group, "ours, 100 calls", GenericCircuitBreakerLayer::new(counted).layer(service_fn(answer)));
    let slow = builder().failure_rate(0.5, Window::time(WINDOW)).slow_calls(Duration::from_secs(1), 0.5).build();
    calls(&mut group, "ours, 30 s and slow calls", GenericCircuitBreakerLayer::new(slow).layer(service_fn(answer)));
    let counted = Resilience::builder().sliding_window_size(100).build().expect("valid");
    calls(&mut group, "tower-resilience, 100 calls", counted.layer(service_fn(answer)));
    // It keeps every call of the window: 10 ms of them are what stays bearable.
    let timed = Resilience::builder().sliding_window_type(SlidingWindowType::TimeBased);
    let timed = timed.sliding_window_duration(Duration::from_millis(10)).build().expect("valid");
    calls(&mut group, "tower-resilience, 10 ms", timed.layer(service_fn(answer)));
    handle(&mut group, "ours, 30 s, handle alone", &rate());
    let backoff = failsafe::backoff::constant(WINDOW);
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.5, 20, WINDOW, backoff);
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    group.bench_function("failsafe, 30 s, handle alone", |bencher| {
        bencher.iter(|| failsafe.call(|| Ok::<_, ()>(black_box(7))).expect("closed"));
    });
    let recloser = recloser::Recloser::custom().closed_len(100).build();
    group.bench_function("recloser, 100 calls, handle alone", |bencher| {
        bencher.iter(|| recloser.call(|| Ok::<_, ()>(black_box(7))).expect("closed"));
    });
    group.bench_function("one clock read", |bencher| bencher.iter(Instant::now));
}

/// As axum does it: a clone of the service for each request.
fn http_layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clone and oneshot, HTTP");
    let mut oneshot = |name: &str, service: &dyn Fn()| {
        group.bench_function(name, |bencher| bencher.iter(service));
    };
    let bare = service_fn(http);
    oneshot("bare service", &|| drop(drive(bare.oneshot(request()))));
    let closed = CircuitBreakerLayer::new(consecutive()).layer(service_fn(http));
    oneshot("ours, closed", &|| drop(drive(closed.clone().oneshot(request()))));
    let timed = CircuitBreakerLayer::new(rate()).layer(service_fn(http));
    oneshot("ours, closed, failure rate over 30 s", &|| drop(drive(timed.clone().oneshot(request()))));
    let open = CircuitBreakerLayer::new(consecutive());
    open.breaker().isolate();
    let open = open.layer(service_fn(http));
    oneshot("ours, refused", &|| drop(drive(open.clone().oneshot(request()))));
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("valid").layer(service_fn(http));
    oneshot("tower-resilience, closed", &|| drop(drive(resilience.clone().oneshot(request()))));
    let limited = ConcurrencyLimitLayer::fixed(1024).layer(service_fn(http));
    oneshot("ours, concurrency limit", &|| drop(drive(limited.clone().oneshot(request()))));
    let tower = ServiceBuilder::new().load_shed().concurrency_limit(1024).service(service_fn(http));
    oneshot("tower, load shed and concurrency limit", &|| drop(drive(tower.clone().oneshot(request()))));
    let full = ConcurrencyLimitLayer::fixed(0).layer(service_fn(http));
    oneshot("ours, concurrency limit, refused", &|| drop(drive(full.clone().oneshot(request()))));
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("concurrency limit");
    calls(&mut group, "bare service", service_fn(answer));
    let fixed = GenericConcurrencyLimitLayer::new(ConcurrencyLimit::fixed(1024));
    calls(&mut group, "ours", fixed.layer(service_fn(answer)));
    let queued = fixed.clone().overflow(OverflowQueue { len: 1024, timeout: WINDOW });
    calls(&mut group, "ours, with a queue", queued.layer(service_fn(answer)));
    let adaptive = GenericConcurrencyLimitLayer::new(ConcurrencyLimit::adaptive(AdaptiveLimit::default()));
    calls(&mut group, "ours, adaptive", adaptive.layer(service_fn(answer)));
    let tower = ServiceBuilder::new().load_shed().concurrency_limit(1024).service(service_fn(answer));
    calls(&mut group, "tower, load shed and concurrency limit", tower);
    let tower = ServiceBuilder::new().concurrency_limit(1024).service(service_fn(answer));
    calls(&mut group, "tower, concurrency limit", tower);
}

/// The layers of a server over a route of axum, with nobody who listens to its log.
fn server_stack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server stack, axum route");
    let route = || Router::new().route("/", get(|| async { "hello" }));
    let ask = || Request::get("/").body(axum::body::Body::empty()).expect("a valid request");
    let stack = ServiceBuilder::new()
        .layer(RequestIdLayer::new())
        .layer(AccessLogLayer::new())
        .layer(CatchPanicLayer::new())
        .layer(HopLimitLayer::new(1))
        .layer(ConcurrencyLimitLayer::fixed(1024))
        .layer(CircuitBreakerLayer::new(consecutive()))
        .layer(DeadlineLayer::new(WINDOW))
        .service(route());
    // The deadline has a timer, which wants a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let bare = route();
    group.bench_function("bare route", |bencher| bencher.iter(|| drop(drive(bare.clone().oneshot(ask())))));
    group.bench_function("ours", |bencher| bencher.iter(|| drop(drive(stack.clone().oneshot(ask())))));
}

/// Time per call of each of `threads` threads that share a breaker.
fn shared(criterion: &mut Criterion) {
    for (name, make) in [("consecutive failures", consecutive as fn() -> CircuitBreaker), ("failure rate", rate)] {
        let mut group = criterion.benchmark_group(format!("threads on one breaker, {name}"));
        for threads in [1, 2] {
            let breaker = make();
            group.bench_function(threads.to_string(), |bencher| {
                bencher.iter_custom(|iterations| {
                    let barrier = Barrier::new(threads);
                    let run = || {
                        barrier.wait();
                        let begun = Instant::now();
                        for _ in 0..iterations {
                            breaker.try_acquire().expect("closed").complete(black_box(Verdict::Success));
                        }
                        begun.elapsed()
                    };
                    std::thread::scope(|scope| {
                        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                        running.into_iter().map(|thread| thread.join().expect("no panic")).max().expect("one or more")
                    })
                });
            });
        }
    }
}

criterion_group! {
    name = layers;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = closed_consecutive, closed_rate, limits, http_layers, server_stack, shared
}
criterion_main!(layers);

//! What a layer costs per call, beside the others in the same run: `cargo bench -p campanile-middleware`.
//!
//! The service answers at once, so that what is measured is what stands in front of it. At the end it prints the
//! targets beside what was measured ([`table`]). Machines are noisy: compare lines of one run, not numbers of two.

mod table;

use std::{
    convert::Infallible,
    hint::black_box,
    path::{Path, PathBuf},
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, AdaptiveLimit, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerLayer, ConcurrencyLimit,
    ConcurrencyLimitLayer, GenericCircuitBreakerLayer, GenericConcurrencyLimitLayer, OverflowQueue, ServerStack,
    Verdict, Window,
};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use failsafe::CircuitBreaker as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer as TowerCatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer as Resilience, SlidingWindowType};

use table::{CLOSED, HTTP, LIMIT, RATE, STACK, THREADS};

const WINDOW: Duration = Duration::from_secs(30);

/// Calls a service that is ready, and polls what it answers where that stands, as `.await` does.
#[inline(always)]
fn call<S: Service<Req>, Req>(service: &mut S, request: Req) -> Result<S::Response, S::Error> {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
    match pin!(service.call(request)).poll(cx) {
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

/// With what every client sends at least.
fn request<B>(body: B) -> Request<B> {
    let mut request = Request::new(body);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::HOST, HeaderValue::from_static("orders.example"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("bench/1.0"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    *request.headers_mut() = headers;
    request
}

fn grpc<B>(body: B) -> Request<B> {
    let mut request = request(body);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request
}

/// A clone of the service for each request, as axum does it.
#[inline(always)]
fn ask<S: Service<Req> + Clone, Req>(service: &S, request: Req) {
    drop(call(&mut service.clone(), request));
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

fn open() -> CircuitBreaker {
    let breaker = builder().consecutive_failures(1).open_for(Duration::from_secs(90)).build();
    breaker.try_acquire().expect("closed").complete(Verdict::Failure);
    breaker
}

/// One call after the other through one service, as a client does it.
fn calls(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: impl Service<u32, Response = u32>) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| call(&mut service, black_box(7)).ok().expect("answered"));
    });
}

fn clones(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, service: impl Service<u32, Response = u32> + Clone) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| ask(&service, black_box(7)));
    });
}

fn handle(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, breaker: &CircuitBreaker) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| breaker.try_acquire().expect("closed").complete(black_box(Verdict::Success)));
    });
}

fn closed_consecutive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(CLOSED);
    let ours = GenericCircuitBreakerLayer::new(consecutive()).layer(service_fn(answer));
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("valid").layer(service_fn(answer));
    calls(&mut group, "bare service", service_fn(answer));
    calls(&mut group, "ours", ours.clone());
    calls(&mut group, "tower-resilience", resilience.clone());
    clones(&mut group, "bare service, a clone per call", service_fn(answer));
    clones(&mut group, "ours, a clone per call", ours);
    clones(&mut group, "tower-resilience, a clone per call", resilience);
    handle(&mut group, "ours, handle alone", &consecutive());
    let policy = failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(WINDOW));
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    group.bench_function("failsafe, handle alone", |bencher| {
        bencher.iter(|| failsafe.call(|| Ok::<_, ()>(black_box(7))).expect("closed"));
    });
}

fn closed_rate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(RATE);
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

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(LIMIT);
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

fn http_layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(HTTP);
    let mut each = |name: &str, call: &dyn Fn()| {
        group.bench_function(name, |bencher| bencher.iter(call));
    };
    let rest = || request(Empty::new());
    let bare = service_fn(http);
    each("bare service", &|| ask(&bare, rest()));
    each("bare service, gRPC", &|| ask(&bare, grpc(Empty::new())));
    let closed = CircuitBreakerLayer::new(consecutive()).layer(service_fn(http));
    each("ours, closed", &|| ask(&closed, rest()));
    let timed = CircuitBreakerLayer::new(rate()).layer(service_fn(http));
    each("ours, closed, failure rate over 30 s", &|| ask(&timed, rest()));
    let open = CircuitBreakerLayer::new(open()).layer(service_fn(http));
    each("ours, open", &|| ask(&open, rest()));
    each("ours, open, gRPC", &|| ask(&open, grpc(Empty::new())));
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("valid").layer(service_fn(http));
    each("tower-resilience, closed", &|| ask(&resilience, rest()));
    let limited = ConcurrencyLimitLayer::fixed(1024).layer(service_fn(http));
    each("ours, concurrency limit", &|| ask(&limited, rest()));
    let tower = ServiceBuilder::new().load_shed().concurrency_limit(1024).service(service_fn(http));
    each("tower, load shed and concurrency limit", &|| ask(&tower, rest()));
    // Nobody listens.
    let silent = AccessLogLayer::new().layer(service_fn(http));
    each("ours, access log", &|| ask(&silent, rest()));
    let silent = TraceLayer::new_for_http().layer(service_fn(http));
    each("tower-http, trace", &|| ask(&silent, rest()));
}

/// The layers of a server over a route of axum, with nobody who listens to its log.
fn server_stack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(STACK);
    let route = || Router::new().route("/", get(|| async { "hello" }));
    // The deadline of tower-http has a timer, which wants a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let bare = route();
    group.bench_function("bare route", |bencher| bencher.iter(|| ask(&bare, request(Body::empty()))));
    let ours = ServerStack::new().breaker(CircuitBreakerLayer::new(consecutive())).layer(route());
    group.bench_function("ours", |bencher| bencher.iter(|| ask(&ours, request(Body::empty()))));
    // What there is of the same: no breaker, no limit of hops, one log line per event instead of one per request.
    let theirs = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http())
        .layer(TowerCatchPanicLayer::new())
        .load_shed()
        .concurrency_limit(1024)
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, WINDOW))
        .service(route());
    group.bench_function("tower and tower-http", |bencher| bencher.iter(|| ask(&theirs, request(Body::empty()))));
}

/// Time per call of each of `threads` threads that share a breaker.
fn shared(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(THREADS);
    for (name, make) in [("consecutive failures", consecutive as fn() -> CircuitBreaker), ("failure rate", rate)] {
        for threads in [1, 2] {
            let breaker = make();
            group.bench_function(format!("{name}, {threads}"), |bencher| {
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

fn main() {
    let results: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let mut criterion = Criterion::default()
        .output_directory(&results)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for run in [closed_consecutive, closed_rate, limits, http_layers, server_stack, shared] {
        run(&mut criterion);
    }
    criterion.final_summary();
    table::print(&results);
}

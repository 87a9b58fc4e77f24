//! One stack for both protocols: whatever befalls a request, its outcome is the same over REST and gRPC.
//!
//! What the broker does not do on demand (panic, fail, hang) is done by toy handlers behind the very same stack.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use campanile::{
    config::{Config, Raw},
    grpc::proto::{
        ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest, SendMessageResponse,
        message_broker_service_client::MessageBrokerServiceClient,
        message_broker_service_server::{MessageBrokerService, MessageBrokerServiceServer},
    },
    server::stack,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    clients::{Answer, Grpc, Rest, channel, message, metadata},
    stage::{Stage, eventually, free_port},
};

/// What a caller learns, whatever the protocol.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The class of the answer, as gRPC has it.
    class: Code,
    /// The stable code; empty when all is well.
    code: String,
    /// For people.
    text: String,
    /// When to try again, in whole seconds.
    retry_after: Option<u64>,
}

impl Outcome {
    fn of_rest(answer: &Answer) -> Self {
        let class = match answer.status {
            200 => Code::Ok,
            500 => Code::Internal,
            503 => Code::Unavailable,
            504 => Code::DeadlineExceeded,
            508 => Code::FailedPrecondition,
            other => panic!("unexpected status {other}: {}", answer.text),
        };
        let text = |field: &str| answer.json[field].as_str().unwrap_or_default().to_owned();
        let (code, text) = if class == Code::Ok { Default::default() } else { (text("code"), text("detail")) };
        Self { class, code, text, retry_after: answer.header("retry-after").parse().ok() }
    }

    fn of_grpc<T>(answer: &Result<T, Status>) -> Self {
        let Err(status) = answer else {
            return Self { class: Code::Ok, code: String::new(), text: String::new(), retry_after: None };
        };
        let pushback_ms = metadata(status, "grpc-retry-pushback-ms").parse::<i64>().ok();
        Self {
            class: status.code(),
            code: metadata(status, "campanile-code").to_owned(),
            text: status.message().to_owned(),
            retry_after: pushback_ms.and_then(|ms| u64::try_from(ms).ok()).map(|ms| ms.div_ceil(1000)),
        }
    }

    #[track_caller]
    fn assert_is(&self, class: Code, code: &str, retries: std::ops::RangeInclusive<u64>) {
        assert_eq!((self.class, self.code.as_str()), (class, code), "{self:?}");
        assert!(self.retry_after.is_some_and(|seconds| retries.contains(&seconds)), "{self:?}");
    }
}

// ------------------------------------------------------------------------------------ toys

/// Does what the message says.
#[derive(Debug, Clone)]
struct Toy {
    /// Lets a request go that hangs.
    release: Arc<Semaphore>,
}

impl Toy {
    async fn play(&self, what: &str) -> Result<(), ()> {
        match what {
            "panic" => panic!("as it was told"),
            "fail" => Err(()),
            "hang" => {
                self.release.acquire().await.expect("never closed").forget();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl MessageBrokerService for Toy {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let played = self.play(&request.get_ref().payload).await;
        played.map(|()| Response::new(SendMessageResponse::default())).map_err(|()| Status::internal("as it was told"))
    }

    async fn receive_message(
        &self,
        _: Request<ReceiveMessageRequest>,
    ) -> Result<Response<ReceiveMessageResponse>, Status> {
        Ok(Response::new(ReceiveMessageResponse::default()))
    }
}

async fn play_over_rest(State(toy): State<Toy>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let what = body["message"].as_str().unwrap_or_default();
    match toy.play(what).await {
        Ok(()) => (StatusCode::OK, Json(json!({}))),
        Err(()) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"detail": "as it was told"}))),
    }
}

/// The stack over the toys, on a port.
struct Served {
    toy: Toy,
    rest: Rest,
    grpc: MessageBrokerServiceClient<tonic::transport::Channel>,
    grpc_receive: Grpc,
    server: JoinHandle<()>,
}

impl Served {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let toy = Toy { release: Arc::new(Semaphore::new(0)) };
        let rest = Router::new()
            .route("/publish", post(play_over_rest))
            .route("/consume/{queue}", axum::routing::get(async || Json(json!({"messages": []}))))
            .with_state(toy.clone());
        let grpc = Routes::new(MessageBrokerServiceServer::new(toy.clone())).into_axum_router();
        let app = stack(&config(settings), rest, grpc);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let server = tokio::spawn(async { axum::serve(listener, app).await.expect("serves") });
        let grpc = MessageBrokerServiceClient::new(channel(addr));
        Self { toy, rest: Rest::new(addr), grpc, grpc_receive: Grpc::new(addr), server }
    }

    async fn rest(&self, what: &str) -> Outcome {
        Outcome::of_rest(&self.rest.post("/publish", &json!({"topic": "t", "message": what})).await)
    }

    async fn grpc(&self, what: &str) -> Outcome {
        Outcome::of_grpc(&self.grpc.clone().send_message(message("t", what)).await)
    }

    /// The outcome over both protocols, which must be the same.
    async fn both(&self, what: &str) -> Outcome {
        let (rest, grpc) = (self.rest(what).await, self.grpc(what).await);
        assert_eq!(rest, grpc, "REST and gRPC");
        rest
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn config(settings: &[(&'static str, &str)]) -> Config {
    let flags = settings.iter().map(|(flag, value)| (*flag, (*value).to_owned()));
    Raw::collect(None, flags).and_then(|raw| raw.validate()).expect("good settings")
}

// ------------------------------------------------------------------------------------ outcomes

#[tokio::test]
async fn a_request_that_succeeds_has_the_same_outcome_over_both_protocols() {
    let _stage = Stage::shared().await;
    let served = Served::start(&[]).await;
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn a_panic_in_a_handler_has_the_same_outcome_over_both_protocols() {
    let _stage = Stage::shared().await;
    let served = Served::start(&[]).await;
    let outcome = served.both("panic").await;
    assert_eq!((outcome.class, outcome.code.as_str(), outcome.retry_after), (Code::Internal, "internal", None));
    assert!(!outcome.text.contains("as it was told"), "what a panic says is for the log: {outcome:?}");
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn a_deadline_has_the_same_outcome_over_both_protocols() {
    let _stage = Stage::shared().await;
    let served = Served::start(&[("request-timeout-secs", "0.2")]).await;
    let outcome = served.both("hang").await;
    assert_eq!((outcome.class, outcome.code.as_str()), (Code::DeadlineExceeded, "deadline_exceeded"));
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn the_limit_is_one_for_both_protocols_with_the_same_outcome() {
    let _stage = Stage::shared().await;
    let served = Arc::new(Served::start(&[("concurrency-limit", "2")]).await);
    let hold = |over: &str| {
        let (served, is_rest) = (Arc::clone(&served), over == "REST");
        tokio::spawn(async move {
            loop {
                let outcome = if is_rest { served.rest("hang").await } else { served.grpc("hang").await };
                // The place may have been taken by the question whether it is.
                if outcome.code != "overloaded" {
                    return outcome;
                }
            }
        })
    };
    // One place is taken over each protocol.
    let holders = [hold("REST"), hold("gRPC")];
    eventually("both places taken", async || (served.rest("do well").await.class != Code::Ok).then_some(())).await;
    served.both("do well").await.assert_is(Code::Unavailable, "overloaded", 1..=1);
    served.toy.release.add_permits(2);
    for holder in holders {
        assert_eq!(holder.await.expect("no panic").class, Code::Ok, "who was in is not disturbed");
    }
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn failures_over_both_protocols_open_one_circuit_for_both_and_only_for_that_operation() {
    let _stage = Stage::shared().await;
    let served = Served::start(&[]).await;
    // Ten over each, which neither alone would be enough.
    for _ in 0..10 {
        let outcome = served.rest("fail").await;
        assert_eq!((outcome.class, outcome.code.as_str()), (Code::Internal, ""), "{outcome:?}");
        assert_eq!(served.grpc("fail").await.class, Code::Internal);
    }
    served.both("do well").await.assert_is(Code::Unavailable, "circuit_open", 1..=2);
    assert_eq!(served.rest.get("/consume/t").await.status, 200, "receiving goes on");
    served.grpc_receive.ask_receive("t").await.expect("receiving goes on");

    eventually("a circuit that closes", async || (served.grpc("do well").await.class == Code::Ok).then_some(())).await;
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn a_panicking_handler_opens_the_circuit_too() {
    let _stage = Stage::shared().await;
    let served = Served::start(&[]).await;
    for _ in 0..10 {
        assert_eq!(served.both("panic").await.class, Code::Internal);
    }
    served.both("do well").await.assert_is(Code::Unavailable, "circuit_open", 1..=2);
}

#[tokio::test]
async fn who_goes_away_and_who_is_refused_opens_no_circuit() {
    let _stage = Stage::shared().await;
    let served = Arc::new(Served::start(&[("concurrency-limit", "1")]).await);
    for _ in 0..25 {
        let (rest, mut grpc) = (served.rest.clone(), served.grpc.clone());
        let body = json!({"topic": "t", "message": "hang"});
        // Nobody lets them go, so they end here; those that find the place still taken are refused.
        drop(tokio::time::timeout(Duration::from_millis(5), rest.post("/publish", &body)).await);
        drop(tokio::time::timeout(Duration::from_millis(5), grpc.send_message(message("t", "hang"))).await);
    }
    eventually("the one place given back", async || (served.rest("do well").await.class == Code::Ok).then_some(()))
        .await;
    assert_eq!(served.both("do well").await.class, Code::Ok);
}

#[tokio::test]
async fn a_request_that_goes_in_circles_has_the_same_outcome_over_both_protocols() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let rest = broker.rest();
    let publish = rest.request(Method::POST, "/publish").json(&json!({"topic": "t", "message": 1}));
    let over_rest = Rest::ask(publish.header("x-campanile-hop", "7")).await.expect("an answer");
    let mut client = MessageBrokerServiceClient::new(channel(broker.grpc));
    let mut request = Request::new(message("t", "1"));
    request.metadata_mut().insert("x-campanile-hop", "7".parse().expect("ASCII"));
    let over_grpc = client.send_message(request).await;
    let outcome = Outcome::of_rest(&over_rest);
    assert_eq!(outcome, Outcome::of_grpc(&over_grpc));
    assert_eq!((outcome.class, outcome.code.as_str()), (Code::FailedPrecondition, "loop_detected"));
}

// ------------------------------------------------------------------------------------ the real broker

#[tokio::test]
async fn long_polls_take_places_of_their_own_and_health_needs_none() {
    let stage = Stage::shared().await;
    let broker = stage.broker().set("BROKER_WAITING_RECEIVES_MAX", 2).start().await;
    let (rest, grpc) = (broker.rest(), broker.grpc());
    let polls: Vec<_> = (0..2)
        .map(|n| {
            let rest = rest.clone();
            tokio::spawn(async move {
                // The place may have been taken by the question whether it is.
                while rest.get(&format!("/consume/q{n}?wait_seconds=60")).await.status == 503 {}
            })
        })
        .collect();
    let consume = async || rest.get("/consume/q").await;
    eventually("both places taken", async || (consume().await.status == 503).then_some(())).await;
    let over_rest = Outcome::of_rest(&consume().await);
    let over_grpc = Outcome::of_grpc(&grpc.ask_receive("q").await);
    assert_eq!(over_rest, over_grpc);
    over_rest.assert_is(Code::Unavailable, "overloaded", 1..=1);
    rest.get("/health").await.ok();
    HealthClient::new(channel(broker.grpc)).check(HealthCheckRequest::default()).await.expect("observable");
    rest.publish("t", json!(1)).await;
    for poll in polls {
        poll.abort();
        // A client that went away has given its place back.
        let _ = poll.await;
    }
    eventually("a place for a receive", async || (consume().await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_standby_passes_requests_on_with_the_same_outcome_over_both_protocols() {
    let stage = Stage::shared().await;
    let [active, standby] = stage.active_and_standby().await;
    for (rest, grpc) in [(standby.rest, standby.grpc), (standby.grpc, standby.rest)] {
        assert_same_service(active.rest, rest, grpc).await;
    }
    assert!(standby.process.events("took over").is_empty());
}

/// A client of an instance that is not the active one sees what a client of the active one sees, refusals included.
async fn assert_same_service(active: SocketAddr, rest: SocketAddr, grpc: SocketAddr) {
    let (active, rest, grpc) = (Rest::new(active), Rest::new(rest), Grpc::new(grpc));
    rest.publish("t", json!(1)).await;
    grpc.send("t", "2").await;
    assert_eq!(active.drain("t").await, [json!(1), json!(2)]);
    active.publish("t", json!(3)).await;
    assert_eq!(grpc.receive("t").await.expect("the message").payload, "3");
    let refused = rest.post("/publish", &json!({"topic": "../t", "message": 1})).await;
    assert_eq!(refused.problem(), (400, "invalid_argument", "topic"));
    let status = grpc.ask_receive("../t").await.expect_err("refused");
    assert_eq!((status.code(), metadata(&status, "campanile-code")), (Code::InvalidArgument, "invalid_argument"));
}

#[tokio::test]
async fn without_an_active_instance_the_outcome_is_the_same_over_both_protocols() {
    let stage = Stage::shared().await;
    fs::create_dir(stage.data_dir()).expect("a folder");
    // Somebody holds the store who is no instance of the broker.
    let lock = fs::File::create(stage.data_dir().join("LOCK")).expect("a lock file");
    lock.lock().expect("nobody has it");
    let (own, other) = (free_port(), free_port());
    let launch = stage
        .broker()
        .set("BROKER_GRPC_ADDR", format!("127.0.0.1:{own}"))
        .set("BACKEND_TARGETS", format!("127.0.0.1:{own},127.0.0.1:{other}"));
    let standby = launch.start().await;
    let (rest, grpc) = (standby.rest(), standby.grpc());
    let publish = json!({"topic": "t", "message": 1});
    let (over_rest, over_grpc) = tokio::join!(rest.post("/publish", &publish), grpc.ask_send(message("t", "1"), None));
    let outcome = Outcome::of_rest(&over_rest);
    assert_eq!(outcome, Outcome::of_grpc(&over_grpc));
    assert_eq!(outcome.class, Code::Unavailable, "{outcome:?}");
    assert!(outcome.retry_after.is_some(), "nothing was done, so it may be tried again: {outcome:?}");

    lock.unlock().expect("ours");
    standby.process.logged("took over").await;
    rest.publish("t", json!(1)).await;
    assert_eq!(rest.drain("t").await, [json!(1)], "and the refused ones were not done");
}

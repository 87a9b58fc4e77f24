//! What HTTP/2 servers do not take, told from what they may have processed: by a server that writes the frames itself.

use std::{convert::Infallible, net::SocketAddr};

use axum::{Router, routing::post};
use bytes::Bytes;
use campanile_middleware::{AnsweredBy, CircuitBreaker, Instance, RoundRobin, RoundRobinLayer, is_never_sent};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

use crate::servers::serve;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame, RFC 9113 section 4.1.
fn frame(kind: u8, stream: u32, payload: &[u32]) -> Vec<u8> {
    let payload: Vec<u8> = payload.iter().flat_map(|word| word.to_be_bytes()).collect();
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, 0], &stream.to_be_bytes(), &payload].concat()
}

fn goaway(last_stream: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, &[last_stream, reason])
}

/// The server's end of a connection.
struct Connection(TcpStream);

impl Connection {
    async fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_exact(&mut [0; 24]).await.expect("the preface");
        let mut connection = Self(stream);
        connection.write(&frame(SETTINGS, 0, &[])).await;
        connection
    }

    /// Reads to the next request, and gives its stream.
    async fn request(&mut self) -> u32 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.expect("a frame");
            let [a, b, c, kind, _flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.expect("its payload");
            if kind == HEADERS {
                return u32::from_be_bytes(stream);
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the client reads");
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

type ToEither = BoxCloneSyncService<Request<Full<Bytes>>, Response<()>, Infallible>;

/// A client whose requests go to `scripted` first, over one connection, and a server that answers all.
async fn client(scripted: SocketAddr) -> ToEither {
    let good = serve(Router::new().route("/", post(async |body: String| body))).await;
    let instances = [("scripted", scripted), ("good", good)].map(|(name, address)| {
        let uri: Uri = format!("http://{address}").parse().expect("an address");
        Instance::new(name, uri, CircuitBreaker::builder(name).consecutive_failures(u32::MAX).build())
    });
    // All in turn go to the first: the second is asked only when that one did nothing.
    instances[1].set_ready(false);
    let round = RoundRobin::new(instances).never_sent(|error: &Error| is_never_sent(error));
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    // The heads of the responses are enough.
    ToEither::new(RoundRobinLayer::new(round).layer(client).map_response(|response| response.map(drop)))
}

fn request() -> Request<Full<Bytes>> {
    Request::post("/").body(Full::from("body")).expect("valid")
}

/// The status, and who gave it after how many attempts.
fn told(response: Result<Response<()>, Infallible>) -> (u16, String, u32) {
    let response = response.expect("infallible");
    let by = response.extensions().get::<AnsweredBy>().expect("somebody was asked");
    (response.status().as_u16(), by.instance().to_owned(), by.attempts())
}

#[tokio::test]
async fn what_is_above_the_last_stream_of_a_goaway_was_not_processed_and_what_is_below_may_have_been() {
    for reason in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let (listener, address) = listen().await;
        let (tell, mut taken) = mpsc::unbounded_channel();
        let (answered, until_answered) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let mut connection = Connection::accept(&listener).await;
            let first = connection.request().await;
            tell.send(first).expect("the test waits");
            let second = connection.request().await;
            tell.send(second).expect("the test waits");
            connection.write(&goaway(first, reason)).await;
            until_answered.await.expect("the second is answered");
            // The connection closes, with the first under way.
        });
        let client = client(address).await;
        let first = tokio::spawn(client.clone().oneshot(request()));
        assert_eq!(taken.recv().await, Some(1));
        let second = client.oneshot(request()).await;
        assert_eq!(taken.recv().await, Some(3), "over the same connection");
        assert_eq!(told(second), (200, "good".to_owned(), 2), "reason {reason}");
        answered.send(()).expect("the server waits");
        let first = first.await.expect("no panic");
        assert_eq!(told(first), (502, "scripted".to_owned(), 1), "reason {reason}");
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_was_not_processed_and_one_that_was_reset_may_have_been() {
    for (reason, expected) in [(REFUSED_STREAM, (200, "good", 2)), (INTERNAL_ERROR, (502, "scripted", 1))] {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let mut connection = Connection::accept(&listener).await;
            let stream = connection.request().await;
            connection.write(&frame(RST_STREAM, stream, &[reason])).await;
            // Keeps the connection open, until the client closes it.
            let _ = connection.0.read_to_end(&mut Vec::new()).await;
        });
        let (status, by, attempts) = told(client(address).await.oneshot(request()).await);
        assert_eq!((status, by.as_str(), attempts), expected, "reason {reason}");
    }
}

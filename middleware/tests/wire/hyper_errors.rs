//! Which errors of hyper's clients prove that a request was not sent.

use std::{error::Error, future::ready, net::SocketAddr};

use bytes::Bytes;
use campanile_middleware::is_never_sent;
use http::{Request, Uri};
use http_body_util::Empty;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tower::service_fn;

fn request(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::post(format!("http://{address}/")).body(Empty::new()).expect("valid")
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[tokio::test]
async fn a_connection_that_could_not_be_made_for_any_reason() {
    let (_, address) = listen().await;
    let cannot = service_fn(|_: Uri| ready(Err::<TokioIo<TcpStream>, _>("the certificate is of somebody else")));
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(cannot);
    let error = client.request(request(address)).await.expect_err("there is no connection");
    assert!(is_never_sent(&error), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_closed_before_the_request_and_not_one_that_closed_after() {
    let (listener, address) = listen().await;
    let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a connection");
    drop(connection);
    let before = sender.send_request(request(address)).await.expect_err("it is closed");
    assert!(is_never_sent(&before), "{before:?}");
    drop(listener.accept().await.expect("the first"));

    let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a connection");
    let (connection, after, ()) = tokio::join!(connection, sender.send_request(request(address)), async {
        let (mut stream, _) = listener.accept().await.expect("the second");
        stream.read_exact(&mut [0; 4]).await.expect("a request");
    });
    let after: Box<dyn Error> = Box::new(after.expect_err("nobody answered"));
    assert!(!is_never_sent(&*after), "{after:?}, {connection:?}");
}

//! How many messages are published per second, beside handlers that do nothing: REST beside a no-op of axum, gRPC beside a
//! no-op of tonic. The ratio says what the broker costs; the figures alone say as much of the machine.
//!
//! ```text
//! cargo bench --bench first_figures
//! ```
//! Servers are processes of their own. The client is the same for both sides and as light as it can be: it writes bytes
//! that were made once, and looks at an answer only as far as it must. Each connection has one request under way. Rounds
//! of the four servers alternate, each broker with a new store; shown is the median of the rounds.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, routing::post, serve::ListenerExt as _};
use campanile::grpc::proto::{
    ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest, SendMessageResponse,
    message_broker_service_server::{MessageBrokerService, MessageBrokerServiceServer},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::{Request, Response, Status, service::Routes};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: [usize; 3] = [1, 64, 256];
const BODY_BYTES: usize = 1024;
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(500);
const ROUND: Duration = Duration::from_secs(2);
/// The argument that makes this program the no-op server instead.
const NO_OP: &str = "--serve-no-op";

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.iter().any(|arg| arg == NO_OP) {
        return runtime.block_on(serve_no_op());
    }
    if !args.iter().any(|arg| arg == "--bench") {
        println!("not measured: run `cargo bench --bench first_figures`");
        return Ok(());
    }
    println!("one write of {BODY_BYTES} bytes and its sync at a time: {:.0} per second", syncs_per_second()?);
    println!("bodies of {BODY_BYTES} bytes, one request under way on each connection, median of {ROUNDS} rounds\n");
    println!("| protocol | connections | broker, synced | p50 | p99 | no-op | p50 | p99 | broker / no-op |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for connections in CONNECTIONS {
        let mut figures: [Vec<Figures>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let places = [("no-op", "REST"), ("broker", "REST"), ("no-op", "gRPC"), ("broker", "gRPC")];
            for (slot, (server, protocol)) in figures.iter_mut().zip(places) {
                let server = if server == "broker" { Server::broker()? } else { Server::no_op()? };
                slot.push(runtime.block_on(measure(&server, protocol, connections))?);
            }
        }
        let [rest_no_op, rest, grpc_no_op, grpc] = figures.map(median);
        print_row("REST", connections, &rest, &rest_no_op);
        print_row("gRPC", connections, &grpc, &grpc_no_op);
    }
    Ok(())
}

fn print_row(protocol: &str, connections: usize, broker: &Figures, no_op: &Figures) {
    let [broker_p50, broker_p99, p50, p99] = [broker.p50, broker.p99, no_op.p50, no_op.p99].map(|latency| {
        let ms = latency.as_secs_f64() * 1000.0;
        format!("{ms:.2} ms")
    });
    let ratio = broker.per_second / no_op.per_second;
    let (broker, no_op) = (broker.per_second, no_op.per_second);
    println!(
        "| {protocol} | {connections} | {broker:.0}/s | {broker_p50} | {broker_p99} | {no_op:.0}/s | {p50} | {p99} | {ratio:.2} |"
    );
}

// ------------------------------------------------------------------------------------ figures

#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

async fn measure(server: &Server, protocol: &str, connections: usize) -> Result<Figures> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + ROUND;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        if protocol == "REST" {
            clients.spawn(publish_over_rest(server.rest, begin, end));
        } else {
            clients.spawn(publish_over_grpc(server.grpc, begin, end));
        }
    }
    let mut latencies = Vec::new();
    while let Some(of_one) = clients.join_next().await {
        latencies.extend(of_one??);
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    Ok(Figures { per_second: latencies.len() as f64 / ROUND.as_secs_f64(), p50: at(0.5), p99: at(0.99) })
}

/// What the disk can do if nothing is grouped.
fn syncs_per_second() -> Result<f64> {
    const COUNT: usize = 500;
    let path = folder().join("syncs");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; COUNT * BODY_BYTES])?;
    file.sync_all()?;
    let mut file = File::options().write(true).open(&path)?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        file.write_all(&[1; BODY_BYTES])?;
        file.sync_data()?;
    }
    let per_second = COUNT as f64 / begun.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(per_second)
}

// ------------------------------------------------------------------------------------ clients

fn payload() -> String {
    format!("\"{}\"", "x".repeat(BODY_BYTES - 2))
}

/// Latencies of the requests that were answered between `begin` and `end`.
async fn publish_over_rest(addr: SocketAddr, begin: Instant, end: Instant) -> Result<Vec<Duration>> {
    let body = format!("{{\"topic\":\"figures\",\"message\":{}}}", payload());
    let length = body.len();
    let head =
        format!("POST /publish HTTP/1.1\r\nhost: b\r\ncontent-type: application/json\r\ncontent-length: {length}");
    let request = format!("{head}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 4096];
    let mut latencies = Vec::new();
    loop {
        let asked = Instant::now();
        if asked > end {
            return Ok(latencies);
        }
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        while !is_whole(&answer[..filled])? {
            match stream.read(&mut answer[filled..]).await? {
                0 => return Err("the connection was closed".into()),
                bytes => filled += bytes,
            }
        }
        let now = Instant::now();
        if now > begin && now < end {
            latencies.push(now - asked);
        }
    }
}

/// Whether the whole answer is there. It must be a good one.
fn is_whole(answer: &[u8]) -> Result<bool> {
    const LENGTH: &[u8] = b"content-length: ";
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(String::from_utf8_lossy(answer).into());
    }
    let at =
        answer[..head].windows(LENGTH.len()).position(|window| window == LENGTH).ok_or("no length")? + LENGTH.len();
    let digits = answer[at..head].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(answer.len() >= head + 4 + length)
}

/// Latencies of the requests that were answered between `begin` and `end`.
async fn publish_over_grpc(addr: SocketAddr, begin: Instant, end: Instant) -> Result<Vec<Duration>> {
    let message = SendMessageRequest { topic: "figures".into(), payload: payload(), reply_to: String::new() };
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.encoded_len())?.to_be_bytes());
    message.encode(&mut frame)?;
    let frame = Bytes::from(frame);
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let uri = format!("http://{addr}/MessageBrokerService/SendMessage");
    let mut latencies = Vec::new();
    loop {
        let asked = Instant::now();
        if asked > end {
            connection.abort();
            return Ok(latencies);
        }
        let request = http::Request::post(&uri).header("content-type", "application/grpc").header("te", "trailers");
        let response = sender.send_request(request.body(Full::new(frame.clone()))?).await?;
        let body = response.into_body().collect().await?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        let answer = body.to_bytes();
        // The frame's head, then field 1, `success`: true.
        if status.is_none_or(|status| status != "0") || answer.get(5..7) != Some(&[0x08, 0x01]) {
            return Err("the message was not taken".into());
        }
        let now = Instant::now();
        if now > begin && now < end {
            latencies.push(now - asked);
        }
    }
}

// ------------------------------------------------------------------------------------ servers

/// A server process. It does not outlive this value, nor does its store.
struct Server {
    child: Child,
    rest: SocketAddr,
    grpc: SocketAddr,
    data_dir: PathBuf,
}

impl Server {
    fn broker() -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
        command.envs([("BROKER_REST_ADDR", "127.0.0.1:0"), ("BROKER_GRPC_ADDR", "127.0.0.1:0")]);
        command.env("BROKER_LOG_FORMAT", "json").env("BROKER_DATA_DIR", Self::data_dir());
        command.current_dir(folder()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::start(command)
    }

    fn no_op() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(NO_OP).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::start(command)
    }

    fn data_dir() -> PathBuf {
        folder().join("first_figures_data")
    }

    fn start(mut command: Command) -> Result<Self> {
        let data_dir = Self::data_dir();
        if data_dir.exists() {
            fs::remove_dir_all(&data_dir)?;
        }
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or("no pipe")?;
        let mut lines = BufReader::new(stderr).lines();
        for line in &mut lines {
            let event: serde_json::Value = serde_json::from_str(&line?)?;
            if event["message"] == "listening" {
                let addr = |field: &str| event[field].as_str().unwrap_or_default().parse();
                let (rest, grpc) = (addr("rest")?, addr("grpc")?);
                // So that the server never waits for somebody to read its log.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, rest, grpc, data_dir });
            }
        }
        Err("the server ended before it served".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already; and what is left of the store is removed before the next start.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data_dir);
    }
}

/// On the disk of the build, not in a file system that may be memory.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

async fn serve_no_op() -> Result<()> {
    let rest = TcpListener::bind("127.0.0.1:0").await?;
    let grpc = TcpListener::bind("127.0.0.1:0").await?;
    let listening = serde_json::json!({
        "message": "listening", "rest": rest.local_addr()?.to_string(), "grpc": grpc.local_addr()?.to_string(),
    });
    eprintln!("{listening}");
    let answer = concat!(
        r#"{"status":"ok","delivered_to":1,"message_id":"00000000-0000-0000-0000-000000000000","queues":[],"#,
        r#""load_balancing":"fair_dispatch","broker":"custom_durable_file_backed"}"#
    );
    let rest_routes = Router::new().route("/publish", post(async move |_: Bytes| answer));
    let grpc_routes = Routes::new(MessageBrokerServiceServer::new(NoOp)).into_axum_router();
    // Answers must not wait for each other's packets, as they do not in the broker.
    let rest = rest.tap_io(|stream| stream.set_nodelay(true).expect("a TCP stream"));
    let grpc = grpc.tap_io(|stream| stream.set_nodelay(true).expect("a TCP stream"));
    let (rest, grpc) =
        tokio::join!(axum::serve(rest, rest_routes).into_future(), axum::serve(grpc, grpc_routes).into_future());
    Ok(rest.and(grpc)?)
}

struct NoOp;

#[tonic::async_trait]
impl MessageBrokerService for NoOp {
    async fn send_message(
        &self,
        _: Request<SendMessageRequest>,
    ) -> std::result::Result<Response<SendMessageResponse>, Status> {
        let message_id = "00000000-0000-0000-0000-000000000000".to_owned();
        Ok(Response::new(SendMessageResponse { success: true, message_id, error_message: String::new() }))
    }

    async fn receive_message(
        &self,
        _: Request<ReceiveMessageRequest>,
    ) -> std::result::Result<Response<ReceiveMessageResponse>, Status> {
        Ok(Response::new(ReceiveMessageResponse::default()))
    }
}

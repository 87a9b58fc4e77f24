//! Those who wait: each has a connection of its own, and asks again when it has been answered.

use std::time::{Duration, Instant};

use campanile::{
    client::Client,
    grpc::proto::v1::{Ack, Settlement, StreamingPullStart, settlement::Outcome},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Result, broker::Broker};

/// How many queues they share at most.
const QUEUES: usize = 100;

/// How long they may take to come, and a message to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who wait, and when one of them had a message.
#[derive(Debug)]
pub(super) struct Awaited {
    kind: &'static str,
    queues: usize,
    arrivals: Option<mpsc::Receiver<Instant>>,
    _tasks: JoinSet<()>,
}

impl Awaited {
    /// Nobody waits.
    pub(super) fn none() -> Self {
        Self { kind: "nobody", queues: 1, arrivals: None, _tasks: JoinSet::new() }
    }

    /// Where the `n`th message goes.
    pub(super) fn topic(&self, n: usize) -> String {
        topic(self.kind, n, self.queues)
    }

    /// When the next message was there; none if nobody waits.
    pub(super) async fn arrival(&mut self) -> Result<Option<Instant>> {
        let Some(arrivals) = &mut self.arrivals else { return Ok(None) };
        Ok(Some(timeout(PATIENCE, arrivals.recv()).await?.ok_or("those who wait have gone")?))
    }
}

fn topic(kind: &str, n: usize, queues: usize) -> String {
    format!("{kind}-{}", n % queues)
}

/// Long polls over REST.
pub(super) async fn polls(broker: &Broker, count: usize) -> Result<Awaited> {
    const KIND: &str = "poll";
    let (queues, (arrived, arrivals)) = (QUEUES.min(count).max(1), mpsc::channel(count.max(1)));
    // Without probes: ten thousand of them at the same moment are more packets than the loopback takes.
    let client = reqwest::Client::builder().http1_only().tcp_keepalive(None).tcp_user_timeout(None).build()?;
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let url = format!("http://{}/v1/queues/{}/pull", broker.rest, topic(KIND, n, queues));
        let (client, arrived) = (client.clone(), arrived.clone());
        tasks.spawn(async move {
            let body = serde_json::json!({"wait_seconds": 60, "auto_ack": true, "consumer": format!("idle {n}")});
            loop {
                let answer =
                    client.post(&url).json(&body).send().await.expect("an answer").text().await.expect("a text");
                let at = Instant::now();
                if answer != r#"{"messages":[]}"# && arrived.send(at).await.is_err() {
                    return;
                }
            }
        });
    }
    all_are_there(broker, KIND, count, queues).await?;
    Ok(Awaited { kind: KIND, queues, arrivals: Some(arrivals), _tasks: tasks })
}

/// Streams over gRPC.
pub(super) async fn streams(broker: &Broker, count: usize) -> Result<Awaited> {
    const KIND: &str = "stream";
    let (queues, (arrived, arrivals)) = (QUEUES.min(count).max(1), mpsc::channel(count.max(1)));
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let client = Client::connect([broker.grpc.to_string()])?;
        let arrived = arrived.clone();
        tasks.spawn(async move {
            let start = StreamingPullStart {
                queue: topic(KIND, n, queues),
                consumer: format!("idle {n}"),
                ..Default::default()
            };
            let (mut deliveries, settler) = client.subscribe(start).await.expect("a stream");
            while let Some(delivery) = deliveries.next().await.expect("no error") {
                if arrived.send(Instant::now()).await.is_err() {
                    return;
                }
                let ack = Settlement { ack_id: delivery.ack_id, outcome: Some(Outcome::Ack(Ack {})) };
                settler.settle(vec![ack]).await.expect("confirmed");
            }
        });
    }
    all_are_there(broker, KIND, count, queues).await?;
    Ok(Awaited { kind: KIND, queues, arrivals: Some(arrivals), _tasks: tasks })
}

/// Returns when as many connections are there as are to wait: each of their queues has been asked for.
async fn all_are_there(broker: &Broker, kind: &str, count: usize, queues: usize) -> Result<()> {
    let (client, begin) = (reqwest::Client::new(), Instant::now());
    let url = format!("http://{}/v1/queues?prefix={kind}-&page_size=1000", broker.rest);
    loop {
        let page: serde_json::Value = client.get(&url).send().await?.json().await?;
        let there: usize = page["queues"].as_array().map_or(0, |queues| queues.iter().map(waiting_in).sum());
        // Of each queue so many consumers are shown at most.
        if there >= count.min(queues * 100) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{there} of {count} wait").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn waiting_in(queue: &serde_json::Value) -> usize {
    let consumers = queue["consumers"].as_array().map_or(&[][..], Vec::as_slice);
    consumers.iter().filter(|consumer| consumer["is_waiting"] == true).count()
}

//! A REST client: registers a service, publishes, consumes; then once more under leases, so that a message that was
//! taken and not worked off comes back instead of being lost.
//!
//! ```text
//! cargo run --example rest_client [http://127.0.0.1:8001]
//! ```
//! The address may also stand in `BROKER_URL`.

use std::{env, error::Error, time::Duration};

use reqwest::{Client, Response};
use serde_json::{Value, json};

const URL_DEFAULT: &str = "http://127.0.0.1:8001";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).or_else(|| env::var("BROKER_URL").ok()).unwrap_or_else(|| URL_DEFAULT.to_owned());
    let client = Client::builder().timeout(Duration::from_secs(70)).build()?;

    let health = answer(client.get(format!("{url}/health")).send().await?).await?;
    println!("the broker at {url} is {}", health["status"]);

    // From here on billing gets its own copy of every order, whether it is running or not.
    let service = json!({"service_name": "billing", "topics": ["order.created"]});
    answer(client.post(format!("{url}/register")).json(&service).send().await?).await?;
    println!("registered service billing on topic order.created");

    for number in 1..=3 {
        let order = json!({"topic": "order.created", "message": {"order": number, "total": 99.99}});
        // With a key of its own a publish may be repeated after a lost answer: it is stored once.
        let key = format!("order-{number}");
        let request = client.post(format!("{url}/publish")).header("idempotency-key", key).json(&order);
        let published = answer(request.send().await?).await?;
        println!("published order {number} to {} queue(s)", published["delivered_to"]);
    }

    // Without more, a message is acknowledged as it is handed out.
    let first = answer(client.get(format!("{url}/consume/order.created.billing")).send().await?).await?;
    println!("consumed {}", first["messages"][0]["payload"]);

    // Under a lease, it is gone only once it is acked.
    let leased = format!("{url}/consume/order.created.billing?max_messages=10&wait_seconds=5&ack_deadline_seconds=30");
    let messages = answer(client.get(leased).send().await?).await?["messages"].take();
    let mut ack_ids = Vec::new();
    for message in messages.as_array().into_iter().flatten() {
        println!("holding {} (attempt {})", message["payload"], message["delivery_attempt"]);
        ack_ids.push(message["ack_id"].clone());
    }
    let ack = client.post(format!("{url}/v1/queues/order.created.billing/ack")).json(&json!({"ack_ids": ack_ids}));
    let acked = answer(ack.send().await?).await?;
    println!("acked {} message(s)", acked["results"].as_array().map_or(0, Vec::len));
    Ok(())
}

/// The answer's JSON. A refusal is a problem document; its `code` is meant for programs, its `detail` for people.
async fn answer(response: Response) -> Result<Value, Box<dyn Error>> {
    let status = response.status();
    let value: Value = response.json().await?;
    if status.is_success() {
        return Ok(value);
    }
    Err(format!("{status}: {} ({})", value["detail"], value["code"]).into())
}

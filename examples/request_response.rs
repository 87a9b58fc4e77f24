//! Request and response between two services that only know the broker: the request names the inbox that the answer
//! goes to (`reply_to`) and what the answer has to repeat (`correlation_id`).
//!
//! ```text
//!   shop ──► topic price.requested ──► queue price.requested.pricing ──► pricing
//!    ▲                                                                      │
//!    └─────────────── inbox shop ◄── reply_to, correlation_id ──────────────┘
//! ```
//!
//! ```text
//! cargo run --example request_response [http://127.0.0.1:8001]
//! ```
//! The address may also stand in `BROKER_URL`.

use std::{env, error::Error, time::Duration};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const URL_DEFAULT: &str = "http://127.0.0.1:8001";
const ARTICLES: [(&str, u64); 3] = [("bell", 120), ("rope", 15), ("clapper", 40)];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = env::args().nth(1).or_else(|| env::var("BROKER_URL").ok()).unwrap_or_else(|| URL_DEFAULT.to_owned());
    let client = Client::builder().timeout(Duration::from_secs(70)).build()?;

    // Each side declares what it reads before it is written to.
    for (service, topics) in [("pricing", vec!["price.requested"]), ("shop", vec![])] {
        let register = json!({"service_name": service, "topics": topics});
        answer(client.post(format!("{url}/register")).json(&register)).await?;
    }
    let (_, ()) = tokio::try_join!(pricing(&client, &url), shop(&client, &url))?;
    Ok(())
}

/// Asks for the price of each article and waits for the answers, which may come in any order.
async fn shop(client: &Client, url: &str) -> Result<()> {
    for (article, _) in ARTICLES {
        let request = json!({
            "topic": "price.requested",
            "message": {"article": article},
            "reply_to": "shop",
            "correlation_id": article,
        });
        answer(client.post(format!("{url}/publish")).json(&request)).await?;
        println!("shop: what does a {article} cost?");
    }
    let mut open: Vec<&str> = ARTICLES.map(|(article, _)| article).to_vec();
    while !open.is_empty() {
        for reply in messages(client, url, "shop").await? {
            let asked = reply["correlation_id"].as_str().unwrap_or_default();
            // An answer that nobody waits for any more is passed over.
            if let Some(at) = open.iter().position(|article| *article == asked) {
                println!("shop: a {asked} costs {}", reply["payload"]["price"]);
                open.remove(at);
            }
        }
    }
    Ok(())
}

/// Answers as many requests as there are articles.
async fn pricing(client: &Client, url: &str) -> Result<()> {
    let mut answered = 0;
    while answered < ARTICLES.len() {
        for request in messages(client, url, "price.requested.pricing").await? {
            let article = request["payload"]["article"].as_str().unwrap_or_default();
            let price = ARTICLES.iter().find(|(name, _)| *name == article).map(|(_, price)| *price);
            let reply = json!({
                "topic": request["reply_to"],
                "correlation_id": request["correlation_id"],
                "message": {"price": price},
            });
            answer(client.post(format!("{url}/publish")).json(&reply)).await?;
            println!("pricing: answered to inbox {}", request["reply_to"]);
            answered += 1;
        }
    }
    Ok(())
}

/// The next messages of a queue, acked as they are handed out; waits for the first one.
async fn messages(client: &Client, url: &str, queue: &str) -> Result<Vec<Value>> {
    let consume = client.get(format!("{url}/consume/{queue}?max_messages=10&wait_seconds=30"));
    let mut answer = answer(consume).await?;
    Ok(answer["messages"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let value: Value = response.json().await?;
    if status.is_success() {
        return Ok(value);
    }
    Err(format!("{status}: {} ({})", value["detail"], value["code"]).into())
}

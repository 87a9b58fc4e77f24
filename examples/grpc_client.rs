//! A gRPC client: sends messages, one of them twice by mistake, and receives them.
//!
//! ```text
//! cargo run --example grpc_client [http://127.0.0.1:50051]
//! ```
//! The address may also stand in `BROKER_GRPC_URL`. The client's code is generated from `proto/message.proto`; in a
//! program of your own, `tonic-prost-build` does the same.

use std::{env, error::Error};

use campanile::grpc::proto::{
    ReceiveMessageRequest, SendMessageRequest, message_broker_service_client::MessageBrokerServiceClient,
};
use tonic::Request;

const URL_DEFAULT: &str = "http://127.0.0.1:50051";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).or_else(|| env::var("BROKER_GRPC_URL").ok()).unwrap_or_else(|| URL_DEFAULT.to_owned());
    let mut client = MessageBrokerServiceClient::connect(url.clone()).await?;
    println!("connected to {url}");

    // The second "ORD-1" is a repetition, as after a lost answer: it is recognised by its key and not stored again.
    for order in ["ORD-1", "ORD-1", "ORD-2"] {
        let mut request = Request::new(SendMessageRequest {
            topic: "payment.requested".to_owned(),
            payload: serde_json::json!({"order_id": order, "total": 99.99}).to_string(),
            reply_to: "order-service".to_owned(),
        });
        request.metadata_mut().insert("idempotency-key", order.parse()?);
        let sent = client.send_message(request).await?.into_inner();
        // What is wrong with a message is said in the answer; a status means that the broker could not look at it.
        if !sent.success {
            return Err(sent.error_message.into());
        }
        println!("sent {order} as {}", sent.message_id);
    }

    let mut count = 0;
    loop {
        let from = ReceiveMessageRequest { topic: "payment.requested".to_owned() };
        let received = client.receive_message(from).await?.into_inner();
        if !received.has_message {
            break;
        }
        count += 1;
        println!("received {} of {}, answer to {}", received.payload, received.topic, received.reply_to);
    }
    println!("no messages left after {count}");
    Ok(())
}

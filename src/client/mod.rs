//! A Rust client of `campanile.v1.Broker`, for services and for the command line.
//!
//! ```text
//!   Client ──► ClientStack: id, limit, deadline ──► round robin over the addresses ──► one HTTP/2 connection for each
//!     ▲                                             circuit breakers, failover
//!     └── again after a pause, if nothing was done and the budget allows it
//! ```
//! Not here: the messages of the contract, which are those of [`crate::grpc::proto::v1`], and TLS. Invariant: what may have
//! been carried out is sent a second time only if carrying it out twice does no harm.
//!
//! ```no_run
//! use campanile::{
//!     client::Client,
//!     grpc::proto::v1::{Ack, NewMessage, PublishRequest, Settlement, StreamingPullStart, settlement::Outcome},
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), campanile::client::ClientError> {
//! let client = Client::connect(["broker-1:50051", "broker-2:50051"])?;
//!
//! // Known again by its dedup id, so that it may be sent again when an answer is lost.
//! let order = NewMessage { data: r#"{"id": 1}"#.into(), dedup_id: "order-1".into(), ..NewMessage::default() };
//! client.publish(PublishRequest { topic: "orders".into(), messages: vec![order] }).await?;
//!
//! let start = StreamingPullStart { queue: "orders".into(), ..StreamingPullStart::default() };
//! let (mut deliveries, settler) = client.subscribe(start).await?;
//! while let Some(delivery) = deliveries.next().await? {
//!     println!("{:?}", delivery.message);
//!     let done = Settlement { ack_id: delivery.ack_id, outcome: Some(Outcome::Ack(Ack {})) };
//!     settler.settle(vec![done]).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod budget;
mod builder;
mod calls;
mod connections;
mod error;
mod publishing;
mod stack;
mod subscription;

pub use builder::ClientBuilder;
pub use calls::Client;
pub use error::{ClientError, Problem};
pub use publishing::{Confirmations, Publisher};
pub use subscription::{Deliveries, Settler};

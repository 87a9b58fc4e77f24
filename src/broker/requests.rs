//! Request and reply: a publish that waits for the answer to it.
//!
//! ```text
//!   request ──► topic, reply_to = _replies, correlation_id = c ──► a consumer
//!      ▲                                                              │ publishes to _replies, correlation_id = c
//!      └── reader of _replies, by correlation id ◄────────────────────┘
//! ```
//!
//! The topic of the replies is the store's, of which there is one active instance at a time: so it needs no names per
//! instance, and nothing is left behind by one that is gone. A reply that nobody waits for any more is dropped.
//!
//! Not here: who answers. Invariant: each request that waits has one entry, which goes when its future does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::warn;
use uuid::Uuid;

use super::{Broker, BrokerError, Limits, Request, limits::seconds};
use crate::{
    engine::{AckMode, Base, Engine, EngineError, Manage, Receive},
    model::{Delivery, Message, MessageId, Name, Overflow, QueueLimitsPatch, TopicPolicyPatch},
};

/// The topic that replies are published to.
const REPLIES: &str = "_replies";
/// How long a reply is kept that nobody waits for any more, while there is no request that would have it dropped.
const REPLIES_AGE_MAX: Duration = Duration::from_secs(300);
/// How many of these are kept.
const REPLIES_MAX: u64 = 10_000;
/// How long a request waits unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the reader of the replies waits after it was refused.
const RETRY: Duration = Duration::from_millis(200);

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The message that was published.
    pub message_id: MessageId,
    /// The answer to it.
    pub message: Arc<Message>,
}

/// Requests that wait. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Arc<Message>>>>>,
    reader: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

/// The place of one that waits. Dropped, it waits no more.
struct Waiting<'a> {
    requests: &'a Requests,
    correlation_id: String,
}

impl Broker {
    /// Publishes a message and waits for the first reply to it.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::NoReply`] when nobody has answered in time.
    ///
    /// # Cancel safety
    /// Dropped, the message may have been published.
    pub async fn request(&self, request: Request) -> Result<Reply, BrokerError> {
        let Request { topic, mut draft, timeout_seconds } = request;
        let timeout = match timeout_seconds {
            None => TIMEOUT,
            // Less than a millisecond is no time to answer in.
            Some(typed) => seconds("timeout_seconds", typed, 0.001..=Limits::WAIT_SECONDS_MAX)?,
        };
        let timeout = timeout.min(self.limits().wait_max);
        for (field, text) in
            [("reply_to", &draft.properties.reply_to), ("correlation_id", &draft.properties.correlation_id)]
        {
            if text.is_some() {
                return Err(BrokerError::invalid(field, "is the broker's to set in a request").in_the_message());
            }
        }
        self.limits().check_draft(&draft).map_err(BrokerError::in_the_message)?;
        let engine = self.engine()?;
        let requests = &self.shared.requests;
        requests.read_replies(&engine, self.shared.draining.subscribe()).await?;
        let (waiting, reply) = requests.wait();
        draft.properties.reply_to = Some(REPLIES.to_owned());
        draft.properties.correlation_id = Some(waiting.correlation_id.clone());
        let published = engine.publish(topic, vec![draft]).await?;
        let message = published.messages.first().expect("one message was published").id;
        let mut draining = self.shared.draining.subscribe();
        tokio::select! {
            reply = reply => {
                let message_id = message;
                // Its sender goes only with the place, which is still here.
                reply.map(|message| Reply { message_id, message }).map_err(|_| BrokerError::NoReply { message })
            }
            () = tokio::time::sleep(timeout) => Err(BrokerError::NoReply { message }),
            _ = draining.wait_for(|draining| *draining) => Err(BrokerError::NoReply { message }),
        }
    }
}

impl Requests {
    fn wait(&self) -> (Waiting<'_>, oneshot::Receiver<Arc<Message>>) {
        let (sender, reply) = oneshot::channel();
        let correlation_id = Uuid::new_v4().to_string();
        self.lock().insert(correlation_id.clone(), sender);
        (Waiting { requests: self, correlation_id }, reply)
    }

    /// Sees to it that the replies are read.
    async fn read_replies(&self, engine: &Engine, draining: watch::Receiver<bool>) -> Result<(), BrokerError> {
        let mut reader = self.reader.lock().await;
        if reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            return Ok(());
        }
        let topic = Name::parse(REPLIES).map_err(|e| BrokerError::invalid("reply_to", e.to_string()))?;
        declare(engine, &topic).await?;
        *reader = Some(tokio::spawn(read(self.clone(), engine.clone(), topic, draining)));
        Ok(())
    }

    fn give(&self, delivery: Delivery) {
        let Some(correlation_id) = &delivery.message.properties.correlation_id else { return };
        let Some(sender) = self.lock().remove(correlation_id) else { return };
        // It has just given up: nobody wants the reply.
        let _ = sender.send(delivery.message);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Arc<Message>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.correlation_id);
    }
}

/// Makes the topic of the replies, and its queue.
async fn declare(engine: &Engine, topic: &Name) -> Result<(), EngineError> {
    let limits = QueueLimitsPatch {
        messages_max: Some(Some(REPLIES_MAX)),
        bytes_max: None,
        age_max: Some(Some(REPLIES_AGE_MAX)),
        overflow: Some(Some(Overflow::DropOldest)),
    };
    let policy = TopicPolicyPatch { dedup_window: None, limits };
    engine.manage(Manage::PutTopic { topic: topic.clone(), policy, base: Base::Current }).await?;
    engine.manage(Manage::DeclareQueue { queue: topic.clone(), service: None }).await?;
    Ok(())
}

/// Gives replies to those who wait for them, until the broker shuts down or its store ends.
async fn read(requests: Requests, engine: Engine, topic: Name, mut draining: watch::Receiver<bool>) {
    loop {
        let receive = Receive {
            queue: topic.clone(),
            service: None,
            max_messages: Limits::BATCH_MAX,
            max_bytes: Receive::BYTES_MAX,
            wait: Duration::from_secs(60),
            mode: AckMode::AtOnce,
        };
        let received = tokio::select! {
            received = engine.receive(receive) => received,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        // Somebody has removed the queue: requests under way are waiting for it all the same.
        let received = match received {
            Err(EngineError::NoSuchQueue { .. }) => declare(&engine, &topic).await.map(|()| Vec::new()),
            received => received,
        };
        match received {
            Ok(deliveries) => deliveries.into_iter().for_each(|delivery| requests.give(delivery)),
            Err(EngineError::Stopped | EngineError::OutcomeUnknown) => return,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "replies cannot be read for now");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

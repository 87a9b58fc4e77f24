//! Looking at messages: browse, one message, its story, and why a queue hands nothing out.

use super::{
    Broker, BrokerError, Browse, Limits, Queue,
    paging::{self, Listed},
};
use crate::{
    engine::{Browse as EngineBrowse, Browsed, EngineError, Manage, Obstacle as EngineObstacle, Story},
    model::{MessageId, Name, Seq},
};

/// What a queue is doing.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The queue.
    pub queue: Queue,
    /// Messages that can be handed out now, as far as is known without reading them.
    pub deliverable: u64,
    /// What holds messages back; empty if nothing does.
    pub obstacles: Vec<Obstacle>,
}

/// What holds messages back.
#[derive(Debug, Clone)]
pub enum Obstacle {
    /// Something in the queue.
    Queue(EngineObstacle),
    /// Every consumer that is here holds as much as its credit allows.
    NoCredit {
        /// How many consumers.
        consumers: u64,
    },
}

impl Broker {
    /// Messages of a queue, in publish order, and the token of the next page.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn browse(&self, request: Browse) -> Result<super::Listing<Browsed>, BrokerError> {
        let Browse { queue, state, page } = request;
        let max = Limits::check_page(page.size)?;
        let after = paging::position(Listed::Messages, &page.token)?.map(Seq);
        let page = self.engine()?.browse(EngineBrowse { queue, state, after, max }).await?;
        Ok((page.messages, page.next.map(|Seq(next)| paging::token(Listed::Messages, next))))
    }

    /// One message of a queue.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::NotFound`] if the queue is done with it, or never got it.
    pub async fn message(&self, queue: Name, id: MessageId) -> Result<Browsed, BrokerError> {
        let found = self.engine()?.find(queue.clone(), id).await?;
        let (found, state) = found.ok_or_else(|| no_message(&queue, id))?;
        let seq = found.seq.or(found.delayed).unwrap_or_default();
        Ok(Browsed { seq, message: Some(found.message), state })
    }

    /// Removes one message from a queue, wherever it is. One that is not visible yet is removed for all queues of its
    /// topic.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::NotFound`] if the queue is done with it, or never got it.
    pub async fn delete_message(&self, queue: Name, id: MessageId) -> Result<(), BrokerError> {
        let engine = self.engine()?;
        let found = match engine.find(queue.clone(), id).await {
            Ok(found) => found.map(|(found, _)| found),
            // A topic without a queue has no messages but those to come.
            Err(EngineError::NoSuchQueue { .. }) => engine.find_delayed(queue.clone(), id).await?,
            Err(error) => return Err(error.into()),
        };
        let found = found.ok_or_else(|| no_message(&queue, id))?;
        let delete = match (found.delayed, found.seq) {
            (Some(seq), _) => Manage::CancelDelayed { topic: found.message.topic.clone(), seq },
            (None, Some(seq)) => Manage::DeleteMessage { queue: queue.clone(), seq },
            (None, None) => return Err(no_message(&queue, id)),
        };
        if engine.manage(delete).await?.messages == 0 {
            return Err(no_message(&queue, id));
        }
        Ok(())
    }

    /// What has happened to a message.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::NotFound`] if nothing is known of it.
    pub async fn story(&self, id: MessageId) -> Result<Story, BrokerError> {
        let not_found = || BrokerError::not_found(format!("message {id}"));
        self.engine()?.story(id).await?.ok_or_else(not_found)
    }

    /// Why a queue hands nothing out, or that it would.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn explain(&self, queue: Name) -> Result<Explanation, BrokerError> {
        let explained = self.engine()?.explain(queue).await?;
        let queue = self.with_consumers(explained.queue)?;
        let here = queue.consumers.iter().filter(|c| c.is_waiting || c.outstanding_messages > 0);
        let (here, waiting): (u64, u64) =
            here.fold((0, 0), |(here, waiting), c| (here + 1, waiting + u64::from(c.is_waiting)));
        let mut obstacles: Vec<_> = explained.obstacles.into_iter().map(Obstacle::Queue).collect();
        let is_nobody = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Queue(EngineObstacle::NoConsumer));
        if here > 0 {
            // The engine sees only those who wait.
            obstacles.retain(|obstacle| !is_nobody(obstacle));
            if waiting == 0 && explained.deliverable > 0 {
                obstacles.push(Obstacle::NoCredit { consumers: here });
            }
        }
        Ok(Explanation { queue, deliverable: explained.deliverable, obstacles })
    }
}

fn no_message(queue: &Name, id: MessageId) -> BrokerError {
    BrokerError::not_found(format!("message {id} in queue '{queue}'"))
}

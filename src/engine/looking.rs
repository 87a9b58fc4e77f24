//! The engine's answers about what it holds: it asks the commit thread, and reads messages that are not in memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    sync::Arc,
};

use super::{
    Browse, Browsed, Engine, EngineError, Explanation, Found, MessageState, Obstacle, Page, QueueView, ServiceView,
    Story, TopicView,
    checkpoint::{Block, BlockError, LoadedBlock, Place, load_block},
    manage::{Manage, Managed},
    request::Verb,
    views::{Located, Look, Outline, Reasons, Source, Trail, View},
};
use crate::model::{Message, MessageId, Name};

/// How often something is looked for again that was moved meanwhile.
const TRIES_MAX: usize = 5;

/// With how many bytes of messages an answer is long enough: with one more of the default size it is less than the 4 MiB
/// that a gRPC client takes unless told otherwise, if messages are not large.
const READ_BYTES_MAX: usize = 2 << 20;

/// Messages were moved on while they were looked for.
struct Moved;

impl Engine {
    /// Makes, changes, empties or removes topics and queues.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn manage(&self, manage: Manage) -> Result<Managed, EngineError> {
        self.ask(|reply| Verb::Manage { manage, reply }).await
    }

    /// Topics whose names begin with `prefix`, at most `max` at a time, in the order in which they came into being: from the
    /// first one on, or from where the last answer ended.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn topics(
        &self,
        prefix: String,
        from: Option<u32>,
        max: usize,
    ) -> Result<(Vec<TopicView>, Option<u32>), EngineError> {
        self.look(move |view| Ok(view.topics(from.unwrap_or(0), max, &prefix))).await
    }

    /// A topic.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn topic(&self, name: Name) -> Result<TopicView, EngineError> {
        self.look(move |view| view.topic(&name)).await
    }

    /// Queues whose names begin with `prefix`, as [`Engine::topics`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn queues(
        &self,
        prefix: String,
        from: Option<u32>,
        max: usize,
    ) -> Result<(Vec<QueueView>, Option<u32>), EngineError> {
        self.look(move |view| Ok(view.queues(from.unwrap_or(0), max, &prefix))).await
    }

    /// A queue.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn queue(&self, name: Name) -> Result<QueueView, EngineError> {
        self.look(move |view| view.queue(&name)).await
    }

    /// Services, as [`Engine::topics`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn services(
        &self,
        from: Option<u32>,
        max: usize,
    ) -> Result<(Vec<ServiceView>, Option<u32>), EngineError> {
        self.look(move |view| Ok(view.services(from.unwrap_or(0), max))).await
    }

    /// Messages of a queue.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn browse(&self, browse: Browse) -> Result<Page, EngineError> {
        for _ in 0..TRIES_MAX {
            let browse = browse.clone();
            let Outline { topic, messages, next } = self.look(move |view| view.browse(&browse)).await?;
            let sources = messages.iter().map(|located| located.source.clone()).collect();
            let Ok(read) = self.read(topic, sources).await? else { continue };
            // Fewer were read if they are large.
            let next = messages.get(read.len()).and(messages[..read.len()].last()).map(|last| last.seq).or(next);
            let browsed =
                |(located, message): (Located, _)| Browsed { seq: located.seq, message, state: located.state };
            return Ok(Page { messages: messages.into_iter().zip(read).map(browsed).collect(), next });
        }
        Err(moved())
    }

    /// Why a queue hands nothing out, or that it would.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn explain(&self, queue: Name) -> Result<Explanation, EngineError> {
        for _ in 0..TRIES_MAX {
            let name = queue.clone();
            let Reasons { topic, mut explanation, sources } = self.look(move |view| view.explain(&name)).await?;
            let Ok(messages) = self.read(topic, sources).await? else { continue };
            let keys = explanation.obstacles.iter_mut().find_map(|obstacle| match obstacle {
                Obstacle::BehindKeys { keys, .. } => Some(keys),
                _ => None,
            });
            for (key, message) in keys.into_iter().flatten().zip(messages) {
                key.message = message.as_ref().map(|message| message.id);
                key.key = message.and_then(|message| message.properties.ordering_key.clone());
            }
            return Ok(explanation);
        }
        Err(moved())
    }

    /// The message of that id that a queue has, or that will come to it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn find(&self, queue: Name, id: MessageId) -> Result<Option<(Found, MessageState)>, EngineError> {
        let name = queue.clone();
        let found = self.search(Some(queue), id, move |view, place, _| view.state_in(&name, place)).await?;
        Ok(found.and_then(|(place, message, state)| Some((Found::new(place, message), state?))))
    }

    /// The message of that id that a topic has, if it is not visible yet.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn find_delayed(&self, topic: Name, id: MessageId) -> Result<Option<Found>, EngineError> {
        let found = self.search(Some(topic), id, |_, _, _| Ok(())).await?;
        let found = found.map(|(place, message, ())| Found::new(place, message));
        Ok(found.filter(|found| found.delayed.is_some()))
    }

    /// What has happened to a message; `None` if nothing is known of it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn story(&self, id: MessageId) -> Result<Option<Story>, EngineError> {
        let tell = |view: &View<'_>, place, message: &Arc<Message>| Ok(view.story(place, Some(Arc::clone(message))));
        if let Some((.., story)) = self.search(None, id, tell).await? {
            return Ok(Some(story));
        }
        self.look(move |view| Ok(view.history.place_of(id).map(|place| view.story(place, None)))).await
    }

    /// Where the message of that id is, of one topic or queue or of any, if anybody wants it, and what can be said of it
    /// there.
    async fn search<T: Send + 'static>(
        &self,
        scope: Option<Name>,
        id: MessageId,
        say: impl Fn(&View<'_>, Place, &Arc<Message>) -> Result<T, EngineError> + Clone + Send + 'static,
    ) -> Result<Option<(Place, Arc<Message>, T)>, EngineError> {
        let mut has_missed = false;
        for _ in 0..TRIES_MAX {
            let name = scope.clone();
            let trail = self.look(move |view| {
                let topic = name.map(|name| view.topic_of(&name)).transpose()?;
                Ok(view.search(topic, id))
            });
            let found = match trail.await? {
                Trail::Here(place, message) => Some((place, message)),
                Trail::In(blocks) => match self.search_blocks(blocks, id).await? {
                    Ok(found) => found,
                    Err(Moved) => continue,
                },
            };
            let Some((place, message)) = found else { return Ok(None) };
            let (say, shown) = (say.clone(), Arc::clone(&message));
            let said = self.look(move |view| {
                let place = view.place_now(place).filter(|place| view.is_wanted(*place));
                place.map(|place| Ok((place, say(view, place, &shown)?))).transpose()
            });
            match said.await? {
                Some((place, said)) => return Ok(Some((place, message, said))),
                None if has_missed => return Ok(None),
                // Nobody wants it any more, or it was moved on meanwhile: then it is found the next time.
                None => has_missed = true,
            }
        }
        Err(moved())
    }

    async fn search_blocks(
        &self,
        blocks: Vec<(Block, Name)>,
        id: MessageId,
    ) -> Result<Result<Option<(Place, Arc<Message>)>, Moved>, EngineError> {
        let (disk, data_dir) = (Arc::clone(&self.shared.options.disk), self.shared.options.data_dir.clone());
        let search = move || {
            for (block, topic) in blocks {
                let loaded = match load_block(&*disk, &data_dir, &block) {
                    Ok(loaded) => loaded,
                    Err(BlockError::NotThere) => return Ok(Err(Moved)),
                    Err(BlockError::Io(failure)) => return Err(unreadable(&failure)),
                };
                if let Some(seq) = loaded.seq_of(id)
                    && let Some(message) = loaded.message(seq, &topic)
                {
                    return Ok(Ok(Some((block.first.at(seq), message))));
                }
            }
            Ok(Ok(None))
        };
        tokio::task::spawn_blocking(search).await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Reads messages of a topic, each block once; `None` for one that is damaged. Ends behind the one with which they
    /// have [`READ_BYTES_MAX`].
    async fn read(
        &self,
        topic: Name,
        sources: Vec<Source>,
    ) -> Result<Result<Vec<Option<Arc<Message>>>, Moved>, EngineError> {
        let (disk, data_dir) = (Arc::clone(&self.shared.options.disk), self.shared.options.data_dir.clone());
        let read = move || {
            let mut blocks: HashMap<_, LoadedBlock> = HashMap::new();
            let mut messages: Vec<Option<Arc<Message>>> = Vec::with_capacity(sources.len());
            let mut bytes = 0;
            for source in sources {
                bytes += messages.last().and_then(Option::as_ref).map_or(0, |message| message.bytes());
                if bytes >= READ_BYTES_MAX {
                    break;
                }
                let (block, at) = match source {
                    Source::Here(message) => {
                        messages.push(Some(message));
                        continue;
                    }
                    Source::Lost => {
                        messages.push(None);
                        continue;
                    }
                    Source::In(block, at) => (block, at),
                };
                let loaded = match blocks.entry((block.segment, block.offset)) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => match load_block(&*disk, &data_dir, &block) {
                        Ok(loaded) => entry.insert(loaded),
                        Err(BlockError::NotThere) => return Ok(Err(Moved)),
                        Err(BlockError::Io(failure)) => return Err(unreadable(&failure)),
                    },
                };
                messages.push(loaded.message(at, &topic));
            }
            Ok(Ok(messages))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(EngineError::Stopped))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.ask(|reply| Verb::Look { look: Look::new(look, reply) }).await
    }
}

fn unreadable(failure: &io::Error) -> EngineError {
    EngineError::Unreadable { problem: failure.to_string() }
}

fn moved() -> EngineError {
    EngineError::Unreadable { problem: "messages were moved each time they were looked for".to_owned() }
}

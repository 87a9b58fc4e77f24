//! Ids and positions, each a type of its own so that one cannot be passed for another.

use std::fmt;

use uuid::Uuid;

/// The id of a message: a UUID, version 7 for those that the broker makes (they sort by time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// A new id, of now.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one that follows.
            ///
            /// # Panics
            /// When the numbers are used up, which takes longer than any disk lasts.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("ids are not used up in a store's life"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A topic within a store. Never used again after the topic is deleted.
    TopicId(u32)
);
number!(
    /// A queue within a store. Never used again after the queue is deleted.
    QueueId(u32)
);
number!(
    /// The place of a message in its topic, from 0, without gaps in publish order.
    Seq(u64)
);
number!(
    /// Which delivery of a message this is; the first one is 1.
    Attempt(u32)
);

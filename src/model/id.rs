//! Ids and positions, each a type of its own so that one cannot be passed for another.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use uuid::{Builder, Uuid};

use super::Timestamp;

/// The id of a message: a UUID, version 7 for those that the broker makes (they sort by time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// A new id, of that moment. Those of one moment that this process makes one after the other sort in that order.
    ///
    /// ```text
    /// | time ms 48 | version 4 | counter 12 | variant 2 | counter 30 | random 32 |
    /// ```
    ///
    /// As in RFC 9562, section 6.2, method 1: the counter begins at a random number for every millisecond.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        static LAST: Mutex<(u64, u64)> = Mutex::new((0, 0));
        let random = Uuid::new_v4().as_u128();
        let counter = {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            let (ms, counter) = *last;
            // Begins in the lower half, so that it does not come round within a millisecond.
            let fresh = (random >> 87) as u64;
            *last = (now.as_millis(), if ms == now.as_millis() { counter + 1 } else { fresh });
            last.1
        };
        let (high, low) = ((counter >> 30) as u16, (counter & ((1 << 30) - 1)) << 32 | random as u32 as u64);
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&high.to_be_bytes());
        bytes[2..].copy_from_slice(&low.to_be_bytes());
        Self(Builder::from_unix_timestamp_millis(now.as_millis(), &bytes).into_uuid())
    }

    /// The moment of an id that the broker has made; `None` for one that was brought along.
    #[must_use]
    pub fn made_at(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp().filter(|_| self.0.get_version_num() == 7)?.to_unix();
        Some(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(u64::from(nanos) / 1_000_000)))
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
    /// Which delivery of a message this is, of those that count; the first one is 1.
    Attempt(u32)
);
number!(
    /// Which lease of a message this is, the first one being 1. Every lease has a higher one than those before it, whether
    /// its delivery counts or not, so that who comes late is told apart.
    LeaseNumber(u32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made_and_those_of_one_moment_sort() {
        let moment = Timestamp::from_millis(1_800_000_000_123);
        let ids: Vec<_> = (0..100).map(|_| MessageId::generate(moment)).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.made_at() == Some(moment)));
        assert!(MessageId::generate(moment.after(std::time::Duration::from_millis(1))) > ids[99]);
        assert_eq!(MessageId(Uuid::new_v4()).made_at(), None);
    }
}

//! The state by its records alone: what it counts, and which records it refuses.

use std::time::Duration;

use super::*;
use crate::{
    engine::{
        Counters,
        journal::{DeadCause, LeaseItem, PassedItem, PurgeScope, Reason, Record, ReturnCause, ReturnItem},
    },
    model::{Attempt, Draft, Due, KeyHash, LeaseNumber},
};

const TOPIC: TopicId = TopicId(0);
const OWN: QueueId = QueueId(0);
const OTHER: QueueId = QueueId(1);
fn deadline() -> Timestamp {
    Timestamp::from_millis(1000)
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("valid")
}

fn sealed(text: &str, due: Due) -> Sealed {
    let draft = Draft { payload: text.to_owned().into(), due, ..Draft::default() };
    Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO)
}

fn published(seq: u64) -> Record {
    Record::Published { topic: TOPIC, seq: Seq(seq), message: sealed("text", Due::Now) }
}

fn delayed(seq: u64) -> Record {
    let message = sealed("later", Due::After(Duration::from_secs(1)));
    Record::Delayed { topic: TOPIC, seq: Seq(seq), message }
}

fn leased(queue: QueueId, seq: u64, key: Option<KeyHash>) -> Record {
    let item = LeaseItem { seq: Seq(seq), attempt: Attempt(1), lease: LeaseNumber(1), key };
    Record::Leased { queue, deadline: deadline(), items: vec![item] }
}

fn buried(queue: QueueId, cause: DeadCause, seq: u64) -> Record {
    Record::Buried { queue, cause, reason: String::new(), seqs: vec![Seq(seq)] }
}

fn done(queue: QueueId, reason: Reason, seq: u64) -> Record {
    Record::Done { queue, reason, seqs: vec![Seq(seq)] }
}

/// A topic with two queues, and ten messages.
fn begun() -> State {
    let mut state = State::default();
    let made = [
        Record::TopicCreated { topic: TOPIC, name: name("t") },
        Record::QueueCreated { queue: OWN, topic: TOPIC, service: None, start: Seq(0) },
        Record::QueueCreated { queue: OTHER, topic: TOPIC, service: Some(name("s")), start: Seq(0) },
    ];
    made.into_iter().chain((0..10).map(published)).for_each(|record| tell(&mut state, record));
    state
}

/// Applies a record, and counts everything anew.
fn tell(state: &mut State, record: Record) {
    let what = format!("{record:?}");
    state.apply(Timestamp::EPOCH, record).expect("it fits");
    let mut recent_bytes = 0;
    for (id, topic) in state.topics_from(TopicId(0)) {
        let wanted = state.wanted(topic);
        for (seq, content) in topic.log.iter() {
            assert!(wanted.has_visible(seq) && state.wants(id, seq), "nobody wants {seq:?} after {what}");
            if let Content::Here(kept) = content {
                recent_bytes += kept.memory_bytes();
            }
        }
        assert!(!state.wants(id, topic.log.next), "it does not exist");
        recent_bytes += topic.recent_delayed.values().map(Kept::memory_bytes).sum::<u64>();
    }
    let queues = || state.queues.iter().map(|(_, queue)| queue);
    let dead: usize = queues().map(|queue| queue.dead().len()).sum();
    let passed_over: usize = queues().map(|queue| queue.lanes().passed_over_bytes()).sum();
    let counted = (state.recent_bytes, state.dead_count, state.passed_over_bytes);
    assert_eq!(counted, (recent_bytes, dead, passed_over), "after {what}");
    let deadlines: usize = queues().map(|queue| queue.all_held().len()).sum();
    assert_eq!(state.deadlines.len(), deadlines, "after {what}");
}

#[test]
fn what_is_counted_along_is_what_there_is() {
    let mut state = begun();
    let key = Some(KeyHash::of("key"));
    let items = vec![PassedItem { first: Seq(0), count: 2, key }];
    let later = (0..3).map(delayed);
    let matured = Record::Matured { topic: TOPIC, first: Seq(10), delayed: vec![Seq(0)] };
    let cancelled = Record::DelayedCancelled { topic: TOPIC, seqs: vec![Seq(1)] };
    let begin = later.chain([matured, cancelled]);
    let queues = [OWN, OTHER].into_iter().flat_map(|queue| {
        let passed_over = Record::PassedOver { queue, items: items.clone() };
        let (mut all, scope) =
            (vec![passed_over, leased(queue, 2, None), leased(queue, 3, key)], PurgeScope::default());
        all.extend([buried(queue, DeadCause::Rejected, 2), buried(queue, DeadCause::Rejected, 3)]);
        all.extend([leased(queue, 4, None), done(queue, Reason::Deleted, 7)]);
        all.push(Record::Revived { queue, pace: None, seqs: vec![Seq(2)] });
        all.push(Record::Purged { queue, scope: PurgeScope { leased: true, ..scope }, end: Seq(9) });
        all.push(Record::Purged { queue, scope: PurgeScope { ready: true, ..scope }, end: Seq(9) });
        all
    });
    begin.chain(queues).for_each(|record| tell(&mut state, record));
    assert_eq!((state.dead_count, state.message_count()), (2, 4), "a dead letter, what is behind 9, one delayed");
    tell(&mut state, Record::QueueDeleted { queue: OWN });
    tell(&mut state, Record::TopicDeleted { topic: TOPIC });
    assert_eq!((state.recent_bytes(), state.dead_count, state.message_count()), (0, 0, 0));
}

#[test]
fn a_queue_or_topic_that_is_deleted_takes_all_counts_with_it() {
    for record in [Record::QueueDeleted { queue: OTHER }, Record::TopicDeleted { topic: TOPIC }] {
        let mut state = begun();
        let key = Some(KeyHash::of("key"));
        tell(&mut state, Record::PassedOver { queue: OTHER, items: vec![PassedItem { first: Seq(0), count: 1, key }] });
        tell(&mut state, leased(OTHER, 1, None));
        tell(&mut state, buried(OTHER, DeadCause::Rejected, 1));
        for queue in [OWN, OTHER] {
            tell(&mut state, leased(queue, 2, None));
            let retry_at = Some(deadline());
            let items = vec![ReturnItem { seq: Seq(2), attempts: Attempt(1), retry_at }];
            tell(&mut state, Record::Returned { queue, cause: ReturnCause::Failed, reason: String::new(), items });
        }
        let of_the_other = matches!(record, Record::QueueDeleted { .. });
        tell(&mut state, record);
        assert_eq!((state.dead_count, state.passed_over_bytes), (0, 0));
        let retries: Vec<QueueId> = state.retries.iter().map(|(_, queue, _)| *queue).collect();
        assert_eq!(retries, if of_the_other { vec![OWN] } else { vec![] });
        let names = state.topic(TOPIC).map(|topic| topic.queue_names.to_vec());
        assert_eq!(names, of_the_other.then(|| vec![name("t")]));
        assert_eq!(state.meaning(&name("t.s")), None);
    }
}

#[test]
fn places_behind_the_end_of_a_topic_are_refused_and_its_end_is_not() {
    let scope = PurgeScope { ready: true, ..PurgeScope::default() };
    let purged = |end| Record::Purged { queue: OWN, scope, end: Seq(end) };
    let begins = |start| Record::QueueCreated { queue: QueueId(2), topic: TOPIC, service: None, start: Seq(start) };
    let trimmed = |end| Record::TopicTrimmed { topic: TOPIC, end: Seq(end) };
    let passed_over = |seq| Record::PassedOver {
        queue: OWN,
        items: vec![PassedItem {
            first: Seq(0),
            count: u32::try_from(seq).expect("few") + 1,
            key: Some(KeyHash::of("k")),
        }],
    };
    let ends: [(&dyn Fn(u64) -> Record, u64); 6] = [
        (&purged, 10),
        (&begins, 10),
        (&trimmed, 10),
        (&passed_over, 9),
        (&|seq| leased(OWN, seq, None), 9),
        (&|seq| done(OWN, Reason::Acked, seq), 9),
    ];
    for (record, last) in ends {
        for seq in [last - 1, last] {
            tell(&mut begun(), record(seq));
        }
        for seq in [last + 1, last + 2] {
            let refused = begun().apply(Timestamp::EPOCH, record(seq));
            assert!(refused.is_err(), "{:?}", record(seq));
        }
    }
}

#[test]
fn a_purge_before_a_place_leaves_what_comes_from_there_on() {
    let mut state = begun();
    let scope = PurgeScope { ready: true, ..PurgeScope::default() };
    tell(&mut state, Record::Purged { queue: OWN, scope, end: Seq(4) });
    let wanted: Vec<bool> = (0..6).map(|seq| state.queue(OWN).expect("there").wants(Seq(seq))).collect();
    assert_eq!(wanted, [false, false, false, false, true, true]);
    assert!(state.queue(OTHER).expect("there").wants(Seq(0)));
}

#[test]
fn each_delivery_and_its_end_are_counted_once_by_what_became_of_them() {
    let mut state = begun();
    let records = [
        done(OWN, Reason::Received, 0),
        done(OWN, Reason::Received, 1),
        leased(OWN, 2, None),
        done(OWN, Reason::Acked, 2),
        done(OWN, Reason::Expired, 3),
        leased(OWN, 4, None),
        buried(OWN, DeadCause::Rejected, 4),
        leased(OWN, 5, None),
        buried(OWN, DeadCause::Failed, 5),
        leased(OWN, 6, None),
        buried(OWN, DeadCause::Failed, 6),
    ];
    records.into_iter().for_each(|record| tell(&mut state, record));
    let counters = state.queue(OWN).expect("there").counters;
    let all = Counters { published: 10, delivered: 6, acked: 3, failed: 2, dead_lettered: 3, dropped: 1 };
    assert_eq!(counters, all);
}

#[test]
fn a_dead_letter_weighs_nothing_until_it_comes_back() {
    let mut state = begun();
    let bytes = |state: &State| state.queue(OWN).expect("there").bytes();
    let all = bytes(&state);
    assert!(all > 0 && all.is_multiple_of(10));
    tell(&mut state, leased(OWN, 0, None));
    tell(&mut state, buried(OWN, DeadCause::Rejected, 0));
    assert_eq!(bytes(&state), all / 10 * 9);
    tell(&mut state, Record::Revived { queue: OWN, pace: None, seqs: vec![Seq(0)] });
    assert_eq!(bytes(&state), all);
}

#[test]
fn records_of_earlier_versions_mean_what_they_meant() {
    let mut state = begun();
    // A lease that ended: the delivery counts, and the message is ready at once.
    tell(&mut state, leased(OWN, 0, None));
    tell(&mut state, Record::Released { queue: OWN, seqs: vec![Seq(0)] });
    let waiting = state.queue(OWN).expect("there").lanes().back(Seq(0)).copied().expect("it is back");
    assert_eq!((waiting.attempts, waiting.leases, waiting.retry_at), (Attempt(1), LeaseNumber(1), None));
    // An import that is seen when it has ended.
    let imported = Record::Imported { topic: TOPIC, message: sealed("old", Due::Now) };
    for record in [Record::ImportBegun { source: "a".into() }, imported] {
        tell(&mut state, record);
    }
    let before = state.message_count();
    tell(&mut state, Record::ImportEnded { source: "a".into() });
    assert_eq!((state.message_count() - before, state.imported.contains("a")), (1, true));
    tell(&mut state, Record::ImportBegun { source: "b".into() });
    assert!(state.apply(Timestamp::EPOCH, Record::ImportEnded { source: "a".into() }).is_err());
}

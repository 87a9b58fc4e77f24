//! Records on their way to the journal and back.

use std::{num::NonZeroU32, time::Duration};

use proptest::prelude::*;

use crate::{
    engine::{
        journal::{
            DeadCause, FrameBuf, LeaseItem, Pace, PassedItem, PurgeScope, Reason, Record, RecordIter, ReturnCause,
            ReturnItem,
        },
        sealed::Sealed,
    },
    model::{
        Attempt, Draft, Due, KeyHash, LeaseNumber, Name, Overflow, Properties, QueueId, QueueLimits, QueuePolicy,
        RetryPolicy, Seq, Timestamp, TopicId, TopicPolicy,
    },
};

fn a_name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9_-]{1,12}(\\.[a-z0-9]{1,5}){0,2}".prop_map(|text| Name::parse(&text).expect("within the alphabet"))
}

fn a_message() -> impl Strategy<Value = Sealed> {
    let text = || proptest::option::of(".{0,20}");
    let due = prop_oneof![
        Just(Due::Now),
        (0..100_000_u64).prop_map(|ms| Due::After(Duration::from_millis(ms))),
        (0..9_999_999_u64).prop_map(|ms| Due::At(Timestamp::from_millis(ms))),
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let attributes = proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4);
    let ttl = proptest::option::of((0..9_999_u64).prop_map(Duration::from_millis));
    ((text(), text(), text(), text(), attributes), text(), due, payload, ttl).prop_map(
        |((content_type, ordering_key, reply_to, correlation_id, attributes), dedup_id, due, payload, ttl)| {
            let traceparent = correlation_id.clone();
            let properties = Properties {
                content_type,
                attributes,
                ordering_key,
                reply_to,
                tracestate: correlation_id.clone(),
                correlation_id,
                traceparent,
            };
            let draft = Draft { payload: payload.into(), properties, dedup_id, due, ttl };
            Sealed::new(draft, Timestamp::from_millis(7), Duration::from_secs(120))
        },
    )
}

fn a_record() -> impl Strategy<Value = Record> {
    let topic = || any::<u32>().prop_map(TopicId);
    let queue = || any::<u32>().prop_map(QueueId);
    let seq = || (0..u64::MAX / 2).prop_map(Seq);
    let seqs = || proptest::collection::vec((0..u64::MAX / 2).prop_map(Seq), 0..20);
    let moment = || (0..9_999_999_u64).prop_map(Timestamp::from_millis);
    let reason = prop_oneof![
        Just(Reason::Received),
        Just(Reason::Acked),
        Just(Reason::Expired),
        Just(Reason::Damaged),
        Just(Reason::Deleted),
        Just(Reason::Dropped),
        Just(Reason::TooOld)
    ];
    let key = || any::<u64>().prop_map(KeyHash::from_bits);
    let attempt = || any::<u32>().prop_map(Attempt);
    let lease = (seq(), attempt(), any::<u32>().prop_map(LeaseNumber), key())
        .prop_map(|(seq, attempt, lease, key)| LeaseItem { seq, attempt, lease, key });
    let passed = (seq(), any::<u32>(), key()).prop_map(|(first, count, key)| PassedItem { first, count, key });
    let retry_at = proptest::option::of((1..9_999_999_u64).prop_map(Timestamp::from_millis));
    let returned =
        (seq(), attempt(), retry_at).prop_map(|(seq, attempts, retry_at)| ReturnItem { seq, attempts, retry_at });
    let cause = prop_oneof![
        Just(ReturnCause::DeadlineOver),
        Just(ReturnCause::Failed),
        Just(ReturnCause::Released),
        Just(ReturnCause::Unclaimed)
    ];
    let dead = prop_oneof![Just(DeadCause::DeadlineOver), Just(DeadCause::Failed), Just(DeadCause::Rejected)];
    let scope = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(ready, leased, dead)| PurgeScope {
        ready,
        leased,
        dead,
    });
    let limits = (proptest::option::of(any::<u64>()), proptest::option::of(0..9_999_u64), 0..3_u8).prop_map(
        |(max, age, overflow)| QueueLimits {
            messages_max: max,
            bytes_max: max.map(|max| max / 2),
            age_max: age.map(Duration::from_millis),
            overflow: [None, Some(Overflow::Reject), Some(Overflow::DropOldest)][usize::from(overflow)],
        },
    );
    let queue_policy = (limits.clone(), 0..9_999_u64, any::<u32>()).prop_map(|(limits, ms, attempts)| QueuePolicy {
        ack_deadline: Duration::from_millis(ms),
        max_delivery_attempts: NonZeroU32::new(attempts),
        retry: RetryPolicy {
            minimum_backoff: Duration::from_millis(ms / 2),
            maximum_backoff: Duration::from_millis(ms * 2),
        },
        limits,
    });
    let topic_policy = (limits, proptest::option::of((0..9_999_u64).prop_map(Duration::from_millis)))
        .prop_map(|(limits, dedup_window)| TopicPolicy { dedup_window, limits });
    prop_oneof![
        (topic(), a_name()).prop_map(|(topic, name)| Record::TopicCreated { topic, name }),
        topic().prop_map(|topic| Record::TopicDeleted { topic }),
        (queue(), topic(), proptest::option::of(a_name()), seq())
            .prop_map(|(queue, topic, service, start)| Record::QueueCreated { queue, topic, service, start }),
        topic().prop_map(|topic| Record::ServiceRegistered { topic }),
        (topic(), seq(), a_message()).prop_map(|(topic, seq, message)| Record::Published { topic, seq, message }),
        (topic(), seq(), a_message()).prop_map(|(topic, seq, message)| Record::Delayed { topic, seq, message }),
        (topic(), seq(), seqs()).prop_map(|(topic, first, delayed)| Record::Matured { topic, first, delayed }),
        (queue(), reason, seqs()).prop_map(|(queue, reason, seqs)| Record::Done { queue, reason, seqs }),
        (queue(), moment(), proptest::collection::vec(lease, 0..9))
            .prop_map(|(queue, deadline, items)| Record::Leased { queue, deadline, items }),
        (queue(), moment(), seqs()).prop_map(|(queue, deadline, seqs)| Record::Extended { queue, deadline, seqs }),
        (queue(), proptest::collection::vec(passed, 0..9))
            .prop_map(|(queue, items)| Record::PassedOver { queue, items }),
        (queue(), cause, ".{0,40}", proptest::collection::vec(returned, 0..9))
            .prop_map(|(queue, cause, reason, items)| Record::Returned { queue, cause, reason, items }),
        (queue(), dead, ".{0,40}", seqs()).prop_map(|(queue, cause, reason, seqs)| Record::Buried {
            queue,
            cause,
            reason,
            seqs
        }),
        (queue(), moment(), any::<u32>(), seqs()).prop_map(|(queue, begin, per_second, seqs)| {
            let pace = NonZeroU32::new(per_second).map(|per_second| Pace { begin, per_second });
            Record::Revived { queue, pace, seqs }
        }),
        (queue(), scope, seq()).prop_map(|(queue, scope, end)| Record::Purged { queue, scope, end }),
        (topic(), seqs()).prop_map(|(topic, seqs)| Record::DelayedCancelled { topic, seqs }),
        (topic(), seq()).prop_map(|(topic, end)| Record::TopicTrimmed { topic, end }),
        (topic(), topic_policy).prop_map(|(topic, policy)| Record::TopicPolicySet { topic, policy }),
        (queue(), queue_policy).prop_map(|(queue, policy)| Record::QueuePolicySet { queue, policy }),
        queue().prop_map(|queue| Record::QueuePaused { queue }),
        queue().prop_map(|queue| Record::QueueResumed { queue }),
        queue().prop_map(|queue| Record::QueueDeleted { queue }),
        (queue(), seqs()).prop_map(|(queue, seqs)| Record::Released { queue, seqs }),
        ".{0,40}".prop_map(|source| Record::ImportBegun { source }),
        (topic(), a_message()).prop_map(|(topic, message)| Record::Imported { topic, message }),
        ".{0,40}".prop_map(|source| Record::ImportEnded { source }),
        (".{0,40}", any::<u64>()).prop_map(|(source, lines)| Record::ImportAdvanced { source, lines }),
    ]
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut frame = FrameBuf::new();
    for (i, record) in records.iter().enumerate() {
        frame.push(record, Timestamp::from_millis(i as u64));
    }
    frame.records().to_vec()
}

proptest! {
    #[test]
    fn records_come_back_as_they_went(records in proptest::collection::vec(a_record(), 0..6)) {
        let bytes = encoded(&records);
        let back: Result<Vec<_>, _> = RecordIter::new(&bytes).collect();
        let expected: Vec<_> =
            records.into_iter().enumerate().map(|(i, r)| (Timestamp::from_millis(i as u64), r)).collect();
        prop_assert_eq!(back.expect("decodes"), expected);
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed(record in a_record(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let bytes = encoded(std::slice::from_ref(&record));
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1_u8 << bit;
        prop_assert!(RecordIter::new(&changed).any(|r| r.is_err()), "a flipped bit goes unnoticed");
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(cut.is_empty() || RecordIter::new(cut).any(|r| r.is_err()), "a cut goes unnoticed");
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
        prop_assert!(RecordIter::new(&bytes).any(|r| r.is_err()));
    }
}

#[test]
fn numbers_that_follow_one_another_take_as_much_room_as_one() {
    let bytes_of = |seqs: &[u64]| {
        let seqs = seqs.iter().copied().map(Seq).collect();
        let mut bytes = Vec::new();
        Record::Done { queue: QueueId(0), reason: Reason::Acked, seqs }.encode(Timestamp::EPOCH, &mut bytes);
        bytes.len()
    };
    let run: Vec<u64> = (7..1007).collect();
    assert_eq!(bytes_of(&run), bytes_of(&[7]));
    assert!(bytes_of(&[7, 9]) > bytes_of(&[7, 8]));
}

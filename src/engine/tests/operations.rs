//! What clients, operators and time do to the engine, at random.

use proptest::prelude::*;

use crate::engine::{NackOutcome, PurgeScope};

/// One thing a client, an operator or time does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Publish { topic: usize, count: usize },
    Delay { topic: usize, seconds: u64 },
    Cancel { topic: usize, message: prop::sample::Index },
    Expiring { seconds: u64 },
    Once { topic: usize, id: usize },
    Register { service: usize, topic: usize },
    Pop { queue: usize, max: usize },
    Lease { queue: usize },
    Ack { lease: prop::sample::Index },
    Keyed { topic: usize, key: usize },
    Nack { lease: prop::sample::Index, outcome: NackOutcome, seconds: Option<u64> },
    Extend { lease: prop::sample::Index, seconds: u64 },
    SettleAll { leases: [prop::sample::Index; 2], topic: usize },
    Redrive { queue: usize },
    Purge { queue: usize, scope: PurgeScope },
    Delete { queue: usize, message: prop::sample::Index },
    Pause { queue: usize, is_paused: bool },
    Limit { queue: usize, messages: usize, drops_oldest: bool },
    Age { queue: usize, seconds: u64 },
    Backoff { queue: usize, shortest: u64, longest: u64 },
    Advance { seconds: u64 },
    Restart,
}

pub(super) fn an_op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    let in_and_out = prop_oneof![
        4 => (0..2_usize, 1..4_usize).prop_map(|(topic, count)| Op::Publish { topic, count }),
        1 => (0..2_usize, 1..40_u64).prop_map(|(topic, seconds)| Op::Delay { topic, seconds }),
        1 => (0..2_usize, index()).prop_map(|(topic, message)| Op::Cancel { topic, message }),
        1 => (1..40_u64).prop_map(|seconds| Op::Expiring { seconds }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(topic, id)| Op::Once { topic, id }),
        3 => (0..2_usize, 0..2_usize).prop_map(|(topic, key)| Op::Keyed { topic, key }),
        3 => (0..6_usize, 1..4_usize).prop_map(|(queue, max)| Op::Pop { queue, max }),
        4 => (0..6_usize).prop_map(|queue| Op::Lease { queue }),
        3 => index().prop_map(|lease| Op::Ack { lease }),
        3 => (index(), an_outcome(), prop::option::of(0..40_u64))
            .prop_map(|(lease, outcome, seconds)| Op::Nack { lease, outcome, seconds }),
        1 => (index(), 1..60_u64).prop_map(|(lease, seconds)| Op::Extend { lease, seconds }),
        1 => ([index(), index()], 0..2_usize).prop_map(|(leases, topic)| Op::SettleAll { leases, topic }),
    ];
    let around = prop_oneof![
        2 => (0..2_usize, 0..2_usize).prop_map(|(service, topic)| Op::Register { service, topic }),
        2 => (0..6_usize).prop_map(|queue| Op::Redrive { queue }),
        1 => (0..6_usize, any::<[bool; 3]>()).prop_map(|(queue, [ready, leased, dead])| {
            Op::Purge { queue, scope: PurgeScope { ready, leased, dead } }
        }),
        1 => (0..6_usize, index()).prop_map(|(queue, message)| Op::Delete { queue, message }),
        1 => (0..6_usize, any::<bool>()).prop_map(|(queue, is_paused)| Op::Pause { queue, is_paused }),
        2 => (0..3_usize, 1..4_usize, any::<bool>())
            .prop_map(|(queue, messages, drops_oldest)| Op::Limit { queue, messages, drops_oldest }),
        1 => (0..3_usize, 20..60_u64).prop_map(|(queue, seconds)| Op::Age { queue, seconds }),
        2 => (0..6_usize, 0..20_u64, 20..40_u64)
            .prop_map(|(queue, shortest, longest)| Op::Backoff { queue, shortest, longest }),
        4 => (1..30_u64).prop_map(|seconds| Op::Advance { seconds }),
        2 => Just(Op::Restart),
    ];
    prop_oneof![3 => in_and_out, 1 => around]
}

fn an_outcome() -> impl Strategy<Value = NackOutcome> {
    prop_oneof![1 => Just(NackOutcome::Release), 3 => Just(NackOutcome::Retry), 1 => Just(NackOutcome::DeadLetter)]
}

//! What is shown at the very moment at which something is due.

use std::time::Duration;

use super::*;
use crate::{
    engine::{
        AckMode, Nack, NackOutcome, Settlement,
        checkpoint::{Kind, Place},
        journal::FrameBuf,
        reading::BlockCache,
        sealed::Sealed,
        verbs::{Fill, Publication, Step, Wanted},
    },
    model::{AckId, Attempt, Draft, Name, Properties, QueueId, Seq},
};

const LEASE: Duration = Duration::from_secs(30);

/// A state without a commit thread, at which nobody looks but these tests.
#[derive(Default)]
struct Bare {
    state: State,
    waiters: Waiters,
    history: History,
    frame: FrameBuf,
    blocks: BlockCache,
}

impl Bare {
    fn step(&mut self, now: Timestamp) -> Step<'_> {
        let Self { state, history, frame, blocks, .. } = self;
        Step { state, frame, blocks, now, limits: Limits::default(), declares: true, history }
    }

    fn view(&self, now: Timestamp) -> View<'_> {
        View { state: &self.state, waiters: &self.waiters, history: &self.history, limits: Limits::default(), now }
    }

    /// Receives what can be received, and tells the first.
    fn lease(&mut self, queue: QueueId, now: Timestamp) -> AckId {
        let wanted = Wanted { messages_max: 2, bytes_max: usize::MAX, mode: AckMode::Lease(LEASE) };
        let received = self.step(now).receive(queue, wanted, Fill::Whole);
        received.deliveries[0].lease.as_ref().expect("leased").ack_id
    }
}

#[test]
fn a_message_whose_retry_is_due_is_ready_even_before_the_clock_was_looked_at() {
    let (mut bare, now, name) = (Bare::default(), Timestamp::from_millis(1000), Name::parse("t").expect("valid"));
    let queue = bare.step(now).queue_for(&name, None).expect("there is room");
    let messages = ["a", "b"].map(|text| {
        let properties = Properties { ordering_key: Some("key".to_owned()), ..Properties::default() };
        Sealed::new(Draft { payload: text.into(), properties, ..Draft::default() }, now, Duration::ZERO)
    });
    bare.step(now).publish(Publication { topic: name.clone(), messages: messages.into() }).expect("stored");
    let held = bare.lease(queue, now);
    let nack = Settlement::Nack(Nack { outcome: NackOutcome::Retry, delay: Some(LEASE), reason: String::new() });
    bare.step(now).settle_each(None, &[(Some(held), nack)]).expect("settled");

    let due = now.after(LEASE);
    let before = Timestamp::from_millis(due.as_millis() - 1);
    let counts = |at| {
        let view = bare.view(at).queue(&name).expect("there");
        (view.ready, view.retrying)
    };
    assert_eq!((counts(before), counts(due)), ((1, 1), (2, 0)));
    let explained = |at| bare.view(at).explain(&name).expect("there").explanation;
    assert_eq!(explained(before).deliverable, 0);
    let keys = |explanation: &Explanation| {
        let keys = explanation.obstacles.iter().find_map(|obstacle| match obstacle {
            Obstacle::BehindKeys { messages, keys } => Some((*messages, keys.len())),
            _ => None,
        });
        let is_retrying = explanation.obstacles.iter().any(|o| matches!(o, Obstacle::Retrying { .. }));
        (keys, is_retrying)
    };
    assert_eq!(keys(&explained(before)), (Some((1, 1)), true));
    let explanation = explained(due);
    assert_eq!((explanation.deliverable, keys(&explanation)), (1, (Some((1, 0)), false)));
    let state = |at| {
        let found = bare.view(at).story(held_place(&bare, held), None).queues.remove(0).state;
        found.expect("the queue wants it")
    };
    let attempts = Attempt(1);
    assert_eq!(state(before), MessageState::Retrying { attempts, retry_at: due });
    assert_eq!(state(due), MessageState::Ready { attempts });
}

#[test]
fn at_a_place_that_no_message_has_yet_there_is_none() {
    let (mut bare, now, name) = (Bare::default(), Timestamp::from_millis(1000), Name::parse("t").expect("valid"));
    let queue = bare.step(now).queue_for(&name, None).expect("there is room");
    let messages = vec![Sealed::new(Draft::default(), now, Duration::ZERO)];
    bare.step(now).publish(Publication { topic: name, messages }).expect("stored");
    let topic = bare.state.queue(queue).expect("there").topic;
    let is_there = |seq| {
        let place = Place { topic, kind: Kind::Visible, seq: Seq(seq) };
        bare.view(now).story(place, None).queues[0].state.is_some()
    };
    assert_eq!((is_there(0), is_there(1)), (true, false));
}

fn held_place(bare: &Bare, id: AckId) -> Place {
    let topic = bare.state.queue(id.queue).expect("there").topic;
    Place { topic, kind: Kind::Visible, seq: id.seq }
}

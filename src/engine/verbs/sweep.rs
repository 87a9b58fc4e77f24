//! What is over its time goes with the next publish, also where nobody consumes: it takes no room in a queue that is
//! limited, and none on the disk.
//!
//! Not here: what a receive comes across. Invariant: only what stands at the head of a queue goes, as far as can be told
//! without reading it from the disk.

use std::time::Duration;

use super::Step;
use crate::{
    engine::{
        checkpoint::{Kind, Place},
        journal::{Reason, Record},
        state::{Meaning, Whereabouts},
    },
    model::{Name, QueueId, Seq, Timestamp, TopicId},
};

/// Most messages of a queue that go at a time.
const MESSAGES_MAX: usize = 10_000;
/// Most runs of messages that go at a time, of all queues: their records are small beside those of a publish.
const RUNS_MAX: usize = 500;

impl Step<'_> {
    /// Lets go of what is over its time at the head of the queues of a topic.
    pub(super) fn sweep(&mut self, name: &Name) {
        let Some(Meaning::Topic(id)) = self.state.meaning(name) else { return };
        let queues = self.state.topic(id).map(|topic| topic.queues.clone()).unwrap_or_default();
        if queues.is_empty() {
            return self.sweep_kept(id);
        }
        let mut runs_left = RUNS_MAX;
        for queue in queues {
            for (reason, seqs) in self.over_time(queue, &mut runs_left) {
                self.emit(Record::Done { queue, reason, seqs });
            }
        }
    }

    /// The same of a topic that keeps its messages for its first queue.
    fn sweep_kept(&mut self, id: TopicId) {
        let Some(topic) = self.state.topic(id) else { return };
        let (age_max, next) = (topic.policy.limits.age_max, topic.log.next);
        let kept = (topic.kept_from.0..next.0).map(Seq).take(MESSAGES_MAX);
        let count = kept.take_while(|seq| self.why_over_time(id, *seq, age_max).is_some()).count();
        // To let go of them takes as long as there are messages: where nothing is limited, that is worth it for many.
        let is_worth_it = topic.policy.limits.are_set() || count * 4 >= (next.0 - topic.kept_from.0) as usize;
        if count > 0 && (is_worth_it || count == MESSAGES_MAX) {
            let end = Seq(topic.kept_from.0 + count as u64);
            self.emit(Record::TopicTrimmed { topic: id, end });
        }
    }

    /// What is over its time at the head of a queue, by reason.
    fn over_time(&self, id: QueueId, runs_left: &mut usize) -> Vec<(Reason, Vec<Seq>)> {
        let Some((queue, topic)) = self.state.queue_and_topic(id) else { return Vec::new() };
        let age_max = queue.policy.limits.or(topic.policy.limits).age_max;
        let waiting = queue.lanes().seqs();
        let fresh = (queue.cursor().0..topic.log.next.0).map(Seq).filter(|seq| !queue.gone().contains(seq));
        let mut over: Vec<(Reason, Vec<Seq>)> = Vec::new();
        let mut before: Option<(Reason, Seq)> = None;
        for seq in waiting.chain(fresh).take(MESSAGES_MAX) {
            let Some(reason) = self.why_over_time(queue.topic, seq, age_max) else { break };
            if before.is_none_or(|before| before != (reason, Seq(seq.0.wrapping_sub(1)))) {
                let Some(left) = runs_left.checked_sub(1) else { break };
                *runs_left = left;
            }
            before = Some((reason, seq));
            match over.iter_mut().find(|(of, _)| *of == reason) {
                Some((_, seqs)) => seqs.push(seq),
                None => over.push((reason, vec![seq])),
            }
        }
        over
    }

    fn why_over_time(&self, topic: TopicId, seq: Seq, age_max: Option<Duration>) -> Option<Reason> {
        let (expires_at, published_at) = match self.state.find(Place { topic, kind: Kind::Visible, seq }) {
            Whereabouts::Recent(kept) => (kept.message.expires_at, kept.message.published_at),
            Whereabouts::Saved(block, _) => (block.expires_by, block.origin.until),
            Whereabouts::Nowhere => return None,
        };
        let is_over = |at: Timestamp| at <= self.now;
        if expires_at.is_some_and(is_over) {
            Some(Reason::Expired)
        } else {
            age_max.is_some_and(|age| is_over(published_at.after(age))).then_some(Reason::TooOld)
        }
    }
}

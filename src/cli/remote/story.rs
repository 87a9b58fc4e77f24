//! The story of a message in sentences: what happened to it, and what is up with it now.

use super::{json, span};
use crate::{
    grpc::proto::v1::{Event, QueueState, Story},
    model::Timestamp,
};

/// The lines, the oldest event first and the present last.
pub(super) fn lines(story: &Story, now: Timestamp) -> Vec<String> {
    let mut lines: Vec<String> = story.events.iter().map(|event| of_event(event, now)).collect();
    lines.extend(story.queues.iter().map(|queue| of_queue(queue, now)));
    if story.queues.is_empty() {
        lines.push(format!("now: topic {} has no queue for it", story.topic));
    }
    lines
}

fn of_event(event: &Event, now: Timestamp) -> String {
    let at = span::timestamp(event.at).map(|at| at.to_string()).unwrap_or_default();
    let mut line = format!("{at}  {}", event.kind.replace('_', " "));
    if !event.queue.is_empty() {
        line.push_str(&format!(" in {}", event.queue));
    }
    if event.delivery_attempt > 0 {
        line.push_str(&format!(", delivery {}", event.delivery_attempt));
    }
    if event.until.is_some() {
        line.push_str(&format!(", until {}", span::from_now(event.until, now)));
    }
    if !event.reason.is_empty() {
        line.push_str(&format!(": {}", event.reason));
    }
    line
}

fn of_queue(queue: &QueueState, now: Timestamp) -> String {
    let Some(state) = &queue.state else { return format!("now: {} is done with it", queue.queue) };
    let until = [state.retry_at, state.ack_deadline, state.deliver_at].into_iter().find(Option::is_some).flatten();
    let until = if until.is_some() { format!(", until {}", span::from_now(until, now)) } else { String::new() };
    format!("now: {} in {}{until}", json::state(state.state()), queue.queue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::v1::{BrowsedMessage, MessageState};

    #[test]
    fn the_past_comes_before_the_present() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let nacked = Event {
            at: at(1),
            queue: "q".into(),
            kind: "nacked".into(),
            reason: "no stock".into(),
            delivery_attempt: 2,
            until: at(10),
        };
        let browsed =
            BrowsedMessage { state: MessageState::Ready.into(), retry_at: at(10), ..BrowsedMessage::default() };
        let queues =
            vec![QueueState { queue: "q".into(), state: Some(browsed) }, QueueState { queue: "r".into(), state: None }];
        let story = Story { events: vec![nacked], queues, ..Story::default() };
        assert_eq!(
            lines(&story, Timestamp::from_millis(5000)),
            [
                "1970-01-01T00:00:01.000Z  nacked in q, delivery 2, until in 5s: no stock",
                "now: ready in q, until in 5s",
                "now: r is done with it"
            ]
        );
    }
}

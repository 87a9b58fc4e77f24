//! Queues that come to a topic when others have begun, and what tells two states apart.

use std::time::Duration;

use super::{AckMode, Bench, LEASE, ack_id, draft, name, texts};
use crate::{
    engine::Manage,
    model::{Draft, Due, Properties, Seq},
};

over_both! {
    a_queue_that_comes_later_keeps_the_messages_of_a_key_in_order,
    a_queue_that_comes_later_does_not_get_what_was_deleted_everywhere,
    whatever_changes_what_comes_next_changes_the_digest,
}

fn keyed(text: &str) -> Draft {
    let properties = Properties { ordering_key: Some("key".to_owned()), ..Properties::default() };
    Draft { properties, ..draft(text) }
}

async fn lease_all(bench: &Bench, queue: &str) -> Vec<String> {
    texts(&bench.receive(queue, 9, Duration::ZERO, AckMode::Lease(LEASE)).await)
}

async fn a_queue_that_comes_later_keeps_the_messages_of_a_key_in_order(mut bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    for text in ["a1", "a2", "a3"] {
        bench.publish_one("t", keyed(text)).await.expect("stored");
    }
    // The first one is held, the others are passed over: all stand before the cursor.
    assert_eq!(lease_all(&bench, "t.s").await, ["a1"]);
    let first = bench.lease("t").await.expect("its own queue has them as well");
    assert_eq!(texts(std::slice::from_ref(&first)), ["a1"]);
    bench.restart().await;
    assert!(lease_all(&bench, "t").await.is_empty());
    bench.ack("t", ack_id(&first)).await;
    assert_eq!(lease_all(&bench, "t").await, ["a2"]);
}

async fn a_queue_that_comes_later_does_not_get_what_was_deleted_everywhere(bench: Bench) {
    bench.register("s", &["t"]).await.expect("registered");
    bench.publish("t", &["a", "b", "c"]).await;
    let delete = Manage::DeleteMessage { queue: name("t.s"), seq: Seq(1) };
    assert_eq!(bench.engine().manage(delete).await.map(|managed| managed.messages), Ok(1));
    assert_eq!(bench.pop("t", 1).await, ["a"]);
    let queue = bench.engine().queue(name("t")).await.expect("there");
    assert_eq!((queue.ready, queue.counters.dropped), (1, 0));
    assert_eq!(bench.pop("t", 9).await, ["c"]);
    assert_eq!(bench.engine().queue(name("t")).await.expect("there").counters.dropped, 0);
}

async fn whatever_changes_what_comes_next_changes_the_digest(bench: Bench) {
    let mut digests = vec![bench.digest().await];
    bench.register("s", &["t"]).await.expect("registered");
    digests.push(bench.digest().await);
    bench.publish("t", &["a", "b"]).await;
    digests.push(bench.digest().await);
    let held = bench.lease("t.s").await.expect("a");
    digests.push(bench.digest().await);
    bench.ack("t.s", ack_id(&held)).await;
    digests.push(bench.digest().await);
    bench.publish_one("t", Draft { due: Due::After(LEASE), ..draft("later") }).await.expect("stored");
    digests.push(bench.digest().await);
    assert_eq!(bench.digest().await, digests[5], "a look is no change");
    // The same state but for a dedup id.
    let once = Draft { dedup_id: Some("id".into()), ..draft("once") };
    bench.publish_one("u", once.clone()).await.expect("stored");
    digests.push(bench.digest().await);
    bench.pop("u", 1).await;
    digests.push(bench.digest().await);
    let all = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), all);
}

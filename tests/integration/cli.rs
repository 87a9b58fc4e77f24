//! The commands that ask a broker, as they are typed: what they print, and with which exit code they end.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use campanile::{
    client::{Client, ClientError},
    grpc::proto::v1::{
        Ack, Nack, NewMessage, PublishRequest, PullRequest, SettleRequest, Settlement, StreamingPullStart,
        nack::Outcome as NackOutcome, settlement::Outcome,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    process::{Broker, Process},
    stage::{Stage, eventually, free_port},
};

/// A command that has ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// The objects it printed, one a line.
    #[track_caller]
    fn objects(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    /// Refused with that exit code, with one line that has `words`.
    #[track_caller]
    fn refused(self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {:?}", self.err);
        assert!(code == 2 || self.err.lines().count() == 1, "one line: {:?}", self.err);
    }
}

/// Commands to a broker at these addresses.
struct Shell<'a> {
    stage: &'a Stage,
    addr: String,
}

impl<'a> Shell<'a> {
    fn new(stage: &'a Stage, addr: impl ToString) -> Self {
        Self { stage, addr: addr.to_string() }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        self.stage.broker().args(args).args(&["--addr", &self.addr]).command()
    }

    async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    async fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let (mut command, stdin) = (self.command(args), stdin.to_owned());
        let ran = tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).spawn().expect("the program can be started");
            let mut pipe = child.stdin.take().expect("piped");
            let writer = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()));
            let output = child.wait_with_output().expect("it ends");
            // A command that does not read closes the pipe.
            let _ = writer.join().expect("no panic");
            output
        });
        Ran::of(ran.await.expect("no panic"))
    }
}

fn client(broker: &Broker) -> Client {
    Client::connect([broker.grpc.to_string()]).expect("an address")
}

async fn stopped(broker: Broker) {
    assert!(broker.stop().await.success());
}

#[tokio::test]
async fn what_is_published_is_listed_and_consumed() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    broker.rest().register("billing", &["orders"]).await;

    let args = ["publish", "orders", r#"{"n": 1}"#, "--attribute", "a=b", "--key", "k", "--ttl", "1h", "--json"];
    let [published] = &shell.run(&args).await.objects()[..] else { panic!("one object") };
    assert_eq!((&published["queues"], &published["duplicate"]), (&json!(["orders.billing"]), &json!(false)));
    let id = shell.run(&["publish", "orders", "two"]).await.ok();
    assert_eq!(id.trim().len(), 36, "an id and nothing else: {id:?}");

    let topics = shell.run(&["topics"]).await.ok();
    assert!(topics.starts_with("TOPIC") && topics.contains("billing (inbox)"), "{topics}");
    let services = shell.run(&["services", "--json"]).await.objects();
    assert_eq!(services, [json!({ "name": "billing", "topics": ["orders"] })]);
    let queues = shell.run(&["queues", "--prefix", "orders", "--json"]).await.objects();
    assert_eq!((&queues[0]["name"], &queues[0]["ready"]), (&json!("orders.billing"), &json!(2)));
    let table = shell.run(&["queues"]).await.ok();
    assert!(table.lines().any(|line| line.starts_with("orders.billing      2 ")), "{table}");

    let waiting = shell.run(&["tail", "orders.billing", "--json"]).await.objects();
    assert_eq!((waiting.len(), &waiting[0]["payload"], &waiting[0]["state"]), (2, &json!({ "n": 1 }), &json!("ready")));
    let consumed = shell.run(&["consume", "orders", "--service", "billing", "--max", "1", "--json"]).await.objects();
    assert_eq!(consumed[0]["id"], published["message_id"]);
    assert_eq!((&consumed[0]["attributes"], &consumed[0]["ordering_key"]), (&json!({ "a": "b" }), &json!("k")));
    assert_eq!(consumed[0]["delivery_attempt"], 1);
    assert_eq!(shell.run(&["consume", "orders.billing"]).await.ok(), "two\n");
    assert_eq!(shell.run(&["consume", "orders.billing"]).await.ok(), "", "all of it was acked");
    stopped(broker).await;
}

#[tokio::test]
async fn each_line_is_a_message_and_those_that_are_refused_are_named() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    // More than may be unconfirmed at once.
    let lines: String = (0..3000).map(|n| format!("{n}\n")).collect();
    assert_eq!(shell.run_with(&["publish", "numbers", "--lines"], &lines).await.ok(), "3000 messages stored\n");
    assert_eq!(shell.run(&["consume", "numbers"]).await.ok(), lines, "in order");

    let args = ["publish", "numbers", "--lines", "--content-type", "application/json"];
    let ran = shell.run_with(&args, "1\n\nno json\n4\n").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "2 messages stored\n"));
    assert!(ran.err.contains("line 3: ") && ran.err.contains("invalid_argument"), "{}", ran.err);
    assert!(ran.err.ends_with("1 of 3 messages were refused\n"), "{}", ran.err);
    assert_eq!(shell.run(&["consume", "numbers"]).await.ok(), "1\n4\n");
    let id = shell.run_with(&["publish", "numbers", "-", "--dedup-id", "d"], "[5]").await.ok();
    assert_eq!(shell.run_with(&["publish", "numbers", "--dedup-id", "d"], "[5]").await.ok(), id, "the same message");
    stopped(broker).await;
}

#[tokio::test]
async fn what_is_not_acked_goes_back_at_once() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    shell.run(&["publish", "q", "1"]).await.ok();
    for _ in 0..2 {
        let seen = shell.run(&["consume", "q", "--no-ack", "--json"]).await.objects();
        assert_eq!((seen.len(), &seen[0]["delivery_attempt"]), (1, &json!(1)), "those deliveries do not count");
    }

    let mut follower = Process::spawn(shell.command(&["consume", "q", "--follow", "--no-ack"]));
    eventually("a message", async || follower.output().contains('1').then_some(())).await;
    shell.run(&["publish", "q", "2"]).await.ok();
    eventually("the next one", async || follower.output().contains('2').then_some(())).await;
    assert_eq!(shell.run(&["queues", "--json"]).await.objects()[0]["leased"], 2);
    let pid = i32::try_from(follower.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(follower.ended().await.code(), Some(0));
    assert_eq!(follower.output(), "1\n2");
    let free = async || {
        let queue = shell.run(&["queues", "--json"]).await.objects().remove(0);
        (queue["leased"] == 0 && queue["ready"] == 2).then_some(())
    };
    eventually("both back in the queue", free).await;
    assert_eq!(shell.run(&["consume", "q", "--follow", "--max", "2"]).await.ok(), "1\n2\n");
    assert_eq!(shell.run(&["queues", "--json"]).await.objects()[0]["ready"], 0, "the stream acks, too");
    stopped(broker).await;
}

#[tokio::test]
async fn a_follower_that_is_interrupted_has_acked_what_it_has_printed_and_nothing_else() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    let lines: String = (0..5000).map(|n| format!("{n}\n")).collect();
    shell.run_with(&["publish", "q", "--lines"], &lines).await.ok();
    let mut follower = Process::spawn(shell.command(&["consume", "q", "--follow"]));
    eventually("some messages", async || follower.output().contains("\n300\n").then_some(())).await;
    let pid = i32::try_from(follower.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(follower.ended().await.code(), Some(0));
    let printed = format!("{}\n", follower.output());
    let free = async || (shell.run(&["queues", "--json"]).await.objects()[0]["leased"] == 0).then_some(());
    eventually("what was held back in the queue", free).await;
    let rest = shell.run(&["consume", "q"]).await.ok();
    assert!(printed + &rest == lines, "each message once, in order");
    stopped(broker).await;
}

#[tokio::test]
async fn dead_letters_are_told_of_and_brought_back() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let (shell, client) = (Shell::new(&stage, broker.grpc), client(&broker));
    let id = shell.run(&["publish", "q", "1"]).await.ok();
    let id = id.trim();
    let pulled = client.pull(PullRequest { queue: "q".into(), ..PullRequest::default() }).await.expect("an answer");
    let nack = Nack { outcome: NackOutcome::DeadLetter.into(), reason: "no\nstock".into(), ..Nack::default() };
    let outcome = Some(Outcome::Nack(nack));
    let settlements = vec![Settlement { ack_id: pulled.deliveries[0].ack_id.clone(), outcome }];
    client.settle(SettleRequest { settlements, ..SettleRequest::default() }).await.expect("an answer");

    let letters = shell.run(&["dead-letters", "q", "--json"]).await.objects();
    assert_eq!((&letters[0]["id"], &letters[0]["dead_letter"]["cause"]), (&json!(id), &json!("rejected")));
    let table = shell.run(&["dead-letters", "q"]).await.ok();
    assert!(table.lines().count() == 2 && table.ends_with("rejected  no\\nstock\n"), "one line each: {table}");
    let story = shell.run(&["tail", "--message", id]).await.ok();
    assert!(story.contains("published") && story.contains("now: dead in q"), "{story}");

    assert_eq!(shell.run(&["redrive", "q", id, "--json"]).await.objects(), [json!({ "messages": 1 })]);
    assert_eq!(shell.run(&["dead-letters", "q", "--json"]).await.objects(), Vec::<Value>::new());
    assert_eq!(shell.run(&["consume", "q"]).await.ok(), "1\n");
    stopped(broker).await;
}

#[tokio::test]
async fn a_queue_is_paused_explained_resumed_and_purged() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    // The own queue of a topic comes into being with its first consumer.
    shell.run(&["consume", "q"]).await.ok();
    shell.run(&["publish", "q", "1"]).await.ok();
    assert_eq!(shell.run(&["pause", "q"]).await.ok(), "q is paused\n");
    assert_eq!(shell.run(&["consume", "q"]).await.ok(), "");
    let words = shell.run(&["explain", "q"]).await.ok();
    assert!(words.starts_with("Nothing can be handed out now.\n- paused: "), "{words}");
    assert_eq!(shell.run(&["explain", "q", "--json"]).await.objects()[0]["obstacles"][0]["kind"], "paused");
    assert_eq!(shell.run(&["resume", "q", "--json"]).await.objects()[0]["paused"], false);
    assert_eq!(shell.run(&["purge", "q"]).await.ok(), "1 message removed\n");
    assert_eq!(shell.run(&["consume", "q"]).await.ok(), "");
    stopped(broker).await;
}

#[tokio::test]
async fn the_exit_code_tells_a_refusal_a_wrong_line_and_nobody_there_apart() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    shell.run(&["explain", "nowhere"]).await.refused(1, "(not_found)");
    shell.run(&["publish", "..", "1"]).await.refused(1, "(invalid_argument)");
    shell.run(&["publish"]).await.refused(2, "TOPIC");
    shell.run(&["publish", "q", "1", "--delay", "soon"]).await.refused(2, "it is no time");
    Shell::new(&stage, "nonsense").run(&["topics"]).await.refused(2, "is not HOST:PORT");
    let nobody = Shell::new(&stage, format!("127.0.0.1:{}", free_port()));
    nobody.run(&["topics"]).await.refused(3, "(unavailable)");
    nobody.run_with(&["publish", "q", "--lines"], "1\n").await.refused(3, "(unavailable)");
    stopped(broker).await;
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let shell = Shell::new(&stage, broker.grpc);
    // The own queue of a topic comes into being with its first consumer.
    shell.run(&["consume", "q"]).await.ok();
    // Far more than a pipe holds.
    let lines = format!("\"{}\"\n", "x".repeat(4000)).repeat(500);
    shell.run_with(&["publish", "q", "--lines"], &lines).await.ok();
    for args in [["tail", "q"].as_slice(), &["tail", "q", "--json"], &["consume", "q"]] {
        let mut child = shell.command(args).spawn().expect("the program can be started");
        drop(child.stdout.take());
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic");
        let ran = Ran::of(output.expect("it ends"));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
    let queue = shell.run(&["queues", "--json"]).await.objects().remove(0);
    assert_eq!((&queue["ready"], &queue["leased"]), (&json!(500), &json!(0)), "what was not printed went back");
    stopped(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_instance_stops_its_clients_go_on_with_the_other() {
    let stage = Stage::alone().await;
    let [active, standby] = stage.active_and_standby().await;
    let addresses = [active.grpc.to_string(), standby.grpc.to_string()];
    let (shell, through_standby) = (Shell::new(&stage, addresses.join(",")), Shell::new(&stage, &addresses[1]));
    let client = Client::connect(addresses).expect("addresses");
    let publish = async |n: u32| {
        let message = NewMessage { data: n.to_string().into(), dedup_id: n.to_string(), ..NewMessage::default() };
        let request = PublishRequest { topic: "q".into(), messages: vec![message] };
        client.publish(request).await.expect("an answer")
    };
    for n in 0..4 {
        publish(n).await;
    }
    // Streams go through a standby as well.
    assert_eq!(through_standby.run_with(&["publish", "q", "--lines"], "4\n5\n").await.ok(), "2 messages stored\n");
    assert_eq!(through_standby.run(&["consume", "q", "--follow", "--max", "2"]).await.ok(), "0\n1\n");

    stopped(active).await;
    for n in 6..10 {
        publish(n).await;
    }
    shell.run(&["publish", "q", "10"]).await.ok();
    assert_eq!(shell.run(&["consume", "q"]).await.ok(), "2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    stopped(standby).await;

    let nobody = client.publish(PublishRequest { topic: "q".into(), messages: vec![NewMessage::default()] });
    assert!(matches!(nobody.await, Err(ClientError::Unreachable(_))), "nothing was done");
}

#[tokio::test]
async fn a_subscription_settles_what_it_hands_out_and_says_when_it_is_over() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let client = client(&broker);
    let (publisher, mut confirmations) = client.publish_stream("q").await.expect("a stream");
    for n in 0..3 {
        publisher.send(NewMessage { data: n.to_string().into(), ..NewMessage::default() }).await.expect("open");
    }
    drop(publisher);
    for index in 0..3 {
        assert_eq!(confirmations.next().await.expect("no error").expect("one for each").index, index);
    }
    assert_eq!(confirmations.next().await.expect("no error"), None);

    let start = StreamingPullStart { queue: "q".into(), ..StreamingPullStart::default() };
    let (mut deliveries, settler) = client.subscribe(start).await.expect("a stream");
    for n in 0..3 {
        let delivery = deliveries.next().await.expect("no error").expect("a delivery");
        assert_eq!(delivery.message.expect("a message").data, n.to_string());
        let settlement = || Settlement { ack_id: delivery.ack_id.clone(), outcome: Some(Outcome::Ack(Ack {})) };
        let results = settler.settle(vec![settlement(), settlement()]).await.expect("confirmed");
        let codes: Vec<_> = results.iter().map(|result| result.code.as_str()).collect();
        assert_eq!(codes, ["ok", "stale_ack"]);
    }
    drop(deliveries);
    let late = || Settlement { ack_id: "a".into(), outcome: Some(Outcome::Ack(Ack {})) };
    // The task that sorts the frames ends at its next await, and with it all that wait.
    let ended = async || (settler.settle(vec![late()]).await == Err(ClientError::Ended)).then_some(());
    eventually("the end of the stream", ended).await;

    let refused = client.subscribe(StreamingPullStart { queue: "..".into(), ..StreamingPullStart::default() }).await;
    let error = refused.expect_err("no name");
    assert_eq!(
        (error.code(), error.problem().and_then(|p| p.field.as_deref())),
        (Some("invalid_argument"), Some("queue"))
    );
    stopped(broker).await;
}

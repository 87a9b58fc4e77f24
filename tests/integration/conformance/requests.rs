//! Request and reply in one call, and the clock of the dev mode.

use serde_json::{Value, json};

use super::{Case, Cases, cases, text};

pub(super) fn cases() -> Cases {
    cases![
        "a request gets the reply to it" => replied,
        "requests at the same time each get their own reply" => own_replies,
        "a request that nobody answers is told so" => no_reply,
        "a reply that comes too late goes to nobody" => late_reply,
        "a request may not choose where its reply goes" => own_reply_to,
        "the clock tells what it shows" => clock,
    ]
}

/// Takes a request off the topic and answers it with `answer` of its payload.
async fn respond(case: &Case, answer: impl Fn(&Value) -> Value) -> Value {
    let case = case.aside();
    let pull = json!({"queue": case.name, "wait_seconds": 20, "auto_ack": true});
    let request = case.pull_with(pull).await.pop().expect("a request");
    let reply = json!({"json": answer(&request["json"]), "correlation_id": request["correlation_id"]});
    case.publish_as(&text(&request["reply_to"]), reply).await;
    request
}

async fn replied(case: Case) {
    case.declare(&case.name).await;
    let asker = case.aside();
    let asked = tokio::spawn(async move {
        asker.ok("request", json!({"topic": asker.name, "message": {"json": 20}, "timeout_seconds": 20})).await
    });
    let request = respond(&case, |n| json!(n.as_i64().unwrap_or_default() + 1)).await;
    let answer = asked.await.expect("answered");
    assert_eq!(answer["message_id"], request["id"]);
    assert_eq!(answer["reply"]["json"], 21);
}

async fn own_replies(case: Case) {
    case.declare(&case.name).await;
    let ask = |n: i64| {
        let asker = case.aside();
        tokio::spawn(async move {
            asker.ok("request", json!({"topic": asker.name, "message": {"json": n}, "timeout_seconds": 20})).await
        })
    };
    let asked: Vec<_> = (0..8).map(|n| (n, ask(n))).collect();
    for _ in 0..8 {
        respond(&case, |n| json!({"of": n})).await;
    }
    for (n, asked) in asked {
        assert_eq!(asked.await.expect("answered")["reply"]["json"], json!({"of": n}));
    }
}

async fn no_reply(case: Case) {
    case.declare(&case.name).await;
    let request = json!({"topic": case.name, "message": {"json": 1}, "timeout_seconds": 0.05});
    assert_eq!(case.code("request", request).await, "deadline_exceeded");
    assert_eq!(case.drain(&case.name, 9).await, [json!(1)], "it was published");
}

async fn late_reply(case: Case) {
    case.declare(&case.name).await;
    let request = json!({"topic": case.name, "message": {"json": 1}, "timeout_seconds": 0.05});
    case.code("request", request).await;
    respond(&case, |_| json!("late")).await;
    replied(Case { name: format!("{}-again", case.name), ..case }).await;
}

async fn own_reply_to(case: Case) {
    for field in ["reply_to", "correlation_id"] {
        let request = json!({"topic": case.name, "message": {"json": 1, field: "x"}});
        assert_eq!(case.refused("request", request).await, ("invalid_argument".into(), field.into()));
    }
}

async fn clock(case: Case) {
    let time = async |by: f64| {
        let now = text(&case.ok("advance_clock", json!({"by_seconds": by})).await["now"]);
        campanile::model::Timestamp::parse_rfc3339(&now).expect("a time")
    };
    let (first, second) = (time(1.0).await, time(1000.0).await);
    assert!((1000..1030).contains(&second.since(first).as_secs()));
}

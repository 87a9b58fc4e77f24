//! `campanile explain`: why a queue hands nothing out, or that it would.

use clap::{ArgMatches, Command};

use super::{Failure, Remote, flags, json, output::Form, span};
use crate::{
    grpc::proto::v1::{ExplainRequest, Explanation},
    model::Timestamp,
};

pub(super) const NAME: &str = "explain";

pub(super) fn command() -> Command {
    Command::new(NAME).about("Say why a queue hands nothing out, or that it would").arg(flags::queue())
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let request = ExplainRequest { queue: flags::text(matches, flags::QUEUE) };
    let explanation = remote.client.explain(request).await?;
    match remote.form {
        Form::Json => remote.output.json(&json::explanation(&explanation)),
        Form::Text => {
            sentences(&explanation, Timestamp::now()).iter().try_for_each(|sentence| remote.output.line(sentence))
        }
    }
}

fn sentences(explanation: &Explanation, now: Timestamp) -> Vec<String> {
    let mut sentences = vec![match explanation.deliverable {
        0 => "Nothing can be handed out now.".to_owned(),
        1 => "1 message can be handed out now.".to_owned(),
        n => format!("{n} messages can be handed out now."),
    }];
    for obstacle in &explanation.obstacles {
        sentences.push(format!("- {}: {}", obstacle.kind, obstacle.detail));
        for key in &obstacle.keys {
            let until = span::from_now(key.until, now);
            sentences.push(format!(
                "    key {:?}: held by {} (delivery {}), free {until}, {} behind it",
                key.ordering_key, key.message_id, key.delivery_attempt, key.behind
            ));
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::v1::{HeldKey, Obstacle};

    #[test]
    fn each_obstacle_is_a_sentence_and_each_key_has_its_holder() {
        let until = Some(prost_types::Timestamp { seconds: 5, nanos: 0 });
        let key = HeldKey { ordering_key: "k".into(), message_id: "m".into(), delivery_attempt: 2, until, behind: 3 };
        let obstacle =
            Obstacle { kind: "behind_keys".into(), detail: "words".into(), keys: vec![key], ..Obstacle::default() };
        let explanation = Explanation { obstacles: vec![obstacle], ..Explanation::default() };
        let sentences = sentences(&explanation, Timestamp::EPOCH);
        assert_eq!(
            sentences,
            [
                "Nothing can be handed out now.",
                "- behind_keys: words",
                "    key \"k\": held by m (delivery 2), free in 5s, 3 behind it"
            ]
        );
    }
}

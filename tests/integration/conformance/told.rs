//! What a case was told, in a form in which both protocols have to say the same.
//!
//! Left out: what each run has of its own (ids, times, ack ids), and what a protocol need not say because it is nothing: null,
//! false, 0, and what is empty.

use std::sync::{Arc, Mutex, PoisonError};

use campanile::model::Timestamp;
use serde_json::{Map, Value, json};

use super::peer::{Answer, NAMELESS, Refused};

/// Calls that REST has in the original's form.
const ORIGINAL: [&str; 1] = ["register_service"];

/// The calls of a case and their answers, in order. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Value>>>);

impl Told {
    /// Takes note of an answer; one that is the same as the one before is not noted again, as it may have been asked for
    /// until it changed.
    pub(super) fn note(&self, call: &str, protocol: &str, answer: &Answer) {
        if ORIGINAL.contains(&call) {
            return;
        }
        let outcome = match answer {
            // Nothing to say is an answer without a body in REST.
            Ok(Value::Null) => json!({"answer": {}}),
            Ok(answer) => json!({"answer": plain("", answer, protocol)}),
            Err(Refused { code, path, .. }) => json!({"code": code, "field": path}),
        };
        let entry = json!({"call": call, "outcome": outcome});
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }

    /// The first difference to what another protocol told.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let of = |told: &Self| told.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mine, others) = (of(self), of(other));
        if mine.len() != others.len() {
            return Some(format!("{} answers and {}", mine.len(), others.len()));
        }
        let differs = mine.iter().zip(&others).find(|(mine, other)| mine != other);
        differs.map(|(mine, other)| format!("{mine}\nand {other}"))
    }
}

fn plain(name: &str, value: &Value, protocol: &str) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| plain(name, item, protocol)).collect(),
        Value::Object(fields) => {
            let kept: Map<String, Value> = fields
                .iter()
                // A receive that waits may be answered at any moment.
                .filter(|(name, _)| !["is_waiting", "has_credit"].contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), plain(name, value, protocol)))
                .filter(|(_, value)| !is_nothing(value))
                .collect();
            Value::Object(kept)
        }
        // How much of it depends on how fast the case ran.
        Value::Number(number) if name.ends_with("_per_second") && number.as_f64() != Some(0.0) => json!("RATE"),
        Value::Number(number) => json!(number.as_f64()),
        Value::String(text) => json!(plain_text(name, text, protocol)),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_so) => !is_so,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn plain_text(name: &str, text: &str, protocol: &str) -> String {
    match name {
        "ack_id" if text.len() == 43 => return "ACK ID".to_owned(),
        "next_page_token" if !text.is_empty() => return "TOKEN".to_owned(),
        // Constants in capitals are what the proto has.
        "state" | "cause" | "overflow" if text.ends_with("_UNSPECIFIED") => return String::new(),
        "state" | "cause" | "overflow" => return text.to_lowercase(),
        // How the client calls itself where the case does not.
        "name" if text.starts_with("tonic/") => return NAMELESS.to_owned(),
        _ => {}
    }
    let word = |word: &str| match word {
        _ if uuid::Uuid::try_parse(word).is_ok() => "ID".to_owned(),
        _ if Timestamp::parse_rfc3339(word).is_some() => "TIME".to_owned(),
        _ => word.replace(&format!(".{}", protocol.to_lowercase()), ".PROTOCOL"),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

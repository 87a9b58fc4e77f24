//! The fields of a JSON object, each read on its own, so that whatever is wrong is said by the name of its field.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    broker::{BrokerError, Limits},
    model::{Draft, Name},
};

/// The fields of a request's body that its call knows; others are passed over. Their values are the body's own bytes,
/// checked to be JSON and not looked into yet.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    found: Vec<(&'static str, &'a RawValue)>,
    repeated: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// Reads `body`, which must be one JSON object.
    pub(super) fn parse(body: &'a [u8], known: &'static [&'static str]) -> Result<Self, BrokerError> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let fields = json
            .deserialize_map(ObjectVisitor { known })
            .and_then(|fields| json.end().map(|()| fields))
            .map_err(|e| BrokerError::invalid("body", format!("is not a JSON object: {e}")))?;
        match fields.repeated {
            Some(field) => Err(BrokerError::invalid(field, "is given more than once")),
            None => Ok(fields),
        }
    }

    /// Any JSON value, `null` too.
    pub(super) fn required(&self, field: &'static str) -> Result<&'a RawValue, BrokerError> {
        self.get(field).ok_or_else(|| BrokerError::invalid(field, "is missing"))
    }

    /// A name.
    pub(super) fn required_name(&self, field: &'static str) -> Result<Name, BrokerError> {
        let text = text_of(field, self.required(field)?)?;
        Name::parse(&text).map_err(|e| BrokerError::invalid(field, e.to_string()))
    }

    /// A list of names.
    pub(super) fn required_names(&self, field: &'static str) -> Result<Vec<Name>, BrokerError> {
        let name = |(at, text): (usize, &String)| {
            Name::parse(text).map_err(|e| BrokerError::invalid(format!("{field}[{at}]"), e.to_string()))
        };
        self.required_texts(field)?.iter().enumerate().map(name).collect()
    }

    /// A list of texts.
    pub(super) fn required_texts(&self, field: &'static str) -> Result<Vec<String>, BrokerError> {
        let raw = self.required(field)?;
        let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return Err(wrong_kind(field, raw, "a list of texts"));
        };
        let text = |(at, entry)| text_of(field, entry).map_err(|e| at_entry(e, field, at));
        entries.into_iter().enumerate().map(text).collect()
    }

    /// A text; `null` and an empty one count as absent.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<String>, BrokerError> {
        let text = self.optional(field).map(|raw| text_of(field, raw)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A number of seconds, whole or not; `null` counts as absent.
    pub(super) fn seconds(&self, field: &'static str) -> Result<Option<Duration>, BrokerError> {
        self.optional(field).map(|raw| seconds_of(field, raw)).transpose()
    }

    /// An object of texts, in the order given; `null` counts as absent.
    pub(super) fn text_pairs(&self, field: &'static str) -> Result<Vec<(String, String)>, BrokerError> {
        self.optional(field).map_or(Ok(Vec::new()), |raw| text_pairs_of(field, raw))
    }

    fn optional(&self, field: &'static str) -> Option<&'a RawValue> {
        self.get(field).filter(|raw| raw.get() != "null")
    }

    fn get(&self, field: &'static str) -> Option<&'a RawValue> {
        self.found.iter().find(|(name, _)| *name == field).map(|(_, raw)| *raw)
    }
}

fn text_of(field: &'static str, raw: &RawValue) -> Result<String, BrokerError> {
    if !raw.get().starts_with('"') {
        return Err(wrong_kind(field, raw, "a text"));
    }
    // Only half of a surrogate pair is JSON and yet no text.
    serde_json::from_str(raw.get()).map_err(|e| BrokerError::invalid(field, format!("is no text: {e}")))
}

fn seconds_of(field: &'static str, raw: &RawValue) -> Result<Duration, BrokerError> {
    let Ok(seconds) = serde_json::from_str::<f64>(raw.get()) else {
        return Err(wrong_kind(field, raw, "a number of seconds"));
    };
    Limits::duration(field, seconds)
}

fn text_pairs_of(field: &'static str, raw: &RawValue) -> Result<Vec<(String, String)>, BrokerError> {
    let Ok(Pairs { first, count }) = serde_json::Deserializer::from_str(raw.get()).deserialize_map(PairsVisitor) else {
        return Err(wrong_kind(field, raw, "an object of texts"));
    };
    if count > Draft::ATTRIBUTES_MAX {
        let problem = format!("has {count} entries; at most {} are allowed", Draft::ATTRIBUTES_MAX);
        return Err(BrokerError::invalid(field, problem));
    }
    let mut names = BTreeSet::new();
    if let Some((repeated, _)) = first.iter().find(|(name, _)| !names.insert(name)) {
        return Err(BrokerError::invalid(field, format!("has {repeated:?} more than once")));
    }
    let pair = |(name, raw): &(String, &RawValue)| Ok((name.clone(), text_of(field, raw)?));
    first.iter().map(pair).collect()
}

fn wrong_kind(field: &'static str, raw: &RawValue, wanted: &str) -> BrokerError {
    let found = match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    BrokerError::invalid(field, format!("is {found}; it must be {wanted}"))
}

/// The same error, said of the entry at `at` of the list.
fn at_entry(error: BrokerError, field: &'static str, at: usize) -> BrokerError {
    match error {
        BrokerError::InvalidArgument { problem, .. } => BrokerError::invalid(format!("{field}[{at}]"), problem),
        other => other,
    }
}

/// Collects the values of the known fields.
struct ObjectVisitor {
    known: &'static [&'static str],
}

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields { found: Vec::new(), repeated: None };
        while let Some(key) = map.next_key_seed(KeySeed { known: self.known })? {
            let Some(field) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value()?;
            if fields.get(field).is_some() {
                fields.repeated = Some(field);
            } else {
                fields.found.push((field, value));
            }
        }
        Ok(fields)
    }
}

/// Reads a key as one of the known ones, without keeping others.
struct KeySeed {
    known: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.known.iter().find(|known| **known == key).copied())
    }
}

/// The pairs of an object, repeated names too: as many as a message may have attributes, and how many there are.
struct Pairs<'a> {
    first: Vec<(String, &'a RawValue)>,
    count: usize,
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < Draft::ATTRIBUTES_MAX {
            let Some(pair) = map.next_entry()? else { break };
            first.push(pair);
        }
        let mut count = first.len();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Pairs { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["a", "b"];

    fn error(result: Result<impl fmt::Debug, BrokerError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn values_are_the_bodys_own_bytes_and_null_is_a_value() {
        let body = br#" {"x": [1, {"a": 2}], "a" : {"k":  1.10 , "k": [ ]} , "b": null} "#;
        let fields = Fields::parse(body, KNOWN).expect("an object");
        let raw = fields.required("a").expect("given").get();
        assert_eq!(raw, r#"{"k":  1.10 , "k": [ ]}"#);
        assert!(body.as_ptr_range().contains(&raw.as_ptr()), "borrowed");
        assert_eq!(fields.required("b").expect("given").get(), "null");
        assert_eq!(fields.text("b"), Ok(None));
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        assert_eq!(
            error(Fields::parse(b"{\"a\": 1,\n  \"b\": tru}", KNOWN)),
            "body: is not a JSON object: expected ident at line 2 column 11"
        );
        for body in ["", "1", "[]", "{} {}", "{\"a\": \"\u{1}\"}"] {
            assert!(error(Fields::parse(body.as_bytes(), KNOWN)).starts_with("body: "), "{body}");
        }
        assert!(error(Fields::parse(b"{\"a\": \"\xff\"}", KNOWN)).contains("unicode"));
        assert_eq!(error(Fields::parse(br#"{"a": 1, "a": 2}"#, KNOWN)), "a: is given more than once");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_by_the_name_of_its_field() {
        let with = |body: &'static str| Fields::parse(body.as_bytes(), KNOWN).expect("an object");
        assert_eq!(error(with("{}").required("a")), "a: is missing");
        assert_eq!(error(with(r#"{"a": 5}"#).text("a")), "a: is a number; it must be a text");
        assert!(error(with(r#"{"a": "\ud800"}"#).text("a")).starts_with("a: is no text"));
        assert_eq!(error(with(r#"{"a": "5"}"#).seconds("a")), "a: is a text; it must be a number of seconds");
        assert_eq!(error(with(r#"{"a": -1}"#).seconds("a")), "a: is -1; it must be 0 to 31622400");
        assert!(error(with(r#"{"a": 1e400}"#).seconds("a")).starts_with("a: "));
        assert_eq!(error(with(r#"{"a": ["x", true]}"#).required_texts("a")), "a[1]: is a boolean; it must be a text");
        assert_eq!(error(with(r#"{"a": {}}"#).required_texts("a")), "a: is an object; it must be a list of texts");
        assert_eq!(error(with(r#"{"a": [1]}"#).text_pairs("a")), "a: is a list; it must be an object of texts");
        assert_eq!(error(with(r#"{"a": {"k": null}}"#).text_pairs("a")), "a: is null; it must be a text");
        let many = format!("{{\"a\": {{{}\"k\": 1}}}}", "\"k\": 1,".repeat(100));
        let many = Fields::parse(many.as_bytes(), KNOWN).expect("an object").text_pairs("a");
        assert_eq!(error(many), "a: has 101 entries; at most 100 are allowed");
        assert_eq!(error(with(r#"{"a": {"k": "", "k": ""}}"#).text_pairs("a")), "a: has \"k\" more than once");
    }

    #[test]
    fn good_values_are_read() {
        let body = br#"{"a": {"z": "\u00e9", "b": ""}, "b": 1.5}"#;
        let fields = Fields::parse(body, KNOWN).expect("an object");
        assert_eq!(fields.text_pairs("a"), Ok(vec![("z".into(), "é".into()), ("b".into(), String::new())]));
        assert_eq!(fields.seconds("b"), Ok(Some(Duration::from_millis(1500))));
    }
}

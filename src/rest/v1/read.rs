//! JSON bodies, read strictly: what a call does not know is refused, and whatever is wrong is named by its path, such as
//! `messages[3].delay_seconds`.
//!
//! Not here: what the fields mean. Invariant: an object is given as an object, never as a list of its values.

use std::{fmt, marker::PhantomData};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;

use crate::{
    broker::BrokerError,
    model::Name,
    rest::{body, error::Problem},
};

/// The bytes of a JSON body, at most `bytes_max`.
pub(super) async fn json_body(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    if !headers.get_all(header::CONTENT_TYPE).iter().all(|value| value.to_str().is_ok_and(is_json)) {
        return Err(Problem::unsupported_media_type());
    }
    body::read(headers, body, bytes_max).await
}

/// Whether a media type is that of JSON, or of something written in JSON.
pub(in crate::rest) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.contains('/') && essence.ends_with("+json"))
}

/// Reads `body` as the object `T`. An empty body is an empty object.
pub(super) fn strict<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BrokerError> {
    let body = if body.is_empty() { b"{}" } else { body };
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let read = Object::<T>::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    let Object(value) = read.map_err(|error| {
        let path = track.path().to_string();
        match error.classify() {
            Category::Data if path != "." => BrokerError::invalid(path, error.to_string()),
            _ => BrokerError::invalid("body", format!("is not a JSON object of this call: {error}")),
        }
    })?;
    json.end().map_err(|error| BrokerError::invalid("body", format!("goes on behind its JSON object: {error}")))?;
    Ok(value)
}

/// A `T` that is written as an object. Without it, a list of the values of its fields would do, too.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A field whose `null` is a value: with `default`, it is `None` only if it is not there.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object of texts, in the order given, each name once.
#[derive(Debug, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let (mut pairs, mut names) = (Vec::new(), std::collections::HashSet::new());
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format_args!("has {name:?} more than once")));
            }
            pairs.push((name, value));
        }
        Ok(Pairs(pairs))
    }
}

/// A field that has to be there.
pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, BrokerError> {
    value.ok_or_else(|| BrokerError::invalid(field, "is missing"))
}

/// A name; an empty one counts as absent.
pub(super) fn optional_name(field: &'static str, text: Option<&str>) -> Result<Option<Name>, BrokerError> {
    let read = |text| Name::parse(text).map_err(|e| BrokerError::invalid(field, e.to_string()));
    text.filter(|text| !text.is_empty()).map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        entries: Vec<Object<Inner>>,
        pairs: Option<Pairs>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default, deserialize_with = "given")]
        number: Option<Option<u32>>,
    }

    fn refused(body: &str) -> String {
        match strict::<Outer>(body.as_bytes()).expect_err("must be refused") {
            BrokerError::InvalidArgument { field, .. } => field.into_owned(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (body, path) in [
            (r#"{"entries": [{}, {"number": "x"}]}"#, "entries[1].number"),
            (r#"{"entries": [{}, {"numbre": 1}]}"#, "entries[1].numbre"),
            (r#"{"entries": [[5]]}"#, "entries[0]"),
            (r#"{"entries": 1}"#, "entries"),
            (r#"{"other": 1}"#, "other"),
            (r#"{"pairs": {"a": 1}}"#, "pairs.a"),
            (r#"{"pairs": {"a": "", "a": ""}}"#, "pairs"),
            ("[[]]", "body"),
            ("5", "body"),
            (" ", "body"),
            (r#"{"entries": ["#, "body"),
            ("{} {}", "body"),
        ] {
            assert_eq!(refused(body), path, "{body}");
        }
    }

    #[test]
    fn absent_and_null_are_told_apart_where_it_matters() {
        let number = |body: &str| {
            let Outer { entries, .. } = strict(body.as_bytes()).expect("valid");
            entries.first().expect("one").0.number
        };
        assert_eq!(number(r#"{"entries": [{}]}"#), None);
        assert_eq!(number(r#"{"entries": [{"number": null}]}"#), Some(None));
        assert_eq!(number(r#"{"entries": [{"number": 7}]}"#), Some(Some(7)));
        let Outer { entries, pairs } = strict(b"").expect("an empty body is an empty object");
        assert!(entries.is_empty() && pairs.is_none());
    }

    #[test]
    fn media_types_of_json() {
        for text in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json", "a/b+json ; x"] {
            assert!(is_json(text), "{text}");
        }
        for text in ["", "text/plain", "application/jsonp", "+json", "text/json5"] {
            assert!(!is_json(text), "{text}");
        }
    }
}

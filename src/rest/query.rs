//! The parameters behind the question mark of a path.

use std::str::FromStr;

use axum::{extract::Query as Decoded, http::Uri};

use crate::{broker::BrokerError, model::Name};

/// The parameters of a request, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the query of `uri`.
    pub(super) fn parse(uri: &Uri) -> Result<Self, BrokerError> {
        let Decoded(pairs) =
            Decoded::try_from_uri(uri).map_err(|rejection| BrokerError::invalid("query", rejection.body_text()))?;
        Ok(Self(pairs))
    }

    /// Refuses parameters that the call does not know. The original's calls pass them over.
    pub(super) fn only(&self, known: &[&str]) -> Result<&Self, BrokerError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let problem = format!("is no parameter of this call; it has {}", known.join(", "));
                Err(BrokerError::invalid(name.clone(), problem))
            }
            None => Ok(self),
        }
    }

    /// A number; `wanted` says which kind.
    pub(super) fn number<T: FromStr>(&self, field: &'static str, wanted: &str) -> Result<Option<T>, BrokerError> {
        let read = |text: &str| {
            text.parse().map_err(|_| BrokerError::invalid(field, format!("is {text:?}; it must be {wanted}")))
        };
        self.text(field)?.map(read).transpose()
    }

    /// A name.
    pub(super) fn name(&self, field: &'static str) -> Result<Option<Name>, BrokerError> {
        let read = |text| Name::parse(text).map_err(|e| BrokerError::invalid(field, e.to_string()));
        self.text(field)?.map(read).transpose()
    }

    /// A text.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<&str>, BrokerError> {
        let mut values = self.0.iter().filter(|(name, _)| name == field).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(BrokerError::invalid(field, "is given more than once")),
            (value, None) => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(query: &str) -> Result<Option<i64>, String> {
        let uri = format!("/q?{query}").parse().expect("a valid URI");
        Query::parse(&uri).and_then(|q| q.number("n", "a whole number")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_parameter_that_the_call_does_not_know_is_refused_by_its_name() {
        let only = |query: &str| {
            let uri = format!("/q?{query}").parse().expect("a valid URI");
            let query = Query::parse(&uri).expect("decoded");
            query.only(&["a", "b"]).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!((only(""), only("b=1&a=2&a=3")), (Ok(()), Ok(())));
        assert_eq!(only("a=1&c=1"), Err("c: is no parameter of this call; it has a, b".into()));
    }

    #[test]
    fn a_parameter_is_read_once_or_refused_by_its_name() {
        assert_eq!(number(""), Ok(None));
        assert_eq!(number("m=x&n=%35"), Ok(Some(5)));
        assert_eq!(number("n=-7"), Ok(Some(-7)));
        assert_eq!(number("n="), Err("n: is \"\"; it must be a whole number".into()));
        assert_eq!(number("n=%ff%fe"), Err("n: is \"\u{fffd}\u{fffd}\"; it must be a whole number".into()));
        assert_eq!(number("n=1&n=2"), Err("n: is given more than once".into()));
        assert_eq!(
            number("n=99999999999999999999"),
            Err("n: is \"99999999999999999999\"; it must be a whole number".into())
        );
    }
}

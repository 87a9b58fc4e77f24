//! The head of a request: what its path, its query and its headers say.
//!
//! Not here: its body. Invariant: what cannot be read is refused by the name of its field.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};

use super::{error::Problem, query::Query};
use crate::{
    broker::{BrokerError, List, Page, reading},
    model::{MessageId, Name},
};

/// The head of a request.
#[derive(Debug)]
pub(super) struct Asked {
    params: RawPathParams,
    /// What stands behind the question mark.
    pub(super) query: Query,
    /// The headers.
    pub(super) headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|rejection| BrokerError::invalid("path", rejection.body_text()))?;
        Ok(Self { params, query: Query::parse(&parts.uri)?, headers: std::mem::take(&mut parts.headers) })
    }
}

impl Asked {
    /// The name at the place `field` of the path.
    pub(super) fn name(&self, field: &'static str) -> Result<Name, BrokerError> {
        reading::name(field, self.param(field))
    }

    /// The message id at the place `field` of the path.
    pub(super) fn message_id(&self, field: &'static str) -> Result<MessageId, BrokerError> {
        reading::message_id(field, self.param(field))
    }

    /// Which page of a list is asked for.
    fn page(&self) -> Result<Page, BrokerError> {
        let size = self.query.number("page_size", "a whole number")?;
        Ok(Page { size, token: self.query.text("page_token")?.unwrap_or_default().to_owned() })
    }

    /// Which page of a list is asked for, that has such parameters beside.
    pub(super) fn page_beside(&self, others: &[&str]) -> Result<Page, BrokerError> {
        self.query.only(&[others, &["page_size", "page_token"]].concat())?;
        self.page()
    }

    /// The page of a list, and how its names begin.
    pub(super) fn list(&self) -> Result<List, BrokerError> {
        self.query.only(&["prefix", "page_size", "page_token"])?;
        let prefix = self.query.text("prefix")?.unwrap_or_default().to_owned();
        Ok(List { prefix, page: self.page()? })
    }

    fn param(&self, field: &'static str) -> &str {
        // A route without it would show an empty one as wrong.
        self.params.iter().find(|(name, _)| *name == field).map_or("", |(_, value)| value)
    }
}

/// What a consumer is called: as it says, or else as its client does.
pub(super) fn consumer(name: Option<&str>, headers: &HeaderMap) -> Option<String> {
    reading::consumer_name(name, headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()))
}

//! The pattern that a request's path matched, in the words of the application.

use std::{fmt, sync::Arc};

/// The pattern of a request's path, as `/orders/{id}`: what requests can be grouped by, unlike the path.
///
/// Who routes tells the [`AccessLogLayer`](crate::AccessLogLayer): by [`route`](crate::AccessLogLayer::route), when the
/// log stands inside the router, or by putting one into the extensions of the response.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route(Arc<str>);

impl Route {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Route {
    fn from(pattern: &str) -> Self {
        Self(pattern.into())
    }
}

impl From<Arc<str>> for Route {
    fn from(pattern: Arc<str>) -> Self {
        Self(pattern)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

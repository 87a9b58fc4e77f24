//! Which refusals the calls can answer with, for their description: sets of statuses, each with a problem document.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// The name of the document among the schemas.
pub(super) const SCHEMA: &str = "Problem";

const MEANINGS: &[(u16, &str)] = &[
    (400, "`invalid_argument`: a field is wrong; `field` names it"),
    (404, "`not_found`: what the request names does not exist"),
    (409, "`stale_ack`, `name_conflict` or `not_in_dev_mode`: it does not go together with how things are"),
    (413, "`too_large`: the body or the payload is over its limit"),
    (415, "`unsupported_media_type`: the call takes JSON"),
    (422, "`dedup_mismatch`: the dedup id was used for a message with another content"),
    (429, "`queue_full`: a queue has as much as it may hold; `Retry-After` says when to try again"),
    (
        503,
        "`overloaded`, `circuit_open`, `draining`, `not_active`, `outcome_unknown` or `unreadable`: not now; see `Retry-After`",
    ),
    (504, "`deadline_exceeded`: it took too long"),
    (507, "`storage_full`: the disk is nearly full"),
];

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident: $($status:literal)+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$($status),+])
            }
        }
    )+};
}

sets! {
    /// Of a call that looks.
    Looking: 400 404 503 504;
    /// Of one that stores messages.
    Storing: 400 404 409 413 415 422 429 503 504 507;
    /// Of one that stores a raw body, whatever its type.
    StoringRaw: 400 404 409 413 422 429 503 504 507;
    /// Of one that hands messages out and has a body.
    Pulling: 400 404 409 413 415 503 504;
    /// Of one that hands messages out and has none.
    Receiving: 400 404 409 503 504;
    /// Of one that ends deliveries.
    Settling: 400 404 413 415 503 504;
    /// Of one that makes or changes something, with a body.
    Changing: 400 404 409 413 415 503 504 507;
    /// Of one that removes or steers something, without a body.
    Steering: 400 404 409 503 504;
    /// Of the original calls with a body, which take any content type.
    Original: 400 404 409 413 422 429 503 504 507;
}

fn responses(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let response = |status: &u16| {
        let meaning = MEANINGS.iter().find(|(of, _)| of == status).map_or("", |(_, meaning)| meaning);
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(SCHEMA))).build();
        let response = ResponseBuilder::new().description(meaning).content("application/problem+json", content);
        (status.to_string(), RefOr::T(response.build()))
    };
    statuses.iter().map(response).collect()
}

//! What may be set, where it may be set, and what it then is.
//!
//! ```text
//! campanile.toml  <  environment  <  flags  ──►  Raw  ──►  Config
//! ```
//! [`Raw`] is what was typed, each value with the place it was typed at; [`Config`] is what may run. Not here: what
//! the settings do. Invariants: a [`Config`] exists only validated; every refusal names the key and where its value
//! came from; nothing else reads the environment.

mod address;
mod error;
mod file;
mod keys;
mod raw;
mod validated;

pub use address::{Address, BadAddress};
pub use error::{ConfigError, Origin};
pub use keys::{Allowed, KEYS, Key, Unit, table};
pub use raw::Raw;
pub use validated::Config;

//! Why the server does not start, or does not go on.

use std::{io, path::PathBuf};

use crate::{config::Address, engine};

/// Why the server ended without having been asked to. Its sources are not in its text: show the whole chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A port is in use, or its address is not one of this machine.
    #[error("cannot listen on {address} ({key})")]
    Bind {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: Address,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The data directory cannot be used, or another process uses it and there is no other instance to stand by for.
    #[error("cannot open the store in {} (data_dir)", data_dir.display())]
    Open {
        /// The directory.
        data_dir: PathBuf,
        /// What the engine says; it names the path.
        #[source]
        source: Box<engine::OpenError>,
    },
    /// An instance has no address that a request could be sent to.
    #[error("{target} (backend_targets) cannot be an instance")]
    Target {
        /// The entry.
        target: Address,
        /// What is wrong with it.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// A signal cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// One of the server's own tasks failed.
    #[error("the {task} failed")]
    Task {
        /// Which one.
        task: &'static str,
        /// What happened to it.
        #[source]
        source: tokio::task::JoinError,
    },
}

//! Compiles the protos without protoc, and keeps their descriptors for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(["proto/message.proto", "proto/campanile/v1/broker.proto"], ["proto"])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // A payload is a part of what the connection read, not a copy of it.
        .bytes(".campanile.v1")
        // Attributes come in the order of their names.
        .btree_map(".campanile.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::engine::fuzzing::dedup_ids(bytes));

//! Arbitrary bytes where there should be ours. `tests/fuzz` has the same for a fuzzer that watches which code they reach.

use proptest::prelude::*;

use crate::engine::fuzzing::{block, dedup_ids, import_line, manifest, records};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        records(&bytes);
        manifest(&bytes);
        dedup_ids(&bytes);
        block(&bytes);
        import_line(&bytes);
    }

    /// Small numbers are more often counts and lengths that make sense.
    #[test]
    fn small_numbers_are_read_without_a_panic(bytes in proptest::collection::vec(0..20_u8, 0..400)) {
        records(&bytes);
        manifest(&bytes);
        dedup_ids(&bytes);
        block(&bytes);
    }

    #[test]
    fn lines_that_are_nearly_messages_are_read_without_a_panic(
        text in r#"\{("(id|topic|payload|timestamp|reply_to)":("[a-z./_0-9-]{0,40}"|[0-9.e-]{1,9}|null|\{\}),?){0,5}\}?"#,
    ) {
        import_line(text.as_bytes());
    }
}

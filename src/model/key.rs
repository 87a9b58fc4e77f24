//! What tells one ordering key from another.

use std::num::NonZeroU64;

/// The hash of an ordering key: FNV-1a with 64 bits, which is part of the format on disk. Keys of one hash wait for each
/// other as if they were one, which does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub NonZeroU64);

impl KeyHash {
    /// The hash of this key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = key.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }

    /// As it stands on disk, where 0 is no key.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// What [`KeyHash::from_bits`] takes.
    #[must_use]
    pub fn bits(key: Option<Self>) -> u64 {
        key.map_or(0, |key| key.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_format() {
        // From the specification of FNV-1a: draft-eastlake-fnv, appendix C.
        assert_eq!(KeyHash::of("a").0.get(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(KeyHash::of("foobar").0.get(), 0x8594_4171_f739_67e8);
        assert_eq!(KeyHash::from_bits(KeyHash::bits(Some(KeyHash::of("x")))), Some(KeyHash::of("x")));
        assert_eq!(KeyHash::from_bits(KeyHash::bits(None)), None);
    }
}

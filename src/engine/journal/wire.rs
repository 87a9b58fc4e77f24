//! Reading and writing the parts of a record. Nothing is allocated by a length that was not checked first.

use crate::model::Name;

/// Appends a text: length u32, bytes.
pub(in crate::engine) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("texts are far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Takes bytes off the front, and says so when there are too few.
#[derive(Debug)]
pub(in crate::engine) struct Reader<'a>(&'a [u8]);

type Result<T> = std::result::Result<T, &'static str>;

impl<'a> Reader<'a> {
    pub(in crate::engine) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(in crate::engine) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(in crate::engine) fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(bytes).ok_or("ends too early")?;
        self.0 = rest;
        Ok(front)
    }

    pub(in crate::engine) fn skip(&mut self, bytes: usize) -> Result<()> {
        self.take(bytes).map(drop)
    }

    pub(in crate::engine) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk().ok_or("ends too early")?;
        self.0 = rest;
        Ok(*front)
    }

    pub(in crate::engine) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(in crate::engine) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::engine) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::engine) fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "has a text that is not UTF-8")
    }

    pub(in crate::engine) fn name(&mut self) -> Result<Name> {
        Name::parse(&self.text()?).map_err(|_| "has an invalid name")
    }

    pub(in crate::engine) fn optional_name(&mut self) -> Result<Option<Name>> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        Name::parse(&text).map(Some).map_err(|_| "has an invalid name")
    }

    pub(in crate::engine) fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err("is longer than its type") }
    }
}

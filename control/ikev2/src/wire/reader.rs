//! A cursor over the body of one payload: every read is checked, none allocates.

use super::{PayloadType, WireError};

/// What is left of a payload's body.
pub(super) struct Reader<'a> {
    payload: PayloadType,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `body`; errors name `payload`.
    pub(super) fn new(payload: PayloadType, body: &'a [u8]) -> Self {
        Self { payload, rest: body }
    }

    /// The error for contents that make no sense.
    pub(super) fn malformed(&self) -> WireError {
        WireError::Malformed(self.payload)
    }

    /// The error for a list above its limit.
    pub(super) fn too_many(&self) -> WireError {
        WireError::TooMany(self.payload)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` octets.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` octets.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The octets of a substructure whose length field, just read, counts the `read` octets
    /// before this point as well.
    pub(super) fn substructure(&mut self, len: u16, read: usize) -> Result<Reader<'a>, WireError> {
        let len = usize::from(len).checked_sub(read).ok_or(self.malformed())?;
        Ok(Self { payload: self.payload, rest: self.take(len)? })
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn finish(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// A length as its 16-bit field.
pub(super) fn length16(len: usize, payload: PayloadType) -> Result<[u8; 2], WireError> {
    match u16::try_from(len) {
        Ok(len) => Ok(len.to_be_bytes()),
        Err(_) => Err(WireError::TooLong(payload)),
    }
}

/// A count or length as its 8-bit field.
pub(super) fn length8(len: usize, payload: PayloadType) -> Result<u8, WireError> {
    u8::try_from(len).map_err(|_large| WireError::TooLong(payload))
}

/// Writes what `body` writes, then sets the 16-bit length at `at` octets from where it began.
pub(super) fn with_length(
    out: &mut Vec<u8>,
    at: usize,
    payload: PayloadType,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    body(out)?;
    let length = length16(out.len() - start, payload)?;
    match out.get_mut(start + at..start + at + 2) {
        Some(field) => field.copy_from_slice(&length),
        None => return Err(WireError::Malformed(payload)),
    }
    Ok(())
}

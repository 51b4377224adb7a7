//! Octets that must not leak: wiped when dropped, hidden in `Debug`, compared in constant time.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Secret octets of any length.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of `octets`; they are wiped with the result.
    #[must_use]
    pub fn from_vec(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Copies `octets`; the caller's copy remains the caller's to wipe.
    #[must_use]
    pub fn from_slice(octets: &[u8]) -> Self {
        Self::from_vec(octets.to_vec())
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in octets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the octets of `other`. The caller has reserved the capacity.
    pub(crate) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(other.as_bytes());
    }

    /// Wipes everything past the first `len` octets.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.0.get_mut(len..) {
            rest.zeroize();
        }
        self.0.truncate(len);
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(octets: Vec<u8>) -> Self {
        Self::from_vec(octets)
    }
}

impl From<&[u8]> for Secret {
    fn from(octets: &[u8]) -> Self {
        Self::from_slice(octets)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} octets)", self.len())
    }
}

/// Whether two strings of octets are the same. Takes a time that depends on the lengths only.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_octets() {
        let secret = Secret::from_slice(b"correct horse");
        assert_eq!(format!("{secret:?}"), "Secret(13 octets)");
    }

    #[test]
    fn equality_needs_equal_length() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"abcd"));
        assert!(!constant_time_eq(b"", b"a"));
        assert_ne!(Secret::from_slice(b"a"), Secret::default());
    }

    #[test]
    fn truncation_keeps_the_front() {
        let mut secret = Secret::from_slice(b"abcdef");
        secret.truncate(2);
        assert_eq!(secret.as_bytes(), b"ab");
        secret.truncate(9);
        assert_eq!(secret.as_bytes(), b"ab");
    }
}

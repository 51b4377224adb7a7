//! Where our own kernel cannot be built: there is no key for it.

use crate::{Algorithm, Form};

/// There is none.
pub(crate) enum Cipher {}

impl Cipher {
    pub(crate) fn new(_: Algorithm, _: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn with_form(_: Form, _: Algorithm, _: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) const fn form(&self) -> Form {
        match *self {}
    }

    pub(crate) fn prefetch(&self) {
        match *self {}
    }

    pub(crate) fn seal(
        &self,
        _: &[u8; 12],
        _: &[u8],
        _: &[u8],
        _: Option<[u8; 8]>,
        _: &mut [u8],
    ) -> Option<()> {
        match *self {}
    }

    pub(crate) fn open(&self, _: &[u8; 12], _: &[u8], _: &[u8], _: &mut [u8]) -> Option<()> {
        match *self {}
    }
}

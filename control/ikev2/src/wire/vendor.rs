//! The Vendor ID payload (RFC 7296 section 3.12).

/// Any octets that somebody recognises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorId(pub Vec<u8>);

impl VendorId {
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(body.to_vec())
    }
}

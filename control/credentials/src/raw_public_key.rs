//! Public keys without a certificate: `pubkeys` of a configuration, RFC 7670.

use crate::certificate_error::{CertificateError, CertificateFault, FileError};
use crate::pem;
use xswan_ike_crypto::sha1;
use xswan_ike_crypto::signature::{KeyType, PublicKey, SignatureError};

/// A SubjectPublicKeyInfo that holds a usable key.
///
/// Equal only as a whole: algorithm, parameters and every octet of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPublicKey {
    spki: Vec<u8>,
    key_type: KeyType,
}

/// The word for a key that is not usable.
pub(crate) fn key_fault(error: SignatureError) -> CertificateFault {
    CertificateFault::PublicKey(match error {
        SignatureError::KeyUnsupported => "neither RSA, ECDSA (P-256, P-384, P-521) nor Ed25519",
        SignatureError::KeySize(_) => "RSA modulus outside 2048 to 8192 bits",
        SignatureError::Exponent => "RSA exponent even, 1 or too large",
        SignatureError::KeyEncoding
        | SignatureError::AuthData
        | SignatureError::Method(_)
        | SignatureError::Algorithm
        | SignatureError::SchemeRefused(_)
        | SignatureError::KeyMismatch(_)
        | SignatureError::Invalid
        | SignatureError::Backend => "it does not decode",
    })
}

impl RawPublicKey {
    /// A key in DER.
    ///
    /// # Errors
    /// [`CertificateFault::PublicKey`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, CertificateError> {
        let key = PublicKey::from_spki(spki).map_err(key_fault)?;
        Ok(Self { spki: spki.to_vec(), key_type: key.key_type() })
    }

    /// The key of a file, DER or PEM.
    ///
    /// # Errors
    /// Files with anything but one public key.
    pub fn from_file(file: &[u8]) -> Result<Self, FileError> {
        let sections = pem::sections(file, 1)?;
        let section = sections.first().ok_or(FileError::NoObject)?;
        match section.label.as_deref() {
            None | Some("PUBLIC KEY") => Ok(Self::from_spki(&section.der)?),
            Some(label) => Err(FileError::WrongObject(label.to_owned())),
        }
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Type and size.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// SHA-1 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn key_id(&self) -> [u8; 20] {
        sha1(&[&self.spki])
    }
}

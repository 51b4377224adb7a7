//! Private keys of this gateway, and which certificate each belongs to.

use crate::certificate::Certificate;
use crate::certificate_error::FileError;
use crate::pem;
use std::fmt;
use std::sync::Arc;
use xswan_ike_crypto::signature::{PrivateKey, SignatureError};

/// Longest file of a private key: one of 8192 bits needs 6.5 kB as text.
const FILE_OCTETS_MAX: usize = 64 * 1024;
/// Objects in one file: EC keys come with a separate object for their parameters.
const FILE_OBJECTS_MAX: usize = 4;

/// Every private key there is.
#[derive(Clone, Default)]
pub struct PrivateKeyStore(Vec<Entry>);

#[derive(Clone)]
struct Entry {
    spki: Vec<u8>,
    key: Arc<PrivateKey>,
}

impl PrivateKeyStore {
    /// Adds the key of a file: PKCS#8, PKCS#1 or SEC1, DER or PEM, not encrypted. The caller
    /// wipes `file`.
    ///
    /// # Errors
    /// Encrypted keys, files with none or several, keys of no supported kind or size.
    pub fn add_file(&mut self, file: &[u8]) -> Result<(), FileError> {
        if file.len() > FILE_OCTETS_MAX {
            return Err(FileError::TooLong);
        }
        let mut found = None;
        for section in pem::sections(file, FILE_OBJECTS_MAX)? {
            match section.label.as_deref() {
                None | Some("PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY")
                    if found.is_none() =>
                {
                    found = Some(section.der);
                }
                Some("EC PARAMETERS") => {}
                Some("ENCRYPTED PRIVATE KEY") => return Err(FileError::Encrypted),
                Some(label) => return Err(FileError::WrongObject(label.to_owned())),
                None => return Err(FileError::TooLong),
            }
        }
        let der = found.ok_or(FileError::NoObject)?;
        if is_encrypted(&der) {
            return Err(FileError::Encrypted);
        }
        let key = PrivateKey::from_der(&der).map_err(fault)?;
        self.add(key)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// A key whose public half cannot be had.
    pub fn add(&mut self, key: PrivateKey) -> Result<(), FileError> {
        let spki = key.public_spki().map_err(fault)?;
        if self.find(&spki).is_none() {
            self.0.push(Entry { spki, key: Arc::new(key) });
        }
        Ok(())
    }

    /// The key to a SubjectPublicKeyInfo: of a certificate or of a raw public key.
    #[must_use]
    pub fn find(&self, spki: &[u8]) -> Option<&Arc<PrivateKey>> {
        self.0.iter().find(|entry| entry.spki == spki).map(|entry| &entry.key)
    }

    /// The key to a certificate.
    #[must_use]
    pub fn of_certificate(&self, certificate: &Certificate) -> Option<&Arc<PrivateKey>> {
        self.find(certificate.spki_der())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PrivateKeyStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PrivateKeyStore({} keys)", self.0.len())
    }
}

/// EncryptedPrivateKeyInfo (RFC 5958 §3) begins with an algorithm, all others with a version.
fn is_encrypted(der: &[u8]) -> bool {
    let length_octets = match der.get(1) {
        Some(long) if *long > 0x80 => usize::from(long & 0x7f),
        _ => 0,
    };
    der.get(2 + length_octets) == Some(&0x30)
}

fn fault(error: SignatureError) -> FileError {
    FileError::PrivateKey(match error {
        SignatureError::KeyUnsupported => "neither RSA, ECDSA (P-256, P-384, P-521) nor Ed25519",
        SignatureError::KeySize(_) => "RSA modulus of an unsupported size",
        SignatureError::Exponent => "RSA exponent even, 1 or too large",
        SignatureError::KeyEncoding
        | SignatureError::AuthData
        | SignatureError::Method(_)
        | SignatureError::Algorithm
        | SignatureError::SchemeRefused(_)
        | SignatureError::KeyMismatch(_)
        | SignatureError::Invalid
        | SignatureError::Backend => "it does not decode, or its parts contradict each other",
    })
}

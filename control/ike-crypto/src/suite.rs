//! What a proposal came to: the transforms of an IKE SA, their lengths and their names.
//!
//! A [`Suite`] that exists is sound: a combined-mode cipher comes without a separate integrity
//! algorithm and any other cipher with one (RFC 7296 section 3.3, RFC 5282 section 8).

use std::fmt;

use crate::group::Group;
use crate::prf::Prf;

/// An encryption transform (type 1), its key length included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encryption {
    /// AES-GCM with a 16-octet ICV (20), 128-bit key.
    Aes128Gcm16,
    /// AES-GCM with a 16-octet ICV (20), 192-bit key.
    Aes192Gcm16,
    /// AES-GCM with a 16-octet ICV (20), 256-bit key.
    Aes256Gcm16,
    /// ChaCha20-Poly1305 (28), which has no key length attribute.
    ChaCha20Poly1305,
    /// AES-CBC (12), 128-bit key.
    Aes128Cbc,
    /// AES-CBC (12), 192-bit key.
    Aes192Cbc,
    /// AES-CBC (12), 256-bit key.
    Aes256Cbc,
}

impl Encryption {
    /// Every encryption transform.
    pub const ALL: [Self; 7] = [
        Self::Aes128Gcm16,
        Self::Aes192Gcm16,
        Self::Aes256Gcm16,
        Self::ChaCha20Poly1305,
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
    ];

    /// The transform with this id and key length attribute in bits.
    ///
    /// AES needs the attribute, ChaCha20-Poly1305 must not have it (RFC 7634 section 4).
    #[must_use]
    pub const fn from_transform_id(id: u16, key_bits: Option<u16>) -> Option<Self> {
        match (id, key_bits) {
            (20, Some(128)) => Some(Self::Aes128Gcm16),
            (20, Some(192)) => Some(Self::Aes192Gcm16),
            (20, Some(256)) => Some(Self::Aes256Gcm16),
            (28, None) => Some(Self::ChaCha20Poly1305),
            (12, Some(128)) => Some(Self::Aes128Cbc),
            (12, Some(192)) => Some(Self::Aes192Cbc),
            (12, Some(256)) => Some(Self::Aes256Cbc),
            _ => None,
        }
    }

    /// Its transform id.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Aes128Gcm16 | Self::Aes192Gcm16 | Self::Aes256Gcm16 => 20,
            Self::ChaCha20Poly1305 => 28,
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => 12,
        }
    }

    /// The key length attribute in bits, where the transform has one.
    #[must_use]
    pub const fn key_bits(self) -> Option<u16> {
        match self {
            Self::Aes128Gcm16 | Self::Aes128Cbc => Some(128),
            Self::Aes192Gcm16 | Self::Aes192Cbc => Some(192),
            Self::Aes256Gcm16 | Self::Aes256Cbc => Some(256),
            Self::ChaCha20Poly1305 => None,
        }
    }

    /// Its name in listings, key length included.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "AES_GCM_16-128",
            Self::Aes192Gcm16 => "AES_GCM_16-192",
            Self::Aes256Gcm16 => "AES_GCM_16-256",
            Self::ChaCha20Poly1305 => "CHACHA20_POLY1305",
            Self::Aes128Cbc => "AES_CBC-128",
            Self::Aes192Cbc => "AES_CBC-192",
            Self::Aes256Cbc => "AES_CBC-256",
        }
    }

    /// Whether the cipher authenticates too and takes no integrity transform.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        match self {
            Self::Aes128Gcm16 | Self::Aes192Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => {
                true
            }
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => false,
        }
    }

    /// Octets of the cipher's key, without salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 | Self::Aes128Cbc => 16,
            Self::Aes192Gcm16 | Self::Aes192Cbc => 24,
            Self::Aes256Gcm16 | Self::Aes256Cbc | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Octets of salt that follow the key in the key material (RFC 5282 section 7.1).
    #[must_use]
    pub const fn salt_len(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// Octets of key material: key and salt.
    #[must_use]
    pub const fn keymat_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Octets of IV on the wire.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        if self.is_aead() { 8 } else { 16 }
    }
}

/// An integrity transform (type 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// AUTH_HMAC_SHA2_256_128, 12.
    HmacSha256_128,
    /// AUTH_HMAC_SHA2_384_192, 13.
    HmacSha384_192,
    /// AUTH_HMAC_SHA2_512_256, 14.
    HmacSha512_256,
}

impl Integrity {
    /// Every integrity transform, in order of transform id.
    pub const ALL: [Self; 3] = [Self::HmacSha256_128, Self::HmacSha384_192, Self::HmacSha512_256];

    /// The transform with this id.
    #[must_use]
    pub const fn from_transform_id(id: u16) -> Option<Self> {
        match id {
            12 => Some(Self::HmacSha256_128),
            13 => Some(Self::HmacSha384_192),
            14 => Some(Self::HmacSha512_256),
            _ => None,
        }
    }

    /// Its transform id.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::HmacSha256_128 => 12,
            Self::HmacSha384_192 => 13,
            Self::HmacSha512_256 => 14,
        }
    }

    /// Its name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256_128 => "HMAC_SHA2_256_128",
            Self::HmacSha384_192 => "HMAC_SHA2_384_192",
            Self::HmacSha512_256 => "HMAC_SHA2_512_256",
        }
    }

    /// Octets of its key (RFC 4868 section 2.1.1).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256_128 => 32,
            Self::HmacSha384_192 => 48,
            Self::HmacSha512_256 => 64,
        }
    }

    /// Octets of the ICV: half the output.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        self.key_len() / 2
    }
}

/// The transforms of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suite {
    encryption: Encryption,
    integrity: Option<Integrity>,
    prf: Prf,
    group: Group,
    additional: [Option<Group>; 7],
}

/// Why transforms do not make a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuiteError {
    /// A transform id, or its key length, is not one we know.
    UnknownTransform {
        /// Transform type: 1 encryption, 2 prf, 3 integrity, 4 key exchange.
        kind: u8,
        /// Transform id.
        id: u16,
    },
    /// A combined-mode cipher came with a separate integrity algorithm.
    AeadWithIntegrity,
    /// A cipher that does not authenticate came without an integrity algorithm.
    IntegrityMissing,
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTransform { kind, id } => {
                write!(f, "unknown transform {id} of type {kind}, or a key length it cannot have")
            }
            Self::AeadWithIntegrity => {
                f.write_str("a combined-mode cipher takes no separate integrity algorithm")
            }
            Self::IntegrityMissing => f.write_str("the cipher needs an integrity algorithm"),
        }
    }
}

impl std::error::Error for SuiteError {}

impl Suite {
    /// A suite with one key exchange.
    ///
    /// # Errors
    ///
    /// A cipher and an integrity algorithm that do not go together.
    pub const fn new(
        encryption: Encryption,
        integrity: Option<Integrity>,
        prf: Prf,
        group: Group,
    ) -> Result<Self, SuiteError> {
        match (encryption.is_aead(), integrity.is_some()) {
            (true, true) => Err(SuiteError::AeadWithIntegrity),
            (false, false) => Err(SuiteError::IntegrityMissing),
            (true, false) | (false, true) => {
                Ok(Self { encryption, integrity, prf, group, additional: [None; 7] })
            }
        }
    }

    /// The suite these transform ids stand for; integrity 0 is NONE.
    ///
    /// # Errors
    ///
    /// An unknown id or key length, or transforms that do not go together.
    pub fn from_transform_ids(
        (encryption, key_bits): (u16, Option<u16>),
        integrity: Option<u16>,
        prf: u16,
        group: u16,
    ) -> Result<Self, SuiteError> {
        let unknown = |kind, id| SuiteError::UnknownTransform { kind, id };
        let integrity = match integrity {
            None | Some(0) => None,
            Some(id) => Some(Integrity::from_transform_id(id).ok_or(unknown(3, id))?),
        };
        Self::new(
            Encryption::from_transform_id(encryption, key_bits).ok_or(unknown(1, encryption))?,
            integrity,
            Prf::from_transform_id(prf).ok_or(unknown(2, prf))?,
            Group::from_transform_id(group).ok_or(unknown(4, group))?,
        )
    }

    /// The same suite with the additional key exchanges of RFC 9370: element 0 is ADDKE1
    /// (transform type 6), `None` where it was not negotiated or is NONE.
    #[must_use]
    pub const fn with_additional(mut self, additional: [Option<Group>; 7]) -> Self {
        self.additional = additional;
        self
    }

    /// The cipher.
    #[must_use]
    pub const fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// The integrity algorithm, `None` with a combined-mode cipher.
    #[must_use]
    pub const fn integrity(&self) -> Option<Integrity> {
        self.integrity
    }

    /// The prf.
    #[must_use]
    pub const fn prf(&self) -> Prf {
        self.prf
    }

    /// The key exchange of IKE_SA_INIT, or of the rekey.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.group
    }

    /// The additional key exchanges in their order, those not negotiated left out.
    pub fn additional(&self) -> impl Iterator<Item = Group> + '_ {
        self.additional.iter().copied().flatten()
    }

    /// Octets of SK_ai and of SK_ar: none with a combined-mode cipher.
    #[must_use]
    pub const fn integrity_key_len(&self) -> usize {
        match self.integrity {
            Some(integrity) => integrity.key_len(),
            None => 0,
        }
    }
}

impl fmt::Display for Suite {
    /// `AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/CURVE_25519/KE1_ML_KEM_768`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encryption.name())?;
        if let Some(integrity) = self.integrity {
            write!(f, "/{}", integrity.name())?;
        }
        write!(f, "/{}/{}", self.prf, self.group)?;
        for (slot, group) in (1..).zip(&self.additional) {
            if let Some(group) = group {
                write!(f, "/KE{slot}_{group}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_names() {
        let suite = Suite::from_transform_ids((20, Some(128)), None, 5, 31).unwrap();
        assert_eq!(suite.to_string(), "AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519");
        let suite = Suite::from_transform_ids((12, Some(256)), Some(12), 5, 14).unwrap();
        assert_eq!(suite.to_string(), "AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048");
        let suite =
            Suite::from_transform_ids((28, None), Some(0), 7, 31).unwrap().with_additional([
                Some(Group::MlKem768),
                None,
                Some(Group::EcpP384),
                None,
                None,
                None,
                None,
            ]);
        assert_eq!(
            suite.to_string(),
            "CHACHA20_POLY1305/PRF_HMAC_SHA2_512/CURVE_25519/KE1_ML_KEM_768/KE3_ECP_384"
        );
        assert_eq!(suite.additional().count(), 2);
    }

    #[test]
    fn ike_08_private_and_unknown_ids_make_no_suite() {
        for id in [0, 1, 13, 17, 32, 1023, 1024, 65535] {
            assert!(Suite::from_transform_ids((20, Some(128)), None, 5, id).is_err(), "{id}");
        }
        for id in [0, 1, 2, 4, 8, 1024, 65535] {
            assert!(Suite::from_transform_ids((20, Some(128)), None, id, 31).is_err(), "{id}");
        }
    }

    #[test]
    fn ike_09_key_lengths_and_integrity() {
        for key_bits in [None, Some(0), Some(1), Some(129), Some(512), Some(u16::MAX)] {
            assert_eq!(
                Suite::from_transform_ids((20, key_bits), None, 5, 31),
                Err(SuiteError::UnknownTransform { kind: 1, id: 20 })
            );
        }
        for id in [0, 11, 21, 1024] {
            assert!(Suite::from_transform_ids((id, Some(128)), None, 5, 31).is_err());
        }
        assert!(Suite::from_transform_ids((28, Some(256)), None, 5, 31).is_err());
        assert_eq!(
            Suite::from_transform_ids((20, Some(128)), Some(12), 5, 31),
            Err(SuiteError::AeadWithIntegrity)
        );
        assert_eq!(
            Suite::from_transform_ids((12, Some(128)), Some(0), 5, 31),
            Err(SuiteError::IntegrityMissing)
        );
        assert_eq!(
            Suite::from_transform_ids((12, Some(128)), Some(2), 5, 31),
            Err(SuiteError::UnknownTransform { kind: 3, id: 2 })
        );
    }

    #[test]
    fn ids_round_trip() {
        for encryption in Encryption::ALL {
            assert_eq!(
                Encryption::from_transform_id(encryption.id(), encryption.key_bits()),
                Some(encryption)
            );
        }
        for integrity in Integrity::ALL {
            assert_eq!(Integrity::from_transform_id(integrity.id()), Some(integrity));
        }
        for prf in Prf::ALL {
            assert_eq!(Prf::from_transform_id(prf.id()), Some(prf));
        }
        for group in Group::ALL {
            assert_eq!(Group::from_transform_id(group.id()), Some(group));
        }
    }
}

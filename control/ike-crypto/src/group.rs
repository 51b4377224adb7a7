//! Key exchange methods (transform type 4): numbers, names and lengths.

use std::fmt;

/// A key exchange method, Diffie-Hellman or KEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// 2048-bit MODP (RFC 3526), 14.
    Modp2048,
    /// 3072-bit MODP (RFC 3526), 15.
    Modp3072,
    /// 4096-bit MODP (RFC 3526), 16.
    Modp4096,
    /// P-256 (RFC 5903), 19.
    EcpP256,
    /// P-384 (RFC 5903), 20.
    EcpP384,
    /// P-521 (RFC 5903), 21.
    EcpP521,
    /// X25519 (RFC 8031), 31.
    Curve25519,
    /// ML-KEM-512, 35.
    MlKem512,
    /// ML-KEM-768, 36.
    MlKem768,
    /// ML-KEM-1024, 37.
    MlKem1024,
}

impl Group {
    /// Every method, in order of transform id.
    pub const ALL: [Self; 10] = [
        Self::Modp2048,
        Self::Modp3072,
        Self::Modp4096,
        Self::EcpP256,
        Self::EcpP384,
        Self::EcpP521,
        Self::Curve25519,
        Self::MlKem512,
        Self::MlKem768,
        Self::MlKem1024,
    ];

    /// The method with this transform id.
    #[must_use]
    pub const fn from_transform_id(id: u16) -> Option<Self> {
        match id {
            14 => Some(Self::Modp2048),
            15 => Some(Self::Modp3072),
            16 => Some(Self::Modp4096),
            19 => Some(Self::EcpP256),
            20 => Some(Self::EcpP384),
            21 => Some(Self::EcpP521),
            31 => Some(Self::Curve25519),
            35 => Some(Self::MlKem512),
            36 => Some(Self::MlKem768),
            37 => Some(Self::MlKem1024),
            _ => None,
        }
    }

    /// Its transform id.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::EcpP256 => 19,
            Self::EcpP384 => 20,
            Self::EcpP521 => 21,
            Self::Curve25519 => 31,
            Self::MlKem512 => 35,
            Self::MlKem768 => 36,
            Self::MlKem1024 => 37,
        }
    }

    /// Its name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Modp2048 => "MODP_2048",
            Self::Modp3072 => "MODP_3072",
            Self::Modp4096 => "MODP_4096",
            Self::EcpP256 => "ECP_256",
            Self::EcpP384 => "ECP_384",
            Self::EcpP521 => "ECP_521",
            Self::Curve25519 => "CURVE_25519",
            Self::MlKem512 => "ML_KEM_512",
            Self::MlKem768 => "ML_KEM_768",
            Self::MlKem1024 => "ML_KEM_1024",
        }
    }

    /// Octets of Key Exchange Data the initiator sends.
    #[must_use]
    pub const fn request_len(self) -> usize {
        match self {
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::EcpP256 => 64,
            Self::EcpP384 => 96,
            Self::EcpP521 => 132,
            Self::Curve25519 => 32,
            Self::MlKem512 => 800,
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Octets of Key Exchange Data the responder sends: less than the request for KEMs only.
    #[must_use]
    pub const fn response_len(self) -> usize {
        match self {
            Self::MlKem512 => 768,
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
            Self::Modp2048
            | Self::Modp3072
            | Self::Modp4096
            | Self::EcpP256
            | Self::EcpP384
            | Self::EcpP521
            | Self::Curve25519 => self.request_len(),
        }
    }

    /// Octets of the shared secret.
    #[must_use]
    pub const fn secret_len(self) -> usize {
        match self {
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::EcpP384 => 48,
            Self::EcpP521 => 66,
            Self::EcpP256
            | Self::Curve25519
            | Self::MlKem512
            | Self::MlKem768
            | Self::MlKem1024 => 32,
        }
    }

    /// Whether this is a KEM: the two sides send different things.
    #[must_use]
    pub const fn is_kem(self) -> bool {
        match self {
            Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => true,
            Self::Modp2048
            | Self::Modp3072
            | Self::Modp4096
            | Self::EcpP256
            | Self::EcpP384
            | Self::EcpP521
            | Self::Curve25519 => false,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

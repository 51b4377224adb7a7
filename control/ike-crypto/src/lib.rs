//! What IKEv2 computes: prf, key exchange, SK ciphers, signatures.
//!
//! The one crate of key management that links cryptographic libraries. It knows the octets of
//! transforms (RFC 7296, 5282, 7427, 8784, 9370) and nothing of messages, peers or time; what
//! it is given may come from anybody, so every failure is a value and none a panic.
//!
//! Octets the protocol draws (nonces, private values, CBC IVs) come from the caller's
//! [`Random`], so that a run can be replayed. Three draws the back-end makes itself and keeps:
//! ML-KEM seeds, the nonces of ECDSA and the salts of RSA-PSS.
//!
//! Secrets are wiped when dropped, never printed, and compared in constant time ([`Secret`]).
#![forbid(unsafe_code)]

pub mod digest;
pub mod group;
pub mod kex;
pub mod keymat;
pub mod prf;
mod random;
mod secret;
pub mod self_test;
pub mod signature;
pub mod sk_cipher;
pub mod suite;

pub use digest::{HashAlgorithm, hmac_sha256, sha1, sha256};
pub use group::Group;
pub use kex::{KeError, KeyExchange, respond};
pub use keymat::{IkeKeys, KeymatError, Skeyseed, child_keymat, shared_key_auth};
pub use prf::{Prf, PrfPlusTooLong};
pub use random::{Random, SystemRandom};
pub use secret::{Secret, constant_time_eq};
pub use self_test::{SelfTestError, self_test};
pub use signature::{
    KeyType, PrivateKey, PublicKey, SignatureError, SignaturePolicy, SignatureScheme, encode_auth,
    parse_auth, verify,
};
pub use sk_cipher::{SkCipher, SkError};
pub use suite::{Encryption, Integrity, Suite, SuiteError};

#[cfg(test)]
mod testing {
    //! Octets as the RFCs print them.

    /// Panics on anything but pairs of hexadecimal digits and white space.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits = text.chars().filter(|c| !c.is_whitespace());
        let digits: Vec<u32> = digits.map(|c| c.to_digit(16).unwrap()).collect();
        assert!(digits.len().is_multiple_of(2));
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    /// A known answer of `fixtures/vectors.txt`, which another implementation computed.
    pub(crate) fn vector(name: &str) -> Vec<u8> {
        let line = include_str!("../fixtures/vectors.txt")
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        hex(line.unwrap_or_else(|| panic!("no vector {name}")))
    }
}

//! ML-KEM (FIPS 203): the initiator sends the encapsulation key, the responder a ciphertext.
//!
//! A ciphertext of the right length never fails to open; a changed one gives another secret
//! (implicit rejection), and AUTH fails.

use aws_lc_rs::kem::{
    self, Algorithm, AlgorithmId, Ciphertext, DecapsulationKey, EncapsulationKey,
};

use super::KeError;
use crate::group::Group;
use crate::secret::Secret;

pub(super) struct PrivateValue(DecapsulationKey<AlgorithmId>);

pub(super) fn generate(group: Group) -> Result<(PrivateValue, Vec<u8>), KeError> {
    let algorithm = algorithm(group).ok_or(KeError::Backend)?;
    let private = DecapsulationKey::generate(algorithm).map_err(|_| KeError::Backend)?;
    let public = private
        .encapsulation_key()
        .and_then(|key| key.key_bytes())
        .map_err(|_| KeError::Backend)?
        .as_ref()
        .to_vec();
    Ok((PrivateValue(private), public))
}

/// Length of `peer` checked before.
pub(super) fn seal(group: Group, peer: &[u8]) -> Result<(Vec<u8>, Secret), KeError> {
    let algorithm = algorithm(group).ok_or(KeError::Backend)?;
    // The modulus check of FIPS 203 section 7.2 happens in here.
    let (ciphertext, secret) = EncapsulationKey::new(algorithm, peer)
        .map_err(|_| KeError::Value { group })?
        .encapsulate()
        .map_err(|_| KeError::Value { group })?;
    Ok((ciphertext.as_ref().to_vec(), Secret::from_slice(secret.as_ref())))
}

/// Length of `peer` checked before.
pub(super) fn open(private: &PrivateValue, peer: &[u8]) -> Result<Secret, KeError> {
    let secret = private.0.decapsulate(Ciphertext::from(peer)).map_err(|_| KeError::Backend)?;
    Ok(Secret::from_slice(secret.as_ref()))
}

const fn algorithm(group: Group) -> Option<&'static Algorithm<AlgorithmId>> {
    match group {
        Group::MlKem512 => Some(&kem::ML_KEM_512),
        Group::MlKem768 => Some(&kem::ML_KEM_768),
        Group::MlKem1024 => Some(&kem::ML_KEM_1024),
        Group::Modp2048
        | Group::Modp3072
        | Group::Modp4096
        | Group::EcpP256
        | Group::EcpP384
        | Group::EcpP521
        | Group::Curve25519 => None,
    }
}

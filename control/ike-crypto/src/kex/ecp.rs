//! P-256, P-384, P-521 (RFC 5903: x and y on the wire, x as the secret) and X25519 (RFC 8031).

use aws_lc_rs::agreement::{self, Algorithm, PrivateKey, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::KeError;
use crate::group::Group;
use crate::random::Random;
use crate::secret::{Secret, constant_time_eq};

/// Tries to draw a scalar below the group order. One draw misses with probability below
/// 2^-32 on all three curves: only a generator that is stuck uses them up.
const DRAWS: usize = 16;
/// First octet of a point whose two coordinates follow (SEC 1 section 2.3.3); not on IKE's wire.
const UNCOMPRESSED: u8 = 4;

pub(super) struct PrivateValue(PrivateKey);

pub(super) fn generate(
    group: Group,
    random: &mut dyn Random,
) -> Result<(PrivateValue, Vec<u8>), KeError> {
    let algorithm = algorithm(group).ok_or(KeError::Backend)?;
    let private = draw(group, algorithm, random)?;
    let public = private.compute_public_key().map_err(|_| KeError::Backend)?;
    let public = match (group, public.as_ref()) {
        (Group::Curve25519, octets) | (_, [UNCOMPRESSED, octets @ ..]) => octets.to_vec(),
        _ => return Err(KeError::Backend),
    };
    if public.len() != group.request_len() {
        return Err(KeError::Backend);
    }
    Ok((PrivateValue(private), public))
}

pub(super) fn agree(group: Group, private: &PrivateValue, peer: &[u8]) -> Result<Secret, KeError> {
    let algorithm = algorithm(group).ok_or(KeError::Backend)?;
    let point = if group == Group::Curve25519 {
        peer.to_vec()
    } else {
        // The back-end refuses a point that is not on the curve (RFC 6989 section 2.3).
        [&[UNCOMPRESSED], peer].concat()
    };
    let peer = UnparsedPublicKey::new(algorithm, point);
    let secret = agreement::agree(&private.0, peer, KeError::Value { group }, |octets| {
        Ok(Secret::from_slice(octets))
    })?;
    // A point of small order gives zero (RFC 7748 section 6.1, RFC 8031 section 3.1). The NIST
    // curves have none, and an x of zero is as good as another.
    if group == Group::Curve25519 && constant_time_eq(secret.as_bytes(), &vec![0; secret.len()]) {
        return Err(KeError::Value { group });
    }
    Ok(secret)
}

fn draw(
    group: Group,
    algorithm: &'static Algorithm,
    random: &mut dyn Random,
) -> Result<PrivateKey, KeError> {
    for _ in 0..DRAWS {
        let mut scalar = Zeroizing::new(vec![0; group.secret_len()]);
        random.fill(&mut scalar);
        if let (Group::EcpP521, Some(top)) = (group, scalar.first_mut()) {
            // 521 bits in 66 octets.
            *top &= 1;
        }
        if scalar.iter().all(|&octet| octet == 0) {
            continue;
        }
        if let Ok(private) = PrivateKey::from_private_key(algorithm, &scalar) {
            return Ok(private);
        }
    }
    Err(KeError::Backend)
}

const fn algorithm(group: Group) -> Option<&'static Algorithm> {
    match group {
        Group::EcpP256 => Some(&agreement::ECDH_P256),
        Group::EcpP384 => Some(&agreement::ECDH_P384),
        Group::EcpP521 => Some(&agreement::ECDH_P521),
        Group::Curve25519 => Some(&agreement::X25519),
        Group::Modp2048
        | Group::Modp3072
        | Group::Modp4096
        | Group::MlKem512
        | Group::MlKem768
        | Group::MlKem1024 => None,
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::kex::{KeyExchange, Private};

    /// An exchange with a private value a test vector prescribes.
    pub(crate) fn with_private(group: Group, scalar: &[u8]) -> Option<KeyExchange> {
        let private = PrivateKey::from_private_key(algorithm(group)?, scalar).ok()?;
        Some(KeyExchange { group, private: Private::Curve(PrivateValue(private)) })
    }
}

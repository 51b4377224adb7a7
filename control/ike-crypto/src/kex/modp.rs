//! MODP groups 14, 15 and 16 (RFC 3526): 2^x mod p, p a safe prime.
//!
//! Arithmetic in Montgomery form whose time depends on the group alone. Since (p-1)/2 is prime
//! the only elements of small order are 1 and p-1, so a range check is the whole of RFC 6989
//! section 2.1.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U256, U320, U384, U2048, U3072, U4096, Uint};
use zeroize::{Zeroize, Zeroizing};

use super::KeError;
use crate::group::Group;
use crate::random::Random;
use crate::secret::Secret;

/// Prime of group 14 (RFC 3526 section 3), big endian.
const MODP_2048: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05",
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB",
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718",
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
);
/// Prime of group 15 (RFC 3526 section 4), big endian.
const MODP_3072: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05",
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB",
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718",
    "3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33",
    "A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864",
    "D87602733EC86A64521F2B18177B200CBBE117577A615D6C770988C0BAD946E2",
    "08E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
);
/// Prime of group 16 (RFC 3526 section 5), big endian.
const MODP_4096: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05",
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB",
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718",
    "3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33",
    "A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864",
    "D87602733EC86A64521F2B18177B200CBBE117577A615D6C770988C0BAD946E2",
    "08E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7",
    "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8",
    "DBBBC2DB04DE8EF92E8EFC141FBECAA6287C59474E6BC05D99B2964FA090C3A2",
    "233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9",
    "93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF",
);

/// Twice the strength of the group (RFC 3526 section 8, SP 800-56A appendix D) or more: the
/// best attack on a short exponent costs the square root of their number.
pub(super) enum PrivateValue {
    Modp2048(Zeroizing<U256>),
    Modp3072(Zeroizing<U320>),
    Modp4096(Zeroizing<U384>),
}

static MODULUS_2048: LazyLock<FixedMontyParams<{ U2048::LIMBS }>> =
    LazyLock::new(|| modulus(MODP_2048));
static MODULUS_3072: LazyLock<FixedMontyParams<{ U3072::LIMBS }>> =
    LazyLock::new(|| modulus(MODP_3072));
static MODULUS_4096: LazyLock<FixedMontyParams<{ U4096::LIMBS }>> =
    LazyLock::new(|| modulus(MODP_4096));

pub(super) fn generate(
    group: Group,
    random: &mut dyn Random,
) -> Result<(PrivateValue, Vec<u8>), KeError> {
    let private = match group {
        Group::Modp2048 => PrivateValue::Modp2048(draw(random)),
        Group::Modp3072 => PrivateValue::Modp3072(draw(random)),
        Group::Modp4096 => PrivateValue::Modp4096(draw(random)),
        Group::EcpP256
        | Group::EcpP384
        | Group::EcpP521
        | Group::Curve25519
        | Group::MlKem512
        | Group::MlKem768
        | Group::MlKem1024 => return Err(KeError::Backend),
    };
    let public = match &private {
        PrivateValue::Modp2048(x) => power(&MODULUS_2048, &Uint::from_u8(2), x),
        PrivateValue::Modp3072(x) => power(&MODULUS_3072, &Uint::from_u8(2), x),
        PrivateValue::Modp4096(x) => power(&MODULUS_4096, &Uint::from_u8(2), x),
    };
    Ok((private, public.as_bytes().to_vec()))
}

/// Length of `peer` checked before.
pub(super) fn agree(group: Group, private: &PrivateValue, peer: &[u8]) -> Result<Secret, KeError> {
    let secret = match private {
        PrivateValue::Modp2048(x) => checked_power(&MODULUS_2048, peer, x),
        PrivateValue::Modp3072(x) => checked_power(&MODULUS_3072, peer, x),
        PrivateValue::Modp4096(x) => checked_power(&MODULUS_4096, peer, x),
    };
    secret.ok_or(KeError::Value { group })
}

fn draw<const LIMBS: usize>(random: &mut dyn Random) -> Zeroizing<Uint<LIMBS>> {
    let mut octets = Zeroizing::new(vec![0; LIMBS * size_of::<u64>()]);
    random.fill(&mut octets);
    Zeroizing::new(Uint::from_be_slice(&octets))
}

/// `None` unless 1 < peer < p - 1.
fn checked_power<const LIMBS: usize, const EXPONENT: usize>(
    modulus: &FixedMontyParams<LIMBS>,
    peer: &[u8],
    exponent: &Uint<EXPONENT>,
) -> Option<Secret> {
    if peer.len() * 8 != modulus.modulus().as_ref().bits_vartime() as usize {
        return None;
    }
    let peer = Uint::<LIMBS>::from_be_slice(peer);
    // p is odd, so p - 1 is p with its last bit cleared. The peer's value is public.
    let last = modulus.modulus().as_ref().wrapping_sub(&Uint::ONE);
    (peer > Uint::ONE && peer < last).then(|| power(modulus, &peer, exponent))
}

/// base^exponent mod p, as long as p.
fn power<const LIMBS: usize, const EXPONENT: usize>(
    modulus: &FixedMontyParams<LIMBS>,
    base: &Uint<LIMBS>,
    exponent: &Uint<EXPONENT>,
) -> Secret {
    let mut form = FixedMontyForm::new(base, modulus).pow(exponent);
    let mut result = form.retrieve();
    form.as_montgomery_mut().zeroize();
    let mut octets = Vec::with_capacity(LIMBS * size_of::<u64>());
    for limb in result.as_words().iter().rev() {
        octets.extend_from_slice(&limb.to_be_bytes());
    }
    result.zeroize();
    Secret::from_vec(octets)
}

fn modulus<const LIMBS: usize>(prime: &str) -> FixedMontyParams<LIMBS> {
    FixedMontyParams::new_vartime(Odd::<Uint<LIMBS>>::from_be_hex(prime))
}

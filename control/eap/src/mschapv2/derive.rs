//! What MSCHAPv2 computes: RFC 2759 §8, and the MSK from RFC 3079 §3.
//!
//! Every intermediate value is as good as the password, and wiped.

use std::fmt;

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use md4::Md4;
use sha1::{Digest, Sha1};
use xswan_ike_crypto::Secret;
use zeroize::{Zeroize, Zeroizing};

use super::CHALLENGE_BYTES;

/// Octets of an NT hash.
const HASH_BYTES: usize = 16;
/// Octets of the client's proof (RFC 2759 §5).
pub(super) const NT_RESPONSE_BYTES: usize = 24;
/// Octets of the server's proof (RFC 2759 §6).
pub(super) const AUTHENTICATOR_BYTES: usize = 20;
/// Octets of the MSK (RFC 3748 §7.10). The two session keys fill half of it.
const MSK_BYTES: usize = 64;

// RFC 2759 §8.7.
const SERVER_TO_CLIENT: &[u8] = b"Magic server to client signing constant";
const MORE_ITERATIONS: &[u8] = b"Pad to make it do more than one iteration";
// RFC 3079 §3.4.
const MASTER_KEY: &[u8] = b"This is the MPPE Master Key";
const CLIENT_SENDS: &[u8] = b"On the client side, this is the send key; \
    on the server side, it is the receive key.";
const SERVER_SENDS: &[u8] = b"On the client side, this is the receive key; \
    on the server side, it is the send key.";

type Hash = Zeroizing<[u8; HASH_BYTES]>;

/// A password as MSCHAPv2 needs it: its NT hash, which is as good as the password itself.
#[derive(Clone)]
pub struct Password(Hash);

impl Password {
    /// From the text of a password, UTF-8. Octets that are not UTF-8 are taken one by one as
    /// characters, as other implementations do with every password.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Self {
        // Reserved in full, so that no growing leaves a copy behind.
        let mut wide = Zeroizing::new(Vec::with_capacity(2 * text.len()));
        match std::str::from_utf8(text) {
            Ok(text) => text.encode_utf16().for_each(|unit| wide.extend(unit.to_le_bytes())),
            Err(_) => text.iter().for_each(|octet| wide.extend([*octet, 0])),
        }
        Self(md4(&wide))
    }

    /// From the NT hash, as kept in `ntlm` secrets.
    #[must_use]
    pub fn from_nt_hash(hash: [u8; 16]) -> Self {
        Self(Zeroizing::new(hash))
    }

    /// A password nobody has: the same work is done for a user who does not exist.
    pub(super) fn nobodys(challenge: &[u8; CHALLENGE_BYTES]) -> Self {
        Self(md4(challenge))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// The two challenges and the name they are bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange<'a> {
    /// Sent by the server.
    pub(super) authenticator_challenge: &'a [u8; CHALLENGE_BYTES],
    /// Sent by the client.
    pub(super) peer_challenge: &'a [u8; CHALLENGE_BYTES],
    /// As sent; only what follows a domain's backslash enters the hash (RFC 2759 §4).
    pub(super) user: &'a [u8],
}

/// Everything that follows from password and exchange.
pub(super) struct Proofs {
    /// The client's.
    pub(super) nt_response: Zeroizing<[u8; NT_RESPONSE_BYTES]>,
    /// The server's.
    pub(super) authenticator: Zeroizing<[u8; AUTHENTICATOR_BYTES]>,
    /// MSK.
    pub(super) msk: Secret,
}

impl Proofs {
    /// Computes all of them.
    pub(super) fn derive(password: &Password, exchange: &Exchange<'_>) -> Self {
        let challenge = exchange.challenge_hash();
        let nt_response = challenge_response(&challenge, &password.0);
        let hash_hash = md4(&password.0[..]);
        let authenticator = authenticator_response(&hash_hash, &nt_response, &challenge);
        let msk = msk(&hash_hash, &nt_response);
        Self { nt_response, authenticator, msk }
    }
}

impl Exchange<'_> {
    /// `ChallengeHash`, RFC 2759 §8.2.
    fn challenge_hash(&self) -> [u8; 8] {
        let name = without_domain(self.user);
        let digest = sha1(&[self.peer_challenge, self.authenticator_challenge, name]);
        first(&digest[..])
    }
}

/// The name after the last `\`.
pub(super) fn without_domain(user: &[u8]) -> &[u8] {
    user.rsplit(|octet| *octet == b'\\').next().unwrap_or(user)
}

/// `ChallengeResponse`, RFC 2759 §8.5: three DES keys from 21 octets.
fn challenge_response(
    challenge: &[u8; 8],
    nt_hash: &[u8; HASH_BYTES],
) -> Zeroizing<[u8; NT_RESPONSE_BYTES]> {
    let mut padded = Zeroizing::new([0; 21]);
    padded[..HASH_BYTES].copy_from_slice(nt_hash);
    let mut response = Zeroizing::new([0; NT_RESPONSE_BYTES]);
    for (out, key) in response.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        let key = Zeroizing::new(with_parity(key));
        let mut block = Array(*challenge);
        Des::new(&Array(*key)).encrypt_block(&mut block);
        out.copy_from_slice(&block);
        block.zeroize();
    }
    response
}

/// 56 bits spread over eight octets; the lowest bit of each would be parity, which DES ignores.
fn with_parity(key: &[u8]) -> [u8; 8] {
    let bits = key.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
    let mut spread = [0; 8];
    for (index, out) in spread.iter_mut().enumerate() {
        *out = (bits >> (49 - 7 * index) << 1) as u8 & 0xfe;
    }
    spread
}

/// `GenerateAuthenticatorResponse`, RFC 2759 §8.7, before it is written in hexadecimal.
fn authenticator_response(
    hash_hash: &[u8; HASH_BYTES],
    nt_response: &[u8; NT_RESPONSE_BYTES],
    challenge: &[u8; 8],
) -> Zeroizing<[u8; AUTHENTICATOR_BYTES]> {
    let digest = sha1(&[hash_hash, nt_response, SERVER_TO_CLIENT]);
    sha1(&[&digest[..], challenge, MORE_ITERATIONS])
}

/// The master session key: the server's receive key, its send key, and zeros.
///
/// RFC 3079 §3.3 keys of 128 bits; the order and the padding are those of the other
/// implementations in IKEv2.
fn msk(hash_hash: &[u8; HASH_BYTES], nt_response: &[u8; NT_RESPONSE_BYTES]) -> Secret {
    let master: Hash = Zeroizing::new(first(&sha1(&[hash_hash, nt_response, MASTER_KEY])[..]));
    let mut msk = Zeroizing::new([0; MSK_BYTES]);
    let (receive, rest) = msk.split_at_mut(HASH_BYTES);
    receive.copy_from_slice(&start_key(&master, CLIENT_SENDS)[..]);
    rest[..HASH_BYTES].copy_from_slice(&start_key(&master, SERVER_SENDS)[..]);
    Secret::from_slice(&msk[..])
}

/// `GetAsymmetricStartKey`, RFC 3079 §3.4, for 128 bits.
fn start_key(master: &[u8; HASH_BYTES], magic: &[u8]) -> Hash {
    let digest = sha1(&[master, &[0; 40], magic, &[0xf2; 40]]);
    Zeroizing::new(first(&digest[..]))
}

fn md4(octets: &[u8]) -> Hash {
    Zeroizing::new(Md4::digest(octets).into())
}

fn sha1(parts: &[&[u8]]) -> Zeroizing<[u8; 20]> {
    let mut digest = Sha1::new();
    parts.iter().for_each(|part| digest.update(part));
    Zeroizing::new(digest.finalize().into())
}

/// The first `N` octets of a longer digest.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(digest).for_each(|(out, octet)| *out = *octet);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 2759 §9.2 and RFC 3079 §3.5.3: the same exchange.
    const USER: &[u8] = b"User";
    const PASSWORD: &[u8] = b"clientPass";
    const AUTHENTICATOR_CHALLENGE: [u8; 16] = [
        0x5b, 0x5d, 0x7c, 0x7d, 0x7b, 0x3f, 0x2f, 0x3e, 0x3c, 0x2c, 0x60, 0x21, 0x32, 0x26, 0x26,
        0x28,
    ];
    const PEER_CHALLENGE: [u8; 16] = [
        0x21, 0x40, 0x23, 0x24, 0x25, 0x5e, 0x26, 0x2a, 0x28, 0x29, 0x5f, 0x2b, 0x3a, 0x33, 0x7c,
        0x7e,
    ];
    const EXCHANGE: Exchange<'_> = Exchange {
        authenticator_challenge: &AUTHENTICATOR_CHALLENGE,
        peer_challenge: &PEER_CHALLENGE,
        user: USER,
    };

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn rfc_2759_section_9_2() {
        let password = Password::from_text(PASSWORD);
        assert_eq!(hex(&password.0[..]), "44ebba8d5312b8d611474411f56989ae");
        assert_eq!(hex(&md4(&password.0[..])[..]), "41c00c584bd2d91c4017a2a12fa59f3f");
        assert_eq!(hex(&EXCHANGE.challenge_hash()), "d02e4386bce91226");
        let proofs = Proofs::derive(&password, &EXCHANGE);
        let expected = "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df";
        assert_eq!(hex(&proofs.nt_response[..]), expected);
        let expected = "407a5589115fd0d6209f510fe9c04566932cda56";
        assert_eq!(hex(&proofs.authenticator[..]), expected);
    }

    #[test]
    fn rfc_3079_section_3_5_3() {
        let proofs = Proofs::derive(&Password::from_text(PASSWORD), &EXCHANGE);
        let hash_hash = md4(&Password::from_text(PASSWORD).0[..]);
        let master = sha1(&[&hash_hash[..], &proofs.nt_response[..], MASTER_KEY]);
        assert_eq!(hex(&master[..16]), "fdece3717a8c838cb388e527ae3cdd31");
        let msk = proofs.msk.as_bytes();
        assert_eq!(msk.len(), 64);
        // What the server sends with is the second quarter.
        assert_eq!(hex(&msk[16..32]), "8b7cdc149b993a1ba118cb153f56dccb");
        assert_ne!(&msk[..16], &msk[16..32]);
        assert!(msk[32..].iter().all(|octet| *octet == 0));
    }

    #[test]
    fn seven_octets_become_a_des_key() {
        assert_eq!(with_parity(&[0xff; 7]), [0xfe; 8]);
        assert_eq!(with_parity(&[0; 7]), [0; 8]);
        assert_eq!(with_parity(&[0x80, 0, 0, 0, 0, 0, 1]), [0x80, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn domain_does_not_enter_the_hash() {
        let password = Password::from_text(PASSWORD);
        let plain = Proofs::derive(&password, &EXCHANGE);
        let domain = Exchange { user: b"BIGCO\\User", ..EXCHANGE };
        assert_eq!(plain.nt_response, Proofs::derive(&password, &domain).nt_response);
        let other = Exchange { user: b"user", ..EXCHANGE };
        assert_ne!(plain.nt_response, Proofs::derive(&password, &other).nt_response);
        assert_eq!(without_domain(b"a\\b\\c"), b"c");
        assert_eq!(without_domain(b"a\\"), b"");
    }

    #[test]
    fn passwords_are_utf16() {
        // U+20AC and U+1F511 (a surrogate pair).
        let wide = [0xac, 0x20, 0x3d, 0xd8, 0x11, 0xdd];
        assert_eq!(Password::from_text("\u{20ac}\u{1f511}".as_bytes()).0, md4(&wide));
        assert_eq!(Password::from_text(&[0xff, b'a']).0, md4(&[0xff, 0, b'a', 0]));
        let hash = *Password::from_text(b"x").0;
        assert_eq!(Password::from_nt_hash(hash).0[..], hash[..]);
    }

    #[test]
    fn debug_hides_the_password() {
        let shown = format!("{:?}", Password::from_text(PASSWORD));
        assert_eq!(shown, "Password(hidden)");
    }
}

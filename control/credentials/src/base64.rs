//! Base64 (RFC 4648 §4) of secrets: what is decoded is wiped, which the decoders of the
//! certificate libraries do not do.

use zeroize::Zeroizing;

/// Standard alphabet, padding required, white space not allowed.
pub(crate) fn decode(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padding = digits.iter().rev().take_while(|octet| **octet == b'=').count();
    if !digits.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len() / 4 * 3));
    for group in digits.strip_suffix(&b"=="[..padding]).unwrap_or(digits).chunks(4) {
        let mut bits = 0u32;
        for octet in group {
            let value = ALPHABET.iter().position(|letter| letter == octet);
            bits = bits << 6 | value? as u32;
        }
        bits <<= 6 * (4 - group.len());
        let octets = bits.to_be_bytes();
        let whole = group.len() * 6 / 8;
        if octets[1 + whole..].iter().any(|octet| *octet != 0) {
            return None;
        }
        out.extend_from_slice(&octets[1..=whole]);
    }
    Some(out)
}

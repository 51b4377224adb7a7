//! Published vectors for AES-CBC, another library's CBC, and the order of what is authenticated.

use aes::Block;
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use xswan_esp::aead::{Aad, Aead as _};

use super::{BLOCK_LEN, Cipher};
use crate::key::{AesKeyLen, Hmac};
use crate::{Algorithm, Backend, Key};

const AES: [AesKeyLen; 3] = [AesKeyLen::Bits128, AesKeyLen::Bits192, AesKeyLen::Bits256];
const HMACS: [Hmac; 3] = [Hmac::Sha256, Hmac::Sha384, Hmac::Sha512];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn filled(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(37).wrapping_add(seed)).collect()
}

/// RFC 3602 section 4: cases 1, 2 and 4.
#[test]
fn rfc_3602_vectors() {
    let cases = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            (0..32).collect(),
            "d296cd94c2cccf8a3a863028b5e1dc0a 7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            (0xa0..=0xdf).collect(),
            "c30e32ffedc0774e6aff6af0869f71aa 0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad 83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ];
    for (key, iv, plain, expected) in cases {
        let keys = [hex(key), vec![9; 32]].concat();
        let cipher = Cipher::new(AesKeyLen::Bits128, Hmac::Sha256, &keys).unwrap();
        let iv = Block::try_from(&hex(iv)[..]).unwrap();
        let mut sealed = vec![0xa5; BLOCK_LEN + plain.len() + 16];
        let aad = Aad::Short(*b"spi seq ");
        cipher.seal_under(iv, &aad, &plain, &mut sealed).unwrap();
        assert_eq!(sealed[..BLOCK_LEN], iv[..]);
        assert_eq!(sealed[BLOCK_LEN..][..plain.len()], hex(expected)[..]);
        let mut opened = vec![1; plain.len()];
        cipher.open(&aad, &sealed, &mut opened).unwrap();
        assert_eq!(opened, plain);
    }
}

fn other_cbc(key: &[u8], iv: [u8; 16], plain: &[u8]) -> Vec<u8> {
    let algorithm = [&AES_128, &AES_192, &AES_256][key.len() / 8 - 2];
    let key = UnboundCipherKey::new(algorithm, key).unwrap();
    let mut text = plain.to_vec();
    PaddedBlockEncryptingKey::cbc_pkcs7(key)
        .unwrap()
        .less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from(iv)))
        .unwrap();
    text.truncate(plain.len());
    text
}

#[test]
fn another_library_and_the_order_of_the_icv() {
    for aes in AES {
        for mac in HMACS {
            let algorithm = Algorithm::cbc(aes, mac);
            let keys = filled(algorithm.key_len(), 11);
            let (cipher_key, mac_key) = keys.split_at(aes.octets());
            let cipher = Cipher::new(aes, mac, &keys).unwrap();
            let hash = match mac {
                Hmac::Sha256 => hmac::HMAC_SHA256,
                Hmac::Sha384 => hmac::HMAC_SHA384,
                Hmac::Sha512 => hmac::HMAC_SHA512,
            };
            for blocks in [1, 2, 7, 93] {
                let plain = filled(blocks * BLOCK_LEN, 77);
                let iv = [blocks as u8; BLOCK_LEN];
                let text = other_cbc(cipher_key, iv, &plain);
                for extended in [false, true] {
                    let aad = if extended {
                        Aad::Extended(*b"\x01\x02\x03\x04HIGHlow!")
                    } else {
                        Aad::Short(*b"\x01\x02\x03\x04low!")
                    };
                    let tail: &[u8] = if extended { b"HIGH" } else { b"" };
                    let whole = [b"\x01\x02\x03\x04low!", &iv[..], &text, tail].concat();
                    let tag = hmac::sign(&hmac::Key::new(hash, mac_key), &whole);
                    let expected = [&iv[..], &text, &tag.as_ref()[..mac.icv_len()]].concat();
                    let mut sealed = vec![0; expected.len()];
                    // The last octets are the trailer, which lies there already.
                    let (source, trailer) = plain.split_at(plain.len() - 2);
                    sealed[BLOCK_LEN + source.len()..][..2].copy_from_slice(trailer);
                    cipher.seal_under(iv.into(), &aad, source, &mut sealed).unwrap();
                    assert_eq!(sealed, expected, "{} {blocks}", algorithm.name());
                }
            }
        }
    }
}

#[test]
fn aut_every_bit_counts_and_nothing_is_decrypted_of_a_forgery() {
    for mac in HMACS {
        let keys = filled(16 + mac.key_len(), 3);
        let key = Key::new(Backend::default(), Algorithm::cbc(AesKeyLen::Bits128, mac), &keys);
        let key = key.unwrap();
        let cipher = Cipher::new(AesKeyLen::Bits128, mac, &keys).unwrap();
        let aad = Aad::Short([7; 8]);
        let mut sealed = vec![0; 16 + 32 + mac.icv_len()];
        cipher.seal_under([1; 16].into(), &aad, &[5; 32], &mut sealed).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut mutant = sealed.clone();
            mutant[bit / 8] ^= 1 << (bit % 8);
            let mut out = [9; 32];
            assert_eq!(cipher.open(&aad, &mutant, &mut out), None);
            assert_eq!(out, [9; 32], "decrypted before it was authenticated");
        }
        // The high half is authenticated, and its presence too.
        let mut out = [9; 32];
        assert_eq!(cipher.open(&Aad::Extended([7; 12]), &sealed, &mut out), None);
        assert_eq!(cipher.open(&Aad::Short([8; 8]), &sealed, &mut out), None);
        for len in 0..sealed.len() {
            assert_eq!(cipher.open(&aad, &sealed[..len], &mut out), None);
        }
        assert_eq!(cipher.open(&aad, &sealed, &mut out[..16]), None);
        assert_eq!(cipher.open(&aad, &sealed, &mut out), Some(()));
        assert_eq!(key.shape(), cipher.shape());
    }
}

#[test]
fn the_keys_are_not_printed() {
    let keys = vec![0xa5; 96];
    let algorithm = Algorithm::cbc(AesKeyLen::Bits256, Hmac::Sha512);
    let key = Key::new(Backend::AwsLc, algorithm, &keys).unwrap();
    assert_eq!(format!("{key:?}"), "Key(aes256-sha512, aws-lc, ..)");
    let half_zero = [vec![0; 32], vec![1; 64]].concat();
    assert!(Key::new(Backend::AwsLc, algorithm, &half_zero).is_err());
    let half_zero = [vec![1; 32], vec![0; 64]].concat();
    assert!(Key::new(Backend::AwsLc, algorithm, &half_zero).is_err());
}

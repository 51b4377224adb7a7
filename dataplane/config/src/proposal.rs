//! Proposals in strongSwan's notation, as the numbers that go on the wire.
//!
//! `aes128gcm16-prfsha256-x25519`: words joined by `-`, several of one kind are alternatives.
//! The numbers are IANA's (RFC 7296 section 3.3.2; additional key exchanges RFC 9370). What
//! RFC 8247 and RFC 8221 have retired is refused by name.

use crate::error::ConfigError;
use crate::reader::Section;

/// One algorithm (RFC 7296 section 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// Transform type: 1 encryption, 2 PRF, 3 integrity, 4 key exchange, 5 sequence numbers,
    /// 6 to 12 additional key exchanges.
    pub kind: u8,
    /// Transform ID.
    pub id: u16,
    /// Key Length attribute in bits, where the algorithm has one.
    pub key_bits: Option<u16>,
}

/// Alternatives of each kind that go together; sorted by kind, otherwise in order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The algorithms; never empty, none twice.
    pub transforms: Vec<Transform>,
}

const ENCRYPTION: u8 = 1;
const PRF: u8 = 2;
const INTEGRITY: u8 = 3;
const KEY_EXCHANGE: u8 = 4;
const SEQUENCE_NUMBERS: u8 = 5;
/// Transform type of the first additional key exchange (RFC 9370 section 2.2.1).
const ADDITIONAL: u8 = 6;

/// AEAD ciphers: AES-GCM with a 16 octet ICV, ChaCha20-Poly1305.
const AEAD: [u16; 2] = [20, 28];

const fn cipher(id: u16, bits: u16) -> Transform {
    Transform { kind: ENCRYPTION, id, key_bits: Some(bits) }
}

const fn plain(kind: u8, id: u16) -> Transform {
    Transform { kind, id, key_bits: None }
}

const WORDS: &[(&str, Transform)] = &[
    ("aes128gcm16", cipher(20, 128)),
    ("aes192gcm16", cipher(20, 192)),
    ("aes256gcm16", cipher(20, 256)),
    ("aes128gcm128", cipher(20, 128)),
    ("aes192gcm128", cipher(20, 192)),
    ("aes256gcm128", cipher(20, 256)),
    ("aes128gcm", cipher(20, 128)),
    ("aes192gcm", cipher(20, 192)),
    ("aes256gcm", cipher(20, 256)),
    ("chacha20poly1305", plain(ENCRYPTION, 28)),
    ("chacha20poly1305compat", plain(ENCRYPTION, 28)),
    ("aes", cipher(12, 128)),
    ("aes128", cipher(12, 128)),
    ("aes192", cipher(12, 192)),
    ("aes256", cipher(12, 256)),
    ("prfsha256", plain(PRF, 5)),
    ("prfsha384", plain(PRF, 6)),
    ("prfsha512", plain(PRF, 7)),
    ("sha256", plain(INTEGRITY, 12)),
    ("sha384", plain(INTEGRITY, 13)),
    ("sha512", plain(INTEGRITY, 14)),
    ("sha2_256", plain(INTEGRITY, 12)),
    ("sha2_384", plain(INTEGRITY, 13)),
    ("sha2_512", plain(INTEGRITY, 14)),
    ("noesn", plain(SEQUENCE_NUMBERS, 0)),
    ("esn", plain(SEQUENCE_NUMBERS, 1)),
];

const GROUPS: &[(&str, u16)] = &[
    ("x25519", 31),
    ("curve25519", 31),
    ("ecp256", 19),
    ("ecp384", 20),
    ("ecp521", 21),
    ("modp2048", 14),
    ("modp3072", 15),
    ("modp4096", 16),
    ("mlkem512", 35),
    ("mlkem768", 36),
    ("mlkem1024", 37),
];

/// The key encapsulation mechanisms: nothing secret but post-quantum in them alone.
const ENCAPSULATIONS: std::ops::RangeInclusive<u16> = 35..=37;

/// Words of algorithms that RFC 8247 (IKE) and RFC 8221 (ESP) retire.
const RETIRED: &[&str] = &[
    "des",
    "3des",
    "blowfish",
    "blowfish128",
    "blowfish192",
    "blowfish256",
    "cast128",
    "idea",
    "rc5",
    "md5",
    "md5_128",
    "sha",
    "sha1",
    "sha1_160",
    "sha256_96",
    "prfmd5",
    "prfsha1",
    "modp768",
    "modp1024",
    "modp1024s160",
    "modp1536",
    "modp2048s224",
    "modp2048s256",
    "ecp192",
    "ecp224",
    "null",
];

/// What a proposal may be made of, for error messages.
pub(crate) const SYNTAX: &str = "default, or words joined by -: aes128gcm16 aes192gcm16 \
    aes256gcm16 chacha20poly1305 aes128 aes192 aes256; prfsha256 prfsha384 prfsha512; sha256 \
    sha384 sha512; x25519 ecp256 ecp384 ecp521 modp2048 modp3072 modp4096; ke1_mlkem768 and the \
    like; esn noesn";

const GROUPS_BY_DEFAULT: &str = "x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048";

fn group(word: &str, kind: u8) -> Option<Transform> {
    let found = GROUPS.iter().find(|(name, _)| *name == word);
    found.map(|(_, id)| plain(kind, *id))
}

/// `ke1_mlkem768` to `ke7_…`; `none` makes the exchange optional (RFC 9370 section 2.2.1).
fn additional(word: &str) -> Option<Transform> {
    let (number, name) = word.strip_prefix("ke")?.split_once('_')?;
    let number: u8 = number.parse().ok().filter(|number| (1..=7).contains(number))?;
    let kind = ADDITIONAL + number - 1;
    if name == "none" { Some(plain(kind, 0)) } else { group(name, kind) }
}

impl Proposal {
    fn words(text: &str) -> Result<Self, String> {
        let mut transforms: Vec<Transform> = Vec::new();
        for word in text.split('-') {
            let known = WORDS.iter().find(|(name, _)| *name == word).map(|(_, known)| *known);
            let transform =
                known.or_else(|| group(word, KEY_EXCHANGE)).or_else(|| additional(word));
            let transform = transform.ok_or_else(|| {
                if RETIRED.contains(&word) {
                    format!("{word:?} is too weak (RFC 8247, RFC 8221)")
                } else {
                    format!("unknown algorithm {word:?}")
                }
            })?;
            if transform.kind == KEY_EXCHANGE && ENCAPSULATIONS.contains(&transform.id) {
                return Err(format!("{word:?} alone is no key exchange: write x25519-ke1_{word}"));
            }
            if !transforms.contains(&transform) {
                transforms.push(transform);
            }
        }
        Ok(Self { transforms })
    }

    fn of(&self, kind: u8) -> impl Iterator<Item = &Transform> {
        self.transforms.iter().filter(move |transform| transform.kind == kind)
    }

    fn has(&self, kind: u8) -> bool {
        self.of(kind).next().is_some()
    }

    fn is_aead(&self) -> Result<bool, String> {
        let mut aead = self.of(ENCRYPTION).map(|transform| AEAD.contains(&transform.id));
        let first = aead.next().ok_or("has no encryption algorithm")?;
        if aead.any(|other| other != first) {
            // RFC 7296 section 3.3: they need different transforms beside them.
            return Err("mixes AEAD with other ciphers: make two proposals of it".to_owned());
        }
        Ok(first)
    }

    /// Each additional exchange needs those of lower numbers and the first one (RFC 9370).
    fn check_additional(&self) -> Result<(), String> {
        let missing =
            (ADDITIONAL..=ADDITIONAL + 6).find(|kind| self.has(*kind) && !self.has(KEY_EXCHANGE));
        match missing {
            None => Ok(()),
            Some(_) => Err("has an additional key exchange but no first one".to_owned()),
        }
    }

    fn sorted(mut self) -> Self {
        self.transforms.sort_by_key(|transform| transform.kind);
        self
    }

    /// Reads a proposal for an IKE SA. Without a PRF the integrity algorithm's hash is it;
    /// beside an AEAD cipher an integrity algorithm stands for the PRF alone.
    ///
    /// # Errors
    /// What is wrong, without the place.
    pub fn parse_ike(text: &str) -> Result<Self, String> {
        let mut proposal = Self::words(text)?;
        if proposal.has(SEQUENCE_NUMBERS) {
            return Err("esn and noesn are of ESP proposals".to_owned());
        }
        let aead = proposal.is_aead()?;
        if !aead && !proposal.has(INTEGRITY) {
            return Err("has no integrity algorithm".to_owned());
        }
        if !proposal.has(PRF) {
            // HMAC_SHA2_256_128 is 12 and its PRF 5, and so on.
            let functions: Vec<_> =
                proposal.of(INTEGRITY).map(|integrity| plain(PRF, integrity.id - 7)).collect();
            proposal.transforms.extend(functions);
        }
        if !proposal.has(PRF) {
            return Err("has no PRF".to_owned());
        }
        if !proposal.has(KEY_EXCHANGE) {
            return Err("has no key exchange".to_owned());
        }
        if aead {
            proposal.transforms.retain(|transform| transform.kind != INTEGRITY);
        }
        proposal.check_additional()?;
        Ok(proposal.sorted())
    }

    /// Reads a proposal for ESP. Without `esn` or `noesn` it is `noesn`.
    ///
    /// # Errors
    /// What is wrong, without the place.
    pub fn parse_esp(text: &str) -> Result<Self, String> {
        let mut proposal = Self::words(text)?;
        if proposal.has(PRF) {
            return Err("a PRF is of IKE proposals".to_owned());
        }
        if proposal.is_aead()? {
            proposal.transforms.retain(|transform| transform.kind != INTEGRITY);
        } else if !proposal.has(INTEGRITY) {
            // RFC 8221 section 4: never encryption alone.
            return Err("has no integrity algorithm".to_owned());
        }
        if !proposal.has(SEQUENCE_NUMBERS) {
            proposal.transforms.push(plain(SEQUENCE_NUMBERS, 0));
        }
        proposal.check_additional()?;
        Ok(proposal.sorted())
    }

    /// Whether extended sequence numbers may be agreed on (RFC 4303 section 2.2.1).
    #[must_use]
    pub fn may_use_esn(&self) -> bool {
        self.of(SEQUENCE_NUMBERS).any(|transform| transform.id == 1)
    }

    /// What `default` stands for in `proposals`: AEAD before CBC, curves before MODP groups.
    #[must_use]
    pub fn default_ike() -> Vec<Self> {
        let aead = "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-prfsha512";
        let cbc = "aes256-aes128-sha256-sha384-sha512";
        let read = |suite| Self::parse_ike(&format!("{suite}-{GROUPS_BY_DEFAULT}")).ok();
        [aead, cbc].into_iter().filter_map(read).collect()
    }

    /// What `default` stands for in `esp_proposals`: AEAD before CBC, either kind of sequence
    /// numbers, no key exchange of its own.
    #[must_use]
    pub fn default_esp() -> Vec<Self> {
        let aead = "aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn";
        let cbc = "aes256-aes128-sha256-sha384-sha512-esn-noesn";
        [aead, cbc].into_iter().filter_map(|suite| Self::parse_esp(suite).ok()).collect()
    }
}

/// A list of proposals under a key.
pub(crate) fn read_proposals(
    section: &Section<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<Proposal, String>,
    default: fn() -> Vec<Proposal>,
) -> Result<Vec<Proposal>, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(default()) };
    let mut proposals = Vec::new();
    for item in item.one_or_more(SYNTAX)? {
        match item.text()? {
            "default" => proposals.extend(default()),
            text => proposals.push(parse(text).map_err(|what| item.error(what, SYNTAX))?),
        }
    }
    // The number of a proposal is an octet (RFC 7296 section 3.3.1).
    if proposals.len() > 64 {
        return Err(item.error(format!("{} proposals", proposals.len()), "at most 64"));
    }
    Ok(proposals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ike(text: &str) -> Vec<(u8, u16, Option<u16>)> {
        let proposal = Proposal::parse_ike(text).expect(text);
        proposal.transforms.iter().map(|t| (t.kind, t.id, t.key_bits)).collect()
    }

    #[test]
    fn numbers_are_those_of_the_registry() {
        assert_eq!(
            ike("aes128gcm16-prfsha256-x25519"),
            [(1, 20, Some(128)), (2, 5, None), (4, 31, None)]
        );
        assert_eq!(
            ike("aes256-sha256-modp2048"),
            [(1, 12, Some(256)), (2, 5, None), (3, 12, None), (4, 14, None)]
        );
        assert_eq!(
            ike("chacha20poly1305-prfsha256-x25519-ke1_mlkem768-ke2_none"),
            [(1, 28, None), (2, 5, None), (4, 31, None), (6, 36, None), (7, 0, None)]
        );
        assert_eq!(ike("aes256gcm-sha384-ecp384"), ike("aes256gcm16-prfsha384-ecp384"));
        assert_eq!(
            ike("aes128gcm16-prfsha256-x25519-ecp256"),
            [(1, 20, Some(128)), (2, 5, None), (4, 31, None), (4, 19, None)]
        );
    }

    #[test]
    fn esp_proposals() {
        let esp = |text: &str| {
            let proposal = Proposal::parse_esp(text).expect(text);
            proposal.transforms.iter().map(|t| (t.kind, t.id)).collect::<Vec<_>>()
        };
        assert_eq!(esp("chacha20poly1305"), [(1, 28), (5, 0)]);
        assert_eq!(esp("aes128gcm16-esn-noesn"), [(1, 20), (5, 1), (5, 0)]);
        assert_eq!(esp("aes256-sha256"), [(1, 12), (3, 12), (5, 0)]);
        assert_eq!(esp("aes128gcm16-x25519-ke1_mlkem768"), [(1, 20), (4, 31), (5, 0), (6, 36)]);
        assert_eq!(esp("aes128gcm16-sha256"), esp("aes128gcm16"));
    }

    #[test]
    fn cfg_05_weak_and_incomplete_proposals_are_refused() {
        for (text, word) in [
            ("3des-sha256-modp2048", "RFC 8247"),
            ("aes128-sha1-modp2048", "RFC 8247"),
            ("aes128-md5-modp2048", "RFC 8247"),
            ("aes128-sha256-modp1024", "RFC 8247"),
            ("aes128-sha256-modp1536", "RFC 8247"),
            ("des-sha256-modp2048", "RFC 8247"),
            ("aes128gcm16-prfsha1-x25519", "RFC 8247"),
            ("aes128gcm16-x25519", "no PRF"),
            ("aes128gcm16-prfsha256", "no key exchange"),
            ("aes128-prfsha256-x25519", "no integrity"),
            ("sha256-x25519", "no encryption"),
            ("aes128gcm16-aes128-sha256-x25519", "two proposals"),
            ("aes128gcm16-prfsha256-x25519-esn", "ESP"),
            ("aes128gcm16-prfsha256-mlkem768", "x25519-ke1_mlkem768"),
            ("aes128gcm16-prfsha256-x25519-ke8_mlkem768", "unknown"),
            ("aes128gcm16--x25519", "unknown"),
            ("", "unknown"),
        ] {
            let error = Proposal::parse_ike(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        for (text, word) in [
            ("aes128", "no integrity"),
            ("null-sha256", "weak"),
            ("aes128gcm16-prfsha256", "PRF"),
            ("aes128gcm16-ke1_mlkem768", "no first one"),
        ] {
            let error = Proposal::parse_esp(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn defaults_are_there() {
        assert_eq!(Proposal::default_ike().len(), 2);
        assert_eq!(Proposal::default_esp().len(), 2);
        assert!(Proposal::default_esp().iter().all(Proposal::may_use_esn));
    }
}

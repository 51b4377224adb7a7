//! `[connections.NAME.children.NAME]`.

use crate::connection::{boolean_or, check_name, integer_or};
use crate::duration::{amount, duration_ms};
use crate::error::{ConfigError, Place};
use crate::ike_child::{IkeChild, Lifetimes, lifetimes, read_ike_child};
use crate::instance::choice_or;
use crate::reader::{Item, Section};
use crate::static_sa::{StaticSa, read_static_sa};
use crate::traffic_selector::{SYNTAX, SelectorPattern, TrafficSelector};
use std::net::IpAddr;
use std::path::Path;

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildMode {
    /// Protected, whole packets.
    Tunnel,
    /// Protected, payloads.
    Transport,
    /// Left in clear.
    Pass,
    /// Dropped.
    Drop,
}

/// `copy_df`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDf {
    /// As in the inner header.
    Copy,
    /// Set.
    Set,
    /// Clear.
    Clear,
}

/// `copy_dscp`: in which direction the field is copied between the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDscp {
    /// From the inner to the outer header.
    Out,
    /// From the outer to the inner header.
    In,
    /// Both.
    Yes,
    /// Neither; 0 outside.
    No,
}

/// The cipher of a proposal; all have an ICV of 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EspAlgorithm {
    /// AES-GCM with a key of 128 bits.
    Aes128Gcm16,
    /// AES-GCM with a key of 192 bits.
    Aes192Gcm16,
    /// AES-GCM with a key of 256 bits.
    Aes256Gcm16,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// AES-CBC with a key of 128 bits, and HMAC-SHA2-256-128.
    Aes128CbcSha256,
    /// AES-CBC with a key of 192 bits, and HMAC-SHA2-256-128.
    Aes192CbcSha256,
    /// AES-CBC with a key of 256 bits, and HMAC-SHA2-256-128.
    Aes256CbcSha256,
    /// AES-CBC with a key of 128 bits, and HMAC-SHA2-384-192.
    Aes128CbcSha384,
    /// AES-CBC with a key of 192 bits, and HMAC-SHA2-384-192.
    Aes192CbcSha384,
    /// AES-CBC with a key of 256 bits, and HMAC-SHA2-384-192.
    Aes256CbcSha384,
    /// AES-CBC with a key of 128 bits, and HMAC-SHA2-512-256.
    Aes128CbcSha512,
    /// AES-CBC with a key of 192 bits, and HMAC-SHA2-512-256.
    Aes192CbcSha512,
    /// AES-CBC with a key of 256 bits, and HMAC-SHA2-512-256.
    Aes256CbcSha512,
}

impl EspAlgorithm {
    /// Octets of key and salt, or of the key of the cipher and that of the HMAC.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 20,
            Self::Aes192Gcm16 => 28,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 36,
            Self::Aes128CbcSha256 => 16 + 32,
            Self::Aes192CbcSha256 => 24 + 32,
            Self::Aes256CbcSha256 => 32 + 32,
            Self::Aes128CbcSha384 => 16 + 48,
            Self::Aes192CbcSha384 => 24 + 48,
            Self::Aes256CbcSha384 => 32 + 48,
            Self::Aes128CbcSha512 => 16 + 64,
            Self::Aes192CbcSha512 => 24 + 64,
            Self::Aes256CbcSha512 => 32 + 64,
        }
    }
}

/// One of `esp_proposals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspProposal {
    /// Cipher.
    pub algorithm: EspAlgorithm,
    /// Extended sequence numbers.
    pub esn: bool,
}

/// `rekey_…` and `life_…` of one measure; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// When to replace the SA.
    pub rekey: u64,
    /// When it ends.
    pub life: u64,
}

/// What one connection protects, passes or drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Name, unique within its connection.
    pub name: String,
    /// What is done with the traffic.
    pub mode: ChildMode,
    /// Traffic on our side as far as the configuration alone says: in a negotiated child
    /// `dynamic` is left out, elsewhere it is the outer address.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic on the peer's side, likewise.
    pub remote_ts: Vec<TrafficSelector>,
    /// Lower applies first; equal ones in the order of the file.
    pub priority: u32,
    /// A static SA takes the first; empty in a negotiated child, whose are in `ike`.
    pub esp_proposals: Vec<EspProposal>,
    /// Replay window in packets; 0 is off.
    pub replay_window: u32,
    /// Don't-fragment bit.
    pub copy_df: CopyDf,
    /// Copy ECN (RFC 6040).
    pub copy_ecn: bool,
    /// Copy DSCP (RFC 2983).
    pub copy_dscp: CopyDscp,
    /// Pad inner packets to so many octets; 0 is none.
    pub tfc_padding: u16,
    /// TTL or hop limit of the outer header.
    pub ttl: u8,
    /// Let inner ICMP errors through whose addresses are outside the selectors.
    pub icmp: bool,
    /// Octets.
    pub bytes: Lifetime,
    /// Packets.
    pub packets: Lifetime,
    /// Milliseconds.
    pub time_ms: Lifetime,
    /// Path MTU to the peer; 0 is to be learned.
    pub path_mtu: u16,
    /// Keys from the configuration.
    pub static_sa: Option<StaticSa>,
    /// What is negotiated; `None` for static, pass and drop children.
    pub ike: Option<IkeChild>,
    /// Where it begins.
    pub place: Place,
}

/// The connection around a child, as far as it concerns the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) directory: &'a Path,
    /// Children without static keys are negotiated.
    pub(crate) ike: bool,
}

fn patterns(section: &Section<'_>, key: &'static str) -> Result<Vec<SelectorPattern>, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(vec![SelectorPattern::DYNAMIC]) };
    let items = item.one_or_more(SYNTAX)?;
    let pattern = |item: &Item<'_>| {
        SelectorPattern::parse(item.text()?).map_err(|what| item.error(what, SYNTAX))
    };
    items.iter().map(pattern).collect()
}

/// Selectors without what only a negotiation can say.
fn fixed(patterns: &[SelectorPattern]) -> Vec<TrafficSelector> {
    patterns.iter().filter_map(SelectorPattern::fixed).collect()
}

/// Selectors with `dynamic` as the outer address.
fn resolved(
    section: &Section<'_>,
    key: &'static str,
    patterns: &[SelectorPattern],
    own: Option<IpAddr>,
) -> Result<Vec<TrafficSelector>, ConfigError> {
    let resolve = |pattern: &SelectorPattern| {
        let selector = pattern.fixed().or_else(|| own.map(|own| pattern.resolve(own)));
        selector.ok_or_else(|| {
            let what = "is dynamic and the outer address is not known";
            section.place_of(key).error(what, "selectors with addresses")
        })
    };
    patterns.iter().map(resolve).collect()
}

const PROPOSALS: [(&str, EspAlgorithm); 13] = [
    ("aes128gcm16", EspAlgorithm::Aes128Gcm16),
    ("aes192gcm16", EspAlgorithm::Aes192Gcm16),
    ("aes256gcm16", EspAlgorithm::Aes256Gcm16),
    ("chacha20poly1305", EspAlgorithm::ChaCha20Poly1305),
    ("aes128-sha256", EspAlgorithm::Aes128CbcSha256),
    ("aes192-sha256", EspAlgorithm::Aes192CbcSha256),
    ("aes256-sha256", EspAlgorithm::Aes256CbcSha256),
    ("aes128-sha384", EspAlgorithm::Aes128CbcSha384),
    ("aes192-sha384", EspAlgorithm::Aes192CbcSha384),
    ("aes256-sha384", EspAlgorithm::Aes256CbcSha384),
    ("aes128-sha512", EspAlgorithm::Aes128CbcSha512),
    ("aes192-sha512", EspAlgorithm::Aes192CbcSha512),
    ("aes256-sha512", EspAlgorithm::Aes256CbcSha512),
];

fn proposals(section: &Section<'_>) -> Result<Vec<EspProposal>, ConfigError> {
    const ALLOWED: &str = "aes128gcm16, aes192gcm16, aes256gcm16, chacha20poly1305, or one of \
                           aes128, aes192, aes256 with -sha256, -sha384 or -sha512, each with \
                           -esn or -noesn behind it";
    let Some(item) = section.find("esp_proposals") else {
        return Ok(vec![EspProposal { algorithm: EspAlgorithm::Aes256Gcm16, esn: true }]);
    };
    let items = item.one_or_more(ALLOWED)?;
    items
        .iter()
        .map(|item| {
            let text = item.text()?;
            let (cipher, esn) = match text.rsplit_once('-') {
                Some((cipher, "esn")) => (cipher, true),
                Some((cipher, "noesn")) => (cipher, false),
                Some(_) | None => (text, false),
            };
            let known = PROPOSALS.iter().find(|(name, _)| *name == cipher);
            known
                .map(|(_, algorithm)| EspProposal { algorithm: *algorithm, esn })
                .ok_or_else(|| item.error(format!("unknown proposal {text:?}"), ALLOWED))
        })
        .collect()
}

fn lifetime(
    section: &Section<'_>,
    rekey_key: &'static str,
    life_key: &'static str,
    read: impl Fn(&Item<'_>) -> Result<u64, ConfigError>,
) -> Result<Lifetime, ConfigError> {
    let value = |key| section.find(key).map_or(Ok(0), |item| read(&item));
    let (rekey, life) = (value(rekey_key)?, value(life_key)?);
    match section.find(rekey_key) {
        Some(item) if life > 0 && rekey > life => {
            Err(item.error(format!("is after {life_key}"), format!("at most {life_key}")))
        }
        _ => Ok(Lifetime { rekey, life }),
    }
}

fn replay_window(section: &Section<'_>, esn: bool) -> Result<u32, ConfigError> {
    const ALLOWED: &str = "0, 64 to 1048576";
    let Some(item) = section.find("replay_window") else { return Ok(1024) };
    let window = item.integer(0..=1 << 20)? as u32;
    if (1..64).contains(&window) {
        return Err(item.error(format!("{window} is out of range"), ALLOWED));
    }
    // Without a window nothing tells the high half of the number (RFC 4303 appendix A2).
    if window == 0 && esn {
        return Err(item.error(
            "replay protection cannot be off with extended sequence numbers",
            "64 to 1048576, or esp_proposals with -noesn",
        ));
    }
    Ok(window)
}

/// A negotiated child's lifetimes have defaults, a static one's have none.
fn static_lifetimes(section: &Section<'_>) -> Result<Lifetimes, ConfigError> {
    Ok(Lifetimes {
        bytes: lifetime(section, "rekey_bytes", "life_bytes", amount)?,
        packets: lifetime(section, "rekey_packets", "life_packets", amount)?,
        time_ms: lifetime(section, "rekey_time", "life_time", duration_ms)?,
        ..Lifetimes::default()
    })
}

fn path_mtu(section: &Section<'_>) -> Result<u16, ConfigError> {
    let path_mtu = integer_or(section, "path_mtu", 0, 0..=65_535)?;
    match section.find("path_mtu") {
        Some(item) if (1..576).contains(&path_mtu) => {
            Err(item.error(format!("{path_mtu} is out of range"), "0, 576 to 65535"))
        }
        _ => Ok(path_mtu as u16),
    }
}

const MODES: [(&str, ChildMode); 4] = [
    ("tunnel", ChildMode::Tunnel),
    ("transport", ChildMode::Transport),
    ("pass", ChildMode::Pass),
    ("drop", ChildMode::Drop),
];

const COPY_DF: [(&str, CopyDf); 3] =
    [("copy", CopyDf::Copy), ("set", CopyDf::Set), ("clear", CopyDf::Clear)];

const COPY_DSCP: [(&str, CopyDscp); 4] =
    [("out", CopyDscp::Out), ("in", CopyDscp::In), ("yes", CopyDscp::Yes), ("no", CopyDscp::No)];

pub(crate) fn read_child(
    name: &str,
    item: &Item<'_>,
    around: Around<'_>,
) -> Result<Child, ConfigError> {
    check_name(name, item)?;
    let section = item.section()?;
    let mode = choice_or(&section, "mode", ChildMode::Tunnel, &MODES)?;
    let protects = matches!(mode, ChildMode::Tunnel | ChildMode::Transport);
    let negotiated = around.ike && protects && section.find_quietly("static").is_none();
    let (local, remote) = (patterns(&section, "local_ts")?, patterns(&section, "remote_ts")?);
    let lifetimes = if negotiated { lifetimes(&section)? } else { static_lifetimes(&section)? };
    let (local_ts, remote_ts, esp_proposals, ike) = if negotiated {
        let (local_ts, remote_ts) = (fixed(&local), fixed(&remote));
        let ike = read_ike_child(&section, &lifetimes, local, remote)?;
        (local_ts, remote_ts, Vec::new(), Some(ike))
    } else {
        let local_ts = resolved(&section, "local_ts", &local, around.local)?;
        let remote_ts = resolved(&section, "remote_ts", &remote, around.remote)?;
        (local_ts, remote_ts, proposals(&section)?, None)
    };
    let negotiable = |ike: &IkeChild| ike.proposals.iter().any(|offer| offer.may_use_esn());
    let esn = esp_proposals.iter().any(|offer| offer.esn) || ike.as_ref().is_some_and(negotiable);
    let child = Child {
        name: name.to_owned(),
        mode,
        local_ts,
        remote_ts,
        priority: integer_or(&section, "priority", 0, 0..=u32::MAX.into())? as u32,
        replay_window: replay_window(&section, esn)?,
        esp_proposals,
        copy_df: choice_or(&section, "copy_df", CopyDf::Copy, &COPY_DF)?,
        copy_ecn: boolean_or(&section, "copy_ecn", true)?,
        copy_dscp: choice_or(&section, "copy_dscp", CopyDscp::Out, &COPY_DSCP)?,
        tfc_padding: integer_or(&section, "tfc_padding", 0, 0..=65_535)? as u16,
        ttl: integer_or(&section, "ttl", 64, 1..=255)? as u8,
        icmp: boolean_or(&section, "icmp", false)?,
        bytes: lifetimes.bytes,
        packets: lifetimes.packets,
        time_ms: lifetimes.time_ms,
        path_mtu: path_mtu(&section)?,
        static_sa: None,
        ike,
        place: item.place(),
    };
    let static_sa = match section.find("static") {
        None => None,
        Some(item) => Some(read_static_sa(&item, &child, around.directory)?),
    };
    section.finish()?;
    Ok(Child { static_sa, ..child })
}

//! `[connections.NAME]` and its children.

use crate::error::{ConfigError, Place};
use crate::instance::is_name;
use crate::key::{KeyOrigin, KeySource};
use crate::reader::{Item, Section};
use crate::traffic_selector::{SYNTAX, TrafficSelector};
use std::net::IpAddr;
use std::path::Path;

/// The port of ESP in UDP (RFC 3948 section 2.1): the only one the steering program looks at.
const NAT_PORT: u16 = 4500;

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Name.
    pub name: String,
    /// Our outer addresses; the first is used for static SAs.
    pub local_addrs: Vec<IpAddr>,
    /// The peer's outer addresses; the first is used for static SAs, of the same family.
    pub remote_addrs: Vec<IpAddr>,
    /// UDP encapsulation whether there is a NAT or not.
    pub encap: bool,
    /// Our UDP port.
    pub local_port: u16,
    /// The peer's UDP port.
    pub remote_port: u16,
    /// Its children, in the order of the file.
    pub children: Vec<Child>,
    /// Where it begins.
    pub place: Place,
}

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
}

impl EspAlgorithm {
    /// Octets of key and salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 20,
            Self::Aes192Gcm16 => 28,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 36,
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
    /// Traffic on our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// Lower applies first; equal ones in the order of the file.
    pub priority: u32,
    /// Never empty; a static SA takes the first.
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
    /// Where it begins.
    pub place: Place,
}

/// `[connections.NAME.children.NAME.static]`: an SA pair without IKE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticSa {
    /// SPI of packets to us.
    pub spi_in: u32,
    /// SPI of packets to the peer.
    pub spi_out: u32,
    /// Key of packets to us.
    pub key_in: KeySource,
    /// Key of packets to the peer.
    pub key_out: KeySource,
    /// The worker that owns both SAs; `None`: any.
    pub worker: Option<u16>,
}

pub(crate) fn read_connections(
    section: &Section<'_>,
    directory: &Path,
) -> Result<Vec<Connection>, ConfigError> {
    let named = section.named();
    named.iter().map(|(name, item)| read_connection(name, item, directory)).collect()
}

fn check_name(name: &str, item: &Item<'_>) -> Result<(), ConfigError> {
    if is_name(name, 32) {
        Ok(())
    } else {
        Err(item.error(format!("{name:?} is no name"), "1 to 32 of a-z 0-9 _ -"))
    }
}

fn addresses(section: &Section<'_>, key: &'static str) -> Result<Vec<IpAddr>, ConfigError> {
    const ALLOWED: &str = "an IP address or a list of them";
    let items = section.require(key)?.one_or_more(ALLOWED)?;
    items
        .iter()
        .map(|item| {
            let text = item.text()?;
            let address: IpAddr =
                text.parse().map_err(|_| item.error(format!("{text:?} is no address"), ALLOWED))?;
            if address.is_unspecified() || address.is_multicast() {
                return Err(item.error(format!("{address} is nobody's own"), ALLOWED));
            }
            Ok(address)
        })
        .collect()
}

fn read_connection(
    name: &str,
    item: &Item<'_>,
    directory: &Path,
) -> Result<Connection, ConfigError> {
    check_name(name, item)?;
    let section = item.section()?;
    let local_addrs = addresses(&section, "local_addrs")?;
    let remote_addrs = addresses(&section, "remote_addrs")?;
    let (Some(local), Some(remote)) = (local_addrs.first(), remote_addrs.first()) else {
        return Err(item.error("has no addresses", ""));
    };
    if local.is_ipv6() != remote.is_ipv6() {
        let place = section.require("remote_addrs")?;
        return Err(place.error(format!("{remote} is of another family than {local}"), ""));
    }
    if local == remote {
        let place = section.require("remote_addrs")?;
        return Err(place.error(format!("{remote} is our own address"), "the peer's address"));
    }
    let port = |key| {
        let item = section.find(key);
        item.map_or(Ok(NAT_PORT), |item| item.integer(1..=65_535).map(|port| port as u16))
    };
    let (local_port, remote_port) = (port("local_port")?, port("remote_port")?);
    let encap = boolean_or(&section, "encap", false)?;
    if let (true, Some(item)) = (encap && local_port != NAT_PORT, section.find("local_port")) {
        let what = format!("ESP in UDP to port {local_port} would not be received");
        return Err(item.error(what, NAT_PORT.to_string()));
    }
    let children = section.section("children")?.named();
    let children = children
        .iter()
        .map(|(name, item)| read_child(name, item, *local, *remote, directory))
        .collect::<Result<Vec<_>, _>>()?;
    section.finish()?;
    Ok(Connection {
        name: name.to_owned(),
        local_addrs,
        remote_addrs,
        encap,
        local_port,
        remote_port,
        children,
        place: item.place(),
    })
}

fn boolean_or(
    section: &Section<'_>,
    key: &'static str,
    default: bool,
) -> Result<bool, ConfigError> {
    section.find(key).map_or(Ok(default), |item| item.boolean())
}

fn integer_or(
    section: &Section<'_>,
    key: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    section.find(key).map_or(Ok(default), |item| item.integer(range))
}

fn selectors(
    section: &Section<'_>,
    key: &'static str,
    own: IpAddr,
) -> Result<Vec<TrafficSelector>, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(vec![TrafficSelector::host(own)]) };
    let items = item.one_or_more(SYNTAX)?;
    items
        .iter()
        .map(|item| {
            TrafficSelector::parse(item.text()?, own).map_err(|what| item.error(what, SYNTAX))
        })
        .collect()
}

const PROPOSALS: [(&str, EspAlgorithm); 4] = [
    ("aes128gcm16", EspAlgorithm::Aes128Gcm16),
    ("aes192gcm16", EspAlgorithm::Aes192Gcm16),
    ("aes256gcm16", EspAlgorithm::Aes256Gcm16),
    ("chacha20poly1305", EspAlgorithm::ChaCha20Poly1305),
];

fn proposals(section: &Section<'_>) -> Result<Vec<EspProposal>, ConfigError> {
    const ALLOWED: &str = "aes128gcm16, aes192gcm16, aes256gcm16, chacha20poly1305, each with \
                           -esn or -noesn behind it";
    let Some(item) = section.find("esp_proposals") else {
        return Ok(vec![EspProposal { algorithm: EspAlgorithm::Aes256Gcm16, esn: true }]);
    };
    let items = item.one_or_more(ALLOWED)?;
    items
        .iter()
        .map(|item| {
            let text = item.text()?;
            let (cipher, esn) = match text.split_once('-') {
                None => (text, false),
                Some((cipher, "esn")) => (cipher, true),
                Some((cipher, "noesn")) => (cipher, false),
                Some(_) => return Err(item.error(format!("unknown proposal {text:?}"), ALLOWED)),
            };
            let known = PROPOSALS.iter().find(|(name, _)| *name == cipher);
            known
                .map(|(_, algorithm)| EspProposal { algorithm: *algorithm, esn })
                .ok_or_else(|| item.error(format!("unknown proposal {text:?}"), ALLOWED))
        })
        .collect()
}

/// A number of seconds, or a number with `s`, `m`, `h` or `d`; in milliseconds.
fn duration_ms(item: &Item<'_>) -> Result<u64, ConfigError> {
    const ALLOWED: &str = "seconds, or a number with s, m, h or d such as \"1h\"";
    const LONGEST_SECONDS: u64 = 100 * 365 * 86_400;
    if item.is_integer() {
        return Ok(item.integer(0..=LONGEST_SECONDS)? * 1000);
    }
    let text = item.text()?;
    let wrong = || item.error(format!("{text:?} is no time"), ALLOWED);
    let (number, unit) = match text.char_indices().last() {
        Some((position, 's')) => (text.get(..position), 1),
        Some((position, 'm')) => (text.get(..position), 60),
        Some((position, 'h')) => (text.get(..position), 3600),
        Some((position, 'd')) => (text.get(..position), 86_400),
        _ => (Some(text), 1),
    };
    let number: u64 = number.unwrap_or_default().trim().parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds <= LONGEST_SECONDS);
    seconds.map(|seconds| seconds * 1000).ok_or_else(wrong)
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

fn replay_window(section: &Section<'_>, proposals: &[EspProposal]) -> Result<u32, ConfigError> {
    const ALLOWED: &str = "0, 64 to 1048576";
    let Some(item) = section.find("replay_window") else { return Ok(1024) };
    let window = item.integer(0..=1 << 20)? as u32;
    if (1..64).contains(&window) {
        return Err(item.error(format!("{window} is out of range"), ALLOWED));
    }
    // Without a window nothing tells the high half of the number (RFC 4303 appendix A2).
    if window == 0 && proposals.iter().any(|proposal| proposal.esn) {
        return Err(item.error(
            "replay protection cannot be off with extended sequence numbers",
            "64 to 1048576, or esp_proposals with -noesn",
        ));
    }
    Ok(window)
}

fn read_child(
    name: &str,
    item: &Item<'_>,
    local: IpAddr,
    remote: IpAddr,
    directory: &Path,
) -> Result<Child, ConfigError> {
    check_name(name, item)?;
    let section = item.section()?;
    let modes = [
        ("tunnel", ChildMode::Tunnel),
        ("transport", ChildMode::Transport),
        ("pass", ChildMode::Pass),
        ("drop", ChildMode::Drop),
    ];
    let copy_df = [("copy", CopyDf::Copy), ("set", CopyDf::Set), ("clear", CopyDf::Clear)];
    let copy_dscp = [
        ("out", CopyDscp::Out),
        ("in", CopyDscp::In),
        ("yes", CopyDscp::Yes),
        ("no", CopyDscp::No),
    ];
    let count = |item: &Item<'_>| item.integer(0..=i64::MAX as u64);
    let mode = section.find("mode").map_or(Ok(ChildMode::Tunnel), |item| item.choice(&modes))?;
    let esp_proposals = proposals(&section)?;
    let path_mtu = integer_or(&section, "path_mtu", 0, 0..=65_535)?;
    if (1..576).contains(&path_mtu) {
        let item = section.require("path_mtu")?;
        return Err(item.error(format!("{path_mtu} is out of range"), "0, 576 to 65535"));
    }
    let child = Child {
        name: name.to_owned(),
        mode,
        local_ts: selectors(&section, "local_ts", local)?,
        remote_ts: selectors(&section, "remote_ts", remote)?,
        priority: integer_or(&section, "priority", 0, 0..=u32::MAX.into())? as u32,
        replay_window: replay_window(&section, &esp_proposals)?,
        esp_proposals,
        copy_df: section.find("copy_df").map_or(Ok(CopyDf::Copy), |item| item.choice(&copy_df))?,
        copy_ecn: boolean_or(&section, "copy_ecn", true)?,
        copy_dscp: section
            .find("copy_dscp")
            .map_or(Ok(CopyDscp::Out), |item| item.choice(&copy_dscp))?,
        tfc_padding: integer_or(&section, "tfc_padding", 0, 0..=65_535)? as u16,
        ttl: integer_or(&section, "ttl", 64, 1..=255)? as u8,
        icmp: boolean_or(&section, "icmp", false)?,
        bytes: lifetime(&section, "rekey_bytes", "life_bytes", count)?,
        packets: lifetime(&section, "rekey_packets", "life_packets", count)?,
        time_ms: lifetime(&section, "rekey_time", "life_time", duration_ms)?,
        path_mtu: path_mtu as u16,
        static_sa: None,
        place: item.place(),
    };
    let static_sa = match section.find("static") {
        None => None,
        Some(item) => Some(read_static_sa(&item, &child, directory)?),
    };
    section.finish()?;
    Ok(Child { static_sa, ..child })
}

fn key_source(
    section: &Section<'_>,
    file_key: &'static str,
    environment_key: &'static str,
    directory: &Path,
    len: usize,
) -> Result<KeySource, ConfigError> {
    let origin = match (section.find(file_key), section.find(environment_key)) {
        (Some(item), None) => {
            let path = item.text()?;
            if path.is_empty() || path.contains('\0') {
                return Err(item.error("is no path", "a path"));
            }
            Some((KeyOrigin::File(directory.join(path)), item.place()))
        }
        (None, Some(item)) => {
            let name = item.text()?;
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(item.error("is no variable", "the name of an environment variable"));
            }
            Some((KeyOrigin::Environment(name.to_owned()), item.place()))
        }
        _ => None,
    };
    let (origin, place) = origin.ok_or_else(|| {
        let what = format!("exactly one of {file_key} and {environment_key} is needed");
        section.place_of(file_key).error(what, "")
    })?;
    Ok(KeySource { origin, place, len })
}

fn read_static_sa(
    item: &Item<'_>,
    child: &Child,
    directory: &Path,
) -> Result<StaticSa, ConfigError> {
    if matches!(child.mode, ChildMode::Pass | ChildMode::Drop) {
        return Err(item.error("a child that protects nothing has no SA", "tunnel, transport"));
    }
    let section = item.section()?;
    // `esp_proposals` is never empty.
    let len = child.esp_proposals.first().map_or(0, |proposal| proposal.algorithm.key_len());
    let spi = |key| section.require(key)?.integer(256..=u32::MAX.into()).map(|spi| spi as u32);
    let static_sa = StaticSa {
        spi_in: spi("spi_in")?,
        spi_out: spi("spi_out")?,
        key_in: key_source(&section, "key_in_file", "key_in_env", directory, len)?,
        key_out: key_source(&section, "key_out_file", "key_out_env", directory, len)?,
        worker: match section.find("worker") {
            None => None,
            Some(item) => Some(item.integer(0..=63)? as u16),
        },
    };
    section.finish()?;
    Ok(static_sa)
}

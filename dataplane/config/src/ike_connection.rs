//! What IKE needs to know of a connection, in swanctl's words and with its defaults.

use crate::auth_round::{AuthRound, read_rounds};
use crate::connection::boolean_or;
use crate::duration::{duration_ms, duration_or};
use crate::error::ConfigError;
use crate::instance::choice_or;
use crate::proposal::{Proposal, read_proposals};
use crate::reader::{Item, Section};
use crate::traffic_selector::TrafficSelector;
use std::net::IpAddr;
use std::path::Path;

/// `rekey_time` where neither it nor `reauth_time` is given.
const REKEY_TIME_MS: u64 = 4 * 3600 * 1000;

/// One of `remote_addrs`: who may be at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// Anybody, in either family.
    Any,
    /// The addresses from the first to the last; one address if they are equal.
    Range {
        /// First address.
        first: IpAddr,
        /// Last address, of the same family and not below the first.
        last: IpAddr,
    },
}

impl PeerAddress {
    /// Whether the peer may be at this address.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Range { first, last } => {
                first.is_ipv6() == address.is_ipv6() && (*first..=*last).contains(&address)
            }
        }
    }

    /// The address, if it is a single one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        match self {
            Self::Range { first, last } if first == last => Some(*first),
            Self::Range { .. } | Self::Any => None,
        }
    }

    /// Reads an address, a subnet, a range, `%any`, `%any4` or `%any6`.
    fn parse(text: &str) -> Result<Self, String> {
        let all = |network: &str| TrafficSelector::parse(network, IpAddr::from([0, 0, 0, 0]));
        let selector = match text {
            "%any" | "any" => return Ok(Self::Any),
            "%any4" | "0.0.0.0" => all("0.0.0.0/0")?,
            "%any6" | "::" => all("::/0")?,
            "dynamic" => return Err("\"dynamic\" is of traffic selectors".to_owned()),
            text if text.contains('[') => return Err(format!("{text:?} is no address")),
            text => all(text)?,
        };
        let (first, last) = selector.bounds();
        if first == last && first.is_multicast() {
            return Err(format!("{first} is nobody's own"));
        }
        Ok(Self::Range { first, last })
    }
}

/// `fragmentation` of IKE messages (RFC 7383).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IkeFragmentation {
    /// Offered and used.
    Yes,
    /// Offered, not used for what we send.
    Accept,
    /// Used whether the peer offers it or not.
    Force,
    /// Neither.
    No,
}

/// `childless` (RFC 6023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Childless {
    /// Accepted, not initiated.
    Allow,
    /// Initiated where the peer can.
    Prefer,
    /// Nothing else.
    Force,
    /// Refused.
    Never,
}

/// `unique`: what happens to an IKE SA when a second one for the same identities comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// Only what INITIAL_CONTACT says.
    No,
    /// Not even that.
    Never,
    /// The old one stays, the new one is refused.
    Keep,
    /// The new one replaces it.
    Replace,
}

/// `send_cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendCert {
    /// Always.
    Always,
    /// If the peer asks.
    IfAsked,
    /// Never.
    Never,
}

/// The IKE half of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeConnection {
    /// Who may be at the other end; never empty. The first single address is initiated to.
    pub peers: Vec<PeerAddress>,
    /// UDP port that we initiate from.
    pub local_port: u16,
    /// UDP port that we initiate to.
    pub remote_port: u16,
    /// Never empty.
    pub proposals: Vec<Proposal>,
    /// Follow changes of address (RFC 4555).
    pub mobike: bool,
    /// Silence after which the peer is asked whether it lives, in milliseconds; 0 is never.
    pub dpd_delay_ms: u64,
    /// IKE fragmentation.
    pub fragmentation: IkeFragmentation,
    /// IKE SAs without a child.
    pub childless: Childless,
    /// Several IKE SAs with one peer.
    pub unique: Unique,
    /// Time to reauthentication, in milliseconds; 0 is never.
    pub reauth_time_ms: u64,
    /// Time to rekeying, in milliseconds; 0 is never.
    pub rekey_time_ms: u64,
    /// Time from either to the end of the IKE SA, in milliseconds.
    pub over_time_ms: u64,
    /// Up to so much is subtracted at random from either, in milliseconds.
    pub rand_time_ms: u64,
    /// Attempts to initiate; 0 is without end.
    pub keyingtries: u32,
    /// Names of the pools that the peer is given addresses from.
    pub pools: Vec<String>,
    /// Virtual addresses that we ask for; unspecified ones stand for any of their family.
    pub vips: Vec<IpAddr>,
    /// When our certificate is sent.
    pub send_cert: SendCert,
    /// Ask for the peer's certificate.
    pub send_certreq: bool,
    /// Identity of the post-quantum preshared key (RFC 8784); `None`: none is used.
    pub ppk_id: Option<String>,
    /// Refuse peers without it.
    pub ppk_required: bool,
    /// How we authenticate, in order; never empty.
    pub local: Vec<AuthRound>,
    /// How the peer authenticates, in order; never empty.
    pub remote: Vec<AuthRound>,
}

const REMOTE_SYNTAX: &str =
    "%any, ADDRESS, ADDRESS/LENGTH, FIRST-LAST, or a list of them (no host names)";

fn peers(section: &Section<'_>) -> Result<Vec<PeerAddress>, ConfigError> {
    let Some(item) = section.find("remote_addrs") else { return Ok(vec![PeerAddress::Any]) };
    let items = item.one_or_more(REMOTE_SYNTAX)?;
    let peer = |item: &Item<'_>| {
        PeerAddress::parse(item.text()?).map_err(|what| item.error(what, REMOTE_SYNTAX))
    };
    items.iter().map(peer).collect()
}

/// Our addresses; none at all stands for any.
pub(crate) fn own_addresses(section: &Section<'_>) -> Result<Vec<IpAddr>, ConfigError> {
    const ALLOWED: &str = "%any, an IP address, or a list of them (no host names)";
    let Some(item) = section.find("local_addrs") else { return Ok(Vec::new()) };
    let mut addresses = Vec::new();
    let mut any = false;
    for item in item.one_or_more(ALLOWED)? {
        let text = item.text()?;
        if matches!(text, "%any" | "any" | "%any4" | "%any6" | "0.0.0.0" | "::") {
            any = true;
            continue;
        }
        let address: IpAddr =
            text.parse().map_err(|_| item.error(format!("{text:?} is no address"), ALLOWED))?;
        if address.is_multicast() {
            return Err(item.error(format!("{address} is nobody's own"), ALLOWED));
        }
        addresses.push(address);
    }
    // Any address is more than those named beside it.
    Ok(if any { Vec::new() } else { addresses })
}

/// Refuses what is IKEv1's or not done here, unless it is switched off.
pub(crate) fn refuse_unsupported(
    section: &Section<'_>,
    keys: &[(&'static str, &str)],
) -> Result<(), ConfigError> {
    for (key, why) in keys {
        match section.find_quietly(key) {
            Some(item) if !item.is_off() => {
                return Err(item.error(format!("is not supported: {why}"), ""));
            }
            _ => {}
        }
    }
    Ok(())
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("aggressive", "aggressive mode is IKEv1's"),
    ("pull", "push mode is IKEv1's"),
    ("dscp", "IKE messages are sent with DSCP 0"),
    ("mediation", "there is no mediation extension"),
    ("mediated_by", "there is no mediation extension"),
    ("mediation_peer", "there is no mediation extension"),
    ("if_id_in", "there are no XFRM interfaces"),
    ("if_id_out", "there are no XFRM interfaces"),
    ("ocsp", "nothing is fetched"),
];

/// `reauth_time`, `rekey_time`, `over_time` and `rand_time`, in milliseconds.
fn times(section: &Section<'_>) -> Result<[u64; 4], ConfigError> {
    let given = |key| section.find(key).map(|item| duration_ms(&item)).transpose();
    let (reauth, rekey) = (given("reauth_time")?, given("rekey_time")?);
    // Reauthentication replaces rekeying unless both are asked for.
    let rekey = rekey.unwrap_or(if reauth.is_some() { 0 } else { REKEY_TIME_MS });
    let reauth = reauth.unwrap_or(0);
    let over = given("over_time")?.unwrap_or(rekey.max(reauth) / 10);
    let rand = given("rand_time")?.unwrap_or(over);
    let soonest = [reauth, rekey].into_iter().filter(|time| *time > 0).min();
    match section.find("rand_time") {
        Some(item) if soonest.is_some_and(|soonest| rand >= soonest) => {
            Err(item.error("is not shorter than the time it is subtracted from", ""))
        }
        _ => Ok([reauth, rekey, over, rand]),
    }
}

fn keyingtries(section: &Section<'_>) -> Result<u32, ConfigError> {
    match section.find("keyingtries") {
        None => Ok(1),
        Some(item) if item.is_integer() => Ok(item.integer(0..=10_000)? as u32),
        Some(item) => item.choice(&[("%forever", 0)]),
    }
}

fn vips(section: &Section<'_>) -> Result<Vec<IpAddr>, ConfigError> {
    const ALLOWED: &str = "0.0.0.0, ::, an IP address, or a list of them";
    let Some(item) = section.find("vips") else { return Ok(Vec::new()) };
    let items = item.one_or_more(ALLOWED)?;
    let address = |item: &Item<'_>| {
        let text = item.text()?;
        text.parse().map_err(|_| item.error(format!("{text:?} is no address"), ALLOWED))
    };
    items.iter().map(address).collect()
}

fn texts(section: &Section<'_>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(Vec::new()) };
    let items = item.one_or_more("a name or a list of them")?;
    items.iter().map(|item| Ok(item.text()?.to_owned())).collect()
}

fn check_version(section: &Section<'_>) -> Result<(), ConfigError> {
    // 0 is IKEv2 with IKEv1 accepted in swanctl: here it would promise too much.
    match section.find("version") {
        Some(item) if item.integer(0..=u64::MAX)? != 2 => {
            Err(item.error("is not supported: IKEv2 is all there is", "2"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn read_ike_connection(
    section: &Section<'_>,
    directory: &Path,
) -> Result<IkeConnection, ConfigError> {
    let port = |key| {
        let item = section.find(key);
        item.map_or(Ok(500), |item| item.integer(1..=65_535).map(|port| port as u16))
    };
    let fragmentation = [
        ("yes", IkeFragmentation::Yes),
        ("accept", IkeFragmentation::Accept),
        ("force", IkeFragmentation::Force),
        ("no", IkeFragmentation::No),
    ];
    let childless = [
        ("allow", Childless::Allow),
        ("prefer", Childless::Prefer),
        ("force", Childless::Force),
        ("never", Childless::Never),
    ];
    let unique = [
        ("no", Unique::No),
        ("never", Unique::Never),
        ("keep", Unique::Keep),
        ("replace", Unique::Replace),
    ];
    let send_cert =
        [("always", SendCert::Always), ("ifasked", SendCert::IfAsked), ("never", SendCert::Never)];
    check_version(section)?;
    let [reauth_time_ms, rekey_time_ms, over_time_ms, rand_time_ms] = times(section)?;
    // IKEv2 knows a peer is gone by its retransmissions.
    let _ignored = duration_or(section, "dpd_timeout", 0)?;
    let ike = IkeConnection {
        peers: peers(section)?,
        local_port: port("local_port")?,
        remote_port: port("remote_port")?,
        proposals: read_proposals(
            section,
            "proposals",
            Proposal::parse_ike,
            Proposal::default_ike,
        )?,
        mobike: boolean_or(section, "mobike", true)?,
        dpd_delay_ms: duration_or(section, "dpd_delay", 0)?,
        fragmentation: choice_or(section, "fragmentation", IkeFragmentation::Yes, &fragmentation)?,
        childless: choice_or(section, "childless", Childless::Allow, &childless)?,
        unique: choice_or(section, "unique", Unique::No, &unique)?,
        reauth_time_ms,
        rekey_time_ms,
        over_time_ms,
        rand_time_ms,
        keyingtries: keyingtries(section)?,
        pools: texts(section, "pools")?,
        vips: vips(section)?,
        send_cert: choice_or(section, "send_cert", SendCert::IfAsked, &send_cert)?,
        send_certreq: boolean_or(section, "send_certreq", true)?,
        ppk_id: section.find("ppk_id").map(|item| item.text().map(str::to_owned)).transpose()?,
        ppk_required: boolean_or(section, "ppk_required", false)?,
        local: read_rounds(section, "local", directory)?,
        remote: read_rounds(section, "remote", directory)?,
    };
    refuse_unsupported(section, UNSUPPORTED)?;
    match section.find("ppk_required") {
        Some(item) if ike.ppk_required && ike.ppk_id.is_none() => {
            Err(item.error("needs ppk_id", ""))
        }
        _ => Ok(ike),
    }
}

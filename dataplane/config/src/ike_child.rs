//! What IKE needs to know of a child, in swanctl's words and with its defaults.

use crate::child::Lifetime;
use crate::connection::boolean_or;
use crate::duration::{amount, duration_ms, duration_or};
use crate::error::ConfigError;
use crate::ike_connection::refuse_unsupported;
use crate::instance::choice_or;
use crate::proposal::{Proposal, read_proposals};
use crate::reader::{Item, Section};
use crate::traffic_selector::SelectorPattern;

/// `rekey_time` where neither it nor `life_time` is given.
const REKEY_TIME_MS: u64 = 3600 * 1000;

/// `start_action` and `close_action`; neither is `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Install trap policies.
    pub trap: bool,
    /// Initiate.
    pub start: bool,
}

/// `dpd_action`: what happens to the child when the peer is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpdAction {
    /// It goes.
    Clear,
    /// It goes, trap policies come.
    Trap,
    /// It is negotiated anew.
    Start,
}

/// The IKE half of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeChild {
    /// Never empty.
    pub proposals: Vec<Proposal>,
    /// Traffic on our side, as written.
    pub local_ts: Vec<SelectorPattern>,
    /// Traffic on the peer's side, as written.
    pub remote_ts: Vec<SelectorPattern>,
    /// What happens when the configuration is loaded.
    pub start_action: Action,
    /// What happens when the peer closes the child.
    pub close_action: Action,
    /// What happens when the peer is dead.
    pub dpd_action: DpdAction,
    /// Up to so much is subtracted at random from `rekey_time`, in milliseconds.
    pub rand_time_ms: u64,
    /// The same for `rekey_bytes`.
    pub rand_bytes: u64,
    /// The same for `rekey_packets`.
    pub rand_packets: u64,
    /// Silence after which the child is closed, in milliseconds; 0 is never.
    pub inactivity_ms: u64,
    /// Let the peer reach this machine's own addresses, too.
    pub hostaccess: bool,
    /// Install policies.
    pub policies: bool,
}

/// Lifetimes with what is subtracted at random.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lifetimes {
    pub(crate) time_ms: Lifetime,
    pub(crate) bytes: Lifetime,
    pub(crate) packets: Lifetime,
    /// Of `time_ms`, `bytes` and `packets`.
    pub(crate) rand: [u64; 3],
}

type Read = fn(&Item<'_>) -> Result<u64, ConfigError>;

/// One measure: `life` is `rekey` and a tenth, `rand` the difference, unless given.
fn lifetime(
    section: &Section<'_>,
    [rekey_key, life_key, rand_key]: [&'static str; 3],
    read: Read,
    default: u64,
) -> Result<(Lifetime, u64), ConfigError> {
    let given = |key| section.find(key).map(|item| read(&item)).transpose();
    let (rekey, life, rand) = (given(rekey_key)?, given(life_key)?, given(rand_key)?);
    let rekey = match (rekey, life) {
        (Some(rekey), _) => rekey,
        (None, Some(life)) => life - life / 11,
        (None, None) => default,
    };
    let life = life.unwrap_or_else(|| rekey.saturating_add(rekey / 10));
    let rand = rand.unwrap_or_else(|| life.saturating_sub(rekey));
    if let (true, Some(item)) = (life > 0 && rekey > life, section.find(rekey_key)) {
        return Err(item.error(format!("is after {life_key}"), format!("at most {life_key}")));
    }
    match section.find(rand_key) {
        Some(item) if rekey > 0 && rand >= rekey => {
            Err(item.error(format!("is not less than {rekey_key}"), format!("below {rekey_key}")))
        }
        _ => Ok((Lifetime { rekey, life }, rand.min(rekey.saturating_sub(1)))),
    }
}

pub(crate) fn lifetimes(section: &Section<'_>) -> Result<Lifetimes, ConfigError> {
    let time = ["rekey_time", "life_time", "rand_time"];
    let bytes = ["rekey_bytes", "life_bytes", "rand_bytes"];
    let packets = ["rekey_packets", "life_packets", "rand_packets"];
    let (time_ms, rand_time) = lifetime(section, time, duration_ms, REKEY_TIME_MS)?;
    let (bytes, rand_bytes) = lifetime(section, bytes, amount, 0)?;
    let (packets, rand_packets) = lifetime(section, packets, amount, 0)?;
    Ok(Lifetimes { time_ms, bytes, packets, rand: [rand_time, rand_bytes, rand_packets] })
}

/// `none`, `trap`, `start`, or `trap` and `start` with `|` between them.
fn action(section: &Section<'_>, key: &'static str) -> Result<Action, ConfigError> {
    const ALLOWED: &str = "none, trap, start, trap|start";
    let Some(item) = section.find(key) else { return Ok(Action::default()) };
    let text = item.text()?;
    let mut action = Action::default();
    for word in text.split('|') {
        match word.trim() {
            "none" | "clear" if !text.contains('|') => {}
            "trap" | "hold" | "route" => action.trap = true,
            "start" | "restart" => action.start = true,
            _ => return Err(item.error(format!("unknown value {text:?}"), ALLOWED)),
        }
    }
    Ok(action)
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("ah_proposals", "AH is not spoken"),
    ("sha256_96", "SHA-256 is truncated to 128 bits (RFC 4868)"),
    ("updown", "no scripts are run"),
    ("ipcomp", "packets are not compressed"),
    ("policies_fwd_out", "there are no kernel policies"),
    ("reqid", "there are no kernel policies"),
    ("label", "there are no security labels"),
    ("label_mode", "there are no security labels"),
    ("interface", "there are no kernel policies"),
    ("mark_in", "there are no packet marks"),
    ("mark_in_sa", "there are no packet marks"),
    ("mark_out", "there are no packet marks"),
    ("set_mark_in", "there are no packet marks"),
    ("set_mark_out", "there are no packet marks"),
    ("if_id_in", "there are no XFRM interfaces"),
    ("if_id_out", "there are no XFRM interfaces"),
    ("hw_offload", "ESP is done on the processor's cores"),
    ("per_cpu_sas", "one SA serves all traffic of a child"),
];

pub(crate) fn read_ike_child(
    section: &Section<'_>,
    lifetimes: &Lifetimes,
    local_ts: Vec<SelectorPattern>,
    remote_ts: Vec<SelectorPattern>,
) -> Result<IkeChild, ConfigError> {
    let dpd_action = [
        ("clear", DpdAction::Clear),
        ("none", DpdAction::Clear),
        ("trap", DpdAction::Trap),
        ("hold", DpdAction::Trap),
        ("start", DpdAction::Start),
        ("restart", DpdAction::Start),
    ];
    let [rand_time_ms, rand_bytes, rand_packets] = lifetimes.rand;
    let child = IkeChild {
        proposals: read_proposals(
            section,
            "esp_proposals",
            Proposal::parse_esp,
            Proposal::default_esp,
        )?,
        local_ts,
        remote_ts,
        start_action: action(section, "start_action")?,
        close_action: action(section, "close_action")?,
        dpd_action: choice_or(section, "dpd_action", DpdAction::Clear, &dpd_action)?,
        rand_time_ms,
        rand_bytes,
        rand_packets,
        inactivity_ms: duration_or(section, "inactivity", 0)?,
        hostaccess: boolean_or(section, "hostaccess", false)?,
        policies: boolean_or(section, "policies", true)?,
    };
    refuse_unsupported(section, UNSUPPORTED)?;
    Ok(child)
}

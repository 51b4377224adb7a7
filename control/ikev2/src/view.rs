//! IKE SAs and Child SAs as listings show them. Without keys; what the dataplane counts is added
//! by the daemon, which finds it by [`ChildSaView::spi_in`].

use crate::action::{ChildMode, EspSuite};
use crate::child::{ChildSa, ChildState};
use crate::clock::Millis;
use crate::established::Established;
use crate::input::{ChildId, IkeId};
use crate::proposal::{kind, transform_name};
use crate::sa::SaCore;
use crate::state::State;
use crate::traffic_selector;
use crate::wire::TrafficSelector;
use std::net::{IpAddr, SocketAddr};

/// One IKE SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeSaView {
    /// Name of the connection.
    pub connection: String,
    /// Its number.
    pub id: IkeId,
    /// `CONNECTING`, `ESTABLISHED`, `REKEYING`, `REKEYED`, `DELETING`.
    pub state: &'static str,
    /// Whether we started it, by IKE_SA_INIT or by rekeying.
    pub initiator: bool,
    /// The initiator's SPI.
    pub spi_i: u64,
    /// The responder's SPI, 0 before it has answered.
    pub spi_r: u64,
    /// Our identity, once there is one; escaped.
    pub local_id: Option<String>,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's identity, once it is proved; escaped.
    pub remote_id: Option<String>,
    /// The peer's identity in EAP, if it is another one; escaped.
    pub remote_eap_id: Option<String>,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Inner addresses we were given.
    pub local_vips: Vec<IpAddr>,
    /// Inner addresses the peer was given.
    pub remote_vips: Vec<IpAddr>,
    /// The algorithms, in strongSwan's names; empty before they are agreed on.
    pub suite: String,
    /// There is a NAT before us.
    pub nat_local: bool,
    /// There is a NAT before the peer.
    pub nat_remote: bool,
    /// Milliseconds since it was made, or made anew by rekeying.
    pub established_ms: Option<u64>,
    /// Milliseconds until it is rekeyed.
    pub rekey_in_ms: Option<u64>,
    /// Milliseconds until it is authenticated anew.
    pub reauth_in_ms: Option<u64>,
    /// Its Child SAs.
    pub children: Vec<ChildSaView>,
}

/// One Child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSaView {
    /// Name of the child.
    pub name: String,
    /// Its number.
    pub id: ChildId,
    /// `INSTALLED`, `REKEYING`, `REKEYED`, `DELETING`.
    pub state: &'static str,
    /// Mode.
    pub mode: ChildMode,
    /// ESP goes in UDP.
    pub encap: bool,
    /// The algorithms, in strongSwan's names.
    pub esp: String,
    /// Our SPI.
    pub spi_in: u32,
    /// The peer's SPI.
    pub spi_out: u32,
    /// Milliseconds since it was installed.
    pub installed_ms: u64,
    /// Milliseconds until it is rekeyed.
    pub rekey_in_ms: Option<u64>,
    /// Milliseconds until it ends.
    pub expires_in_ms: Option<u64>,
    /// Milliseconds since a packet arrived, as far as the dataplane has told.
    pub last_in_ms: Option<u64>,
    /// Milliseconds since a packet left, as far as the dataplane has told.
    pub last_out_ms: Option<u64>,
    /// Traffic on our side.
    pub local_ts: Vec<String>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<String>,
}

impl State {
    /// As listings show it; `None` if nothing is left of it.
    pub(crate) fn view(&self, id: IkeId, now: Millis) -> Option<IkeSaView> {
        let mut view = match self {
            Self::Established(sa) => Some(established(sa, now)),
            Self::InitRequested(state) => {
                let (local, remote) = (state.local, state.remote);
                let mut view = empty(id, state.connection.name.clone(), local, remote);
                (view.initiator, view.spi_i) = (true, state.spi_i);
                Some(view)
            }
            // A refusal that is kept to be repeated is no SA.
            Self::Authenticating(state) if state.is_over() => None,
            Self::IntermediateRequested(_)
            | Self::AuthRequested(_)
            | Self::HalfOpen(_)
            | Self::Authenticating(_)
            | Self::Closed => self.core().map(with_keys),
        }?;
        view.state = self.name();
        Some(view)
    }
}

fn empty(id: IkeId, connection: String, local: SocketAddr, remote: SocketAddr) -> IkeSaView {
    IkeSaView {
        connection,
        id,
        state: "CONNECTING",
        initiator: false,
        spi_i: 0,
        spi_r: 0,
        local_id: None,
        local,
        remote_id: None,
        remote_eap_id: None,
        remote,
        local_vips: Vec::new(),
        remote_vips: Vec::new(),
        suite: String::new(),
        nat_local: false,
        nat_remote: false,
        established_ms: None,
        rekey_in_ms: None,
        reauth_in_ms: None,
        children: Vec::new(),
    }
}

fn with_keys(core: &SaCore) -> IkeSaView {
    let mut view = empty(core.id, core.connection.name.clone(), core.local, core.remote);
    view.initiator = core.initiator;
    (view.spi_i, view.spi_r) = (core.spi_i, core.spi_r);
    view.suite = core.suite.to_string();
    // Where they were negotiated apart from the suite.
    if core.suite.additional().next().is_none() {
        for (slot, method) in (1..).zip(&core.additional_key_exchanges) {
            view.suite.push_str(&format!("/KE{slot}_{}", transform_name(kind::KE, *method)));
        }
    }
    (view.nat_local, view.nat_remote) = (core.nat_local, core.nat_remote);
    view
}

fn established(sa: &Established, now: Millis) -> IkeSaView {
    let until = |at: Option<Millis>| at.map(|at| at.since(now));
    IkeSaView {
        local_id: Some(sa.local_id.to_string()),
        remote_id: Some(sa.remote_id.to_string()),
        remote_eap_id: sa.remote_eap_id.as_ref().map(ToString::to_string),
        local_vips: sa.vips.clone(),
        remote_vips: sa.leases.clone(),
        established_ms: Some(now.since(sa.core.created)),
        rekey_in_ms: until(sa.lifetimes.rekey_at),
        reauth_in_ms: until(sa.lifetimes.reauth_at),
        children: sa.children.iter().map(|child| child_view(child, &sa.core, now)).collect(),
        ..with_keys(&sa.core)
    }
}

fn child_view(child: &ChildSa, core: &SaCore, now: Millis) -> ChildSaView {
    let until = |at: Option<Millis>| at.map(|at| at.since(now));
    let ago = |at: Option<Millis>| at.map(|at| now.since(at));
    let list =
        |selectors: &[TrafficSelector]| selectors.iter().map(traffic_selector::display).collect();
    ChildSaView {
        name: child.policy.name.clone(),
        id: child.id,
        state: match child.state {
            ChildState::Installed | ChildState::InboundOnly => "INSTALLED",
            ChildState::Rekeying => "REKEYING",
            ChildState::Replaced { .. } => "REKEYED",
            ChildState::Deleting => "DELETING",
        },
        mode: child.mode,
        encap: core.encap(),
        esp: esp_name(child.suite, child.key_exchange),
        spi_in: child.spi_in,
        spi_out: child.spi_out,
        installed_ms: now.since(child.installed),
        rekey_in_ms: until(child.rekey_at),
        expires_in_ms: until(child.expires_at),
        last_in_ms: ago(child.last_inbound),
        last_out_ms: ago(child.last_outbound),
        local_ts: list(&child.local_ts),
        remote_ts: list(&child.remote_ts),
    }
}

/// `AES_GCM_16-128/CURVE_25519/ESN`.
fn esp_name(suite: EspSuite, key_exchange: u16) -> String {
    let mut name = transform_name(kind::ENCR, suite.encryption);
    if suite.key_bits != 0 {
        name.push_str(&format!("-{}", suite.key_bits));
    }
    if suite.integrity != 0 {
        name.push_str(&format!("/{}", transform_name(kind::INTEG, suite.integrity)));
    }
    if key_exchange != 0 {
        name.push_str(&format!("/{}", transform_name(kind::KE, key_exchange)));
    }
    if suite.esn {
        name.push_str("/ESN");
    }
    name
}

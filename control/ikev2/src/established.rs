//! Stand-in until the real one is merged.
use crate::child::ChildSa;
use crate::clock::Millis;
use crate::input::{ChildId, RequestId};
use crate::policy::ChildPolicy;
use crate::sa::{Context, Inbound, SaCore};
use crate::state::State;
use crate::wire::TrafficSelector;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_credentials::Identity;
#[derive(Debug)]
pub(crate) struct Params { pub(crate) local_id: Identity, pub(crate) remote_id: Identity, pub(crate) remote_eap_id: Option<Identity>, pub(crate) child: Option<ChildSa>, pub(crate) wanted: Vec<Wanted>, pub(crate) vips: Vec<IpAddr>, pub(crate) leases: Vec<IpAddr>, pub(crate) auth_lifetime_s: Option<u32> }
#[derive(Clone, Debug)]
pub(crate) struct Wanted { pub(crate) policy: Arc<ChildPolicy>, pub(crate) packet: Option<[TrafficSelector; 2]>, pub(crate) request: Option<RequestId> }
#[derive(Debug)]
pub(crate) struct Established { pub(crate) core: SaCore, pub(crate) children: Vec<ChildSa>, params: (Identity, Identity) }
impl Established {
    pub(crate) fn new(_ctx: &mut Context<'_>, core: SaCore, p: Params) -> Box<Self> { Box::new(Self { core, children: p.child.into_iter().collect(), params: (p.local_id, p.remote_id) }) }
    pub(crate) const fn name(&self) -> &'static str { "ESTABLISHED" }
    pub(crate) fn is_usable(&self) -> bool { true }
    pub(crate) fn is_between(&self, l: &Identity, r: &Identity) -> bool { self.params.0 == *l && self.params.1 == *r }
    pub(crate) fn child_names(&self) -> Vec<String> { Vec::new() }
    pub(crate) fn live_children(&self, _n: &str) -> Vec<ChildId> { Vec::new() }
    pub(crate) fn request(self: Box<Self>, _c: &mut Context<'_>, _i: Inbound) -> State { State::Established(self) }
    pub(crate) fn response(self: Box<Self>, _c: &mut Context<'_>, _i: Inbound) -> State { State::Established(self) }
    pub(crate) fn timer(self: Box<Self>, _c: &mut Context<'_>) -> State { State::Established(self) }
    pub(crate) fn deadline(&self) -> Option<Millis> { None }
    pub(crate) fn abandon(self: Box<Self>, _c: &mut Context<'_>, _w: &str) {}
    pub(crate) fn terminate(self: Box<Self>, _c: &mut Context<'_>, _x: Option<ChildId>, _f: bool, _r: Option<RequestId>) -> State { State::Closed }
    pub(crate) fn rekey(self: Box<Self>, _c: &mut Context<'_>, _x: Option<ChildId>, _f: bool, _r: Option<RequestId>) -> State { State::Established(self) }
    pub(crate) fn expiry(self: Box<Self>, _c: &mut Context<'_>, _s: u32, _h: bool) -> State { State::Established(self) }
    pub(crate) fn peer_moved(self: Box<Self>, _c: &mut Context<'_>, _r: SocketAddr) -> State { State::Established(self) }
    pub(crate) fn child_use(self: Box<Self>, _c: &mut Context<'_>, _s: u32, _a: Option<u64>, _b: Option<u64>) -> State { State::Established(self) }
    pub(crate) fn initiate_child(self: Box<Self>, _c: &mut Context<'_>, _p: &Arc<ChildPolicy>, _k: Option<[TrafficSelector; 2]>, _r: Option<RequestId>) -> State { State::Established(self) }
}

//! What the operator allows and wants, ready for the machine: the peer authorization
//! database of RFC 4301 section 4.4.3 with the connections' parameters.

use crate::action::ChildMode;
use crate::wire::{TrafficSelector, Transform};
use std::net::IpAddr;
use std::sync::Arc;
use xswan_credentials::{
    AuthMethod, Certificate, Identity, IdentityPattern, PeerPolicy, PrivateKeyStore, RawPublicKey,
    SharedSecrets, TrustStore,
};
use xswan_eap::tls::{ClientCredential, ServerCredential};

/// Everything the core works from; replaced as a whole by a reload.
#[derive(Debug, Default)]
pub struct Configuration {
    /// In the order of the file; the first that fits a peer is taken.
    pub connections: Vec<Arc<ConnectionPolicy>>,
    /// Certification authorities, pinned certificates, revocation lists.
    pub trust: TrustStore,
    /// Our keys.
    pub keys: PrivateKeyStore,
    /// Pre-shared keys, passwords, post-quantum pre-shared keys.
    pub secrets: SharedSecrets,
    /// Address pools by name.
    pub pools: Vec<crate::pool::PoolPolicy>,
    /// Timers and limits.
    pub settings: crate::settings::Settings,
}

/// Which outer addresses a side may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// Every address.
    Any,
    /// From first to last, of one family; a single address is a range of one.
    Range(IpAddr, IpAddr),
}

impl AddressPattern {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Range(first, last) => {
                first.is_ipv4() == address.is_ipv4() && (*first..=*last).contains(&address)
            }
        }
    }

    /// The address, if there is only one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        match self {
            Self::Range(first, last) if first == last => Some(*first),
            Self::Range(..) | Self::Any => None,
        }
    }
}

/// One proposal: alternatives for each type of transform, preferred ones first.
///
/// A type that does not occur must not be negotiated. With [`Transform::id`] 0 among the
/// alternatives of a key exchange type, leaving that exchange out is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProposalPolicy {
    /// All alternatives of all types.
    pub transforms: Vec<Transform>,
}

/// `fragmentation` (RFC 7383).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragmentation {
    /// Offered, and used for large messages.
    #[default]
    Yes,
    /// Understood, never sent.
    Accept,
    /// Neither.
    No,
}

/// `childless` (RFC 6023).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Childless {
    /// Answered, not asked for.
    #[default]
    Allow,
    /// Asked for where the peer can.
    Prefer,
    /// An IKE_AUTH with a Child SA is refused, and none is sent.
    Force,
    /// Refused.
    Never,
}

/// `unique`: another IKE SA of the same identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unique {
    /// Closed only if the new one comes with INITIAL_CONTACT.
    #[default]
    No,
    /// Never closed.
    Never,
    /// The new one is refused.
    Keep,
    /// The old one is closed.
    Replace,
}

/// When our certificate is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendCertificate {
    /// Always.
    Always,
    /// When the peer asked with CERTREQ.
    #[default]
    IfAsked,
    /// Never.
    Never,
}

/// How we authenticate in one round.
#[derive(Clone, Debug)]
pub struct LocalRound {
    /// Method.
    pub method: AuthMethod,
    /// Who we say we are; `None`: subject of the certificate, or our address.
    pub id: Option<Identity>,
    /// Our identity in EAP, if it is another one.
    pub eap_id: Option<Identity>,
    /// Certificates to choose from.
    pub certificates: Vec<Arc<Certificate>>,
    /// Keys without a certificate, which the peer knows; tried after the certificates.
    pub public_keys: Vec<RawPublicKey>,
    /// What EAP-TLS proves us with, if that is the method.
    pub eap_tls: Option<ClientCredential>,
}

/// How the peer has to authenticate in one round.
#[derive(Clone, Debug)]
pub struct RemoteRound {
    /// Method.
    pub method: AuthMethod,
    /// Who it may be.
    pub id: IdentityPattern,
    /// Who it may be in EAP; `None`: the same as in IKE, and it is not asked.
    pub eap_id: Option<IdentityPattern>,
    /// What is accepted of its certificates and keys.
    pub peer: PeerPolicy,
    /// What EAP-TLS proves us with and trusts, if that is the method.
    pub eap_tls: Option<ServerCredential>,
}

/// A traffic selector before the addresses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorTemplate {
    /// These packets.
    Fixed(TrafficSelector),
    /// The side's own address: virtual if it has one, outer otherwise. With protocol and ports.
    Dynamic {
        /// Protocol; 0 is any.
        protocol: u8,
        /// First port.
        first_port: u16,
        /// Last port.
        last_port: u16,
    },
}

/// What happens to a child without anybody asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAction {
    /// Nothing.
    #[default]
    None,
    /// Brought up by the first packet.
    Trap,
    /// Brought up at once.
    Start,
    /// Brought up at once, and by packets.
    TrapStart,
}

impl StartAction {
    /// Whether packets bring it up.
    #[must_use]
    pub const fn traps(self) -> bool {
        matches!(self, Self::Trap | Self::TrapStart)
    }

    /// Whether it comes up by itself.
    #[must_use]
    pub const fn starts(self) -> bool {
        matches!(self, Self::Start | Self::TrapStart)
    }
}

/// Times of an SA's life, in milliseconds; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// When it is replaced, at the latest.
    pub rekey_ms: u64,
    /// Up to so much earlier, at random, so that not all are replaced at once.
    pub jitter_ms: u64,
    /// When it ends, replaced or not.
    pub life_ms: u64,
}

/// A child of a connection.
#[derive(Clone, Debug)]
pub struct ChildPolicy {
    /// Name.
    pub name: String,
    /// Mode asked for; the responder may only agree.
    pub mode: ChildMode,
    /// ESP proposals, preferred ones first.
    pub proposals: Vec<ProposalPolicy>,
    /// Traffic on our side.
    pub local_ts: Vec<SelectorTemplate>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<SelectorTemplate>,
    /// Life of each of its SAs. Bytes and packets are the dataplane's to count.
    pub lifetime: Lifetime,
    /// What happens when the configuration is loaded.
    pub start_action: StartAction,
    /// What happens when the peer closes it.
    pub close_action: StartAction,
    /// What happens when the peer is dead.
    pub dpd_action: StartAction,
    /// Closed after so long without traffic; 0 is never.
    pub inactivity_ms: u64,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct ConnectionPolicy {
    /// Name.
    pub name: String,
    /// Our outer addresses; empty is any.
    pub local_addresses: Vec<AddressPattern>,
    /// The peer's.
    pub remote_addresses: Vec<AddressPattern>,
    /// Our IKE port, 500 or 4500.
    pub local_port: u16,
    /// The peer's IKE port.
    pub remote_port: u16,
    /// IKE proposals, preferred ones first.
    pub proposals: Vec<ProposalPolicy>,
    /// Our rounds of authentication, at least one.
    pub local_rounds: Vec<LocalRound>,
    /// The peer's rounds of authentication, at least one.
    pub remote_rounds: Vec<RemoteRound>,
    /// Children in the order of the file.
    pub children: Vec<Arc<ChildPolicy>>,
    /// Virtual addresses we ask for; unspecified ones leave the choice to the peer.
    pub vips: Vec<IpAddr>,
    /// Pools that peers get addresses from.
    pub pools: Vec<String>,
    /// ESP in UDP even without a NAT.
    pub encap: bool,
    /// MOBIKE (RFC 4555).
    pub mobike: bool,
    /// Fragmentation.
    pub fragmentation: Fragmentation,
    /// Childless IKE SAs.
    pub childless: Childless,
    /// Duplicates.
    pub unique: Unique,
    /// Liveness checks after so long without a message or packet; 0 is none.
    pub dpd_delay_ms: u64,
    /// Rekeying of the IKE SA.
    pub lifetime: Lifetime,
    /// A new authentication instead; 0 is never.
    pub reauth_ms: u64,
    /// How often the first message is tried as a whole; 0 is for ever.
    pub keying_tries: u32,
    /// When to send our certificate.
    pub send_certificate: SendCertificate,
    /// Whether to ask for the peer's.
    pub send_certificate_request: bool,
    /// Identity of the post-quantum pre-shared key (RFC 8784).
    pub ppk_id: Option<Identity>,
    /// Fail without one.
    pub ppk_required: bool,
}

impl ConnectionPolicy {
    /// The child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Arc<ChildPolicy>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// How well a pair of outer addresses fits: `None` if not at all, more is better.
    #[must_use]
    pub fn fits(&self, local: IpAddr, remote: IpAddr) -> Option<u8> {
        let score = |patterns: &[AddressPattern], address: IpAddr| -> Option<u8> {
            let fitting = patterns.iter().filter(|pattern| pattern.contains(address));
            let value = |pattern: &AddressPattern| match pattern {
                AddressPattern::Any => 1,
                AddressPattern::Range(first, last) if first == last => 3,
                AddressPattern::Range(..) => 2,
            };
            if patterns.is_empty() { Some(1) } else { fitting.map(value).max() }
        };
        let (ours, theirs) =
            (score(&self.local_addresses, local)?, score(&self.remote_addresses, remote)?);
        Some(ours * 4 + theirs)
    }
}

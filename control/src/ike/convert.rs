//! From the configuration and its files to what the core works from.
//!
//! The configuration has been checked as far as its text goes. Here identities are read,
//! methods understood, and certificates found: what cannot be done is an error with the place
//! of the section, or the name of the file, and nothing of the new configuration is used.

use super::credential_files::{Credentials, public_keys};
use super::udp::{PORT, PORT_NAT_T};
use std::sync::Arc;
use xswan_config::{
    Action, AuthRound, Child, ChildMode, Config, ConfigError, Connection, DpdAction, Ike, IkeChild,
    IkeConnection, LoadedSecret, PeerAddress, Revocation, SecretKind, SelectorPattern,
    TrafficSelector,
};
use xswan_credentials::{
    AuthMethod, Certificate, EapKind, Identity, IdentityPattern, PeerPolicy, RevocationPolicy,
    SharedSecretKind, SharedSecrets,
};
use xswan_eap::tls::{ClientCredential, ServerCredential, Versions};
use xswan_ike_crypto::Secret;
use xswan_ikev2::action::ChildMode as Mode;
use xswan_ikev2::policy::{
    AddressPattern, ChildPolicy, Childless, Configuration, ConnectionPolicy, Fragmentation,
    Lifetime, LocalRound, ProposalPolicy, RemoteRound, SelectorTemplate, SendCertificate,
    StartAction, Unique,
};
use xswan_ikev2::pool::PoolPolicy;
use xswan_ikev2::settings::Settings;
use xswan_ikev2::wire;

/// A configuration for the core, and the certificates that listings show.
#[derive(Debug, Default)]
pub struct Converted {
    /// For the core.
    pub configuration: Configuration,
    /// End entity certificates of the folder and of the connections, each once.
    pub certificates: Vec<Arc<Certificate>>,
}

/// Reads every file that the configuration names and converts it.
///
/// # Errors
/// The first thing that cannot be used.
pub fn convert(config: &Config) -> Result<Converted, ConfigError> {
    let mut credentials = Credentials::load(config)?;
    let mut certificates = credentials.certificates.clone();
    let mut connections = Vec::new();
    for connection in &config.connections {
        let Some(ike) = &connection.ike else { continue };
        let policy = connection_policy(connection, ike, &config.ike, &mut credentials)?;
        let own = policy.local_rounds.iter().flat_map(|round| &round.certificates);
        for certificate in own {
            if !certificates.contains(certificate) {
                certificates.push(Arc::clone(certificate));
            }
        }
        connections.push(Arc::new(policy));
    }
    let secrets = shared_secrets(&config.load_secrets()?)?;
    let configuration = Configuration {
        connections,
        secrets,
        trust: credentials.trust,
        keys: credentials.keys,
        pools: config.pools.iter().map(pool).collect(),
        settings: settings(&config.ike),
    };
    Ok(Converted { configuration, certificates })
}

fn shared_secrets(loaded: &[LoadedSecret]) -> Result<SharedSecrets, ConfigError> {
    let mut secrets = SharedSecrets::default();
    for entry in loaded {
        let kind = match entry.kind {
            SecretKind::Ike => SharedSecretKind::Ike,
            SecretKind::Eap => SharedSecretKind::Eap,
            SecretKind::Ntlm => SharedSecretKind::Ntlm,
            SecretKind::Ppk => SharedSecretKind::Ppk,
        };
        let owners = entry.ids.iter().map(String::as_str);
        let secret = Secret::from_slice(entry.secret.expose());
        let added = secrets.add(kind, owners, secret);
        added.map_err(|error| entry.place.error(error.to_string(), "identities"))?;
    }
    Ok(secrets)
}

fn pool(pool: &xswan_config::Pool) -> PoolPolicy {
    PoolPolicy {
        name: pool.name.clone(),
        first: pool.first,
        last: pool.last,
        dns: pool.dns.clone(),
        nbns: pool.nbns.clone(),
        subnets: pool.subnets.clone(),
        domains: Vec::new(),
    }
}

fn settings(ike: &Ike) -> Settings {
    Settings {
        cookie_threshold: ike.cookie_threshold,
        cookie_threshold_ip: ike.cookie_threshold_ip,
        block_threshold: ike.block_threshold,
        init_limit_half_open: ike.init_limit_half_open,
        init_key_exchanges_per_s: ike.init_key_exchanges_per_s,
        half_open_timeout_ms: ike.half_open_timeout_ms,
        retransmit_timeout_ms: ike.retransmit_timeout_ms,
        retransmit_base_permille: ike.retransmit_base_permille.into(),
        retransmit_tries: ike.retransmit_tries,
        fragment_size: ike.fragment_size,
        keepalive_ms: ike.keep_alive_ms,
        delete_rekeyed_delay_ms: ike.delete_rekeyed_delay_ms,
        make_before_break: ike.make_before_break,
        trace_messages: tracing::enabled!(tracing::Level::TRACE),
        ..Settings::default()
    }
}

/// Our port as the core knows it.
fn own_port(connection: &Connection, port: u16, ike: &Ike) -> Result<u16, ConfigError> {
    match port {
        port if port == ike.port || port == PORT => Ok(PORT),
        port if port == ike.port_nat_t || port == PORT_NAT_T => Ok(PORT_NAT_T),
        port => {
            let what = format!("local_port {port} is no port of this daemon");
            let allowed = format!("{} (ike.port), {} (ike.port_nat_t)", ike.port, ike.port_nat_t);
            Err(connection.place.error(what, allowed))
        }
    }
}

fn connection_policy(
    connection: &Connection,
    ike: &IkeConnection,
    daemon: &Ike,
    credentials: &mut Credentials,
) -> Result<ConnectionPolicy, ConfigError> {
    let mut local_rounds = Vec::new();
    for round in &ike.local {
        local_rounds.push(local_round(round, credentials)?);
    }
    let own: Vec<_> =
        local_rounds.iter().flat_map(|round: &LocalRound| round.certificates.clone()).collect();
    let mut remote_rounds = Vec::new();
    for round in &ike.remote {
        remote_rounds.push(remote_round(round, &own, credentials)?);
    }
    // Last, when the authorities of all rounds are known.
    for (round, policy) in ike.local.iter().zip(&mut local_rounds) {
        policy.eap_tls = client_credential(round, policy, credentials)?;
    }
    let pattern = |peer: &PeerAddress| match peer {
        PeerAddress::Any => AddressPattern::Any,
        PeerAddress::Range { first, last } => AddressPattern::Range(*first, *last),
    };
    let children = connection.children.iter();
    let children = children.filter_map(|child| Some((child, child.ike.as_ref()?)));
    let single = |address: &std::net::IpAddr| AddressPattern::Range(*address, *address);
    Ok(ConnectionPolicy {
        name: connection.name.clone(),
        local_addresses: connection.local_addrs.iter().map(single).collect(),
        remote_addresses: ike.peers.iter().map(pattern).collect(),
        local_port: own_port(connection, ike.local_port, daemon)?,
        remote_port: ike.remote_port,
        proposals: proposals(&ike.proposals),
        local_rounds,
        remote_rounds,
        children: children.map(|(child, ike)| Arc::new(child_policy(child, ike))).collect(),
        vips: ike.vips.clone(),
        pools: ike.pools.clone(),
        encap: connection.encap,
        // Not announced before the daemon tells the core its addresses: a peer would rely on it.
        mobike: false,
        fragmentation: match ike.fragmentation {
            // RFC 7383 section 2.3 has no more than "yes": the peer has to agree.
            xswan_config::IkeFragmentation::Yes | xswan_config::IkeFragmentation::Force => {
                Fragmentation::Yes
            }
            xswan_config::IkeFragmentation::Accept => Fragmentation::Accept,
            xswan_config::IkeFragmentation::No => Fragmentation::No,
        },
        childless: match ike.childless {
            xswan_config::Childless::Allow => Childless::Allow,
            xswan_config::Childless::Prefer => Childless::Prefer,
            xswan_config::Childless::Force => Childless::Force,
            xswan_config::Childless::Never => Childless::Never,
        },
        unique: match ike.unique {
            xswan_config::Unique::No => Unique::No,
            xswan_config::Unique::Never => Unique::Never,
            xswan_config::Unique::Keep => Unique::Keep,
            xswan_config::Unique::Replace => Unique::Replace,
        },
        dpd_delay_ms: ike.dpd_delay_ms,
        lifetime: ike_lifetime(ike),
        reauth_ms: ike.reauth_time_ms,
        keying_tries: ike.keyingtries,
        send_certificate: match ike.send_cert {
            xswan_config::SendCert::Always => SendCertificate::Always,
            xswan_config::SendCert::IfAsked => SendCertificate::IfAsked,
            xswan_config::SendCert::Never => SendCertificate::Never,
        },
        send_certificate_request: ike.send_certreq,
        ppk_id: match &ike.ppk_id {
            None => None,
            Some(id) => Some(identity(id, &connection.place)?),
        },
        ppk_required: ike.ppk_required,
    })
}

/// The IKE SA ends `over_time` after whichever of rekeying and reauthentication is first.
fn ike_lifetime(ike: &IkeConnection) -> Lifetime {
    let times = [ike.rekey_time_ms, ike.reauth_time_ms];
    let first = times.into_iter().filter(|time| *time > 0).min();
    Lifetime {
        rekey_ms: ike.rekey_time_ms,
        jitter_ms: ike.rand_time_ms,
        life_ms: first.map_or(0, |first| first.saturating_add(ike.over_time_ms)),
    }
}

fn proposals(proposals: &[xswan_config::Proposal]) -> Vec<ProposalPolicy> {
    let transform = |transform: &xswan_config::Transform| wire::Transform {
        kind: transform.kind,
        id: transform.id,
        key_bits: transform.key_bits,
        ..wire::Transform::default()
    };
    let one = |proposal: &xswan_config::Proposal| ProposalPolicy {
        transforms: proposal.transforms.iter().map(transform).collect(),
    };
    proposals.iter().map(one).collect()
}

const fn start_action(action: Action) -> StartAction {
    match (action.trap, action.start) {
        (false, false) => StartAction::None,
        (true, false) => StartAction::Trap,
        (false, true) => StartAction::Start,
        (true, true) => StartAction::TrapStart,
    }
}

fn child_policy(child: &Child, ike: &IkeChild) -> ChildPolicy {
    let templates =
        |patterns: &[SelectorPattern]| patterns.iter().map(selector_template).collect::<Vec<_>>();
    ChildPolicy {
        name: child.name.clone(),
        mode: match child.mode {
            ChildMode::Transport => Mode::Transport,
            ChildMode::Tunnel | ChildMode::Pass | ChildMode::Drop => Mode::Tunnel,
        },
        proposals: proposals(&ike.proposals),
        local_ts: templates(&ike.local_ts),
        remote_ts: templates(&ike.remote_ts),
        lifetime: Lifetime {
            rekey_ms: child.time_ms.rekey,
            jitter_ms: ike.rand_time_ms,
            life_ms: child.time_ms.life,
        },
        start_action: start_action(ike.start_action),
        close_action: start_action(ike.close_action),
        dpd_action: match ike.dpd_action {
            DpdAction::Clear => StartAction::None,
            DpdAction::Trap => StartAction::Trap,
            DpdAction::Start => StartAction::Start,
        },
        inactivity_ms: ike.inactivity_ms,
    }
}

fn selector_template(pattern: &SelectorPattern) -> SelectorTemplate {
    match *pattern {
        SelectorPattern::Fixed(selector) => SelectorTemplate::Fixed(wire_selector(&selector)),
        SelectorPattern::Dynamic { protocol, first_port, last_port } => {
            SelectorTemplate::Dynamic { protocol, first_port, last_port }
        }
    }
}

/// A selector as IKE has it.
#[must_use]
pub fn wire_selector(selector: &TrafficSelector) -> wire::TrafficSelector {
    let (first, last) = selector.bounds();
    wire::TrafficSelector {
        protocol: selector.protocol,
        first_port: selector.first_port,
        last_port: selector.last_port,
        first,
        last,
    }
}

fn identity(text: &str, place: &xswan_config::Place) -> Result<Identity, ConfigError> {
    let allowed = "an address, a name, NAME@DOMAIN, a distinguished name, or %any";
    Identity::parse(text).map_err(|error| place.error(error.to_string(), allowed))
}

fn method(round: &AuthRound) -> Result<AuthMethod, ConfigError> {
    let parsed: Result<AuthMethod, _> = round.auth.parse();
    parsed.map_err(|error| round.place.error(format!("auth: {error}"), ""))
}

/// An identity of ours; those that stand for anybody are left open.
fn own_identity(text: Option<&String>, round: &AuthRound) -> Result<Option<Identity>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let pattern = IdentityPattern::parse(text);
    if pattern.is_ok_and(|pattern| pattern.is_any()) {
        return Ok(None);
    }
    identity(text, &round.place).map(Some)
}

fn local_round(
    round: &AuthRound,
    credentials: &mut Credentials,
) -> Result<LocalRound, ConfigError> {
    let method = method(round)?;
    let public_keys = public_keys(&round.pubkeys, &round.place)?;
    if let Some(at) =
        public_keys.iter().position(|own| credentials.keys.find(own.spki_der()).is_none())
    {
        let path = round.pubkeys.get(at).map(|path| path.display().to_string());
        let what = format!("pubkeys: no private key for {}", path.unwrap_or_default());
        return Err(round.place.error(what, "a public key whose private key is among the secrets"));
    }
    let id = own_identity(round.id.as_ref(), round)?;
    let mut certificates = credentials.named(&round.certs, &round.place)?;
    if round.certs.is_empty() && public_keys.is_empty() {
        let ours = |certificate: &&Arc<Certificate>| {
            credentials.keys.of_certificate(certificate).is_some()
                && id.as_ref().is_none_or(|id| certificate.matches_identity(id))
        };
        certificates = credentials.certificates.iter().filter(ours).cloned().collect();
    }
    let eap_id = own_identity(round.eap_id.as_ref(), round)?;
    Ok(LocalRound { method, id, eap_id, certificates, public_keys, eap_tls: None })
}

/// The authorities that TLS trusts: those of the round, or all.
fn anchors(credentials: &Credentials, named: &[Arc<Certificate>]) -> Vec<Vec<u8>> {
    if named.is_empty() {
        let all = credentials.trust.authorities();
        return all.map(|authority| authority.der().to_vec()).collect();
    }
    named.iter().map(|authority| authority.der().to_vec()).collect()
}

/// What we prove ourselves with in EAP-TLS. Where any EAP method will do, TLS is one of them
/// only if there is a certificate for it.
fn client_credential(
    round: &AuthRound,
    policy: &LocalRound,
    credentials: &Credentials,
) -> Result<Option<ClientCredential>, ConfigError> {
    let must = policy.method == AuthMethod::Eap(EapKind::Tls);
    if !must && policy.method != AuthMethod::Eap(EapKind::Any) {
        return Ok(None);
    }
    let made = credentials
        .own_for_tls(&policy.certificates)
        .map(|own| ClientCredential::new(&own, &anchors(credentials, &[]), Versions::default()));
    finished(made.map(|made| made.map_err(|error| error.to_string())), must, round)
}

fn server_credential(
    round: &AuthRound,
    method: &AuthMethod,
    own: &[Arc<Certificate>],
    authorities: &[Arc<Certificate>],
    credentials: &Credentials,
) -> Result<Option<ServerCredential>, ConfigError> {
    let must = *method == AuthMethod::Eap(EapKind::Tls);
    if !must && *method != AuthMethod::Eap(EapKind::Any) {
        return Ok(None);
    }
    // A gateway that authenticates by TLS alone may have named no certificate for itself.
    let own =
        credentials.own_for_tls(own).or_else(|| credentials.own_for_tls(&credentials.certificates));
    let made = own.map(|own| {
        ServerCredential::new(&own, &anchors(credentials, authorities), Versions::default())
    });
    finished(made.map(|made| made.map_err(|error| error.to_string())), must, round)
}

fn finished<T>(
    made: Option<Result<T, String>>,
    must: bool,
    round: &AuthRound,
) -> Result<Option<T>, ConfigError> {
    match made {
        Some(Ok(credential)) => Ok(Some(credential)),
        Some(Err(what)) if must => Err(round.place.error(what, "")),
        None if must => {
            let what = "EAP-TLS: there is no certificate of ours with its private key";
            Err(round.place.error(what, "certs in x509 and their keys in private"))
        }
        Some(Err(_)) | None => Ok(None),
    }
}

fn remote_round(
    round: &AuthRound,
    own: &[Arc<Certificate>],
    credentials: &mut Credentials,
) -> Result<RemoteRound, ConfigError> {
    let method = method(round)?;
    let pattern = |text: &String| {
        IdentityPattern::parse(text).map_err(|error| round.place.error(error.to_string(), ""))
    };
    let id = round.id.as_ref().map_or(Ok(IdentityPattern::ANY), pattern)?;
    let eap_id = round.eap_id.as_ref().map(pattern).transpose()?;
    let certificates = credentials.named(&round.certs, &round.place)?;
    let authorities = credentials.named_authorities(&round.cacerts, &round.place)?;
    let rules = match &method {
        AuthMethod::Signature(rules) => rules.clone(),
        AuthMethod::Any | AuthMethod::Psk | AuthMethod::Eap(_) => Default::default(),
    };
    let eap_tls = server_credential(round, &method, own, &authorities, credentials)?;
    let plain =
        |list: &[Arc<Certificate>]| list.iter().map(|one| Certificate::clone(one)).collect();
    let peer = PeerPolicy {
        certificates: plain(&certificates),
        authorities: plain(&authorities),
        public_keys: public_keys(&round.pubkeys, &round.place)?,
        revocation: match round.revocation {
            Revocation::Strict => RevocationPolicy::Strict,
            Revocation::IfUri => RevocationPolicy::IfUri,
            Revocation::Relaxed => RevocationPolicy::Relaxed,
        },
        rules,
    };
    Ok(RemoteRound { method, id, eap_id, peer, eap_tls })
}

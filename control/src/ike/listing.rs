//! What the operator sees of IKE, as JSON.

use super::event_loop::Ike;
use crate::tables::Tables;
use serde_json::{Value, json};
use xswan_config::{AuthRound, Child, ChildMode, Config};
use xswan_credentials::{Certificate, RevocationList};
use xswan_ikev2::Millis;
use xswan_ikev2::action::ChildMode as Mode;
use xswan_ikev2::view::{ChildSaView, IkeSaView};
use xswan_sa_api::clock_ms;

fn seconds(milliseconds: Option<u64>) -> Option<u64> {
    milliseconds.map(|milliseconds| milliseconds / 1000)
}

/// Seconds since a moment on the clock of the maps; null if there was none.
fn ago(when_ms: u64) -> Value {
    if when_ms == 0 { Value::Null } else { (clock_ms().saturating_sub(when_ms) / 1000).into() }
}

fn child_sa(tables: &Tables, child: &ChildSaView) -> Value {
    let own = tables.child_sas.child(child.id);
    let live = own.and_then(|own| tables.maps.inbound_live(own.slot_in));
    let inbound = live.map(|live| live.counters()).unwrap_or_default();
    let live = own.and_then(|own| tables.maps.outbound_live(own.slot_out));
    let outbound = live.map(|live| live.counters()).unwrap_or_default();
    json!({
        "name": child.name,
        "unique_id": child.id.0,
        "reqid": own.map(|own| own.group),
        "state": child.state,
        "mode": match child.mode {
            Mode::Tunnel => "TUNNEL",
            Mode::Transport => "TRANSPORT",
        },
        "encap": child.encap,
        "esp": child.esp,
        "spi_in": format!("{:08x}", child.spi_in),
        "spi_out": format!("{:08x}", child.spi_out),
        "bytes_in": inbound.bytes,
        "packets_in": inbound.packets,
        "last_in_s": ago(inbound.last_used_ms),
        "bytes_out": outbound.bytes,
        "packets_out": outbound.packets,
        "last_out_s": ago(outbound.last_used_ms),
        "auth_fail_in": inbound.auth_fail,
        "replay_in": inbound.replay,
        "lost_in": inbound.lost,
        "drops_out": outbound.drops,
        "installed_s": child.installed_ms / 1000,
        "rekey_in_s": seconds(child.rekey_in_ms),
        "expires_in_s": seconds(child.expires_in_ms),
        "local_ts": child.local_ts,
        "remote_ts": child.remote_ts,
    })
}

fn ike_sa(tables: &Tables, sa: &IkeSaView) -> Value {
    let children: Vec<Value> = sa.children.iter().map(|child| child_sa(tables, child)).collect();
    json!({
        "name": sa.connection,
        "unique_id": sa.id.0,
        "state": sa.state,
        "version": 2,
        "initiator": sa.initiator,
        "spi_i": format!("{:016x}", sa.spi_i),
        "spi_r": format!("{:016x}", sa.spi_r),
        "local_id": sa.local_id.as_deref().unwrap_or("%any"),
        "local_host": sa.local.ip().to_string(),
        "local_port": sa.local.port(),
        "remote_id": sa.remote_id.as_deref().unwrap_or("%any"),
        "remote_eap_id": sa.remote_eap_id,
        "remote_host": sa.remote.ip().to_string(),
        "remote_port": sa.remote.port(),
        "local_vips": sa.local_vips,
        "remote_vips": sa.remote_vips,
        "suite": sa.suite,
        "ppk": sa.suite.ends_with("/PPK"),
        "nat_local": sa.nat_local,
        "nat_remote": sa.nat_remote,
        "established_s": seconds(sa.established_ms),
        "rekey_in_s": seconds(sa.rekey_in_ms),
        "reauth_in_s": seconds(sa.reauth_in_ms),
        "children": children,
    })
}

fn auth_round(round: &AuthRound) -> Value {
    let files = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    json!({
        "auth": round.auth,
        "id": round.id,
        "eap_id": round.eap_id,
        "certs": files(&round.certs),
        "cacerts": files(&round.cacerts),
    })
}

fn child(child: &Child) -> Option<Value> {
    let ike = child.ike.as_ref()?;
    let selectors = |list: &[xswan_config::SelectorPattern]| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    Some(json!({
        "name": child.name,
        "mode": match child.mode {
            ChildMode::Transport => "TRANSPORT",
            ChildMode::Tunnel | ChildMode::Pass | ChildMode::Drop => "TUNNEL",
        },
        "rekey_time_s": child.time_ms.rekey / 1000,
        "local_ts": selectors(&ike.local_ts),
        "remote_ts": selectors(&ike.remote_ts),
    }))
}

/// `list-conns`.
#[must_use]
pub fn connections(config: &Config) -> Value {
    let one = |connection: &xswan_config::Connection| {
        let ike = connection.ike.as_ref()?;
        let peer = |peer: &xswan_config::PeerAddress| match peer {
            xswan_config::PeerAddress::Any => "%any".to_owned(),
            xswan_config::PeerAddress::Range { first, last } if first == last => first.to_string(),
            xswan_config::PeerAddress::Range { first, last } => format!("{first}-{last}"),
        };
        Some(json!({
            "name": connection.name,
            "version": 2,
            "local_addrs": connection.local_addrs,
            "remote_addrs": ike.peers.iter().map(peer).collect::<Vec<_>>(),
            "rekey_time_s": ike.rekey_time_ms / 1000,
            "reauth_time_s": ike.reauth_time_ms / 1000,
            "dpd_delay_s": ike.dpd_delay_ms / 1000,
            "local": ike.local.iter().map(auth_round).collect::<Vec<_>>(),
            "remote": ike.remote.iter().map(auth_round).collect::<Vec<_>>(),
            "children": connection.children.iter().filter_map(child).collect::<Vec<_>>(),
        }))
    };
    json!({ "connections": config.connections.iter().filter_map(one).collect::<Vec<_>>() })
}

fn certificate(kind: &str, certificate: &Certificate, has_private_key: bool) -> Value {
    let (not_before, not_after) = certificate.validity_text();
    let names = certificate.names().iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "kind": kind,
        "subject": certificate.subject_text(),
        "issuer": certificate.issuer_text(),
        "not_before": not_before,
        "not_after": not_after,
        "serial": certificate.serial_text(),
        "alt_names": names,
        "flags": if certificate.is_authority() { Some("CA") } else { None },
        "key_id": certificate.key_id_text(),
        "key": "",
        "has_private_key": has_private_key,
    })
}

fn revocation_list(list: &RevocationList) -> Value {
    json!({
        "kind": "X.509 CRLs",
        "issuer": list.issuer_text(),
        "this_update_unix_s": list.this_update_unix_s(),
        "next_update_unix_s": list.next_update_unix_s(),
    })
}

impl Ike {
    /// The IKE SAs of `list-sas`.
    #[must_use]
    pub fn list_sas(&self, tables: &Tables) -> Value {
        let now = Millis(clock_ms());
        self.engine().ike_sas(now).map(|sa| ike_sa(tables, &sa)).collect()
    }

    /// `list-certs`.
    #[must_use]
    pub fn list_certificates(&self) -> Value {
        let configuration = self.engine().configuration();
        let own = |one: &Certificate| configuration.keys.of_certificate(one).is_some();
        let kind = "X.509 End Entity Certificates";
        let ends = self.certificates.iter().map(|one| certificate(kind, one, own(one)));
        let kind = "X.509 CA Certificates";
        let trust = &configuration.trust;
        let authorities = trust.authorities().map(|one| certificate(kind, one, own(one)));
        let lists = trust.revocation_lists().iter().map(revocation_list);
        json!({ "certificates": ends.chain(authorities).chain(lists).collect::<Vec<_>>() })
    }

    /// `list-pools`.
    #[must_use]
    pub fn list_pools(&self) -> Value {
        let pools = self.engine().pools().iter().map(|(pool, leases)| {
            let online = leases.iter().filter(|lease| lease.users > 0).count();
            let leases: Vec<Value> = leases
                .iter()
                .map(|lease| {
                    json!({
                        "address": lease.address,
                        "online": lease.users > 0,
                        "identity": lease.identity.to_string(),
                    })
                })
                .collect();
            json!({
                "name": pool.name,
                "base": pool.first,
                "size": size(pool.first, pool.last),
                "online": online,
                "offline": leases.len() - online,
                "leases": leases,
            })
        });
        json!({ "pools": pools.collect::<Vec<_>>() })
    }

    /// One line for `status`.
    #[must_use]
    pub fn summary(&self) -> String {
        let statistics = self.engine().statistics();
        let half_open = self.engine().half_open();
        format!("{} IKE SAs established so far, {half_open} half-open", statistics.established)
    }

    /// The limits that are in force in the core, under the names of their keys.
    fn limits(&self) -> Value {
        let settings = &self.engine().configuration().settings;
        json!({
            "cookie_threshold": settings.cookie_threshold,
            "cookie_threshold_ip": settings.cookie_threshold_ip,
            "block_threshold": settings.block_threshold,
            "init_limit_half_open": settings.init_limit_half_open,
            "init_key_exchanges": settings.init_key_exchanges_per_s,
            "half_open_timeout_ms": settings.half_open_timeout_ms,
            "max_ike_sas": settings.max_ike_sas,
            "max_children": settings.max_children,
            "max_key_exchanges_per_s": settings.max_key_exchanges_per_s,
        })
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Value {
        let core = self.engine().statistics();
        let udp = self.udp_counters();
        json!({
            "udp": {
                "received": udp.received,
                "sent": udp.sent,
                "keepalives": udp.keepalives,
                "esp_in_udp": udp.esp_in_udp,
                "unusable": udp.unusable,
                "send_failed": udp.send_failed,
            },
            "core": {
                "datagrams_in": core.datagrams_in,
                "messages_in": core.messages_in,
                "malformed": core.malformed,
                "unexpected": core.unexpected,
                "unknown_spi": core.unknown_spi,
                "unprotected": core.unprotected,
                "integrity": core.integrity,
                "outside_window": core.outside_window,
                "retransmitted_answers": core.retransmitted_answers,
                "retransmitted_requests": core.retransmitted_requests,
                "stateless_answers": core.stateless_answers,
                "suppressed_answers": core.suppressed_answers,
                "refused_key_exchange": core.refused_key_exchange,
                "refused_half_open": core.refused_half_open,
                "established": core.established,
                "authentication_failed": core.authentication_failed,
                "half_open": self.engine().half_open(),
            },
            "limits": self.limits(),
            "events": self.log.counters(),
        })
    }
}

/// Addresses of a range, as far as they can be counted.
fn size(first: std::net::IpAddr, last: std::net::IpAddr) -> u64 {
    let number = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => u128::from(u32::from(address)),
        std::net::IpAddr::V6(address) => u128::from(address),
    };
    let count = number(last).saturating_sub(number(first)).saturating_add(1);
    u64::try_from(count).unwrap_or(u64::MAX)
}

//! The shell around the IKEv2 core: sockets, configuration, Child SAs, addresses, state.

pub mod addresses;
mod adoption;
pub mod awaited;
pub mod child_sas;
pub mod commands;
pub mod convert;
pub mod credential_files;
mod dataplane_news;
pub mod event_log;
pub mod event_loop;
pub mod group_rows;
pub mod lanes;
pub mod lingering;
pub mod listing;
pub mod persistence;
pub mod sa_records;
pub mod slots;
pub mod udp;

/// A selector as the configuration has it.
fn convert_selector(
    selector: &xswan_ikev2::wire::TrafficSelector,
) -> xswan_config::TrafficSelector {
    let number = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => u128::from(u32::from(address)),
        std::net::IpAddr::V6(address) => u128::from(address),
    };
    xswan_config::TrafficSelector {
        ipv6: selector.first.is_ipv6(),
        first: number(selector.first),
        last: number(selector.last),
        protocol: selector.protocol,
        first_port: selector.first_port,
        last_port: selector.last_port,
    }
}

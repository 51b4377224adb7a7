//! The layout of the end-to-end tests and of the demonstration.
//!
//! ```text
//! client-a ── gateway-a ──┐ wire ┌── gateway-b ── client-b
//!  eth0    eth1     eth0  a      b   eth0   eth1     eth0
//! ```
//!
//! `wire` is a bridge in a namespace of its own: a frame sent or taken by AF_XDP is not seen
//! by a packet socket on that same device, so whoever wants to see the wire has to stand
//! between the two.

use crate::failure::Outcome;
use crate::gateway::{Connection, GatewayConfig, Key, StaticSa, key_length};
use crate::netns::{Namespace, veth};

/// Tunnel addresses, IPv4, of both gateways.
pub const OUTER_V4: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// Tunnel addresses, IPv6, of both gateways.
pub const OUTER_V6: [&str; 2] = ["2001:db8:ff::1", "2001:db8:ff::2"];
/// Protected IPv4 prefixes of both sides.
pub const INNER_V4: [&str; 2] = ["10.1.0.0/16", "10.2.0.0/16"];
/// Protected IPv6 prefixes of both sides.
pub const INNER_V6: [&str; 2] = ["2001:db8:a::/64", "2001:db8:b::/64"];
/// IPv4 addresses of both clients.
pub const CLIENT_V4: [&str; 2] = ["10.1.0.2", "10.2.0.2"];
/// IPv6 addresses of both clients.
pub const CLIENT_V6: [&str; 2] = ["2001:db8:a::2", "2001:db8:b::2"];
const GATEWAY_INNER_V4: [&str; 2] = ["10.1.0.1", "10.2.0.1"];
const GATEWAY_INNER_V6: [&str; 2] = ["2001:db8:a::1", "2001:db8:b::1"];

/// Family of the tunnel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// IPv4 between the gateways.
    V4,
    /// IPv6 between the gateways.
    V6,
}

impl Outer {
    /// Tunnel addresses of both gateways in this family.
    #[must_use]
    pub const fn addresses(self) -> [&'static str; 2] {
        match self {
            Self::V4 => OUTER_V4,
            Self::V6 => OUTER_V6,
        }
    }
}

/// Two clients, two gateways and the wire between the gateways.
#[derive(Debug)]
pub struct Topology {
    /// Both clients; device `eth0`.
    pub clients: [Namespace; 2],
    /// Both gateways; `eth0` outside, `eth1` inside.
    pub gateways: [Namespace; 2],
    /// The bridge `br0` with ports `port-a` and `port-b`; captures listen on `port-a`.
    pub wire: Namespace,
}

impl Topology {
    /// Builds everything with addresses and routes; MTU 1500 everywhere.
    ///
    /// The gateways have a default route to each other, so that a packet the steering
    /// missed would be forwarded in clear and seen on the wire.
    ///
    /// # Errors
    /// What a tool said.
    pub fn create() -> Outcome<Self> {
        let topology = Self {
            clients: [Namespace::create("ca")?, Namespace::create("cb")?],
            gateways: [Namespace::create("ga")?, Namespace::create("gb")?],
            wire: Namespace::create("w")?,
        };
        topology.connect_wire()?;
        for side in [0, 1] {
            topology.connect_side(side)?;
        }
        Ok(topology)
    }

    fn connect_wire(&self) -> Outcome<()> {
        self.wire.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        self.wire.ip("link add br0 type bridge mcast_snooping 0")?;
        self.wire.ip("link set dev br0 up")?;
        for (gateway, port) in self.gateways.iter().zip(["port-a", "port-b"]) {
            veth((gateway, "eth0"), (&self.wire, port))?;
            self.wire.ip(&format!("link set dev {port} master br0"))?;
        }
        Ok(())
    }

    fn connect_side(&self, side: usize) -> Outcome<()> {
        let (Some(client), Some(gateway)) = (self.clients.get(side), self.gateways.get(side))
        else {
            return Err("a topology has two sides".into());
        };
        let other = 1 - side;
        veth((client, "eth0"), (gateway, "eth1"))?;
        gateway.sysctl("net/ipv4/ip_forward", "1")?;
        gateway.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        gateway.address("eth0", &format!("{}/24", OUTER_V4[side]))?;
        gateway.address("eth0", &format!("{}/64", OUTER_V6[side]))?;
        gateway.address("eth1", &format!("{}/16", GATEWAY_INNER_V4[side]))?;
        gateway.address("eth1", &format!("{}/64", GATEWAY_INNER_V6[side]))?;
        gateway.ip(&format!("route add default via {}", OUTER_V4[other]))?;
        gateway.ip(&format!("-6 route add default via {}", OUTER_V6[other]))?;
        client.address("eth0", &format!("{}/16", CLIENT_V4[side]))?;
        client.address("eth0", &format!("{}/64", CLIENT_V6[side]))?;
        client.ip(&format!("route add default via {}", GATEWAY_INNER_V4[side]))?;
        client.ip(&format!("-6 route add default via {}", GATEWAY_INNER_V6[side]))?;
        Ok(())
    }
}

/// Both ends of one tunnel called `name`, with fresh keys and without selectors; `number`
/// tells its SPIs from those of other tunnels.
///
/// # Errors
/// An unknown proposal, or no random numbers.
pub fn tunnel_ends(
    name: &str,
    number: u32,
    outer: Outer,
    encap: bool,
    proposal: &str,
) -> Outcome<[Connection; 2]> {
    let length = key_length(proposal)?;
    let (key_ab, key_ba) = (Key::random(length)?, Key::random(length)?);
    let (spi_ab, spi_ba) = (0x0000_2001 + number, 0x0000_1001 + number);
    let [left, right] = outer.addresses();
    let end = |local, remote, sa| Connection {
        encap,
        proposal: proposal.to_owned(),
        sa: Some(sa),
        ..Connection::new(name, local, remote)
    };
    let (key_in, key_out) = (key_ba.clone(), key_ab.clone());
    Ok([
        end(left, right, StaticSa { spi_in: spi_ba, spi_out: spi_ab, key_in, key_out }),
        end(
            right,
            left,
            StaticSa { spi_in: spi_ab, spi_out: spi_ba, key_in: key_ab, key_out: key_ba },
        ),
    ])
}

/// The configurations of two gateways with one tunnel between them and fresh keys.
///
/// # Errors
/// An unknown proposal, or no random numbers.
pub fn tunnel(outer: Outer, encap: bool, proposal: &str) -> Outcome<[GatewayConfig; 2]> {
    let [mut left, mut right] = tunnel_ends("net", 0, outer, encap, proposal)?;
    let mut configs = [instance("ga"), instance("gb")];
    for (side, end) in [&mut left, &mut right].into_iter().enumerate() {
        end.local_ts = vec![INNER_V4[side].to_owned(), INNER_V6[side].to_owned()];
        end.remote_ts = vec![INNER_V4[1 - side].to_owned(), INNER_V6[1 - side].to_owned()];
    }
    configs[0].connections.push(left);
    configs[1].connections.push(right);
    Ok(configs)
}

/// How two gateways prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A pre-shared key.
    Psk,
    /// Certificates of [`crate::pki::Authority`], which has to issue them ([`ike_names`]).
    Certificates,
}

/// The identities of both gateways of [`ike_tunnel`].
#[must_use]
pub const fn ike_names() -> [&'static str; 2] {
    ["gwa.test", "gwb.test"]
}

/// The configurations of two gateways that negotiate one tunnel, child `net` of connection
/// `peer`. `lines` go into the connection, `child_lines` into the child.
#[must_use]
pub fn ike_tunnel(
    outer: Outer,
    proof: Proof,
    proposal: &str,
    lines: &str,
    child_lines: &str,
) -> [GatewayConfig; 2] {
    let mut configs = [instance("ga"), instance("gb")];
    let (addresses, names) = (outer.addresses(), ike_names());
    for (side, config) in configs.iter_mut().enumerate() {
        let other = 1 - side;
        let auth = match proof {
            Proof::Psk => "auth = \"psk\"".to_owned(),
            Proof::Certificates => "auth = \"pubkey\"".to_owned(),
        };
        let certificate = match proof {
            Proof::Psk => String::new(),
            Proof::Certificates => format!("certs = [\"{}.pem\"]", names[side]),
        };
        let secret = match proof {
            Proof::Psk => "\n[secrets.ike]\nsecret = \"a key for a test\"\n",
            Proof::Certificates => "",
        };
        config.appendix = format!(
            "\n[connections.peer]\nversion = 2\nlocal_addrs = {:?}\nremote_addrs = {:?}\n\
             proposals = [\"aes128gcm16-prfsha256-x25519\"]\n{lines}\n\
             \n[connections.peer.local]\n{auth}\nid = {:?}\n{certificate}\n\
             \n[connections.peer.remote]\n{auth}\nid = {:?}\n\
             \n[connections.peer.children.net]\nlocal_ts = [{:?}, {:?}]\n\
             remote_ts = [{:?}, {:?}]\nesp_proposals = [{proposal:?}]\n{child_lines}\n{secret}",
            addresses[side],
            addresses[other],
            names[side],
            names[other],
            INNER_V4[side],
            INNER_V6[side],
            INNER_V4[other],
            INNER_V6[other],
        );
    }
    configs
}

/// A gateway whose instance name nobody else on the machine has.
#[must_use]
pub fn instance(label: &str) -> GatewayConfig {
    let (process, serial) = (std::process::id(), crate::netns::serial());
    GatewayConfig::new(&format!("{label}{process}-{serial}"))
}

#[cfg(test)]
mod tests {
    use super::{OUTER_V4, OUTER_V6, Topology};
    use crate::failure::Outcome;

    #[test]
    fn without_gateways_everything_is_in_clear() -> Outcome<()> {
        crate::require_privileges!("without_gateways_everything_is_in_clear");
        let topology = Topology::create()?;
        let [a, _] = &topology.gateways;
        a.run(&format!("ping -c1 -W2 {}", OUTER_V4[1]))?;
        a.run(&format!("ping -c1 -W2 {}", OUTER_V6[1]))?;
        let [client, _] = &topology.clients;
        client.run(&format!("ping -c1 -W2 {}", super::CLIENT_V4[1]))?;
        client.run(&format!("ping -c1 -W2 {}", super::CLIENT_V6[1]))?;
        Ok(())
    }
}

//! The gateway's own traffic: an address of its own on the TUN device, as a client of a remote
//! access gateway has one.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only vip`.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use xswan_testkit::capture::Capture;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::{Gateway, GatewayConfig};
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, Outer, Topology, tunnel};

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const VIP_V4: &str = "10.1.77.1";
const VIP_V6: &str = "2001:db8:a::77:1";
const TUN: &str = "xswan0";
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 7070;
/// Octets in one direction over TCP: hundreds of segments of full size.
const TRANSFER: usize = 1 << 20;

/// Both gateways up; the first has an address in the tunnel and a route through it, which the
/// daemon adds where it has negotiated them.
fn with_address(topology: &Topology, configs: [GatewayConfig; 2]) -> Outcome<[Gateway<'_>; 2]> {
    let [config_a, config_b] = configs;
    let [space_a, space_b] = &topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    space_a.ip(&format!("addr add {VIP_V4}/32 dev {TUN}"))?;
    space_a.ip(&format!("addr add {VIP_V6}/128 dev {TUN} nodad"))?;
    space_a.ip(&format!("route add {} dev {TUN} src {VIP_V4}", INNER_V4[1]))?;
    space_a.ip(&format!("-6 route add {} dev {TUN} src {VIP_V6}", INNER_V6[1]))?;
    for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
        wait_for(&format!("an answer from {destination}"), SETTLE_LIMIT, || {
            space_a.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
        })?;
    }
    Ok(gateways)
}

#[test]
fn the_gateways_own_packets_go_through_the_tunnel_and_come_back() -> Outcome<()> {
    require_privileges!("the_gateways_own_packets_go_through_the_tunnel_and_come_back");
    for (outer, encap) in [(Outer::V4, false), (Outer::V6, true)] {
        let topology = Topology::create()?;
        let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
        let gateways = with_address(&topology, tunnel(outer, encap, "aes256gcm16-esn")?)?;
        let [gateway, _] = &topology.gateways;
        for (vip, far) in [(VIP_V4, CLIENT_V4[1]), (VIP_V6, CLIENT_V6[1])] {
            let said = gateway.run(&format!("ping -q -c20 -i0.01 -W2 -I {vip} {far}"))?;
            assert!(said.contains(" 0% packet loss"), "{said}");
        }
        // Larger than the tunnel: the kernel may cut before or the gateway after.
        gateway.run(&format!("ping -q -c3 -i0.1 -W2 -s 3000 -M dont {}", CLIENT_V4[1]))?;
        // The other way round: the far host begins.
        topology.clients[1].run(&format!("ping -q -c5 -i0.01 -W2 {VIP_V4}"))?;
        topology.clients[1].run(&format!("ping -q -c5 -i0.01 -W2 {VIP_V6}"))?;
        drop(gateways);
        let sighting = capture.stop()?;
        assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
        assert!(sighting.nonce.total() >= 100, "{:?}", sighting.nonce.packets);
    }
    Ok(())
}

/// A TCP connection with DF set and a TUN device of 9000 bytes: it works only if the kernel is
/// told the size that fits.
#[test]
fn tun_04_the_kernel_learns_the_tunnels_mtu() -> Outcome<()> {
    require_privileges!("tun_04_the_kernel_learns_the_tunnels_mtu");
    let topology = Topology::create()?;
    let _gateways = with_address(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    let [gateway, _] = &topology.gateways;
    for far in [CLIENT_V4[1], CLIENT_V6[1]] {
        let far: IpAddr = far.parse().expect("an address");
        let address = SocketAddr::new(far, PORT);
        let listener = topology.clients[1].enter(|| TcpListener::bind(address))??;
        let receiver = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            Ok(all)
        });
        let sent: Vec<u8> = (0..TRANSFER).map(|n| (n / 251) as u8 ^ n as u8).collect();
        let mut stream = gateway.enter(|| TcpStream::connect(address))??;
        stream.set_write_timeout(Some(SETTLE_LIMIT))?;
        stream.write_all(&sent)?;
        drop(stream);
        let received = receiver.join().expect("joined")?;
        assert!(received == sent, "{} octets of {}", received.len(), sent.len());
        let route = gateway.ip(&format!("route get {far}"))?;
        assert!(route.contains(TUN), "{route}");
    }
    // A datagram that may not be cut is refused by the kernel itself, with the size.
    let line = format!("ping -c2 -W2 -s 1500 -M do {}", CLIENT_V4[1]);
    let refused = gateway.run(&line).expect_err("larger than the tunnel").to_string();
    assert!(refused.contains("1446"), "{refused}");
    gateway.run(&format!("ping -c2 -W2 -s 1418 -M do {}", CLIENT_V4[1]))?;
    Ok(())
}

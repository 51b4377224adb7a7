//! Packets that no chunk of the packet memory holds, through tunnels with room for them and
//! into one without.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only jumbo`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::Gateway;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, CLIENT_V6, Outer, Topology, tunnel};
use xswan_testkit::traffic::EchoServer;

const ECHO_PORT: u16 = 7007;
const STREAM_PORT: u16 = 7008;
/// Bytes of the TCP transfer, each way.
const STREAM_BYTES: usize = 8 << 20;
const LIMIT: Duration = Duration::from_secs(20);
const MTU: usize = 9000;
/// What a chunk of 2048 bytes holds of a frame.
const CHUNK: usize = 1792;
const ETHERNET: usize = 14;

/// Every device that a packet of the tunnel passes, outside and inside.
fn raise(topology: &Topology, outer_mtu: usize, inner_mtu: usize) -> Outcome<()> {
    for port in ["port-a", "port-b", "br0"] {
        topology.wire.ip(&format!("link set dev {port} mtu {outer_mtu}"))?;
    }
    for gateway in &topology.gateways {
        gateway.ip(&format!("link set dev eth0 mtu {outer_mtu}"))?;
        gateway.ip(&format!("link set dev eth1 mtu {inner_mtu}"))?;
    }
    for client in &topology.clients {
        client.ip(&format!("link set dev eth0 mtu {inner_mtu}"))?;
    }
    Ok(())
}

fn start<'a>(
    topology: &'a Topology,
    outer: Outer,
    encap: bool,
    line: &str,
) -> Outcome<[Gateway<'a>; 2]> {
    let configs = tunnel(outer, encap, "aes128gcm16-esn")?;
    let [space_a, space_b] = &topology.gateways;
    let [config_a, config_b] = configs.map(|mut config| {
        config.dataplane_lines.push(line.to_owned());
        config
    });
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
        wait_for("a first answer", LIMIT, || {
            topology.clients[0].run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
        })?;
    }
    Ok(gateways)
}

/// Lengths of IP packets around every edge of a buffer: of what is received in clear, and of
/// what leaves with an outer header around it, and the longest.
fn lengths(longest: usize) -> Vec<usize> {
    let mut lengths = vec![longest - 1, longest];
    for edge in (1..=MTU / CHUNK).map(|n| n * CHUNK) {
        // Around it, and with up to 110 bytes of ESP and headers around that.
        lengths.extend((edge - 1..=edge + 1).map(|frame| frame - ETHERNET));
        lengths.extend((edge - 112..edge - 48).step_by(3).map(|frame| frame - ETHERNET));
    }
    lengths.retain(|&length| length <= longest);
    lengths
}

/// Sends datagrams that make IP packets of these lengths and waits for each to come back whole.
fn echo(topology: &Topology, destination: &str, lengths: &[usize]) -> Outcome<()> {
    let destination: IpAddr = destination.parse().map_err(|_| Failure::new("an address"))?;
    let (any, headers) = if destination.is_ipv4() { ("0.0.0.0:0", 28) } else { ("[::]:0", 48) };
    let socket = topology.clients[0].enter(|| UdpSocket::bind(any))??;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut buffer = vec![0; 65536];
    for (number, &length) in lengths.iter().enumerate() {
        let payload: Vec<u8> =
            (0..length - headers).map(|at| (at * 31 + number * 7 + at / 256) as u8).collect();
        socket.send_to(&payload, (destination, ECHO_PORT))?;
        let got = socket.recv(&mut buffer).map_err(|error| {
            Failure::new(format!("an IP packet of {length} bytes did not come back: {error}"))
        })?;
        assert!(buffer[..got] == payload[..], "{length} bytes to {destination} came back changed");
    }
    Ok(())
}

/// A TCP connection carries so many bytes each way, the right ones.
fn stream(topology: &Topology, destination: &str) -> Outcome<()> {
    let address: IpAddr = destination.parse().map_err(|_| Failure::new("an address"))?;
    let address = SocketAddr::new(address, STREAM_PORT);
    let listener = topology.clients[1].enter(|| TcpListener::bind(address))??;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        let mut received = vec![0; STREAM_BYTES];
        peer.set_read_timeout(Some(LIMIT))?;
        peer.read_exact(&mut received)?;
        peer.write_all(&received)
    });
    let mut client =
        topology.clients[0].enter(|| TcpStream::connect_timeout(&address, LIMIT))??;
    client.set_read_timeout(Some(LIMIT))?;
    let sent: Vec<u8> = (0..STREAM_BYTES).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    client.write_all(&sent)?;
    let mut back = vec![0; STREAM_BYTES];
    client.read_exact(&mut back)?;
    assert!(back == sent, "the stream came back changed");
    server.join().map_err(|_| Failure::new("the server panicked"))??;
    Ok(())
}

/// Nothing was lost for want of a buffer, a place in a ring, or for being what it was.
fn assert_none_lost(gateway: &Gateway<'_>) -> Outcome<()> {
    // A neighbour found late, a packet that belongs to nobody, and the client's first long
    // packets, of which it is told the size that fits.
    const HARMLESS: [&str; 4] = ["martian", "too_big", "hold_timeout", "ttl"];
    let answer = gateway.query(&["drops"])?;
    for row in answer["reasons"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        assert!(row["count"] == 0 || HARMLESS.contains(&name), "lost: {row}");
    }
    let runtime = gateway.query(&["runtime"])?;
    for queue in runtime["queues"].as_array().into_iter().flatten() {
        for lost in ["xsk_rx_dropped", "xsk_rx_ring_full", "xsk_rx_invalid", "xsk_tx_invalid"] {
            assert_eq!(queue[lost], 0, "{lost}: {queue}");
        }
    }
    let sum = |name: &str| -> u64 {
        let workers = runtime["workers"].as_array().into_iter().flatten();
        workers.filter_map(|worker| worker[name].as_u64()).sum()
    };
    assert!(sum("gathered") > 100 && sum("scattered") > 100, "{runtime}");
    Ok(())
}

fn through_tunnels(line: &str, forms: &[(Outer, bool)]) -> Outcome<()> {
    for &(outer, encap) in forms {
        let topology = Topology::create()?;
        raise(&topology, MTU, MTU)?;
        let gateways = start(&topology, outer, encap, line)?;
        let _echo = EchoServer::start(&topology.clients[1], ECHO_PORT)?;
        for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
            let headers = if destination.contains(':') { 48 } else { 28 };
            let size = 8900 - headers;
            topology.clients[0]
                .run(&format!("ping -q -c10 -i0.02 -W2 -M do -s {size} {destination}"))?;
            topology.clients[1].run(&format!(
                "ping -q -c10 -i0.02 -W2 -M do -s {size} {}",
                if headers == 48 { CLIENT_V6[0] } else { CLIENT_V4[0] }
            ))?;
            echo(&topology, destination, &lengths(8900))?;
            stream(&topology, destination)?;
        }
        for gateway in &gateways {
            assert_none_lost(gateway)?;
        }
    }
    Ok(())
}

#[test]
fn long_packets_pass_raw_and_in_udp() -> Outcome<()> {
    require_privileges!("long_packets_pass_raw_and_in_udp");
    through_tunnels("", &[(Outer::V4, false), (Outer::V4, true), (Outer::V6, false)])
}

#[test]
fn long_packets_pass_by_either_way_to_the_kernel() -> Outcome<()> {
    require_privileges!("long_packets_pass_by_either_way_to_the_kernel");
    through_tunnels("rings = \"xsk-rs\"", &[(Outer::V4, false)])?;
    through_tunnels("frame_size = 4096", &[(Outer::V6, true)])
}

#[test]
fn long_packets_are_cut_or_refused_before_a_tunnel_without_room() -> Outcome<()> {
    require_privileges!("long_packets_are_cut_or_refused_before_a_tunnel_without_room");
    let topology = Topology::create()?;
    raise(&topology, 1500, MTU)?;
    let gateways = start(&topology, Outer::V4, false, "")?;
    let _echo = EchoServer::start(&topology.clients[1], ECHO_PORT)?;
    let [client, _] = &topology.clients;
    // Without DF it is cut, and put together again at the other end.
    client.run(&format!("ping -q -c10 -i0.02 -W2 -M dont -s 8872 {}", CLIENT_V4[1]))?;
    // With DF the client is told, and cuts for itself what IPv6 or a datagram allows.
    let refused = client.run(&format!("ping -q -c1 -W2 -M do -s 8872 {}", CLIENT_V4[1]));
    assert!(refused.is_err(), "a packet of 8900 bytes passed a tunnel of 1500");
    let route = client.ip(&format!("route get {}", CLIENT_V4[1]))?;
    assert!(route.contains("mtu 14"), "{route}");
    for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
        stream(&topology, destination)?;
    }
    assert_eq!(gateways[0].drops("multi_buf")?, 0);
    assert_eq!(gateways[0].drops("no_frame")?, 0);
    Ok(())
}

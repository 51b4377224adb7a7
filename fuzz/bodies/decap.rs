//! Any bytes as an ESP packet, and any bytes as what an authentic but hostile peer sealed.

use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::decap;
use xswan_esp::replay::ReplayWindow;
use xswan_esp::sa::{InboundConfig, InboundSa, Mode, UdpPorts};
use xswan_testkit::esp_builder::EspBuilder;
use xswan_wire::layers::Addresses;

const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 4] = [1, 2, 3, 4];
const SPI: u32 = 0x1001;
const WINDOW: u32 = 64;

/// The first byte chooses the SA and which of the two; the rest is the packet or its content.
pub fn run(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let esn = choice & 1 != 0;
    let encap = choice & 2 != 0;
    let transport = choice & 4 != 0;
    let mut sa = inbound(esn, encap, transport);
    let mut out = vec![0xa5; rest.len() + 128];
    if choice & 8 == 0 {
        let verdict = decap::decap(&mut sa, rest, [], 0, &mut out);
        assert!(verdict.is_err(), "nobody knows the key");
        return;
    }
    let Some((&[pad_len, next_header, sequence], plain)) = rest.split_first_chunk::<3>() else {
        return;
    };
    let mut builder = EspBuilder::new(SPI, &KEY, SALT, u64::from(sequence), plain);
    builder.esn = esn;
    builder.udp = encap.then_some((4500, 4500));
    builder.next_header = next_header;
    if choice & 16 != 0 {
        builder.pad_len = Some(pad_len);
    }
    let Ok(packet) = builder.build() else { return };
    let mut out = vec![0xa5; packet.len() + 64];
    if let Ok(checked) = decap::decap(&mut sa, &packet, [], 0, &mut out) {
        assert!(checked.len() <= out.len());
    }
    // Whatever it was, it has been seen now.
    if sequence != 0 {
        assert!(decap::decap(&mut sa, &packet, [], 0, &mut out).is_err());
    }
}

fn inbound(esn: bool, encap: bool, transport: bool) -> InboundSa<Key, Vec<u64>> {
    let addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
    let mut config = InboundConfig::tunnel(SPI, SALT, addresses);
    config.encap = encap.then_some(UdpPorts { local: 4500, remote: 4500 });
    config.mode = if transport { Mode::Transport } else { Mode::Tunnel };
    let words = vec![0; xswan_esp::replay::words_for(WINDOW)];
    let replay = ReplayWindow::new(WINDOW, esn, words).expect("a window");
    let cipher = Key::new(Backend::RustCrypto, Algorithm::Aes128Gcm16, &KEY).expect("a key");
    InboundSa::new(&config, cipher, replay, 0).expect("an SA")
}

//! One handshake with a pre-shared key in memory: IKE_SA_INIT and IKE_AUTH between two cores,
//! a new IKE SA and a Child SA, with the work of either side apart.
//!
//! `aes128gcm16-prfsha256-x25519`; events and actions are made and thrown away, nothing is
//! installed. SAs are kept and closed now and then, as a gateway has them; closing is measured
//! on its own.

use criterion::{Criterion, criterion_group, criterion_main};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use xswan_benches::measure::{self, cycles_per_packet};
use xswan_ikev2::{Input, Millis};
use xswan_simulation::{Gateway, policies};

/// SAs that are there at once, at most.
const CLIENTS: u16 = 1000;

struct Pair {
    gateways: [Gateway; 2],
    next: u16,
    /// Ticks of the last exchange, by side.
    spent: [u64; 2],
}

impl Pair {
    fn new() -> Self {
        let [one, two] = policies::ADDRESSES;
        let mut responder = policies::clients_gateway();
        responder.settings.cookie_threshold = 0;
        responder.settings.cookie_threshold_ip = 0;
        let gateways = [
            Gateway::new(one, Arc::new(policies::clients(CLIENTS)), 1),
            Gateway::new(two, Arc::new(responder), 2),
        ];
        Self { gateways, next: 0, spent: [0; 2] }
    }

    /// Gives an input to gateway 0 and carries datagrams to and fro until there are none.
    fn exchange(&mut self, input: Input) {
        self.spent = [0; 2];
        let (mut side, mut inputs) = (0, vec![input]);
        while !inputs.is_empty() {
            let gateway = &mut self.gateways[side];
            let begun = xswan_xsk::cycles();
            let sent: Vec<_> =
                inputs.drain(..).flat_map(|input| gateway.handle(input, Millis(1000))).collect();
            self.spent[side] += xswan_xsk::cycles().wrapping_sub(begun);
            gateway.log.clear();
            side = 1 - side;
            let arrival =
                |from: SocketAddr, local, octets| Input::Datagram { local, remote: from, octets };
            inputs.extend(sent.into_iter().map(|sent| arrival(sent.from, sent.to, sent.octets)));
        }
    }

    fn handshake(&mut self) {
        if self.next == CLIENTS {
            (0..CLIENTS).for_each(|client| self.close(client));
            self.next = 0;
        }
        let request = self.gateways[0].ask();
        self.exchange(Input::Initiate {
            connection: Some(policies::client_name(self.next)),
            child: Some("net".to_owned()),
            packet: None,
            request: Some(request),
        });
        assert_eq!(self.gateways[0].answers.remove(&request.0), Some(Ok(1)));
        self.next += 1;
    }

    fn close(&mut self, client: u16) {
        let target = xswan_ikev2::Target::Connection(policies::client_name(client));
        self.exchange(Input::Terminate { target, force: false, request: None });
    }
}

fn bench(criterion: &mut Criterion) {
    let pair = RefCell::new(Pair::new());
    for (side, name) in ["initiator", "responder"].into_iter().enumerate() {
        cycles_per_packet(&format!("handshake/{name}"), 1, || {
            pair.borrow_mut().handshake();
            pair.borrow().spent[side]
        });
    }
    for (side, name) in ["initiator", "responder"].into_iter().enumerate() {
        cycles_per_packet(&format!("delete/{name}"), 1, || {
            let mut pair = pair.borrow_mut();
            pair.handshake();
            let last = pair.next - 1;
            pair.close(last);
            pair.spent[side]
        });
    }
    criterion.bench_function("handshake/both", |bencher| {
        bencher.iter(|| pair.borrow_mut().handshake());
    });
}

criterion_group!(name = benches; config = measure::criterion(); targets = bench);
criterion_main!(benches);

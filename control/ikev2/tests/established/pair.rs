//! Two gateways and the datagrams between them, one step at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_ikev2::view::IkeSaView;
use xswan_ikev2::{Input, Millis, Target};
use xswan_simulation::{Gateway, policies};

/// A datagram, by its octets; the addresses do not change here.
pub type Packet = (std::net::SocketAddr, std::net::SocketAddr, Vec<u8>);

/// The two gateways.
pub struct Pair {
    pub gateways: [Gateway; 2],
    pub now: Millis,
    /// What is on its way to each.
    pub queues: [VecDeque<Packet>; 2],
    /// Whether every step is checked for traffic that would be lost.
    pub strict: bool,
    configurations: [Arc<Configuration>; 2],
    /// Messages that went out, by sender, since they were last looked at.
    pub sent: [usize; 2],
}

impl Pair {
    /// Configured, and nothing up.
    pub fn new(seed: u64, change: impl Fn(usize, &mut ConnectionPolicy)) -> Self {
        Self::with(seed, change, |_| {})
    }

    pub fn with(
        seed: u64,
        change: impl Fn(usize, &mut ConnectionPolicy),
        settings: impl Fn(&mut Configuration),
    ) -> Self {
        let configuration = |number: usize| {
            let mut connection = policies::connection(number);
            if number == 1 {
                // Either side may have to start again.
                let [first, _] = policies::ADDRESSES;
                connection.remote_addresses =
                    vec![xswan_ikev2::policy::AddressPattern::Range(first, first)];
            }
            change(number, &mut connection);
            let mut configuration = policies::configuration(connection);
            settings(&mut configuration);
            Arc::new(configuration)
        };
        let configurations = [configuration(0), configuration(1)];
        let gateway = |number: usize| {
            let configuration = Arc::clone(&configurations[number]);
            let seed = seed * 1_000 + number as u64;
            Gateway::new(policies::ADDRESSES[number], configuration, seed)
        };
        Self {
            gateways: [gateway(0), gateway(1)],
            now: Millis(1_000),
            queues: [VecDeque::new(), VecDeque::new()],
            strict: false,
            sent: [0; 2],
            configurations: configurations.clone(),
        }
    }

    /// The daemon of a gateway is killed and starts again.
    pub fn restart(&mut self, gateway: usize) {
        let configuration = Arc::clone(&self.configurations[gateway]);
        self.gateways[gateway].restart(configuration, self.now);
    }

    /// With the connection and its child `net` up.
    pub fn up(seed: u64, change: impl Fn(usize, &mut ConnectionPolicy)) -> Self {
        let mut pair = Self::new(seed, change);
        pair.bring_up("net");
        pair
    }

    pub fn bring_up(&mut self, child: &str) {
        let request = self.gateways[0].ask();
        self.input(0, initiate(child, Some(request)));
        self.run_for(1_000);
        assert_eq!(self.gateways[0].answers.remove(&request.0), Some(Ok(1)), "{}", self.logs());
        self.sent = [0; 2];
    }

    /// Gives an input to a gateway.
    pub fn input(&mut self, gateway: usize, input: Input) {
        for datagram in self.gateways[gateway].handle(input, self.now) {
            self.sent[gateway] += 1;
            self.queues[1 - gateway].push_back((datagram.from, datagram.to, datagram.octets));
        }
        if self.strict {
            self.assert_lossless();
        }
    }

    /// Asks as an operator; the number of the question.
    pub fn ask(&mut self, gateway: usize, input: impl Fn(xswan_ikev2::RequestId) -> Input) -> u64 {
        let request = self.gateways[gateway].ask();
        self.input(gateway, input(request));
        request.0
    }

    /// Delivers the oldest datagram to a gateway.
    pub fn deliver(&mut self, to: usize) -> bool {
        let Some((from, at, octets)) = self.queues[to].pop_front() else { return false };
        self.input(to, Input::Datagram { local: at, remote: from, octets });
        true
    }

    /// Delivers everything there is, and what comes of it; time does not pass.
    pub fn settle(&mut self) {
        while self.deliver(0) || self.deliver(1) {}
    }

    /// Lets everything happen for so long.
    pub fn run_for(&mut self, milliseconds: u64) {
        let end = self.now.plus(milliseconds);
        self.settle();
        let mut steps = 0;
        while let Some(at) = self.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.timers();
            self.settle();
            steps += 1;
            assert!(steps < 20_000, "timers that never come to rest:\n{}", self.logs());
        }
        self.now = end;
    }

    pub fn timers(&mut self) {
        for gateway in 0..2 {
            let due = self.gateways[gateway].engine.deadline();
            if due.is_some_and(|due| due <= self.now) {
                self.input(gateway, Input::Timer);
            }
        }
    }

    pub fn deadline(&self) -> Option<Millis> {
        self.gateways.iter().filter_map(|gateway| gateway.engine.deadline()).min()
    }

    pub fn ike_sas(&self, gateway: usize) -> Vec<IkeSaView> {
        self.gateways[gateway].engine.ike_sas(self.now).collect()
    }

    pub fn logs(&self) -> String {
        let [a, b] = &self.gateways;
        format!("--- a\n{}\n--- b\n{}", a.log.join("\n"), b.log.join("\n"))
    }

    /// Whatever either side sends now, the other one opens.
    pub fn assert_lossless(&self) {
        let [a, b] = &self.gateways;
        assert!(a.opens_what_is_sent_by(b), "a cannot open what b sends\n{}", self.logs());
        assert!(b.opens_what_is_sent_by(a), "b cannot open what a sends\n{}", self.logs());
        for gateway in &self.gateways {
            assert!(gateway.outbound_children() >= 1, "nothing leaves\n{}", self.logs());
        }
    }

    /// One IKE SA with so many children, the same on both sides, and nothing else.
    pub fn assert_at_rest(&self, children: usize) {
        for number in 0..2 {
            let gateway = &self.gateways[number];
            let sas = self.ike_sas(number);
            let logs = || self.logs();
            assert_eq!(sas.len(), 1, "IKE_SAs of {number}: {sas:#?}\n{}", logs());
            assert_eq!(sas[0].state, "ESTABLISHED", "{}", logs());
            assert_eq!(sas[0].children.len(), children, "{number}: {sas:#?}\n{}", logs());
            assert_eq!(gateway.children.len(), children, "dataplane of {number}\n{}", logs());
            assert_eq!(gateway.outbound_children(), children, "outbound of {number}\n{}", logs());
            assert_eq!(gateway.spis().len(), children, "orphan SPIs at {number}\n{}", logs());
        }
        let spis = |number: usize| self.ike_sas(number).first().map(|sa| (sa.spi_i, sa.spi_r));
        assert_eq!(spis(0), spis(1), "{}", self.logs());
        let [a, b] = &self.gateways;
        assert!(a.opens_what_is_sent_by(b) && b.opens_what_is_sent_by(a), "{}", self.logs());
    }

    /// Nothing at all.
    pub fn assert_empty(&self) {
        for number in 0..2 {
            let gateway = &self.gateways[number];
            assert!(self.ike_sas(number).is_empty(), "{}", self.logs());
            assert!(gateway.children.is_empty() && gateway.spis().is_empty(), "{}", self.logs());
        }
    }

    pub fn logged(&self, gateway: usize, text: &str) -> bool {
        self.gateways[gateway].log.iter().any(|line| line.contains(text))
    }
}

pub fn initiate(child: &str, request: Option<xswan_ikev2::RequestId>) -> Input {
    Input::Initiate {
        connection: Some("peer".into()),
        child: Some(child.into()),
        packet: None,
        request,
    }
}

pub fn rekey_child() -> Input {
    let target = Target::Child { connection: None, child: "net".into() };
    Input::Rekey { target, reauthenticate: false, request: None }
}

pub fn rekey_ike() -> Input {
    let target = Target::Connection("peer".into());
    Input::Rekey { target, reauthenticate: false, request: None }
}

pub fn terminate_child() -> Input {
    let target = Target::Child { connection: None, child: "net".into() };
    Input::Terminate { target, force: false, request: None }
}

pub fn terminate_ike() -> Input {
    let target = Target::Connection("peer".into());
    Input::Terminate { target, force: false, request: None }
}

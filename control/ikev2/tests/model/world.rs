//! The course of a run: bring up, disturb, calm down, compare, take down, compare.

use crate::invariants;
use crate::scenario::{CHILDREN, Operators, Scenario};
use std::collections::BTreeSet;
use std::sync::Arc;
use xswan_ikev2::input::{ChildId, Target};
use xswan_ikev2::{Input, RequestId};
use xswan_simulation::{Disturbance, Gateway, Network, Seeded, policies};

/// How long the wire has to be clean before both must agree, in milliseconds.
const SETTLE_MS: u64 = 400_000;
/// Both are compared so often while they settle.
const LOOK_MS: u64 = 250;
/// A packet leaves through every child so often while it is disturbed.
const TRAFFIC_MS: u64 = 100;

/// Gateways, wire, operators.
pub struct World {
    pub network: Network,
    random: Seeded,
    commands: u64,
    /// Children that were wanted, by name.
    pub wanted: BTreeSet<&'static str>,
}

impl World {
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let gateway = |number: usize| {
            let configuration = Arc::new(scenario.configuration(number));
            let seed = Seeded::new(seed ^ ((number as u64 + 1) << 60)).next();
            Gateway::new(policies::ADDRESSES[number], configuration, seed)
        };
        let mut network = Network::new([gateway(0), gateway(1)], seed);
        network.disturbance = scenario.disturbance;
        if scenario.nat {
            network.put_nat([203, 0, 113, 7].into());
        }
        let random = Seeded::new(seed ^ 0x6f70_6572_6174_6f72);
        Self { network, random, commands: 0, wanted: BTreeSet::new() }
    }

    /// The whole run.
    pub fn live(&mut self, scenario: &Scenario) -> Result<(), String> {
        self.bring_up(scenario);
        if scenario.operators == Operators::Rekey {
            self.network.run_for(20_000);
            invariants::up(self, scenario)?;
        }
        self.disturb(scenario)?;
        self.network.disturbance = Disturbance { delay_ms: 5, ..Disturbance::default() };
        self.settle(|world| invariants::quiet(world, scenario))?;
        invariants::bounded(self)?;
        self.take_down(scenario);
        self.settle(invariants::nothing_left)?;
        invariants::all_answered(self)
    }

    fn command(
        &mut self,
        gateway: usize,
        make: impl FnOnce(Option<RequestId>) -> Input,
        asks: bool,
    ) {
        self.commands += 1;
        let request = asks.then(|| self.network.gateways[gateway].ask());
        self.network.input(gateway, make(request));
    }

    fn bring_up(&mut self, scenario: &Scenario) {
        for name in &CHILDREN[..scenario.children] {
            self.wanted.insert(name);
            self.initiate(0, name, true);
        }
    }

    fn initiate(&mut self, gateway: usize, name: &'static str, asks: bool) {
        let make = |request| Input::Initiate {
            connection: Some("peer".into()),
            child: Some(name.into()),
            packet: None,
            request,
        };
        self.command(gateway, make, asks);
    }

    /// Commands, traffic and clocks, until it has been enough.
    fn disturb(&mut self, scenario: &Scenario) -> Result<(), String> {
        let end = self.network.now.plus(scenario.disturbed_ms);
        let mut next = self.network.now;
        while self.network.now < end {
            self.network.run_for(TRAFFIC_MS);
            for gateway in 0..2 {
                self.network.send_traffic(gateway);
            }
            invariants::always(self, scenario)?;
            if self.network.now >= next {
                match scenario.operators {
                    Operators::Rekey => self.rekey_something(scenario),
                    Operators::Everything => self.do_something(scenario),
                }
                next = self.network.now.plus(self.random.below(scenario.pause_ms));
            }
        }
        Ok(())
    }

    fn child_name(&mut self, scenario: &Scenario) -> &'static str {
        CHILDREN[self.random.below(scenario.children as u64) as usize]
    }

    fn rekey_something(&mut self, scenario: &Scenario) {
        let gateway = self.random.below(2) as usize;
        let name = self.child_name(scenario);
        let child = Target::Child { connection: None, child: name.into() };
        let ike = Target::Connection("peer".into());
        let rekey = |target| move |request| Input::Rekey { target, reauthenticate: false, request };
        let asks = self.random.permille(500);
        match self.random.below(10) {
            0..=3 => self.command(gateway, rekey(child), asks),
            4 => {
                // Both at once.
                self.command(0, rekey(child.clone()), asks);
                self.command(1, rekey(child), asks);
            }
            5 => {
                self.command(0, rekey(ike.clone()), asks);
                self.command(1, rekey(ike), asks);
            }
            6 => {
                self.command(gateway, rekey(child), asks);
                self.command(1 - gateway, rekey(ike), asks);
            }
            7 | 8 => self.command(gateway, rekey(ike), asks),
            _ => self.expire(gateway, false),
        }
    }

    fn do_something(&mut self, scenario: &Scenario) {
        let gateway = self.random.below(2) as usize;
        let name = self.child_name(scenario);
        let asks = self.random.permille(500);
        let force = self.random.permille(200);
        match self.random.below(20) {
            0..=6 => self.rekey_something(scenario),
            7..=10 => self.initiate(gateway, name, asks),
            11 => {
                let target = Target::Connection("peer".into());
                let make = |request| Input::Rekey { target, reauthenticate: true, request };
                self.command(gateway, make, asks);
            }
            12 | 13 => {
                let target = self.some_child(gateway, name);
                let make = |request| Input::Terminate { target, force, request };
                self.command(gateway, make, asks);
            }
            14 => {
                let target = Target::Connection("peer".into());
                let make = |request| Input::Terminate { target, force, request };
                self.command(gateway, make, asks);
            }
            15 => self.expire(gateway, true),
            16 if scenario.clock_leaps => {
                let leap = self.random.below(20_000);
                self.network.gateways[gateway].clock_ahead_ms += leap;
                self.network.input(gateway, Input::Timer);
            }
            17 => self.network.gateways[gateway].wall_offset_s -= self.random.below(10_000) as i64,
            _ => {}
        }
    }

    fn some_child(&mut self, gateway: usize, name: &str) -> Target {
        let ids: Vec<ChildId> = self.network.gateways[gateway].children.keys().copied().collect();
        match ids.get(self.random.below(2 * ids.len() as u64) as usize) {
            Some(id) => Target::ChildSa(*id),
            None => Target::Child { connection: None, child: name.into() },
        }
    }

    fn expire(&mut self, gateway: usize, hard: bool) {
        let children = &self.network.gateways[gateway].children;
        let spis: Vec<u32> = children.values().map(|child| child.install.spi_in).collect();
        if let Some(spi_in) = spis.get(self.random.below(spis.len() as u64) as usize) {
            self.network.input(gateway, Input::ChildExpiry { spi_in: *spi_in, hard });
        }
    }

    /// Goes on until `holds`, or says what does not.
    fn settle(&mut self, holds: impl Fn(&Self) -> Result<(), String>) -> Result<(), String> {
        let end = self.network.now.plus(SETTLE_MS);
        loop {
            let outcome = holds(self);
            if outcome.is_ok() || self.network.now >= end {
                return outcome;
            }
            self.network.run_for(LOOK_MS);
        }
    }

    fn take_down(&mut self, scenario: &Scenario) {
        for gateway in 0..2 {
            let calm = Arc::new(scenario.calm(gateway));
            self.network.gateways[gateway].engine.configure(calm);
        }
        for gateway in 0..2 {
            let target = Target::Connection("peer".into());
            let make = |request| Input::Terminate { target, force: false, request };
            self.command(gateway, make, true);
        }
    }

    /// Commands so far.
    pub const fn commands(&self) -> u64 {
        self.commands
    }
}

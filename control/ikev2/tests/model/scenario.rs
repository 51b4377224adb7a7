//! What a run is made of: everything is drawn from the seed before anything happens.

use std::net::IpAddr;
use std::sync::Arc;
use xswan_ikev2::policy::{
    AddressPattern, ChildPolicy, Childless, Configuration, ConnectionPolicy, Lifetime, StartAction,
    Unique,
};
use xswan_ikev2::pool::PoolPolicy;
use xswan_ikev2::wire::{Transform, transform};
use xswan_simulation::{Disturbance, Seeded, policies};

/// Names of children; the networks behind them are 10.N and 10.(N + 100).
pub const CHILDREN: [&str; 3] = ["net", "lab", "dmz"];

/// What the operators do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// They rekey, and the wire loses nothing: no packet may be lost and one pair is left.
    Rekey,
    /// They do everything.
    Everything,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub operators: Operators,
    pub disturbance: Disturbance,
    /// How long it is disturbed.
    pub disturbed_ms: u64,
    /// Between two commands, at most.
    pub pause_ms: u64,
    pub children: usize,
    pub nat: bool,
    pub childless: Childless,
    pub unique: Unique,
    pub additional_ike: bool,
    pub additional_child: bool,
    pub child_ke: bool,
    pub ike_lifetime: [Lifetime; 2],
    pub child_lifetime: [Lifetime; 2],
    pub reauth_ms: [u64; 2],
    pub dpd_delay_ms: [u64; 2],
    pub dpd_action: StartAction,
    pub close_action: StartAction,
    pub vip: bool,
    pub cookies: bool,
    pub small_fragments: bool,
    pub make_before_break: bool,
    pub delete_rekeyed_delay_ms: u64,
    pub clock_leaps: bool,
}

fn one_of<T: Copy>(random: &mut Seeded, all: &[T]) -> T {
    all[random.below(all.len() as u64) as usize]
}

fn lifetime(random: &mut Seeded, shortest_ms: u64, longest_ms: u64, lives: bool) -> Lifetime {
    if random.permille(400) {
        return Lifetime::default();
    }
    let rekey_ms = shortest_ms + random.below(longest_ms - shortest_ms);
    let life_ms = if lives { rekey_ms + 500 + random.below(rekey_ms) } else { 0 };
    Lifetime { rekey_ms, jitter_ms: random.below(rekey_ms / 2), life_ms }
}

impl Scenario {
    /// That of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let random = &mut random;
        let operators = if random.permille(400) { Operators::Rekey } else { Operators::Everything };
        let wild = operators == Operators::Everything;
        let nat = random.permille(250);
        let lossy = wild && random.permille(700);
        let disturbance = Disturbance {
            loss_permille: if lossy { random.below(300) } else { 0 },
            copies_permille: random.below(200),
            delay_ms: random.below(300),
            rebinding_permille: if nat && wild { random.below(50) } else { 0 },
        };
        let longest_pause_ms = one_of(random, &[100, 2_000, 8_000]);
        let actions = [StartAction::None, StartAction::Trap, StartAction::Start];
        Self {
            operators,
            disturbance,
            disturbed_ms: 10_000 + random.below(30_000),
            pause_ms: 20 + random.below(longest_pause_ms),
            children: 1 + random.below(3) as usize,
            nat,
            childless: if random.permille(150) { Childless::Force } else { Childless::Allow },
            unique: if wild {
                one_of(random, &[Unique::No, Unique::Never, Unique::Keep, Unique::Replace])
            } else {
                Unique::No
            },
            additional_ike: random.permille(100),
            additional_child: random.permille(100),
            child_ke: random.permille(500),
            ike_lifetime: [0; 2].map(|_| lifetime(random, 5_000, 40_000, wild)),
            child_lifetime: [0; 2].map(|_| lifetime(random, 3_000, 20_000, wild)),
            reauth_ms: [0; 2].map(|_| if wild { one_of(random, &[0, 0, 0, 15_000]) } else { 0 }),
            // Without, who misses a forced end never learns of it.
            dpd_delay_ms: [0; 2]
                .map(|_| one_of(random, if wild { &[2_000, 10_000] } else { &[0, 2_000] })),
            dpd_action: if wild { one_of(random, &actions) } else { StartAction::None },
            close_action: if wild { one_of(random, &actions) } else { StartAction::None },
            vip: random.permille(200),
            cookies: random.permille(300),
            small_fragments: random.permille(200),
            make_before_break: random.permille(600),
            delete_rekeyed_delay_ms: 500 + random.below(3_000),
            clock_leaps: wild && random.permille(300),
        }
    }

    fn child(&self, gateway: usize, position: usize) -> ChildPolicy {
        let number = position as u8 + 1;
        let (own, other) =
            if gateway == 0 { (number, number + 100) } else { (number + 100, number) };
        let mut child = policies::child(CHILDREN[position], own, other);
        let transforms = &mut child.proposals[0].transforms;
        if !self.child_ke {
            transforms.retain(|item| item.kind != transform::KE);
        }
        if self.additional_child && self.child_ke {
            transforms.push(Transform::new(transform::ADDKE1, 36));
        }
        child.lifetime = self.child_lifetime[gateway];
        child.dpd_action = self.dpd_action;
        child.close_action = self.close_action;
        child
    }

    fn connection(&self, gateway: usize) -> ConnectionPolicy {
        let mut connection = policies::connection(gateway);
        if gateway == 1 && !self.nat {
            let peer = policies::ADDRESSES[0];
            connection.remote_addresses = vec![AddressPattern::Range(peer, peer)];
        }
        if self.additional_ike {
            connection.proposals[0].transforms.push(Transform::new(transform::ADDKE1, 36));
        }
        let children = 0..self.children;
        connection.children =
            children.map(|position| Arc::new(self.child(gateway, position))).collect();
        connection.childless = self.childless;
        connection.unique = self.unique;
        connection.dpd_delay_ms = self.dpd_delay_ms[gateway];
        connection.lifetime = self.ike_lifetime[gateway];
        connection.reauth_ms = self.reauth_ms[gateway];
        if self.vip && gateway == 0 {
            connection.vips = vec![IpAddr::from([0; 4])];
        }
        if self.vip && gateway == 1 {
            connection.pools = vec!["pool".into()];
        }
        connection
    }

    /// What one gateway works from.
    pub fn configuration(&self, gateway: usize) -> Configuration {
        let mut whole = policies::configuration(self.connection(gateway));
        let settings = &mut whole.settings;
        settings.retransmit_timeout_ms = 500;
        settings.half_open_timeout_ms = 5_000;
        settings.delete_rekeyed_delay_ms = self.delete_rekeyed_delay_ms;
        settings.make_before_break = self.make_before_break;
        settings.cookie_threshold_ip = u32::from(self.cookies);
        if self.small_fragments {
            settings.fragment_size = 300;
        }
        if self.vip {
            whole.pools = vec![PoolPolicy {
                name: "pool".into(),
                first: [10, 200, 0, 1].into(),
                last: [10, 200, 0, 40].into(),
                dns: Vec::new(),
                nbns: Vec::new(),
                subnets: Vec::new(),
                domains: Vec::new(),
            }];
        }
        whole
    }

    /// The same with nothing that happens by itself: for the end of the run.
    pub fn calm(&self, gateway: usize) -> Configuration {
        let mut calm = self.clone();
        calm.ike_lifetime = [Lifetime::default(); 2];
        calm.child_lifetime = [Lifetime::default(); 2];
        calm.reauth_ms = [0; 2];
        calm.dpd_action = StartAction::None;
        calm.close_action = StartAction::None;
        calm.cookies = false;
        calm.configuration(gateway)
    }
}

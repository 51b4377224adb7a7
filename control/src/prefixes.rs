//! The steering prefixes that children ask for, kept merged while children come and go.
//!
//! Several children may name one prefix, and the longest match hides the prefixes around it:
//! so each prefix takes over what those around it say. A change touches the prefix and those
//! within it, not the whole table: a road warrior's address costs no more beside thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use xswan_sa_api::SteerPrefix;
use xswan_steer::abi::{PREFIX_LOCAL, PREFIX_REMOTE, PrefixValue, WORKER_BY_FLOW};

/// What one child says of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contribution {
    /// The prefix.
    pub prefix: SteerPrefix,
    /// [`PREFIX_REMOTE`] or [`PREFIX_LOCAL`].
    pub flags: u16,
    /// The worker of the child's outbound SA, if there is one.
    pub worker: Option<u16>,
}

/// How often what is said of a prefix.
#[derive(Clone, Debug, Default)]
struct Said {
    local: u32,
    remote: u32,
    workers: BTreeMap<u16, u32>,
}

impl Said {
    fn is_nothing(&self) -> bool {
        self.local == 0 && self.remote == 0
    }

    fn value(&self) -> PrefixValue {
        let flag = |count: u32, flag: u16| if count > 0 { flag } else { 0 };
        let flags = flag(self.local, PREFIX_LOCAL) | flag(self.remote, PREFIX_REMOTE);
        let mut workers = self.workers.keys();
        let worker = match (self.remote, workers.next(), workers.next()) {
            (0, ..) => 0,
            (_, Some(worker), None) => *worker,
            _ => WORKER_BY_FLOW,
        };
        PrefixValue { flags, worker }
    }
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    said: BTreeMap<SteerPrefix, Said>,
    values: BTreeMap<SteerPrefix, PrefixValue>,
    changed: BTreeSet<SteerPrefix>,
}

impl Prefixes {
    /// Adds what a child says.
    pub fn add(&mut self, one: Contribution) {
        let said = self.said.entry(one.prefix).or_default();
        if one.flags & PREFIX_LOCAL != 0 {
            said.local += 1;
        }
        if one.flags & PREFIX_REMOTE != 0 {
            said.remote += 1;
            if let Some(worker) = one.worker {
                *said.workers.entry(worker).or_default() += 1;
            }
        }
        self.settle(one.prefix);
    }

    /// Takes back what was added.
    pub fn remove(&mut self, one: Contribution) {
        let Some(said) = self.said.get_mut(&one.prefix) else { return };
        if one.flags & PREFIX_LOCAL != 0 {
            said.local = said.local.saturating_sub(1);
        }
        if one.flags & PREFIX_REMOTE != 0 {
            said.remote = said.remote.saturating_sub(1);
            if let Some(worker) = one.worker
                && let Some(count) = said.workers.get_mut(&worker)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    said.workers.remove(&worker);
                }
            }
        }
        if said.is_nothing() {
            self.said.remove(&one.prefix);
        }
        self.settle(one.prefix);
    }

    /// What the steering map ought to hold.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<SteerPrefix, PrefixValue> {
        &self.values
    }

    /// The prefixes that have changed since this was asked last; they may be gone.
    pub fn take_changed(&mut self) -> BTreeSet<SteerPrefix> {
        std::mem::take(&mut self.changed)
    }

    /// Works out the value of a prefix, and those of the ones within if it is another.
    fn settle(&mut self, prefix: SteerPrefix) {
        if !self.settle_one(prefix) {
            return;
        }
        let from = self.said.range(prefix..).map(|(inner, _)| *inner);
        let within: Vec<_> = from.take_while(|inner| covers(&prefix, inner)).collect();
        for inner in within.into_iter().filter(|inner| *inner != prefix) {
            self.settle_one(inner);
        }
    }

    /// Whether it has changed.
    fn settle_one(&mut self, prefix: SteerPrefix) -> bool {
        let value = self.said.get(&prefix).map(|said| {
            let own = said.value();
            let around = self.around(&prefix).unwrap_or_default();
            let owned = own.flags & PREFIX_REMOTE != 0;
            let inherits = !owned && around.flags & PREFIX_REMOTE != 0;
            let worker = if inherits { around.worker } else { own.worker };
            PrefixValue { flags: own.flags | around.flags, worker }
        });
        let old = match value {
            Some(value) => self.values.insert(prefix, value),
            None => self.values.remove(&prefix),
        };
        if old == value {
            return false;
        }
        self.changed.insert(prefix);
        true
    }

    /// The value of the longest prefix around this one.
    fn around(&self, prefix: &SteerPrefix) -> Option<PrefixValue> {
        (0..prefix.length).rev().find_map(|length| {
            let address = masked(prefix.address, length);
            self.values.get(&SteerPrefix { address, length }).copied()
        })
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn covers(outer: &SteerPrefix, inner: &SteerPrefix) -> bool {
    outer.address.is_ipv4() == inner.address.is_ipv4()
        && outer.length <= inner.length
        && masked(inner.address, outer.length) == outer.address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> SteerPrefix {
        let (address, length) = text.split_once('/').expect("a prefix");
        let address = address.parse().expect("address");
        SteerPrefix { address, length: length.parse().expect("length") }
    }

    fn one(text: &str, flags: u16, worker: Option<u16>) -> Contribution {
        Contribution { prefix: prefix(text), flags, worker }
    }

    #[test]
    fn a_prefix_has_one_worker_or_is_spread() {
        let mut prefixes = Prefixes::default();
        let value = |prefixes: &Prefixes| prefixes.values()[&prefix("10.2.0.0/16")];
        let both = |worker| PrefixValue { flags: PREFIX_REMOTE, worker };
        let trap = one("10.2.0.0/16", PREFIX_REMOTE, None);
        let (first, second) = (
            one("10.2.0.0/16", PREFIX_REMOTE, Some(1)),
            one("10.2.0.0/16", PREFIX_REMOTE, Some(2)),
        );
        prefixes.add(trap);
        assert_eq!(value(&prefixes), both(WORKER_BY_FLOW));
        prefixes.add(first);
        assert_eq!(value(&prefixes), both(1), "a trap owns nothing");
        prefixes.add(first);
        prefixes.add(second);
        assert_eq!(value(&prefixes), both(WORKER_BY_FLOW));
        prefixes.remove(first);
        assert_eq!(value(&prefixes), both(WORKER_BY_FLOW), "one of two is still there");
        prefixes.remove(first);
        assert_eq!(value(&prefixes), both(2));
        prefixes.remove(second);
        prefixes.remove(trap);
        assert!(prefixes.values().is_empty() && prefixes.said.is_empty());
        assert_eq!(prefixes.take_changed(), BTreeSet::from([prefix("10.2.0.0/16")]));
    }

    #[test]
    fn inner_prefixes_take_over_what_is_around_them() {
        let mut prefixes = Prefixes::default();
        for (text, flags, worker) in [
            ("10.1.2.3/32", PREFIX_LOCAL, None),
            ("10.1.0.0/16", PREFIX_LOCAL, None),
            ("10.1.2.0/24", PREFIX_REMOTE, Some(3)),
            ("2001:db8::/32", PREFIX_REMOTE, Some(1)),
        ] {
            prefixes.add(one(text, flags, worker));
        }
        prefixes.add(one("0.0.0.0/0", PREFIX_REMOTE, Some(5)));
        let at = |prefixes: &Prefixes, text| prefixes.values()[&prefix(text)];
        let all = PREFIX_LOCAL | PREFIX_REMOTE;
        assert_eq!(at(&prefixes, "10.1.0.0/16"), PrefixValue { flags: all, worker: 5 });
        assert_eq!(at(&prefixes, "10.1.2.0/24"), PrefixValue { flags: all, worker: 3 });
        assert_eq!(at(&prefixes, "10.1.2.3/32"), PrefixValue { flags: all, worker: 3 });
        let v6 = PrefixValue { flags: PREFIX_REMOTE, worker: 1 };
        assert_eq!(at(&prefixes, "2001:db8::/32"), v6);
        prefixes.take_changed();
        prefixes.remove(one("0.0.0.0/0", PREFIX_REMOTE, Some(5)));
        let local = PrefixValue { flags: PREFIX_LOCAL, worker: 0 };
        assert_eq!(at(&prefixes, "10.1.0.0/16"), local);
        assert_eq!(prefixes.take_changed().len(), 2, "what stays as it is is not written");
    }

    #[test]
    fn any_order_of_changes_ends_in_the_same_table() {
        let texts = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32"];
        let mut seed = 1_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as usize
        };
        for _ in 0..200 {
            let mut prefixes = Prefixes::default();
            let mut there = Vec::new();
            for _ in 0..40 {
                if !there.is_empty() && random().is_multiple_of(2) {
                    prefixes.remove(there.swap_remove(random() % there.len()));
                } else {
                    let flags =
                        if random().is_multiple_of(2) { PREFIX_LOCAL } else { PREFIX_REMOTE };
                    let worker = Some(random() as u16 % 3).filter(|worker| *worker < 2);
                    let new = one(texts[random() % texts.len()], flags, worker);
                    prefixes.add(new);
                    there.push(new);
                }
            }
            let mut fresh = Prefixes::default();
            there.iter().for_each(|one| fresh.add(*one));
            assert_eq!(fresh.values(), prefixes.values());
        }
    }
}

//! What work for peers that have proved nothing may cost in a second, in all and for one source.
//!
//! A source is an IPv4 address or the /64 of an IPv6 address, which is what one host commands.
//! Guarantees: every source that is remembered has spent something in the current second, so
//! the table is never longer than the total allows, whatever is sent and from wherever.

use crate::clock::Millis;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use xswan_ike_crypto::Group;

/// How long what was spent is remembered.
const PERIOD_MS: u64 = 1_000;

/// What may be spent in a second; 0 in all is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// By everybody.
    pub(crate) total: u32,
    /// Up to here nobody asks by whom.
    pub(crate) unshared: u32,
    /// By one source, beyond that.
    pub(crate) share: u32,
}

impl Limits {
    /// Half of it for who comes first, so that thousands behind one NAT get somewhere; of the
    /// other half, a sixteenth of all for each source, so that a few cannot take everything.
    pub(crate) const fn of_key_exchanges(total: u32) -> Self {
        Self { total, unshared: total / 2, share: total / 16 }
    }
}

/// What has been spent in this second.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    since: Millis,
    spent: u32,
    by_source: HashMap<IpAddr, u32>,
}

impl Budget {
    /// Spends, if there is enough left.
    pub(crate) fn take(&mut self, now: Millis, from: IpAddr, cost: u32, limits: Limits) -> bool {
        self.begin_second(now);
        if limits.total == 0 {
            return true;
        }
        let source = source(from);
        let own = self.by_source.get(&source).copied().unwrap_or(0);
        let after = self.spent.saturating_add(cost);
        let shared = after > limits.unshared && own.saturating_add(cost) > limits.share;
        // One piece of work is never too large for a source that has had none.
        if after > limits.total || (shared && own > 0) {
            return false;
        }
        self.spent = after;
        self.by_source.insert(source, own.saturating_add(cost));
        true
    }

    /// What was spent has led to a proof: it counts no more.
    pub(crate) fn give_back(&mut self, now: Millis, from: IpAddr, cost: u32) {
        self.begin_second(now);
        let source = source(from);
        let Some(own) = self.by_source.get_mut(&source) else { return };
        let returned = cost.min(*own);
        *own -= returned;
        if *own == 0 {
            self.by_source.remove(&source);
        }
        self.spent = self.spent.saturating_sub(returned);
    }

    /// Spent in the current second, by everybody.
    pub(crate) fn spent(&mut self, now: Millis) -> u32 {
        self.begin_second(now);
        self.spent
    }

    fn begin_second(&mut self, now: Millis) {
        if now.since(self.since) >= PERIOD_MS {
            self.since = now;
            self.spent = 0;
            // With its memory: one bad second is not paid for ever.
            self.by_source = HashMap::new();
        }
    }

    /// How many sources are remembered.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.by_source.len()
    }
}

/// What one host commands.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

/// What a responder's key exchange costs, in key exchanges with X25519; roughly.
pub(crate) const fn cost(group: Group) -> u32 {
    match group {
        Group::Curve25519
        | Group::EcpP256
        | Group::MlKem512
        | Group::MlKem768
        | Group::MlKem1024 => 1,
        Group::EcpP384 => 3,
        Group::EcpP521 => 4,
        Group::Modp2048 => 40,
        Group::Modp3072 => 100,
        Group::Modp4096 => 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { total: 100, unshared: 50, share: 10 };

    fn host(number: u32) -> IpAddr {
        IpAddr::from((0xc633_6400_u32 + number).to_be_bytes())
    }

    #[test]
    fn dos_06_one_source_gets_half_and_the_others_their_share() {
        let mut budget = Budget::default();
        let mut granted =
            |number| (0..1_000).filter(|_| budget.take(Millis(1), host(number), 1, LIMITS)).count();
        assert_eq!(granted(1), 50);
        assert_eq!([granted(2), granted(3), granted(4)], [10; 3]);
        assert_eq!([granted(5), granted(6), granted(7)], [10, 10, 0]);
        assert_eq!(budget.spent(Millis(999)), 100);
        assert!(budget.take(Millis(1_000), host(7), 1, LIMITS), "another second");
    }

    #[test]
    fn dos_06_proofs_are_free_and_large_work_is_possible() {
        let mut budget = Budget::default();
        for _ in 0..10_000 {
            assert!(budget.take(Millis(1), host(1), 7, LIMITS));
            budget.give_back(Millis(1), host(1), 7);
        }
        assert_eq!((budget.spent(Millis(1)), budget.sources()), (0, 0));
        // More than was spent in this second: of one before.
        budget.give_back(Millis(1), host(1), 7);
        assert!(budget.take(Millis(1), host(1), 60, LIMITS));
        assert!(!budget.take(Millis(1), host(1), 1, LIMITS));
        assert!(!budget.take(Millis(1), host(2), 60, LIMITS));
        assert!(budget.take(Millis(1), host(2), 40, LIMITS));
    }

    #[test]
    fn ike_25_the_table_is_bounded_and_a_64_is_one_source() {
        let mut budget = Budget::default();
        for number in 0..100_000 {
            budget.take(Millis(1), host(number), 1, LIMITS);
        }
        assert_eq!(budget.sources(), 100);
        let v6 = |low: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | low));
        let limits = Limits { unshared: 0, ..LIMITS };
        let granted =
            (0..50).filter(|low| budget.take(Millis(2_000), v6(*low << 32), 1, limits)).count();
        assert_eq!(granted, 10);
        assert_eq!(budget.sources(), 1);
    }
}

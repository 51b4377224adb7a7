//! Address pools for remote access (RFC 7296 section 2.19, 3.15).
//!
//! An identity gets the address it had before while nobody else needs it. What is leased can
//! be exported and imported again, so that a restart gives nobody another address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use xswan_credentials::Identity;

/// A pool as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// Name.
    pub name: String,
    /// First address.
    pub first: IpAddr,
    /// Last address, of the same family.
    pub last: IpAddr,
    /// Name servers of either family.
    pub dns: Vec<IpAddr>,
    /// NetBIOS name servers.
    pub nbns: Vec<IpAddr>,
    /// Networks behind the gateway: address and prefix length.
    pub subnets: Vec<(IpAddr, u8)>,
    /// Domains behind the gateway (RFC 8598).
    pub domains: Vec<String>,
}

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// None of the pools has addresses of this family.
    NoPool,
    /// All are taken.
    Exhausted,
}

impl std::fmt::Display for LeaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoPool => "no pool of this address family",
            Self::Exhausted => "the address pool is exhausted",
        })
    }
}

/// One address that somebody has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Whose.
    pub identity: Identity,
    /// How many IKE SAs of this identity use it now; 0: it may be given to others.
    pub users: u32,
}

#[derive(Debug)]
struct Pool {
    policy: PoolPolicy,
    leases: BTreeMap<IpAddr, Lease>,
    by_identity: HashMap<Identity, Vec<IpAddr>>,
    next: u128,
}

/// All pools.
#[derive(Debug, Default)]
pub struct Pools(Vec<Pool>);

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

impl Pool {
    fn new(policy: PoolPolicy) -> Self {
        let next = number(policy.first);
        Self { policy, leases: BTreeMap::new(), by_identity: HashMap::new(), next }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.policy.first.is_ipv4()
            && (self.policy.first..=self.policy.last).contains(&address)
    }

    /// The address that an identity has or had and may have (again).
    ///
    /// Several devices may use one identity: an address in use is another device's, unless it
    /// is asked for by number, as a reauthenticating client does.
    fn known(&self, identity: &Identity, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let own = self.by_identity.get(identity)?;
        let lease = |address: &&IpAddr| self.leases.get(address);
        own.iter()
            .find(|address| wanted == Some(**address))
            .or_else(|| own.iter().find(|address| lease(address).is_some_and(|l| l.users == 0)))
            .copied()
    }

    fn take(&mut self, identity: &Identity, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let address = self
            .known(identity, wanted)
            .or_else(|| wanted.filter(|a| self.contains(*a) && !self.leases.contains_key(a)))
            .or_else(|| self.fresh())
            .or_else(|| self.reclaimed())?;
        let lease = self.leases.entry(address).or_insert_with(|| Lease {
            address,
            identity: identity.clone(),
            users: 0,
        });
        if lease.identity != *identity {
            let old = std::mem::replace(&mut lease.identity, identity.clone());
            if let Some(own) = self.by_identity.get_mut(&old) {
                own.retain(|other| *other != address);
            }
        }
        lease.users += 1;
        let own = self.by_identity.entry(identity.clone()).or_default();
        if !own.contains(&address) {
            own.push(address);
        }
        Some(address)
    }

    /// An address nobody ever had. In order, so each one is looked at once.
    fn fresh(&mut self) -> Option<IpAddr> {
        let last = number(self.policy.last);
        while self.next <= last {
            let candidate = address(self.policy.first, self.next);
            self.next = self.next.checked_add(1)?;
            if !self.leases.contains_key(&candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// An address that somebody had and does not use.
    fn reclaimed(&self) -> Option<IpAddr> {
        self.leases.values().find(|lease| lease.users == 0).map(|lease| lease.address)
    }
}

impl Pools {
    /// Empty pools.
    #[must_use]
    pub fn new(policies: &[PoolPolicy]) -> Self {
        Self(policies.iter().cloned().map(Pool::new).collect())
    }

    /// Takes another configuration; leases within the new ranges stay.
    pub fn configure(&mut self, policies: &[PoolPolicy]) {
        let old = std::mem::replace(self, Self::new(policies));
        for lease in old.0.into_iter().flat_map(|pool| pool.leases.into_values()) {
            self.import(lease);
        }
    }

    /// Puts a lease of earlier days back. It is dropped if no pool has its address.
    pub fn import(&mut self, lease: Lease) {
        if let Some(pool) = self.0.iter_mut().find(|pool| pool.contains(lease.address)) {
            let own = pool.by_identity.entry(lease.identity.clone()).or_default();
            own.push(lease.address);
            pool.leases.insert(lease.address, lease);
        }
    }

    /// Leases an address of a family from the first of the named pools that has one. `wanted`
    /// is granted if it can be.
    ///
    /// # Errors
    /// Why not.
    pub fn lease(
        &mut self,
        names: &[String],
        ipv6: bool,
        identity: &Identity,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr, LeaseError> {
        let mut error = LeaseError::NoPool;
        for name in names {
            let fits =
                |pool: &&mut Pool| pool.policy.name == *name && pool.policy.first.is_ipv6() == ipv6;
            let Some(pool) = self.0.iter_mut().find(fits) else { continue };
            match pool.take(identity, wanted) {
                Some(address) => return Ok(address),
                None => error = LeaseError::Exhausted,
            }
        }
        Err(error)
    }

    /// One use less of an address.
    pub fn release(&mut self, address: IpAddr) {
        for pool in &mut self.0 {
            if let Some(lease) = pool.leases.get_mut(&address) {
                lease.users = lease.users.saturating_sub(1);
            }
        }
    }

    /// The policies of named pools, for the attributes that go with an address.
    pub fn policies<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a PoolPolicy> {
        let named = |pool: &&Pool| names.contains(&pool.policy.name);
        self.0.iter().filter(named).map(|pool| &pool.policy)
    }

    /// Every pool with its leases.
    pub fn iter(&self) -> impl Iterator<Item = (&PoolPolicy, Vec<&Lease>)> {
        self.0.iter().map(|pool| (&pool.policy, pool.leases.values().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Pools {
        Pools::new(&[PoolPolicy {
            name: "v4".into(),
            first: "10.3.0.10".parse().expect("address"),
            last: "10.3.0.11".parse().expect("address"),
            dns: Vec::new(),
            nbns: Vec::new(),
            subnets: Vec::new(),
            domains: Vec::new(),
        }])
    }

    fn identity(text: &str) -> Identity {
        Identity::parse(text).expect("identity")
    }

    #[test]
    fn addresses_are_given_once_and_come_back_to_their_owner() {
        let (mut pools, names) = (pools(), vec!["v4".to_owned()]);
        let (alice, bob, eve) = (identity("alice"), identity("bob"), identity("eve"));
        let mut lease = |who: &Identity| pools.lease(&names, false, who, None);
        let first = lease(&alice).expect("free");
        let second = lease(&bob).expect("free");
        assert_ne!(first, second);
        assert_eq!(lease(&eve), Err(LeaseError::Exhausted));
        assert_eq!(pools.lease(&names, true, &eve, None), Err(LeaseError::NoPool));
        pools.release(first);
        assert_eq!(pools.lease(&names, false, &alice, None), Ok(first));
        pools.release(first);
        assert_eq!(pools.lease(&names, false, &eve, None), Ok(first), "the one that is not used");
        assert_eq!(pools.lease(&names, false, &alice, None), Err(LeaseError::Exhausted));
        assert_eq!(pools.lease(&names, false, &bob, Some(second)), Ok(second), "reauthentication");
    }

    #[test]
    fn leases_survive_export_and_import() {
        let (mut pools, names) = (pools(), vec!["v4".to_owned()]);
        let alice = identity("alice");
        let address = pools.lease(&names, false, &alice, None).expect("free");
        let exported: Vec<Lease> = pools
            .iter()
            .flat_map(|(_, leases)| leases.into_iter().cloned().collect::<Vec<_>>())
            .collect();
        let mut again = self::pools();
        for mut lease in exported {
            lease.users = 0;
            again.import(lease);
        }
        let bob = again.lease(&names, false, &identity("bob"), None).expect("free");
        assert_ne!(bob, address);
        assert_eq!(again.lease(&names, false, &alice, None), Ok(address));
    }
}

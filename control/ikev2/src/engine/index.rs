//! Finding an IKE SA by what is known of it: its SPI, a Child SA's, the peer, the connection.

use crate::input::IkeId;
use crate::sa::SaCore;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use xswan_credentials::Identity;

/// What an IKE SA is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Keys {
    own_spi: u64,
    children: Vec<u32>,
    /// Once it is authenticated.
    peer: Option<Identity>,
    connection: String,
}

impl Keys {
    fn of(state: &State) -> Option<Self> {
        let own_spi = match state {
            State::InitRequested(init) => init.spi_i,
            State::Closed => return None,
            _ => state.core().map(SaCore::own_spi)?,
        };
        let (children, peer) = match state {
            State::Established(sa) => {
                let children = sa.children.iter().map(|child| child.spi_in).collect();
                (children, Some(sa.peer_identity().clone()))
            }
            _ => (Vec::new(), None),
        };
        let connection = state.connection_name().unwrap_or_default().to_owned();
        Some(Self { own_spi, children, peer, connection })
    }
}

/// All IKE SAs by all of these.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: HashMap<IkeId, Keys>,
    by_spi: HashMap<u64, IkeId>,
    by_child: HashMap<u32, IkeId>,
    by_peer: HashMap<Identity, BTreeSet<IkeId>>,
    by_connection: HashMap<String, BTreeSet<IkeId>>,
}

fn leave<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, BTreeSet<IkeId>>, key: &K, id: IkeId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&id);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

impl Index {
    /// Takes note of what an IKE SA is like now.
    pub(super) fn update(&mut self, id: IkeId, state: &State) {
        let keys = Keys::of(state);
        if self.keys.get(&id) == keys.as_ref() {
            return;
        }
        if let Some(old) = self.keys.remove(&id) {
            self.by_spi.remove(&old.own_spi);
            for spi in &old.children {
                // A Child SA may have gone over to another IKE SA already.
                if self.by_child.get(spi) == Some(&id) {
                    self.by_child.remove(spi);
                }
            }
            if let Some(peer) = &old.peer {
                leave(&mut self.by_peer, peer, id);
            }
            leave(&mut self.by_connection, &old.connection, id);
        }
        let Some(keys) = keys else { return };
        self.by_spi.insert(keys.own_spi, id);
        self.by_child.extend(keys.children.iter().map(|spi| (*spi, id)));
        if let Some(peer) = &keys.peer {
            self.by_peer.entry(peer.clone()).or_default().insert(id);
        }
        self.by_connection.entry(keys.connection.clone()).or_default().insert(id);
        self.keys.insert(id, keys);
    }

    /// By our SPI of the IKE SA.
    pub(super) fn by_spi(&self, spi: u64) -> Option<IkeId> {
        self.by_spi.get(&spi).copied()
    }

    /// By our SPI of one of its Child SAs.
    pub(super) fn by_child(&self, spi: u32) -> Option<IkeId> {
        self.by_child.get(&spi).copied()
    }

    /// All with a peer.
    pub(super) fn by_peer(&self, peer: &Identity) -> impl DoubleEndedIterator<Item = IkeId> + '_ {
        self.by_peer.get(peer).into_iter().flatten().copied()
    }

    /// All of a connection, in the order they were made.
    pub(super) fn by_connection(
        &self,
        connection: &str,
    ) -> impl DoubleEndedIterator<Item = IkeId> + '_ {
        self.by_connection.get(connection).into_iter().flatten().copied()
    }
}

/// The other IKE SAs, as far as one may ask about them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Others<'a> {
    pub(super) index: &'a Index,
    pub(super) sas: &'a BTreeMap<IkeId, State>,
}

impl Others<'_> {
    /// Whether one is up between these identities.
    pub(crate) fn are_between(&self, local: &Identity, remote: &Identity) -> bool {
        let between = |id| self.sas.get(&id).is_some_and(|state| state.is_between(local, remote));
        self.index.by_peer(remote).any(between)
    }
}

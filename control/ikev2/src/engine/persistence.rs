//! IKE SAs that survive the daemon (see [`crate::snapshot`]).

use super::*;
use crate::established::Established;
use crate::snapshot::{self, Import, Imported, SnapshotError};
use zeroize::Zeroizing;

impl Engine {
    /// Every established IKE SA, to be stored encrypted and given to [`Self::import`] after a
    /// restart. To be called when all actions of an input are done, or the peer knows more than
    /// the snapshot.
    #[must_use]
    pub fn export(&self, now: Now) -> Zeroizing<Vec<u8>> {
        let header = snapshot::Header {
            unix_s: now.unix_s,
            clock: now.monotonic,
            numbers: (self.numbers.ike, self.numbers.child),
        };
        let established = self.sas.values().filter_map(|state| match state {
            State::Established(sa) => Some(&**sa),
            State::InitRequested(_)
            | State::IntermediateRequested(_)
            | State::AuthRequested(_)
            | State::HalfOpen(_)
            | State::Authenticating(_)
            | State::Closed => None,
        });
        let established: Vec<&Established> = established.collect();
        snapshot::write(&header, &established)
    }

    /// Takes the IKE SAs of before a restart, before anything else happens. An IKE SA that
    /// cannot go on is left out and named. Requests that were not answered are sent again with
    /// the next [`Input::Timer`], which is due at once.
    ///
    /// # Errors
    /// Nothing is taken: the snapshot is damaged or of another version.
    pub fn import(&mut self, octets: &[u8], now: Now) -> Result<Imported, SnapshotError> {
        let (header, parts) = snapshot::read(octets)?;
        let away_ms = now.unix_s.saturating_sub(header.unix_s).saturating_mul(1000);
        let then = Millis(now.monotonic.0.saturating_sub(away_ms));
        let configuration = Arc::clone(&self.configuration);
        let import = Import {
            configuration: &configuration,
            clocks: (header.clock, then),
            now: now.monotonic,
        };
        let mut imported = Imported::default();
        let mut sas = Vec::new();
        for part in parts {
            match snapshot::read_sa(part, &import, &mut imported) {
                Ok(sa) => sas.push(sa),
                Err(SnapshotError::Connection(name)) => {
                    imported.refused.push(SnapshotError::Connection(name).to_string());
                }
                Err(error) => return Err(error),
            }
        }
        self.numbers.ike = self.numbers.ike.max(header.numbers.0);
        self.numbers.child = self.numbers.child.max(header.numbers.1);
        for sa in sas {
            self.lease_again(&sa, &mut imported);
            imported.ike_sas += 1;
            self.put_back(sa.core.id, State::Established(sa));
        }
        Ok(imported)
    }

    /// The peer keeps its inner addresses.
    fn lease_again(&mut self, sa: &Established, imported: &mut Imported) {
        let identity = sa.remote_eap_id.as_ref().unwrap_or(&sa.remote_id);
        let pools = &sa.core.connection.pools;
        for address in &sa.leases {
            match self.pools.lease(pools, address.is_ipv6(), identity, Some(*address)) {
                Ok(leased) if leased == *address => continue,
                Ok(other) => self.pools.release(other),
                Err(_) => {}
            }
            imported.refused.push(format!("no pool has the leased address {address} any more"));
        }
    }
}

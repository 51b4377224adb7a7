//! What each thread may still do once it runs.
//!
//! Capabilities belong to threads. The ones that touch packets need none: their sockets,
//! rings and maps are open. The main thread keeps what management needs.

use caps::{CapSet, Capability};

/// Takes every capability from the calling thread.
pub fn drop_all() {
    keep(&[]);
}

/// Leaves the calling thread what it needs to refresh neighbours and to attach, swap and pin
/// programs.
pub fn keep_for_management() {
    keep(&[Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_DAC_OVERRIDE]);
}

fn keep(wanted: &[Capability]) {
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        for capability in caps::all() {
            if !wanted.contains(&capability) {
                // Not there in the first place is as good as dropped.
                let _ = caps::drop(None, set, capability);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::drop_all;
    use caps::CapSet;

    #[test]
    fn prv_01_a_thread_that_dropped_all_has_none() {
        let left = std::thread::spawn(|| {
            drop_all();
            [CapSet::Effective, CapSet::Permitted].map(|set| caps::read(None, set).unwrap().len())
        });
        assert_eq!(left.join().unwrap(), [0, 0]);
    }
}

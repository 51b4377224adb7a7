//! Any bytes as a frame through the steering decision, on a port of every role.

use xswan_steer::abi::{
    PREFIX_LOCAL, PREFIX_REMOTE, PortValue, PrefixValue, ROLE_INNER, ROLE_OUTER, STEER_VERSION,
    SteerConfig, WORKER_BY_FLOW,
};
use xswan_steer::tables::{Tables, v4_mapped};
use xswan_steer::{Verdict, classify, verdict};

const WORKERS: u32 = 3;

struct Fixed;

impl Tables for Fixed {
    fn config(&self) -> Option<SteerConfig> {
        let spi_key = [1, 2, 3, 4];
        Some(SteerConfig {
            version: STEER_VERSION,
            workers: WORKERS,
            member: 1,
            static_spis: 1,
            spi_key,
        })
    }

    fn is_outer(&self, address: &[u8; 16]) -> bool {
        *address == v4_mapped([192, 0, 2, 2]) || *address == [0xfd; 16]
    }

    fn static_spi(&self, spi: [u8; 4]) -> Option<u32> {
        (spi == [0, 0, 0x10, 1]).then_some(2)
    }

    fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue> {
        match address {
            [10, 1, ..] => Some(PrefixValue { flags: PREFIX_LOCAL, worker: WORKER_BY_FLOW }),
            [10, 2, ..] => Some(PrefixValue { flags: PREFIX_REMOTE, worker: WORKER_BY_FLOW }),
            [10, 3, ..] => Some(PrefixValue { flags: PREFIX_REMOTE, worker: 1 }),
            _ => None,
        }
    }

    fn prefix6(&self, address: [u8; 16]) -> Option<PrefixValue> {
        let flags = PREFIX_REMOTE | PREFIX_LOCAL;
        (address[0] == 0x20).then_some(PrefixValue { flags, worker: WORKER_BY_FLOW })
    }
}

/// The verdict names a worker that exists and a counter that exists, and is the same twice.
pub fn run(frame: &[u8]) {
    let ports = [0, ROLE_OUTER, ROLE_INNER, ROLE_OUTER | ROLE_INNER];
    let ports = ports.map(|roles| Some(PortValue { index: 0, roles }));
    for port in ports.into_iter().chain([None]) {
        let first = classify(frame, frame.len(), port, &Fixed);
        if let Verdict::Redirect { worker, .. } = first {
            assert!(worker < WORKERS && port.is_some());
        }
        assert!(first.counter() < verdict::COUNTERS);
        assert_eq!(first, classify(frame, frame.len(), port, &Fixed));
    }
}

//! The maps, by the names and sizes of `xswan_steer::abi`, pinned by name.
//!
//! A value is copied out of its map at once: control may change it while it is being looked at.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, XskMap};
use xswan_steer::Tables;
use xswan_steer::abi::{
    MAX_OUTER, MAX_PORTS, MAX_PREFIXES, MAX_SOCKETS, MAX_STATIC_SPIS, PortValue, PrefixValue,
    SteerConfig,
};
use xswan_steer::verdict::COUNTERS;

/// The kernel allocates entries of a trie, and of the large hash, only as they are added.
const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

#[map(name = "steer_config")]
static CONFIG: Array<SteerConfig> = Array::pinned(1, 0);
#[map(name = "steer_outer")]
static OUTER: HashMap<[u8; 16], u32> = HashMap::pinned(MAX_OUTER, 0);
#[map(name = "steer_spis")]
static SPIS: HashMap<[u8; 4], u32> = HashMap::pinned(MAX_STATIC_SPIS, NO_PREALLOC);
#[map(name = "steer_prefix4")]
static PREFIX4: LpmTrie<[u8; 4], PrefixValue> = LpmTrie::pinned(MAX_PREFIXES, NO_PREALLOC);
#[map(name = "steer_prefix6")]
static PREFIX6: LpmTrie<[u8; 16], PrefixValue> = LpmTrie::pinned(MAX_PREFIXES, NO_PREALLOC);
/// The attached devices.
#[map(name = "steer_ports")]
pub static PORTS: HashMap<u32, PortValue> = HashMap::pinned(MAX_PORTS, 0);
/// The sockets.
#[map(name = "xsks")]
pub static SOCKETS: XskMap = XskMap::pinned(MAX_SOCKETS, 0);
/// The counters.
#[map(name = "steer_stats")]
pub static STATS: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS, 0);

/// The maps as the classifier sees them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn config(&self) -> Option<SteerConfig> {
        CONFIG.get(0).copied()
    }

    #[inline(always)]
    fn is_outer(&self, address: &[u8; 16]) -> bool {
        OUTER.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn static_spi(&self, spi: [u8; 4]) -> Option<u32> {
        // SAFETY: the value is copied at once; the kernel keeps its memory until the program
        // has ended, and a 32-bit value is not written in parts.
        unsafe { SPIS.get(spi) }.copied()
    }

    #[inline(always)]
    fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue> {
        PREFIX4.get(Key::new(32, address)).copied()
    }

    #[inline(always)]
    fn prefix6(&self, address: [u8; 16]) -> Option<PrefixValue> {
        PREFIX6.get(Key::new(128, address)).copied()
    }
}

/// The device with this index, if it is one of ours.
#[inline(always)]
pub fn port(ports: &HashMap<u32, PortValue>, ifindex: u32) -> Option<PortValue> {
    // SAFETY: the value is copied at once and the kernel keeps its memory until the program
    // has ended; it is written before the program is attached to the device.
    unsafe { ports.get(ifindex) }.copied()
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(stats: &PerCpuArray<u64>, counter: u32) {
    if let Some(value) = stats.get_ptr_mut(counter) {
        // SAFETY: the pointer is to this processor's own value, which only this program
        // writes, and no other program of ours runs on this processor meanwhile.
        let value = unsafe { &mut *value };
        *value = value.wrapping_add(1);
    }
}

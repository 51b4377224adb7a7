//! The kernel's side of a bound socket's rings, mapped a second time.
//!
//! Nothing is sent or received while this is in use: the kernel keeps counters of its own.

use std::mem::zeroed;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

use xswan_xsk::own::ring::{Consumer, Entry, Layout, Producer, RingDescriptor};

const SIZE: u32 = 2048;
const HEADROOM: u64 = 256;

pub struct PlayedKernel {
    fill: Consumer<u64>,
    rx: Producer<RingDescriptor>,
    tx: Consumer<RingDescriptor>,
    completion: Producer<u64>,
    /// Start and length of each mapping. While they are there the queue stays bound.
    mapped: Vec<(NonNull<u8>, usize)>,
}

impl Drop for PlayedKernel {
    fn drop(&mut self) {
        for (base, len) in self.mapped.drain(..) {
            // SAFETY: mapped in `ring` with this length; the sides are not used again.
            unsafe { libc::munmap(base.as_ptr().cast(), len) };
        }
    }
}

fn offsets(fd: RawFd) -> libc::xdp_mmap_offsets {
    // SAFETY: all zero is a valid value of these integers.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
    let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    let value = ptr::from_mut(&mut offsets).cast();
    // SAFETY: pointer and length are those of `offsets`.
    let status =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, value, &mut len) };
    assert_eq!(status, 0);
    offsets
}

fn ring<T: Entry>(
    mapped: &mut Vec<(NonNull<u8>, usize)>,
    fd: RawFd,
    at: libc::xdp_ring_offset,
    page: libc::off_t,
) -> Layout<T> {
    let len = at.desc as usize + SIZE as usize * size_of::<T>();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, page) };
    assert_ne!(base, libc::MAP_FAILED);
    let base = NonNull::new(base.cast::<u8>()).unwrap();
    mapped.push((base, len));
    // SAFETY: the kernel says that these are in the mapping.
    let place = |offset: u64| unsafe { base.add(offset as usize) };
    Layout {
        producer: place(at.producer).cast(),
        consumer: place(at.consumer).cast(),
        flags: place(at.flags).cast(),
        entries: place(at.desc).cast(),
        size: SIZE,
    }
}

impl PlayedKernel {
    pub fn of(fd: RawFd) -> Self {
        let at = offsets(fd);
        let mut mapped = Vec::new();
        let fill = ring(&mut mapped, fd, at.fr, libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t);
        let rx = ring(&mut mapped, fd, at.rx, libc::XDP_PGOFF_RX_RING);
        let tx = ring(&mut mapped, fd, at.tx, libc::XDP_PGOFF_TX_RING);
        let completion =
            ring(&mut mapped, fd, at.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t);
        Self {
            // SAFETY: mapped as long as the sides; the kernel leaves the rings alone, as the module says.
            fill: unsafe { Consumer::new(fill) },
            // SAFETY: as above.
            rx: unsafe { Producer::new(rx) },
            // SAFETY: as above.
            tx: unsafe { Consumer::new(tx) },
            // SAFETY: as above.
            completion: unsafe { Producer::new(completion) },
            mapped,
        }
    }

    /// `n` frames arrive.
    pub fn receive(&mut self, n: usize, len: u32) {
        assert_eq!(self.fill.available(n as u32), n as u32);
        for _ in 0..n {
            let address = self.fill.read() / 2048 * 2048 + HEADROOM;
            self.rx.write(RingDescriptor { address, len, options: 0 });
        }
        self.fill.release();
        self.rx.publish();
    }

    /// `n` frames leave.
    pub fn transmit(&mut self, n: usize) {
        assert_eq!(self.tx.available(n as u32), n as u32);
        for _ in 0..n {
            self.completion.write(self.tx.read().address);
        }
        self.tx.release();
        self.completion.publish();
    }
}

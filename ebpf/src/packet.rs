//! The frame as [`Bytes`]: every read is compared with the end of the packet.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use core::hint::black_box;
use xswan_wire::Bytes;

/// No header starts further in than this; the verifier wants a bound that it can see.
const MAX_OFFSET: usize = 0x7fff;

/// The first buffer of a frame.
pub struct Packet {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl Packet {
    /// The frame the program was called for.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx, start: context.data(), end: context.data_end() }
    }

    /// Length in bytes of the whole frame, over all its buffers.
    #[inline(always)]
    pub fn frame_len(&self) -> usize {
        // SAFETY: the context is the one the program was called with.
        (unsafe { bpf_xdp_get_buff_len(self.context) }) as usize
    }
}

impl Bytes for Packet {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.start + offset;
        // Of a single byte the compiler would make `at >= end`, from which the verifier does
        // not conclude that the byte at `at` is there.
        let after = if N == 1 { black_box(at + N) } else { at + N };
        if after > self.end {
            return None;
        }
        // SAFETY: the N bytes at `at` lie before the end of the packet, as just compared,
        // and bytes have no alignment.
        Some(unsafe { *(at as *const [u8; N]) })
    }
}

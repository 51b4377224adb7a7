//! How a header is read: fixed-size pieces at an offset, or nothing.
//!
//! The kernel's verifier and Rust's slices prove bounds in different ways, so the
//! decoders are generic over this trait: slices implement it here, the XDP context
//! implements it in `ebpf/` by comparing pointers with the end of the packet.

/// Bytes that can be read in fixed-size pieces.
pub trait Bytes {
    /// The `N` bytes at `offset`, or `None` if they are not all there.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// One byte.
    #[inline(always)]
    fn read_u8(&self, offset: usize) -> Option<u8> {
        let [byte] = self.read::<1>(offset)?;
        Some(byte)
    }

    /// A 16-bit number in network order.
    #[inline(always)]
    fn read_u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.read(offset)?))
    }

    /// A 32-bit number in network order.
    #[inline(always)]
    fn read_u32(&self, offset: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.read(offset)?))
    }
}

impl Bytes for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk::<N>().copied()
    }
}

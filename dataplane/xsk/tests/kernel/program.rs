//! The least XDP program that can choose a worker: a few instructions written out, so
//! that this crate's tests need no loader.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: i64 = 0;
const MAP_UPDATE: i64 = 2;
const PROG_LOAD: i64 = 5;
const LINK_CREATE: i64 = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// The program takes frames over several buffers.
const XDP_HAS_FRAGS: u32 = 1 << 5;
const PSEUDO_MAP_FD: u64 = 1;
const HELPER_REDIRECT_MAP: u64 = 51;

/// Sends a frame to the socket at `queue * 2 + (last byte of the destination MAC & 1)`.
pub struct Program {
    map: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

fn bpf(command: i64, attribute: &mut [u64; 16]) -> io::Result<i64> {
    let (pointer, length) = (attribute.as_mut_ptr(), size_of_val(attribute));
    // SAFETY: the attribute is as long as said, zeros beyond what the command reads, and
    // the pointers in it outlive the call.
    let status = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, length) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

fn open(command: i64, attribute: &mut [u64; 16]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attribute)?;
    // SAFETY: a descriptor just opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// One instruction: code, destination, source, offset, immediate.
const fn insn(code: u64, destination: u64, source: u64, offset: u64, immediate: u64) -> u64 {
    code | destination << 8 | source << 12 | offset << 16 | immediate << 32
}

impl Program {
    pub fn attach(device: u32) -> io::Result<Self> {
        let mut attribute = [0; 16];
        attribute[0] = pair(MAP_TYPE_XSKMAP, 4);
        attribute[1] = pair(4, 4);
        let map = open(MAP_CREATE, &mut attribute)?;
        let instructions = [
            insn(0xbf, 6, 1, 0, 0),                                  // r6 = context
            insn(0x61, 2, 6, 0, 0),                                  // r2 = data
            insn(0x61, 3, 6, 4, 0),                                  // r3 = data_end
            insn(0xbf, 4, 2, 0, 0),                                  // r4 = r2
            insn(0x07, 4, 0, 0, 14),                                 // r4 += 14
            insn(0x2d, 4, 3, 10, 0),                                 // if r4 > r3: drop
            insn(0x71, 5, 2, 5, 0),                                  // r5 = last byte of MAC
            insn(0x57, 5, 0, 0, 1),                                  // r5 &= 1
            insn(0x61, 2, 6, 16, 0),                                 // r2 = rx_queue_index
            insn(0x67, 2, 0, 0, 1),                                  // r2 <<= 1
            insn(0x0f, 2, 5, 0, 0),                                  // r2 += r5
            insn(0x18, 1, PSEUDO_MAP_FD, 0, map.as_raw_fd() as u64), // r1 = map
            0,
            insn(0xb7, 3, 0, 0, 1), // r3 = XDP_DROP
            insn(0x85, 0, 0, 0, HELPER_REDIRECT_MAP),
            insn(0x95, 0, 0, 0, 0),
            insn(0xb7, 0, 0, 0, 1), // drop
            insn(0x95, 0, 0, 0, 0),
        ];
        let mut attribute = [0; 16];
        attribute[0] = pair(PROG_TYPE_XDP, instructions.len() as u32);
        attribute[1] = instructions.as_ptr().expose_provenance() as u64;
        attribute[2] = c"GPL".as_ptr().expose_provenance() as u64;
        attribute[5] = pair(0, XDP_HAS_FRAGS);
        let program = open(PROG_LOAD, &mut attribute)?;
        let mut attribute = [0; 16];
        attribute[0] = pair(program.as_raw_fd() as u32, device);
        attribute[1] = pair(ATTACH_XDP, 0);
        let link = open(LINK_CREATE, &mut attribute)?;
        Ok(Self { map, _program: program, _link: link })
    }

    pub fn set(&self, index: u32, socket: RawFd) -> io::Result<()> {
        let mut attribute = [0; 16];
        attribute[0] = self.map.as_raw_fd() as u64;
        attribute[1] = (&raw const index).expose_provenance() as u64;
        attribute[2] = (&raw const socket).expose_provenance() as u64;
        bpf(MAP_UPDATE, &mut attribute).map(drop)
    }
}

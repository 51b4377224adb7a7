//! The XDP program: one question to the classifier, one match from its verdict to an action.
//!
//! Assumes nothing of the frame. Guarantees that every frame counts once in `steer_stats`,
//! and that a frame for a worker without a socket is dropped, not passed.
#![no_std]
#![no_main]

mod maps;
mod packet;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use maps::{Maps, PORTS, SOCKETS, STATS};
use packet::Packet;
use xswan_steer::abi::{MAX_PORTS, MAX_QUEUES, PortValue, socket_index};
use xswan_steer::{Verdict, classify};
use xswan_wire::DropReason;

/// Steers one frame.
#[xdp(frags)]
pub fn steer(context: XdpContext) -> u32 {
    let port = maps::port(&PORTS, context.ingress_ifindex() as u32);
    let packet = Packet::new(&context);
    let verdict = classify(&packet, packet.frame_len(), port, &Maps);
    let socket = match (verdict, port) {
        (Verdict::Redirect { worker, .. }, Some(port)) => socket(&context, port, worker),
        _ => None,
    };
    let (counted, action) = match (verdict, socket) {
        (Verdict::Redirect { .. }, Some(socket)) => (verdict, redirect(socket)),
        (Verdict::Redirect { .. }, None) => (Verdict::Drop(DropReason::NoWorker), XDP_DROP),
        (Verdict::Pass(_), _) => (verdict, XDP_PASS),
        (Verdict::Drop(_), _) => (verdict, XDP_DROP),
    };
    maps::count(&STATS, counted.counter());
    action
}

/// The place in `xsks` of the worker's socket on the queue the frame came in on, if there
/// is one. Asked before the redirect, whose failure would not be known before it is too late
/// to count.
#[inline(always)]
fn socket(context: &XdpContext, port: PortValue, worker: u32) -> Option<u32> {
    let queue = context.rx_queue_index();
    if port.index >= MAX_PORTS || queue >= MAX_QUEUES {
        return None;
    }
    let index = socket_index(port.index, queue, worker);
    SOCKETS.get(index).map(|_queue| index)
}

#[inline(always)]
fn redirect(socket: u32) -> u32 {
    // The flags are the action if the socket has gone since: dropped, not passed.
    match SOCKETS.redirect(socket, u64::from(XDP_DROP)) {
        Ok(action) | Err(action) => action,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: a panic that is reachable makes the verifier refuse the loop.
    loop {}
}

/// The program calls no helper that is reserved to the GPL.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"MIT\0";

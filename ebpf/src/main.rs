//! The XDP program: one question to the classifier, one match from its decision to an action.
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
use xswan_steer::{Decision, Way, decide};
use xswan_wire::DropReason;

/// Steers one frame.
#[xdp(frags)]
pub fn steer(context: XdpContext) -> u32 {
    let port = maps::port(&PORTS, context.ingress_ifindex() as u32);
    let packet = Packet::new(&context);
    let decision = decide(&packet, packet.frame_len(), port, &Maps);
    let (counter, action) = match decision.way() {
        Way::Pass => (decision.counter, XDP_PASS),
        Way::Drop => (decision.counter, XDP_DROP),
        Way::Redirect => redirect(&context, port, decision),
    };
    maps::count(&STATS, counter);
    action
}

/// To the socket that the worker has on the queue the frame came in on.
///
/// Whether there is one is asked before the redirect, whose failure would show only when it
/// is too late to count.
#[inline(always)]
fn redirect(context: &XdpContext, port: Option<PortValue>, decision: Decision) -> (u32, u32) {
    const NONE: (u32, u32) = (Decision::drop(DropReason::NoWorker).counter, XDP_DROP);
    let Some(port) = port else { return NONE };
    let queue = context.rx_queue_index();
    if port.index >= MAX_PORTS || queue >= MAX_QUEUES {
        return NONE;
    }
    let socket = socket_index(port.index, queue, decision.worker);
    if SOCKETS.get(socket).is_none() {
        return NONE;
    }
    // The flags are the action if the socket has gone since: dropped, not passed.
    match SOCKETS.redirect(socket, u64::from(XDP_DROP)) {
        Ok(action) | Err(action) => (decision.counter, action),
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

//! Who gets which ring: between workers, and of each queue.

use std::sync::Arc;

use rtrb::RingBuffer;
use xswan_xsk::{Bell, OpenedQueue, StallWatch};

use crate::io::{Neighbour, Queue};
use crate::topology::{Port, Topology};

/// Frames under way between two workers at most; what does not fit waits at its sender.
const NEIGHBOUR_RING: usize = 1024;

/// The rings between every two workers, by worker; `bells` has each one's own.
#[must_use]
pub fn neighbours(bells: &[Arc<Bell>]) -> Vec<Vec<Option<Neighbour>>> {
    let count = bells.len();
    let mut ends: Vec<Vec<Option<_>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    let mut takes: Vec<Vec<Option<_>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    for (from, row) in ends.iter_mut().enumerate() {
        for (to, place) in row.iter_mut().enumerate().filter(|&(to, _)| to != from) {
            let (hand_off, taken_over) = RingBuffer::new(NEIGHBOUR_RING);
            let (home, returned) = RingBuffer::new(NEIGHBOUR_RING);
            *place = Some((hand_off, home));
            if let Some(take) = takes.get_mut(to).and_then(|row| row.get_mut(from)) {
                *take = Some((taken_over, returned));
            }
        }
    }
    ends.into_iter()
        .zip(takes)
        .map(|(row, takes)| {
            row.into_iter()
                .zip(takes)
                .zip(bells)
                .map(|((end, take), bell)| {
                    let ((hand_off, home), (taken_over, returned)) = end.zip(take)?;
                    let bell = Arc::clone(bell);
                    Some(Neighbour { hand_off, home, taken_over, returned, bell })
                })
                .collect()
        })
        .collect()
}

/// A worker's queues, and for each port the position of the one that packets leave by.
pub type WorkerQueues<S, R> = (Vec<Queue<S, R>>, Vec<usize>);

/// Gives every worker its socket of every queue, the rings of its own, and a way out of each port.
#[must_use]
pub fn deal_queues<S, R>(
    topology: &Topology,
    frames_per_worker: u32,
    opened: Vec<OpenedQueue<S, R>>,
) -> Vec<WorkerQueues<S, R>> {
    let count = topology.worker_cores.len();
    let mut dealt: Vec<WorkerQueues<S, R>> = (0..count).map(|_| (Vec::new(), Vec::new())).collect();
    let owned = |worker: usize| {
        let of = |port: &Port| port.queues.iter().filter(|&&q| topology.owner(q) == worker).count();
        topology.ports.iter().map(of).sum::<usize>().max(1)
    };
    let mut queues = opened.into_iter();
    for (index, port) in topology.ports.iter().enumerate() {
        let mut first_of_port = vec![None; count];
        let mut own_of_port = vec![None; count];
        for &number in &port.queues {
            let Some(queue) = queues.next() else { continue };
            let owner = topology.owner(number);
            let mut rings = Some(queue.rings);
            for (worker, socket) in queue.sockets.into_iter().enumerate() {
                let Some((list, _)) = dealt.get_mut(worker) else { continue };
                let mine = worker == owner;
                let place = list.len();
                if let (Some(first), Some(own)) =
                    (first_of_port.get_mut(worker), own_of_port.get_mut(worker))
                {
                    first.get_or_insert(place);
                    if mine {
                        own.get_or_insert(place);
                    }
                }
                // Half of the frames wait to be received into, half are for sending.
                let fill = u64::from(frames_per_worker) / 2;
                list.push(Queue {
                    port: u16::try_from(index).unwrap_or(u16::MAX),
                    socket,
                    rings: if mine { rings.take() } else { None },
                    fill_target: fill / owned(worker) as u64,
                    watch: StallWatch::default(),
                });
            }
        }
        for (worker, (_, exits)) in dealt.iter_mut().enumerate() {
            let own = own_of_port.get(worker).copied().flatten();
            let first = first_of_port.get(worker).copied().flatten();
            exits.push(own.or(first).unwrap_or(usize::MAX));
        }
    }
    dealt
}

//! Between bursts: a worker takes in SAs that the main thread has made, and gives back what they
//! replace.
//!
//! A bounded number at once, so that a million of them delay no packet by more than a few
//! microseconds. What the worker does not take waits in the ring, and what does not fit into the
//! ring waits in the shared records: the main thread sends no more than there is room for.

use rtrb::{Consumer, Producer};
use xswan_sa_api::{Direction, InLives, OutLives};

use crate::worker::{Command, ReadyInbound, ReadyOutbound, Retired, WorkerEngine};

/// Commands between two bursts at most: taking one in costs no more than a packet or two.
pub const COMMANDS_AT_ONCE: usize = 32;
/// Commands under way to a worker at most, and as many SAs on their way back.
pub const COMMANDS: usize = 4096;
/// A quoted packet may be this many packets old: what a second of line rate has sent.
const RECENT_PACKETS: u32 = 1 << 20;

/// What a look into the ring has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Commands that were obeyed.
    pub commands: usize,
    /// It is time to end.
    pub stop: bool,
}

/// A worker's end of the rings to and from the main thread.
#[derive(Debug)]
pub struct Intake {
    /// From the main thread.
    pub inbox: Consumer<Command>,
    /// To the main thread.
    pub outbox: Producer<Retired>,
    /// Live halves of inbound records.
    pub inbound_live: InLives,
    /// Live halves of outbound records.
    pub outbound_live: OutLives,
}

impl Intake {
    /// Obeys up to [`COMMANDS_AT_ONCE`] commands, as far as there is room to give back what they
    /// replace. `note_spi` is told which SPI a slot has from now on; 0 is none.
    pub fn take(
        &mut self,
        engine: &mut WorkerEngine,
        now_ms: u64,
        note_spi: &mut impl FnMut(Direction, u32, u32),
    ) -> Taken {
        let mut taken = Taken::default();
        while taken.commands < COMMANDS_AT_ONCE && !taken.stop {
            if self.inbox.is_empty() || self.outbox.slots() <= 1 {
                break;
            }
            let Ok(command) = self.inbox.pop() else { break };
            taken.commands += 1;
            taken.stop = self.obey(engine, command, now_ms, note_spi);
        }
        taken
    }

    fn obey(
        &mut self,
        engine: &mut WorkerEngine,
        command: Command,
        now_ms: u64,
        note_spi: &mut impl FnMut(Direction, u32, u32),
    ) -> bool {
        match command {
            Command::Inbound { slot, generation, sa, update } => {
                let sa = if update { continued_inbound(engine, slot, sa) } else { sa };
                note_spi(Direction::Inbound, slot, sa.as_ref().map_or(0, |sa| sa.sa.spi()));
                let old = engine.inbound.put(slot as usize, sa);
                self.inbound_live.acknowledge(slot, generation);
                let _ = self.outbox.push(Retired::Inbound(slot, old));
            }
            Command::Outbound { slot, generation, sa, update } => {
                let sa = if update { continued_outbound(engine, slot, sa) } else { sa };
                note_spi(Direction::Outbound, slot, sa.as_ref().map_or(0, |sa| sa.sa.spi()));
                let old = engine.outbound.put(slot as usize, sa);
                self.outbound_live.acknowledge(slot, generation);
                let _ = self.outbox.push(Retired::Outbound(slot, old));
            }
            Command::StaticSpi { spi, place: Some((worker, slot)) } => {
                engine.static_spis.insert(spi, worker, slot);
            }
            Command::StaticSpi { spi, place: None } => engine.static_spis.remove(spi),
            Command::PathMtu { slot, sequence, mtu } => {
                learn_mtu(engine, slot, sequence, mtu, now_ms);
            }
            Command::Stop => return true,
        }
        false
    }
}

/// The new SA with window and counts of the one in the slot.
fn continued_inbound(
    engine: &mut WorkerEngine,
    slot: u32,
    new: Option<Box<ReadyInbound>>,
) -> Option<Box<ReadyInbound>> {
    let mut new = new?;
    let old = engine.inbound.at_mut(slot as usize);
    if old.is_some_and(|old| new.sa.take_over(&mut old.sa)) {
        return Some(new);
    }
    // Without the old window it would accept replays: rather no SA.
    tracing::error!(slot, "an update for another inbound SA than the one here");
    None
}

/// The new SA with numbers and counts of the one in the slot.
fn continued_outbound(
    engine: &mut WorkerEngine,
    slot: u32,
    new: Option<Box<ReadyOutbound>>,
) -> Option<Box<ReadyOutbound>> {
    let mut new = new?;
    let old = engine.outbound.at_mut(slot as usize);
    if old.is_some_and(|old| new.sa.take_over(&mut old.sa)) {
        return Some(new);
    }
    // Without the old numbers it would repeat nonces: rather no SA.
    tracing::error!(slot, "an update for another outbound SA than the one here");
    None
}

/// Believes a "packet too big" if it quotes a number that was used lately.
fn learn_mtu(engine: &mut WorkerEngine, slot: u32, sequence: u32, mtu: u16, now_ms: u64) {
    let Some(entry) = engine.outbound.at_mut(slot as usize) else { return };
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what was quoted")]
    let last = entry.sa.sequence().last() as u32;
    let recent = last.wrapping_sub(sequence) < RECENT_PACKETS;
    if recent && mtu < entry.path_mtu {
        entry.path_mtu = mtu;
        entry.learned_ms = Some(now_ms);
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;

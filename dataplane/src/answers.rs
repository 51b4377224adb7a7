//! What the management socket is told.

use serde_json::{Value, json};
use xswan_pipeline::stage::{Stage, StageTotals};
use xswan_steer::verdict;
use xswan_wire::DropReason;

use crate::counters::{QueueTotals, Totals, WorkerCounters};
use crate::start::Running;

/// `status`: a line for each part, and whether it is well.
#[must_use]
pub fn status(
    running: &Running,
    alive: &[bool],
    devices: &[(String, Result<String, String>)],
) -> Value {
    let line = |component: String, ok: bool, detail: String| json!({ "component": component, "ok": ok, "detail": detail });
    let (inbound, outbound) = running.sadb.count();
    let detail = format!(
        "process {}, {inbound} inbound and {outbound} outbound SAs, {}",
        std::process::id(),
        running.backend.description()
    );
    let mut components = vec![line("dataplane".to_owned(), true, detail)];
    for (worker, (&alive, core)) in alive.iter().zip(&running.topology.worker_cores).enumerate() {
        let detail = if alive { format!("on core {core}") } else { "not answering".to_owned() };
        components.push(line(format!("worker-{worker}"), alive, detail));
    }
    for (name, state) in devices {
        let (ok, detail) = match state {
            Ok(detail) => (true, detail.clone()),
            Err(detail) => (false, detail.clone()),
        };
        components.push(line(name.clone(), ok, detail));
    }
    json!({ "components": components, "warnings": running.topology.warnings(), "notes": running.notes })
}

/// `runtime`: what each worker has done and what a packet cost.
#[must_use]
pub fn runtime(running: &Running) -> Value {
    let workers: Vec<Value> = running
        .counters
        .iter()
        .zip(&running.topology.worker_cores)
        .enumerate()
        .map(|(worker, (counters, core))| {
            let (totals, drops) = (counters.totals(), counters.drops());
            let mut value = runtime_of(worker, *core, &totals, drops.iter().sum());
            value["stages"] = stages_of(counters);
            value
        })
        .collect();
    let slow = &running.slow_path.counters;
    let load =
        |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    json!({
        "workers": workers,
        "queues": queues(running),
        "slow_path": {
            "written": load(&slow.written),
            "refused": load(&slow.refused),
            "read": load(&slow.read),
            "read_dropped": load(&slow.read_dropped),
        },
    })
}

/// Each queue's counters, ours and the kernel's, added up over the workers' sockets.
///
/// Frames that the program redirected were received, refused or dropped by the kernel: the
/// three add up to the program's count when traffic rests.
fn queues(running: &Running) -> Vec<Value> {
    let ports = &running.topology.ports;
    let names = ports.iter().flat_map(|port| port.queues.iter().map(|queue| (&port.name, *queue)));
    let mut rows: Vec<(QueueTotals, _)> =
        names.map(|name| (QueueTotals::default(), name)).collect();
    for counters in &running.counters {
        for ((sum, _), part) in rows.iter_mut().zip(counters.queues()) {
            sum.received += part.received;
            sum.refused += part.refused;
            sum.sent += part.sent;
            sum.rx_dropped += part.rx_dropped;
            sum.rx_ring_full += part.rx_ring_full;
            sum.rx_invalid += part.rx_invalid;
            sum.tx_invalid += part.tx_invalid;
            sum.fill_ring_empty = sum.fill_ring_empty.max(part.fill_ring_empty);
        }
    }
    rows.into_iter().map(|(sum, (device, queue))| queue_row(device, queue, &sum)).collect()
}

fn queue_row(device: &str, queue: u32, totals: &QueueTotals) -> Value {
    json!({
        "device": device,
        "queue": queue,
        "rx": totals.received,
        "tx": totals.sent,
        "umem_ownership_violation": totals.refused,
        "xsk_rx_dropped": totals.rx_dropped,
        "xsk_rx_ring_full": totals.rx_ring_full,
        "xsk_rx_fill_ring_empty": totals.fill_ring_empty,
        "xsk_rx_invalid": totals.rx_invalid,
        "xsk_tx_invalid": totals.tx_invalid,
    })
}

/// What each pass over a burst costs a packet that goes through it.
fn stages_of(counters: &WorkerCounters) -> Value {
    let of = |(stage, totals): (Stage, StageTotals)| {
        let cycles =
            if totals.packets == 0 { 0.0 } else { totals.ticks as f64 / totals.packets as f64 };
        json!({ "stage": stage.name(), "packets": totals.packets, "cycles_per_packet": cycles })
    };
    counters.stages().map(of).collect()
}

fn runtime_of(worker: usize, core: usize, totals: &Totals, drops: u64) -> Value {
    let per = |what: u64, of: u64| if of == 0 { 0.0 } else { what as f64 / of as f64 };
    let processed = totals.received + totals.taken_over;
    json!({
        "worker": worker,
        "core": core,
        "rx": totals.received,
        "tx": totals.forwarded,
        "bursts": totals.bursts,
        "burst_fill": per(totals.received, totals.bursts),
        "cycles_per_packet": per(totals.busy_cycles, processed),
        "handoffs": totals.handed_off,
        "taken_over": totals.taken_over,
        "punted": totals.punted,
        "originated": totals.originated,
        "sealed": totals.sealed,
        "opened": totals.opened,
        "drops": drops,
        "loops": totals.loops,
        "gathered": totals.gathered,
        "scattered": totals.scattered,
        "tx_retries": totals.tx_retries,
        "tx_wakeups": totals.tx_wakeups,
        "tx_stalls": totals.tx_stalls,
        "frames_free": totals.frames_free,
        "umem_ownership_violation": totals.frame_violations,
    })
}

/// `drops`: every reason, and every verdict of the XDP program.
#[must_use]
pub fn drops(running: &Running) -> Value {
    let verdicts = running.steering.statistics();
    let mut sums = [0_u64; DropReason::COUNT];
    for counters in &running.counters {
        for (sum, count) in sums.iter_mut().zip(counters.drops()) {
            *sum += count;
        }
    }
    // The program's own drops belong to the same catalogue.
    let steer: Vec<Value> = (0_u32..)
        .zip(&verdicts)
        .filter_map(|(index, count)| {
            let verdict = verdict::Verdict::from_counter(index)?;
            Some(json!({ "name": verdict.name(), "count": count }))
        })
        .collect();
    let reasons: Vec<Value> = DropReason::ALL
        .iter()
        .zip(sums)
        .map(|(reason, count)| {
            json!({
                "name": reason.name(),
                "xfrm": reason.xfrm_name(),
                "count": count,
                "summary": reason.summary(),
            })
        })
        .collect();
    json!({ "reasons": reasons, "steer": steer })
}

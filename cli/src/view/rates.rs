//! What happened between two looks at the counters, a second.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use weft_proto::v1::{CountersResponse, PortCounters, WorkerStatus};

use crate::quantity::count;
use crate::table::{Cell, Table, Tone};

/// A worker that is busy for more than this part of its time, in percent, may be the bottleneck.
const BUSY: u64 = 90;

/// Everything, a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Seconds between the two looks.
    pub seconds: f64,
    /// All ports together.
    pub total: Traffic,
    /// In their order.
    pub workers: Vec<WorkerRate>,
    /// The busiest first.
    pub ports: Vec<PortRate>,
}

/// Traffic a second, seen from the stack: `rx` is what containers sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Frames from devices.
    pub rx_packets: u64,
    /// Bits of them.
    pub rx_bits: u64,
    /// Frames to devices.
    pub tx_packets: u64,
    /// Bits of them.
    pub tx_bits: u64,
    /// Frames dropped.
    pub drops: u64,
    /// The reason of most of them; empty without any.
    pub drop_reason: String,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRate {
    /// Its name.
    pub port: String,
    /// What it moved.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRate {
    /// Its number.
    pub worker: u32,
    /// Percent of its time that it worked on packets.
    pub busy: u64,
    /// Receive queues that it owns.
    pub queues: u32,
    /// Frames that it read a second.
    pub rx_packets: u64,
    /// Frames that it wrote a second.
    pub tx_packets: u64,
    /// Times that it went to sleep a second.
    pub sleeps: u64,
}

impl Rates {
    /// What happened between two looks, or since the daemon's start if that was in between.
    pub fn between(before: &CountersResponse, after: &CountersResponse) -> Rates {
        let elapsed = |counters: &CountersResponse| {
            counters.workers.iter().map(|worker| worker.elapsed_us).max().unwrap_or(0)
        };
        let start = CountersResponse::default();
        let before = if elapsed(after) < elapsed(before) { &start } else { before };
        let micros = elapsed(after).saturating_sub(elapsed(before)).max(1);
        let none = PortCounters::default();
        let mut sum = (none.clone(), none.clone());
        let mut ports = Vec::new();
        for set in &after.ports {
            let now = set.counters.as_ref().unwrap_or(&none);
            // A port that is new has counted from zero.
            let earlier = before.ports.iter().find(|other| other.port == set.port);
            let then = earlier.and_then(|set| set.counters.as_ref()).unwrap_or(&none);
            add(&mut sum.0, then);
            add(&mut sum.1, now);
            ports.push(PortRate { port: set.port.clone(), traffic: Traffic::between(then, now, micros) });
        }
        ports.sort_by_key(|rate| {
            let it = &rate.traffic;
            (Reverse(it.rx_bits + it.tx_bits), Reverse(it.drops), rate.port.clone())
        });
        let workers = after.workers.iter().map(|now| {
            let then = before.workers.iter().find(|then| then.index == now.index);
            WorkerRate::between(then.copied().unwrap_or_default(), *now, micros)
        });
        Rates {
            // Exact enough for some hundred years.
            seconds: micros as f64 / 1e6,
            total: Traffic::between(&sum.0, &sum.1, micros),
            workers: workers.collect(),
            ports,
        }
    }

    /// The workers as a table.
    pub fn workers(&self) -> Table {
        let mut table = Table::new(&["WORKER", "BUSY", "QUEUES", "RX-PACKETS/S", "TX-PACKETS/S", "SLEEPS/S"]);
        for worker in &self.workers {
            let tone = if worker.busy > BUSY { Tone::Busy } else { Tone::Plain };
            table.row(vec![
                worker.worker.to_string().into(),
                Cell::new(format!("{}%", worker.busy), tone),
                worker.queues.to_string().into(),
                count(worker.rx_packets).into(),
                count(worker.tx_packets).into(),
                count(worker.sleeps).into(),
            ]);
        }
        table
    }

    /// The busiest ports, at most `most` of them, as a table, and all together.
    pub fn ports(&self, most: usize) -> Table {
        let mut table = Table::new(&[
            "PORT",
            "RX-PACKETS/S",
            "RX-BITS/S",
            "TX-PACKETS/S",
            "TX-BITS/S",
            "DROPS/S",
            "MOSTLY",
        ]);
        let shown = self.ports.iter().take(most).map(|rate| (rate.port.clone(), &rate.traffic));
        for (name, it) in shown.chain([(format!("all {}", self.ports.len()), &self.total)]) {
            let tone = if it.drops > 0 { Tone::Busy } else { Tone::Plain };
            let mut row = vec![Cell::from(name)];
            row.extend([it.rx_packets, it.rx_bits, it.tx_packets, it.tx_bits].map(|n| Cell::from(count(n))));
            row.extend([Cell::new(count(it.drops), tone), it.drop_reason.as_str().into()]);
            table.row(row);
        }
        table
    }
}

impl Traffic {
    fn between(then: &PortCounters, now: &PortCounters, micros: u64) -> Traffic {
        let rate = |then: u64, now: u64| a_second(now.saturating_sub(then), micros);
        let lost = now.drops.iter().map(|(reason, count)| {
            (reason, count.saturating_sub(then.drops.get(reason).copied().unwrap_or(0)))
        });
        let lost: BTreeMap<_, _> = lost.filter(|(_, count)| *count > 0).collect();
        let most = lost.iter().max_by_key(|(_, count)| **count).map(|(reason, _)| (*reason).clone());
        Traffic {
            rx_packets: rate(then.rx_packets, now.rx_packets),
            rx_bits: rate(then.rx_bytes.saturating_mul(8), now.rx_bytes.saturating_mul(8)),
            tx_packets: rate(then.tx_packets, now.tx_packets),
            tx_bits: rate(then.tx_bytes.saturating_mul(8), now.tx_bytes.saturating_mul(8)),
            drops: a_second(lost.values().sum(), micros),
            drop_reason: most.unwrap_or_default(),
        }
    }
}

impl WorkerRate {
    fn between(then: WorkerStatus, now: WorkerStatus, micros: u64) -> WorkerRate {
        let rate = |then: u64, now: u64| a_second(now.saturating_sub(then), micros);
        WorkerRate {
            worker: now.index,
            busy: (now.busy_us.saturating_sub(then.busy_us).saturating_mul(100) / micros).min(100),
            queues: now.queues,
            rx_packets: rate(then.rx_packets, now.rx_packets),
            tx_packets: rate(then.tx_packets, now.tx_packets),
            sleeps: rate(then.sleeps, now.sleeps),
        }
    }
}

fn add(sum: &mut PortCounters, counters: &PortCounters) {
    sum.rx_packets += counters.rx_packets;
    sum.rx_bytes += counters.rx_bytes;
    sum.tx_packets += counters.tx_packets;
    sum.tx_bytes += counters.tx_bytes;
    for (reason, count) in &counters.drops {
        *sum.drops.entry(reason.clone()).or_default() += count;
    }
}

/// A count in that many microseconds as one a second, rounded.
fn a_second(count: u64, micros: u64) -> u64 {
    let rounded = (u128::from(count) * 1_000_000 + u128::from(micros) / 2) / u128::from(micros);
    u64::try_from(rounded).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use weft_proto::v1::PortCounterSet;

    use super::*;

    fn port(name: &str, packets: u64, drops: &[(&str, u64)]) -> PortCounterSet {
        let counters = PortCounters {
            rx_packets: packets,
            rx_bytes: packets * 100,
            tx_packets: packets / 2,
            tx_bytes: packets * 50,
            drops: drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            fast_packets: 0,
        };
        PortCounterSet { port: name.to_owned(), counters: Some(counters), queues: Vec::new() }
    }

    fn look(seconds: u64, busy_us: u64, ports: Vec<PortCounterSet>) -> CountersResponse {
        let worker = WorkerStatus {
            busy_us,
            elapsed_us: seconds * 1_000_000,
            sleeps: seconds * 10,
            ..Default::default()
        };
        CountersResponse { ports, workers: vec![worker], ..Default::default() }
    }

    fn rates() -> Rates {
        let before = look(10, 500_000, vec![port("db", 0, &[]), port("web", 1000, &[("no_route", 7)])]);
        let drops = [("device_full", 3), ("no_route", 17)];
        let after =
            look(12, 1_500_000, vec![port("db", 20, &[]), port("new", 40, &[]), port("web", 3000, &drops)]);
        Rates::between(&before, &after)
    }

    #[test]
    fn differences_are_divided_by_the_daemons_own_time() {
        let rates = rates();
        let web = &rates.ports[0];
        assert_eq!(web.port, "web");
        assert_eq!(
            (web.traffic.rx_packets, web.traffic.rx_bits, web.traffic.tx_packets),
            (1000, 800_000, 500)
        );
        assert_eq!((web.traffic.drops, web.traffic.drop_reason.as_str()), (7, "no_route"));
        assert_eq!((rates.workers[0].busy, rates.workers[0].sleeps), (50, 10));
    }

    #[test]
    fn the_busiest_ports_come_first_and_all_are_counted() {
        let rates = rates();
        let names: Vec<_> = rates.ports.iter().map(|rate| rate.port.as_str()).collect();
        assert_eq!(names, ["web", "new", "db"]);
        assert_eq!(rates.total.rx_packets, 1030);
    }

    #[test]
    fn of_a_daemon_that_was_started_anew_all_that_it_did_counts() {
        let before = look(100, 9_000_000, vec![port("web", 5000, &[("no_route", 9)])]);
        let rates = Rates::between(&before, &look(1, 200_000, vec![port("web", 10, &[])]));
        assert_eq!((rates.total.rx_packets, rates.total.drops, rates.workers[0].busy), (10, 0, 20));
    }
}

//! Where it was measured: the machine, what it did beside, and the versions of the programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::statistics::busy_seconds;
use crate::version::said;

/// How long it is watched what the machine does beside.
const WATCHED: Duration = Duration::from_secs(1);
/// From this share of all processors on, what runs beside is in the way.
const BUSY: f64 = 0.1;

/// A machine, and a time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Machine {
    /// When the first scenario began (UTC).
    pub date: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// How many processors may be used.
    pub cores: usize,
    /// In GiB.
    pub memory: f64,
    /// Before the first run.
    pub before: Burden,
    /// After the last run; `None`: it is still to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Burden>,
    /// Weft, and whom it was compared with; those that are there.
    pub programs: Vec<Program>,
}

/// What a machine does while nothing is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Burden {
    /// Of the last minute.
    pub load_average: f64,
    /// The share of all processors' time that was used, 0 to 1.
    pub busy: f64,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// As it says itself.
    pub version: String,
}

/// Whom to ask for a version: a name, a program and its arguments.
const PEERS: &[(&str, &str, &[&str])] = &[
    ("Open vSwitch", "ovs-vswitchd", &["--version"]),
    ("CNI plugins", "dpkg-query", &["-W", "-f", "${Package} ${Version}", "containernetworking-plugins"]),
    ("iperf3", "iperf3", &["--version"]),
    ("sockperf", "sockperf", &["--version"]),
];

impl Machine {
    /// This machine as it is now; watches it for a second. `peers` is the folder of `scripts/bench-peers`.
    pub fn look(peers: Option<&Path>) -> Machine {
        Machine {
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default(),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: processor(&file("/proc/cpuinfo")).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&file("/proc/meminfo")).unwrap_or_default(),
            before: Burden::watch(),
            after: None,
            programs: programs(peers),
        }
    }

    /// What was in the way of the measurement; `None`: nothing.
    pub fn warning(&self) -> Option<String> {
        let said = |burden: Burden, when: &str| format!("{:.0} % {when}", burden.busy * 100.0);
        let after = self.after.map(|after| said(after, "after the last"));
        let told = [Some(said(self.before, "before the first run")), after].into_iter().flatten();
        let busy = self.after.map_or(self.before.busy, |after| self.before.busy.max(after.busy));
        (busy > BUSY).then(|| {
            let told = told.collect::<Vec<_>>().join(", ");
            format!("Other programs used the processors: {told}. Figures and ratios suffer from that.")
        })
    }

    /// One line for each thing worth knowing: its name and its value.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let after = self.after.map_or("?".into(), |after| format!("{:.2}", after.load_average));
        let mut lines = vec![
            ("date", self.date.clone()),
            ("processor", format!("{}, {} cores", self.processor, self.cores)),
            ("memory", format!("{:.1} GiB", self.memory)),
            ("kernel", format!("Linux {}", self.kernel)),
            ("load average", format!("{:.2} before, {after} after", self.before.load_average)),
        ];
        lines.extend(self.programs.iter().map(|program| (program.name, program.version.clone())));
        lines
    }
}

impl Burden {
    /// What the machine does while this program waits for a second.
    pub fn watch() -> Burden {
        let busy = || busy_seconds(&file("/proc/stat")).unwrap_or_default();
        let before = busy();
        std::thread::sleep(WATCHED);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let share = (busy() - before) / (WATCHED.as_secs_f64() * cores);
        Burden {
            load_average: load_average(&file("/proc/loadavg")).unwrap_or_default(),
            busy: share.clamp(0.0, 1.0),
        }
    }
}

/// What is missing is left out of the report, and is no error.
fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn programs(peers: Option<&Path>) -> Vec<Program> {
    let weft =
        weft_testkit::binaries::find("weftd").ok().and_then(|path| said(path.to_str()?, &["--version"]));
    let commit = said("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let weft = match (weft, commit) {
        (Some(weft), Some(commit)) => Some(format!("{weft}, sources at {commit}")),
        (weft, commit) => weft.or(commit),
    };
    let userspace = ["wireguard-go", "boringtun-cli", "gotatun"].into_iter().filter_map(|name| {
        let version = said(peers?.join(name).to_str()?, &["--version"])?;
        Some(Program { name, version })
    });
    let others = PEERS
        .iter()
        .filter_map(|(name, program, arguments)| Some(Program { name, version: said(program, arguments)? }));
    let weft = weft.map(|version| Program { name: "Weft", version });
    weft.into_iter().chain(userspace).chain(others).collect()
}

/// The first processor's name, by `/proc/cpuinfo`.
fn processor(cpuinfo: &str) -> Option<&str> {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim())
}

/// GiB of memory, by `/proc/meminfo`.
fn memory(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0 / 1024.0)
}

/// Of the last minute, by `/proc/loadavg`.
fn load_average(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_what_the_kernel_says() {
        let cpuinfo =
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7763 64-Core Processor\nflags\t: fpu";
        assert_eq!(processor(cpuinfo), Some("AMD EPYC 7763 64-Core Processor"));
        assert_eq!(memory("MemTotal:        8388608 kB\nMemFree:  1 kB"), Some(8.0));
        assert_eq!(load_average("0.42 0.75 1.17 1/213 4242\n"), Some(0.42));
        assert_eq!(processor("BogoMIPS : 50.00"), None);
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let idle = Burden { load_average: 3.0, busy: 0.02 };
        let busy = Burden { load_average: 0.1, busy: 0.5 };
        let quiet = Machine { before: idle, after: Some(idle), ..Machine::default() };
        assert_eq!(quiet.warning(), None);
        let warning = Machine { after: Some(busy), ..quiet }.warning().unwrap();
        assert!(warning.contains("50 % after"), "{warning}");
    }
}

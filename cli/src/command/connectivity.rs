//! `weft connectivity`.

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent;
use crate::arguments::{Connectivity, TextFormat};
use crate::error::Error;
use crate::output::Output;
use crate::table::{Cell, Table, Tone};

/// How long the agent may take for all: it bounds each try, and there may be thousands of nodes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What the agent found.
#[derive(Debug, Deserialize)]
struct Report {
    node: String,
    mtu: u32,
    known: usize,
    tried: usize,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Finding {
    check: String,
    to: String,
    address: Option<String>,
    ok: bool,
    milliseconds: u64,
    detail: String,
}

/// Has the agent try what reaches what, and prints what it found.
pub fn run(arguments: &Connectivity, output: &mut Output) -> Result<(), Error> {
    let text = agent::get(&arguments.agent.agent, &path(arguments), PATIENCE)?;
    let whole: Value = serde_json::from_str(&text)?;
    let report = Report::deserialize(&whole)?;
    match arguments.output {
        TextFormat::Json => output.json(&whole)?,
        TextFormat::Text => print(&report, output)?,
    }
    match report.findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        failed => Err(Error::Unconnected { failed, total: report.findings.len() }),
    }
}

fn path(arguments: &Connectivity) -> String {
    let mut path = format!("/connectivity?timeout={}", arguments.timeout);
    let named = [
        ("outside", &arguments.outside),
        ("dns", &arguments.dns),
        ("name", &arguments.name),
        ("nodes", &arguments.nodes),
    ];
    for (key, value) in named {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={value}"));
        }
    }
    if arguments.all {
        path.push_str("&all=1");
    }
    path
}

fn print(report: &Report, output: &mut Output) -> Result<(), Error> {
    let mut table = Table::new(&["RESULT", "CHECK", "TO", "ADDRESS", "TIME", "DETAIL"]);
    for finding in &report.findings {
        let result = if finding.ok { Cell::new("ok", Tone::Good) } else { Cell::new("FAIL", Tone::Bad) };
        table.row(vec![
            result,
            finding.check.as_str().into(),
            finding.to.as_str().into(),
            finding.address.clone().unwrap_or_default().into(),
            format!("{} ms", finding.milliseconds).into(),
            finding.detail.as_str().into(),
        ]);
    }
    table.write(output)?;
    let fine = report.findings.iter().filter(|finding| finding.ok).count();
    let Report { node, mtu, known, tried, findings } = report;
    let total = findings.len();
    writeln!(output, "{fine} of {total} ok, from node {node} to {tried} of {known} others, pods' MTU {mtu}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::output::tests::captured;

    fn asked(line: &str) -> String {
        let parsed = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Connectivity(arguments) = parsed.command else { panic!() };
        path(&arguments)
    }

    #[test]
    fn arguments_become_a_query() {
        assert_eq!(asked("weft connectivity"), "/connectivity?timeout=2");
        assert_eq!(
            asked(
                "weft connectivity --outside [2001:db8::1]:443 --dns 192.0.2.53 --name a.b --all --timeout 9"
            ),
            "/connectivity?timeout=9&outside=[2001:db8::1]:443&dns=192.0.2.53&name=a.b&all=1"
        );
        assert_eq!(asked("weft connectivity --nodes a,b"), "/connectivity?timeout=2&nodes=a,b");
        for wrong in ["--outside a&b", "--name x", "--dns 1.1.1.1#", "--nodes a --all", "--timeout 0"] {
            let line = format!("weft connectivity {wrong}");
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_finding_has_a_line_and_all_a_summary() {
        let report: Report = serde_json::from_str(
            r#"{"node": "one", "mtu": 1420, "known": 30, "tried": 20, "findings": [
                {"from": "one", "check": "pod-to-pod", "to": "two", "address": "198.18.2.3", "family": "ipv4",
                 "ok": true, "milliseconds": 3, "detail": ""},
                {"from": "one", "check": "mtu", "to": "two", "address": "198.18.2.3", "family": "ipv4",
                 "ok": false, "milliseconds": 2000, "detail": "1420 octets do not pass"}]}"#,
        )
        .unwrap();
        assert_eq!(
            captured(false, |output| print(&report, output)),
            "RESULT  CHECK       TO   ADDRESS     TIME     DETAIL\n\
             ok      pod-to-pod  two  198.18.2.3  3 ms     -\n\
             FAIL    mtu         two  198.18.2.3  2000 ms  1420 octets do not pass\n\
             1 of 2 ok, from node one to 20 of 30 others, pods' MTU 1420\n"
        );
    }
}

//! The shape of the file, and what the page says.

use serde_json::{Value, json};

use super::*;
use crate::report::machine::Machine;

fn report(id: &'static str, measured: Measured) -> Report {
    let outcome = Outcome { id, unit: "us", better: Better::Lower, weft: vec![30.0, 40.0], measured };
    let mut report = Report {
        quick: false,
        runs: 2,
        machine: Machine { kernel: "6.1.0".into(), cores: 2, ..Machine::default() },
        scenarios: Vec::new(),
        failures: Vec::new(),
        left_out: Vec::new(),
    };
    report.add(id, Ok(outcome));
    report
}

fn beside() -> Measured {
    let figures = PeerFigures::new("kernel bridge + veth", &[30.0, 40.0], vec![20.0, 25.0]);
    let details = vec![Beside { name: "p99", unit: "us", weft: 90.0, peer: 50.5 }];
    Measured::Beside(PeerFigures { details, ..figures.unwrap() })
}

fn alone() -> Measured {
    Measured::Alone {
        load: "1,000 flows",
        nanoseconds: 14.0,
        instructions: Some(350.5),
        reference: Some(Reference { name: "VPP", figure: 134.0 }),
        beside: vec![Figures { load: "1 flow", weft: vec![29.0], nanoseconds: 12.0 }],
    }
}

fn scenarios(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()["scenarios"].clone()
}

#[test]
fn the_file_has_the_agreed_shape() {
    let expected = json!([{
        "id": "l2-rr", "unit": "us", "better": "lower", "weft": [30.0, 40.0],
        "peer": "kernel bridge + veth", "peer_runs": [20.0, 25.0], "ratio": 1.55, "pairs": [1.5, 1.6],
        "ratio_of_medians": 35.0 / 22.5,
        "details": [{"name": "p99", "unit": "us", "weft": 90.0, "peer": 50.5}], "aim": {"of": "ratio", "at_most": 2.5, "met": true},
    }]);
    assert_eq!(scenarios(&report("l2-rr", beside())), expected);
}

#[test]
fn the_file_says_where_and_how_it_was_measured() {
    let value = serde_json::to_value(report("l2-rr", beside())).unwrap();
    assert_eq!(value["quick"], false);
    assert_eq!(value["machine"]["kernel"], "6.1.0");
    assert_eq!(value["machine"]["before"], json!({"load_average": 0.0, "busy": 0.0}));
}

#[test]
fn the_stack_alone_has_a_reference_and_no_peer() {
    let expected = json!([{
        "id": "stack-l2-64", "unit": "us", "better": "lower", "weft": [30.0, 40.0], "load": "1,000 flows",
        "nanoseconds": 14.0, "instructions": 350.5, "reference": {"name": "VPP", "figure": 134.0},
        "beside": [{"load": "1 flow", "weft": [29.0], "nanoseconds": 12.0}],
    }]);
    assert_eq!(scenarios(&report("stack-l2-64", alone())), expected);
}

#[test]
fn the_tables_show_medians_ratio_and_aim() {
    let table = report("l2-rr", beside()).tables();
    let row = table.lines().nth(2).unwrap();
    assert_eq!(row.split('|').nth(4).map(str::trim), Some("35.00"));
    for shown in ["30.00..40.00", "20.00..25.00", "1.55", "1.50..1.60", "<= 2.5 met", "p99 90.0/50.5 us"] {
        assert!(row.contains(shown), "{shown}: {table}");
    }
    let table = report("stack-l2-64", alone()).tables();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("350.50") && table.contains("134 (VPP)") && table.contains("1 flow"), "{table}");
}

#[test]
fn a_scenario_that_fails_is_in_the_report_with_its_reason() {
    let mut report = report("l2-rr", beside());
    report.add("wg-rr", Err(anyhow::anyhow!("no such\nfile").context("scenario wg-rr")));
    let page = page::write(&report, None);
    assert!(
        page.contains("1 scenarios failed") && page.contains("`wg-rr`: scenario wg-rr: no such file"),
        "{page}"
    );
    assert!(page.contains("| l2-rr"), "{page}");
    assert_eq!(serde_json::to_value(&report).unwrap()["failures"][0]["id"], "wg-rr");
}

#[test]
fn a_quick_look_says_at_the_top_that_it_is_no_measurement() {
    let mut report = report("l2-rr", beside());
    assert!(!page::write(&report, None).contains("quick look"));
    report.quick = true;
    let page = page::write(&report, Some("report.svg"));
    assert!(page.lines().nth(2).unwrap().contains("A quick look, not a measurement"), "{page}");
    assert!(page.contains("](report.svg)"), "{page}");
}

#[test]
fn the_page_and_its_chart_lie_beside_the_file() {
    let folder = std::env::temp_dir().join(format!("weft-bench-report-{}", std::process::id()));
    report("l2-rr", beside()).write(&folder.join("deep/report.json")).unwrap();
    let read = |name: &str| fs::read_to_string(folder.join("deep").join(name)).unwrap();
    assert!(read("report.md").contains("](report.svg)"));
    assert!(read("report.svg").starts_with("<svg"));
    assert!(read("report.json").ends_with("}\n"));
    fs::remove_dir_all(folder).unwrap();
}

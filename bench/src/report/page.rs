//! The report as a page: what it is worth, where it was measured, chart, tables, and what is missing.

use std::fmt::Write;

use super::Report;

const QUICK: &str = "> **A quick look, not a measurement.** Short runs, one of each side unless more were asked for, and fewer \
                     containers and ports: it shows that every scenario works and the order of magnitude. `make bench` measures.\n\n";
const READING: &str = "RATIO is Weft over the peer: the median of the ratios of the pairs, each of a run of Weft and the run \
                       of the peer right after it. PAIRS and both SPREADs are lowest..highest. CPU and ALSO are Weft/peer, medians. docs/performance.md says more.\n";

/// The page. `chart` is the file of the chart beside it.
pub fn write(report: &Report, chart: Option<&str>) -> String {
    let mut page = String::from("# Weft beside its peers\n\n");
    // Writing to a string does not fail.
    let _ = compose(&mut page, report, chart);
    page
}

fn compose(page: &mut String, report: &Report, chart: Option<&str>) -> std::fmt::Result {
    if report.quick {
        page.push_str(QUICK);
    }
    if let Some(warning) = report.machine.warning() {
        writeln!(page, "> **Take care.** {warning}\n")?;
    }
    if !report.failures.is_empty() {
        writeln!(page, "> **{} scenarios failed**, see the end of the page.\n", report.failures.len())?;
    }
    for (name, value) in report.machine.lines() {
        writeln!(page, "- {name}: {value}")?;
    }
    writeln!(page, "- runs of each side: {}\n", report.runs)?;
    if let Some(chart) = chart {
        writeln!(page, "![Each scenario's ratio to its peer, as in the table]({chart})\n")?;
    }
    writeln!(page, "{}\n{READING}", report.tables())?;
    if !report.left_out.is_empty() {
        let missing = report.left_out.join(", ");
        writeln!(
            page,
            "Left out, since their peer is not on this machine: {missing} (`scripts/bench-peers all`).\n"
        )?;
    }
    if !report.failures.is_empty() {
        writeln!(page, "## Failed\n")?;
    }
    for failure in &report.failures {
        writeln!(page, "- `{}`: {}", failure.id, failure.error.replace('\n', " "))?;
    }
    Ok(())
}

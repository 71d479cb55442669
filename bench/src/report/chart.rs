//! The ratios as a bar chart (SVG 1.1): a bar for each scenario with a peer, from the peer's line to Weft's ratio, so turned
//! that right is better for Weft, on a logarithmic scale: half and double are equally far away.
//!
//! Whiskers go from the lowest to the highest ratio of a pair, a diamond is the aim. Colours follow the reader's light
//! or dark mode; shape and place say the same as colour.

use std::fmt::{self, Write};

use super::{Entry, Measured, PeerFigures, Report};
use crate::aim::Aim;
use crate::scenario::Better;
use crate::statistics::Spread;

/// Widths and heights in pixels.
const WIDTH: f64 = 920.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 84.0;
const ROW: f64 = 34.0;
const BAR: f64 = 14.0;
/// What the scale shows at least, and at most: a ratio beyond is drawn at the edge, with an arrow.
const LEAST: f64 = 2.0;
const MOST: f64 = 16.0;

const STYLE: &str =
    "text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.quiet { font-size: 11px; fill: #59636e; }
.ground { fill: #ffffff; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.peer { stroke: #1f2328; stroke-width: 1.5; }
.better { fill: #2f7ed8; }
.worse { fill: #d9822b; }
.whisker { stroke: #1f2328; stroke-width: 1.5; fill: none; }
.aim { fill: #ffffff; stroke: #1a7f37; stroke-width: 2; }
.missed { stroke: #cf222e; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.quiet { fill: #9198a1; }
.ground { fill: #0d1117; }
.grid { stroke: #3d444d; }
.peer, .whisker { stroke: #f0f6fc; }
.better { fill: #4493f8; }
.worse { fill: #db8b3a; }
.aim { fill: #0d1117; stroke: #3fb950; }
.missed { stroke: #f85149; }
}";

/// A scenario's row. Ratios are so turned that more is better.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: &'static str,
    peer: &'static str,
    /// As the table has it.
    ratio: f64,
    score: f64,
    spread: Spread,
    /// The aim, and whether it is met.
    aim: Option<(f64, bool)>,
}

/// The chart; `None`: no scenario has a peer.
pub fn draw(report: &Report) -> Option<String> {
    let rows: Vec<Row> = report.scenarios.iter().filter_map(Row::of).collect();
    if rows.is_empty() {
        return None;
    }
    let mut chart = String::new();
    // Writing to a string does not fail.
    let _ = Chart::new(rows).write(&mut chart, report);
    Some(chart)
}

impl Row {
    fn of(entry: &Entry) -> Option<Row> {
        let Measured::Beside(PeerFigures { peer, ratio, pairs, .. }) = &entry.outcome.measured else {
            return None;
        };
        let better = entry.outcome.better;
        let turned = |ratio: f64| if better == Better::Higher { ratio } else { 1.0 / ratio };
        let scores: Vec<f64> = pairs.iter().map(|ratio| turned(*ratio)).collect();
        // A figure of nothing on either side has no place on a logarithmic scale; the table has it.
        if scores.iter().any(|score| !score.is_finite() || *score <= 0.0) {
            return None;
        }
        let aim = entry.aim.filter(|judgement| matches!(judgement.aim, Aim::Ratio(_)));
        Some(Row {
            id: entry.outcome.id,
            peer,
            ratio: *ratio,
            score: turned(*ratio),
            spread: Spread::of(&scores)?,
            aim: aim.map(|judgement| (turned(judgement.aim.bound().edge()), judgement.met)),
        })
    }
}

struct Chart {
    rows: Vec<Row>,
    /// The scale goes from one over the first to the second: powers of two.
    reach: [f64; 2],
}

impl Chart {
    fn new(rows: Vec<Row>) -> Chart {
        let values = || {
            let of = |row: &Row| {
                [row.score, row.spread.lowest, row.spread.highest, row.aim.map_or(1.0, |(aim, _)| aim)]
            };
            rows.iter().flat_map(of).filter(|value| value.is_finite())
        };
        let up = |farthest: f64| farthest.log2().ceil().exp2().clamp(LEAST, MOST);
        let left = values().map(|value| 1.0 / value).filter(|value| value.is_finite()).fold(LEAST, f64::max);
        let right = values().fold(LEAST, f64::max);
        Chart { reach: [up(left), up(right)], rows }
    }

    /// The edges of the scale, as logarithms.
    fn edges(&self) -> [f64; 2] {
        [-self.reach[0].log2(), self.reach[1].log2()]
    }

    /// Where a ratio is, from the left.
    fn x(&self, ratio: f64) -> f64 {
        let [first, last] = self.edges();
        LEFT + (WIDTH - LEFT - RIGHT) * (ratio.log2().clamp(first, last) - first) / (last - first)
    }

    fn bottom(&self) -> f64 {
        TOP + ROW * self.rows.len() as f64
    }

    fn write(&self, out: &mut String, report: &Report) -> fmt::Result {
        let height = self.bottom() + 86.0;
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
        )?;
        writeln!(out, "<title>Weft beside its peers</title>\n<style>{STYLE}</style>")?;
        writeln!(out, r#"<rect class="ground" width="{WIDTH}" height="{height}"/>"#)?;
        let title = if report.quick {
            "Weft beside its peers: a quick look, not a measurement"
        } else {
            "Weft beside its peers"
        };
        text(out, 16.0, 28.0, "title", "start", title)?;
        self.write_scale(out)?;
        for (number, row) in self.rows.iter().enumerate() {
            self.write_row(out, row, TOP + ROW * (number as f64 + 0.5))?;
        }
        self.write_legend(out, report)?;
        out.push_str("</svg>\n");
        Ok(())
    }

    fn write_scale(&self, out: &mut String) -> fmt::Result {
        let [first, last] = self.edges().map(|edge| edge as i32);
        for power in first..=last {
            let ratio = f64::from(power).exp2();
            let (x, bottom) = (self.x(ratio), self.bottom());
            let class = if power == 0 { "peer" } else { "grid" };
            line(out, class, [x, TOP - 6.0], [x, bottom])?;
            let label = match power {
                0 => "1 = peer".into(),
                below if below < 0 => format!("1/{:.0}", 1.0 / ratio),
                _ => format!("{ratio:.0}x"),
            };
            text(out, x, TOP - 12.0, "quiet", "middle", &label)?;
        }
        text(out, self.x(1.0) - 8.0, 50.0, "quiet", "end", "\u{2190} peer is better")?;
        text(out, self.x(1.0) + 8.0, 50.0, "quiet", "start", "Weft is better \u{2192}")
    }

    fn write_row(&self, out: &mut String, row: &Row, y: f64) -> fmt::Result {
        text(out, 16.0, y - 1.0, "", "start", row.id)?;
        text(out, 16.0, y + 11.0, "quiet", "start", &format!("beside {}", row.peer))?;
        let (from, to) = (self.x(row.score.min(1.0)), self.x(row.score.max(1.0)));
        let class = if row.score >= 1.0 { "better" } else { "worse" };
        let (top, width) = (y - BAR / 2.0, to - from);
        writeln!(
            out,
            r#"<rect class="{class}" x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{BAR}" rx="2"/>"#
        )?;
        self.write_whiskers(out, row, y)?;
        self.write_cut(out, row, y)?;
        if let Some((aim, met)) = row.aim {
            let x = self.x(aim);
            let class = if met { "aim" } else { "aim missed" };
            writeln!(out, r#"<path class="{class}" d="M{x:.1} {:.1}l6 6l-6 6l-6 -6z"/>"#, y - 6.0)?;
        }
        let told = match row.score == row.ratio {
            true => multiple(row.score),
            false => format!("{} (ratio {:.2})", multiple(row.score), row.ratio),
        };
        text(out, WIDTH - RIGHT + 14.0, y + 4.0, "", "start", &told)
    }

    fn write_whiskers(&self, out: &mut String, row: &Row, y: f64) -> fmt::Result {
        let (from, to) = (self.x(row.spread.lowest), self.x(row.spread.highest));
        line(out, "whisker", [from, y], [to, y])?;
        for end in [from, to] {
            line(out, "whisker", [end, y - 4.0], [end, y + 4.0])?;
        }
        Ok(())
    }

    /// An arrow where the bar would go on.
    fn write_cut(&self, out: &mut String, row: &Row, y: f64) -> fmt::Result {
        let (edge, step) = match row.score {
            score if score > self.reach[1] => (self.x(score), -7.0),
            score if score < 1.0 / self.reach[0] => (self.x(score), 7.0),
            _ => return Ok(()),
        };
        let back = edge + step;
        writeln!(
            out,
            r#"<path class="whisker" d="M{back:.1} {:.1}L{edge:.1} {y:.1}L{back:.1} {:.1}"/>"#,
            y - 7.0,
            y + 7.0
        )
    }

    fn write_legend(&self, out: &mut String, report: &Report) -> fmt::Result {
        let y = self.bottom() + 24.0;
        writeln!(out, r#"<path class="aim" d="M22 {:.1}l6 6l-6 6l-6 -6z"/>"#, y - 10.0)?;
        text(out, 34.0, y, "quiet", "start", "aim, met")?;
        writeln!(out, r#"<path class="aim missed" d="M102 {:.1}l6 6l-6 6l-6 -6z"/>"#, y - 10.0)?;
        text(out, 114.0, y, "quiet", "start", "aim, missed")?;
        line(out, "whisker", [192.0, y - 4.0], [216.0, y - 4.0])?;
        text(out, 224.0, y, "quiet", "start", "lowest to highest pair of runs")?;
        let runs = report.runs;
        let scale = format!(
            "Median of the pairs of runs ({runs} of each side, alternated), turned so that right is better; in brackets as in \
             the table. Logarithmic scale."
        );
        text(out, 16.0, y + 20.0, "quiet", "start", &scale)?;
        let machine = &report.machine;
        let told = format!(
            "{}, {} cores, {:.0} GiB, Linux {}, {}",
            machine.processor, machine.cores, machine.memory, machine.kernel, machine.date
        );
        text(out, 16.0, y + 38.0, "quiet", "start", &told)
    }
}

/// A ratio with about two digits that tell something.
fn multiple(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}x"),
        ratio if ratio < 0.1 => format!("{ratio:.3}x"),
        ratio => format!("{ratio:.2}x"),
    }
}

fn line(out: &mut String, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> fmt::Result {
    writeln!(out, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)
}

fn text(out: &mut String, x: f64, y: f64, class: &str, anchor: &str, told: &str) -> fmt::Result {
    let told = escaped(told);
    writeln!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{told}</text>"#)
}

/// Text as XML has it (XML 1.0 section 2.4).
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests;

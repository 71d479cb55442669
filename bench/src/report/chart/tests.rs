//! What is drawn where, and that it is XML.

use super::*;
use crate::report::machine::Machine;
use crate::report::{Outcome, Report};

/// Ratios 2, 1 and 0.5 of one scenario.
fn report(id: &'static str, better: Better) -> Report {
    let weft = vec![20.0, 10.0, 5.0];
    let figures = PeerFigures::new("kernel <bridge> & \"veth\"", &weft, vec![10.0; 3]).unwrap();
    let outcome = Outcome { id, unit: "ms", better, weft, measured: Measured::Beside(figures) };
    let machine = Machine { processor: "a <fast> one & more".into(), ..Machine::default() };
    let mut report = Report {
        quick: false,
        runs: 3,
        machine,
        scenarios: Vec::new(),
        failures: Vec::new(),
        left_out: Vec::new(),
    };
    report.add(id, Ok(outcome));
    report
}

/// Elements of a document; panics where it is not well-formed as far as a chart could be ill-formed: nesting, quotes
/// and characters that begin something.
fn elements(mut document: &str) -> Vec<String> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    while let Some((text, rest)) = document.split_once('<') {
        assert_is_text(text);
        let (tag, rest) = rest.split_once('>').expect("a tag ends");
        document = rest;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "the innermost element ends first");
            continue;
        }
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert_are_attributes(attributes);
        seen.push(tag.to_owned());
        if !is_empty {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
    assert_eq!(document.trim(), "");
    seen
}

fn assert_is_text(text: &str) {
    let mut parts = text.split('&');
    assert!(!parts.next().unwrap().contains('>'), "{text}");
    for part in parts {
        let entity = part.split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot"].contains(&entity), "{text}");
    }
}

fn assert_are_attributes(mut attributes: &str) {
    while !attributes.is_empty() {
        let (name, rest) = attributes.split_once("=\"").expect("an attribute has a value");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        let (value, rest) = rest.split_once('"').expect("a value ends");
        assert_is_text(value);
        attributes = rest.trim_start();
    }
}

fn bar(chart: &str) -> (f64, f64) {
    let rect =
        elements(chart).into_iter().find(|tag| tag.starts_with("rect") && tag.contains("height=\"14\""));
    let rect = rect.expect("a bar");
    let number = |name: &str| -> f64 {
        let (_, rest) = rect.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    (number("x"), number("width"))
}

#[test]
fn a_chart_is_well_formed_whatever_the_names_are() {
    let chart = draw(&report("l2-tcp1", Better::Higher)).unwrap();
    assert!(elements(&chart).len() > 10, "{chart}");
    assert!(chart.contains("kernel &lt;bridge&gt; &amp; &quot;veth&quot;"), "{chart}");
    assert!(chart.contains("a &lt;fast&gt; one &amp; more"), "{chart}");
}

#[test]
#[should_panic(expected = "the innermost element ends first")]
fn the_check_finds_what_is_not_nested() {
    elements("<svg><text></svg></text>");
}

#[test]
fn a_bar_begins_at_the_peer_and_right_is_better() {
    let fast = Row {
        id: "wg-rr",
        peer: "wireguard-go",
        ratio: 0.25,
        score: 4.0,
        spread: Spread { lowest: 3.0, highest: 8.0 },
        aim: Some((2.0, true)),
    };
    let slow = Row { ratio: 4.0, score: 0.25, ..fast.clone() };
    let (mut right, mut left) = (String::new(), String::new());
    let chart = Chart::new(vec![fast.clone(), slow.clone()]);
    assert_eq!(chart.reach, [4.0, 8.0]);
    chart.write_row(&mut right, &fast, 100.0).unwrap();
    chart.write_row(&mut left, &slow, 100.0).unwrap();
    let peer = chart.x(1.0);
    let ((start, width), (other, same)) = (bar(&right), bar(&left));
    assert!((start - peer).abs() < 0.1 && (other + same - peer).abs() < 0.1, "{right}{left}");
    assert!((width - same).abs() < 0.2, "four times as fast is as far away as a quarter: {right}{left}");
    assert!(right.contains("class=\"better\"") && left.contains("class=\"worse\""));
}

#[test]
fn what_is_beyond_the_scale_is_cut_with_an_arrow() {
    let row = Row {
        id: "cni-del",
        peer: "other",
        ratio: 0.01,
        score: 100.0,
        spread: Spread { lowest: 90.0, highest: 110.0 },
        aim: None,
    };
    let chart = Chart::new(vec![row.clone()]);
    assert_eq!(chart.reach, [LEAST, MOST]);
    let mut drawn = String::new();
    chart.write_row(&mut drawn, &row, 100.0).unwrap();
    let (start, width) = bar(&drawn);
    assert!((start + width - (WIDTH - RIGHT)).abs() < 0.1, "{drawn}");
    assert!(drawn.contains("<path class=\"whisker\""), "{drawn}");
    assert!(drawn.contains("100x (ratio 0.01)"), "{drawn}");
}

#[test]
fn less_is_turned_into_more_and_the_aim_with_it() {
    let row = Row::of(&report("cni-add", Better::Lower).scenarios[0]).unwrap();
    assert_eq!((row.ratio, row.score), (1.0, 1.0));
    assert_eq!(row.aim, Some((2.5, false)));
    let row = Row::of(&report("wg-tcp1", Better::Higher).scenarios[0]).unwrap();
    assert_eq!(row.spread, Spread { lowest: 0.5, highest: 2.0 });
    assert_eq!(row.aim, Some((2.0, false)));
}

#[test]
fn a_figure_of_nothing_is_left_to_the_table() {
    for peer in [0.0, -1.0] {
        let figures = PeerFigures::new("other", &[1.0, 2.0], vec![1.0, peer]).unwrap();
        let measured = Measured::Beside(figures);
        let outcome =
            Outcome { id: "port-rss", unit: "KiB", better: Better::Lower, weft: vec![1.0], measured };
        assert_eq!(Row::of(&Entry { outcome, aim: None }), None);
    }
}

#[test]
fn nothing_beside_a_peer_is_no_chart() {
    let mut report = report("l2-tcp1", Better::Higher);
    report.scenarios.clear();
    assert_eq!(draw(&report), None);
}

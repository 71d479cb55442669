//! What the guard lets through.

use super::*;

fn compared(before: &[(&str, f64)], now: &[(&str, f64)]) -> Vec<Row> {
    let map =
        |figures: &[(&str, f64)]| figures.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect();
    rows(&map(before), &map(now))
}

fn complaint_of(before: &[(&str, f64)], now: &[(&str, f64)]) -> Option<String> {
    complaint(&compared(before, now), Path::new("profiles"))
}

#[test]
fn five_in_a_hundred_more_are_let_through_and_six_are_not() {
    assert_eq!(complaint_of(&[("seal", 1000.0)], &[("seal", 1050.0)]), None);
    let complaint = complaint_of(&[("seal", 1000.0), ("open", 10.0)], &[("seal", 1060.0), ("open", 10.0)]);
    let complaint = complaint.unwrap();
    assert!(complaint.contains("dearer: seal.") && complaint.contains("make bless-perf"), "{complaint}");
}

#[test]
fn what_became_cheaper_is_named_and_let_through() {
    let rows = compared(&[("seal", 1000.0)], &[("seal", 900.0)]);
    assert_eq!(complaint(&rows, Path::new("profiles")), None);
    assert_eq!(named(&rows, Change::Cheaper).as_deref(), Some("seal"));
    assert!(table(&rows).contains("-10.0 %  cheaper"), "{}", table(&rows));
}

#[test]
fn what_has_no_figure_yet_is_asked_for() {
    let complaint = complaint_of(&[("seal", 1000.0)], &[("seal", 1000.0), ("open", 900.0)]).unwrap();
    assert!(complaint.contains("compare with: open."), "{complaint}");
}

#[test]
fn what_is_not_counted_any_more_is_in_the_table() {
    let rows = compared(&[("seal", 1000.0), ("fork", 1.0)], &[("seal", 1000.0)]);
    assert_eq!(rows[1].change(), Change::Gone);
    assert!(table(&rows).lines().nth(2).unwrap().ends_with("gone"), "{}", table(&rows));
}

#[test]
fn counts_that_are_far_apart_are_repeated_more_often() {
    assert_eq!(wanted(&[]), REPETITIONS);
    assert_eq!(wanted(&[1000.0, 1009.0]), REPETITIONS);
    assert_eq!(wanted(&[1000.0, 1009.0, 1011.0]), MORE);
}

#[test]
fn the_repository_has_a_figure_for_each_microbenchmark() {
    let figures = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")).unwrap();
    let known: Vec<_> = figures.instructions.keys().map(String::as_str).collect();
    let mut counted: Vec<_> = microbenchmark::all().map(|(id, _)| id).collect();
    counted.sort_unstable();
    assert_eq!(known, counted);
}

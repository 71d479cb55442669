//! What is accepted and what is wrong usage.

use clap::CommandFactory;

use super::trace::Frame;
use super::*;

fn parsed(line: &str) -> Command {
    Arguments::try_parse_from(line.split(' ')).unwrap().command
}

fn refused(line: &str) -> String {
    Arguments::try_parse_from(line.split(' ')).unwrap_err().to_string()
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn kinds_have_short_names_and_get_takes_all() {
    let Command::Get(get) = parsed("weft get po web -o wide") else { panic!() };
    assert_eq!(
        (get.kind, get.names, get.output),
        (Scope::Kind(Kind::Port), vec!["web".into()], Format::Wide)
    );
    let Command::Get(get) = parsed("weft get all -l a=b,c=") else { panic!() };
    let labels = BTreeMap::from([("a".into(), "b".into()), ("c".into(), String::new())]);
    assert_eq!((get.kind, get.labels), (Scope::All, Some(Labels(labels))));
    assert!(refused("weft get pods").contains("a kind is namespace (ns), network (net), port (po)"));
    assert!(refused("weft describe all x").contains("a kind is"));
    assert!(refused("weft get ports -l a").contains("\"a\" is not KEY=VALUE"));
}

#[test]
fn apply_needs_files_and_prune_needs_labels() {
    let Command::Apply(apply) = parsed("weft apply -f a.yaml -f - --prune -l a=b") else { panic!() };
    assert_eq!(apply.files, [PathBuf::from("a.yaml"), PathBuf::from("-")]);
    assert!(apply.prune);
    for line in ["weft apply", "weft apply -f a --prune", "weft apply -f a -l a=b"] {
        refused(line);
    }
}

#[test]
fn delete_takes_names_or_files_and_not_both() {
    let Command::Delete(delete) = parsed("weft delete port a b --ignore-missing") else { panic!() };
    assert_eq!((delete.kind, delete.names.len(), delete.ignore_missing), (Some(Kind::Port), 2, true));
    parsed("weft delete -f a.yaml");
    for line in ["weft delete", "weft delete port", "weft delete port a -f b"] {
        refused(line);
    }
}

#[test]
fn trace_takes_one_packet_of_one_protocol() {
    let Command::Trace(trace) = parsed("weft trace web --to 198.18.2.1 --tcp 80 --size 1500 --df") else {
        panic!()
    };
    assert_eq!((trace.tcp, trace.size, trace.df), (Some(80), Some(1500), true));
    let Command::Trace(trace) = parsed("weft trace web --frame 01:aB00") else { panic!() };
    assert_eq!(trace.frame, Some(Frame(vec![1, 0xab, 0])));
    for line in [
        "weft trace web",
        "weft trace web --to x",
        "weft trace web --to ::1 --tcp 80 --udp 80",
        "weft trace web --to ::1 --frame 00",
        "weft trace web --frame 0",
        "weft trace web --frame zz",
        "weft trace web --frame 00 --ttl 3",
    ] {
        refused(line);
    }
}

#[test]
fn live_traces_need_neither_port_nor_destination_and_take_blocks() {
    let Command::Trace(trace) = parsed("weft trace --live") else { panic!() };
    assert!(trace.live.live && trace.port.is_none() && trace.to.is_none());
    let line = "weft trace web --live --from 198.18.1.0/24 --tcp --sample 100 -c 5";
    let Command::Trace(trace) = parsed(line) else { panic!() };
    assert_eq!((trace.tcp, trace.live.sample, trace.live.count), (Some(0), Some(100), Some(5)));
    assert_eq!(trace.from, Some(Block("198.18.1.0/24".into())));
    for line in [
        "weft trace web --to ::1 --count 3",
        "weft trace --to ::1",
        "weft trace --live --frame 00",
        "weft trace --live --size 100",
        "weft trace --live --to web",
    ] {
        refused(line);
    }
}

#[test]
fn top_looks_every_two_seconds_and_not_more_often_than_every_one() {
    let Command::Top(top) = parsed("weft top") else { panic!() };
    assert_eq!((top.interval, top.once, top.ports), (2, false, 20));
    refused("weft top --interval 0");
}

#[test]
fn the_help_lists_the_exit_codes() {
    let help = Arguments::command().render_help().to_string();
    assert!(help.contains("5  applied, but something is not ready"), "{help}");
}

//! What `weft` prints and how it ends, against a small in-process daemon.

#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::process::{Output, Stdio};

use fake::Fake;

mod fake;
mod tunnels;

fn namespace(name: &str) -> String {
    format!("---\napiVersion: weft.dev/v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// Exit code, stdout, stderr.
fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn done(text: &str) -> (i32, String, String) {
    (0, text.to_owned(), String::new())
}

fn failed(code: i32, out: &str, err: &str) -> (i32, String, String) {
    (code, out.to_owned(), err.to_owned())
}

#[test]
fn apply_tells_what_it_did_to_each_object() {
    let fake = Fake::start("apply");
    let file = fake.file("a.yaml", &[namespace("a"), namespace("b")].concat());
    let dry = ended(fake.weft(&["apply", "-f", &file, "--dry-run"]));
    assert_eq!(dry, done("namespace/a would be created\nnamespace/b would be created\n"));
    let first = ended(fake.weft(&["apply", "-f", &file]));
    assert_eq!(first, done("namespace/a created\nnamespace/b created\n"));
    let again = ended(fake.weft(&["apply", "-f", &file]));
    assert_eq!(again, done("namespace/a unchanged\nnamespace/b unchanged\n"));
}

#[test]
fn apply_reads_folders_in_order_and_stdin() {
    let fake = Fake::start("folder");
    fake.file("d/2.yml", &namespace("b"));
    fake.file("d/1.json", r#"{"apiVersion": "weft.dev/v1", "kind": "Namespace", "metadata": {"name": "a"}}"#);
    let ignored = fake.file("d/README.md", "no manifest");
    let folder = ignored.trim_end_matches("/README.md");
    let applied = ended(fake.weft(&["apply", "-f", folder]));
    assert_eq!(applied, done("namespace/a created\nnamespace/b created\n"));
    let file = std::fs::File::open(fake.file("c.yaml", &namespace("c"))).unwrap();
    let applied = ended(fake.command(&["apply", "-f", "-"]).stdin(file).output().unwrap());
    assert_eq!(applied, done("namespace/c created\n"));
}

#[test]
fn an_object_that_is_not_ready_is_shown_with_its_reason_and_exit_code_5() {
    let fake = Fake::start("unready");
    let file = fake.file("a.yaml", &[namespace("a"), namespace("broken")].concat());
    assert_eq!(
        ended(fake.weft(&["apply", "-f", &file])),
        failed(
            5,
            "namespace/a created\nnamespace/broken created, not ready: NamespaceMissing: /x does not exist\n",
            "error: 1 of 2 objects not ready: namespace/broken; `weft describe` tells more\n"
        )
    );
    let (code, _, _) = ended(fake.weft(&["apply", "-f", &file, "--no-wait"]));
    assert_eq!(code, 0);
}

#[test]
fn wrong_input_is_refused_with_a_line_for_each_error() {
    let fake = Fake::start("wrong");
    let file = fake.file("a.yaml", "kind: Port\n---\nfoo\n");
    assert_eq!(
        ended(fake.weft(&["apply", "-f", &file])),
        failed(
            1,
            "",
            &format!(
                "error: {file}: document 1, line 1: Port: apiVersion: missing, weft.dev/v1 expected\n\
                 error: {file}: document 2, line 3: \"foo\" given, a mapping with apiVersion, kind, metadata and spec expected\n"
            )
        )
    );
    let refused = fake.file("b.yaml", &namespace("wrong"));
    assert_eq!(
        ended(fake.weft(&["apply", "-f", &refused])),
        failed(1, "", "error: Namespace/wrong: spec.path: no\n")
    );
    let empty = fake.file("c.yaml", "# nothing\n");
    assert_eq!(
        ended(fake.weft(&["apply", "-f", &empty])),
        failed(1, "", &format!("error: no resources in {empty}\n"))
    );
    let missing = "/nonexistent/a.yaml";
    let (code, _, err) = ended(fake.weft(&["apply", "-f", missing]));
    assert_eq!(
        (code, err.as_str()),
        (1, "error: cannot read /nonexistent/a.yaml: No such file or directory (os error 2)\n")
    );
}

#[test]
fn get_prints_tables_names_json_and_yaml() {
    let fake = Fake::start("get");
    let none = ended(fake.weft(&["get", "ns"]));
    assert_eq!(none, failed(0, "", "no namespaces\n"));
    let file = fake.file("a.yaml", &[namespace("a"), namespace("broken")].concat());
    fake.weft(&["apply", "-f", &file]);
    assert_eq!(
        ended(fake.weft(&["get", "ns"])),
        done(
            "NAME    PATH               STATE\na       /run/netns/a       Ready\nbroken  /run/netns/broken  NamespaceMissing\n"
        )
    );
    assert_eq!(ended(fake.weft(&["get", "all", "-o", "name"])), done("namespace/a\nnamespace/broken\n"));
    let (_, json, _) = ended(fake.weft(&["get", "ns", "a", "-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["path"], "/run/netns/a");
    let (_, yaml, _) = ended(fake.weft(&["get", "ns", "-o", "yaml"]));
    let file = fake.file("again.yaml", &yaml);
    assert_eq!(ended(fake.weft(&["apply", "-f", &file])).1.matches("unchanged").count(), 2);
}

#[test]
fn what_does_not_exist_ends_with_exit_code_4() {
    let fake = Fake::start("missing");
    let file = fake.file("a.yaml", &namespace("a"));
    fake.weft(&["apply", "-f", &file]);
    let some = ended(fake.weft(&["get", "ns", "a", "x", "-o", "name"]));
    assert_eq!(some, failed(4, "namespace/a\n", "error: there is no Namespace/x\n"));
    let described = ended(fake.weft(&["describe", "port", "x"]));
    assert_eq!(described, failed(4, "", "error: Port/x does not exist\n"));
    let deleted = ended(fake.weft(&["delete", "ns", "x"]));
    assert_eq!(deleted, failed(4, "", "error: Namespace/x does not exist\n"));
    let ignored = ended(fake.weft(&["delete", "ns", "x", "a", "--ignore-missing"]));
    assert_eq!(ignored, done("namespace/a deleted\n"));
}

#[test]
fn describe_shows_spec_status_and_conditions() {
    let fake = Fake::start("describe");
    let file = fake.file("a.yaml", &format!("{}spec: {{path: /x}}\n", namespace("broken")));
    fake.weft(&["apply", "-f", &file]);
    let expected = "\
Name:        broken
Kind:        Namespace
State:       NamespaceMissing
Labels:      -
UID:         -
Generation:  0 (revision 0)
Spec:
  path: /x
Status:
  path: /run/netns/broken
Conditions:
  TYPE   STATUS  REASON            FOR  MESSAGE
  Ready  False   NamespaceMissing  -    /x does not exist
";
    assert_eq!(ended(fake.weft(&["describe", "ns", "broken"])), done(expected));
}

#[test]
fn describe_keeps_the_shape_of_a_nested_spec() {
    let fake = Fake::start("nested");
    let network = "{apiVersion: weft.dev/v1, kind: Network, metadata: {name: n}, spec: {router: r, subnets: \
                   [{prefix: 198.18.1.0/24, gateway: 198.18.1.1}]}}";
    fake.weft(&["apply", "--no-wait", "-f", &fake.file("a.yaml", network)]);
    let (_, text, _) = ended(fake.weft(&["describe", "net", "n"]));
    let spec = "Spec:\n  subnets:\n  - prefix: 198.18.1.0/24\n    gateway: 198.18.1.1\n  router: r\n";
    assert!(text.ends_with(spec), "{text}");
}

#[test]
fn watch_prints_each_event_and_says_when_the_daemon_ends_it() {
    let fake = Fake::start("watch");
    let file = fake.file("a.yaml", &namespace("a"));
    fake.weft(&["apply", "-f", &file]);
    let ended_by_daemon = "error: the daemon ended the watch; start it again to go on\n";
    assert_eq!(
        ended(fake.weft(&["watch"])),
        failed(3, "present   namespace/a               Ready\nsynced\n", ended_by_daemon)
    );
    let (_, json, _) = ended(fake.weft(&["watch", "-o", "json"]));
    let events: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&"present".into(), &"synced".into()));
}

#[test]
fn counters_show_ports_and_the_drops_that_happened() {
    let fake = Fake::start("counters");
    let ports = "PORT  RX-PACKETS  RX-OCTETS  TX-PACKETS  TX-OCTETS  RX-FAST  DROPS\n\
                 web   7           0          0           0          5        2\n";
    let some = "\nDROPS        COUNT\nmac_spoofed  2\n\nSTACK        COUNT\narp_replies  3\n";
    assert_eq!(ended(fake.weft(&["counters"])), done(&format!("{ports}{some}")));
    assert!(ended(fake.weft(&["counters", "--all"])).1.contains("ttl_exceeded  0\n"));
    let drops = "PORT  REASON       PACKETS\nweb   mac_spoofed  2\n";
    assert_eq!(ended(fake.weft(&["counters", "--drops"])), done(drops));
}

#[test]
fn trace_shows_the_stages_and_the_verdict() {
    let fake = Fake::start("trace");
    let expected = "ingress  PROTOCOL_TCP to 198.18.2.1\nverdict: dropped (no_route)\n";
    assert_eq!(ended(fake.weft(&["trace", "web", "--to", "198.18.2.1", "--tcp", "80"])), done(expected));
}

#[test]
fn a_daemon_that_is_not_there_is_exit_code_3_and_one_that_starts_is_1() {
    let fake = Fake::start("absent");
    assert_eq!(
        ended(fake.weft(&["-s", "unix:///nonexistent/s.sock", "get", "all"])),
        failed(
            3,
            "",
            "error: cannot reach weftd at /nonexistent/s.sock: No such file or directory (os error 2); is it running?\n"
        )
    );
    assert_eq!(ended(fake.weft(&["status"])), failed(1, "", "error: starting; try again\n"));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let fake = Fake::start("usage");
    for arguments in [&["get"] as &[_], &["get", "pods"], &["-s", "tcp://x", "status"], &["trace", "web"]] {
        let (code, _, err) = ended(fake.weft(arguments));
        assert_eq!((code, err.lines().count()), (2, 1), "{arguments:?}: {err}");
    }
    let told = |arguments: &[&str]| ended(fake.weft(arguments)).2;
    assert_eq!(
        told(&["apply"]),
        "error: the following required arguments were not provided: --file <FILE>; `weft apply --help` tells more\n"
    );
    assert_eq!(
        told(&["completion", "tcsh"]),
        "error: invalid value 'tcsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]; a similar \
         value exists: 'zsh'; `weft completion --help` tells more\n"
    );
    assert_eq!(told(&["aply"]).matches("; `weft --help` tells more").count(), 1);
}

#[test]
fn a_reader_that_goes_away_ends_weft_quietly() {
    let fake = Fake::start("pipe");
    let mut child =
        fake.command(&["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn every_shell_has_a_completion_script_and_no_daemon_is_needed() {
    let fake = Fake::start("completion");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output =
            fake.command(&["completion", shell]).env("WEFT_SOCKET", "/nonexistent").output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{shell}");
    }
}

//! The process contract: environment, standard input, standard output, exit code, versions.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::runtime::{Runtime, run};

const PLUGIN: &str = env!("CARGO_BIN_EXE_weft-cni");

#[test]
fn version_needs_neither_input_nor_configuration() {
    // Standard input stays open and silent: a plugin that reads it would never end.
    let mut command = Command::new(PLUGIN);
    command.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let silent = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(silent);
    assert!(output.status.success());
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(value, json!({ "cniVersion": "1.1.0", "supportedVersions": supported }));
}

#[test]
fn a_call_without_a_command_is_told_what_is_missing() {
    let answer = run(Path::new(PLUGIN), &[], b"");
    assert!(answer.stderr.contains("weft-cni --help"), "{}", answer.stderr);
    let error = answer.fails_with(4);
    assert!(error["msg"].as_str().unwrap().contains("CNI_COMMAND"));
}

#[test]
fn wrong_variables_are_named() {
    let (mut runtime, fake) = Runtime::with_daemon("variables");
    let cases = [
        ("CNI_CONTAINERID", ["", "-c", "a/b", "a b"]),
        ("CNI_IFNAME", ["", "..", "a/b", "sixteen-letters-"]),
        ("CNI_NETNS", ["", "relative", "./x", "netns/x"]),
    ];
    for (name, values) in cases {
        let right = runtime.variables.iter().find(|(known, _)| known == name).unwrap().1.clone();
        for value in values {
            let error = runtime.set(name, value).call("ADD").fails_with(4);
            assert!(error["msg"].as_str().unwrap().contains(name), "{error}");
        }
        runtime.set(name, &right);
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[test]
fn the_nodes_own_namespace_is_refused() {
    let (mut runtime, fake) = Runtime::with_daemon("own");
    let error = runtime.set("CNI_NETNS", "/proc/self/ns/net").call("ADD").fails_with(4);
    assert!(error["details"].as_str().unwrap().contains("node's own"), "{error}");
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[test]
fn input_that_is_no_configuration_cannot_be_decoded() {
    let runtime = Runtime::new("decoding");
    for input in ["", "{", "[]", "null", "{\"cniVersion\": 5}"] {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            runtime.call_with(command, input.as_bytes()).fails_with(6);
        }
    }
}

#[test]
fn results_and_errors_are_of_the_requests_version() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let (mut runtime, _fake) = Runtime::with_daemon(&format!("version-{version}"));
        runtime.configure("cniVersion", version.into());
        let result = runtime.call("ADD").ok();
        assert_eq!(result["cniVersion"], version);
        let old = version.starts_with("0.");
        let family = if old { json!("4") } else { Value::Null };
        assert_eq!(result["ips"][0]["version"], family, "{version}");
        let mtu = if version == "1.1.0" { json!(1450) } else { Value::Null };
        assert_eq!(result["interfaces"][1]["mtu"], mtu, "{version}");
        let error = runtime
            .configure("network", "none".into())
            .set("CNI_CONTAINERID", "c2")
            .call("ADD")
            .fails_with(7);
        assert_eq!(error["cniVersion"], version);
        assert!(error["details"].as_str().unwrap().contains("\"none\""), "{error}");
    }
}

#[test]
fn versions_and_commands_that_do_not_fit_are_incompatible() {
    let (mut runtime, fake) = Runtime::with_daemon("incompatible");
    for version in ["0.1.0", "0.2.0", "1.2.0", "x"] {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            runtime.configure("cniVersion", version.into()).call(command).fails_with(1);
        }
    }
    for version in ["0.3.0", "0.3.1"] {
        runtime.configure("cniVersion", version.into()).call("CHECK").fails_with(1);
    }
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        for command in ["GC", "STATUS"] {
            let error = runtime.configure("cniVersion", version.into()).call(command).fails_with(1);
            assert_eq!(error["cniVersion"], version);
        }
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[test]
fn wrong_fields_are_named_and_unknown_ones_are_not_minded() {
    let (mut runtime, fake) = Runtime::with_daemon("fields");
    for (field, wrong, code) in [
        ("mtu", json!("big"), 6),
        ("network", Value::Null, 7),
        ("portType", json!("bridge"), 7),
        ("dns", json!({ "nameservers": "x" }), 6),
    ] {
        let right = runtime.configuration[field].take();
        let error = runtime.configure(field, wrong).call("ADD").fails_with(code);
        assert!(error["msg"].as_str().unwrap().contains(field), "{error}");
        runtime.configure(field, right);
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
    let unknown = json!({ "deep": [1] });
    for field in ["someday", "cni.dev/attachments", "cni.dev/other", "ipMasq", "capabilities"] {
        runtime.configure(field, unknown.clone());
    }
    runtime.call("ADD").ok();
}

#[test]
fn cni_args_need_to_be_known_or_to_be_ignored() {
    let (mut runtime, fake) = Runtime::with_daemon("args");
    let error = runtime.set("CNI_ARGS", "FOO=BAR").call("ADD").fails_with(4);
    assert!(error["details"].as_str().unwrap().contains("FOO=BAR"), "{error}");
    let kubernetes = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;\
                      K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=1-2;FOO=BAR";
    runtime.set("CNI_ARGS", kubernetes).call("ADD").ok();
    assert_eq!(fake.state().last.as_ref().unwrap().owner, "shop/web-0");
    // What keeps nobody from tidying up.
    runtime.set("CNI_ARGS", "FOO").call("DEL").ok();
}

//! Addresses of other plugins: the reference ones, and one that records how it is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tonic::Status;
use weft_proto::v1::attach_request::AddressSource;

use crate::fake::Fake;
use crate::runtime::{REFERENCE, Runtime};

/// A runtime whose configuration has host-local give addresses.
fn host_local(name: &str, version: &str) -> (Runtime, Fake) {
    let (mut runtime, fake) = Runtime::with_daemon(name);
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": "198.18.1.0/24", "rangeStart": "198.18.1.50", "gateway": "198.18.1.1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "198.19.0.0/16", "gw": "198.18.1.9" }],
        "dataDir": runtime.folder.join("ipam"),
    });
    runtime.configure("cniVersion", version.into()).configure("ipam", ipam);
    (runtime, fake)
}

/// Addresses that host-local regards as taken.
fn taken(runtime: &Runtime) -> Vec<String> {
    let entries = fs::read_dir(runtime.folder.join("ipam/pods")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut addresses: Vec<String> = names.filter(|name| name.starts_with("198.")).collect();
    addresses.sort();
    addresses
}

#[test]
fn host_local_gives_addresses_and_gets_them_back() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let (mut runtime, fake) = host_local(&format!("host-local-{version}"), version);
        let result = runtime.call("ADD").ok();
        assert_eq!(result["ips"][0]["address"], "198.18.1.50/24");
        assert_eq!(result["ips"][0]["interface"], 1);
        let request = fake.state().last.clone().unwrap();
        let Some(AddressSource::Given(given)) = request.address_source else { panic!("given expected") };
        assert_eq!(given.addresses, ["198.18.1.50/24"]);
        let routes: Vec<_> = request.routes.iter().map(|r| (r.prefix.as_str(), r.via.as_str())).collect();
        assert_eq!(routes, [("0.0.0.0/0", "198.18.1.1"), ("198.19.0.0/16", "198.18.1.9")]);
        assert_eq!(request.default_route, Some(false));
        if version > "0.3.1" {
            runtime.configure("prevResult", result).call("CHECK").ok();
        }
        runtime.set("CNI_CONTAINERID", "c2").call("ADD").ok();
        assert_eq!(taken(&runtime), ["198.18.1.50", "198.18.1.51"]);
        runtime.call("DEL").ok();
        runtime.call("DEL").ok();
        assert_eq!(taken(&runtime), ["198.18.1.50"]);
    }
}

#[test]
fn static_addresses_of_the_runtime_are_used() {
    let (mut runtime, fake) = Runtime::with_daemon("static");
    runtime.configure("cniVersion", "1.0.0".into()).configure("ipam", json!({ "type": "static" }));
    runtime.configure("runtimeConfig", json!({ "ips": ["198.18.1.77/24"] }));
    assert_eq!(runtime.call("ADD").ok()["ips"][0]["address"], "198.18.1.77/24");
    assert_eq!(fake.state().attachments.len(), 1);
    runtime.call("DEL").ok();
}

#[test]
fn a_refused_attachment_gives_the_addresses_back() {
    let (runtime, fake) = host_local("undone", "1.0.0");
    fake.state().refusal = Some(Status::not_found("nothing here"));
    runtime.call("ADD").fails_with(7);
    assert!(runtime.folder.join("ipam/pods").is_dir(), "host-local was asked");
    assert_eq!(taken(&runtime), Vec::<String>::new());
}

#[test]
fn an_add_without_an_answer_in_time_gives_the_addresses_back() {
    let (mut runtime, fake) = host_local("undone-late", "1.0.0");
    fake.state().hangs = true;
    runtime.configure("callTimeoutSeconds", 1.into()).call("ADD").fails_with(11);
    assert_eq!(fake.calls(), ["Check", "Detach"]);
    assert_eq!(taken(&runtime), Vec::<String>::new());
}

#[test]
fn a_second_add_does_not_free_the_addresses_of_the_first() {
    let (runtime, fake) = host_local("twice", "1.0.0");
    runtime.call("ADD").ok();
    let error = runtime.call("ADD").fails_with(100);
    assert!(error["details"].as_str().unwrap().contains("DEL first"), "{error}");
    assert_eq!(taken(&runtime), ["198.18.1.50"]);
    assert_eq!(fake.state().attachments.len(), 1);
}

#[test]
fn del_with_the_daemon_down_gives_the_addresses_back_too() {
    let (runtime, fake) = host_local("down", "1.0.0");
    runtime.call("ADD").ok();
    drop(fake);
    runtime.call("DEL").ok();
    assert_eq!(taken(&runtime), Vec::<String>::new());
    assert_eq!(runtime.queued(), ["c1@eth0.json"]);
}

#[test]
fn addresses_that_cannot_be_freed_stay_as_long_as_the_attachment() {
    let (runtime, fake) = host_local("held", "1.0.0");
    runtime.call("ADD").ok();
    fake.state().refusal = Some(Status::internal("cannot remove the device"));
    runtime.call("DEL").fails_with(106);
    assert_eq!(taken(&runtime), ["198.18.1.50"]);
}

#[test]
fn an_error_of_the_plugin_is_passed_on_with_its_words() {
    let (mut runtime, fake) = host_local("exhausted", "1.0.0");
    runtime.configuration["ipam"]["ranges"][0][0]["rangeEnd"] = "198.18.1.50".into();
    runtime.call("ADD").ok();
    let answer = runtime.set("CNI_CONTAINERID", "c2").call("ADD");
    assert_eq!(answer.code, 1);
    let details = answer.value["details"].as_str().unwrap();
    assert!(details.contains("no IP addresses available"), "{details}");
    assert!(answer.value["msg"].as_str().unwrap().contains("host-local"));
    assert_eq!(fake.state().attachments.len(), 1);
    assert_eq!(taken(&runtime), ["198.18.1.50"]);
}

#[test]
fn a_plugin_that_is_not_there_is_told_before_anything_is_made() {
    let (mut runtime, fake) = Runtime::with_daemon("missing");
    runtime.configure("ipam", json!({ "type": "no-such-plugin" }));
    let error = runtime.call("ADD").fails_with(104);
    assert!(error["details"].as_str().unwrap().contains(REFERENCE), "{error}");
    assert_eq!(fake.calls(), Vec::<String>::new());
}

/// A plugin that writes its commands and inputs down, and fails when the file `fail` names the command.
const RECORDER: &str = r#"#!/bin/sh
cd "${0%/*}"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >>calls
cat >"input-$CNI_COMMAND"
echo "a word on standard error" >&2
if grep -qs "$CNI_COMMAND" fail; then
  echo '{"cniVersion": "1.1.0", "code": 142, "msg": "no", "details": "not today"}'
  exit 1
fi
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "1.1.0",
  "ips": [{"address": "198.18.1.60/24", "gateway": "198.18.1.1"}], "dns": {"nameservers": ["192.0.2.9"]}}'
exit 0
"#;

fn recorder(name: &str) -> (Runtime, Fake) {
    let (mut runtime, fake) = Runtime::with_daemon(name);
    let program = runtime.folder.join("recorder");
    fs::write(&program, RECORDER).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("/nonexistent:{}", runtime.folder.display());
    runtime.set("CNI_PATH", &path).set("PATH", "/usr/bin:/bin");
    runtime.configure("ipam", json!({ "type": "recorder", "keep": [1] }));
    (runtime, fake)
}

fn calls(runtime: &Runtime) -> Vec<String> {
    let text = fs::read_to_string(runtime.folder.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn fail(runtime: &Runtime, commands: &str) {
    fs::write(runtime.folder.join("fail"), commands).unwrap();
}

#[test]
fn every_command_reaches_the_plugin_with_the_same_input() {
    let (mut runtime, _fake) = recorder("recorder");
    let answer = runtime.call("ADD");
    assert!(answer.stderr.contains("a word on standard error"));
    let result = answer.ok();
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.9"] }));
    assert_eq!(result["ips"][0]["address"], "198.18.1.60/24");
    let input = fs::read_to_string(runtime.folder.join("input-ADD")).unwrap();
    assert_eq!(input, runtime.configuration.to_string());
    runtime.configure("prevResult", result).call("CHECK").ok();
    runtime.call("DEL").ok();
    runtime.configure("cni.dev/valid-attachments", json!([])).call("GC").ok();
    runtime.call("STATUS").ok();
    assert_eq!(calls(&runtime), ["ADD c1 eth0", "CHECK c1 eth0", "DEL c1 eth0", "GC  ", "STATUS  "]);
}

#[test]
fn failures_of_the_plugin_are_the_callers_failures() {
    let (mut runtime, fake) = recorder("failing");
    fail(&runtime, "ADD");
    let error = runtime.call("ADD").fails_with(142);
    assert_eq!(error["details"], "no; not today");
    assert_eq!(calls(&runtime), ["ADD c1 eth0", "DEL c1 eth0"], "a failed ADD is followed by DEL");
    assert_eq!(fake.state().attachments, []);
    fail(&runtime, "");
    let result = runtime.call("ADD").ok();
    runtime.configure("prevResult", result);
    fail(&runtime, "CHECK DEL GC STATUS");
    runtime.configure("cni.dev/valid-attachments", json!([]));
    for command in ["CHECK", "DEL", "GC", "STATUS"] {
        runtime.call(command).fails_with(142);
    }
}

#[test]
fn gc_without_a_list_does_not_reach_the_plugin() {
    let (mut runtime, _fake) = recorder("gc");
    runtime.call("GC").ok();
    runtime.configure("cni.dev/valid-attachments", Value::Null).call("GC").ok();
    assert_eq!(calls(&runtime), Vec::<String>::new());
}

//! ADD, DEL, CHECK, GC and STATUS against a daemon that answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Status;
use weft_proto::v1::{AttachmentKey, EndpointStatusResponse};

use crate::runtime::Runtime;

#[test]
fn add_answers_what_the_daemon_made() {
    let (mut runtime, fake) = Runtime::with_daemon("add");
    runtime.configure("dns", json!({ "nameservers": ["192.0.2.53"] }));
    let result = runtime.call("ADD").ok();
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "w0", "mac": "02:00:00:00:00:01", "mtu": 1450 },
            { "name": "eth0", "mac": "02:00:00:00:00:10", "mtu": 1450, "sandbox": "/run/netns/none" },
        ],
        "ips": [{ "address": "198.18.1.10/24", "gateway": "198.18.1.1", "interface": 1 }],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "198.18.1.1" }],
        "dns": { "nameservers": ["192.0.2.53"] },
    });
    assert_eq!(result, expected);
    // A runtime that lost the answer asks again.
    assert_eq!(runtime.call("ADD").ok(), expected);
    assert_eq!(fake.state().attachments.len(), 1);
}

#[test]
fn add_in_a_chain_passes_the_earlier_result_on() {
    let (mut runtime, _fake) = Runtime::with_daemon("chain");
    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/none" }],
        "ips": [{ "address": "127.0.0.1/8", "interface": 0 }],
        "dns": { "domain": "before" },
    });
    let result = runtime.configure("prevResult", before.clone()).call("ADD").ok();
    assert_eq!(result["interfaces"][0], before["interfaces"][0]);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][0], before["ips"][0]);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["dns"], before["dns"]);
}

#[test]
fn refusals_of_the_daemon_have_codes_that_runtimes_understand() {
    let (runtime, fake) = Runtime::with_daemon("refusals");
    for (status, code) in [
        (Status::invalid_argument("mtu: 5 is too small"), 7),
        (Status::not_found("network \"front\" does not exist"), 7),
        (Status::failed_precondition("/run/netns/none is not there"), 3),
        (Status::already_exists("eth0 is there already"), 100),
        (Status::resource_exhausted("pool 198.18.1.0/24 of front: all 253 addresses are taken"), 101),
        (Status::unavailable("starting"), 11),
        (Status::internal("oh"), 106),
    ] {
        let text = status.message().to_owned();
        fake.state().refusal = Some(status);
        let error = runtime.call("ADD").fails_with(code);
        assert_eq!(error["details"], text);
    }
}

#[test]
fn del_succeeds_again_and_again_and_for_what_never_was() {
    let (mut runtime, fake) = Runtime::with_daemon("del");
    runtime.call("ADD").ok();
    for netns in ["/run/netns/none", "", "relative"] {
        assert_eq!(runtime.set("CNI_NETNS", netns).call("DEL").ok(), Value::Null);
    }
    assert_eq!(fake.state().attachments, []);
    runtime.set("CNI_CONTAINERID", "never").configure("network", Value::Null);
    runtime.configure("mtu", "wrong".into()).call("DEL").ok();
    assert_eq!(fake.calls(), ["Attach", "Detach", "Detach", "Detach", "Detach"]);
    assert_eq!(runtime.queued(), Vec::<String>::new());
}

#[test]
fn check_wants_what_the_result_of_the_chain_says() {
    let (mut runtime, fake) = Runtime::with_daemon("check");
    let result = runtime.call("ADD").ok();
    runtime.call("CHECK").fails_with(7);
    runtime.configure("prevResult", result.clone());
    assert_eq!(runtime.call("CHECK").ok(), Value::Null);
    let request = fake.state().checked.clone().unwrap();
    assert_eq!((request.network.as_str(), request.netns.as_str()), ("front", "/run/netns/none"));
    assert_eq!(request.mac, "02:00:00:00:00:10");
    assert_eq!(request.addresses, ["198.18.1.10/24"]);
    assert_eq!((request.routes.len(), request.routes[0].via.as_str()), (1, "198.18.1.1"));
    let mut other = result.clone();
    other["ips"][0]["address"] = "198.18.1.99/24".into();
    let error = runtime.configure("prevResult", other).call("CHECK").fails_with(103);
    assert!(error["details"].as_str().unwrap().contains("198.18.1.99/24"), "{error}");
    runtime.configure("prevResult", result).call("DEL").ok();
    runtime.call("CHECK").fails_with(102);
}

fn attach(runtime: &mut Runtime, ids: &[&str]) {
    for id in ids {
        runtime.set("CNI_CONTAINERID", id).call("ADD").ok();
    }
}

fn living(fake: &crate::fake::Fake) -> Vec<AttachmentKey> {
    fake.state().attachments.iter().filter_map(|known| known.key.clone()).collect()
}

#[test]
fn gc_takes_away_what_is_not_listed() {
    for list in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let (mut runtime, fake) = Runtime::with_daemon(&format!("gc-{}", list.len()));
        attach(&mut runtime, &["a", "b", "c"]);
        assert_eq!(runtime.call("GC").ok(), Value::Null);
        runtime.configure(list, Value::Null).call("GC").ok();
        assert_eq!(living(&fake).len(), 3, "no list: nothing is taken away");
        assert!(!fake.calls().contains(&"Collect".to_owned()));
        runtime.configure(list, json!([{ "containerID": "a" }])).call("GC").fails_with(6);
        runtime.configure(list, json!([{ "containerID": "a", "ifname": "" }])).call("GC").fails_with(7);
        assert_eq!(living(&fake).len(), 3, "a list that is broken takes nothing away");
        runtime.configure(list, json!([{ "containerID": "b", "ifname": "eth0" }])).call("GC").ok();
        assert_eq!(living(&fake), [AttachmentKey { container_id: "b".into(), interface: "eth0".into() }]);
        runtime.configure(list, json!([])).call("GC").ok();
        assert_eq!(living(&fake), [], "an empty list: none is valid");
    }
}

#[test]
fn gc_believes_the_newer_of_both_lists() {
    let (mut runtime, fake) = Runtime::with_daemon("gc-both");
    attach(&mut runtime, &["a", "b"]);
    let valid = json!([{ "containerID": "a", "ifname": "eth0" }]);
    runtime.configure("cni.dev/valid-attachments", valid).configure("cni.dev/attachments", json!([]));
    runtime.call("GC").ok();
    assert_eq!(living(&fake).len(), 1);
}

#[test]
fn status_tells_whether_add_can_be_served() {
    let (mut runtime, fake) = Runtime::with_daemon("status");
    assert_eq!(runtime.call("STATUS").ok(), Value::Null);
    let exhausted = vec!["198.18.1.0/24".to_owned()];
    let full = EndpointStatusResponse { ready: true, exhausted, ..EndpointStatusResponse::default() };
    fake.state().status = Some(full);
    runtime.call("STATUS").ok();
    let error = runtime.configure("statusReportsExhaustion", true.into()).call("STATUS").fails_with(50);
    assert!(error["details"].as_str().unwrap().contains("198.18.1.0/24"), "{error}");
    let message = "no network \"front\"".to_owned();
    fake.state().status = Some(EndpointStatusResponse { message, ..EndpointStatusResponse::default() });
    let error = runtime.call("STATUS").fails_with(50);
    assert_eq!(error["details"], "no network \"front\"");
    drop(fake);
    runtime.call("STATUS").fails_with(51);
}

#[test]
fn add_waits_for_a_daemon_that_starts_and_no_longer() {
    let mut runtime = Runtime::new("waiting");
    let start = Instant::now();
    runtime.configure("daemonWaitSeconds", 1.into()).call("ADD").fails_with(11);
    assert!(start.elapsed() >= Duration::from_secs(1));
    runtime.configure("daemonWaitSeconds", 60.into());
    let result = std::thread::scope(|scope| {
        let adding = scope.spawn(|| runtime.call("ADD").ok());
        // It cannot succeed before there is a daemon, whenever that comes.
        let fake = runtime.start_daemon();
        let result = adding.join().unwrap();
        drop(fake);
        result
    });
    assert_eq!(result["ips"][0]["address"], "198.18.1.10/24");
}

#[test]
fn an_add_without_an_answer_in_time_is_undone() {
    let (mut runtime, fake) = Runtime::with_daemon("hanging");
    fake.state().hangs = true;
    let error = runtime.configure("callTimeoutSeconds", 1.into()).call("ADD").fails_with(11);
    assert!(error["details"].as_str().unwrap().contains("no answer in 1 s"), "{error}");
    assert_eq!(fake.calls(), ["Detach"]);
}

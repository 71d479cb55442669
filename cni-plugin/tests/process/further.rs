//! Further Networks of pods, which an agent that is a fake tells of.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weft_proto::v1::attach_request::AddressSource;

use crate::fake::Fake;
use crate::runtime::Runtime;

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=0d1c";

/// A runtime whose pods have an agent that always answers this, and what the agent was asked.
fn with_agent(name: &str, status: &str, body: &str) -> (Runtime, Fake, Arc<Mutex<Vec<String>>>) {
    let (mut runtime, fake) = Runtime::with_daemon(name);
    let socket = runtime.folder.join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    runtime.configure("podNetworks", json!({ "socket": socket })).set("CNI_ARGS", POD);
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let heard = asked.clone();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                request.extend(octet);
            }
            heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (runtime, fake, asked)
}

fn networks(networks: &[(&str, &str)]) -> String {
    let network = |(network, interface): &(&str, &str)| json!({ "network": network, "interface": interface, "ips": ["198.18.1.99"], "mac": "02:00:00:00:00:99" });
    Value::from_iter(networks.iter().map(network)).to_string()
}

#[test]
fn add_attaches_to_further_networks_and_del_takes_all_away() {
    let (runtime, fake, asked) = with_agent("further", "200 OK", &networks(&[("front", "net1")]));
    let result = runtime.call("ADD").ok();
    let names: Vec<_> = (0..4).map(|index| result["interfaces"][index]["name"].clone()).collect();
    assert_eq!(names, ["w0", "eth0", "w1", "net1"]);
    assert_eq!(
        result["ips"][0],
        json!({ "address": "198.18.1.10/24", "gateway": "198.18.1.1", "interface": 1 })
    );
    assert_eq!(
        result["ips"][1],
        json!({ "address": "198.18.1.99/24", "gateway": "198.18.1.1", "interface": 3 })
    );
    assert_eq!(result["routes"].as_array().unwrap().len(), 1, "the first network's alone: {result}");
    let last = fake.state().last.clone().unwrap();
    let key = last.key.unwrap();
    assert_eq!((key.container_id.as_str(), key.interface.as_str()), ("c1", "net1"));
    assert_eq!((last.configuration.as_str(), last.default_route), ("pods/annotations", Some(false)));
    assert_eq!((last.owner.as_str(), last.mac.as_str()), ("shop/web-0", "02:00:00:00:00:99"));
    assert!(
        matches!(last.address_source, Some(AddressSource::Pools(pools)) if pools.wanted == ["198.18.1.99"])
    );
    let request =
        "GET /pods/shop/web-0/networks?uid=0d1c HTTP/1.1\r\nHost: weft-agent\r\nConnection: close\r\n\r\n";
    assert_eq!(*asked.lock().unwrap(), [request]);
    assert_eq!(runtime.call("ADD").ok(), result);
    runtime.call("DEL").ok();
    let state = fake.state();
    assert!(state.calls.last().unwrap().contains("interface: \"\""), "{:?}", state.calls);
    assert_eq!(state.attachments, []);
}

#[test]
fn gc_of_the_configuration_leaves_further_networks_alone() {
    let (mut runtime, fake, _) = with_agent("further-gc", "200 OK", &networks(&[("front", "net1")]));
    runtime.call("ADD").ok();
    runtime.configure("cni.dev/valid-attachments", json!([{ "containerID": "c1", "ifname": "eth0" }]));
    runtime.call("GC").ok();
    assert_eq!(fake.state().attachments.len(), 2);
}

#[test]
fn a_network_that_does_not_exist_fails_the_whole_add() {
    let body = networks(&[("front", "net1"), ("nope", "net2")]);
    let (runtime, fake, _) = with_agent("further-fails", "200 OK", &body);
    let error = runtime.call("ADD").fails_with(7);
    let details = error["details"].as_str().unwrap();
    let place = "net2 on nope, for an annotation of pod shop/web-0";
    assert!(details.contains(place) && details.contains("\"nope\" does not exist"), "{details}");
    assert_eq!(fake.state().attachments, []);
    assert_eq!(fake.calls(), ["Attach", "Attach", "Attach", "Detach", "Detach"]);
}

#[test]
fn an_annotation_that_cannot_be_used_fails_before_anything_is_made() {
    for (name, status, body, code, told) in [
        ("further-422", "422 Unprocessable Content", "annotation x: \"?\"", 7, "annotation x: \"?\""),
        ("further-503", "503 Service Unavailable", "the API is away", 11, "the API is away"),
        ("further-none", "200 OK", "{", 11, "agent.sock"),
        ("further-taken", "200 OK", &networks(&[("front", "eth0")]), 7, "another interface expected"),
    ] {
        let (runtime, fake, _) = with_agent(name, status, body);
        let error = runtime.call("ADD").fails_with(code);
        assert!(error["details"].as_str().unwrap().contains(told), "{error}");
        assert_eq!(fake.calls(), Vec::<String>::new());
    }
}

#[test]
fn an_agent_that_is_not_there_is_worth_another_try() {
    let (mut runtime, fake) = Runtime::with_daemon("further-away");
    runtime.configure("podNetworks", json!({ "socket": "/nonexistent/agent.sock" })).set("CNI_ARGS", POD);
    let error = runtime.call("ADD").fails_with(11);
    assert!(error["details"].as_str().unwrap().contains("/nonexistent/agent.sock"), "{error}");
    assert_eq!(fake.calls(), Vec::<String>::new());
    runtime.set("CNI_ARGS", "").call("ADD").ok();
    assert_eq!(fake.calls(), ["Attach"], "without a pod nobody is asked");
}

#[test]
fn a_pod_that_the_api_does_not_know_has_its_first_network_alone() {
    let (runtime, fake, _) = with_agent("further-404", "404 Not Found", "there is no pod shop/web-0\n");
    runtime.call("ADD").ok();
    assert_eq!(fake.calls(), ["Attach"]);
}

#[test]
fn a_kept_del_is_for_the_whole_container_and_the_next_add_carries_it_out() {
    let (runtime, fake, _) = with_agent("further-queue", "200 OK", &networks(&[("front", "net1")]));
    runtime.call("ADD").ok();
    fake.state().refusal = Some(tonic::Status::unavailable("stopping"));
    runtime.call("DEL").ok();
    assert_eq!(runtime.queued(), ["c1@.json"]);
    fake.state().refusal = None;
    fake.state().calls.clear();
    runtime.call("ADD").ok();
    assert_eq!(fake.calls(), ["Detach", "Attach", "Attach"]);
    assert_eq!(runtime.queued(), Vec::<String>::new());
}

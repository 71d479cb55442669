//! DEL with the daemon down.

use serde_json::Value;
use tonic::Status;
use weft_proto::detach_queue::DetachQueue;

use crate::runtime::Runtime;

#[test]
fn del_with_the_daemon_down_succeeds_and_is_kept() {
    let mut runtime = Runtime::new("down");
    for _ in 0..3 {
        let answer = runtime.call("DEL");
        assert!(answer.stderr.contains("detaches later"), "{}", answer.stderr);
        assert_eq!(answer.ok(), Value::Null);
    }
    runtime.set("CNI_IFNAME", "net1").call("DEL").ok();
    let mut queued = runtime.queued();
    queued.sort();
    assert_eq!(queued, ["c1@eth0.json", "c1@net1.json"]);
    let queue = DetachQueue::new(runtime.folder.join("detach"));
    let requests = queue.list().unwrap().requests;
    assert!(requests.iter().all(|request| request.key.container_id == "c1"));
    assert_eq!(requests.len(), 2);
}

#[test]
fn del_is_kept_too_when_the_daemon_asks_to_be_asked_again() {
    let (runtime, fake) = Runtime::with_daemon("later");
    fake.state().refusal = Some(Status::unavailable("stopping"));
    runtime.call("DEL").ok();
    assert_eq!(runtime.queued(), ["c1@eth0.json"]);
    fake.state().refusal = Some(Status::internal("broken"));
    runtime.call("DEL").fails_with(106);
}

#[test]
fn del_fails_when_it_cannot_be_kept() {
    let mut runtime = Runtime::new("unwritable");
    runtime.configure("detachQueue", "/proc/none/detach".into());
    let error = runtime.call("DEL").fails_with(5);
    assert!(error["details"].as_str().unwrap().contains("/proc/none"), "{error}");
}

#[test]
fn an_add_carries_a_kept_del_of_its_key_out_first() {
    let runtime = Runtime::new("order");
    runtime.call("DEL").ok();
    let fake = runtime.start_daemon();
    runtime.call("ADD").ok();
    assert_eq!(fake.calls(), ["Detach", "Attach"]);
    assert_eq!(runtime.queued(), Vec::<String>::new());
    runtime.call("ADD").ok();
    assert_eq!(fake.calls(), ["Detach", "Attach", "Attach"]);
}

#[test]
fn an_add_that_cannot_carry_a_kept_del_out_fails_and_keeps_it() {
    let (runtime, fake) = Runtime::with_daemon("order-fails");
    fake.state().refusal = Some(Status::unavailable("starting"));
    runtime.call("DEL").ok();
    runtime.call("ADD").fails_with(11);
    assert!(!fake.calls().contains(&"Attach".to_owned()));
    assert_eq!(runtime.queued(), ["c1@eth0.json"]);
}

//! Kernel events, against the kernel.

use std::sync::mpsc;

use super::*;
use crate::link::Netlink;
use crate::netns::{NetNs, namespace_id};
use crate::testing::{DEADLINE, own_namespace, veth_up};

/// Reads events until one is as wanted; fails when none comes in time.
fn expect(monitor: &mut Monitor, wanted: impl Fn(&KernelEvent) -> bool) -> KernelEvent {
    let waker = monitor.waker();
    let (found, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                waker.wake();
            }
        });
        let event = loop {
            let events = monitor.next().unwrap();
            assert!(!events.is_empty(), "no such event in time");
            if let Some(event) = events.into_iter().find(&wanted) {
                break event;
            }
        };
        drop(found);
        event
    })
}

#[test]
fn a_removal_in_a_numbered_namespace_is_told_with_its_number() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let number = namespace_id(&there).unwrap();
    veth_up("h1", "eth0", &there);
    let mut monitor = Monitor::open().unwrap();
    {
        let _entered = there.enter().unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link_by_name("eth0").unwrap().unwrap().index;
        netlink.delete_link(index).unwrap();
    }
    let removed = expect(
        &mut monitor,
        |event| matches!(&event.what, KernelChange::Link { name, removed: true, .. } if name == "eth0"),
    );
    assert_eq!(removed.nsid, Some(number));
}

#[test]
fn links_addresses_and_routes_of_the_own_namespace_are_told_without_a_number() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let mut monitor = Monitor::open().unwrap();
    let index = veth_up("h1", "eth0", &there);
    Netlink::open().unwrap().add_address(index, [198, 18, 6, 1].into(), 24).unwrap();
    let link = expect(
        &mut monitor,
        |event| matches!(&event.what, KernelChange::Link { name, removed: false, .. } if name == "h1"),
    );
    assert_eq!(link.nsid, None);
    expect(&mut monitor, |event| event.nsid.is_none() && event.what == KernelChange::Address);
    Netlink::open().unwrap().delete_link(index).unwrap();
    expect(&mut monitor, |event| event.what == KernelChange::Route);
}

#[test]
fn a_waker_ends_the_wait() {
    let (_entered, _here) = own_namespace();
    let mut monitor = Monitor::open().unwrap();
    let waker = monitor.waker();
    let stopper = std::thread::spawn(move || waker.wake());
    assert_eq!(monitor.next().unwrap(), []);
    stopper.join().unwrap();
}

#[test]
fn what_cannot_be_understood_is_an_overrun() {
    let mut events = Vec::new();
    interpret(&[200, 0, 0, 0, 16, 0], None, &mut events);
    // A link message that is shorter than its header.
    interpret(&[20, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some(3), &mut events);
    assert!(
        events.iter().all(|event| event.what == KernelChange::Overrun) && events.len() == 2,
        "{events:?}"
    );
}

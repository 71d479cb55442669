//! Against the kernel, in namespaces of their own, and against what nft itself makes of it.

use std::process::Command;

use super::*;
use crate::link::{LinkChange, Netlink};
use crate::monitor::{KernelChange, Monitor};
use crate::testing::own_namespace;

const NAME: &str = "weft-test";

fn register(number: u8) -> Register {
    Register(number)
}

fn sets() -> Vec<Set> {
    use Datum::{Device, Ipv4, Ipv6, Port, Protocol};
    let set = |name, key: &[Datum], value: &[Datum], intervals| Set {
        name,
        key: key.to_vec(),
        value: value.to_vec(),
        intervals,
    };
    vec![
        set("ports-v4", &[Protocol, Port], &[Ipv4, Port], false),
        set("addresses-v6", &[Ipv6, Protocol, Port], &[Ipv6, Port], false),
        set("sources-v4", &[Ipv4], &[], true),
        set("kept-v4", &[Ipv4, Ipv4], &[], true),
        set("pairs", &[Device, Device], &[], false),
    ]
}

/// A rule with every expression that there is.
fn chains() -> Vec<Chain> {
    use Expression as E;
    let (first, port) = (register(0), register(1));
    let mapping = vec![
        E::Meta(Meta::Family, first),
        E::Is(first, vec![Family::Ipv4.number()]),
        E::AddressType(Side::Destination, first),
        E::Is(first, 2u32.to_ne_bytes().to_vec()),
        E::Meta(Meta::Protocol, first),
        E::Payload { base: Base::Transport, offset: 2, length: 2, to: port },
        E::Map(first, "ports-v4"),
        E::DestinationNat { family: Family::Ipv4, address: first, port },
    ];
    let hairpin = vec![
        E::ConnectionStatus(first),
        E::Mask(first, 0x20u32.to_ne_bytes()),
        E::IsNot(first, vec![0; 4]),
        E::Meta(Meta::InputDevice, first),
        E::Meta(Meta::OutputDevice, register(4)),
        E::In(first, "pairs"),
        E::Masquerade,
    ];
    let outward = vec![
        E::Meta(Meta::Family, first),
        E::Is(first, vec![Family::Ipv4.number()]),
        E::Payload { base: Base::Network, offset: 12, length: 4, to: first },
        E::In(first, "sources-v4"),
        E::Payload { base: Base::Network, offset: 12, length: 4, to: first },
        E::Payload { base: Base::Network, offset: 16, length: 4, to: register(1) },
        E::NotIn(first, "kept-v4"),
        E::Masquerade,
    ];
    let guard = vec![
        E::Meta(Meta::Family, first),
        E::Is(first, vec![Family::Ipv4.number()]),
        E::Payload { base: Base::Network, offset: 12, length: 1, to: first },
        E::Is(first, vec![127]),
        E::Drop,
    ];
    let rule = |comment: &str, expressions| Rule { comment: comment.to_owned(), expressions };
    let chain = |name, kind, hook, priority, rules| Chain { name, kind, hook, priority, rules };
    vec![
        chain("guard", ChainKind::Filter, Hook::Prerouting, -300, vec![rule("no loopback", guard)]),
        chain("to-containers", ChainKind::Nat, Hook::Prerouting, -100, vec![rule("mappings", mapping)]),
        chain(
            "from-node",
            ChainKind::Nat,
            Hook::Postrouting,
            100,
            vec![rule("hairpins", hairpin), rule("outward", outward)],
        ),
    ]
}

fn made() -> Batch {
    let mut batch = Batch::new(NAME);
    batch.add_table();
    sets().iter().for_each(|set| batch.add_set(set));
    chains().iter().for_each(|chain| batch.add_chain(chain));
    batch
}

fn mapping(port: u16, target: [u8; 4]) -> Element {
    let [high, low] = port.to_be_bytes();
    let value = [target.as_slice(), &[0, 80, 0, 0]].concat();
    Element { value: Some(value), ..Element::of(vec![6, 0, 0, 0, high, low, 0, 0]) }
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().expect("nft (Debian package nftables)");
    assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nft_shows_the_table_as_it_was_meant() {
    let (_entered, _namespace) = own_namespace();
    let mut way = Nft::open().unwrap();
    let mut batch = made();
    let device = |name: &str| [name.as_bytes(), &vec![0; 16 - name.len()]].concat();
    let between = |first: [u8; 4], begins| Element { begins, ..Element::of(first.to_vec()) };
    batch.add_elements("ports-v4", [&mapping(8080, [198, 18, 1, 10])]);
    batch.add_elements(
        "sources-v4",
        // Two neighbours: where one ends the other begins.
        &[
            between([198, 18, 1, 0], true),
            between([198, 18, 2, 0], false),
            between([198, 18, 2, 0], true),
            between([198, 18, 3, 0], false),
        ],
    );
    let kept = Element {
        last: Some(vec![198, 18, 1, 255, 192, 0, 2, 255]),
        ..Element::of(vec![198, 18, 1, 0, 192, 0, 2, 0])
    };
    batch.add_elements("kept-v4", [&kept]);
    batch.add_elements("pairs", [&Element::of([device("weft0"), device("weft1")].concat())]);
    way.commit(&batch).unwrap();
    let shown = nft(&["-s", "list", "table", "inet", NAME]);
    for line in [
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
        "elements = { tcp . 8080 : 198.18.1.10 . 80 }",
        "elements = { 198.18.1.0/24, 198.18.2.0/24 }",
        "elements = { 198.18.1.0/24 . 192.0.2.0/24 }",
        "elements = { \"weft0\" . \"weft1\" }",
        "type filter hook prerouting priority raw; policy accept;",
        "ip saddr 127.0.0.0/8 drop comment \"no loopback\"",
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local dnat ip to meta l4proto . th dport map @ports-v4 comment \"mappings\"",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ct status dnat iifname . oifname @pairs masquerade comment \"hairpins\"",
        "ip saddr @sources-v4 ip saddr . ip daddr != @kept-v4 masquerade comment \"outward\"",
    ] {
        assert!(shown.contains(line), "{line} is missing: {shown}");
    }
}

#[test]
fn a_table_is_read_as_it_was_made() {
    let (_entered, _namespace) = own_namespace();
    let mut way = Nft::open().unwrap();
    assert_eq!(way.table(NAME).unwrap(), None);
    let mappings: BTreeSet<_> = (1..=1000).map(|port| mapping(port, [198, 18, 1, 10])).collect();
    let mut batch = made();
    batch.add_elements("ports-v4", &mappings);
    way.commit(&batch).unwrap();
    nft(&["add", "table", "inet", "others"]);
    nft(&["add", "chain", "inet", "others", "guard"]);
    let table = way.table(NAME).unwrap().unwrap();
    assert!(table.awake);
    assert_eq!(table.sets["ports-v4"], mappings);
    assert_eq!(table.sets.len(), 5);
    let comments = |chain: &str| table.chains[chain].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(comments("guard"), ["no loopback"]);
    assert_eq!(comments("from-node"), ["hairpins", "outward"]);
    nft(&["add", "table", "inet", NAME, "{ flags dormant; }"]);
    assert!(!way.table(NAME).unwrap().unwrap().awake);
}

#[test]
fn a_batch_is_carried_out_whole_or_not_at_all() {
    let (_entered, _namespace) = own_namespace();
    let mut way = Nft::open().unwrap();
    way.commit(&made()).unwrap();
    let (one, other) = (mapping(80, [198, 18, 1, 10]), mapping(81, [198, 18, 1, 11]));
    let mut batch = Batch::new(NAME);
    batch.add_elements("ports-v4", [&one]);
    batch.delete_elements("ports-v4", [&other]);
    let generation = way.generation().unwrap();
    assert!(way.commit(&batch).unwrap_err().is_gone());
    assert_eq!(way.generation().unwrap(), generation);
    assert_eq!(way.table(NAME).unwrap().unwrap().sets["ports-v4"], BTreeSet::new());
    let mut batch = Batch::new(NAME);
    batch.add_elements("ports-v4", [&one, &other]);
    way.commit(&batch).unwrap();
    assert_eq!(way.generation().unwrap(), generation + 1);
    assert!(way.commit(&batch).unwrap_err().is_exists());
    let mut batch = Batch::new(NAME);
    batch.delete_elements("ports-v4", [&one]);
    way.commit(&batch).unwrap();
    assert_eq!(way.table(NAME).unwrap().unwrap().sets["ports-v4"], BTreeSet::from([other]));
    let mut batch = Batch::new(NAME);
    batch.delete_table();
    way.commit(&batch).unwrap();
    assert_eq!(way.table(NAME).unwrap(), None);
}

#[test]
fn changes_are_heard_with_the_table_and_the_generation() {
    let (_entered, _namespace) = own_namespace();
    let mut monitor = Monitor::open().unwrap();
    let mut way = Nft::open().unwrap();
    way.commit(&made()).unwrap();
    let generation = way.generation().unwrap();
    let events = monitor.next().unwrap();
    let what: Vec<_> = events.into_iter().map(|event| event.what).collect();
    assert_eq!(what, [KernelChange::Table { name: NAME.to_owned(), generation }]);
    nft(&["flush", "ruleset"]);
    let events = monitor.next().unwrap();
    assert!(events.iter().any(|event| matches!(
        &event.what, KernelChange::Table { name, generation: later } if name == NAME && *later > generation
    )));
}

#[test]
fn a_connection_is_found_and_forgotten() {
    use std::net::UdpSocket;

    use crate::conntrack::Conntrack;

    let (_entered, _namespace) = own_namespace();
    let mut netlink = Netlink::open().unwrap();
    let loopback = netlink.link_by_name("lo").unwrap().unwrap().index;
    netlink.set_link(loopback, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    // Connections are kept track of only where a rule needs it.
    Nft::open().unwrap().commit(&made()).unwrap();
    for (family, address) in [(Family::Ipv4, "127.0.0.1:0"), (Family::Ipv6, "[::1]:0")] {
        let (sender, receiver) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        let to = receiver.local_addr().unwrap();
        sender.send_to(b"hello", to).unwrap();
        let mut way = Conntrack::open().unwrap();
        let flows = way.flows(family, 17).unwrap();
        assert_eq!(flows.len(), 1, "{flows:?}");
        let flow = &flows[0];
        assert_eq!((flow.original.source, flow.original.destination), (sender.local_addr().unwrap(), to));
        assert_eq!((flow.reply.source, flow.translated), (to, false));
        assert!(way.flows(family, 6).unwrap().is_empty());
        way.delete(flow).unwrap();
        assert!(way.flows(family, 17).unwrap().is_empty());
        way.delete(flow).unwrap();
    }
}

//! The table of the node's packet filter: chains and rules that never change, and sets and maps that the wish fills.
//!
//! A rule is known again by its comment, which carries [`VERSION`]: whoever changes a rule here counts that up, so
//! that a daemon makes the table of an older one anew.

use weft_host::nft::{
    Base, Chain, ChainKind, Datum, Expression as E, Family, Hook, Meta, Register, Rule, Set, Side,
};

/// Of the rules below.
const VERSION: u32 = 1;

/// Protocol and port of the node, to an address and port of a container.
pub const MAPPINGS: [&str; 2] = ["mappings-v4", "mappings-v6"];
/// Address, protocol and port of the node, to an address and port of a container.
pub const BOUND: [&str; 2] = ["bound-v4", "bound-v6"];
/// Who is masqueraded.
pub const SOURCES: [&str; 2] = ["sources-v4", "sources-v6"];
/// From whom to whom nothing is masqueraded.
pub const KEPT: [&str; 2] = ["kept-v4", "kept-v6"];
/// The devices of `host` Ports.
pub const DEVICES: &str = "node-devices";
/// Devices of `host` Ports behind which containers reach each other without the node.
pub const HAIRPINS: &str = "hairpins";

/// `RTN_LOCAL`: an address of the node.
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`: the connection was led to another address.
const LED: u32 = 0x20;
/// The first octet of 127.0.0.0/8.
const LOOPBACK: u8 = 127;
/// ICMP (RFC 792) type 5 and ICMPv6 (RFC 4861) type 137: redirects.
const REDIRECTS: [(Family, u8, u8); 2] = [(Family::Ipv4, 1, 5), (Family::Ipv6, 58, 137)];
/// Offsets of the source and the destination address in IP headers (RFC 791, RFC 8200), and their length.
const ADDRESSES: [(Family, u32, u32, u32); 2] = [(Family::Ipv4, 12, 16, 4), (Family::Ipv6, 8, 24, 16)];

/// The families in comments.
const WORDS: [&str; 2] = ["IPv4", "IPv6"];

/// The sets and maps.
pub fn sets() -> Vec<Set> {
    use Datum::{Device, Ipv4, Ipv6, Port, Protocol};
    let mut sets = vec![set(DEVICES, &[Device], &[], false), set(HAIRPINS, &[Device, Device], &[], false)];
    for (index, address) in [Ipv4, Ipv6].into_iter().enumerate() {
        sets.push(set(MAPPINGS[index], &[Protocol, Port], &[address, Port], false));
        sets.push(set(BOUND[index], &[address, Protocol, Port], &[address, Port], false));
        sets.push(set(SOURCES[index], &[address], &[], true));
        sets.push(set(KEPT[index], &[address, address], &[], true));
    }
    sets
}

fn set(name: &'static str, key: &[Datum], value: &[Datum], intervals: bool) -> Set {
    Set { name, key: key.to_vec(), value: value.to_vec(), intervals }
}

/// The chains with their rules.
pub fn chains() -> Vec<Chain> {
    let leading = |beginning: fn(usize) -> Vec<E>| -> Vec<Rule> {
        let families = [0, 1].into_iter();
        families.flat_map(|family| [lead_bound(family, beginning), lead(family, beginning)]).collect()
    };
    let chain = |name, kind, hook, priority, rules| Chain { name, kind, hook, priority, rules };
    vec![
        // Before anything else, and before the translation is undone for answers.
        chain("guard", ChainKind::Filter, Hook::Prerouting, -300, guard()),
        chain("redirects", ChainKind::Filter, Hook::Output, 0, redirects()),
        chain("to-containers", ChainKind::Nat, Hook::Prerouting, -100, leading(|_| Vec::new())),
        chain("from-node", ChainKind::Nat, Hook::Output, -100, leading(not_to_loopback6)),
        chain("to-outside", ChainKind::Nat, Hook::Postrouting, 100, to_outside()),
    ]
}

/// The devices take packets from and to 127.0.0.0/8, since what the node sends from there to containers is led by
/// them. On the wire nobody may use these addresses.
fn guard() -> Vec<Rule> {
    let rule = |comment, offset| {
        let mut expressions = vec![E::Meta(Meta::InputDevice, R0), E::In(R0, DEVICES)];
        expressions.extend(is_family(Family::Ipv4));
        expressions.push(E::Payload { base: Base::Network, offset, length: 1, to: R0 });
        expressions.extend([E::Is(R0, vec![LOOPBACK]), E::Drop]);
        named(comment, expressions)
    };
    let (_, source, destination, _) = ADDRESSES[0];
    vec![
        rule("nothing to the node's loopback", destination),
        rule("nothing from the node's loopback", source),
    ]
}

/// What comes from a container and goes to another one on the same device is no reason to tell it a shorter way: it
/// asked for the node.
fn redirects() -> Vec<Rule> {
    let rule = |(family, protocol, kind): (Family, u8, u8)| {
        let mut expressions = vec![E::Meta(Meta::OutputDevice, R0), E::In(R0, DEVICES)];
        expressions.extend(is_family(family));
        expressions.extend([E::Meta(Meta::Protocol, R0), E::Is(R0, vec![protocol])]);
        expressions.push(E::Payload { base: Base::Transport, offset: 0, length: 1, to: R0 });
        expressions.extend([E::Is(R0, vec![kind]), E::Drop]);
        let word = WORDS[usize::from(family == Family::Ipv6)];
        named(&format!("no redirects to containers, {word}"), expressions)
    };
    REDIRECTS.into_iter().map(rule).collect()
}

/// What comes to a port of this address of the node goes to a container.
fn lead_bound(index: usize, beginning: fn(usize) -> Vec<E>) -> Rule {
    let (family, _, offset, length) = ADDRESSES[index];
    let mut expressions = to_the_node(family, beginning(index));
    let (protocol, port) = if length == 4 { (Register(1), Register(2)) } else { (Register(4), Register(5)) };
    expressions.extend([
        E::Payload { base: Base::Network, offset, length, to: R0 },
        E::Meta(Meta::Protocol, protocol),
        E::Payload { base: Base::Transport, offset: 2, length: 2, to: port },
        E::Map(R0, BOUND[index]),
        E::DestinationNat { family, address: R0, port: protocol },
    ]);
    named(&format!("mappings of one address, {}", WORDS[index]), expressions)
}

/// What comes to a port of the node goes to a container.
fn lead(index: usize, beginning: fn(usize) -> Vec<E>) -> Rule {
    let (family, _, _, length) = ADDRESSES[index];
    let mut expressions = to_the_node(family, beginning(index));
    let behind = if length == 4 { Register(1) } else { Register(4) };
    expressions.extend([
        E::Meta(Meta::Protocol, R0),
        E::Payload { base: Base::Transport, offset: 2, length: 2, to: Register(1) },
        E::Map(R0, MAPPINGS[index]),
        E::DestinationNat { family, address: R0, port: behind },
    ]);
    named(&format!("mappings, {}", WORDS[index]), expressions)
}

fn to_the_node(family: Family, beginning: Vec<E>) -> Vec<E> {
    let mut expressions = is_family(family);
    expressions.extend(beginning);
    expressions.extend([E::AddressType(Side::Destination, R0), E::Is(R0, LOCAL.to_ne_bytes().to_vec())]);
    expressions
}

/// From ::1 nothing can leave the node: whoever connects to it shall be refused at once.
fn not_to_loopback6(index: usize) -> Vec<E> {
    let (family, _, offset, length) = ADDRESSES[index];
    if family == Family::Ipv4 {
        return Vec::new();
    }
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets().to_vec();
    vec![E::Payload { base: Base::Network, offset, length, to: R0 }, E::IsNot(R0, loopback)]
}

fn to_outside() -> Vec<Rule> {
    let led = [E::ConnectionStatus(R0), E::Mask(R0, LED.to_ne_bytes()), E::IsNot(R0, vec![0; 4])];
    let mut hairpin = led.to_vec();
    hairpin.extend([
        E::Meta(Meta::InputDevice, R0),
        E::Meta(Meta::OutputDevice, Register(4)),
        E::In(R0, HAIRPINS),
        E::Masquerade,
    ]);
    let mut from_node = led.to_vec();
    from_node.extend([
        E::AddressType(Side::Source, R0),
        E::Is(R0, LOCAL.to_ne_bytes().to_vec()),
        E::Meta(Meta::OutputDevice, R0),
        E::In(R0, DEVICES),
        E::Masquerade,
    ]);
    let mut rules = vec![
        named("from containers to containers by the node", hairpin),
        named("from the node to containers", from_node),
    ];
    rules.extend([0, 1].map(masquerade));
    rules
}

/// From containers to outside.
fn masquerade(index: usize) -> Rule {
    let (family, source, destination, length) = ADDRESSES[index];
    let load = |offset, to| E::Payload { base: Base::Network, offset, length, to };
    let behind = if length == 4 { Register(1) } else { Register(4) };
    let mut expressions = is_family(family);
    expressions.extend([
        load(source, R0),
        E::In(R0, SOURCES[index]),
        E::Meta(Meta::OutputDevice, R0),
        E::NotIn(R0, DEVICES),
        load(source, R0),
        load(destination, behind),
        E::NotIn(R0, KEPT[index]),
        E::Masquerade,
    ]);
    named(&format!("masquerade, {}", WORDS[index]), expressions)
}

const R0: Register = Register(0);

fn is_family(family: Family) -> Vec<E> {
    vec![E::Meta(Meta::Family, R0), E::Is(R0, vec![family.number()])]
}

fn named(what: &str, expressions: Vec<E>) -> Rule {
    Rule { comment: format!("{what} (weft {VERSION})"), expressions }
}

//! ARP for a gateway (RFC 826, RFC 5227): what it hears, what it answers, how it asks.

use std::net::Ipv4Addr;

use super::{Encounter, note, proxy};
use crate::MacAddr;
use crate::config::Interface;
use crate::pipeline::Context;
use crate::stage::egress::{self, Delivery};
use crate::stage::{L3, Rejection};
use crate::table::neighbor::Claim;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::arp::{LENGTH, Message, Operation};
use crate::wire::ethernet;

/// Takes in a message for the gateway.
pub(super) fn receive(cx: &mut Context, message: &Message, encounter: &Encounter) -> Result<(), Rejection> {
    let gateway = encounter.interface;
    let (sender, mac) = (message.sender, message.sender_mac);
    let asks = message.operation == Operation::Request;
    let own = gateway.has_v4(message.target);
    let proxied = asks
        && !own
        && proxy::answers_for(cx.config, gateway, encounter.from, sender.into(), message.target.into());
    let for_us = own || proxied;
    // A probe (RFC 5227 section 2.1.1) tells of nobody.
    if !sender.is_unspecified() {
        let in_subnet = gateway.v4.iter().any(|(_, prefix)| prefix.contains(sender.into()));
        let claim =
            if asks { Claim::Told { mac, create: for_us && in_subnet } } else { Claim::Reply { mac } };
        note(cx, encounter, sender.into(), claim);
    }
    if !asks {
        return Ok(());
    }
    if !for_us {
        return Err(DropReason::DestinationInvalid.into());
    }
    step!(cx, "neighbor", "{} is at {}: answered", message.target, gateway.mac);
    cx.counters.proxy_answers.add(u64::from(proxied));
    let reply = Message {
        operation: Operation::Reply,
        sender_mac: gateway.mac,
        sender: message.target,
        target_mac: mac,
        target: sender,
    };
    cx.counters.arp_replies.add(1);
    send(cx, &reply, encounter.frame.ethernet.source, &encounter.back(cx));
    Ok(())
}

/// Takes in a message to all: a question for somebody else, or a gratuitous ARP.
pub(super) fn overhear(cx: &mut Context, message: &Message, encounter: &Encounter) {
    if !message.sender.is_unspecified() {
        let claim = Claim::Told { mac: message.sender_mac, create: false };
        note(cx, encounter, message.sender.into(), claim);
    }
}

/// Asks for `target`: all, or the one at `known`.
pub(super) fn ask(
    cx: &mut Context,
    gateway: &Interface,
    target: Ipv4Addr,
    known: Option<MacAddr>,
    delivery: &Delivery,
) {
    let Some(sender) = gateway.source_v4(target) else { return };
    cx.counters.arp_requests.add(1);
    request(cx, gateway.mac, sender, target, known.unwrap_or(MacAddr::BROADCAST), delivery);
}

/// Says to all that `address` is that of `mac` (RFC 5227 section 3).
pub(super) fn announce(cx: &mut Context, mac: MacAddr, address: Ipv4Addr, delivery: &Delivery) {
    request(cx, mac, address, address, MacAddr::BROADCAST, delivery);
}

/// Answers a question in the place of who has `mac`.
pub(super) fn answer_for(cx: &mut Context, question: &Message, mac: MacAddr, delivery: &Delivery) {
    let reply = Message {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
    };
    send(cx, &reply, question.sender_mac, delivery);
}

fn request(
    cx: &mut Context,
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    to: MacAddr,
    delivery: &Delivery,
) {
    let message =
        Message { operation: Operation::Request, sender_mac, sender, target_mac: MacAddr::default(), target };
    send(cx, &message, to, delivery);
}

fn send(cx: &mut Context, message: &Message, to: MacAddr, delivery: &Delivery) {
    let (origin, mut packet) = cx.output.take();
    packet.reset(L3 + LENGTH);
    let bytes = packet.frame_mut();
    let header = ethernet::Header { destination: to, source: message.sender_mac, ethertype: ethernet::ARP };
    header.emit(bytes);
    message.emit(&mut bytes[L3..]);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}

//! Makes raw bytes pass the checks that a fuzzer would otherwise spend its time on: a port's own addresses, the
//! gateway's MAC address, lengths and checksums.

use std::net::IpAddr;

use crate::input::Input;
use crate::{eye, fabric};

const SOURCE_MAC: u8 = 1;
const SOURCE_ADDRESS: u8 = 2;
const LENGTH: u8 = 4;
const HEADER_CHECKSUM: u8 = 8;
const TRANSPORT_CHECKSUM: u8 = 16;

/// Octets before the frame that say what is to be put right: `[what][destination MAC]`.
pub const OCTETS: usize = 2;

/// A frame from `port`: the input's next octets say what to put right in it, 0 nothing.
pub fn dress(port: usize, input: &mut Input, mut frame: Vec<u8>) -> Vec<u8> {
    let (wanted, destination) = (input.byte(), usize::from(input.byte()));
    if frame.len() < 14 {
        return frame;
    }
    if wanted & SOURCE_MAC != 0 {
        frame[6..12].copy_from_slice(&fabric::mac(port).0);
    }
    match destination {
        0 => {}
        1 => frame[..6].copy_from_slice(&fabric::gateway_mac(port).0),
        number => frame[..6].copy_from_slice(&fabric::mac(number).0),
    }
    match eye::ethertype(&frame) {
        Some((0x0800, at)) if frame.len() >= at + 20 => dress_v4(wanted, port, &mut frame[at..]),
        Some((0x86dd, at)) if frame.len() >= at + 40 => dress_v6(wanted, port, &mut frame[at..]),
        _ => {}
    }
    frame
}

fn dress_v4(wanted: u8, port: usize, bytes: &mut [u8]) {
    let header = (usize::from(bytes[0] & 15) * 4).clamp(20, bytes.len());
    if let (IpAddr::V4(own), true) = (fabric::addresses(port)[0], wanted & SOURCE_ADDRESS != 0) {
        bytes[12..16].copy_from_slice(&own.octets());
    }
    if wanted & LENGTH != 0 {
        let length = bytes.len().min(65_535) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
    let fragment = bytes[6] & 0x3f != 0 || bytes[7] != 0;
    if wanted & TRANSPORT_CHECKSUM != 0 && !fragment {
        let (protocol, length) = (bytes[9], bytes.len() - header);
        let seed = if protocol == 1 { 0 } else { pseudo(&bytes[12..20], protocol, length) };
        complete(protocol, seed, &mut bytes[header..]);
    }
    if wanted & HEADER_CHECKSUM != 0 {
        write_sum(&mut bytes[..header], 10, 0);
    }
}

fn dress_v6(wanted: u8, port: usize, bytes: &mut [u8]) {
    if let (IpAddr::V6(own), true) = (fabric::addresses(port)[1], wanted & SOURCE_ADDRESS != 0) {
        bytes[8..24].copy_from_slice(&own.octets());
    }
    if wanted & LENGTH != 0 {
        let length = (bytes.len() - 40).min(65_535) as u16;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    if wanted & TRANSPORT_CHECKSUM != 0 {
        let (protocol, length) = (bytes[6], bytes.len() - 40);
        let seed = pseudo(&bytes[8..40], protocol, length);
        complete(protocol, seed, &mut bytes[40..]);
    }
}

fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u32 {
    eye::sum(u32::from(protocol) + length as u32, addresses)
}

fn complete(protocol: u8, seed: u32, message: &mut [u8]) {
    let at = match protocol {
        1 | 58 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if message.len() >= at + 2 {
        write_sum(message, at, seed);
    }
}

fn write_sum(bytes: &mut [u8], at: usize, seed: u32) {
    bytes[at..at + 2].fill(0);
    let sum = !(eye::sum(seed, bytes) as u16);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

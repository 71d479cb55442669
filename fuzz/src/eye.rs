//! Looks at frames that the stack sends, with code of its own: what the stack would read is not what counts.

use weft_stack::packet::Packet;

/// Octets of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// What is wrong with a frame that the stack made or routed, if anything.
///
/// `own`: the stack made it from nothing, so its transport checksum must be right, too.
pub fn examine(packet: &Packet, own: bool) -> Result<(), String> {
    let frame = packet.frame();
    let (ethertype, start) = ethertype(frame).ok_or("shorter than an Ethernet header")?;
    let payload = &frame[start..];
    match ethertype {
        0x0806 if payload.len() >= 28 => Ok(()),
        0x0800 => examine_v4(packet, payload, own),
        0x86dd => examine_v6(packet, payload, own),
        other => Err(format!("ethertype {other:#06x} with {} octets behind", payload.len())),
    }
}

/// The ethertype behind all tags, and where its payload starts; that of a service tag that is cut short, which is
/// the users' own affair.
pub fn ethertype(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETHERNET - 2;
    loop {
        let ethertype = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        at += 2;
        match ethertype {
            0x88a8 if frame.len() < at + 4 => return Some((ethertype, at)),
            0x8100 | 0x88a8 => at += 2,
            _ => return Some((ethertype, at)),
        }
    }
}

fn examine_v4(packet: &Packet, bytes: &[u8], own: bool) -> Result<(), String> {
    if bytes.len() < 20 || bytes[0] >> 4 != 4 {
        return Err("no IPv4 header".into());
    }
    let header = usize::from(bytes[0] & 15) * 4;
    let total = usize::from(bytes[2]) << 8 | usize::from(bytes[3]);
    if header < 20 || header > total || total > bytes.len() {
        return Err(format!("IPv4 lengths {header} and {total} of {}", bytes.len()));
    }
    if sum(0, &bytes[..header]) != 0xffff {
        return Err("wrong IPv4 header checksum".into());
    }
    let fragment = bytes[6] & 0x3f != 0 || bytes[7] != 0;
    if !own || fragment || packet.offload.checksum.is_some() {
        return Ok(());
    }
    let message = &bytes[header..total];
    let seed = if bytes[9] == 1 { 0 } else { pseudo(&bytes[12..20], bytes[9], message.len()) };
    transport(seed, bytes[9], message)
}

fn examine_v6(packet: &Packet, bytes: &[u8], own: bool) -> Result<(), String> {
    if bytes.len() < 40 || bytes[0] >> 4 != 6 {
        return Err("no IPv6 header".into());
    }
    let total = 40 + (usize::from(bytes[4]) << 8 | usize::from(bytes[5]));
    if total > bytes.len() {
        return Err(format!("IPv6 length {total} of {}", bytes.len()));
    }
    // What the stack makes has no extension headers.
    if !own || packet.offload.checksum.is_some() {
        return Ok(());
    }
    let message = &bytes[40..total];
    transport(pseudo(&bytes[8..40], bytes[6], message.len()), bytes[6], message)
}

fn transport(seed: u32, protocol: u8, message: &[u8]) -> Result<(), String> {
    let least = match protocol {
        6 => 20,
        1 | 17 | 58 => 8,
        _ => return Err(format!("the stack speaks no protocol {protocol}")),
    };
    if message.len() < least {
        return Err(format!("{} octets of protocol {protocol}", message.len()));
    }
    match sum(seed, message) {
        0xffff => Ok(()),
        wrong => Err(format!("wrong checksum of protocol {protocol}: sum {wrong:#06x}")),
    }
}

fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u32 {
    sum(u32::from(protocol) + length as u32, addresses)
}

/// The one's complement sum of RFC 1071, not inverted.
pub fn sum(seed: u32, bytes: &[u8]) -> u32 {
    let mut sum = seed;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum & 0xffff) + (sum >> 16)
}

//! Descriptions of packets to trace, and frames to describe:
//! `[port][protocol][flags][source port: 2][destination port: 2][length: 2][ttl][addresses][MACs: 12][VLAN: 2][frame]`.

use std::net::IpAddr;

use weft_stack::MacAddr;
use weft_stack::packet::{Offload, Packet};
use weft_stack::trace::{PacketSpec, Protocol, describe};

use crate::eye;
use crate::input::Input;
use crate::site::Site;

const PROTOCOLS: [Protocol; 4] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp, Protocol::Resolve];

/// What is described becomes a frame that is right, and meets the fate that its trace tells.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let port = usize::from(input.byte());
    let protocol = PROTOCOLS[usize::from(input.byte() % 4)];
    let flags = input.byte();
    let given = |bit: u8| flags >> bit & 1 != 0;
    let spec = PacketSpec {
        protocol,
        source_port: input.word(),
        destination_port: input.word(),
        length: Some(input.word()).filter(|length| *length != 0),
        ttl: input.byte(),
        dont_fragment: given(0),
        destination: address(&mut input, given(1)),
        source: Some(address(&mut input, given(2))).filter(|_| given(3)),
        source_mac: Some(mac(&mut input)).filter(|_| given(4)),
        destination_mac: Some(mac(&mut input)).filter(|_| given(5)),
        vlan: Some(input.word()).filter(|_| given(6)),
    };
    let _ = describe(input.rest());
    let mut site = Site::new();
    let Some(frame) = site.synthesize(port, &spec) else { return };
    let checked = eye::examine(&Packet::from_frame(&frame), true);
    assert!(checked.is_ok(), "{checked:?}: {spec:?} became {frame:02x?}");
    let _ = describe(&frame);
    site.introduce();
    site.feed(0, port, &frame, Offload::default());
}

fn address(input: &mut Input, v6: bool) -> IpAddr {
    let mut octets = [0; 16];
    let bytes = input.take(if v6 { 16 } else { 4 });
    octets[..bytes.len()].copy_from_slice(bytes);
    if v6 { IpAddr::from(octets) } else { IpAddr::from([octets[0], octets[1], octets[2], octets[3]]) }
}

fn mac(input: &mut Input) -> MacAddr {
    let mut octets = [0; 6];
    let bytes = input.take(6);
    octets[..bytes.len()].copy_from_slice(bytes);
    MacAddr(octets)
}

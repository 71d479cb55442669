//! What a device writes: `[port][dress: 2 octets][zeros behind the frame: 2 octets][virtio-net header][frame]`.

use weft_stack::packet::Packet;
use weft_stack::wire::virtio_net;

use crate::dress::{self, dress};
use crate::input::Input;
use crate::site::Site;

/// A header and a frame, as a container would write them.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let port = usize::from(input.byte());
    let mut what = Input(input.take(dress::OCTETS));
    let behind = usize::from(input.word());
    let header = input.take(virtio_net::HEADER_LENGTH);
    let mut frame = input.rest().to_vec();
    if !frame.is_empty() {
        frame.resize(frame.len() + behind, 0);
    }
    let written = [header, &dress(port, &mut what, frame)].concat();
    let mut packet = Packet::new();
    let area = packet.receive_area();
    let count = written.len().min(area.len());
    area[..count].copy_from_slice(&written[..count]);
    if packet.received(count).is_err() {
        assert!(packet.is_empty(), "refused and not empty");
        return;
    }
    check_seal(&mut packet);
    let mut site = Site::new();
    site.introduce();
    site.feed(0, port, packet.frame(), packet.offload);
}

/// What is sealed says the same when it is received.
fn check_seal(packet: &mut Packet) {
    packet.seal();
    let mut again = Packet::new();
    let bytes = packet.device_bytes();
    let area = again.receive_area();
    let count = bytes.len().min(area.len());
    area[..count].copy_from_slice(&bytes[..count]);
    assert!(again.received(count).is_ok(), "sealed and refused");
    let mut expected = packet.offload;
    // The header has one flag for a checksum that is to be completed or was verified.
    expected.verified &= expected.checksum.is_none();
    assert_eq!(again.offload, expected);
    assert_eq!(again.frame(), packet.frame());
}

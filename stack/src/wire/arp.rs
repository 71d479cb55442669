//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{Malformed, read_u16, write_u16};
use crate::MacAddr;

/// Octets of a message about IPv4 over Ethernet.
pub const LENGTH: usize = 28;

/// What a message asks or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has its address.
    Reply,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's IP address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// The target's MAC address; meaningless in a request.
    pub target_mac: MacAddr,
    /// The target's IP address.
    pub target: Ipv4Addr,
}

impl Message {
    /// Reads the message behind an Ethernet header; padding may follow.
    pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
        let Some(bytes) = bytes.first_chunk::<LENGTH>() else {
            return Err(Malformed("shorter than an ARP message"));
        };
        if bytes[..6] != [0, 1, 0x08, 0, 6, 4] {
            return Err(Malformed("not about IPv4 over Ethernet"));
        }
        let mac = |at: usize| {
            MacAddr([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4], bytes[at + 5]])
        };
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let operation = match read_u16(bytes, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Malformed("neither a request nor a reply")),
        };
        Ok(Message {
            operation,
            sender_mac: mac(8),
            sender: address(14),
            target_mac: mac(18),
            target: address(24),
        })
    }

    /// Writes the message into the first 28 octets of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        bytes[..6].copy_from_slice(&[0, 1, 0x08, 0, 6, 4]);
        write_u16(bytes, 6, if self.operation == Operation::Request { 1 } else { 2 });
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_linux_is_read_and_written_back() {
        let bytes = [
            0, 1, 8, 0, 6, 4, 0, 1, 0x02, 0x42, 0xc6, 0x12, 0, 2, 198, 18, 0, 2, 0, 0, 0, 0, 0, 0, 198, 18,
            0, 1,
        ];
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.operation, Operation::Request);
        assert_eq!(message.sender, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(message.target, Ipv4Addr::new(198, 18, 0, 1));
        let mut again = [0; LENGTH];
        message.emit(&mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn other_hardware_and_short_messages_are_refused() {
        assert!(Message::parse(&[0; 27]).is_err());
        assert!(
            Message::parse(&[
                0, 6, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            ])
            .is_err()
        );
    }
}

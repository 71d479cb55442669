//! ICMP (RFC 792, RFC 1191).

use std::fmt;

use super::checksum::{self, Sum};
use super::{Malformed, read_u16, write_u16};

/// Octets of the header that every message used here has.
pub const HEADER_LENGTH: usize = 8;
/// Largest error message, as an IP packet, in octets (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR: usize = 576;

/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 8;

/// The errors that a router sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Type 3 code 0.
    NetUnreachable,
    /// Type 3 code 1.
    HostUnreachable,
    /// Type 3 code 2.
    ProtocolUnreachable,
    /// Type 3 code 3.
    PortUnreachable,
    /// Type 3 code 4, with the MTU of the next hop.
    FragmentationNeeded(u16),
    /// Type 3 code 13 (RFC 1812 section 5.2.7.1).
    Prohibited,
    /// Type 11 code 0.
    TtlExceeded,
    /// Type 11 code 1.
    ReassemblyTimeExceeded,
    /// Type 12 code 0, with the octet of the header that is wrong.
    ParameterProblem(u8),
}

impl Error {
    fn type_code_rest(self) -> (u8, u8, u32) {
        match self {
            Error::NetUnreachable => (3, 0, 0),
            Error::HostUnreachable => (3, 1, 0),
            Error::ProtocolUnreachable => (3, 2, 0),
            Error::PortUnreachable => (3, 3, 0),
            Error::FragmentationNeeded(mtu) => (3, 4, u32::from(mtu)),
            Error::Prohibited => (3, 13, 0),
            Error::TtlExceeded => (11, 0, 0),
            Error::ReassemblyTimeExceeded => (11, 1, 0),
            Error::ParameterProblem(pointer) => (12, 0, u32::from(pointer) << 24),
        }
    }

    /// Writes the whole message; the quoted packet already stands behind the first 8 octets. The octet
    /// where RFC 4884 has the quote's length is zero: no extension follows it.
    pub fn emit(self, message: &mut [u8]) {
        let (kind, code, rest) = self.type_code_rest();
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..HEADER_LENGTH].copy_from_slice(&rest.to_be_bytes());
        let sum = Sum::default().bytes(message).finish();
        write_u16(message, 2, sum);
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NetUnreachable => f.write_str("net unreachable"),
            Error::HostUnreachable => f.write_str("host unreachable"),
            Error::ProtocolUnreachable => f.write_str("protocol unreachable"),
            Error::PortUnreachable => f.write_str("port unreachable"),
            Error::FragmentationNeeded(mtu) => write!(f, "fragmentation needed, MTU {mtu}"),
            Error::Prohibited => f.write_str("administratively prohibited"),
            Error::TtlExceeded => f.write_str("TTL exceeded"),
            Error::ReassemblyTimeExceeded => f.write_str("fragment reassembly time exceeded"),
            Error::ParameterProblem(at) => write!(f, "parameter problem at octet {at}"),
        }
    }
}

/// Whether a message of this type reports an error: no error may be sent about it.
pub fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// The type of `message`, after its checksum was found right.
pub fn check(message: &[u8]) -> Result<u8, Malformed> {
    if message.len() < HEADER_LENGTH {
        return Err(Malformed("shorter than an ICMP header"));
    }
    if Sum::default().bytes(message).folded() != 0xffff {
        return Err(Malformed("wrong checksum"));
    }
    Ok(message[0])
}

/// Turns an echo request into its reply.
pub fn reply_to_echo(message: &mut [u8]) {
    let old = read_u16(message, 0);
    message[0] = ECHO_REPLY;
    let mut sum = checksum::update(read_u16(message, 2), old, read_u16(message, 0));
    if sum == 0 {
        // The update cannot tell the two zeros apart (RFC 1624 section 3); of nothing but zeros it is ones.
        write_u16(message, 2, 0);
        sum = Sum::default().bytes(message).finish();
    }
    write_u16(message, 2, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_reply_has_the_right_checksum() {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4, 5];
        let sum = Sum::default().bytes(&message).finish();
        write_u16(&mut message, 2, sum);
        assert_eq!(check(&message), Ok(ECHO_REQUEST));
        reply_to_echo(&mut message);
        assert_eq!(check(&message), Ok(ECHO_REPLY));
    }

    #[test]
    fn a_reply_of_nothing_but_zeros_has_the_right_checksum() {
        let mut message = [8, 0, 0xf7, 0xff, 0, 0, 0, 0, 0, 0];
        assert_eq!(check(&message), Ok(ECHO_REQUEST));
        reply_to_echo(&mut message);
        assert_eq!(check(&message), Ok(ECHO_REPLY));
    }

    #[test]
    fn fragmentation_needed_tells_the_mtu_where_rfc_1191_says() {
        let mut message = [0xff; 36];
        Error::FragmentationNeeded(1400).emit(&mut message);
        assert_eq!(check(&message), Ok(3));
        assert_eq!(message[1], 4);
        assert_eq!(message[4..8], [0, 0, 0x05, 0x78]);
    }

    #[test]
    fn a_parameter_problem_points_in_the_first_octet_of_the_second_word() {
        let mut message = [0xff; 36];
        Error::ParameterProblem(21).emit(&mut message);
        assert_eq!(check(&message), Ok(12));
        assert_eq!(message[4..8], [21, 0, 0, 0]);
    }
}

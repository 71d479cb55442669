//! As much of SCTP's common header (RFC 9260 section 3.1) as its checksum needs.

/// Protocol number.
pub const PROTOCOL: u8 = 132;
/// Octets of the common header.
pub const HEADER_LENGTH: usize = 12;
/// Where the CRC32c is in the header.
pub const CHECKSUM: usize = 8;

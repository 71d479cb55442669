//! Where UDP's header (RFC 768) has its fields.

/// Octets of the header.
pub const HEADER_LENGTH: usize = 8;
/// Where the checksum is; zero says that there is none, and a computed zero is sent as ones.
pub const CHECKSUM: usize = 6;

/// Where the datagram's length is, header included.
pub(crate) const LENGTH: usize = 4;

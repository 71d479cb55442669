//! What IGMP and MLD have in common: queries, reports and their records. The messages differ only in the length of
//! an address and of two fields; [`igmp`](super::igmp) and [`mld`](super::mld) know these.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Malformed, read_u16};

/// A message that a snooping switch looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A router asks who listens.
    Query(Query),
    /// A host says what it listens to.
    Report(Report<'a>),
}

/// A question of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The group that it asks for; `None`: all.
    pub group: Option<IpAddr>,
    /// Within this time hosts answer.
    pub max_response: Duration,
    /// It asks for certain sources only.
    pub of_sources: bool,
    /// Routers are not to shorten their timers (the S flag; RFC 3376 section 4.1.5).
    pub suppress: bool,
    /// The querier's robustness variable, if it told.
    pub robustness: Option<u8>,
    /// The querier's query interval, if it told.
    pub interval: Option<Duration>,
}

/// What a host tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report<'a> {
    /// It listens to one group (IGMPv1, IGMPv2, MLDv1).
    Join(IpAddr),
    /// It no longer listens to one group (IGMPv2, MLDv1).
    Leave(IpAddr),
    /// Several groups (IGMPv3, MLDv2).
    Records(Records<'a>),
}

/// What a record of a group is about (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Present state: these sources only.
    IsInclude,
    /// Present state: all sources but these.
    IsExclude,
    /// From now on these sources only.
    ToInclude,
    /// From now on all sources but these.
    ToExclude,
    /// These sources, too.
    Allow,
    /// These sources no longer.
    Block,
}

/// One group in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it says; `None`: a kind that is not known, which is to be ignored.
    pub kind: Option<RecordKind>,
    /// The group.
    pub group: IpAddr,
    /// How many sources it names.
    pub sources: usize,
}

/// The records of a report, whose lengths are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
    count: usize,
    address: usize,
}

/// Octets of a record without its addresses.
const RECORD: usize = 4;

impl<'a> Records<'a> {
    /// Checks `count` records with addresses of `address` octets, 4 or 16.
    pub(super) fn check(bytes: &'a [u8], count: usize, address: usize) -> Result<Records<'a>, Malformed> {
        let mut at = 0;
        for _ in 0..count {
            let Some(record) = bytes.get(at..at + RECORD + address) else {
                return Err(Malformed("a group record is cut short"));
            };
            at += record_length(record, address);
        }
        if at > bytes.len() {
            return Err(Malformed("the sources of a group record are cut short"));
        }
        Ok(Records { bytes, count, address })
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.count = self.count.checked_sub(1)?;
        let (record, rest) = self.bytes.split_at_checked(record_length(self.bytes, self.address))?;
        self.bytes = rest;
        Some(Record {
            kind: record_kind(record[0]),
            group: address(&record[RECORD..], self.address)?,
            sources: usize::from(read_u16(record, 2)),
        })
    }
}

/// Octets of the record at the start of `bytes`, whose fixed part is there.
fn record_length(bytes: &[u8], address: usize) -> usize {
    let auxiliary = usize::from(bytes[1]) * 4;
    RECORD + address + usize::from(read_u16(bytes, 2)) * address + auxiliary
}

fn record_kind(number: u8) -> Option<RecordKind> {
    Some(match number {
        1 => RecordKind::IsInclude,
        2 => RecordKind::IsExclude,
        3 => RecordKind::ToInclude,
        4 => RecordKind::ToExclude,
        5 => RecordKind::Allow,
        6 => RecordKind::Block,
        _ => return None,
    })
}

/// The address of 4 or 16 octets at the start of `bytes`.
pub(super) fn address(bytes: &[u8], length: usize) -> Option<IpAddr> {
    if length == 4 {
        bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into())
    } else {
        bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into())
    }
}

/// The group that a message is about.
pub(super) fn group(address: IpAddr) -> Result<IpAddr, Malformed> {
    if address.is_multicast() { Ok(address) } else { Err(Malformed("the group is no multicast address")) }
}

/// A code of 8 bits: a number below 128, or a float with 4 bits of mantissa (RFC 3376 section 4.1.1).
pub(super) fn code_8(code: u8) -> u64 {
    if code < 128 {
        return code.into();
    }
    (u64::from(code & 0x0f) | 0x10) << (((code >> 4) & 7) + 3)
}

/// A code of 16 bits: a number below 32,768, or a float with 12 bits of mantissa (RFC 3810 section 5.1.3).
pub(super) fn code_16(code: u16) -> u64 {
    if code < 32_768 {
        return code.into();
    }
    (u64::from(code & 0x0fff) | 0x1000) << (((code >> 12) & 7) + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfcs() {
        assert_eq!((code_8(100), code_8(127)), (100, 127));
        assert_eq!((code_8(0x80), code_8(0xff)), (128, 31_744), "the largest of RFC 3376");
        assert_eq!((code_16(10_000), code_16(0x8000)), (10_000, 32_768));
        assert_eq!(code_16(0xffff), 8_387_584, "the largest of RFC 3810");
    }
}

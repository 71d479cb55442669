//! The netlink socket of netfilter: requests, dumps, and batches that are one transaction.
//!
//! What the messages say is left to [`nft`](crate::nft) and [`conntrack`](crate::conntrack).

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::link::{
    BUFFER_LENGTH, DUMP_ATTEMPTS, Failure, HEADER_LENGTH, answers, connected, part, receive, split,
};
use crate::socket::grow_buffer;
use crate::{Error, Result};

pub(crate) use attribute::{Attributes, attributes, number, text};

mod attribute;

/// A batch is one datagram: room for more than ten thousand elements.
const SEND_BUFFER: i32 = 4 * 1024 * 1024;
/// Length of `struct nfgenmsg`: family, version, resource.
const FAMILY_LENGTH: usize = 4;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` of linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The result of a transaction, before anybody has said what it was about.
pub(crate) type Answer = std::result::Result<(), Failure>;

/// A message of a netfilter subsystem.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The subsystem, and its number of what is asked for: `NFNL_SUBSYS_… << 8 | …`.
    pub kind: u16,
    /// `NFPROTO_…`.
    pub family: u8,
    /// `NLM_F_…`, beside those that every request has.
    pub flags: u16,
    /// What comes behind the headers.
    pub attributes: Attributes,
}

/// A blocking `NETLINK_NETFILTER` socket. It belongs to the namespace that the thread was in when it was opened.
#[derive(Debug)]
pub(crate) struct Netfilter {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netfilter {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Netfilter> {
        let open = || -> io::Result<Socket> {
            let socket = connected(NETLINK_NETFILTER)?;
            grow_buffer(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::os("open", "a netfilter socket", source))?;
        Ok(Netfilter { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_LENGTH) })
    }

    /// Asks, and gives what comes behind the headers of each message of the answer to `each`. The whole answer is
    /// read even when `each` fails.
    pub fn ask(&mut self, request: &Request, each: impl FnMut(&[u8]) -> Answer) -> Answer {
        self.transact(request, NLM_F_ACK, each)
    }

    /// Asks for all objects and decodes each; `None` leaves one out.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> std::result::Result<Vec<T>, Failure> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let dumped = self.transact(request, NLM_F_DUMP, |body| {
                found.extend(decode(body));
                Ok(())
            });
            match dumped {
                Ok(()) => return Ok(found),
                Err(Failure::Interrupted) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Interrupted)
    }

    /// Carries out all `requests` or none of them. The first refusal is the error.
    pub fn commit(&mut self, subsystem: u8, requests: &[Request]) -> Answer {
        let Some(last) = requests.len().checked_sub(1) else { return Ok(()) };
        let frame = |kind| Request { kind, family: 0, flags: 0, attributes: Attributes::default() };
        let first = self.next_sequence();
        let mut datagram = Vec::new();
        write(&mut datagram, &frame(BATCH_BEGIN), 0, u16::from(subsystem), first);
        let mut sequence = first;
        for (index, request) in requests.iter().enumerate() {
            sequence = self.next_sequence();
            write(&mut datagram, request, if index == last { NLM_F_ACK } else { 0 }, 0, sequence);
        }
        let end = self.next_sequence();
        write(&mut datagram, &frame(BATCH_END), 0, u16::from(subsystem), end);
        self.socket.send(&datagram, 0).map_err(Failure::Socket)?;
        self.outcome(first, sequence)
    }

    /// Reads until the last request of a batch was answered, or the batch as such was refused.
    fn outcome(&mut self, first: u32, last: u32) -> Answer {
        let mut outcome = Ok(());
        loop {
            receive(&self.socket, &mut self.buffer).map_err(Failure::Socket)?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                let sequence = message.sequence_number();
                // What an earlier batch left, when it was refused as such.
                if sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                if let Err(failure) = part(&message) {
                    outcome = outcome.and(Err(failure));
                    if sequence == first {
                        return outcome;
                    }
                }
                if sequence == last {
                    return outcome;
                }
            }
        }
    }

    fn transact(&mut self, request: &Request, flags: u16, mut each: impl FnMut(&[u8]) -> Answer) -> Answer {
        let sequence = self.next_sequence();
        let mut datagram = Vec::new();
        write(&mut datagram, request, flags, 0, sequence);
        self.socket.send(&datagram, 0).map_err(Failure::Socket)?;
        answers(&self.socket, &mut self.buffer, sequence, |_, payload| {
            each(payload.get(FAMILY_LENGTH..).unwrap_or_default())
        })
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// Appends a message with its headers; all lengths are multiples of four.
fn write(datagram: &mut Vec<u8>, request: &Request, flags: u16, resource: u16, sequence: u32) {
    let body = request.attributes.octets();
    // A datagram never gets near to this.
    let length = u32::try_from(HEADER_LENGTH + FAMILY_LENGTH + body.len()).unwrap_or(u32::MAX);
    datagram.extend(length.to_ne_bytes());
    datagram.extend(request.kind.to_ne_bytes());
    datagram.extend((NLM_F_REQUEST | request.flags | flags).to_ne_bytes());
    datagram.extend(sequence.to_ne_bytes());
    datagram.extend(0u32.to_ne_bytes());
    datagram.extend([request.family, 0]);
    datagram.extend(resource.to_be_bytes());
    datagram.extend(body);
}

//! A blocking netlink socket: request and acknowledgement, request and answer, dumps.
//!
//! The answers' attributes are left to the callers; refusals become errors that carry the kernel's sentence.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NlasIterator, parse_i32, parse_u32,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{Error, Result};

/// A dump's datagram is at most 32 KiB; other answers are smaller.
pub(crate) const BUFFER_LENGTH: usize = 64 * 1024;
/// Length of `struct nlmsghdr`.
pub(crate) const HEADER_LENGTH: usize = 16;
/// The attribute of an acknowledgement that holds a sentence.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump that others keep changing is begun again this often.
pub(crate) const DUMP_ATTEMPTS: usize = 16;

/// A blocking `NETLINK_ROUTE` socket. It belongs to the namespace that the thread was in when it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What an operation is called in an error.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// "add link", "list", …
    pub operation: &'static str,
    /// On what.
    pub object: &'a str,
}

/// Why a transaction failed.
pub(crate) enum Failure {
    /// The socket's own trouble.
    Socket(io::Error),
    /// The kernel said no.
    Refused { code: i32, detail: Option<String> },
    /// The answer cannot be understood.
    Malformed(String),
    /// What was dumped changed meanwhile.
    Interrupted,
}

/// One message of an answer.
pub(crate) enum Part<'a> {
    /// The acknowledgement, or the end of a dump.
    End,
    /// Content.
    Item { kind: u16, payload: &'a [u8] },
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Netlink> {
        let socket =
            connected(NETLINK_ROUTE).map_err(|source| Error::os("open", "a netlink socket", source))?;
        Ok(Netlink { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_LENGTH) })
    }

    /// Asks for a change and waits until it is done.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16, wish: Wish<'_>) -> Result<()> {
        self.transact(message, NLM_F_REQUEST | NLM_F_ACK | flags, |_, _| Ok(()))
            .map_err(|failure| wish.failed(failure))
    }

    /// Asks for one message and returns its payload; it must be of `kind`.
    pub(crate) fn get(&mut self, message: RouteNetlinkMessage, kind: u16, wish: Wish<'_>) -> Result<Vec<u8>> {
        let mut answer = None;
        self.transact(message, NLM_F_REQUEST | NLM_F_ACK, |received, payload| {
            if received == kind {
                answer = Some(payload.to_vec());
            }
            Ok(())
        })
        .and_then(|()| answer.ok_or_else(|| Failure::Malformed(format!("no message of type {kind}"))))
        .map_err(|failure| wish.failed(failure))
    }

    /// Asks for all objects. `decode` gets the payload of every message of `kind`; `None` leaves one out.
    pub(crate) fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        kind: u16,
        decode: impl Fn(&[u8]) -> std::result::Result<Option<T>, netlink_packet_core::DecodeError>,
        wish: Wish<'_>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let dumped = self.transact(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, |received, payload| {
                if received == kind {
                    found.extend(decode(payload).map_err(|error| Failure::Malformed(error.to_string()))?);
                }
                Ok(())
            });
            match dumped {
                Ok(()) => return Ok(found),
                Err(Failure::Interrupted) => {}
                Err(failure) => return Err(wish.failed(failure)),
            }
        }
        Err(wish.failed(Failure::Interrupted))
    }

    /// Sends a request and gives the messages of the answer to `each`. The whole answer is read even when
    /// `each` fails, so that nothing of it is left for the next transaction.
    fn transact(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        each: impl FnMut(u16, &[u8]) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(message, flags).map_err(Failure::Socket)?;
        answers(&self.socket, &mut self.buffer, self.sequence, each)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        self.buffer.clear();
        self.buffer.resize(message.buffer_len(), 0);
        message.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0)?;
        Ok(())
    }
}

/// A socket of a netlink protocol in the namespace of the calling thread, whose refusals come with a sentence.
pub(crate) fn connected(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_cap_ack(true)?;
    socket.set_ext_ack(true)?;
    Ok(socket)
}

/// Gives the messages of the answer to a request to `each`, with their kinds. The whole answer is read even when `each`
/// fails.
pub(crate) fn answers(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    sequence: u32,
    mut each: impl FnMut(u16, &[u8]) -> std::result::Result<(), Failure>,
) -> std::result::Result<(), Failure> {
    let mut outcome = Ok(());
    loop {
        receive(socket, buffer).map_err(Failure::Socket)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let (message, after) = split(rest)?;
            rest = after;
            if message.sequence_number() != sequence {
                continue;
            }
            if message.flags() & NLM_F_DUMP_INTR != 0 && outcome.is_ok() {
                outcome = Err(Failure::Interrupted);
            }
            match part(&message)? {
                Part::End => return outcome,
                Part::Item { kind, payload } if outcome.is_ok() => outcome = each(kind, payload),
                Part::Item { .. } => {}
            }
        }
    }
}

/// Reads the next datagram.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv(buffer, libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink answer above 64 KiB"));
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Wish<'_> {
    /// The failure of this operation as an error.
    pub(crate) fn failed(self, failure: Failure) -> Error {
        let (operation, object) = (self.operation, self.object.to_owned());
        match failure {
            Failure::Socket(source) => Error::Os { operation, object, source },
            Failure::Refused { code, detail } => {
                Error::Netlink { operation, object, detail, source: io::Error::from_raw_os_error(code) }
            }
            Failure::Malformed(reason) => Error::Malformed { operation, object, reason },
            Failure::Interrupted => {
                Error::Os { operation, object, source: io::Error::from_raw_os_error(libc::EAGAIN) }
            }
        }
    }
}

/// The first message of a datagram and what follows it.
pub(crate) fn split(datagram: &[u8]) -> std::result::Result<(NetlinkBuffer<&[u8]>, &[u8]), Failure> {
    let message =
        NetlinkBuffer::new_checked(datagram).map_err(|error| Failure::Malformed(error.to_string()))?;
    let aligned = (message.length() as usize).next_multiple_of(4);
    Ok((message, datagram.get(aligned..).unwrap_or_default()))
}

/// What a message says; a refusal is an error.
pub(crate) fn part<'a>(message: &NetlinkBuffer<&'a [u8]>) -> std::result::Result<Part<'a>, Failure> {
    let payload = message.payload();
    let kind = message.message_type();
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        return Ok(Part::Item { kind, payload });
    }
    let code = payload.get(..4).and_then(|bytes| parse_i32(bytes).ok()).unwrap_or(0);
    if code == 0 {
        return Ok(Part::End);
    }
    let detail =
        if message.flags() & NLM_F_ACK_TLVS != 0 { sentence(kind, message.flags(), payload) } else { None };
    Err(Failure::Refused { code: code.wrapping_neg(), detail })
}

/// The sentence of an extended acknowledgement: after the code in a `NLMSG_DONE`; after the code and the
/// header of the request, with its payload unless that was capped, in a `NLMSG_ERROR`.
fn sentence(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
    let start = if kind == NLMSG_DONE {
        4
    } else if flags & NLM_F_CAPPED != 0 {
        4 + HEADER_LENGTH
    } else {
        4 + (parse_u32(payload.get(4..8)?).ok()? as usize).next_multiple_of(4)
    };
    NlasIterator::new(payload.get(start..)?)
        .map_while(std::result::Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG && attribute.value_length() > 0)
        .map(|attribute| super::decode::text(attribute.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_found_behind_a_capped_request() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER_LENGTH]);
        payload.extend([8, 0, 1, 0, b'n', b'o', b'!', 0]);
        assert_eq!(sentence(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload).unwrap(), "no!");
    }

    #[test]
    fn a_cut_acknowledgement_has_no_sentence() {
        let payload = (-libc::EINVAL).to_ne_bytes();
        assert_eq!(sentence(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload), None);
        assert_eq!(sentence(NLMSG_ERROR, NLM_F_ACK_TLVS, &payload), None);
    }
}

//! What changes in tables of nf_tables.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use super::{BURST, KernelChange, KernelEvent, RECEIVE_BUFFER, note};
use crate::netfilter::{attributes, text};
use crate::nft::{SUBSYSTEM, TABLE, generation_of, kind};
use crate::socket::grow_buffer;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Length of `struct nfgenmsg`.
const FAMILY_LENGTH: usize = 4;

/// Hears of changes of tables. The kernel tells of all that a transaction changed, and then of its generation.
#[derive(Debug)]
pub(super) struct Rulesets {
    socket: Socket,
    /// The tables of the transaction that is being told.
    changed: BTreeSet<String>,
}

impl Rulesets {
    /// Listens from now on.
    pub fn listen() -> io::Result<Rulesets> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        grow_buffer(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Rulesets { socket, changed: BTreeSet::new() })
    }

    /// To wait for it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads what there is.
    pub fn read_burst(&mut self, buffer: &mut [u8], events: &mut Vec<KernelEvent>) -> io::Result<()> {
        for _ in 0..BURST {
            let mut room: &mut [u8] = buffer;
            match self.socket.recv(&mut room, libc::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => self.lost(events),
                Ok(length) => self.interpret(&buffer[..length], events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.lost(events),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn interpret(&mut self, datagram: &[u8], events: &mut Vec<KernelEvent>) {
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(rest) else { return self.lost(events) };
            let [subsystem, about] = message.message_type().to_be_bytes();
            if subsystem == SUBSYSTEM {
                let body = message.payload().get(FAMILY_LENGTH..).unwrap_or_default();
                self.heard(about, body, events);
            }
            rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn heard(&mut self, about: u8, body: &[u8], events: &mut Vec<KernelEvent>) {
        if about != kind::NEW_GENERATION {
            let table = attributes(body).find(|(kind, _)| *kind == TABLE);
            self.changed.extend(table.map(|(_, name)| text(name)));
            return;
        }
        let Some(generation) = generation_of(body) else { return self.lost(events) };
        for name in std::mem::take(&mut self.changed) {
            note(events, KernelEvent { nsid: None, what: KernelChange::Table { name, generation } });
        }
    }

    fn lost(&mut self, events: &mut Vec<KernelEvent>) {
        self.changed.clear();
        note(events, KernelEvent { nsid: None, what: KernelChange::Overrun });
    }
}

//! A port's device as a worker sees it: something to read batches from and to write frames to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_host::fastpath::{Passage, Totals};
use weft_host::packet::{PacketSocket, Tags};
use weft_host::tap::TapQueue;
use weft_stack::batch::{BATCH, Batch};
use weft_stack::packet::Packet;

/// The open ends of a port's device, a queue each. Dropping it closes them.
#[derive(Debug)]
pub struct PortIo {
    ends: Ends,
    counters: Box<[QueueCounters]>,
    losses: Mutex<Losses>,
}

#[derive(Debug)]
enum Ends {
    Tap(Vec<TapQueue>),
    /// Of the stack's end of a veth pair, or of a network card; and how packets pass by the fast path there.
    Packet(Vec<PacketSocket>, Option<Passage>),
}

/// What came by one queue since it was opened; written by the worker that owns it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct QueueCounters {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
}

/// What the kernel has thrown away, as it was when somebody asked last.
#[derive(Debug, Default)]
struct Losses {
    /// The device's count when it was opened: what was lost before is not this daemon's loss.
    before: u64,
    since: u64,
    asked: Option<Instant>,
}

/// A device's count is not asked for more often: it takes a system call or more a port.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A round ends when it has read this many octets: super-packets are then handled one by one in a buffer
/// that stays in the cache, small packets in batches.
const ROUND_OCTETS: usize = 32 * 1024;

/// Buffers offered to a packet socket at once while large frames come.
const LARGE_FRAMES: usize = 2;

/// What a round of reading found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// There may be more.
    Some,
    /// The queue is empty now.
    Drained,
    /// The device is gone, or went down.
    Lost {
        /// The queue cannot come back: its device is gone.
        closed: bool,
    },
}

/// Frames that were read but not taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// With an impossible virtio-net header.
    pub invalid: usize,
    /// Longer than any buffer.
    pub too_long: usize,
}

impl PortIo {
    /// The queues of a TAP device, at least one. `new`: the device was made with them.
    pub fn tap(queues: Vec<TapQueue>, new: bool) -> PortIo {
        let lost = |queue: &TapQueue| queue.device_drops().ok();
        let before = if new { None } else { queues.first().and_then(lost) }.unwrap_or(0);
        PortIo::new(queues.len(), Ends::Tap(queues), Losses { before, ..Losses::default() })
    }

    /// The packet sockets of one link, at least one, and that link's part in the fast path.
    pub fn packet(sockets: Vec<PacketSocket>, passage: Option<Passage>) -> PortIo {
        PortIo::new(sockets.len(), Ends::Packet(sockets, passage), Losses::default())
    }

    fn new(queues: usize, ends: Ends, losses: Losses) -> PortIo {
        let counters = (0..queues).map(|_| QueueCounters::default()).collect();
        PortIo { ends, counters, losses: Mutex::new(losses) }
    }

    /// Whether it reads by packet sockets.
    pub fn is_packet(&self) -> bool {
        matches!(self.ends, Ends::Packet(..))
    }

    /// The part that its link has in the fast path.
    pub fn passage(&self) -> Option<&Passage> {
        match &self.ends {
            Ends::Packet(_, passage) => passage.as_ref(),
            Ends::Tap(_) => None,
        }
    }

    /// What went by the fast path since this was opened.
    pub(super) fn replayed(&self) -> Totals {
        self.passage().map(Passage::totals).unwrap_or_default()
    }

    /// Receive queues.
    pub fn queues(&self) -> usize {
        self.counters.len()
    }

    /// What came by each queue.
    pub(super) fn counters(&self) -> &[QueueCounters] {
        &self.counters
    }

    /// Frames that the kernel has thrown away since this was opened, because no worker read them in time.
    /// For the control side.
    pub(super) fn overflows(&self) -> u64 {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if losses.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return losses.since;
        }
        losses.asked = Some(Instant::now());
        let now = match &self.ends {
            Ends::Tap(queues) => queues.first().and_then(|queue| queue.device_drops().ok()),
            Ends::Packet(sockets, _) => sockets.iter().map(|socket| socket.drops().ok()).sum(),
        };
        // A device that is gone tells nothing, and one that was made anew counts from zero.
        losses.since = losses.since.max(now.unwrap_or(0).saturating_sub(losses.before));
        losses.since
    }

    /// Hears frames with these tags alone; `None`: all. A TAP hears what its user sends.
    ///
    /// # Errors
    /// As [`PacketSocket::admit`]; queues after one that fails are told as well.
    pub fn admit(&self, tags: Option<&Tags>) -> io::Result<()> {
        match &self.ends {
            Ends::Tap(_) => Ok(()),
            Ends::Packet(sockets, _) => {
                sockets.iter().map(|socket| socket.admit(tags)).fold(Ok(()), io::Result::and)
            }
        }
    }

    /// What to wait on for a queue.
    pub(super) fn fd(&self, queue: usize) -> BorrowedFd<'_> {
        match &self.ends {
            Ends::Tap(queues) => queues[queue % queues.len()].as_fd(),
            Ends::Packet(sockets, _) => sockets[queue % sockets.len()].as_fd(),
        }
    }

    /// Reads into `batch` until it holds a round's worth or the queue is empty. `large`: the last
    /// round's frames were large. Frames that are not taken in are counted in `refused`.
    pub(super) fn receive(
        &self,
        queue: usize,
        batch: &mut Batch,
        large: bool,
        refused: &mut Refused,
    ) -> Received {
        match &self.ends {
            Ends::Tap(queues) => receive_tap(&queues[queue % queues.len()], batch, refused),
            Ends::Packet(sockets, _) => {
                let room = if large { LARGE_FRAMES } else { BATCH };
                receive_packets(&sockets[queue % sockets.len()], batch, room, refused)
            }
        }
    }

    /// Writes a run of sealed packets. Calls `refused` with the position and error of each that did not go out.
    pub(super) fn send<'a>(
        &self,
        worker: usize,
        packets: impl Iterator<Item = &'a Packet>,
        mut refused: impl FnMut(usize, io::Error),
    ) {
        match &self.ends {
            Ends::Tap(queues) => {
                let queue = &queues[worker % queues.len()];
                for (position, packet) in packets.enumerate() {
                    if let Err(error) = queue.send(packet.device_bytes()) {
                        refused(position, error);
                    }
                }
            }
            Ends::Packet(sockets, _) => send_packets(&sockets[worker % sockets.len()], packets, refused),
        }
    }
}

fn receive_tap(queue: &TapQueue, batch: &mut Batch, refused: &mut Refused) -> Received {
    let mut octets = 0;
    while batch.packets().len() < BATCH && octets < ROUND_OCTETS {
        let packet = batch.vacant();
        match queue.recv(packet.receive_area()) {
            Ok(0) => return Received::Drained,
            Ok(count) => {
                octets += count;
                match packet.received(count) {
                    Ok(()) => batch.commit(1),
                    Err(_) => refused.invalid += 1,
                }
            }
            Err(error) => return outcome(&error),
        }
    }
    Received::Some
}

fn receive_packets(socket: &PacketSocket, batch: &mut Batch, room: usize, refused: &mut Refused) -> Received {
    let mut lengths = [0; BATCH];
    let received = {
        let mut areas: [&mut [u8]; BATCH] = std::array::from_fn(|_| &mut [][..]);
        for (area, packet) in areas.iter_mut().zip(batch.vacant_many(room)) {
            *area = packet.receive_area();
        }
        match socket.recv_batch(&mut areas[..room], &mut lengths[..room]) {
            Ok(received) => received,
            Err(error) => return outcome(&error),
        }
    };
    take_in(batch, &lengths[..received], refused);
    if received < room { Received::Drained } else { Received::Some }
}

/// Takes what was written to the next buffers into the batch; a frame that is not taken in changes
/// places with the next.
fn take_in(batch: &mut Batch, lengths: &[usize], refused: &mut Refused) {
    let vacant = batch.vacant_many(lengths.len());
    let mut valid = 0;
    for (index, length) in lengths.iter().enumerate() {
        match vacant[index].received(*length) {
            Ok(()) => {
                vacant.swap(valid, index);
                valid += 1;
            }
            // The socket says so of a frame that did not fit the buffer.
            Err(_) if *length == 0 => refused.too_long += 1,
            Err(_) => refused.invalid += 1,
        }
    }
    batch.commit(valid);
}

fn outcome(error: &io::Error) -> Received {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Received::Drained,
        // A link that is down says so once; a TAP queue without its device says so for ever.
        io::ErrorKind::NetworkDown => Received::Lost { closed: false },
        _ => Received::Lost { closed: true },
    }
}

fn send_packets<'a>(
    socket: &PacketSocket,
    packets: impl Iterator<Item = &'a Packet>,
    mut refused: impl FnMut(usize, io::Error),
) {
    let mut buffers: [&[u8]; BATCH] = [&[]; BATCH];
    let mut packets = packets.peekable();
    let mut position = 0;
    while packets.peek().is_some() {
        let mut count = 0;
        for (buffer, packet) in buffers.iter_mut().zip(packets.by_ref()) {
            *buffer = packet.device_bytes();
            count += 1;
        }
        let mut done = 0;
        while done < count {
            match socket.send_batch(&buffers[done..count]) {
                Ok(sent) if sent > 0 => done += sent,
                Ok(_) => break,
                Err(error) if is_full(&error) => {
                    // The rest would find it full as well.
                    (done..count).for_each(|at| refused(position + at, io::ErrorKind::WouldBlock.into()));
                    break;
                }
                Err(error) => {
                    refused(position + done, error);
                    done += 1;
                }
            }
        }
        position += count;
    }
}

/// Whether a device refused a frame since it can take no more now.
pub(super) fn is_full(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105;
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        || error.raw_os_error() == Some(ENOBUFS)
}

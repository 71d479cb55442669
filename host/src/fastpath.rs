//! The kernel's fast path: TCP and UDP packets that go from one veth pair to another without leaving the kernel, as
//! somebody has decided for their two stations. Everything else is heard by packet sockets as before.
//!
//! The programs are `bpf/fastpath.c`; its first comment says how the two of them play together. They need Linux 5.11 and
//! CAP_BPF with CAP_NET_ADMIN, or CAP_SYS_ADMIN.

mod layout;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues};
use aya::programs::{Program, ProgramError, ProgramFd};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfError};

use crate::ingress::decide_at_ingress;
use crate::packet::PacketSocket;
use crate::socket::set_option;
use crate::{Error, Result};
use layout::{ActionValue, FlowKey, TotalsValue};

/// What `bpf/build` makes of the source.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/fastpath.o");

/// What is attempted when the programs are loaded.
const LOAD: &str = "load the fast path";

const PREEMPTED: &str = "another packet may come between its two programs";

/// The loaded programs, and what they know.
pub struct FastPath {
    /// Of packet sockets.
    listen: OwnedFd,
    /// Of the ingress behind them.
    forward: OwnedFd,
    flows: Mutex<HashMap<MapData, FlowKey, ActionValue>>,
    // One lock each: they are of different callers.
    picture_stamp: Mutex<Array<MapData, u64>>,
    neighbor_stamp: Mutex<Array<MapData, u64>>,
    ports: Mutex<PerCpuHashMap<MapData, u32, TotalsValue>>,
    /// That the machine may have.
    processors: usize,
    /// Of the next [`Passage`].
    number: AtomicU32,
}

/// Packets between two stations.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    /// Where they arrive.
    pub from: &'a Passage,
    /// Their Ethernet destination.
    pub destination: [u8; 6],
    /// Their Ethernet source.
    pub source: [u8; 6],
    /// Their IP source and destination, of one family.
    pub addresses: (IpAddr, IpAddr),
}

/// What is done with them.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// The link whose peer gets them: an end of a veth pair whose other end is in another namespace.
    pub to: &'a Passage,
    /// Octets of the longest IP packet; of super-packets, of each of their segments. What is longer is heard.
    pub mtu: u32,
    /// Ethernet destination and source that they get, with a TTL less by one; `None`: they are not changed.
    pub routed: Option<([u8; 6], [u8; 6])>,
    /// It holds while these are what [`FastPath::set_picture_stamp`] and, if it is routed,
    /// [`FastPath::set_neighbor_stamp`] were told last...
    pub stamps: Stamps,
    /// ...and until then by [`monotonic_nanos`], give or take a tick of the kernel's clock.
    pub until: Option<u64>,
}

/// What an [`Action`] rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Of what was configured.
    pub picture: u64,
    /// Of what was learned of neighbours.
    pub neighbors: u64,
}

/// What has passed a link by the fast path alone. Super-packets count as one; octets are those of Ethernet frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames that arrived at it and went on.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_bytes: u64,
    /// Frames that were given to its peer.
    pub tx_packets: u64,
    /// Octets of them.
    pub tx_bytes: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Totals) {
        self.rx_packets += more.rx_packets;
        self.rx_bytes += more.rx_bytes;
        self.tx_packets += more.tx_packets;
        self.tx_bytes += more.tx_bytes;
    }
}

impl FastPath {
    /// Gives the programs to the kernel. They know of no packets, and both stamps are 0.
    ///
    /// # Errors
    /// The kernel lacks something that the programs need, or does not let this process load them; or it is one for real
    /// time, where another packet may come between the two programs.
    pub fn load() -> Result<FastPath> {
        if is_realtime() {
            return Err(Error::os(
                "load the fast path into",
                "a kernel for real time",
                io::Error::other(PREEMPTED),
            ));
        }
        let loaded = load();
        give_back();
        loaded
    }

    /// Has packets of `flow` go on like this, in place of what was said of them before. The kernel forgets those that
    /// were not seen for the longest time when there are too many.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn keep(&self, flow: &Flow<'_>, action: &Action<'_>) -> Result<()> {
        let key = FlowKey::new(flow.from.index, flow);
        let value = ActionValue::new(action.to.index, [flow.from.number, action.to.number], action, key);
        let kept = lock(&self.flows).insert(key, value, 0);
        kept.map_err(|error| Error::bpf("keep a flow in the fast path", error))
    }

    /// Ends all that was kept with other stamps of the picture, at once.
    ///
    /// # Errors
    /// None that a kernel with this map gives.
    pub fn set_picture_stamp(&self, stamp: u64) -> Result<()> {
        set_stamp(&self.picture_stamp, stamp)
    }

    /// Ends all that was kept with other stamps of neighbours and is routed, at once.
    ///
    /// # Errors
    /// None that a kernel with this map gives.
    pub fn set_neighbor_stamp(&self, stamp: u64) -> Result<()> {
        set_stamp(&self.neighbor_stamp, stamp)
    }

    /// Lets packets of this link of the thread's namespace go by the fast path, which then are not heard by `sockets`:
    /// all packet sockets that are bound to it. Takes the place of [`drop_at_ingress`](crate::ingress::drop_at_ingress).
    ///
    /// # Errors
    /// [`Error::is_gone`] when the link is; or the kernel refuses a part of it. The sockets hear everything then.
    pub fn admit(self: &Arc<FastPath>, index: u32, sockets: &[PacketSocket]) -> Result<Passage> {
        let empty = vec![TotalsValue::default(); self.processors];
        let values =
            PerCpuValues::try_from(empty).map_err(|source| Error::os("count by", "processor", source))?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let counted = lock(&self.ports).insert(number, values, 0);
        counted.map_err(|error| Error::bpf("count the packets of a link in the fast path", error))?;
        let passage = Passage { path: Arc::clone(self), index, number };
        decide_at_ingress(index, self.forward.as_fd(), "weft_forward")?;
        for socket in sockets {
            let program = self.listen.as_raw_fd();
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, program).map_err(|source| {
                Error::os("attach the fast path to a packet socket of", format!("link {index}"), source)
            })?;
        }
        Ok(passage)
    }
}

/// A link whose packets may go by the fast path. Dropping it forgets what has passed.
pub struct Passage {
    path: Arc<FastPath>,
    index: u32,
    /// By which its packets are counted: the link may be opened anew before this is dropped.
    number: u32,
}

impl Passage {
    /// What has passed so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        // The kernel knows it as long as this lives.
        let found = lock(&self.path.ports).get(&self.number, 0);
        let mut totals = Totals::default();
        for value in found.iter().flat_map(|values| values.iter()) {
            totals += Totals {
                rx_packets: value.rx_packets,
                rx_bytes: value.rx_octets,
                tx_packets: value.tx_packets,
                tx_bytes: value.tx_octets,
            };
        }
        totals
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        // The kernel knows it until now.
        let _ = lock(&self.path.ports).remove(&self.number);
    }
}

impl fmt::Debug for FastPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastPath").finish_non_exhaustive()
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Nanoseconds of the clock by which [`Action::until`] is told: the kernel's monotonic one.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live and exclusively borrowed. The clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    // Neither is negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Whether the kernel is one for real time (PREEMPT_RT), by what it says of its build, or by the file that patched ones
/// have.
fn is_realtime() -> bool {
    let said = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let version = said("/proc/version");
    version.contains("PREEMPT_RT")
        || version.contains("PREEMPT RT")
        || said("/sys/kernel/realtime").trim() == "1"
}

fn set_stamp(map: &Mutex<Array<MapData, u64>>, stamp: u64) -> Result<()> {
    lock(map).set(0, stamp, 0).map_err(|error| Error::bpf("set a stamp of the fast path", error))
}

fn load() -> Result<FastPath> {
    let refused = |error: EbpfError| Error::bpf(LOAD, error);
    let mut object = Ebpf::load(OBJECT).map_err(refused)?;
    let [flows, picture_stamp, neighbor_stamp, ports] =
        maps(&mut object).map_err(|error| refused(error.into()))?;
    let wrong = |error: MapError| refused(error.into());
    Ok(FastPath {
        listen: program(&mut object, "weft_listen")?,
        forward: program(&mut object, "weft_forward")?,
        flows: Mutex::new(flows.try_into().map_err(wrong)?),
        picture_stamp: Mutex::new(picture_stamp.try_into().map_err(wrong)?),
        neighbor_stamp: Mutex::new(neighbor_stamp.try_into().map_err(wrong)?),
        ports: Mutex::new(ports.try_into().map_err(wrong)?),
        processors: nr_cpus().map_err(|(what, source)| Error::os("read", what, source))?,
        number: AtomicU32::new(0),
    })
}

/// Gives memory back that is free. The loader reads the types of the whole kernel, a dozen MiB that nobody needs again.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn maps(object: &mut Ebpf) -> std::result::Result<[Map; 4], MapError> {
    let mut map =
        |name: &str| object.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
    Ok([map("flows")?, map("picture_stamp")?, map("neighbor_stamp")?, map("ports")?])
}

fn program(object: &mut Ebpf, name: &str) -> Result<OwnedFd> {
    let loaded = match object.program_mut(name) {
        Some(Program::SocketFilter(program)) => program.load().and_then(|()| duplicate(program.fd()?)),
        Some(Program::SchedClassifier(program)) => program.load().and_then(|()| duplicate(program.fd()?)),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    loaded.map_err(|error| match error {
        // Without all that the kernel has to say of the program's instructions.
        ProgramError::LoadError { io_error, .. } => Error::os("load the program", name, io_error),
        other => Error::bpf(LOAD, other),
    })
}

fn duplicate(program: &ProgramFd) -> std::result::Result<OwnedFd, ProgramError> {
    program.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one system call: there is nothing that could be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The open ends of the Ports' devices: what the workers read and write.
//!
//! They stay open from pass to pass. One is dropped only after the workers have got a picture without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use weft_host::fastpath::{FastPath, Passage};
use weft_host::ingress::drop_at_ingress;
use weft_host::netns::NetNsId;
use weft_host::packet::{PacketOptions, PacketSocket, Tags};
use weft_host::tap::{Tap, knows_udp_super_packets};
use weft_stack::config::Offloads;

use super::card;
use super::error::{StepError, told};
use super::observe::kernel::Kernel;
use super::place::Place;
use super::plan::{Standing, Subject};
use crate::dataplane::PortIo;
use crate::model::{Fabric, Name, Port};

/// A veth, and a network card by the kernel's help, take all that the kernel knows.
fn all() -> Offloads {
    static USO: OnceLock<bool> = OnceLock::new();
    let uso = *USO.get_or_init(|| {
        knows_udp_super_packets().unwrap_or_else(|error| {
            tracing::warn!("UDP super-packets are cut for veth and uplink Ports: {}", told(&error));
            false
        })
    });
    Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso }
}

/// How many packet sockets or TAPs close at a time.
const CLOSERS: usize = 16;

/// What a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Without help.
    pub offloads: Offloads,
    /// The largest IP packet in octets, where that is not for the Port to say.
    pub mtu: Option<u32>,
    /// Verdicts about its packets may be replayed by the fast path.
    pub replay: bool,
}

/// The open end of one Port's device.
#[derive(Debug, Clone)]
pub struct OpenPort {
    /// What the workers use.
    pub io: Arc<PortIo>,
    /// What the device takes.
    pub terms: Terms,
    /// The device that it is the end of.
    device: (NetNsId, u32),
    /// What it was told to hear, where that is not all. The kernel may have had no room for it.
    admitted: Option<Tags>,
}

impl OpenPort {
    /// Receive queues.
    pub fn queues(&self) -> u32 {
        // At most 16 are ever asked for.
        u32::try_from(self.io.queues()).unwrap_or(u32::MAX)
    }
}

/// The open ends by Port.
#[derive(Debug, Default)]
pub struct Sockets {
    open: BTreeMap<Name, OpenPort>,
    /// Closed to be opened anew within the pass: their Ports stay in the workers' picture, with their counters
    /// and what was learned of them.
    paused: BTreeMap<Name, Terms>,
    fast_path: Option<Arc<FastPath>>,
}

impl Sockets {
    /// None is open. Those of veth pairs will use the fast path, if there is one.
    pub fn new(fast_path: Option<Arc<FastPath>>) -> Sockets {
        Sockets { fast_path, ..Sockets::default() }
    }

    /// The open end of a Port.
    pub fn get(&self, port: &Name) -> Option<&OpenPort> {
        self.open.get(port)
    }

    /// Whether the open end of `port` is of this very device, with as many queues as wished.
    pub fn fits(&self, port: &Name, standing: &Standing<'_>, queues: u32) -> bool {
        self.open.get(port).is_some_and(|open| {
            open.device == standing.opened()
                && open.io.is_packet() == (standing.end.is_some() || standing.device.taken.is_some())
                && open.queues() == queues
        })
    }

    /// All ends, for the workers.
    pub fn shared(&self) -> HashMap<String, Arc<PortIo>> {
        self.open.iter().map(|(name, open)| (name.as_str().to_owned(), Arc::clone(&open.io))).collect()
    }

    /// What the device of a Port takes that is in the workers' picture.
    pub fn terms(&self, port: &Name) -> Option<Terms> {
        self.open.get(port).map(|open| open.terms).or_else(|| self.paused.get(port).copied())
    }

    /// Notes the MTU of a Port's device, where the device decides; whether it is another than before.
    pub fn limit(&mut self, port: &Name, standing: &Standing<'_>) -> bool {
        let Some(open) = self.open.get_mut(port).filter(|open| open.terms.mtu.is_some()) else {
            return false;
        };
        let mtu = Some(standing.device.mtu);
        std::mem::replace(&mut open.terms.mtu, mtu) != mtu
    }

    /// Makes the end of a Port hear these tags alone; `None`: all.
    pub fn admit(&mut self, port: &Name, tags: Option<Tags>) {
        let Some(open) = self.open.get_mut(port).filter(|open| open.admitted != tags) else { return };
        // Noted whatever comes of it: what the kernel has no room for now is not tried in every pass.
        let result = open.io.admit(tags.as_ref());
        open.admitted = tags;
        if let Err(error) = result {
            hears_all(port, &error);
        }
    }

    /// Takes an end out; it is closed when the last that uses it lets go.
    pub fn take(&mut self, port: &Name) -> Option<OpenPort> {
        self.open.remove(port)
    }

    /// Takes all ends out.
    pub fn take_all(&mut self) -> Vec<OpenPort> {
        std::mem::take(&mut self.open).into_values().collect()
    }

    /// As [`Sockets::take`], for an end that shall be opened anew.
    pub fn pause(&mut self, port: &Name) -> Option<OpenPort> {
        let end = self.open.remove(port)?;
        self.paused.insert(port.clone(), end.terms);
        Some(end)
    }

    /// Forgets the Ports that were not opened anew; whether there were any.
    pub fn forget_paused(&mut self) -> bool {
        !std::mem::take(&mut self.paused).is_empty()
    }

    /// Opens the end of a device that stands; `made` are its queues if it was made just now.
    pub fn open(
        &mut self,
        kernel: &mut Kernel,
        fabric: &Fabric,
        (name, port): (&Name, &Port),
        standing: &Standing<'_>,
        made: Option<Tap>,
        queues: u32,
    ) -> Result<(), StepError> {
        let device = standing.opened();
        let open = match (standing.end, made) {
            (Some(end), _) => packet(kernel, self.fast_path.as_ref(), name, end.index, device, queues)?,
            (None, _) if standing.device.taken.is_some() => {
                uplink(kernel, name, standing, queues, card::heard(fabric, name, port))?
            }
            (None, Some(tap)) => tap_port(tap, true, device),
            (None, None) => tap_port(attach(kernel, fabric, port, queues)?, false, device),
        };
        self.paused.remove(name);
        self.open.insert(name.clone(), open);
        Ok(())
    }
}

/// What is being closed. Dropping this waits until it is.
#[derive(Debug, Default)]
pub struct Closing(Vec<JoinHandle<()>>);

impl Closing {
    /// Closes ends that the workers have let go of.
    ///
    /// The kernel takes some 15 ms for a packet socket, most of it waiting: several close at a time, while the
    /// caller goes on. A TAP's queues close at once, and are free to be opened again when this returns.
    pub fn start(&mut self, ends: Vec<OpenPort>) -> &mut Closing {
        self.drop_apart(ends.into_iter().filter(|end| end.io.is_packet()).collect())
    }

    /// Drops what the kernel takes its time for, several at a time, while the caller goes on.
    pub fn drop_apart<T: Send + 'static>(&mut self, mut all: Vec<T>) -> &mut Closing {
        let share = all.len().div_ceil(CLOSERS).max(1);
        while !all.is_empty() {
            let some = all.split_off(all.len().saturating_sub(share));
            // A thread that does not start drops its share here and now.
            let thread = std::thread::Builder::new().name("weft-close".to_owned()).spawn(move || drop(some));
            self.0.extend(thread);
        }
        self
    }

    /// Waits for none of them: nobody opens these ends again.
    pub fn leave(&mut self) {
        self.0.clear();
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // Closing does not panic; if it did, there would be nothing left to wait for.
            let _ = thread.join();
        }
    }
}

/// Says that an end hears what is not its Port's: the stack drops that, at some cost.
fn hears_all(port: &Name, error: &dyn std::error::Error) {
    tracing::warn!(
        object = %Subject::Port(port.clone()),
        "hears the frames of all VLANs of its card, and drops those of others: {}; a larger net.core.optmem_max may help",
        told(error)
    );
}

/// Opens the stack's end of a veth pair.
fn packet(
    kernel: &mut Kernel,
    fast_path: Option<&Arc<FastPath>>,
    port: &Name,
    index: u32,
    device: (NetNsId, u32),
    queues: u32,
) -> Result<OpenPort, StepError> {
    let session = kernel.kept(&Place::Ports).ok_or(StepError::NoGround)?;
    let _entered = session.namespace.enter()?;
    let sockets = PacketSocket::bind_group(index, queues as usize, PacketOptions::default(), None)?;
    let passage = seclude(fast_path, port, index, &sockets);
    let terms = Terms { offloads: all(), mtu: None, replay: passage.is_some() };
    Ok(OpenPort { io: Arc::new(PortIo::packet(sockets, passage)), terms, device, admitted: None })
}

/// Keeps what the sockets read from the kernel's own network stack, and lets the fast path have its part of it, if there is
/// one.
fn seclude(
    fast_path: Option<&Arc<FastPath>>,
    port: &Name,
    index: u32,
    sockets: &[PacketSocket],
) -> Option<Passage> {
    let object = || Subject::Port(port.clone());
    if let Some(fast_path) = fast_path {
        match fast_path.admit(index, sockets) {
            Ok(passage) => return Some(passage),
            // The next pass sees that the device is gone.
            Err(error) if error.is_gone() => {}
            Err(error) => {
                tracing::warn!(object = %object(), "its packets do not go by the fast path: {}", told(&error));
            }
        }
    }
    // Without it frames are looked at once more, in a namespace that has no addresses: slower, not wrong.
    if let Err(error) = drop_at_ingress(index) {
        tracing::debug!(object = %object(), "frames are not dropped at ingress: {}", told(&error));
    }
    None
}

/// Opens a network card, to hear these tags alone. What the card itself cannot take the kernel does on the way there.
fn uplink(
    kernel: &mut Kernel,
    name: &Name,
    standing: &Standing<'_>,
    queues: u32,
    tags: Option<Tags>,
) -> Result<OpenPort, StepError> {
    let session = kernel.kept(&Place::Own).ok_or(StepError::NoGround)?;
    let _entered = session.namespace.enter()?;
    let device = standing.opened();
    // Again, since somebody may have taken it away.
    drop_at_ingress(device.1)?;
    let options = PacketOptions { promiscuous: true, queueing: true };
    let bind = |tags: Option<&Tags>| PacketSocket::bind_group(device.1, queues as usize, options, tags);
    let sockets = match bind(tags.as_ref()) {
        Err(error) if tags.is_some() => {
            let sockets = bind(None)?;
            hears_all(name, &error);
            sockets
        }
        other => other?,
    };
    Ok(OpenPort {
        io: Arc::new(PortIo::packet(sockets, None)),
        terms: Terms { offloads: all(), mtu: Some(standing.device.mtu), replay: false },
        device,
        admitted: tags,
    })
}

fn attach(kernel: &mut Kernel, fabric: &Fabric, port: &Port, queues: u32) -> Result<Tap, StepError> {
    let place = Place::of(port);
    let opened;
    let namespace = match kernel.kept(&place) {
        Some(session) => &session.namespace,
        None => {
            opened = kernel.enter(fabric, &place)?;
            &opened.namespace
        }
    };
    let _entered = namespace.enter()?;
    Ok(Tap::open(port.device.as_str(), queues as usize)?)
}

fn tap_port(tap: Tap, new: bool, device: (NetNsId, u32)) -> OpenPort {
    let weft_host::tap::Offloads { checksum, tso4, tso6, tso_ecn, uso } = tap.offloads;
    OpenPort {
        io: Arc::new(PortIo::tap(tap.queues, new)),
        terms: Terms { offloads: Offloads { checksum, tso4, tso6, tso_ecn, uso }, mtu: None, replay: false },
        device,
        admitted: None,
    }
}

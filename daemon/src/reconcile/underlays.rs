//! The sockets of the node that Tunnels need: opened before the workers are shown a picture with such a Tunnel, closed
//! after they have got one without.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_stack::tunnel::Underlay;

use super::error::StepError;
use super::observe::Refusal;
use super::observe::kernel::Kernel;
use super::picture::lives;
use super::place::Place;
use crate::dataplane::UnderlayIo;
use crate::model::{Carrier, Fabric, Tunnel, TunnelForm};

/// The open sockets, and which are wished for.
#[derive(Debug, Default)]
pub struct Underlays {
    wanted: BTreeSet<Underlay>,
    open: BTreeMap<Underlay, Arc<UnderlayIo>>,
}

impl Underlays {
    /// Takes note of what is wished for from now on.
    pub fn want(&mut self, wanted: BTreeSet<Underlay>) {
        self.wanted = wanted;
    }

    /// Whether this is wished for.
    pub fn is_wanted(&self, underlay: Underlay) -> bool {
        self.wanted.contains(&underlay)
    }

    /// What is wished for and not open.
    pub fn missing(&self) -> Vec<Underlay> {
        self.wanted.iter().filter(|underlay| !self.open.contains_key(underlay)).copied().collect()
    }

    /// Opens sockets in the daemon's own namespace.
    pub fn open(&mut self, kernel: &mut Kernel, underlay: Underlay, workers: u32) -> Result<(), StepError> {
        let session = kernel.kept(&Place::Own).ok_or(StepError::NoGround)?;
        let _entered = session.namespace.enter()?;
        let io = UnderlayIo::open(underlay, workers as usize).map_err(|error| refusal(underlay, error))?;
        self.open.insert(underlay, Arc::new(io));
        Ok(())
    }

    /// Those that are wished for and open, for the workers.
    pub fn shared(&self) -> HashMap<Underlay, Arc<UnderlayIo>> {
        let wanted = self.open.iter().filter(|(underlay, _)| self.wanted.contains(underlay));
        wanted.map(|(underlay, io)| (*underlay, Arc::clone(io))).collect()
    }

    /// Closes those that are no longer wished for, when the workers have let go of them.
    pub fn close(&mut self) {
        self.open.retain(|underlay, _| self.wanted.contains(underlay));
    }
}

/// What the Tunnels of `fabric` need.
pub fn underlays(fabric: &Fabric) -> BTreeSet<Underlay> {
    let tunnels = fabric.tunnels.values().filter(|tunnel| lives(tunnel));
    tunnels.filter_map(|tunnel| underlay(&tunnel.spec)).collect()
}

/// What a Tunnel needs, unless a Router carries it.
pub fn underlay(tunnel: &Tunnel) -> Option<Underlay> {
    match &tunnel.form {
        TunnelForm::Vxlan { carrier: Carrier::Router(_), .. } => None,
        TunnelForm::Vxlan { vxlan, .. } => Some(Underlay::Udp(vxlan.port.get())),
        TunnelForm::WireGuard { wireguard, .. } => Some(Underlay::Udp(wireguard.listen_port.get())),
        TunnelForm::Gre { .. } | TunnelForm::Gretap { .. } => Some(Underlay::Gre),
    }
}

fn refusal(underlay: Underlay, error: weft_host::Error) -> StepError {
    const EADDRINUSE: i32 = 98;
    match underlay {
        Underlay::Udp(port) if error.code() == Some(EADDRINUSE) => StepError::Refused(Refusal {
            reason: "PortInUse",
            message: format!(
                "UDP port {port} of the node is used by something else: stop it (ss -lunp tells programs, and \
                 ip -d link the kernel's own tunnels), or give the Tunnel another port"
            ),
        }),
        Underlay::Udp(_) | Underlay::Gre => StepError::Host(error),
    }
}

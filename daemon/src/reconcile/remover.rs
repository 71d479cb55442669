//! Removing devices whose Ports are gone, beside the passes.
//!
//! The kernel takes some 15 ms for a device, most of it waiting for those who may still look at it. Veth pairs take hardly
//! more when many go at once, and nobody can change any other device meanwhile, so they are gathered: what is in the group
//! of retired devices has no owner any more, and an earlier daemon may have left some there. A TAP goes with its last queue,
//! also when the daemon ends; several of these are closed at a time, since they are in namespaces of their own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use weft_host::netns::NetNs;
use weft_host::tap::Tap;

use super::error::told;
use super::observe::kernel::Session;
use super::sockets::Closing;

/// The group of the stack's ends that wait to be removed ("weft").
pub const RETIRED_GROUP: u32 = 0x7765_6674;

/// How long retired devices are gathered before they go.
const GATHER: Duration = Duration::from_millis(100);

/// What has no owner any more.
#[derive(Debug)]
enum Retired {
    /// Ends of pairs, by their group in this namespace.
    Ends(NetNs),
    /// A device that does not outlive this.
    Tap(Tap),
}

/// The thread that removes. It ends after what is under way when this is dropped.
#[derive(Debug)]
pub struct Remover {
    retired: Sender<Retired>,
}

impl Remover {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> std::io::Result<Remover> {
        let (retired, queue) = channel();
        std::thread::Builder::new().name("weft-remove".to_owned()).spawn(move || run(&queue))?;
        Ok(Remover { retired })
    }

    /// There are retired devices in the namespace of the stack's ends.
    pub fn remove_ends(&self, ports: NetNs) {
        self.send(Retired::Ends(ports));
    }

    /// Closes what is left of a TAP that is not persistent, and which goes with it.
    pub fn remove_tap(&self, tap: Tap) {
        self.send(Retired::Tap(tap));
    }

    fn send(&self, retired: Retired) {
        // The thread only ends with this.
        let _ = self.retired.send(retired);
    }
}

fn run(queue: &Receiver<Retired>) {
    while let Ok(first) = queue.recv() {
        std::thread::sleep(GATHER);
        // All that was retired meanwhile goes at once.
        let (mut ports, mut taps) = (None, Vec::new());
        for retired in std::iter::once(first).chain(queue.try_iter()) {
            match retired {
                Retired::Ends(namespace) => ports = Some(namespace),
                Retired::Tap(tap) => taps.push(tap),
            }
        }
        if let Some(ports) = ports {
            remove_group(ports);
        }
        Closing::default().drop_apart(taps);
    }
}

fn remove_group(ports: NetNs) {
    let removed = Session::open(ports).and_then(|mut session| session.netlink.delete_group(RETIRED_GROUP));
    match removed {
        Err(error) if !error.is_gone() => {
            tracing::warn!("devices of Ports that are gone stay until the next full look: {}", told(&error));
        }
        _ => {}
    }
}

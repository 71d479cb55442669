//! Removing veth pairs whose Ports are gone, beside the passes.
//!
//! The kernel takes some 15 ms for a pair, and hardly more for many of them: most of it is waiting for those who may
//! still look at a device. Nobody can change any other device meanwhile, so they are gathered. What is in the group of
//! retired devices has no owner any more; an earlier daemon may have left some there.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use weft_host::netns::NetNs;

use super::error::told;
use super::observe::kernel::Session;

/// The group of the stack's ends that wait to be removed ("weft").
pub const RETIRED_GROUP: u32 = 0x7765_6674;

/// How long retired devices are gathered before they go.
const GATHER: Duration = Duration::from_millis(100);

/// The thread that removes. It ends after what is under way when this is dropped.
#[derive(Debug)]
pub struct Remover {
    wake: Sender<NetNs>,
}

impl Remover {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> std::io::Result<Remover> {
        let (wake, woken) = channel();
        std::thread::Builder::new().name("weft-remove".to_owned()).spawn(move || run(&woken))?;
        Ok(Remover { wake })
    }

    /// There are retired devices in the namespace of the stack's ends.
    pub fn wake(&self, ports: NetNs) {
        // It only ends with this.
        let _ = self.wake.send(ports);
    }
}

fn run(woken: &Receiver<NetNs>) {
    while let Ok(mut ports) = woken.recv() {
        std::thread::sleep(GATHER);
        // All that was retired meanwhile goes at once.
        while let Ok(later) = woken.try_recv() {
            ports = later;
        }
        let removed =
            Session::open(ports).and_then(|mut session| session.netlink.delete_group(RETIRED_GROUP));
        match removed {
            Err(error) if !error.is_gone() => {
                tracing::warn!(
                    "devices of Ports that are gone stay until the next full look: {}",
                    told(&error)
                );
            }
            _ => {}
        }
    }
}

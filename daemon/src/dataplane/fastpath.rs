//! The fast path as the workers use it: what the stack says of packets that may be replayed goes to the kernel, and ends
//! there before anything that it rests on can have changed without notice.
//!
//! Whatever the kernel was told bears two stamps, and holds while they are the newest. A worker reads them before it looks
//! at what verdicts rest on: who watches packets, neighbours, and that no newer picture is there than its own. Whoever
//! changes one of these takes the next stamp afterwards. So a verdict from before the change bears an old stamp, and is
//! void.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};

use weft_host::fastpath::{Action, FastPath, Flow, Stamps, monotonic_nanos};
use weft_stack::config::Config;
use weft_stack::replay::Replay;

use super::snapshot::Snapshot;

/// The kernel's part of the packet side.
#[derive(Debug)]
pub(super) struct Replayer {
    path: Arc<FastPath>,
    picture: Stamp,
    neighbors: Stamp,
    /// [`Config::neighbor_changes`] when somebody saw to them last.
    neighbor_changes: AtomicU64,
    /// When the stack's clock was at 0, by the kernel's.
    start: u64,
}

/// What verdicts bear of one kind that they rest on.
#[derive(Debug, Default)]
struct Stamp {
    newest: AtomicU64,
    /// Held by who takes a new one.
    turning: Mutex<()>,
}

impl Stamp {
    fn newest(&self) -> u64 {
        self.newest.load(Acquire)
    }

    fn turn(&self, tell: impl FnOnce(u64) -> weft_host::Result<()>) {
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.newest.load(Relaxed) + 1;
        if let Err(error) = tell(next) {
            tracing::error!(%error, "the kernel may go on by what it was told before: restart the daemon");
        }
        self.newest.store(next, Release);
    }
}

impl Replayer {
    /// Begins now, when the stack's clock begins.
    pub fn new(path: Arc<FastPath>) -> Replayer {
        Replayer {
            path,
            picture: Stamp::default(),
            neighbors: Stamp::default(),
            neighbor_changes: AtomicU64::new(0),
            start: monotonic_nanos(),
        }
    }

    /// What is kept from now on has to bear these, and rests on what is looked up after this.
    pub fn stamps(&self) -> Stamps {
        Stamps { picture: self.picture.newest(), neighbors: self.neighbors.newest() }
    }

    /// Ends all that was kept.
    pub fn turn(&self) {
        self.picture.turn(|next| self.path.set_picture_stamp(next));
    }

    /// Ends all that was kept and is routed, if a neighbour's address may have changed since this was asked last.
    pub fn look_at_neighbors(&self, config: &Config) {
        let changes = config.neighbor_changes();
        if self.neighbor_changes.load(Relaxed) != changes
            && self.neighbor_changes.fetch_max(changes, AcqRel) < changes
        {
            self.neighbors.turn(|next| self.path.set_neighbor_stamp(next));
        }
    }

    /// Has the kernel replay a verdict of the stack in the picture of `snapshot`, if it can reach both devices.
    pub fn keep(&self, replay: &Replay, stamps: Stamps, snapshot: &Snapshot) {
        let passage = |port| snapshot.io(port)?.passage();
        let (Some(from), Some(to)) = (passage(replay.from), passage(replay.to)) else { return };
        let flow = Flow {
            from,
            destination: replay.destination.0,
            source: replay.source.0,
            addresses: replay.addresses,
        };
        let action = Action {
            to,
            // A port's MTU is that of a device.
            mtu: u32::try_from(replay.mtu).unwrap_or(u32::MAX),
            routed: replay.rewrite.map(|rewrite| (rewrite.destination.0, rewrite.source.0)),
            stamps,
            until: replay.until.map(|until| self.start.saturating_add(until.as_nanos())),
        };
        if let Err(error) = self.path.keep(&flow, &action) {
            tracing::trace!(%error, "a flow stays with the stack");
        }
    }
}

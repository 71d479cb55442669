//! Network namespaces: opening, making, entering, naming by mount, and their ids.
//!
//! A namespace that Weft makes carries a mark: the alias of its loopback device. What the mark says is the
//! caller's matter.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use crate::descriptor::{checked, owned};
use crate::link::{Netlink, Wish};
use crate::{Error, Result};

pub use mount::{remove, share_folder};

mod mount;

/// Where the kernel shows the namespace of the calling thread.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A request of `linux/if_tun.h`: `_IO('T', 227)`.
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;

/// An open network namespace. It lives at least as long as this does.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    id: NetNsId,
}

/// What tells one living namespace from another, however it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NetNsId {
    /// The device of the kernel's namespace file system.
    pub device: u64,
    /// The namespace's inode there. It may be used again when the namespace is gone.
    pub inode: u64,
}

impl NetNs {
    /// The namespace that the calling thread is in.
    pub fn current() -> Result<NetNs> {
        NetNs::open(Path::new(OF_THIS_THREAD))
    }

    /// Opens the namespace that is mounted at `path`, or that a file of /proc stands for.
    ///
    /// # Errors
    /// [`Error::NotANamespace`] when the file is anything else; [`Error::is_gone`] when there is none.
    pub fn open(path: &Path) -> Result<NetNs> {
        let failed = |source| Error::os("open namespace", path.display().to_string(), source);
        if !mount::is_namespace_file(path).map_err(failed)? {
            return Err(Error::NotANamespace { path: path.to_owned() });
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let id = NetNsId { device: metadata.dev(), inode: metadata.ino() };
        // SAFETY: this request takes no argument and only returns a number.
        let kind = checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) });
        match kind {
            Ok(libc::CLONE_NEWNET) => Ok(NetNs { fd: file.into(), id }),
            _ => Err(Error::NotANamespace { path: path.to_owned() }),
        }
    }

    /// The namespace that the device of a TAP queue is in.
    pub(crate) fn of_tap(queue: BorrowedFd<'_>) -> Result<NetNs> {
        let failed = |source| Error::os("find", "the namespace of a TAP device", source);
        // SAFETY: this request takes no argument and returns a descriptor that nobody else owns.
        let file: File =
            unsafe { owned(libc::ioctl(queue.as_raw_fd(), TUNGETDEVNETNS)) }.map_err(failed)?.into();
        let metadata = file.metadata().map_err(failed)?;
        let id = NetNsId { device: metadata.dev(), inode: metadata.ino() };
        Ok(NetNs { fd: file.into(), id })
    }

    /// Makes a namespace, marks it, brings its loopback up, and mounts it at `path`.
    ///
    /// The parent folder is made when it is missing. An empty file that nothing is mounted on, such as a
    /// crash leaves, is used. On failure no mount and no file of this call are left.
    ///
    /// # Errors
    /// [`Error::is_exists`] when there is something else at `path` already.
    pub fn create(path: &Path, mark: &str) -> Result<NetNs> {
        let point = mount::Point::prepare(path)?;
        let namespace = on_a_new_thread(|| {
            let namespace = unshare()?;
            let mut netlink = Netlink::open()?;
            netlink.bring_loopback_up(Some(mark))?;
            mount::bind(Path::new(OF_THIS_THREAD), path)?;
            Ok(namespace)
        })?;
        point.keep();
        Ok(namespace)
    }

    /// Makes a namespace that lives only as long as someone holds it; its loopback is up and has no mark.
    pub fn create_anonymous() -> Result<NetNs> {
        on_a_new_thread(|| {
            let namespace = unshare()?;
            Netlink::open()?.bring_loopback_up(None)?;
            Ok(namespace)
        })
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// The mark that the namespace was made with: the alias of its loopback device.
    pub fn mark(&self) -> Result<Option<String>> {
        let _entered = self.enter()?;
        Ok(Netlink::open()?.link_by_name("lo")?.and_then(|loopback| loopback.alias))
    }

    /// Moves the calling thread into this namespace until the guard is dropped.
    ///
    /// Sockets and devices that were opened meanwhile stay in this namespace. Guards must be dropped in the
    /// reverse order of entering.
    pub fn enter(&self) -> Result<Entered> {
        let before = NetNs::current()?;
        self.set()?;
        Ok(Entered { before, _of_this_thread: PhantomData })
    }

    /// A second handle on the same namespace.
    pub fn try_clone(&self) -> Result<NetNs> {
        let fd = self.fd.try_clone().map_err(|source| self.failed("duplicate", source))?;
        Ok(NetNs { fd, id: self.id })
    }

    fn set(&self) -> Result<()> {
        // SAFETY: the call takes two numbers and changes the calling thread alone.
        checked(unsafe { libc::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET) })
            .map_err(|source| self.failed("enter", source))?;
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::os(operation, self.describe(), source)
    }

    fn describe(&self) -> String {
        format!("network namespace {}", self.id.inode)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The calling thread is in another namespace while this lives.
#[derive(Debug)]
#[must_use = "the thread goes back at once when this is dropped"]
pub struct Entered {
    before: NetNs,
    /// The guard belongs to the thread that made it.
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.before.set().is_err() {
            // A thread that stays in the wrong namespace would go on to change a container's devices
            // as if they were the node's. No caller can put that right.
            std::process::abort();
        }
    }
}

/// The number under which the calling thread's namespace knows `namespace`; assigned when it has none.
///
/// Kernel events of another namespace carry this number ([`crate::monitor::KernelEvent::nsid`]), and are
/// heard only from namespaces that have one. It is valid until that namespace or this one is gone.
pub fn namespace_id(namespace: &NetNs) -> Result<i32> {
    let mut netlink = Netlink::open()?;
    if let Some(id) = assigned_id(&mut netlink, namespace)? {
        return Ok(id);
    }
    let mut message = id_request(namespace);
    message.attributes.push(NsidAttribute::Id(-1));
    let object = namespace.describe();
    let wish = Wish { operation: "number", object: &object };
    match netlink.change(RouteNetlinkMessage::NewNsId(message), 0, wish) {
        // Somebody else was quicker.
        Err(error) if !error.is_exists() => return Err(error),
        _ => {}
    }
    assigned_id(&mut netlink, namespace)?.ok_or_else(|| Error::Malformed {
        operation: "number",
        object: object.clone(),
        reason: "no number was assigned".into(),
    })
}

fn assigned_id(netlink: &mut Netlink, namespace: &NetNs) -> Result<Option<i32>> {
    let object = namespace.describe();
    let wish = Wish { operation: "find the number of", object: &object };
    let request = RouteNetlinkMessage::GetNsId(id_request(namespace));
    let payload = netlink.get(request, libc::RTM_NEWNSID, wish)?;
    let message = NsidMessage::parse(&payload).map_err(|error| Error::Malformed {
        operation: wish.operation,
        object: object.clone(),
        reason: error.to_string(),
    })?;
    Ok(message.attributes.into_iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if id >= 0 => Some(id),
        _ => None,
    }))
}

fn id_request(namespace: &NetNs) -> NsidMessage {
    let mut message = NsidMessage::default();
    // A descriptor is never negative.
    message.attributes.push(NsidAttribute::Fd(namespace.fd.as_raw_fd() as u32));
    message
}

/// The namespace with this inode number, if a thread of another process is in it, as far as `/proc` shows.
///
/// A namespace that is gone leaves its number to the next one that is made.
pub fn entered(inode: u64) -> Option<NetNs> {
    let processes = fs::read_dir("/proc").ok()?;
    let others = processes.flatten().filter(|process| {
        let id = process.file_name().to_string_lossy().parse::<u32>();
        id.is_ok_and(|id| id != std::process::id())
    });
    let mut tasks =
        others.flat_map(|process| fs::read_dir(process.path().join("task")).into_iter().flatten().flatten());
    tasks.find_map(|task| {
        let path = task.path().join("ns/net");
        // A thread that ended meanwhile is in none.
        fs::metadata(&path).ok().filter(|namespace| namespace.ino() == inode)?;
        NetNs::open(&path).ok().filter(|namespace| namespace.id().inode == inode)
    })
}

/// Runs `work` on a thread of its own, so that what it does to its namespace ends with it.
fn on_a_new_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("weft-netns".into())
            .spawn_scoped(scope, work)
            .map_err(|source| Error::os("start", "a thread for a new namespace", source))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into a new namespace, for good.
fn unshare() -> Result<NetNs> {
    // SAFETY: the call takes a number and changes the calling thread alone.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })
        .map_err(|source| Error::os("make", "a network namespace", source))?;
    NetNs::current()
}

#[cfg(test)]
mod tests;

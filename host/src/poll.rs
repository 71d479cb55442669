//! Waiting for descriptors: epoll and a wake-up that other threads can give.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::descriptor::{checked, owned, read, write};

/// A set of descriptors to wait for, level-triggered: a descriptor is reported as long as it can be read.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    /// Whether the kernel (5.11) can wait for less than a millisecond.
    precise: AtomicBool,
}

/// Room for what one wait reports.
pub struct Events {
    room: Vec<libc::epoll_event>,
    count: usize,
}

/// A descriptor that something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What was given to [`Epoll::add`].
    pub token: u64,
    /// There is something to read.
    pub readable: bool,
    /// An error or a hang-up: the device is gone or down, or the other side has closed.
    pub hangup: bool,
}

/// The kernel's `struct __kernel_timespec`, of 64 bits each on every architecture.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: on success the call returns a descriptor that nobody else owns.
        let fd = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        Ok(Epoll { fd, precise: AtomicBool::new(true) })
    }

    /// Adds a descriptor; `token` comes back with its events. Closing its last copy removes it.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        // EPOLLIN is a small positive bit.
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Removes a descriptor.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, ptr::null_mut())
    }

    /// Waits until a descriptor can be read or has failed, or the timeout has passed (`None`: no timeout);
    /// returns how many events there are. A signal starts the wait again.
    ///
    /// Timeouts below a millisecond are kept where the kernel can; otherwise they are rounded up.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.count = 0;
        loop {
            match self.wait_once(&mut events.room, timeout) {
                Ok(count) => {
                    events.count = count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, event: *mut libc::epoll_event) -> io::Result<()> {
        // SAFETY: the event is a live epoll_event, or null for a removal, which does not read it.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), event) })?;
        Ok(())
    }

    fn wait_once(&self, room: &mut [libc::epoll_event], timeout: Option<Duration>) -> io::Result<usize> {
        if self.precise.load(Ordering::Relaxed) {
            match self.wait_precisely(room, timeout) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    self.precise.store(false, Ordering::Relaxed);
                }
                waited => return waited,
            }
        }
        let milliseconds = timeout
            .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the kernel writes at most as many events as the slice holds.
        let count = checked(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), room.as_mut_ptr(), limit(room), milliseconds)
        })?;
        Ok(count as usize)
    }

    fn wait_precisely(&self, room: &mut [libc::epoll_event], timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| KernelTimespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the kernel writes at most as many events as the slice holds and reads the timeout, which is
        // null or live; no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                room.as_mut_ptr(),
                limit(room),
                timeout,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn limit(room: &[libc::epoll_event]) -> i32 {
    i32::try_from(room.len()).unwrap_or(i32::MAX)
}

impl Events {
    /// Room for `capacity` events a wait, at least one; what does not fit is reported by the next wait.
    pub fn with_capacity(capacity: usize) -> Events {
        Events { room: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)], count: 0 }
    }

    /// What the last wait reported.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.room.iter().take(self.count).map(|event| {
            let bits = event.events as i32;
            Event {
                token: event.u64,
                readable: bits & libc::EPOLLIN != 0,
                hangup: bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0,
            }
        })
    }
}

/// Wakes a thread that waits for this descriptor. Several wake-ups before it looks are one.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// Not awake.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: on success the call returns a descriptor that nobody else owns.
        Ok(Wake(unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?))
    }

    /// Makes the descriptor readable until it is drained.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the descriptor is readable already.
        let _ = write(self.0.as_fd(), &1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again.
    pub fn drain(&self) {
        // It fails only when there is nothing to drain.
        let _ = read(self.0.as_fd(), &mut [0; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of the descriptors can be read or has failed; a signal starts the wait again.
pub(crate) fn wait_for_any<const N: usize>(fds: [BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: the pointer and the count are those of one live array.
        match checked(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, -1) }) {
            Ok(_) => return Ok(polled.map(|polled| polled.revents != 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wake_is_seen_with_its_token_until_it_is_drained() {
        let (epoll, wake) = (Epoll::new().unwrap(), Wake::new().unwrap());
        let mut events = Events::with_capacity(4);
        epoll.add(wake.as_fd(), 42).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        wake.wake();
        wake.wake();
        for _ in 0..2 {
            assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
            let seen: Vec<_> = events.iter().collect();
            assert_eq!(seen, [Event { token: 42, readable: true, hangup: false }]);
        }
        wake.drain();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(events.iter().count(), 0);
    }

    #[test]
    fn a_removed_descriptor_is_not_reported() {
        let (epoll, wake) = (Epoll::new().unwrap(), Wake::new().unwrap());
        epoll.add(wake.as_fd(), 1).unwrap();
        wake.wake();
        epoll.remove(wake.as_fd()).unwrap();
        assert_eq!(epoll.wait(&mut Events::with_capacity(1), Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_timeout_below_a_millisecond_is_not_cut_to_nothing() {
        let epoll = Epoll::new().unwrap();
        for precise in [true, false] {
            epoll.precise.store(precise, Ordering::Relaxed);
            let before = Instant::now();
            let timeout = Duration::from_micros(300);
            assert_eq!(epoll.wait(&mut Events::with_capacity(1), Some(timeout)).unwrap(), 0);
            assert!(before.elapsed() >= timeout, "precise: {precise}");
        }
    }
}

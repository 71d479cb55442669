//! Where the calling thread runs.

use std::io;
use std::mem::{MaybeUninit, size_of};

use crate::descriptor::checked;

/// Keeps the calling thread on one CPU, counted from 0.
///
/// # Errors
/// `InvalidInput` when the number is beyond what a CPU set holds, `EINVAL` when that CPU does not exist or is
/// not allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no cpu {cpu}")));
    }
    // SAFETY: a cpu_set_t is a plain bit array; all zero is the empty set.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    // SAFETY: `cpu` is below CPU_SETSIZE, so the bit is inside the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is live and its size is given; 0 is the calling thread.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// How many CPUs this process may use; at least 1.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_cpu() {
        let counted = std::thread::spawn(|| {
            // SAFETY: the call has no arguments and no effects.
            let here = unsafe { libc::sched_getcpu() } as usize;
            pin(here).unwrap();
            cpu_count()
        });
        assert_eq!(counted.join().unwrap(), 1);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        assert!(pin(libc::CPU_SETSIZE as usize - 1).is_err());
        assert!(pin(usize::MAX).is_err());
    }
}

//! Waiting for a condition with a deadline, the only way that tests wait.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at `condition` until it holds; an error that says `what` was waited for after `deadline`.
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if condition() {
            return Ok(());
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for: {what}");
        }
        thread::sleep(PAUSE);
    }
}

/// Tries `attempt` until it succeeds; after `deadline` its last error, with `what` was waited for.
pub fn retry_until<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > deadline => {
                return Err(error.context(format!("waited {deadline:?} in vain for: {what}")));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            looks == 3
        })
        .unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_missed_deadline_names_what_was_waited_for() {
        let error = wait_until(Duration::ZERO, "the moon", || false).unwrap_err();
        assert!(error.to_string().ends_with("in vain for: the moon"), "{error}");
    }

    #[test]
    fn retrying_keeps_the_last_error() {
        let error = retry_until::<()>(Duration::ZERO, "a reply", || bail!("silence")).unwrap_err();
        assert!(format!("{error:#}").ends_with("a reply: silence"), "{error:#}");
    }
}

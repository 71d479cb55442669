//! When what failed is tried again: after 100 ms, then twice as long each time, up to a limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::plan::Subject;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);

/// Why an object is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It could not even be tried. News about it are reason enough to look at once.
    Refused,
    /// It was tried and failed. The attempt itself made news, so only time counts.
    Failed,
}

#[derive(Debug)]
struct Entry {
    attempts: u32,
    due: Instant,
    cause: Cause,
}

/// What failed, and when each is due.
#[derive(Debug)]
pub struct Retries {
    entries: BTreeMap<Subject, Entry>,
    longest: Duration,
}

impl Retries {
    /// Nothing to try; no wait will be longer than `longest`.
    pub fn new(longest: Duration) -> Retries {
        Retries { entries: BTreeMap::new(), longest: longest.max(FIRST) }
    }

    /// Notes that `subject` did not succeed at `now`.
    pub fn failed(&mut self, subject: Subject, cause: Cause, now: Instant) {
        let attempts = self.entries.get(&subject).map_or(0, |entry| entry.attempts);
        let wait = FIRST.saturating_mul(1 << attempts.min(20)).min(self.longest);
        self.entries.insert(subject, Entry { attempts: attempts + 1, due: now + wait, cause });
    }

    /// Notes that `subject` succeeded, or is no more.
    pub fn settled(&mut self, subject: &Subject) {
        self.entries.remove(subject);
    }

    /// Forgets all whose object is no more.
    pub fn retain(&mut self, keep: impl Fn(&Subject) -> bool) {
        self.entries.retain(|subject, _| keep(subject));
    }

    /// What is due at `now`.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &Subject> {
        self.entries.iter().filter(move |(_, entry)| entry.due <= now).map(|(subject, _)| subject)
    }

    /// When the next is due.
    pub fn next(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    /// Whether `subject` has to wait although there is news about it.
    pub fn holds(&self, subject: &Subject, now: Instant) -> bool {
        self.entries.get(subject).is_some_and(|entry| entry.cause == Cause::Failed && entry.due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again_after_a_success() {
        let mut retries = Retries::new(Duration::from_millis(350));
        let start = Instant::now();
        for expected in [100, 200, 350, 350] {
            retries.failed(Subject::Ports, Cause::Refused, start);
            assert_eq!(retries.next(), Some(start + Duration::from_millis(expected)));
        }
        retries.settled(&Subject::Ports);
        assert_eq!(retries.next(), None);
        retries.failed(Subject::Ports, Cause::Refused, start);
        assert_eq!(retries.next(), Some(start + Duration::from_millis(100)));
    }

    #[test]
    fn only_what_failed_by_itself_is_held_back_and_only_until_it_is_due() {
        let mut retries = Retries::new(Duration::from_secs(1));
        let start = Instant::now();
        retries.failed(Subject::Ports, Cause::Refused, start);
        assert!(!retries.holds(&Subject::Ports, start));
        retries.failed(Subject::Ports, Cause::Failed, start);
        assert!(retries.holds(&Subject::Ports, start));
        let due = start + Duration::from_secs(1);
        assert!(!retries.holds(&Subject::Ports, due));
        assert_eq!(retries.due(due).collect::<Vec<_>>(), [&Subject::Ports]);
    }
}

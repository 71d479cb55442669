//! The window of message counters (RFC 6479): which were seen, for the newest of them.

/// Bits that are kept.
const BITS: u64 = 8192;
const WORDS: usize = (BITS / 64) as usize;

/// How far a counter may be behind the greatest: a word is given up, so that the next can be begun.
pub(super) const WINDOW: u64 = BITS - 64;

/// Which counters were seen.
#[derive(Debug)]
pub(super) struct Window {
    /// One more than the greatest counter.
    next: u64,
    words: [u64; WORDS],
}

impl Window {
    pub fn new() -> Window {
        Window { next: 0, words: [0; WORDS] }
    }

    /// Whether this counter is new. It changes nothing.
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.next - 1 - counter <= WINDOW && self.words[word(counter)] & bit(counter) == 0
    }

    /// Takes in a counter that was authenticated. Says whether it was new.
    pub fn commit(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter >= self.next {
            self.advance(counter);
        }
        self.words[word(counter)] |= bit(counter);
        true
    }

    /// Forgets what was behind, where counters up to this one go.
    fn advance(&mut self, counter: u64) {
        // The word of `next - 1` is in use already; before the first counter, that is word 0, which is empty.
        let newest = self.next.saturating_sub(1) / 64;
        let steps = (counter / 64 - newest).min(WORDS as u64);
        for step in 1..=steps {
            self.words[((newest + step) % WORDS as u64) as usize] = 0;
        }
        self.next = counter.saturating_add(1);
    }
}

fn word(counter: u64) -> usize {
    (counter / 64 % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The cases of the kernel's own test (selftest/counter.c).
    #[test]
    fn it_decides_as_the_kernel_does() {
        let mut window = Window::new();
        let limit = WINDOW + 1;
        let cases = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (limit, true),
            (limit - 1, true),
            (limit - 1, false),
            (limit - 2, true),
            (2, true),
            (2, false),
            (limit + 16, true),
            (3, false),
            (limit + 16, false),
            (limit * 4, true),
            (limit * 4 - (limit - 1), true),
            (10, false),
            (limit * 4 - limit, false),
            (limit * 4 - (limit + 1), false),
            (limit * 4 - (limit - 2), true),
            (limit * 4 + 1 - limit, false),
            (0, false),
        ];
        for (position, (counter, new)) in cases.into_iter().enumerate() {
            assert_eq!(window.commit(counter), new, "case {position}: {counter}");
        }
    }

    #[test]
    fn all_of_the_window_may_come_backwards() {
        let mut window = Window::new();
        assert!((1..=WINDOW + 1).rev().all(|counter| window.commit(counter)));
        assert!(!window.commit(0), "too far behind");
        assert!((0..=WINDOW + 1).all(|counter| !window.commit(counter)));
    }

    #[test]
    fn the_greatest_counters_do_no_harm() {
        let mut window = Window::new();
        assert!(window.commit(u64::MAX - 1) && window.commit(u64::MAX - 2));
        assert!(!window.commit(u64::MAX - 1) && !window.commit(0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..20_000), 1..400)) {
            let (mut window, mut seen) = (Window::new(), BTreeSet::new());
            for (forward, step) in steps {
                let greatest = seen.last().copied().unwrap_or(0);
                let counter = if forward { greatest + step % 600 } else { greatest.saturating_sub(step) };
                let new = greatest.saturating_sub(counter) <= WINDOW && !seen.contains(&counter);
                prop_assert_eq!(window.is_new(counter), new);
                prop_assert_eq!(window.commit(counter), new);
                if new {
                    seen.insert(counter);
                }
            }
        }
    }
}

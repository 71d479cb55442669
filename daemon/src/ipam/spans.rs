//! A set of addresses as spans: what a /64 holds costs no more than what a /28 does.
//!
//! Addresses are numbers here; which family they are of is the caller's to know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::AddressRange;

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans {
    /// Last member by first one. Spans neither overlap nor touch.
    spans: BTreeMap<u128, u128>,
}

impl Spans {
    /// Adds all from `first` to `last`.
    pub fn insert(&mut self, first: u128, last: u128) {
        let (mut first, mut last) = (first, last);
        // From the span before, which may reach to here, to the one that begins right behind.
        while let Some((&begin, &end)) = self.spans.range(..=last.saturating_add(1)).next_back() {
            if end < first.saturating_sub(1) {
                break;
            }
            (first, last) = (first.min(begin), last.max(end));
            self.spans.remove(&begin);
        }
        self.spans.insert(first, last);
    }

    /// Takes all from `first` to `last` out.
    pub fn remove(&mut self, first: u128, last: u128) {
        while let Some((&begin, &end)) = self.spans.range(..=last).next_back() {
            if end < first {
                break;
            }
            self.spans.remove(&begin);
            if end > last {
                self.spans.insert(last + 1, end);
            }
            if begin < first {
                self.spans.insert(begin, first - 1);
            }
        }
    }

    /// Whether this is a member.
    pub fn contains(&self, member: u128) -> bool {
        self.spans.range(..=member).next_back().is_some_and(|(_, end)| *end >= member)
    }

    /// The least member from `first` to `last`.
    pub fn least(&self, first: u128, last: u128) -> Option<u128> {
        if self.contains(first) {
            return (first <= last).then_some(first);
        }
        self.spans.range(first..).next().map(|(begin, _)| *begin).filter(|begin| *begin <= last)
    }

    /// How many members there are, as far as that can be counted.
    pub fn len(&self) -> u64 {
        let each = self.spans.iter().map(|(begin, end)| end - begin);
        let all = each.fold(0_u128, |sum, most| sum.saturating_add(most).saturating_add(1));
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

impl FromIterator<AddressRange> for Spans {
    fn from_iter<I: IntoIterator<Item = AddressRange>>(ranges: I) -> Self {
        let mut spans = Spans::default();
        for range in ranges {
            spans.insert(number(range.first), number(range.last));
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_addresses_there_are_can_be_a_member() {
        let mut all = Spans::default();
        all.insert(0, u128::MAX);
        assert_eq!((all.least(7, u128::MAX), all.len()), (Some(7), u64::MAX));
        all.remove(u128::MAX, u128::MAX);
        all.remove(0, 0);
        assert!(!all.contains(u128::MAX) && !all.contains(0) && all.contains(1));
        all.insert(u128::MAX, u128::MAX);
        all.insert(0, 0);
        assert_eq!(all.spans, BTreeMap::from([(0, u128::MAX)]));
    }

    proptest! {
        #[test]
        fn it_is_the_set_that_it_stands_for(
            steps in prop::collection::vec((any::<bool>(), 0_u128..40, 0_u128..12), 0..40),
            from in 0_u128..40,
        ) {
            let (mut spans, mut set) = (Spans::default(), BTreeSet::new());
            for (add, first, more) in steps {
                if add {
                    spans.insert(first, first + more);
                    set.extend(first..=first + more);
                } else {
                    spans.remove(first, first + more);
                    set.retain(|member| !(first..=first + more).contains(member));
                }
            }
            let members: BTreeSet<_> = (0..60).filter(|member| spans.contains(*member)).collect();
            prop_assert_eq!(&members, &set);
            prop_assert_eq!(spans.len(), set.len() as u64);
            prop_assert_eq!(spans.least(from, 45), set.range(from..=45).next().copied());
            let touching = spans.spans.iter().zip(spans.spans.keys().skip(1)).any(|((_, end), next)| end + 1 >= *next);
            prop_assert!(!touching);
        }
    }
}

//! The table against a list that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::key::Key;
use super::trie::BUCKET;
use super::*;

fn fib(prefixes: &[(&str, u32)]) -> Fib {
    Fib::new(prefixes.iter().map(|(prefix, value)| (prefix.parse().unwrap(), TargetId(*value))))
}

fn find(fib: &Fib, address: &str) -> Option<u32> {
    fib.lookup(address.parse().unwrap()).map(|id| id.0)
}

#[test]
fn the_longest_prefix_wins_and_families_stay_apart() {
    let fib = fib(&[
        ("0.0.0.0/0", 0),
        ("198.18.0.0/15", 1),
        ("198.18.1.0/24", 2),
        ("198.18.1.1/32", 3),
        ("2001:db8::/32", 4),
        ("2001:db8::1/128", 5),
    ]);
    for (address, expected) in [
        ("203.0.113.1", Some(0)),
        ("198.19.0.1", Some(1)),
        ("198.18.1.2", Some(2)),
        ("198.18.1.1", Some(3)),
        ("2001:db8::2", Some(4)),
        ("2001:db8::1", Some(5)),
        ("2001:db9::1", None),
    ] {
        assert_eq!(find(&fib, address), expected, "{address}");
    }
    assert_eq!(fib.len(), 6);
}

#[test]
fn of_two_values_for_one_prefix_the_first_stays() {
    let fib = fib(&[("198.18.0.0/15", 7), ("198.18.0.0/15", 8), ("::/0", 9), ("::/0", 10)]);
    assert_eq!((find(&fib, "198.19.255.255"), find(&fib, "::1"), fib.len()), (Some(7), Some(9), 2));
}

#[test]
fn what_a_removed_prefix_covered_falls_to_the_next_shorter_one() {
    let mut fib =
        fib(&[("0.0.0.0/0", 0), ("198.18.0.0/15", 1), ("198.18.1.0/24", 2), ("198.18.1.128/25", 3)]);
    let mut remove = |prefix: &str| fib.remove(prefix.parse().unwrap()).map(|_| find(&fib, "198.18.1.200"));
    assert_eq!(remove("198.18.1.0/24"), Some(Some(3)));
    assert_eq!(remove("198.18.1.128/25"), Some(Some(1)));
    assert_eq!(remove("198.18.1.128/25"), None);
    assert_eq!(remove("198.18.0.0/15"), Some(Some(0)));
    assert_eq!(remove("0.0.0.0/0"), Some(None));
    assert!(fib.is_empty() && fib.memory() == 0);
}

#[test]
fn a_clone_goes_on_answering_as_it_did() {
    let mut newer = fib(&[("198.18.1.0/24", 1), ("2001:db8::/32", 1)]);
    let older = newer.clone();
    newer.insert("198.18.1.0/24".parse().unwrap(), TargetId(2));
    newer.insert("198.18.1.7/32".parse().unwrap(), TargetId(3));
    newer.remove("2001:db8::/32".parse().unwrap());
    let answers = |fib: &Fib| ["198.18.1.1", "198.18.1.7", "2001:db8::1"].map(|address| find(fib, address));
    assert_eq!(answers(&older), [Some(1), Some(1), Some(1)]);
    assert_eq!(answers(&newer), [Some(2), Some(3), None]);
}

#[test]
fn a_change_leaves_the_other_strides_shared() {
    let prefixes: Vec<_> = (0..40u8)
        .map(|n| (Prefix::new(Ipv4Addr::new(198, 18, n / 4, n).into(), 32).unwrap(), TargetId(n.into())))
        .collect();
    let mut newer = Fib::new(prefixes.iter().copied());
    let older = newer.clone();
    assert!(newer.v4.parts().count() > 3 && newer.is_shared_with(&older));
    newer.insert(prefixes[0].0, prefixes[0].1);
    assert!(newer.is_shared_with(&older), "nothing was changed");
    newer.insert(prefixes[0].0, TargetId(99));
    assert_eq!(newer.parts_beside(&older), 2, "the root and the prefix's own");
}

/// A prefix that is likely to contain others or to be contained.
fn prefix(v6: bool) -> impl Strategy<Value = Prefix> {
    let bits: u8 = if v6 { 128 } else { 32 };
    let length =
        prop_oneof![0..=bits, Just(0), Just(bits), Just(bits - 1), Just(bits / 4 * 3), Just(bits / 2)];
    (address(v6), length).prop_map(|(address, length)| Prefix::containing(address, length).unwrap())
}

fn address(v6: bool) -> impl Strategy<Value = IpAddr> {
    // Few distinct octets, and not in every place, so that ways run together and part.
    let octet = || prop_oneof![3 => Just(0u8), 2 => Just(1u8), 1 => Just(255u8), 1 => any::<u8>()];
    proptest::collection::vec(octet(), 16).prop_map(move |octets| {
        let v6_octets: [u8; 16] = octets.try_into().unwrap();
        let [a, b, c, d, ..] = v6_octets;
        if v6 { IpAddr::from(v6_octets) } else { IpAddr::from([a, b, c, d]) }
    })
}

#[derive(Debug, Clone)]
enum Change {
    Insert(Prefix, TargetId),
    Remove(Prefix),
    RemoveKnown(proptest::sample::Index),
    Keep,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let any_prefix = || any::<bool>().prop_flat_map(prefix);
    let change = prop_oneof![
        6 => (any_prefix(), 0u32..8).prop_map(|(prefix, value)| Change::Insert(prefix, TargetId(value))),
        1 => any_prefix().prop_map(Change::Remove),
        3 => any::<proptest::sample::Index>().prop_map(Change::RemoveKnown),
        1 => Just(Change::Keep),
    ];
    proptest::collection::vec(change, 0..80)
}

type Model = BTreeMap<Prefix, TargetId>;

fn apply(change: Change, fib: &mut Fib, model: &mut Model) -> Result<(), TestCaseError> {
    match change {
        Change::Insert(prefix, value) => {
            prop_assert_eq!(fib.insert(prefix, value), model.insert(prefix, value))
        }
        Change::Remove(prefix) => prop_assert_eq!(fib.remove(prefix), model.remove(&prefix)),
        Change::RemoveKnown(index) if !model.is_empty() => {
            let prefix = *index.get(&model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(fib.remove(prefix), model.remove(&prefix));
        }
        Change::RemoveKnown(_) | Change::Keep => {}
    }
    Ok(())
}

fn agree(fib: &Fib, model: &Model, others: &[IpAddr]) -> Result<(), TestCaseError> {
    // The ends of each prefix and the addresses beside them are where a mistake would show.
    let edges = model.keys().flat_map(|prefix| {
        let host = |address: IpAddr, step: i8| match address {
            IpAddr::V4(a) => IpAddr::from(Ipv4Addr::from_bits(a.to_bits().wrapping_add_signed(step.into()))),
            IpAddr::V6(a) => IpAddr::from(Ipv6Addr::from_bits(a.to_bits().wrapping_add_signed(step.into()))),
        };
        let first = prefix.address();
        let last = match first {
            IpAddr::V4(a) => IpAddr::from(Ipv4Addr::from_bits(a.to_bits() | !u32::mask(prefix.length()))),
            IpAddr::V6(a) => IpAddr::from(Ipv6Addr::from_bits(a.to_bits() | !u128::mask(prefix.length()))),
        };
        [first, last, host(first, -1), host(last, 1)]
    });
    for address in edges.chain(others.iter().copied()) {
        let holders = model.iter().filter(|(prefix, _)| prefix.contains(address));
        let expected = holders.max_by_key(|(prefix, _)| prefix.length()).map(|(_, value)| *value);
        prop_assert_eq!(fib.lookup(address), expected, "{}", address);
    }
    prop_assert_eq!(fib.len(), model.len());
    prop_assert_eq!(&fib.iter().collect::<Model>(), model);
    prop_assert!(model.iter().all(|(prefix, value)| fib.get(*prefix) == Some(*value)));
    Ok(())
}

/// No branch exists without need: that bounds the memory.
fn is_compact<K: Key>(trie: &Trie<K>) -> bool {
    trie.parts().all(|part| match part {
        Part::Empty => trie.len() == 0,
        Part::Bucket(bucket) => (1..=BUCKET).contains(&bucket.len()),
        Part::Branch(branch) => {
            branch.len > BUCKET / 2 && (!branch.own().is_empty() || branch.parts().count() > 1)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_agrees_with_a_linear_search_now_and_as_of_each_clone(
        changes in changes(),
        others in proptest::collection::vec(any::<bool>().prop_flat_map(address), 0..40),
    ) {
        let (mut fib, mut model) = (Fib::default(), Model::new());
        let mut kept = Vec::new();
        for change in changes {
            if matches!(change, Change::Keep) {
                kept.push((fib.clone(), model.clone()));
            }
            apply(change, &mut fib, &mut model)?;
        }
        kept.push((fib, model));
        for (fib, model) in &kept {
            agree(fib, model, &others)?;
            prop_assert!(is_compact(&fib.v4) && is_compact(&fib.v6));
        }
    }

    #[test]
    fn a_table_made_at_once_is_as_one_made_step_by_step(
        prefixes in proptest::collection::vec((any::<bool>().prop_flat_map(prefix), (0u32..8).prop_map(TargetId)), 0..60),
    ) {
        let at_once = Fib::new(prefixes.iter().copied());
        let mut model = Model::new();
        for (prefix, value) in &prefixes {
            model.entry(*prefix).or_insert(*value);
        }
        agree(&at_once, &model, &[])?;
        prop_assert!(is_compact(&at_once.v4) && is_compact(&at_once.v6));
        let mut in_steps = Fib::default();
        model.iter().for_each(|(prefix, value)| assert_eq!(in_steps.insert(*prefix, *value), None));
        agree(&in_steps, &model, &[])?;
    }
}

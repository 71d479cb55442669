//! The forwarding table at the size of the Internet's: right against maps that are searched length by
//! length, and, on demand, how quick (in release mode, with `--ignored --nocapture`).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The time that this thread was running: others use the machine too.
struct Instant(u64);

impl Instant {
    fn now() -> Instant {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Instant(text.split(' ').next().unwrap().parse().unwrap())
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(Instant::now().0 - self.0)
    }
}

use weft_stack::Prefix;
use weft_stack::table::fib::{Fib, TargetId};

/// Numbers that look random and are the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Lengths in about the shares of the Internet's table: three fifths /24, then /22, /23, /20, /16.
fn v4_prefixes(count: usize, numbers: &mut Numbers) -> Vec<(Prefix, TargetId)> {
    (0..count)
        .map(|_| {
            let length = match numbers.below(100) {
                0..60 => 24,
                60..72 => 22,
                72..82 => 23,
                82..92 => 19 + numbers.below(3) as u8,
                92..98 => 16 + numbers.below(3) as u8,
                98 => 8 + numbers.below(8) as u8,
                _ => 25 + numbers.below(8) as u8,
            };
            let address = Ipv4Addr::from_bits(0x0100_0000 + numbers.below(0xde00_0000) as u32);
            (Prefix::containing(address.into(), length).unwrap(), target(numbers.below(1000)))
        })
        .collect()
}

/// Half /48, then /32, /44, /40, /36, /64, /128 in blocks that registries give out.
fn v6_prefixes(count: usize, numbers: &mut Numbers) -> Vec<(Prefix, TargetId)> {
    let blocks =
        [0x2001, 0x2400, 0x2402, 0x2404, 0x2600, 0x2602, 0x2607, 0x2620, 0x2800, 0x2a00, 0x2a02, 0x2c0f];
    (0..count)
        .map(|_| {
            let length = match numbers.below(100) {
                0..48 => 48,
                48..64 => 32,
                64..76 => 44,
                76..86 => 40,
                86..92 => 36,
                92..98 => 64,
                _ => 128,
            };
            let block = blocks[numbers.below(blocks.len() as u64) as usize];
            // Holders have a few thousand /32, and many prefixes in each.
            let holder = u128::from(numbers.below(2000) * 17);
            let rest = u128::from(numbers.next()) << 32 | 1;
            let address = Ipv6Addr::from_bits(block << 112 | holder << 96 | rest & (u128::MAX >> 32));
            (Prefix::containing(address.into(), length).unwrap(), target(numbers.below(1000)))
        })
        .collect()
}

fn target(number: u64) -> TargetId {
    TargetId::new(number as usize).unwrap()
}

fn within(prefix: Prefix, numbers: &mut Numbers) -> IpAddr {
    let random = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    match prefix.address() {
        IpAddr::V4(a) => Ipv4Addr::from_bits(
            a.to_bits() | random as u32 & u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0),
        )
        .into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(
            a.to_bits() | random & u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0),
        )
        .into(),
    }
}

/// Nanoseconds a lookup, one after the other: the next address depends on what was found.
fn per_lookup(fib: &Fib, addresses: &[IpAddr]) -> f64 {
    let rounds = 4_000_000 / addresses.len();
    let begin = Instant::now();
    let mut found = 0;
    for _ in 0..rounds {
        for address in addresses {
            found = match address {
                IpAddr::V4(a) => fib.lookup_v4(Ipv4Addr::from_bits(a.to_bits() ^ found & 0x8000_0000)),
                IpAddr::V6(a) => {
                    fib.lookup_v6(Ipv6Addr::from_bits(a.to_bits() ^ u128::from(found & 0x8000_0000)))
                }
            }
            .map_or(0, |id| id.index() as u32);
        }
    }
    black_box(found);
    begin.elapsed().as_nanos() as f64 / (rounds * addresses.len()) as f64
}

fn figures(name: &str, prefixes: &[(Prefix, TargetId)], numbers: &mut Numbers) {
    let begin = Instant::now();
    let fib = Fib::new(prefixes.iter().copied());
    let built = begin.elapsed();
    let pick = |count: usize, numbers: &mut Numbers| -> Vec<IpAddr> {
        (0..count)
            .map(|_| {
                let prefix = prefixes[numbers.below(prefixes.len() as u64) as usize].0;
                within(prefix, numbers)
            })
            .collect()
    };
    let lookups = [1, 1000, 1_000_000].map(|count| per_lookup(&fib, &pick(count, numbers)));
    let begin = Instant::now();
    let mut steps = Fib::default();
    prefixes.iter().for_each(|(prefix, value)| _ = steps.insert(*prefix, *value));
    let inserted = begin.elapsed();
    // Each change is of a table that somebody reads: everything on the way is copied.
    let begin = Instant::now();
    let mut newest = fib.clone();
    for ((prefix, value), number) in prefixes.iter().cycle().take(1000).zip(0..) {
        let previous = newest.clone();
        newest.insert(*prefix, target(value.index() as u64 + 1 + number / 10));
        drop(previous);
    }
    let changed = begin.elapsed() / 1000;
    let per_route = fib.memory() / fib.len();
    println!(
        "{name}: {} routes, {per_route} octets each; built in {built:?}, in steps in {inserted:?}; a change {changed:?}; \
         lookup among 1, 1,000, 1,000,000 addresses: {lookups:.1?} ns",
        fib.len(),
    );
}

/// The longest of the prefixes that contain `address`, found in a map of them.
fn search(map: &HashMap<Prefix, TargetId>, address: IpAddr) -> Option<TargetId> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (0..=bits).rev().find_map(|length| map.get(&Prefix::containing(address, length).unwrap()).copied())
}

#[test]
fn a_large_table_agrees_with_maps_while_it_grows_and_shrinks() {
    let mut numbers = Numbers(1);
    let mut prefixes = v4_prefixes(20_000, &mut numbers);
    prefixes.extend(v6_prefixes(10_000, &mut numbers));
    let mut map: HashMap<_, _> = prefixes.iter().rev().copied().collect();
    let mut fib = Fib::new(prefixes.iter().copied());
    let whole = fib.memory();
    for round in 0..4 {
        assert_eq!(fib.len(), map.len());
        for (prefix, _) in &prefixes {
            let address = within(*prefix, &mut numbers);
            assert_eq!(fib.lookup(address), search(&map, address), "{address} in round {round}");
        }
        for (prefix, _) in prefixes.iter().skip(round).step_by(4) {
            assert_eq!(fib.remove(*prefix), map.remove(prefix));
        }
        assert!(fib.memory() < whole);
    }
    assert!(fib.is_empty() && fib.memory() == 0);
}

#[test]
#[ignore = "measures"]
fn figures_of_full_tables() {
    let mut numbers = Numbers(3);
    let few = v4_prefixes(10, &mut numbers);
    figures("v4, few", &few, &mut numbers);
    let many = v4_prefixes(500_000, &mut numbers);
    figures("v4, full", &many, &mut numbers);
    let few = v6_prefixes(10, &mut numbers);
    figures("v6, few", &few, &mut numbers);
    let many = v6_prefixes(200_000, &mut numbers);
    figures("v6, full", &many, &mut numbers);
}

//! How fast checksums are computed: `cargo test --release -p weft-stack --test checksum_speed -- --ignored --nocapture`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use weft_stack::wire::checksum::Sum;
use weft_stack::wire::crc32c::crc32c;

fn measure(name: &str, compute: impl Fn(&[u8]) -> u32) {
    for length in [20, 64, 1500, 65_536] {
        let data = vec![0x5a; length];
        let rounds = 50_000_000 / (length + 64);
        let run = |_| {
            let start = Instant::now();
            for _ in 0..rounds {
                black_box(compute(black_box(&data)));
            }
            start.elapsed().as_nanos() as f64 / rounds as f64
        };
        let best = (0..5).map(run).fold(f64::INFINITY, f64::min);
        println!("{name} of {length} octets: {best:.1} ns, {:.1} octets a ns", length as f64 / best);
    }
}

#[test]
#[ignore = "a measurement, to be run in release mode"]
fn checksum_speed() {
    measure("internet checksum", |data| u32::from(Sum::default().bytes(data).finish()));
    measure("CRC32c", crc32c);
}

//! Runs one fuzz target under libFuzzer: the one that the environment variable `WEFT_FUZZ_TARGET` names.
//!
//! One binary for all targets, since building it takes longer than anything else here.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weft_fuzz::TARGETS;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("WEFT_FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|target| target.name == wanted) {
        Some(target) => target.run,
        None => {
            let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            panic!("WEFT_FUZZ_TARGET is {wanted:?}, one of {} expected", known.join(", "))
        }
    }
});

fuzz_target!(|data: &[u8]| RUN(data));

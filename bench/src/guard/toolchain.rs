//! What counts depend on beside the code: the compiler, valgrind, and the processor that valgrind plays.

use serde::{Deserialize, Serialize};

use crate::version::said;

/// What figures were counted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// As it says itself.
    pub rustc: String,
    /// As it says itself.
    pub valgrind: String,
    /// Valgrind has a processor of its own: the cipher and the C library choose their code by what that can do, which is
    /// the same on every machine that has AVX2. AVX-512 it has not.
    pub processor: String,
}

impl Toolchain {
    /// Of this machine.
    pub fn here() -> Toolchain {
        Toolchain {
            rustc: version("rustc"),
            valgrind: version("valgrind"),
            processor: format!("{}, {}", std::env::consts::ARCH, vectors()),
        }
    }

    /// What is different: what it was, and what it is.
    pub fn differences(&self, now: &Toolchain) -> Vec<String> {
        let parts =
            [(&self.rustc, &now.rustc), (&self.valgrind, &now.valgrind), (&self.processor, &now.processor)];
        let told = |(before, now)| format!("{before}, and this is {now}");
        parts.into_iter().filter(|(before, now)| before != now).map(told).collect()
    }
}

fn version(program: &str) -> String {
    said(program, &["--version"]).unwrap_or_else(|| format!("no {program}"))
}

/// Of the vectors that the machine has, those that valgrind knows.
fn vectors() -> &'static str {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    if flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "avx2")) {
        "AVX2"
    } else {
        "no AVX2"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_is_told_of() {
        let before = Toolchain {
            rustc: "rustc 1.90.0".into(),
            valgrind: "valgrind-3.19.0".into(),
            processor: "x86_64, AVX2".into(),
        };
        assert!(before.differences(&before.clone()).is_empty());
        let now = Toolchain { rustc: "rustc 1.95.0".into(), ..before.clone() };
        assert_eq!(before.differences(&now), ["rustc 1.90.0, and this is rustc 1.95.0"]);
    }
}

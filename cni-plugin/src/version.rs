//! The versions of the CNI specification that are served.

use std::fmt;

use serde_json::{Value, json};

/// A version of the specification; the greater one is the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// 0.3.0: results with interfaces, chains of plugins.
    V0_3_0,
    /// 0.3.1, the same.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses no longer say their family.
    V1_0_0,
    /// 1.1.0: GC and STATUS, more about interfaces and routes.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [SpecVersion; 5] = [
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];
    /// The newest.
    pub const LATEST: SpecVersion = SpecVersion::V1_1_0;

    /// The version with this name; exact.
    pub fn from_name(name: &str) -> Option<SpecVersion> {
        SpecVersion::ALL.into_iter().find(|version| version.name() == name)
    }

    /// As configurations have it: "1.1.0".
    pub fn name(self) -> &'static str {
        match self {
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }

    /// All names, for messages: "0.3.0, 0.3.1, ...".
    pub fn names() -> String {
        SpecVersion::ALL.map(SpecVersion::name).join(", ")
    }

    /// What VERSION answers.
    pub fn answer() -> Value {
        let supported = SpecVersion::ALL.map(SpecVersion::name);
        json!({ "cniVersion": SpecVersion::LATEST.name(), "supportedVersions": supported })
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_age_and_found_by_their_exact_name() {
        assert!(SpecVersion::ALL.is_sorted());
        for version in SpecVersion::ALL {
            assert_eq!(SpecVersion::from_name(version.name()), Some(version));
        }
        for wrong in ["", "1.1", "0.2.0", "1.1.0 ", "v1.0.0", "2.0.0"] {
            assert_eq!(SpecVersion::from_name(wrong), None, "{wrong:?}");
        }
    }
}

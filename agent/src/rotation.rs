//! When the node's key is changed, and when the one before it is forgotten.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cluster::spread;
use crate::config::KeyConfig;
use crate::daemon::Keys;
use crate::error::chain;
use crate::file;

const FILE: &str = "key.json";

/// How long the node is reached by two keys. Nobody uses keys of a session for more than 180 s (WireGuard,
/// REJECT_AFTER_TIME), and all nodes have heard of the new one long before.
const OVERLAP: Duration = Duration::from_secs(300);

/// The age of the node's key.
#[derive(Debug)]
pub struct Rotation {
    folder: PathBuf,
    every: Option<Duration>,
    known: Option<Known>,
    /// When there were first two keys.
    doubled: Option<Instant>,
}

/// A key, and since when it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    public_key: String,
    /// Seconds since 1970.
    since: u64,
}

impl Rotation {
    /// What is known of it from before.
    ///
    /// Of nodes that came at once, each changes its key a little sooner than the configuration says, by up to an eighth:
    /// all others follow every change.
    pub fn load(folder: &Path, config: &KeyConfig, node: &str) -> Rotation {
        let known = fs::read(folder.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let every =
            (config.rotate_hours > 0).then(|| Duration::from_secs(3600 * u64::from(config.rotate_hours)));
        let every = every.map(|every| every - (every / 8).mul_f64(spread::portion(node)));
        Rotation { folder: folder.to_owned(), every, known, doubled: None }
    }

    /// The node is known by these keys.
    pub fn note(&mut self, keys: &Keys) {
        if keys.previous.is_empty() {
            self.doubled = None;
        } else {
            self.doubled.get_or_insert_with(Instant::now);
        }
        if keys.public.is_empty() || self.known.as_ref().is_some_and(|known| known.public_key == keys.public)
        {
            return;
        }
        // The one before this is in use as well from now on.
        self.doubled = (!keys.previous.is_empty()).then(Instant::now);
        let known = Known { public_key: keys.public.clone(), since: now() };
        // A name and a number: this cannot fail.
        let text = serde_json::to_vec(&known).unwrap_or_default();
        if let Err(error) = file::replace(&self.folder, FILE, &text) {
            tracing::warn!("the age of the node's key is not kept: {}", chain(&error));
        }
        self.known = Some(known);
    }

    /// The key is to be changed.
    pub fn is_due(&self) -> bool {
        let age = self.known.as_ref().map(|known| Duration::from_secs(now().saturating_sub(known.since)));
        self.doubled.is_none() && self.every.zip(age).is_some_and(|(every, age)| age >= every)
    }

    /// Earlier keys are to be forgotten.
    pub fn is_over(&self, keys: Option<&Keys>) -> bool {
        let earlier = keys.is_some_and(|keys| !keys.previous.is_empty());
        earlier && self.doubled.is_some_and(|since| since.elapsed() >= OVERLAP)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_changed_when_it_is_old_and_its_age_outlives_the_agent() {
        let folder = std::env::temp_dir().join(format!("weft-agent-{}-rotation", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = KeyConfig { rotate_hours: 1 };
        let keys = Keys { public: "first".into(), previous: vec![] };
        let mut rotation = Rotation::load(&folder, &config, "one");
        assert!(!rotation.is_due(), "no key is known");
        rotation.note(&keys);
        assert!(!rotation.is_due());
        let old = Known { public_key: "first".into(), since: now() - 3601 };
        fs::write(folder.join(FILE), serde_json::to_vec(&old).unwrap()).unwrap();
        let mut rotation = Rotation::load(&folder, &config, "one");
        rotation.note(&keys);
        assert!(rotation.is_due());
        assert!(!Rotation::load(&folder, &KeyConfig { rotate_hours: 0 }, "one").is_due());
        let every = |node| Rotation::load(&folder, &config, node).every.unwrap();
        let (shortest, longest) = (Duration::from_secs(3150), Duration::from_secs(3600));
        assert!(["one", "two"].iter().all(|node| (shortest..=longest).contains(&every(node))));
        assert_ne!(every("one"), every("two"));
        rotation.note(&Keys { public: "second".into(), previous: vec!["first".into()] });
        assert!(!rotation.is_due(), "one is under way");
        fs::remove_dir_all(&folder).unwrap();
    }
}

//! An object as the server keeps it: its value, its JSON text made once, and the metadata that the server sets.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use crate::cluster::path::Key;

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The object.
    pub value: Value,
    /// Its JSON text, for all lists and watches.
    pub json: Bytes,
}

impl Object {
    /// An object of this version; the version is written into it.
    pub fn new(mut value: Value, version: u64) -> Object {
        metadata(&mut value).insert("resourceVersion".into(), version.to_string().into());
        let json = Bytes::from(value.to_string());
        Object { value, json }
    }

    /// A word of its metadata; empty when it has none.
    pub fn word(&self, field: &str) -> &str {
        word(&self.value, field)
    }

    /// The object's version.
    pub fn version(&self) -> u64 {
        self.word("resourceVersion").parse().unwrap_or(0)
    }

    /// Where it is.
    pub fn key(&self) -> Key {
        Key { namespace: self.word("namespace").to_owned(), name: self.word("name").to_owned() }
    }

    /// The uids of the objects that own it.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        let owners = self.value["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        owners.iter().filter_map(|owner| owner["uid"].as_str())
    }

    /// Whether somebody wants to do something before it goes.
    pub fn has_finalizers(&self) -> bool {
        self.value["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
    }
}

/// A word of an object's metadata; empty when it has none.
pub fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value["metadata"][field].as_str().unwrap_or_default()
}

/// The metadata of an object, made when there is none; what is no object becomes one.
pub fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    map(map(value).entry("metadata").or_insert_with(|| json!({})))
}

fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

/// Sets what only the server sets, for a new object.
pub fn born(value: &mut Value) {
    let fields = metadata(value);
    fields.insert("uid".into(), uid().into());
    fields.insert("creationTimestamp".into(), now().into());
    fields.insert("generation".into(), 1.into());
    fields.remove("deletionTimestamp");
}

/// Puts what only the server sets back into `new`, and counts the generation when the wish has changed.
pub fn keep_identity(new: &mut Value, old: &Value) {
    let generation = old["metadata"]["generation"].as_u64().unwrap_or(1) + u64::from(wish_differs(new, old));
    let fields = metadata(new);
    let kept = ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "resourceVersion"];
    for field in kept {
        match old["metadata"].get(field) {
            Some(value) => fields.insert(field.into(), value.clone()),
            None => fields.remove(field),
        };
    }
    fields.insert("generation".into(), generation.into());
}

/// Copies a field from one object to another, also that it is missing.
pub fn copy_field(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => map(to).insert(field.into(), value.clone()),
        None => map(to).remove(field),
    };
}

fn wish_differs(new: &Value, old: &Value) -> bool {
    let wish = |value: &Value| -> Option<Vec<_>> {
        let fields =
            value.as_object()?.iter().filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        Some(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    wish(new) != wish(old)
}

/// The time now as the API writes it (RFC 3339, whole seconds, UTC).
pub fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Days and years after Howard Hinnant's `civil_from_days`, whose years begin in March.
fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A random UUID (RFC 9562 section 5.4), from the keys that the standard library draws for its hash maps.
fn uid() -> String {
    let (high, low) = (RandomState::new().hash_one(now()), RandomState::new().hash_one(now()));
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    let (d, e) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}")
}

/// Letters and digits for a generated name, without vowels, as the API draws them.
pub fn suffix() -> String {
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = RandomState::new().hash_one("name");
    let mut draw = || {
        let letter = letters[(random % letters.len() as u64) as usize];
        random /= letters.len() as u64;
        char::from(letter)
    };
    (0..5).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_date_writes_them() {
        // From `date -u -d @N +%FT%TZ`.
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
    }

    #[test]
    fn uids_differ_and_have_the_shape_of_version_4() {
        let (a, b) = (uid(), uid());
        assert_ne!(a, b);
        let lengths: Vec<_> = a.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(a[14..].starts_with('4') && "89ab".contains(&a[19..20]), "{a}");
    }

    #[test]
    fn only_a_changed_wish_counts_the_generation() {
        let old = json!({"metadata": {"uid": "u", "generation": 3}, "spec": {"a": 1}, "status": {}});
        let mut new = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"a": 1}, "status": {"b": 1}});
        keep_identity(&mut new, &old);
        assert_eq!(new["metadata"], json!({"uid": "u", "generation": 3, "labels": {"x": "y"}}));
        new["spec"]["a"] = json!(2);
        keep_identity(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
    }
}

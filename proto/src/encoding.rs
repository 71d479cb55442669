//! How single values look in JSON and YAML: enums as plain words, timestamps as RFC 3339, bytes as hex.
//!
//! The generated messages refer to these functions in their serde attributes; the shape of whole
//! documents is [`crate::manifest`]'s.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use crate::v1::{Change, EventType, Kind, MirrorDirection, PortType, Protocol, RouteAction};

/// Whether a field is left out because it has its default value.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An enum whose values are written as words.
pub trait Words: Copy + Into<i32> + TryFrom<i32> + 'static {
    /// What a value is called in an error: "a port type".
    const WHAT: &'static str;
    /// Every value except "unspecified", with its word.
    const WORDS: &'static [(Self, &'static str)];

    /// The word of a value; empty for "unspecified" and for numbers this version does not know.
    fn word(number: i32) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| (*value).into() == number).map_or("", |(_, word)| word)
    }

    /// The value of a word.
    fn from_word(text: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, word)| *word == text).map(|(value, _)| *value)
    }
}

impl Words for Kind {
    const WHAT: &'static str = "a kind";
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Namespace, "Namespace"),
        (Self::Network, "Network"),
        (Self::Port, "Port"),
        (Self::Router, "Router"),
        (Self::Tunnel, "Tunnel"),
    ];
}

impl Words for PortType {
    const WHAT: &'static str = "a port type";
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Tap, "tap"), (Self::Veth, "veth"), (Self::Host, "host"), (Self::Uplink, "uplink")];
}

impl Words for MirrorDirection {
    const WHAT: &'static str = "a mirror direction";
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Both, "both"), (Self::Received, "received"), (Self::Sent, "sent")];
}

impl Words for RouteAction {
    const WHAT: &'static str = "a route action";
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Via, "via"),
        (Self::Blackhole, "blackhole"),
        (Self::Unreachable, "unreachable"),
        (Self::Prohibit, "prohibit"),
    ];
}

impl Words for Change {
    const WHAT: &'static str = "a change";
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Created, "created"),
        (Self::Updated, "updated"),
        (Self::Unchanged, "unchanged"),
        (Self::Deleted, "deleted"),
    ];
}

impl Words for EventType {
    const WHAT: &'static str = "an event type";
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Present, "present"),
        (Self::Synced, "synced"),
        (Self::Changed, "changed"),
        (Self::Deleted, "deleted"),
    ];
}

impl Words for Protocol {
    const WHAT: &'static str = "a protocol";
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Icmp, "icmp"), (Self::Tcp, "tcp"), (Self::Udp, "udp"), (Self::Resolve, "resolve")];
}

/// serde of an enum field, which is an `i32` in the generated code, as its word.
pub struct Word<E>(PhantomData<E>);

impl<E: Words> Word<E> {
    /// Writes the word.
    pub fn serialize<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(E::word(*number))
    }

    /// Reads a word.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        deserializer.deserialize_str(Word::<E>(PhantomData))
    }
}

impl<E: Words> Visitor<'_> for Word<E> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = E::WORDS.iter().map(|(_, word)| *word).collect();
        write!(f, "{} ({})", E::WHAT, words.join(", "))
    }

    fn visit_str<Error: de::Error>(self, text: &str) -> Result<i32, Error> {
        E::from_word(text)
            .map(Into::into)
            .ok_or_else(|| Error::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Reads a list whose entries are texts or plain numbers: `[10, 100-199]` holds one of each.
pub fn numbers_or_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Number(u64),
        Text(String),
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    let text = |entry| match entry {
        Entry::Number(number) => number.to_string(),
        Entry::Text(text) => text,
    };
    Ok(entries.into_iter().map(text).collect())
}

/// serde of a timestamp as RFC 3339 text.
pub mod timestamp {
    use prost_types::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes `2026-11-22T08:00:00Z`.
    pub fn serialize<S: Serializer>(value: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(timestamp) => serializer.collect_str(timestamp),
            None => serializer.serialize_none(),
        }
    }

    /// Reads any RFC 3339 time; null is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let expected = &"an RFC 3339 time, such as 2026-11-22T08:00:00Z";
        let timestamp = text.parse();
        timestamp.map(Some).map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), expected))
    }
}

/// Writes bytes as two lower-case hexadecimal digits each.
pub fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{KindCount, Metadata, TraceOutput};

    #[test]
    fn enums_are_words_and_defaults_are_left_out() {
        let count = KindCount { kind: Kind::Port.into(), total: 3, ready: 0 };
        assert_eq!(serde_json::to_string(&count).unwrap(), r#"{"kind":"Port","total":3}"#);
    }

    #[test]
    fn a_number_that_is_no_value_has_an_empty_word() {
        assert_eq!(PortType::word(99), "");
        assert_eq!(PortType::word(0), "");
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        let text = r#"{"name":"a","created":"2026-11-22T08:00:00Z"}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(metadata.created.unwrap().seconds, 1_795_334_400);
        assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
        let error = serde_json::from_str::<Metadata>(r#"{"created":"today"}"#).unwrap_err();
        assert!(error.to_string().starts_with(
            r#"invalid value: string "today", expected an RFC 3339 time, such as 2026-11-22T08:00:00Z"#
        ));
    }

    #[test]
    fn frames_are_hexadecimal() {
        let output = TraceOutput { port: "a".into(), frame: vec![0, 0xab], summary: String::new() };
        assert_eq!(serde_json::to_string(&output).unwrap(), r#"{"port":"a","frame":"00ab"}"#);
    }
}

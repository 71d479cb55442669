//! The network configuration on standard input: JSON, as libcni makes and as Go reads it.
//!
//! Go takes keys in any case and null for nothing, and runtimes rely on it: containerd writes "HostPort" where
//! the conventions say "hostPort". What the fields mean is [`crate::settings`]'s; fields that nobody knows are
//! never an error.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::environment::{Operation, is_name};
use crate::failure::{Code, Failure};
use crate::version::SpecVersion;

/// Keys as the specification, the conventions and Weft spell them.
const KEYS: [&str; 50] = [
    "addresses",
    "args",
    "bandwidth",
    "callTimeoutSeconds",
    "cni",
    "cni.dev/attachments",
    "cni.dev/valid-attachments",
    "cniVersion",
    "containerID",
    "containerPort",
    "daemonWaitSeconds",
    "defaultRoute",
    "detachQueue",
    "dns",
    "domain",
    "egressBurst",
    "egressRate",
    "gw",
    "hostIP",
    "hostPort",
    "ifname",
    "ingressBurst",
    "ingressRate",
    "ipRanges",
    "ipam",
    "ips",
    "key",
    "labels",
    "mac",
    "mtu",
    "name",
    "nameservers",
    "network",
    "options",
    "podNetworks",
    "portMappings",
    "portType",
    "protocol",
    "rangeEnd",
    "rangeStart",
    "ranges",
    "routes",
    "runtimeConfig",
    "search",
    "searches",
    "servers",
    "socket",
    "statusReportsExhaustion",
    "subnet",
    "vlan",
];

/// A configuration.
#[derive(Debug, Clone)]
pub struct Document {
    /// As it came, for plugins that are called.
    pub bytes: Vec<u8>,
    /// Of the specification.
    pub version: SpecVersion,
    /// Of the network configuration.
    pub name: String,
    /// The result of the plugins before, as it came.
    pub previous: Option<Value>,
    /// All the rest, without nulls, with the keys of [`KEYS`] spelled so.
    value: Value,
}

impl Document {
    /// Reads a configuration for a command.
    pub fn parse(bytes: Vec<u8>, operation: Operation) -> Result<Document, Failure> {
        let raw: Value = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(
                Code::Decoding,
                "the network configuration is not JSON",
                format!("standard input: {error}"),
            )
        })?;
        let Value::Object(mut fields) = raw else {
            return Err(Failure::new(
                Code::Decoding,
                "the network configuration is not JSON",
                "an object expected",
            ));
        };
        let previous = fields.remove("prevResult").filter(|value| !value.is_null());
        let value = tidy(Value::Object(fields));
        let version = version(&value)?;
        serves(version, operation)?;
        let name = text(&value, "name")?.unwrap_or_default().to_owned();
        if !is_name(&name) {
            let details = format!("{name:?}: letters, digits, \"_\", \".\" and \"-\" expected");
            return Err(Failure::field("name", details));
        }
        Ok(Document { bytes, version, name, previous, value })
    }

    /// Reads the fields that a type has.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let field = error.path().to_string();
            let details = error.into_inner().to_string();
            Failure::new(Code::Decoding, format!("{field} cannot be read"), format!("{field}: {details}"))
        })
    }
}

/// The version that a text claims to be of, as far as it can be found out.
pub fn claimed_version(bytes: &[u8]) -> Option<SpecVersion> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    SpecVersion::from_name(value.get("cniVersion")?.as_str()?)
}

fn version(value: &Value) -> Result<SpecVersion, Failure> {
    let name = text(value, "cniVersion")?;
    name.and_then(SpecVersion::from_name).ok_or_else(|| {
        let what = name.map_or("none".into(), |name| format!("{name:?}"));
        let details =
            format!("the configuration has cniVersion {what}, the plugin serves {}", SpecVersion::names());
        Failure::new(Code::IncompatibleVersion, "incompatible CNI versions", details)
    })
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
fn serves(version: SpecVersion, operation: Operation) -> Result<(), Failure> {
    let since = match operation {
        Operation::Check => SpecVersion::V0_4_0,
        Operation::Gc | Operation::Status => SpecVersion::V1_1_0,
        Operation::Add | Operation::Del | Operation::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    let details = format!(
        "{} needs a configuration of cniVersion {since} or later, this one has {version}",
        operation.name()
    );
    Err(Failure::new(Code::IncompatibleVersion, "incompatible CNI versions", details))
}

fn text<'a>(value: &'a Value, field: &str) -> Result<Option<&'a str>, Failure> {
    match value.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            let details = format!("{field}: a text expected, not {other}");
            Err(Failure::new(Code::Decoding, format!("{field} cannot be read"), details))
        }
    }
}

/// A value without nulls, with known keys spelled the known way.
pub fn tidy(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut tidied = Map::new();
            for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
                match KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(&key)) {
                    // The exact spelling wins over another.
                    Some(known) if known != key => {
                        tidied.entry(known).or_insert_with(|| tidy(value));
                    }
                    _ => {
                        tidied.insert(key, tidy(value));
                    }
                }
            }
            Value::Object(tidied)
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| !item.is_null()).map(tidy).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value, operation: Operation) -> Result<Document, Failure> {
        Document::parse(value.to_string().into_bytes(), operation)
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        // SPEC.md 1.1.0, "Add example", second step.
        let text = br#"{
          "cniVersion": "1.1.0", "name": "dbnet", "type": "tuning",
          "sysctl": { "net.core.somaxconn": "500" },
          "runtimeConfig": { "mac": "00:11:22:33:44:66" },
          "prevResult": {
            "ips": [ { "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2 } ],
            "routes": [ { "dst": "0.0.0.0/0" } ],
            "interfaces": [ { "name": "cni0", "mac": "00:11:22:33:44:55" } ],
            "dns": { "nameservers": [ "10.1.0.1" ] }
          }
        }"#;
        let document = Document::parse(text.to_vec(), Operation::Add).unwrap();
        assert_eq!((document.version, document.name.as_str()), (SpecVersion::V1_1_0, "dbnet"));
        assert_eq!(document.previous.unwrap()["ips"][0]["interface"], 2);
    }

    #[test]
    fn what_is_no_object_cannot_be_decoded() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "\"x\"",
            "{\"cniVersion\": 1}",
            "{\"cniVersion\": \"1.1.0\", \"name\": 1}",
        ] {
            let failure = Document::parse(text.as_bytes().to_vec(), Operation::Add).unwrap_err();
            assert_eq!(failure.code, 6, "{text}");
        }
    }

    #[test]
    fn versions_that_are_not_served_are_told() {
        for version in [json!("0.1.0"), json!("0.2.0"), json!("2.0.0"), json!(""), Value::Null] {
            let failure = parse(&json!({ "cniVersion": version, "name": "n" }), Operation::Del).unwrap_err();
            assert_eq!(failure.code, 1);
            assert!(failure.details.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{failure}");
        }
    }

    #[test]
    fn commands_need_the_version_that_brought_them() {
        let old = [
            (Operation::Check, vec!["0.3.0", "0.3.1"]),
            (Operation::Gc, vec!["0.3.0", "0.3.1", "0.4.0", "1.0.0"]),
            (Operation::Status, vec!["0.3.0", "0.3.1", "0.4.0", "1.0.0"]),
            (Operation::Add, vec![]),
            (Operation::Del, vec![]),
        ];
        for (operation, refused) in old {
            for version in SpecVersion::ALL.map(SpecVersion::name) {
                let answer = parse(&json!({ "cniVersion": version, "name": "n" }), operation);
                assert_eq!(answer.is_err(), refused.contains(&version), "{operation:?} {version}");
                assert!(answer.err().is_none_or(|failure| failure.code == 1));
            }
        }
    }

    #[test]
    fn a_network_configuration_has_a_name() {
        for name in ["", "-x", "a/b", "a b"] {
            let failure = parse(&json!({ "cniVersion": "1.0.0", "name": name }), Operation::Add).unwrap_err();
            assert_eq!((failure.code, failure.message.as_str()), (7, "name is wrong"));
        }
    }

    #[test]
    fn keys_are_taken_in_any_case_and_nulls_are_nothing() {
        let value = json!({
            "RuntimeConfig": { "portMappings": [{ "HostPort": 80, "HostIP": "" }, null], "mac": null },
            "gw": "exact", "GW": "other", "unknownKey": { "Deep": null },
        });
        assert_eq!(
            tidy(value),
            json!({
                "runtimeConfig": { "portMappings": [{ "hostPort": 80, "hostIP": "" }] },
                "gw": "exact", "unknownKey": {},
            })
        );
    }

    #[test]
    fn the_known_keys_are_sorted_and_told_apart_by_more_than_case() {
        let mut lower = KEYS.map(str::to_ascii_lowercase).to_vec();
        lower.sort();
        lower.dedup();
        assert_eq!(lower.len(), KEYS.len());
    }
}

//! The definitions: what the API has they have, and what they are made of an API server takes.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::{Value, json};

use super::definitions;

/// Fields of the API that custom resources do not have: they are only written.
const SECRET: [&str; 2] = ["Tunnel.spec.wireguard.privateKey", "Tunnel.spec.wireguard.peers.presharedKey"];
/// Fields that the API does not have.
const OF_THE_AGENT: [&str; 4] = [
    "Network.spec.uplink",
    "Network.spec.uplink.device",
    "Network.spec.uplink.vlan",
    "Network.spec.uplink.vlans",
];

fn schema(kind: &str) -> Value {
    let definition = definitions().into_iter().find(|definition| definition.spec.names.kind == kind).unwrap();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap();
    serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// The API's messages and enums.
struct Contract(FileDescriptorSet);

impl Contract {
    fn new() -> Contract {
        Contract(FileDescriptorSet::decode(weft_proto::FILE_DESCRIPTOR_SET).unwrap())
    }

    fn message(&self, name: &str) -> &DescriptorProto {
        let mut all = self.0.file.iter().flat_map(|file| &file.message_type);
        all.find(|message| message.name() == name).unwrap()
    }

    fn words(&self, name: &str) -> BTreeSet<String> {
        let mut all = self.0.file.iter().flat_map(|file| &file.enum_type);
        let found: &EnumDescriptorProto = all.find(|found| found.name() == name).unwrap();
        // ROUTE_ACTION_VIA is "via"; the first is "unspecified".
        let prefix = found.value[0].name().trim_end_matches("UNSPECIFIED");
        let names = found.value[1..].iter().map(|value| value.name().trim_start_matches(prefix));
        names.map(str::to_lowercase).collect()
    }

    /// Every field below a message: its path and what it is made of.
    fn fields(&self, path: &str, message: &str, found: &mut BTreeSet<(String, String)>) {
        for field in &self.message(message).field {
            let path = format!("{path}.{}", field.json_name());
            let list = if field.label() == Label::Repeated { "list of " } else { "" };
            found.insert((path.clone(), format!("{list}{}", self.what(field))));
            if field.r#type() == Type::Message {
                self.fields(&path, type_of(field), found);
            }
        }
    }

    fn what(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::String => "string".into(),
            Type::Uint32 => "integer".into(),
            Type::Bool => "boolean".into(),
            Type::Message => "object".into(),
            Type::Enum => format!("one of {:?}", self.words(type_of(field))),
            other => panic!("{other:?}"),
        }
    }
}

fn type_of(field: &FieldDescriptorProto) -> &str {
    field.type_name().rsplit('.').next().unwrap()
}

/// Every property below a schema, in the words of [`Contract::fields`].
fn properties(path: &str, schema: &Value, found: &mut BTreeSet<(String, String)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let (list, one) = match property.get("items") {
            Some(items) => ("list of ", items),
            None => ("", property),
        };
        let what = match one["enum"].as_array() {
            Some(words) => {
                format!("one of {:?}", words.iter().map(|it| it.as_str().unwrap()).collect::<BTreeSet<_>>())
            }
            None => one["type"].as_str().unwrap().to_owned(),
        };
        found.insert((path.clone(), format!("{list}{what}")));
        properties(&path, one, found);
    }
}

#[test]
fn declared_kinds_have_every_field_of_the_api_but_secrets() {
    for kind in ["Network", "Router", "Tunnel"] {
        let (mut expected, mut found) = (BTreeSet::new(), BTreeSet::new());
        let path = format!("{kind}.spec");
        Contract::new().fields(&path, &format!("{kind}Spec"), &mut expected);
        properties(&path, &schema(kind)["properties"]["spec"], &mut found);
        for secret in SECRET.iter().filter(|secret| secret.starts_with(kind)) {
            assert!(expected.remove(&((*secret).to_owned(), "string".to_owned())), "{secret}");
        }
        found.retain(|(path, _)| !OF_THE_AGENT.contains(&path.as_str()));
        let missing: Vec<_> = expected.difference(&found).collect();
        let unknown: Vec<_> = found.difference(&expected).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}, unknown: {unknown:#?}");
        assert!(found.len() > 10, "{kind}: {found:?}");
    }
}

/// What Kubernetes asks of a structural schema, and what Weft adds: a description of each property.
fn structural(path: &str, schema: &Value) {
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
    for refused in ["$ref", "oneOf", "anyOf", "allOf", "not", "nullable", "$schema", "const", "uniqueItems"] {
        assert!(schema.get(refused).is_none(), "{path} has {refused}");
    }
    if let Some(format) = schema["format"].as_str() {
        assert!(["int32", "int64", "date-time"].contains(&format), "{path} has the format {format}");
    }
    match kind {
        "array" => structural(&format!("{path}[]"), &schema["items"]),
        "object" => {
            let properties = schema["properties"].as_object();
            assert!(properties.is_some() ^ schema["additionalProperties"].is_object(), "{path}");
            for (name, property) in properties.into_iter().flatten() {
                assert!(property["description"].is_string(), "{path}.{name} has no description");
                structural(&format!("{path}.{name}"), property);
            }
        }
        "string" | "integer" | "boolean" => {}
        other => panic!("{path} is of type {other}"),
    }
}

#[test]
fn every_schema_is_structural() {
    for definition in definitions() {
        let kind = definition.spec.names.kind;
        structural(&kind, &schema(&kind));
    }
}

/// Every list and text of a spec, without a bound.
fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
    match schema["type"].as_str() {
        Some("array") if schema["maxItems"].is_null() => found.push(path.to_owned()),
        Some("string") if schema["maxLength"].is_null() && schema["enum"].is_null() => {
            found.push(path.to_owned())
        }
        _ => {}
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(&format!("{path}.{name}"), property, found);
    }
    if schema["items"].is_object() {
        unbounded(&format!("{path}[]"), &schema["items"], found);
    }
}

/// Else an API server takes the worst for the cost of a rule, and refuses the definition.
#[test]
fn lists_and_texts_of_declared_kinds_are_bounded() {
    let mut found = Vec::new();
    for kind in ["Network", "Router", "Tunnel"] {
        unbounded(kind, &schema(kind)["properties"]["spec"], &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn definitions_are_what_people_type_and_read() {
    let short = definitions().into_iter().map(|definition| {
        let (names, version) = (definition.spec.names, &definition.spec.versions[0]);
        assert_eq!(definition.spec.scope, "Cluster");
        assert_eq!(names.categories, Some(vec!["weft".to_owned()]));
        assert!(version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()));
        let status = &schema(&names.kind)["properties"]["status"]["properties"];
        assert_eq!(status["conditions"]["items"]["required"][0], json!("lastTransitionTime"));
        let columns = version.additional_printer_columns.iter().flatten();
        assert!(columns.clone().any(|column| column.name == "Age"));
        (names.kind, names.short_names.unwrap_or_default().join(","))
    });
    let expected =
        [("IPPool", "ipp"), ("Network", "wnet"), ("Router", "wrt"), ("Tunnel", "wtun"), ("WeftNode", "wn")];
    let expected = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(short.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_left_out_is_what_the_daemon_takes() {
    let network = &schema("Network")["properties"]["spec"]["properties"];
    assert_eq!(network["mtu"]["default"], json!(1500));
    assert_eq!(network["maxMacs"]["default"], json!(4096));
    let route = &schema("Router")["properties"]["spec"]["properties"]["routes"]["items"];
    assert_eq!(route["properties"]["action"]["default"], json!("via"));
    assert_eq!(route["required"], json!(["prefix"]));
    let tunnel = &schema("Tunnel")["properties"]["spec"]["properties"];
    assert_eq!(tunnel["vxlan"]["properties"]["port"]["default"], json!(4789));
    assert_eq!(tunnel["vxlan"]["required"], json!(["vni"]));
    assert!(tunnel["mtu"].get("default").is_none());
}

/// Whether all that is in one is in the other, in lists in the same order.
fn within(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(name, value)| other.get(name).is_some_and(|there| within(value, there)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| within(one, other))
        }
        _ => one == other,
    }
}

#[test]
fn examples_of_the_manual_lose_nothing() {
    let manual = include_str!("../../../docs/kubernetes.md");
    let blocks = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut kinds = BTreeSet::new();
    for text in blocks.flat_map(|block| block.split("---\n")).filter(|text| text.contains("weft.dev/v1")) {
        let given: Value = serde_yaml_ng::from_str(text).unwrap();
        let kind = given["kind"].as_str().unwrap().to_owned();
        let kept = match kind.as_str() {
            "IPPool" => serde_json::to_value(serde_yaml_ng::from_str::<super::IPPool>(text).unwrap()),
            "Network" => serde_json::to_value(serde_yaml_ng::from_str::<super::Network>(text).unwrap()),
            "Router" => serde_json::to_value(serde_yaml_ng::from_str::<super::Router>(text).unwrap()),
            "Tunnel" => serde_json::to_value(serde_yaml_ng::from_str::<super::Tunnel>(text).unwrap()),
            _ => serde_json::to_value(serde_yaml_ng::from_str::<super::WeftNode>(text).unwrap()),
        };
        let kept = kept.unwrap();
        assert!(within(&given, &kept), "{text}{kept:#}");
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), definitions().len(), "{kinds:?}");
}

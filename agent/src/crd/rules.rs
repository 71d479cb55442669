//! The definitions' rules in CEL, evaluated: what they take, what they refuse, and what they cost an API server.

use std::collections::BTreeSet;

use cel::{Context, Program, Value as Answer};
use serde_json::{Value, json};

use super::definitions;

/// An API server refuses a definition with a rule that may cost more, or with rules that may cost ten times that
/// together (apiextensions-apiserver, `StaticEstimatedCostLimit` and `StaticEstimatedCRDCostLimit`).
const DEAREST_RULE: u64 = 10_000_000;

/// An object, and what it was before.
struct Example {
    kind: &'static str,
    name: String,
    spec: Value,
    before: Option<Value>,
}

fn example(kind: &'static str, spec: Value) -> Example {
    Example { kind, name: "blue".into(), spec, before: None }
}

fn change(kind: &'static str, before: Value, spec: Value) -> Example {
    Example { before: Some(before), ..example(kind, spec) }
}

fn named(kind: &'static str, name: &str, spec: Value) -> Example {
    Example { name: name.into(), ..example(kind, spec) }
}

fn vxlan() -> Value {
    json!({"network": "blue", "vxlan": {"vni": 7}})
}

fn gre() -> Value {
    json!({"router": "lab", "gre": {"remote": "192.0.2.1"}})
}

fn subnet(vlan: u16) -> Value {
    json!({"prefix": "198.18.1.0/24", "vlan": vlan})
}

/// One object with fields of another.
fn with(mut object: Value, fields: Value) -> Value {
    json_patch::merge(&mut object, &fields);
    object
}

/// Objects that every rule takes.
fn taken() -> Vec<Example> {
    let via = json!({"prefix": "192.0.2.0/24", "nextHops": ["198.18.0.1", "198.18.0.2"], "weights": [1, 2]});
    let routes = json!([via, {"prefix": "192.0.2.0/24", "action": "prohibit"}]);
    let wireguard = json!({"router": "lab", "wireguard": {"listenPort": 51821}});
    vec![
        example("IPPool", json!({"cidr": "198.18.0.0/16"})),
        change("IPPool", json!({"cidr": "198.18.0.0/16"}), json!({"cidr": "198.18.0.0/16", "blockSize": 24})),
        example("Network", json!({"multicast": {"snooping": true, "querier": true}})),
        example("Network", json!({"multicast": {}})),
        example(
            "Network",
            json!({"uplink": {"device": "eth1", "vlan": 5}, "subnets": [subnet(5), {"prefix": "192.0.2.0/24"}]}),
        ),
        named("Network", &"n".repeat(63), json!({})),
        example("Router", json!({"routes": routes, "tables": [{"name": "other", "routes": routes}]})),
        example("Tunnel", vxlan()),
        change(
            "Tunnel",
            vxlan(),
            with(vxlan(), json!({"vlan": 3, "local": "192.0.2.9", "vxlan": {"vni": 8}})),
        ),
        example("Tunnel", with(vxlan(), json!({"carrier": {"router": "lab"}, "local": "192.0.2.9"}))),
        example("Tunnel", with(gre(), json!({"addresses": ["198.18.9.1/24"], "routes": ["192.0.2.0/24"]}))),
        example("Tunnel", json!({"network": "blue", "gretap": {"remote": "192.0.2.1"}})),
        example("Tunnel", with(wireguard, json!({"addresses": ["198.18.9.1/24"]}))),
    ]
}

const NAMES: &str = "metadata.name: at most 63 letters, digits and '-' expected";

/// Objects that one rule refuses and all others take, with what the rule says.
fn refused() -> Vec<(&'static str, Example)> {
    let routes = |route: Value| {
        let tables = json!([{"name": "other", "routes": [route]}]);
        [example("Router", json!({"routes": [route]})), example("Router", json!({"tables": tables}))]
    };
    let mut all = vec![
        (
            "cidr cannot be changed: make another pool",
            change("IPPool", json!({"cidr": "198.18.0.0/16"}), json!({"cidr": "198.18.0.0/17"})),
        ),
        ("querier needs snooping", example("Network", json!({"multicast": {"querier": true}}))),
        (
            "uplink.vlan is for all of the Network: subnets with that VLAN, or none, expected",
            example(
                "Network",
                json!({"uplink": {"device": "eth1", "vlan": 5}, "subnets": [subnet(5), subnet(6)]}),
            ),
        ),
        (
            "either vlan or vlans expected",
            example("Network", json!({"uplink": {"device": "eth1", "vlan": 5, "vlans": ["5"]}})),
        ),
        (NAMES, named("Network", "blue.net", json!({}))),
        (NAMES, named("Router", &"n".repeat(64), json!({}))),
        (NAMES, named("Tunnel", "blue.net", vxlan())),
        (
            "\"main\" is spec.routes: another name expected",
            example("Router", json!({"tables": [{"name": "main"}]})),
        ),
        (
            "exactly one of vxlan, gre, gretap and wireguard expected",
            example("Tunnel", with(vxlan(), json!({"gretap": {"remote": "192.0.2.1"}}))),
        ),
        (
            "a tunnel's form cannot be changed: make another one",
            change("Tunnel", vxlan(), json!({"network": "blue", "gretap": {"remote": "192.0.2.1"}})),
        ),
        (
            "network is required for vxlan and gretap, and for no other",
            example("Tunnel", json!({"vxlan": {"vni": 7}})),
        ),
        (
            "router is required for gre and wireguard, and for no other",
            example("Tunnel", with(vxlan(), json!({"router": "lab"}))),
        ),
        ("vlan is for vxlan and gretap only", example("Tunnel", with(gre(), json!({"vlan": 3})))),
        (
            "addresses are for gre and wireguard only",
            example("Tunnel", with(vxlan(), json!({"addresses": ["198.18.9.1/24"]}))),
        ),
        ("routes are for gre only", example("Tunnel", with(vxlan(), json!({"routes": ["192.0.2.0/24"]})))),
        (
            "carrier is for vxlan only, and needs local",
            example("Tunnel", with(vxlan(), json!({"carrier": {"router": "lab"}}))),
        ),
    ];
    let via = "nextHops are required for the action via, and for no other";
    all.extend(routes(json!({"prefix": "192.0.2.0/24"})).map(|example| (via, example)));
    let dropped = json!({"prefix": "192.0.2.0/24", "nextHops": ["198.18.0.1"], "action": "blackhole"});
    all.extend(routes(dropped).map(|example| (via, example)));
    let weights = json!({"prefix": "192.0.2.0/24", "nextHops": ["198.18.0.1"], "weights": [1, 2]});
    all.extend(routes(weights).map(|example| ("one of weights for each of nextHops expected", example)));
    all
}

fn schemas() -> Vec<(String, Value)> {
    let schema = |definition: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        (definition.spec.names.kind, serde_json::to_value(schema).unwrap())
    };
    definitions().into_iter().map(schema).collect()
}

fn schema(kind: &str) -> Value {
    schemas().into_iter().find(|(known, _)| known == kind).unwrap().1
}

/// What an API server fills in where nothing is said.
fn fill(schema: &Value, value: &mut Value) {
    if let Value::Object(fields) = value {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(usual) = property.get("default")
                && !fields.contains_key(name)
            {
                fields.insert(name.clone(), usual.clone());
            }
            if let Some(field) = fields.get_mut(name) {
                fill(property, field);
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        fill(&schema["items"], item);
    }
}

/// A rule, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    path: String,
    rule: String,
    message: String,
}

fn rules_of<'a>(path: &'a str, schema: &'a Value) -> impl Iterator<Item = Rule> + 'a {
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap().to_owned();
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().map(move |rule| Rule {
        path: path.to_owned(),
        rule: text(rule, "rule"),
        message: text(rule, "message"),
    })
}

/// Evaluates every rule below a schema for a value. Rules about a change count where there is something before.
fn evaluate(
    path: &str,
    schema: &Value,
    value: &Value,
    before: Option<&Value>,
    found: &mut Vec<(Rule, bool)>,
) {
    for rule in rules_of(path, schema) {
        let is_of_change = rule.rule.contains("oldSelf");
        if is_of_change && before.is_none() {
            continue;
        }
        let mut context = Context::default();
        context.add_variable("self", value).unwrap();
        if let Some(before) = before.filter(|_| is_of_change) {
            context.add_variable("oldSelf", before).unwrap();
        }
        let program = Program::compile(&rule.rule).unwrap_or_else(|error| panic!("{}: {error}", rule.rule));
        match program.execute(&context) {
            Ok(Answer::Bool(holds)) => found.push((rule, holds)),
            other => panic!("{} of {value}: {other:?}", rule.rule),
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(field) = value.get(name) {
            let before = before.and_then(|before| before.get(name));
            evaluate(&format!("{path}.{name}"), property, field, before, found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        evaluate(&format!("{path}[]"), &schema["items"], item, None, found);
    }
}

fn judged(example: &Example) -> Vec<(Rule, bool)> {
    let schema = schema(example.kind);
    let object = |spec: &Value| {
        let mut object = json!({"metadata": {"name": example.name}, "spec": spec});
        fill(&schema, &mut object);
        object
    };
    let mut found = Vec::new();
    let before = example.before.as_ref().map(object);
    evaluate(example.kind, &schema, &object(&example.spec), before.as_ref(), &mut found);
    found
}

/// Every rule below a schema, with how often it, or a step of what it walks, may have to be
/// evaluated for one object.
fn all_rules(path: &str, schema: &Value, times: u64, found: &mut Vec<(Rule, u64)>) {
    for rule in rules_of(path, schema) {
        let bounded = schema["type"] != "string" || schema["maxLength"].is_u64();
        assert!(bounded, "{path} has a rule and no bound");
        let walks = ["all", "exists", "exists_one", "filter", "map"].map(|walk| format!(".{walk}("));
        let walks = walks.iter().any(|walk| rule.rule.contains(walk));
        let steps = if walks { times.saturating_mul(longest(schema)) } else { times };
        found.push((rule, steps));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        all_rules(&format!("{path}.{name}"), property, times, found);
    }
    if schema["items"].is_object() {
        // Where there is no bound there must be no rule below: its cost would be the worst that there is.
        let most = schema["maxItems"].as_u64().unwrap_or(DEAREST_RULE);
        all_rules(&format!("{path}[]"), &schema["items"], times.saturating_mul(most), found);
    }
}

/// Items of the longest list below a schema.
fn longest(schema: &Value) -> u64 {
    let below = schema["properties"].as_object().into_iter().flatten().map(|(_, property)| longest(property));
    let items = schema
        .get("items")
        .map_or(1, |items| schema["maxItems"].as_u64().unwrap_or(DEAREST_RULE).max(longest(items)));
    below.max().unwrap_or(1).max(items)
}

#[test]
fn every_rule_takes_and_refuses_what_it_should() {
    let (mut took, mut refuses) = (BTreeSet::new(), BTreeSet::new());
    for example in taken() {
        for (rule, holds) in judged(&example) {
            assert!(holds, "{}: {} {}", rule.path, rule.rule, example.spec);
            took.insert(rule);
        }
    }
    for (message, example) in refused() {
        let broken: Vec<Rule> =
            judged(&example).into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule).collect();
        let told: Vec<&str> = broken.iter().map(|rule| &*rule.message).collect();
        // A tunnel that has another form now lacks its old one, and so on: what is meant is among what is told.
        assert!(told.contains(&message), "{message}: {} is refused by {told:?}", example.spec);
        refuses.extend(broken.into_iter().filter(|rule| rule.message == message));
    }
    let mut all = Vec::new();
    schemas().iter().for_each(|(kind, schema)| all_rules(kind, schema, 1, &mut all));
    assert!(all.len() >= 18, "{}", all.len());
    for (rule, _) in all {
        assert!(took.contains(&rule), "no example that it takes: {rule:?}");
        assert!(refuses.contains(&rule), "no example that it refuses: {rule:?}");
    }
}

/// Kubernetes counts about one for each step of an expression and a tenth of one for each letter that is looked at, and
/// an expression has no more steps than letters.
#[test]
fn rules_cost_no_more_than_an_api_server_allows() {
    for (kind, schema) in schemas() {
        let mut rules = Vec::new();
        all_rules(&kind, &schema, 1, &mut rules);
        let costs = rules.iter().map(|(rule, times)| {
            let cost = rule.rule.len() as u64 * times;
            assert!(cost <= DEAREST_RULE, "{rule:?} may cost {cost}");
            cost
        });
        assert!(costs.sum::<u64>() <= 10 * DEAREST_RULE, "{kind}");
    }
}

#[test]
fn examples_of_the_manual_are_taken() {
    let manual = include_str!("../../../docs/kubernetes.md");
    let blocks = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for text in blocks.flat_map(|block| block.split("---\n")).filter(|text| text.contains("weft.dev/v1")) {
        let mut object: Value = serde_yaml_ng::from_str(text).unwrap();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let schema = schema(&kind);
        fill(&schema, &mut object);
        let mut found = Vec::new();
        evaluate(&kind, &schema, &object, None, &mut found);
        let broken: Vec<_> = found.iter().filter(|(_, holds)| !holds).collect();
        assert!(broken.is_empty(), "{text}{broken:?}");
        count += found.len();
    }
    assert!(count > 10, "{count} rules were looked at");
}

//! What is asked of the API is what the chart allows, and what is written is what the definitions describe.

use super::*;
use crate::config::Config;
use crate::pods::Source;

/// What the chart's ClusterRole gives, in the words that the API server counts requests in.
fn granted() -> BTreeSet<String> {
    let chart = include_str!("../../../../../charts/weft/templates/rbac.yaml");
    let rules = chart.split("\nrules:\n").nth(1).unwrap().split("\n---").next().unwrap();
    let rules: Vec<BTreeMap<String, Vec<String>>> = serde_yaml_ng::from_str(rules).unwrap();
    let words = rules.iter().flat_map(|rule| {
        let resources = rule["resources"].iter();
        resources.flat_map(|resource| rule["verbs"].iter().map(move |verb| format!("{verb} {resource}")))
    });
    words.collect()
}

#[tokio::test(start_paused = true)]
async fn the_charts_role_gives_what_is_asked_for_and_nothing_else() {
    let cluster = Cluster::with_node("two").await;
    declare_full_pool(&cluster).await;
    let results: BTreeMap<_, _> =
        DECLARED.iter().flat_map(|(kind, _)| result(&format!("{kind}/blue"), 1, true)).collect();
    for (kind, plural) in DECLARED {
        cluster.declare(kind, plural, "blue", json!({})).await;
    }
    cluster.requests().await;
    let folder = std::env::temp_dir().join(format!("weft-agent-{}-rights", std::process::id()));
    let config =
        Config { plugin_socket: folder.join("socket"), state_dir: folder.clone(), ..Config::default() };
    let told = drain(start(cluster.client(), "two", Some(Counter::open(&config).unwrap())));
    told.send_replace(Told { results, claims: BTreeSet::from(["pods".to_owned()]), ..serving("two") });
    let (_connected, clients) = watch::channel(cluster.client());
    assert_eq!(pods::Inquiry(clients).ask("default", "web").await, Ok(None));
    tokio::time::sleep(SOON).await;
    let asked: BTreeSet<String> = cluster.requests().await.into_keys().collect();
    assert_eq!(asked, granted());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whether a value is one that a schema describes: with fields that it knows, all that it requires, and their types.
fn fits(path: &str, schema: &Value, value: &Value) {
    let is_one = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("{path} is of type {other}"),
    };
    assert!(is_one, "{path}: {value}");
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{path}.{required} is missing");
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(property) => fits(&path, property, field),
            // The API server's own, in every object.
            None => assert!(["apiVersion", "kind", "metadata"].contains(&&**name), "{path} would be pruned"),
        }
    }
    let (items, most) = (value.as_array().map_or(&[][..], Vec::as_slice), schema["maxItems"].as_u64());
    assert!(most.is_none_or(|most| items.len() as u64 <= most), "{path} has {} items", items.len());
    items.iter().for_each(|item| fits(&format!("{path}[]"), &schema["items"], item));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_what_the_definitions_describe() {
    let cluster = Cluster::with_node("one").await;
    declare_full_pool(&cluster).await;
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let told = keeper(&cluster, "one");
    let unreached =
        (0..20).map(|node| (format!("node-{node}"), "it has no prefix for pods".to_owned())).collect();
    let claims = BTreeSet::from(["pods".to_owned()]);
    let results = result("Network/blue", 1, false);
    cluster
        .ask("PATCH", &format!("{POOL}/status"), json!({"status": {"blocks": {"198.18.0.0/24": null}}}))
        .await;
    told.send_replace(Told { unreached, claims, results, ..serving("one") });
    tokio::time::sleep(SOON).await;
    for (kind, url) in [("WeftNode", OWN), ("IPPool", POOL), ("Network", BLUE)] {
        let definition = crate::crd::definitions().into_iter().find(|it| it.spec.names.kind == kind).unwrap();
        let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut object = cluster.get(url).await;
        assert!(!object["status"].is_null(), "{object:#}");
        object["metadata"] = json!({});
        fits(kind, &serde_json::to_value(schema).unwrap(), &object);
    }
    assert_eq!(cluster.get(POOL).await["status"]["used"], json!(2));
}

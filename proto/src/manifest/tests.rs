//! What manifests mean, what is said about wrong ones, and that writing and reading are inverse.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::v1::*;

const HEAD: &str = "apiVersion: weft.dev/v1\nkind: Port\nmetadata:\n  name: web\n";

/// The only error of a text.
fn error(text: &str) -> String {
    let errors = parse(text, "f.yaml").unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

/// The only error of a Port whose spec is this text.
fn spec_error(spec: &str) -> String {
    error(&format!("{HEAD}{spec}"))
}

fn port_spec(resource: &Resource) -> &PortSpec {
    match &resource.kind {
        Some(resource::Kind::Port(Port { spec: Some(spec), .. })) => spec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_is_read_with_all_its_fields() {
    let text = "
apiVersion: weft.dev/v1
kind: Port
metadata: {name: web, labels: {app: web}}
spec:
  network: blue
  namespace: web
  type: veth
  device: eth1
  mac: 02:00:00:00:00:01
  addresses: [198.18.1.10/24, '2001:db8:1::10/64']
  routes: [{prefix: 0.0.0.0/0, via: 198.18.1.1}]
  mtu: 1400
  txqueuelen: 500
  queues: 2
  vlan: 7
  sourceCheck: false
  defaultRoute: true
status: {ifindex: 3, anything: [1, 2]}
";
    let resources = parse(text, "f.yaml").unwrap();
    let spec = PortSpec {
        network: "blue".into(),
        namespace: "web".into(),
        r#type: PortType::Veth.into(),
        device: "eth1".into(),
        mac: "02:00:00:00:00:01".into(),
        addresses: vec!["198.18.1.10/24".into(), "2001:db8:1::10/64".into()],
        routes: vec![PortRoute { prefix: "0.0.0.0/0".into(), via: "198.18.1.1".into() }],
        mtu: 1400,
        txqueuelen: 500,
        queues: 2,
        vlan: 7,
        source_check: Some(false),
        default_route: true,
        ..PortSpec::default()
    };
    assert_eq!(port_spec(&resources[0]), &spec);
    assert_eq!(resources[0].labels().unwrap()["app"], "web");
    assert_eq!(resources[0], resources[0].clone().without_status());
}

#[test]
fn a_tunnel_is_read_and_written_with_the_names_that_users_know() {
    let text = "apiVersion: weft.dev/v1
kind: Tunnel
metadata:
  name: wg
spec:
  router: core
  addresses:
  - 198.18.9.1/24
  wireguard:
    listenPort: 51820
    peers:
    - name: far
      publicKey: a
      nextPublicKey: b
      endpoint: 192.0.2.2:51820
      allowedPrefixes:
      - 0.0.0.0/0
      persistentKeepaliveSeconds: 25
---
apiVersion: weft.dev/v1
kind: Tunnel
metadata:
  name: overlay
spec:
  network: front
  vlan: 7
  local: 198.18.9.1
  carrier:
    router: core
  vxlan:
    vni: 0
    remotes:
    - address: 192.0.2.2
      macs:
      - 02:00:00:00:00:01
    suppressNeighbors: true
";
    assert_eq!(to_yaml(&parse(text, "f.yaml").unwrap()), text);
}

#[test]
fn vlan_lists_take_numbers_and_ranges() {
    let text = "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {name: up}\n\
                spec: {trunk: {allowed: [10, 100-199, '20'], native: 0}}\n";
    let resources = parse(text, "f.yaml").unwrap();
    let trunk = port_spec(&resources[0]).trunk.clone().unwrap();
    assert_eq!((trunk.allowed, trunk.native), (vec!["10".into(), "100-199".into(), "20".into()], Some(0)));
}

#[test]
fn documents_and_lists_are_read_in_order_and_empty_documents_are_skipped() {
    let namespace =
        |name: &str| format!("{{apiVersion: weft.dev/v1, kind: Namespace, metadata: {{name: {name}}}}}");
    let text = format!(
        "---\n{}\n---\n# nothing\n---\n[{}, {}]\n---\n",
        namespace("a"),
        namespace("b"),
        namespace("c")
    );
    let resources = parse(&text, "f.yaml").unwrap();
    assert_eq!(resources.iter().map(Resource::name).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(parse("", "f.yaml").unwrap(), []);
    assert_eq!(parse("# only a comment\n", "f.yaml").unwrap(), []);
}

#[test]
fn json_is_read_also_when_it_is_indented_by_tabs() {
    let text = "{\n\t\"apiVersion\": \"weft.dev/v1\",\n\t\"kind\": \"Router\",\n\t\"metadata\": {\"name\": \"r\"}\n}";
    assert_eq!(parse(text, "f.json").unwrap()[0].id(), "Router/r");
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = format!("{HEAD}spec: {{routes: [&r {{prefix: a}}, *r, {{<<: *r, via: b}}]}}\n");
    let resources = parse(&text, "f.yaml").unwrap();
    let routes: Vec<_> =
        port_spec(&resources[0]).routes.iter().map(|r| (r.prefix.as_str(), r.via.as_str())).collect();
    assert_eq!(routes, [("a", ""), ("a", ""), ("a", "b")]);
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_the_known_ones() {
    assert_eq!(
        spec_error("spec:\n  vlann: 3\n"),
        "f.yaml: document 1, line 6: Port/web: spec.vlann: unknown field, expected one of network, namespace, \
         type, device, mac, addresses, routes, mtu, txqueuelen, queues, vlan, sourceCheck, defaultRoute, trunk, vlanTunnel, maxMacs, isolated, stormControl, mirror, coalesce, bandwidth, portMappings, endpoint, nodeRoutes"
    );
    assert_eq!(
        spec_error("spec:\n  routes:\n  - prefix: a\n    vai: b\n"),
        "f.yaml: document 1, line 8: Port/web: spec.routes[0].vai: unknown field, expected one of prefix, via"
    );
    assert_eq!(
        error("apiVersion: weft.dev/v1\nkind: Namespace\nmetadata: {name: a}\nspec: {pth: /x}\n"),
        "f.yaml: document 1, line 4: Namespace/a: spec.pth: unknown field, expected one of path"
    );
    assert_eq!(
        spec_error("sepc: {}\n"),
        "f.yaml: document 1, line 5: Port/web: sepc: unknown field, expected one of apiVersion, kind, metadata, spec, status"
    );
    assert_eq!(
        spec_error("1: {}\n"),
        "f.yaml: document 1, line 1: Port/web: key 1: unknown field, expected one of apiVersion, kind, metadata, spec, status"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_what_was_expected() {
    for (spec, expected) in [
        ("spec: {vlan: abc}", "spec.vlan: \"abc\" given, a whole number from 0 to 4294967295 expected"),
        ("spec: {vlan: -1}", "spec.vlan: -1 given, a whole number from 0 to 4294967295 expected"),
        ("spec: {vlan: 1.5}", "spec.vlan: 1.5 given, a whole number from 0 to 4294967295 expected"),
        ("spec: {type: vth}", "spec.type: \"vth\" given, a port type (tap, veth, host, uplink) expected"),
        ("spec: {type: 3}", "spec.type: 3 given, a port type (tap, veth, host, uplink) expected"),
        ("spec: {addresses: a}", "spec.addresses: \"a\" given, a list expected"),
        ("spec: {addresses: [a, 1]}", "spec.addresses[1]: 1 given, a string expected"),
        ("spec: {mac: {a: b}}", "spec.mac: a mapping given, a string expected"),
        ("spec: {mac: [a]}", "spec.mac: a list given, a string expected"),
        ("spec: {defaultRoute: 'yes'}", "spec.defaultRoute: \"yes\" given, true or false expected"),
        ("spec: {mac: }", "spec.mac: nothing given, a string expected"),
        ("spec: 4", "spec: 4 given, a mapping expected"),
    ] {
        assert_eq!(spec_error(spec), format!("f.yaml: document 1, line 5: Port/web: {expected}"));
    }
}

#[test]
fn a_document_that_is_no_resource_is_refused() {
    let kinds = "one of Namespace, Network, Port, Router, Tunnel expected";
    for (text, expected) in [
        ("kind: Port", "Port: apiVersion: missing, weft.dev/v1 expected".to_owned()),
        ("apiVersion: v1", "apiVersion: \"v1\" is not supported, weft.dev/v1 expected".to_owned()),
        ("apiVersion: 1", "apiVersion: 1 is not supported, weft.dev/v1 expected".to_owned()),
        ("apiVersion: weft.dev/v1", format!("kind: missing, {kinds}")),
        (
            "{apiVersion: weft.dev/v1, kind: port}",
            format!("port: kind: \"port\" is not a kind of weft.dev/v1, {kinds}"),
        ),
        ("{apiVersion: weft.dev/v1, kind: 7}", format!("kind: 7 is not a kind of weft.dev/v1, {kinds}")),
        ("{apiVersion: weft.dev/v1, kind: Port}", "Port: metadata.name: missing, a name expected".to_owned()),
        (
            "{apiVersion: weft.dev/v1, kind: Port, metadata: {name: 7}}",
            "Port: metadata.name: 7 given, a string expected".to_owned(),
        ),
        ("foo", "\"foo\" given, a mapping with apiVersion, kind, metadata and spec expected".to_owned()),
        ("[3]", "3 given, a mapping with apiVersion, kind, metadata and spec expected".to_owned()),
    ] {
        assert_eq!(error(text), format!("f.yaml: document 1, line 1: {expected}"));
    }
}

#[test]
fn every_wrong_document_is_reported_and_a_second_declaration_too() {
    let text = format!("{HEAD}---\nkind: Port\n---\n{HEAD}---\n[{{}}]\n");
    let errors: Vec<_> = parse(&text, "-").unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "-: document 2, line 6: Port: apiVersion: missing, weft.dev/v1 expected",
            "-: document 3, line 11: Port/web: metadata.name: declared twice, first in document 1",
            "-: document 4, line 13: apiVersion: missing, weft.dev/v1 expected",
        ]
    );
}

#[test]
fn a_text_that_is_not_yaml_is_refused_with_the_place() {
    for (text, expected) in [
        ("a: [\n", "line 2: did not find expected node content, while parsing a flow node"),
        ("a:\n\tb: 1\n", "line 2: a tab is used for indentation, spaces expected"),
        ("a: 1\na: 2\n", "line 1: duplicate key \"a\""),
        ("a: {b: 1, b: 2}\n", "line 1: a: duplicate key \"b\""),
        ("a: *x\n", "line 1: unknown anchor"),
    ] {
        assert_eq!(error(text), format!("f.yaml: document 1, {expected}"));
    }
    assert_eq!(
        error(&format!("{HEAD}---\na: [\n")),
        "f.yaml: document 2, line 7: did not find expected node content, while parsing a flow node"
    );
}

#[test]
fn what_is_written_leaves_out_defaults_and_has_the_fixed_order() {
    let resources =
        parse(&format!("{HEAD}spec: {{type: tap, mtu: 0}}\n---\n{HEAD}").replacen("web", "a", 1), "-");
    assert_eq!(
        to_yaml(&resources.unwrap()),
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata:\n  name: a\nspec:\n  type: tap\n---\n\
         apiVersion: weft.dev/v1\nkind: Port\nmetadata:\n  name: web\nspec: {}\n"
    );
}

#[test]
fn a_status_is_written_and_ignored_when_it_is_read() {
    let mut resource = parse(HEAD, "-").unwrap().remove(0);
    let wish = resource.clone();
    let Some(resource::Kind::Port(port)) = &mut resource.kind else { panic!() };
    port.status = Some(PortStatus { ifindex: 7, ..Default::default() });
    let text = to_yaml(&[resource]);
    assert!(text.ends_with("status:\n  ifindex: 7\n"), "{text}");
    assert_eq!(parse(&text, "-").unwrap(), [wish]);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,12}",
        Just("on".to_owned()),
        Just("null".to_owned()),
        Just("1e3".to_owned()),
        Just("0x1f".to_owned()),
        Just("<<".to_owned()),
        Just("12:30:45".to_owned()),
        Just("a\n b\t: #\n".to_owned()),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let created = proptest::option::of(
        (0..4_000_000_000i64).prop_map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    );
    ("[a-z][a-z0-9-]{0,8}", btree_map("[a-z./-]{1,8}", text(), 0..3), text(), any::<u64>(), created).prop_map(
        |(name, labels, uid, generation, created)| Metadata {
            name,
            labels,
            uid,
            generation,
            created,
            ..Default::default()
        },
    )
}

fn port() -> impl Strategy<Value = resource::Kind> {
    let route = (text(), text()).prop_map(|(prefix, via)| PortRoute { prefix, via });
    (text(), 0..4i32, vec(text(), 0..3), vec(route, 0..3), any::<u32>(), any::<Option<bool>>(), any::<bool>())
        .prop_map(|(network, r#type, addresses, routes, mtu, source_check, default_route)| {
            let spec = PortSpec {
                network,
                r#type,
                addresses,
                routes,
                mtu,
                source_check,
                default_route,
                ..Default::default()
            };
            resource::Kind::Port(Port { spec: Some(spec), status: None })
        })
}

fn other() -> impl Strategy<Value = resource::Kind> {
    let subnet =
        (text(), text()).prop_map(|(prefix, gateway)| Subnet { prefix, gateway, vlan: 7, pool: None });
    let route = (text(), vec(text(), 0..3)).prop_map(|(prefix, next_hops)| Route {
        prefix,
        next_hops,
        ..Default::default()
    });
    prop_oneof![
        text().prop_map(|path| resource::Kind::Namespace(Namespace {
            spec: Some(NamespaceSpec { path }),
            status: None
        })),
        (vec(subnet, 0..3), any::<u32>()).prop_map(|(subnets, max_macs)| {
            let spec = NetworkSpec { subnets, max_macs, ..Default::default() };
            resource::Kind::Network(Network { spec: Some(spec), status: None })
        }),
        vec(route, 0..3).prop_map(|routes| {
            resource::Kind::Router(Router {
                spec: Some(RouterSpec { routes, ..Default::default() }),
                status: None,
            })
        }),
    ]
}

fn resource() -> impl Strategy<Value = Resource> {
    (metadata(), prop_oneof![port(), other()])
        .prop_map(|(metadata, kind)| Resource { metadata: Some(metadata), kind: Some(kind) })
}

proptest! {
    #[test]
    fn reading_what_was_written_gives_the_same_resource(resource in resource()) {
        let resources = [resource];
        prop_assert_eq!(parse(&to_yaml(&resources), "-").unwrap(), &resources);
        prop_assert_eq!(parse(&to_json(&resources), "-").unwrap(), &resources);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-zA-Z:{}\\[\\]&*<'\"#|>, \\n\\t]{0,60}") {
        drop(parse(&text, "-"));
    }
}

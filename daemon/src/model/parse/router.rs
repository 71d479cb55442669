//! A Router from its message.

use std::collections::BTreeSet;

use weft_proto::v1;
use weft_stack::Prefix;
use weft_stack::config::{Hop, RouteAction};

use super::unicast;
use crate::model::violation::Findings;
use crate::model::{Name, ObjectRef, PolicyRule, Route, RouteTable, Router, Violation};

/// The table that is asked when no rule's table has a route.
const MAIN: &str = "main";
const WEIGHT: std::ops::RangeInclusive<u32> = 1..=255;

pub(super) fn parse(object: &ObjectRef, message: Option<&v1::RouterSpec>) -> Result<Router, Vec<Violation>> {
    let default = v1::RouterSpec::default();
    let message = message.unwrap_or(&default);
    let mut findings = Findings::of(object);
    let routes = routes("spec.routes", &message.routes, &mut findings);
    let tables = tables(&message.tables, &mut findings);
    let rules = rules(&message.rules, &tables, &mut findings);
    findings.finish(Some(Router { routes, tables, rules }))
}

fn routes(path: &str, messages: &[v1::Route], findings: &mut Findings<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::with_capacity(messages.len());
    let mut seen = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let prefix = findings.value(&format!("{path}.prefix"), message.prefix.parse::<Prefix>());
        let action = action(&path, message, prefix, findings);
        let (Some(prefix), Some(action)) = (prefix, action) else { continue };
        if !seen.insert(prefix) {
            let text = format!("{prefix} has a route already, one with several next hops expected");
            findings.add(&format!("{path}.prefix"), text);
        }
        routes.push(Route { prefix, action });
    }
    routes
}

fn action(
    path: &str,
    message: &v1::Route,
    prefix: Option<Prefix>,
    findings: &mut Findings<'_>,
) -> Option<RouteAction> {
    let action = match v1::RouteAction::try_from(message.action) {
        Ok(v1::RouteAction::Unspecified | v1::RouteAction::Via) => {
            return Some(RouteAction::Via(next_hops(path, message, prefix, findings)));
        }
        Ok(v1::RouteAction::Blackhole) => RouteAction::Blackhole,
        Ok(v1::RouteAction::Unreachable) => RouteAction::Unreachable,
        Ok(v1::RouteAction::Prohibit) => RouteAction::Prohibit,
        Err(_) => {
            let expected = "one of via, blackhole, unreachable, prohibit expected";
            let text = format!("{} is not a route action, {expected}", message.action);
            findings.add(&format!("{path}.action"), text);
            return None;
        }
    };
    for (field, given) in [("nextHops", message.next_hops.len()), ("weights", message.weights.len())] {
        if given > 0 {
            let text = format!("{given} given, none expected for a route that goes nowhere");
            findings.add(&format!("{path}.{field}"), text);
        }
    }
    Some(action)
}

fn next_hops(
    path: &str,
    message: &v1::Route,
    prefix: Option<Prefix>,
    findings: &mut Findings<'_>,
) -> Vec<Hop> {
    let (texts, weights) = (&message.next_hops, &message.weights);
    if texts.is_empty() {
        findings.add(&format!("{path}.nextHops"), "empty, at least one address expected");
    }
    if !weights.is_empty() && weights.len() != texts.len() {
        let text = format!("{} given for {} next hops, one for each expected", weights.len(), texts.len());
        findings.add(&format!("{path}.weights"), text);
    }
    let mut hops: Vec<Hop> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let here = format!("{path}.nextHops[{index}]");
        let Some(address) = findings.value(&here, unicast(text)) else { continue };
        // The other way round is possible (RFC 8950).
        if let Some(prefix) = prefix.filter(|prefix| !prefix.is_ipv4() && address.is_ipv4()) {
            let text = format!("{address} is an IPv4 address, which {prefix} cannot be reached by");
            findings.add(&here, text);
        } else if hops.iter().any(|other| other.address == address) {
            findings.add(&here, format_args!("{address} is given twice"));
        }
        let given = weights.get(index).copied().unwrap_or(1);
        // 0 is no way to leave a number out of a list.
        if given == 0 {
            let text = format!("0 is out of range, {} to {} expected", WEIGHT.start(), WEIGHT.end());
            findings.add(&format!("{path}.weights[{index}]"), text);
        }
        let weight = findings.number(&format!("{path}.weights[{index}]"), given, WEIGHT, 1);
        hops.push(Hop { address, weight: u8::try_from(weight).unwrap_or(u8::MAX) });
    }
    hops
}

fn tables(messages: &[v1::RouteTable], findings: &mut Findings<'_>) -> Vec<RouteTable> {
    let mut tables: Vec<RouteTable> = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let path = format!("spec.tables[{index}].name");
        let routes = routes(&format!("spec.tables[{index}].routes"), &message.routes, findings);
        let Some(name) = findings.value(&path, Name::new(&message.name)) else { continue };
        if name == MAIN {
            findings.add(&path, "\"main\" is the table of spec.routes, another name expected");
        } else if tables.iter().any(|other| other.name == name) {
            findings.add(&path, format_args!("\"{name}\" is given twice"));
        }
        tables.push(RouteTable { name, routes });
    }
    tables
}

fn rules(messages: &[v1::PolicyRule], tables: &[RouteTable], findings: &mut Findings<'_>) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let path = |field: &str| format!("spec.rules[{index}].{field}");
        let priority = message.priority;
        if rules.iter().any(|other| other.priority == priority) {
            findings.add(&path("priority"), format_args!("{priority} is given twice"));
        }
        let source = match message.source.as_str() {
            "" => None,
            text => findings.value(&path("source"), text.parse::<Prefix>()),
        };
        let port = match message.port.as_str() {
            "" => None,
            text => findings.value(&path("port"), Name::new(text)),
        };
        if message.table.is_empty() {
            findings.add(&path("table"), "not given, the name of a table expected");
            continue;
        }
        let Some(table) = findings.value(&path("table"), Name::new(&message.table)) else { continue };
        if tables.iter().all(|known| known.name != table) {
            findings.add(&path("table"), format_args!("there is no table \"{table}\" in spec.tables"));
        }
        rules.push(PolicyRule { priority, source, port, table });
    }
    rules.sort_by_key(|rule| rule.priority);
    rules
}

#[cfg(test)]
mod tests {
    use crate::fixture::{BASE, fabric, object, port, wrong};
    use weft_stack::config::RouteAction;

    #[test]
    fn routes_tables_and_rules_are_as_given() {
        let spec = "  routes:\n  - {prefix: 192.0.2.0/24, nextHops: [198.18.1.9, 198.18.2.9], weights: [1, 3]}\n  \
                    - {prefix: 203.0.113.0/24, action: blackhole}\n  \
                    tables: [{name: isp, routes: [{prefix: 0.0.0.0/0, nextHops: [198.18.2.9]}]}]\n  \
                    rules: [{priority: 20, table: isp}, {priority: 10, source: 198.18.1.0/24, table: isp}]";
        let fabric = fabric(&format!("{BASE}{}", object("Router", "edge", spec)));
        let router = &fabric.routers["edge"].spec;
        assert_eq!(router.routes[0].next_hops()[1].weight, 3);
        assert_eq!(router.routes[1].action, RouteAction::Blackhole);
        let order: Vec<u32> = router.rules.iter().map(|rule| rule.priority).collect();
        assert_eq!(order, [10, 20], "the first to ask first");
    }

    #[test]
    fn an_ipv4_route_may_lead_by_an_ipv6_next_hop() {
        let spec = "  routes: [{prefix: 192.0.2.0/24, nextHops: ['2001:db8:1::9', 198.18.2.9]}]";
        assert_eq!(wrong(&object("Router", "core", spec)), "");
        let outside = spec.replace("db8:1::9", "db8:7::9");
        assert_eq!(
            wrong(&object("Router", "core", &outside)),
            "Router/core: spec.routes[0].nextHops[0]: 2001:db8:7::9 is not inside a subnet of a Network on Router/core"
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let hop = "nextHops: [198.18.1.9]";
        let cases = [
            (
                "routes: [{prefix: 192.0.2.0/24}]".into(),
                "routes[0].nextHops: empty, at least one address expected",
            ),
            (
                format!("routes: [{{prefix: 192.0.2.0/24, action: prohibit, {hop}}}]"),
                "routes[0].nextHops: 1 given, none expected for a route that goes nowhere",
            ),
            (
                format!("routes: [{{prefix: 192.0.2.0/24, {hop}, weights: [1, 2]}}]"),
                "routes[0].weights: 2 given for 1 next hops, one for each expected",
            ),
            (
                format!("routes: [{{prefix: 192.0.2.0/24, {hop}, weights: [256]}}]"),
                "routes[0].weights[0]: 256 is out of range, 1 to 255 expected",
            ),
            (
                format!("routes: [{{prefix: 192.0.2.0/24, {hop}, weights: [0]}}]"),
                "routes[0].weights[0]: 0 is out of range, 1 to 255 expected",
            ),
            (
                "tables: [{name: main}]".into(),
                "tables[0].name: \"main\" is the table of spec.routes, another name expected",
            ),
            ("rules: [{priority: 1}]".into(), "rules[0].table: not given, the name of a table expected"),
            (
                "rules: [{priority: 1, table: isp}]".into(),
                "rules[0].table: there is no table \"isp\" in spec.tables",
            ),
            (
                "tables: [{name: isp, routes: [{prefix: 192.0.2.0/24, nextHops: [192.0.2.9]}]}]".into(),
                "tables[0].routes[0].nextHops[0]: 192.0.2.9 is not inside a subnet of a Network on Router/core",
            ),
        ];
        for (spec, expected) in cases {
            let told = wrong(&object("Router", "core", &format!("  {spec}")));
            assert_eq!(told, format!("Router/core: spec.{expected}"), "{spec}");
        }
    }

    #[test]
    fn a_rule_is_for_a_port_that_sends_to_the_router() {
        let router = |port: &str| {
            let spec = format!("  tables: [{{name: t}}]\n  rules: [{{priority: 1, port: {port}, table: t}}]");
            object("Router", "core", &spec)
        };
        assert_eq!(wrong(&router("none")), "Router/core: spec.rules[0].port: there is no Port/none");
        let alone = object("Network", "alone", "  mtu: 1500");
        let port = port("web", "").replace("network: front", "network: alone");
        assert_eq!(
            wrong(&format!("{alone}{port}{}", router("web"))),
            "Router/core: spec.rules[0].port: Port/web is on no Network of this Router, so that the rule never matches"
        );
    }
}

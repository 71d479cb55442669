//! What tests of several modules share: resources written as YAML.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_proto::v1;

use crate::model::parse::{self, Resources};
use crate::model::{Fabric, ObjectRef, Violation, check};

/// Two Networks on one Router, and a namespace for containers.
pub const BASE: &str = "
apiVersion: weft.dev/v1
kind: Router
metadata: {name: core}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: front, labels: {tier: front}}
spec:
  router: core
  subnets:
  - {prefix: 198.18.1.0/24, gateway: 198.18.1.1}
  - {prefix: '2001:db8:1::/64', gateway: '2001:db8:1::1'}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: back}
spec:
  router: core
  mtu: 9000
  subnets: [{prefix: 198.18.2.0/24, gateway: 198.18.2.1}]
---
apiVersion: weft.dev/v1
kind: Namespace
metadata: {name: box}
";

/// A Port `web` on `front` in `box`, with these further lines of its spec (indented by two).
pub fn port(name: &str, spec: &str) -> String {
    let head = format!("---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\nspec:\n");
    format!("{head}  network: front\n  namespace: box\n  type: tap\n{spec}\n")
}

/// One object of any kind.
pub fn object(kind: &str, name: &str, spec: &str) -> String {
    let spec = if spec.is_empty() { String::new() } else { format!("spec:\n{spec}\n") };
    format!("---\napiVersion: weft.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{spec}")
}

/// The resources of YAML documents.
pub fn resources(yaml: &str) -> Vec<v1::Resource> {
    weft_proto::manifest::parse(yaml, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The resources by name.
pub fn stored(yaml: &str) -> Resources {
    let named = |(index, resource): (usize, v1::Resource)| {
        let object = parse::identity(index, &resource).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        (object, Arc::new(resource))
    };
    resources(yaml).into_iter().enumerate().map(named).collect()
}

/// The parsed picture of right documents.
pub fn fabric(yaml: &str) -> Fabric {
    parse::fabric(&stored(yaml), 1).unwrap_or_else(|wrong| panic!("{}", lines(&wrong)))
}

/// Everything that is wrong with [`BASE`] and these documents, a line each.
pub fn wrong(yaml: &str) -> String {
    let added: BTreeSet<ObjectRef> = stored(yaml).into_keys().collect();
    let all = stored(BASE).into_iter().chain(stored(yaml)).collect();
    match parse::fabric(&all, 1) {
        Ok(fabric) => lines(&check::fabric(&fabric, &added)),
        Err(wrong) => lines(&wrong),
    }
}

/// One violation a line.
pub fn lines(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    lines.join("\n")
}

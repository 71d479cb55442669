//! Resources written as a test needs them, and the YAML documents that `weft apply` reads.

use std::fmt;

use serde_json::{Value, json};

/// A list of resources in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    resources: Vec<Value>,
}

impl Manifest {
    /// Nothing yet.
    pub fn new() -> Manifest {
        Manifest::default()
    }

    /// Adds a network namespace that Weft makes.
    pub fn namespace(self, name: &str) -> Manifest {
        self.resource("Namespace", name, json!({}))
    }

    /// Adds an existing network namespace.
    pub fn adopted(self, name: &str, path: &str) -> Manifest {
        self.resource("Namespace", name, json!({ "path": path }))
    }

    /// Adds a Router without static routes.
    pub fn router(self, name: &str) -> Manifest {
        self.resource("Router", name, json!({}))
    }

    /// Adds a Network with this spec.
    pub fn network(self, name: &str, spec: Value) -> Manifest {
        self.resource("Network", name, spec)
    }

    /// Adds a Port with this spec.
    pub fn port(self, name: &str, spec: Value) -> Manifest {
        self.resource("Port", name, spec)
    }

    /// Adds a resource of any kind.
    pub fn resource(mut self, kind: &str, name: &str, spec: Value) -> Manifest {
        self.resources.push(json!({
            "apiVersion": "weft.dev/v1",
            "kind": kind,
            "metadata": { "name": name },
            "spec": spec,
        }));
        self
    }

    /// The same resources, each with this label as well.
    pub fn label(mut self, key: &str, value: &str) -> Manifest {
        for resource in &mut self.resources {
            resource["metadata"]["labels"][key] = json!(value);
        }
        self
    }

    /// The same resources with one field of a spec set, for variations of a theme.
    pub fn with(mut self, kind: &str, name: &str, field: &str, value: Value) -> Manifest {
        for resource in &mut self.resources {
            if resource["kind"] == kind && resource["metadata"]["name"] == name {
                resource["spec"][field] = value.clone();
            }
        }
        self
    }

    /// Both lists, one after the other.
    pub fn and(mut self, other: Manifest) -> Manifest {
        self.resources.extend(other.resources);
        self
    }
}

/// Documents of YAML; each is JSON, which YAML contains.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for resource in &self.resources {
            writeln!(f, "---\n{resource}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_separated_and_carry_kind_name_and_spec() {
        let text = Manifest::new().namespace("a").adopted("b", "/run/netns/b").to_string();
        let documents: Vec<&str> = text.split("---\n").skip(1).collect();
        let second: Value = serde_json::from_str(documents[1]).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(second["kind"], "Namespace");
        assert_eq!(second["metadata"]["name"], "b");
        assert_eq!(second["spec"]["path"], "/run/netns/b");
    }

    #[test]
    fn a_variation_changes_only_the_named_object() {
        let manifest = Manifest::new().port("p", json!({})).port("q", json!({}));
        let text = manifest.with("Port", "q", "vlan", json!(7)).label("set", "x").to_string();
        assert_eq!(text.matches("\"vlan\":7").count(), 1);
        assert_eq!(text.matches("\"set\":\"x\"").count(), 2);
    }
}

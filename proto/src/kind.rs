//! Names of kinds, and what can be asked of a resource without knowing its kind.
//!
//! The shape of a resource in YAML and JSON is [`crate::manifest`]'s.

use std::collections::BTreeMap;

use crate::v1::{Condition, Kind, ObjectRef, Resource, resource};

impl Kind {
    /// Every kind, in the order in which objects can be made: what is referred to comes first.
    pub const ALL: [Kind; 5] = [Kind::Namespace, Kind::Router, Kind::Network, Kind::Port, Kind::Tunnel];

    /// The name in manifests and messages: "Port". Empty for `Unspecified`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unspecified => "",
            Kind::Namespace => "Namespace",
            Kind::Network => "Network",
            Kind::Port => "Port",
            Kind::Router => "Router",
            Kind::Tunnel => "Tunnel",
        }
    }

    /// The lower-case name of one: "port".
    pub fn singular(self) -> &'static str {
        match self {
            Kind::Unspecified => "",
            Kind::Namespace => "namespace",
            Kind::Network => "network",
            Kind::Port => "port",
            Kind::Router => "router",
            Kind::Tunnel => "tunnel",
        }
    }

    /// The lower-case name of several: "ports".
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Unspecified => "",
            Kind::Namespace => "namespaces",
            Kind::Network => "networks",
            Kind::Port => "ports",
            Kind::Router => "routers",
            Kind::Tunnel => "tunnels",
        }
    }

    /// The short name for the command line: "po".
    pub fn short(self) -> &'static str {
        match self {
            Kind::Unspecified => "",
            Kind::Namespace => "ns",
            Kind::Network => "net",
            Kind::Port => "po",
            Kind::Router => "rt",
            Kind::Tunnel => "tun",
        }
    }

    /// The kind that a manifest names; exact.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind that a person names: in any case, one or several, or short.
    pub fn from_any_name(name: &str) -> Option<Kind> {
        let name = name.to_ascii_lowercase();
        Kind::ALL
            .into_iter()
            .find(|kind| [kind.singular(), kind.plural(), kind.short()].contains(&name.as_str()))
    }
}

impl Resource {
    /// The kind; `Unspecified` when the resource carries none.
    pub fn kind(&self) -> Kind {
        match &self.kind {
            None => Kind::Unspecified,
            Some(resource::Kind::Namespace(_)) => Kind::Namespace,
            Some(resource::Kind::Network(_)) => Kind::Network,
            Some(resource::Kind::Port(_)) => Kind::Port,
            Some(resource::Kind::Router(_)) => Kind::Router,
            Some(resource::Kind::Tunnel(_)) => Kind::Tunnel,
        }
    }

    /// The name; empty when it has none.
    pub fn name(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }

    /// The labels, if there is metadata at all.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.as_ref().map(|metadata| &metadata.labels)
    }

    /// Kind and name, as errors name an object: `Port/web`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind().name(), self.name())
    }

    /// A reference to this object.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { kind: self.kind().into(), name: self.name().to_owned() }
    }

    /// All conditions; none before the daemon has reported any.
    pub fn conditions(&self) -> &[Condition] {
        fn of<S>(status: &Option<S>, conditions: impl Fn(&S) -> &Vec<Condition>) -> &[Condition] {
            status.as_ref().map_or(&[], |status| conditions(status))
        }
        match &self.kind {
            None => &[],
            Some(resource::Kind::Namespace(it)) => of(&it.status, |status| &status.conditions),
            Some(resource::Kind::Network(it)) => of(&it.status, |status| &status.conditions),
            Some(resource::Kind::Port(it)) => of(&it.status, |status| &status.conditions),
            Some(resource::Kind::Router(it)) => of(&it.status, |status| &status.conditions),
            Some(resource::Kind::Tunnel(it)) => of(&it.status, |status| &status.conditions),
        }
    }

    /// The "Ready" condition.
    pub fn ready_condition(&self) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.r#type == "Ready")
    }

    /// Whether the "Ready" condition is there and holds.
    pub fn ready(&self) -> bool {
        self.ready_condition().is_some_and(|condition| condition.status)
    }

    /// The same resource as a wish only: without status.
    #[must_use]
    pub fn without_status(mut self) -> Resource {
        match &mut self.kind {
            None => {}
            Some(resource::Kind::Namespace(it)) => it.status = None,
            Some(resource::Kind::Network(it)) => it.status = None,
            Some(resource::Kind::Port(it)) => it.status = None,
            Some(resource::Kind::Router(it)) => it.status = None,
            Some(resource::Kind::Tunnel(it)) => it.status = None,
        }
        self
    }
}

impl ObjectRef {
    /// Kind and name, as errors name an object: `Port/web`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind().name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Metadata, Port, PortStatus};

    fn port(conditions: Vec<Condition>) -> Resource {
        let status = Some(PortStatus { conditions, ..Default::default() });
        Resource {
            metadata: Some(Metadata { name: "web".into(), ..Default::default() }),
            kind: Some(resource::Kind::Port(Port { spec: None, status })),
        }
    }

    #[test]
    fn a_kind_is_found_by_each_of_its_names_in_any_case() {
        for kind in Kind::ALL {
            for name in
                [kind.name(), kind.singular(), kind.plural(), kind.short(), &kind.name().to_uppercase()]
            {
                assert_eq!(Kind::from_any_name(name), Some(kind), "{name}");
            }
        }
        assert_eq!(Kind::from_any_name(""), None);
        assert_eq!(Kind::from_any_name("pod"), None);
    }

    #[test]
    fn manifests_name_a_kind_exactly() {
        assert_eq!(Kind::from_name("Port"), Some(Kind::Port));
        assert_eq!(Kind::from_name("port"), None);
        assert_eq!(Kind::from_name(""), None);
    }

    #[test]
    fn only_a_ready_condition_that_holds_makes_a_resource_ready() {
        let ready = |status| Condition { r#type: "Ready".into(), status, ..Default::default() };
        let other = Condition { r#type: "Other".into(), status: true, ..Default::default() };
        assert!(port(vec![other.clone(), ready(true)]).ready());
        assert!(!port(vec![other.clone(), ready(false)]).ready());
        assert!(!port(vec![other]).ready());
        assert!(!Resource::default().ready());
    }

    #[test]
    fn an_object_is_named_by_kind_and_name() {
        assert_eq!(port(vec![]).id(), "Port/web");
        assert_eq!(port(vec![]).object_ref().id(), "Port/web");
    }
}

//! What a request of the API is about, from its path and query.
//!
//! The rules are those of Kubernetes' API: `/api/v1` or `/apis/{group}/{version}`, then `/namespaces/{namespace}`
//! where there is one, then the resource, a name, and the `status` of it.

use std::collections::BTreeMap;

/// A kind of objects, by what paths call it. Versions are views on the same objects, so that they are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// The resource's name, in the plural.
    pub plural: String,
}

/// Where an object is among those of its resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace; empty for what belongs to the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The resource.
    pub resource: Resource,
    /// The version that the path speaks.
    pub version: String,
    /// The namespace; empty for cluster-scoped objects and for those of all namespaces.
    pub namespace: String,
    /// The object; empty for all of them.
    pub name: String,
    /// Whether it is the object's status alone.
    pub status: bool,
}

impl Target {
    /// Reads a path; `None` when it is not one of objects.
    pub fn parse(path: &str) -> Option<Target> {
        let words: Vec<String> = path.split('/').filter(|w| !w.is_empty()).map(decode).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // The status of a namespace itself is no resource in it.
            ["namespaces", _, "status"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (*plural, "", false),
            [plural, name] => (*plural, *name, false),
            [plural, name, "status"] => (*plural, *name, true),
            _ => return None,
        };
        let resource = Resource { group: group.to_owned(), plural: plural.to_owned() };
        let (version, namespace) = (version.to_owned(), namespace.to_owned());
        Some(Target { resource, version, namespace, name: name.to_owned(), status })
    }

    /// The object's place.
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// `group/version` as objects write it.
    pub fn api_version(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// The parameters behind a path's `?`.
#[derive(Debug, Clone, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads what stands behind the `?`.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// A parameter; `None` when it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter says yes.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// A parameter that is a number; `None` also when it is something else.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// Resolves the percent signs of a URL (RFC 3986 section 2.1); what is no such escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Option<String> {
        let t = Target::parse(path)?;
        let Resource { group, plural } = &t.resource;
        Some(format!("{group}|{}|{}|{plural}|{}|{}", t.version, t.namespace, t.name, t.status))
    }

    #[test]
    fn paths_of_objects_are_read() {
        for (path, expected) in [
            ("/api/v1/nodes", "|v1||nodes||false"),
            ("/api/v1/nodes/a/status", "|v1||nodes|a|true"),
            ("/api/v1/pods", "|v1||pods||false"),
            ("/api/v1/namespaces", "|v1||namespaces||false"),
            ("/api/v1/namespaces/x", "|v1||namespaces|x|false"),
            ("/api/v1/namespaces/x/status", "|v1||namespaces|x|true"),
            ("/api/v1/namespaces/x/pods", "|v1|x|pods||false"),
            ("/api/v1/namespaces/x/pods/p/status", "|v1|x|pods|p|true"),
            ("/apis/weft.dev/v1alpha1/weftnodes/a", "weft.dev|v1alpha1||weftnodes|a|false"),
            ("/apis/apps/v1/namespaces/x/daemonsets/%64", "apps|v1|x|daemonsets|d|false"),
        ] {
            assert_eq!(words(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["/", "/version", "/api", "/api/v1", "/apis/weft.dev/v1", "/api/v1/nodes/a/proxy"] {
            assert_eq!(words(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query::parse("&labelSelector=a%3Db%2Cc&watch=true&limit=500&x=%zz&continue=");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert!(query.is_set("watch") && !query.is_set("limit"));
        assert_eq!(
            (query.number("limit"), query.get("x"), query.get("continue")),
            (Some(500), Some("%zz"), None)
        );
    }
}

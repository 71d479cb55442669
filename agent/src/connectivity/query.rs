//! What is asked for: the query of `GET /connectivity`.

use std::net::IpAddr;
use std::time::Duration;

/// A name that every cluster of Kubernetes with the usual domain has.
const USUAL_NAME: &str = "kubernetes.default.svc.cluster.local";

/// What is to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Something outside of the cluster that listens on TCP: HOST:PORT.
    pub outside: Option<String>,
    /// A name server that pods use; none: what the agent knows of.
    pub dns: Option<IpAddr>,
    /// The name that it is asked for.
    pub name: String,
    /// The other nodes; empty: a sample of them.
    pub nodes: Vec<String>,
    /// All other nodes.
    pub all: bool,
    /// How long one try may take.
    pub timeout: Duration,
}

impl Default for Query {
    fn default() -> Self {
        Query {
            outside: None,
            dns: None,
            name: USUAL_NAME.into(),
            nodes: Vec::new(),
            all: false,
            timeout: Duration::from_secs(2),
        }
    }
}

impl Query {
    /// Reads `key=value&key=value`. Errors: the key, its value, and what was expected.
    pub fn parse(text: &str) -> Result<Query, String> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |expected: &str| format!("{key}: \"{value}\", {expected} expected");
            match key {
                "outside" if is_endpoint(value) => query.outside = Some(value.to_owned()),
                "outside" => return Err(wrong("HOST:PORT")),
                "dns" => query.dns = Some(value.parse().map_err(|_| wrong("an IP address"))?),
                "name" if !value.is_empty() => query.name = value.to_owned(),
                "name" => return Err(wrong("a name")),
                "nodes" => {
                    query.nodes =
                        value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                }
                "all" => query.all = matches!(value, "" | "1" | "true"),
                "timeout" => match value.parse() {
                    Ok(seconds @ 1..=30) => query.timeout = Duration::from_secs(seconds),
                    _ => return Err(wrong("1 to 30 seconds")),
                },
                _ => return Err(format!("\"{key}\": outside, dns, name, nodes, all or timeout expected")),
            }
        }
        Ok(query)
    }
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok_and(|it| it != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_tried() {
        let query =
            Query::parse("outside=[2001:db8::1]:443&dns=192.0.2.53&name=example.com&nodes=a,b&timeout=5");
        let expected = Query {
            outside: Some("[2001:db8::1]:443".into()),
            dns: Some("192.0.2.53".parse().unwrap()),
            name: "example.com".into(),
            nodes: vec!["a".into(), "b".into()],
            all: false,
            timeout: Duration::from_secs(5),
        };
        assert_eq!(query, Ok(expected));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert!(Query::parse("all=1").unwrap().all);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("outside=example.com", "outside: \"example.com\", HOST:PORT expected"),
            ("outside=2001:db8::1", "outside: \"2001:db8::1\", HOST:PORT expected"),
            ("outside=a:0", "outside: \"a:0\", HOST:PORT expected"),
            ("dns=here", "dns: \"here\", an IP address expected"),
            ("timeout=0", "timeout: \"0\", 1 to 30 seconds expected"),
            ("name=", "name: \"\", a name expected"),
            ("node=a", "\"node\": outside, dns, name, nodes, all or timeout expected"),
        ] {
            assert_eq!(Query::parse(text).unwrap_err(), expected);
        }
    }
}

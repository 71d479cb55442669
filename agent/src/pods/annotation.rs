//! Annotations of pods that name further networks. Pure.
//!
//! Two forms, as the Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3, section 4.1.2, has
//! them: names with commas between them, `[NAMESPACE/]NAME[@INTERFACE]`, or a JSON list of objects. The names are
//! those of Weft Networks, which belong to no namespace: one that is told does not count.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mesh::RESERVED;

/// The annotation of the standard.
pub const STANDARD: &str = "k8s.v1.cni.cncf.io/networks";
/// Weft's own; where it is, the other does not count.
pub const OWN: &str = "weft.dev/networks";

/// The most further networks that a pod can have.
const MOST: usize = 32;
/// Longest name of a device in Linux, in octets.
const LONGEST_INTERFACE: usize = 15;

/// A network that a pod shall have beside its first, as the plugin is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodNetwork {
    /// The Weft Network.
    pub network: String,
    /// The device in the pod.
    pub interface: String,
    /// Addresses that are wanted; none: any.
    pub ips: Vec<String>,
    /// MAC address; empty: any.
    pub mac: String,
    /// The VLAN of the Network; none: the one that goes without saying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// An element of the JSON form.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Element {
    name: String,
    #[serde(rename = "namespace")]
    _namespace: String,
    interface: String,
    ips: Vec<String>,
    mac: String,
    vlan: Option<u32>,
    #[serde(rename = "cni-args")]
    arguments: Option<Arguments>,
}

/// What the standard leaves to plugins, in its key `cni-args`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    vlan: Option<u32>,
}

/// The further networks of a pod with these annotations. Errors: the annotation, its value, and what was expected.
pub fn networks(standard: Option<&str>, own: Option<&str>) -> Result<Vec<PodNetwork>, String> {
    let (annotation, text) = match (own, standard) {
        (Some(text), _) => (OWN, text),
        (None, Some(text)) => (STANDARD, text),
        (None, None) => return Ok(Vec::new()),
    };
    parse(text.trim()).map_err(|wrong| format!("annotation {annotation}: {wrong}"))
}

fn parse(text: &str) -> Result<Vec<PodNetwork>, String> {
    let elements = match text {
        "" => Vec::new(),
        list if list.starts_with('[') => {
            serde_json::from_str(list).map_err(|error| format!("{list:?}: {error}"))?
        }
        names => names.split(',').map(|name| short(name.trim())).collect::<Result<Vec<Element>, _>>()?,
    };
    if elements.len() > MOST {
        return Err(format!("{} networks, {MOST} at most expected", elements.len()));
    }
    let mut taken = BTreeSet::new();
    let mut networks = Vec::with_capacity(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let network = network(index + 1, element)?;
        if !taken.insert(network.interface.clone()) {
            return Err(format!("{:?} is wanted twice, another interface expected", network.interface));
        }
        networks.push(network);
    }
    Ok(networks)
}

/// `[NAMESPACE/]NAME[@INTERFACE]`.
fn short(text: &str) -> Result<Element, String> {
    let wrong = || format!("{text:?}, [NAMESPACE/]NAME[@INTERFACE] expected");
    let (name, interface) = match text.split_once('@') {
        Some((_, "")) => return Err(wrong()),
        Some((name, interface)) => (name, interface),
        None => (text, ""),
    };
    let name = match name.split_once('/') {
        Some((namespace, name)) if is_name(namespace) => name,
        Some(_) => return Err(wrong()),
        None => name,
    };
    if !is_name(name) {
        return Err(wrong());
    }
    Ok(Element { name: name.into(), interface: interface.into(), ..Element::default() })
}

/// The network of an element, which is the `number`th, counted from 1.
fn network(number: usize, element: Element) -> Result<PodNetwork, String> {
    let Element { name, interface, ips, mac, vlan, arguments, .. } = element;
    if !is_name(&name) {
        return Err(format!("name {name:?}, the name of a Weft Network expected"));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "name {name:?} is what Weft calls a part of its own, a Network that was declared expected"
        ));
    }
    let interface = if interface.is_empty() { format!("net{number}") } else { interface };
    if !is_interface(&interface) {
        return Err(format!(
            "interface {interface:?}, the name of a device of 1 to {LONGEST_INTERFACE} octets expected"
        ));
    }
    if !mac.is_empty() && !is_mac(&mac) {
        return Err(format!("mac {mac:?}, a MAC address such as 02:00:00:00:00:05 expected"));
    }
    let ips = ips.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let vlan = one_vlan(vlan, arguments.and_then(|arguments| arguments.vlan))?;
    Ok(PodNetwork { network: name, interface, ips, mac, vlan })
}

/// The VLAN, told in Weft's key, in the standard's, or in both alike.
fn one_vlan(own: Option<u32>, argument: Option<u32>) -> Result<Option<u16>, String> {
    if let (Some(own), Some(argument)) = (own, argument)
        && own != argument
    {
        return Err(format!("vlan {own} and cni-args.vlan {argument}, one of the two expected"));
    }
    let id = |given: u32| match u16::try_from(given) {
        Ok(vlan @ 1..=4094) => Ok(vlan),
        _ => Err(format!("vlan {given}, a VLAN id of 1 to 4094 expected")),
    };
    own.or(argument).map(id).transpose()
}

/// An address without the prefix length that it may have: the Network knows the subnet.
fn address(text: &str) -> Result<String, String> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let parsed: Result<IpAddr, _> = address.parse();
    parsed
        .map(|address| address.to_string())
        .map_err(|_| format!("ips {text:?}, an address such as 198.19.0.5 expected"))
}

/// Whether an object of Kubernetes can have this name (RFC 1123, as Kubernetes has it).
fn is_name(text: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(byte);
    end(bytes.first()) && end(bytes.last()) && bytes.iter().all(inside) && bytes.len() <= 253
}

/// Whether Linux would take a text as the name of a device.
fn is_interface(text: &str) -> bool {
    (1..=LONGEST_INTERFACE).contains(&text.len())
        && ![".", "..", "lo"].contains(&text)
        && !text.chars().any(|c| "/:\0".contains(c) || c.is_whitespace())
}

fn is_mac(text: &str) -> bool {
    let octet = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(network: &str, interface: &str) -> PodNetwork {
        PodNetwork {
            network: network.into(),
            interface: interface.into(),
            ips: Vec::new(),
            mac: String::new(),
            vlan: None,
        }
    }

    #[test]
    fn names_stand_with_commas_between_them() {
        // The examples of the standard, section 4.1.2.1.
        for (text, expected) in [
            ("net-a", vec![plain("net-a", "net1")]),
            ("net-a,net-b", vec![plain("net-a", "net1"), plain("net-b", "net2")]),
            ("net-a@eth1, other-ns/net-b@storage0", vec![plain("net-a", "eth1"), plain("net-b", "storage0")]),
            ("ns/net-a", vec![plain("net-a", "net1")]),
            ("net-a,net-a", vec![plain("net-a", "net1"), plain("net-a", "net2")]),
            ("", vec![]),
            (" ", vec![]),
            ("[]", vec![]),
        ] {
            assert_eq!(networks(Some(text), None), Ok(expected), "{text}");
        }
        assert_eq!(networks(None, None), Ok(vec![]));
    }

    #[test]
    fn json_says_more() {
        // After the standard's section 4.1.2.2.
        let text = r#"[
            {"name": "net-a", "namespace": "ns1", "ips": ["198.19.0.5/24", "2001:db8::5"]},
            {"name": "net-b", "interface": "data", "mac": "02:23:45:67:89:01"},
            {"name": "net-c", "vlan": 20},
            {"name": "net-c", "cni-args": {"vlan": 4094}}
        ]"#;
        let expected = vec![
            PodNetwork { ips: vec!["198.19.0.5".into(), "2001:db8::5".into()], ..plain("net-a", "net1") },
            PodNetwork { mac: "02:23:45:67:89:01".into(), ..plain("net-b", "data") },
            PodNetwork { vlan: Some(20), ..plain("net-c", "net3") },
            PodNetwork { vlan: Some(4094), ..plain("net-c", "net4") },
        ];
        assert_eq!(networks(Some(text), None), Ok(expected));
    }

    #[test]
    fn the_own_annotation_takes_the_place_of_the_other() {
        assert_eq!(networks(Some("a"), Some("b")), Ok(vec![plain("b", "net1")]));
        assert_eq!(networks(Some("a"), Some("")), Ok(vec![]));
        let wrong = networks(Some("a"), Some("B")).unwrap_err();
        assert!(wrong.starts_with("annotation weft.dev/networks: \"B\""), "{wrong}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value() {
        for (text, expected) in [
            ("a,,b", "\"\", [NAMESPACE/]NAME[@INTERFACE] expected"),
            ("a@", "\"a@\", [NAMESPACE/]NAME"),
            ("/a", "\"/a\", [NAMESPACE/]NAME"),
            ("a/b/c", "\"a/b/c\", [NAMESPACE/]NAME"),
            ("Blue", "\"Blue\", [NAMESPACE/]NAME"),
            ("a@interface-of-16-", "interface \"interface-of-16-\", the name of a device"),
            ("a@net2,b", "\"net2\" is wanted twice"),
            ("pods", "name \"pods\" is what Weft calls a part of its own"),
            (r#"[{"interface": "net1"}]"#, "name \"\", the name of a Weft Network"),
            (r#"[{"name": "a", "mac": "5"}]"#, "mac \"5\", a MAC address"),
            (r#"[{"name": "a", "ips": ["x/24"]}]"#, "ips \"x/24\", an address"),
            (r#"[{"name": "a", "default-route": ["198.19.0.1"]}]"#, "unknown field `default-route`"),
            (r#"[{"name": "a", "vlan": 0}]"#, "vlan 0, a VLAN id of 1 to 4094 expected"),
            (r#"[{"name": "a", "cni-args": {"vlan": 4095}}]"#, "vlan 4095, a VLAN id"),
            (r#"[{"name": "a", "vlan": 2, "cni-args": {"vlan": 3}}]"#, "vlan 2 and cni-args.vlan 3, one of"),
            (r#"[{"name": "a", "cni-args": {"vlann": 3}}]"#, "unknown field `vlann`"),
            (r#"[{"name": "a", "vlan": "20"}]"#, "invalid type: string \"20\", expected u32"),
            ("[{", "\"[{\": EOF"),
        ] {
            let wrong = networks(Some(text), None).unwrap_err();
            assert!(wrong.starts_with("annotation k8s.v1.cni.cncf.io/networks: "), "{wrong}");
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
        let many = vec!["a"; MOST + 1].join(",");
        assert!(networks(Some(&many), None).unwrap_err().contains("33 networks, 32 at most"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = networks(Some(&text), None);
        }
    }
}

//! What ADD answers (section "ADD Success" of the specification), in the shape of each version, and what CHECK
//! reads out of such an answer.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_proto::v1::{AttachedAddress, AttachmentState, CheckRequest, PortRoute};

use crate::document::{Document, tidy};
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::range::Prefix;
use crate::settings::{Dns, Route};
use crate::version::SpecVersion;

/// The parts of a result that CHECK looks at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    routes: Vec<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    mac: String,
    sandbox: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    address: String,
    interface: Option<i64>,
}

/// The result of the attachments of a container, after that of the plugins before.
pub fn render(document: &Document, attachments: &[AttachmentState], dns: &Dns) -> Result<Value, Failure> {
    let version = document.version;
    let mut result = match &document.previous {
        None => Map::new(),
        Some(Value::Object(previous)) => previous.clone(),
        Some(_) => {
            return Err(Failure::new(Code::Decoding, "prevResult cannot be read", "an object expected"));
        }
    };
    for attachment in attachments {
        let interfaces = interfaces(version, attachment);
        let before = list(&mut result, "interfaces")?;
        // The container's side comes last.
        let index = before.len() + interfaces.len() - 1;
        before.extend(interfaces);
        let ips = attachment.addresses.iter().map(|address| ip(version, address, index));
        list(&mut result, "ips")?.extend(ips);
        list(&mut result, "routes")?.extend(attachment.routes.iter().map(route));
    }
    if !dns.is_empty() {
        result.insert("dns".into(), json!(dns));
    }
    result.insert("cniVersion".into(), version.name().into());
    Ok(Value::Object(result))
}

/// What must be so according to the result of the whole chain.
pub fn expected(
    environment: &Environment,
    document: &Document,
    network: String,
    vlan: u32,
) -> Result<CheckRequest, Failure> {
    let previous = document.previous.clone().ok_or_else(|| {
        Failure::new(Code::InvalidConfig, "prevResult is missing", "CHECK needs the result of ADD")
    })?;
    let outcome: Outcome = serde_path_to_error::deserialize(tidy(previous)).map_err(|error| {
        let field = format!("prevResult.{}", error.path());
        Failure::new(Code::Decoding, format!("{field} cannot be read"), error.into_inner().to_string())
    })?;
    let name = &environment.key.interface;
    let inside = |interface: &Interface| interface.name == *name && !interface.sandbox.is_empty();
    let index = outcome.interfaces.iter().position(inside).ok_or_else(|| {
        let details = format!("prevResult has no interface {name} with a sandbox");
        Failure::new(Code::InvalidConfig, "prevResult does not fit", details)
    })?;
    let ours = |ip: &&Ip| ip.interface == i64::try_from(index).ok();
    let addresses: Vec<String> = outcome.ips.iter().filter(ours).map(|ip| ip.address.clone()).collect();
    let alone = outcome.interfaces.iter().filter(|interface| !interface.sandbox.is_empty()).count() == 1;
    let routes = routes_of(&outcome.routes, &addresses, alone);
    Ok(CheckRequest {
        key: Some(environment.key.clone()),
        network,
        vlan,
        netns: environment.netns.clone(),
        mac: outcome.interfaces[index].mac.clone(),
        addresses,
        routes,
    })
}

/// The routes that must be by our device. Results do not say which device a route is by: those whose next hop is
/// in one of our subnets, and, when there is no other device, those without one.
fn routes_of(routes: &[Route], addresses: &[String], alone: bool) -> Vec<PortRoute> {
    let subnets: Vec<Prefix> = addresses.iter().filter_map(|address| Prefix::parse(address)).collect();
    let ours = |route: &&Route| match route.gw.parse::<IpAddr>() {
        Ok(gateway) => subnets.iter().any(|subnet| subnet.contains(gateway)),
        Err(_) => alone && route.gw.is_empty(),
    };
    // Tables of their own are other plugins' doing.
    let main = routes.iter().filter(|route| route.table.is_none_or(|table| table == 0 || table == 254));
    main.filter(ours).map(|route| PortRoute { prefix: route.dst.clone(), via: route.gw.clone() }).collect()
}

/// A list of a result, made when it is not there.
fn list<'a>(result: &'a mut Map<String, Value>, field: &str) -> Result<&'a mut Vec<Value>, Failure> {
    let value = result.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    let message = format!("prevResult.{field} cannot be read");
    value.as_array_mut().ok_or_else(|| Failure::new(Code::Decoding, message, "a list expected"))
}

/// The host's side, if there is one, then the container's.
fn interfaces(version: SpecVersion, attachment: &AttachmentState) -> Vec<Value> {
    let name = attachment.key.as_ref().map_or("", |key| &key.interface);
    let mut interfaces = Vec::new();
    // Some runtimes know interfaces by their names alone: one of the same name would hide the container's.
    if !attachment.host_device.is_empty() && attachment.host_device != name {
        interfaces.push(json!({ "name": attachment.host_device, "mac": attachment.host_mac }));
    }
    interfaces.push(json!({ "name": name, "mac": attachment.mac, "sandbox": attachment.netns }));
    if version >= SpecVersion::V1_1_0 && attachment.mtu > 0 {
        for interface in &mut interfaces {
            interface["mtu"] = attachment.mtu.into();
        }
    }
    interfaces
}

fn ip(version: SpecVersion, address: &AttachedAddress, index: usize) -> Value {
    let mut ip = json!({ "address": address.address, "interface": index });
    if !address.gateway.is_empty() {
        ip["gateway"] = address.gateway.as_str().into();
    }
    if version < SpecVersion::V1_0_0 {
        ip["version"] = if address.address.contains(':') { "6" } else { "4" }.into();
    }
    ip
}

fn route(route: &PortRoute) -> Value {
    let mut value = json!({ "dst": route.prefix });
    if !route.via.is_empty() {
        value["gw"] = route.via.as_str().into();
    }
    value
}

#[cfg(test)]
mod tests;

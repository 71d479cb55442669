//! Pools, reservations and endpoints, from their messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weft_proto::v1;
use weft_stack::Prefix;

use super::unicast;
use crate::model::violation::Findings;
use crate::model::{AddressPool, AddressRange, Addressing, Endpoint, Subnet};

const MAX_QUARANTINE_SECONDS: u32 = 86_400;
const MAX_STICKY_SECONDS: u32 = 2_592_000;
/// Characters of a container's, a configuration's or an owner's name.
const MAX_NAME: usize = 253;

/// What may be given out of a subnet; `None`: nothing.
pub(super) fn pool(
    path: &str,
    message: Option<&v1::AddressPool>,
    prefix: &Prefix,
    findings: &mut Findings<'_>,
) -> Option<AddressPool> {
    let Some(message) = message else { return Some(AddressPool::default()) };
    let mut ranges = |field: &str, texts: &[String]| {
        let mut ranges = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let path = format!("{path}.{field}[{index}]");
            let Some(range) = findings.value(&path, range(text)) else { continue };
            if !prefix.contains(range.first) || !prefix.contains(range.last) {
                findings.add(&path, format_args!("{text} is not inside {prefix}"));
            }
            ranges.push(range);
        }
        ranges
    };
    let pool = AddressPool {
        ranges: ranges("ranges", &message.ranges),
        exclude: ranges("exclude", &message.exclude),
    };
    (!message.disabled).then_some(pool)
}

/// A range: two addresses with a hyphen between them, a block, or one address.
pub fn range(text: &str) -> Result<AddressRange, String> {
    let syntax = || {
        format!(
            "\"{text}\" is not a range, such as 198.18.1.10-198.18.1.99, 198.18.1.128/25 or 198.18.1.7 expected"
        )
    };
    if let Some((first, last)) = text.split_once('-') {
        let end = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| syntax());
        let range = AddressRange { first: end(first)?, last: end(last)? };
        if range.first.is_ipv4() != range.last.is_ipv4() {
            return Err(format!("{text} begins in one family of addresses and ends in another"));
        }
        if range.first > range.last {
            return Err(format!("{text} ends before it begins"));
        }
        return Ok(range);
    }
    if text.contains('/') {
        return text
            .parse::<Prefix>()
            .map(|prefix| AddressRange::of(&prefix))
            .map_err(|error| error.to_string());
    }
    text.parse::<IpAddr>().map(AddressRange::single).map_err(|_| syntax())
}

/// How a Network gives addresses out.
pub(super) fn addressing(
    message: Option<&v1::AddressManagement>,
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> Addressing {
    let default = Addressing::default();
    let Some(message) = message else { return default };
    let mut seconds = |field: &str, given: u32, most: u32| {
        if given > most {
            let path = format!("spec.addressManagement.{field}");
            findings.add(&path, format_args!("{given} is out of range, 0 to {most} expected"));
        }
        Duration::from_secs(given.into())
    };
    let quarantine = message
        .quarantine_seconds
        .map_or(default.quarantine, |given| seconds("quarantineSeconds", given, MAX_QUARANTINE_SECONDS));
    let sticky = seconds("stickySeconds", message.sticky_seconds, MAX_STICKY_SECONDS);
    Addressing { quarantine, sticky, reservations: reservations(&message.reservations, subnets, findings) }
}

fn reservations(
    messages: &[v1::Reservation],
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> BTreeMap<IpAddr, String> {
    let mut reservations = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        let path = format!("spec.addressManagement.reservations[{index}]");
        if message.owner.is_empty() {
            findings.add(&format!("{path}.owner"), "not given, NAMESPACE/NAME of a pod expected");
        }
        if messages[..index].iter().any(|other| other.owner == message.owner) {
            findings.add(&format!("{path}.owner"), format_args!("{} is given twice", message.owner));
        }
        if message.addresses.is_empty() {
            findings.add(&format!("{path}.addresses"), "not given, an address expected");
        }
        let mut families = Vec::new();
        for (number, text) in message.addresses.iter().enumerate() {
            let path = format!("{path}.addresses[{number}]");
            let Some(address) = findings.value(&path, unicast(text)) else { continue };
            match subnets.iter().find(|subnet| subnet.prefix.contains(address)) {
                None => findings.add(&path, format_args!("{address} is in no subnet of this Network")),
                Some(subnet) if subnet.keeps(address) || subnet.gateway == Some(address) => {
                    findings.add(&path, format_args!("{address} is the gateway's, or not a host's address"));
                }
                Some(_) => {}
            }
            if families.contains(&address.is_ipv4()) {
                findings.add(&path, format_args!("{address} is the second one of its family, one expected"));
            }
            families.push(address.is_ipv4());
            if reservations.insert(address, message.owner.clone()).is_some() {
                findings.add(&path, format_args!("{address} is reserved twice"));
            }
        }
    }
    reservations
}

/// The container that a Port was made for.
pub(super) fn endpoint(message: Option<&v1::Endpoint>, findings: &mut Findings<'_>) -> Option<Endpoint> {
    let message = message?;
    if !is_container_id(&message.container_id) {
        let description = format_args!("{:?} is not a container's name", message.container_id);
        findings.add("spec.endpoint.containerId", description);
    }
    Some(Endpoint {
        container_id: message.container_id.clone(),
        interface: message.interface.clone(),
        configuration: message.configuration.clone(),
        owner: message.owner.clone(),
        boot_id: message.boot_id.clone(),
        namespace_inode: message.namespace_inode,
    })
}

/// Whether a text is a container's name, as CNI has it: a letter or digit first, then also `_`, `.` and `-`.
pub fn is_container_id(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= MAX_NAME && text.bytes().all(inside)
}

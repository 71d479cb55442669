//! From the kernel's messages to what callers read. Only the attributes that are asked for are decoded, so
//! that an unusual device of somebody else cannot make a listing fail.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NLA_HEADER_SIZE, NlaBuffer, NlasIterator, parse_ip, parse_u32};
use netlink_packet_route::address::{AddressFlags, AddressHeader, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteType};

use super::{Address, Link, Route};

const LINK_HEADER_LENGTH: usize = 16;
const ADDRESS_HEADER_LENGTH: usize = 8;
const ROUTE_HEADER_LENGTH: usize = 12;
/// `IFLA_TUN_NUM_QUEUES`: the queues of a TUN or TAP device that somebody has open.
const IFLA_TUN_NUM_QUEUES: u16 = 8;

/// `tx_dropped`, the eighth number of `struct rtnl_link_stats64`.
const TX_DROPPED_AT: usize = 7 * size_of::<u64>();

/// A string attribute, up to its terminating NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The attributes behind a fixed header.
pub(super) fn attributes(
    payload: &[u8],
    header_length: usize,
) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, DecodeError>> {
    NlasIterator::new(payload.get(header_length..).unwrap_or_default())
}

/// A link, from the payload of an `RTM_NEWLINK` or `RTM_DELLINK`.
pub(crate) fn link(payload: &[u8]) -> Result<Link, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        txqueuelen: 0,
        gso_max_size: None,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        alias: None,
        kind: None,
        peer_index: None,
        master_index: None,
        peer_netns_id: None,
    };
    for attribute in attributes(payload, LINK_HEADER_LENGTH) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MTU => link.mtu = parse_u32(value)?,
            libc::IFLA_TXQLEN => link.txqueuelen = parse_u32(value)?,
            libc::IFLA_GSO_MAX_SIZE => link.gso_max_size = Some(parse_u32(value)?),
            libc::IFLA_IFALIAS => link.alias = Some(text(value)).filter(|alias| !alias.is_empty()),
            libc::IFLA_LINK => link.peer_index = Some(parse_u32(value)?).filter(|index| *index != 0),
            libc::IFLA_MASTER => link.master_index = Some(parse_u32(value)?).filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => link.peer_netns_id = Some(parse_u32(value)? as i32),
            libc::IFLA_LINKINFO => link.kind = nested(value, libc::IFLA_INFO_KIND)?.map(text),
            _ => {}
        }
    }
    Ok(link)
}

/// How many queues of a TUN or TAP device somebody has open; `None` for another kind of device.
pub(super) fn tun_queues(payload: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in attributes(payload, LINK_HEADER_LENGTH) {
        let attribute = attribute?;
        if attribute.kind() != libc::IFLA_LINKINFO {
            continue;
        }
        if nested(attribute.value(), libc::IFLA_INFO_KIND)?.map(text).as_deref() != Some("tun") {
            return Ok(None);
        }
        let data = nested(attribute.value(), libc::IFLA_INFO_DATA)?.unwrap_or_default();
        // A device of a single queue does not say how many are open: its second opening is refused anyway.
        return Ok(Some(nested(data, IFLA_TUN_NUM_QUEUES)?.map(parse_u32).transpose()?.unwrap_or(0)));
    }
    Ok(None)
}

/// The frames that a link has lost on the way out.
pub(super) fn transmit_drops(payload: &[u8]) -> Result<u64, DecodeError> {
    for attribute in attributes(payload, LINK_HEADER_LENGTH) {
        let attribute = attribute?;
        if attribute.kind() == libc::IFLA_STATS64 {
            let field = attribute.value().get(TX_DROPPED_AT..TX_DROPPED_AT + size_of::<u64>());
            let field = field.and_then(|octets| octets.try_into().ok());
            return field.map(u64::from_ne_bytes).ok_or_else(|| DecodeError::from("counters cut short"));
        }
    }
    Ok(0)
}

/// The value of the first attribute of `kind` among nested ones.
fn nested(attributes: &[u8], kind: u16) -> Result<Option<&[u8]>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == kind {
            let end = NLA_HEADER_SIZE + attribute.value_length();
            return Ok(attribute.into_inner().get(NLA_HEADER_SIZE..end));
        }
    }
    Ok(None)
}

/// An address, from the payload of an `RTM_NEWADDR`; `None` when it is neither IPv4 nor IPv6.
pub(super) fn address(payload: &[u8]) -> Result<Option<Address>, DecodeError> {
    let header = AddressHeader::parse(payload)?;
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let (mut local, mut given) = (None, None);
    for attribute in attributes(payload, ADDRESS_HEADER_LENGTH) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFA_LOCAL => local = ip(value)?,
            libc::IFA_ADDRESS => given = ip(value)?,
            libc::IFA_FLAGS => flags = AddressFlags::from_bits_retain(parse_u32(value)?),
            _ => {}
        }
    }
    // On a point-to-point device IFA_ADDRESS is the other end's.
    Ok(local.or(given).map(|address| Address {
        index: header.index,
        address,
        prefix_length: header.prefix_len,
        permanent: flags.contains(AddressFlags::Permanent),
        tentative: flags.contains(AddressFlags::Tentative),
        global: header.scope == AddressScope::Universe,
    }))
}

/// A route, from the payload of an `RTM_NEWROUTE`; `None` when it is not unicast or not in the main table.
pub(super) fn route(payload: &[u8]) -> Result<Option<Route>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    let any: IpAddr = match u8::from(header.address_family).into() {
        libc::AF_INET => std::net::Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(None),
    };
    let mut table = u32::from(header.table);
    let mut route = Route {
        prefix: (any, header.destination_prefix_length),
        via: None,
        index: None,
        protocol: header.protocol.into(),
        metric: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    for attribute in attributes(payload, ROUTE_HEADER_LENGTH) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_TABLE => table = parse_u32(value)?,
            libc::RTA_DST => route.prefix.0 = ip(value)?.unwrap_or(any),
            libc::RTA_GATEWAY => route.via = ip(value)?,
            libc::RTA_OIF => route.index = Some(parse_u32(value)?),
            libc::RTA_PRIORITY => route.metric = Some(parse_u32(value)?),
            _ => {}
        }
    }
    let wanted = table == u32::from(RouteHeader::RT_TABLE_MAIN) && header.kind == RouteType::Unicast;
    Ok(wanted.then_some(route))
}

fn ip(value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    parse_ip(value).map(Some)
}

//! Unicast routes of the main table.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, Route, Wish, decode};
use crate::Result;

impl Netlink {
    /// All unicast routes of the main table, IPv4 and IPv6, the kernel's own included.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let ipv4 = family == AddressFamily::Inet;
            // A kernel without IPv6 answers the second question with the routes of every family.
            let of_family = |payload: &[u8]| {
                let route = decode::route(payload)?;
                Ok(route.filter(|route| route.prefix.0.is_ipv4() == ipv4))
            };
            let wish = Wish { operation: "list", object: "routes" };
            let request = RouteNetlinkMessage::GetRoute(request);
            found.extend(self.dump(&request, libc::RTM_NEWROUTE, of_family, wish)?);
        }
        Ok(found)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`crate::Error::is_exists`] when there is one of the same destination and metric.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.set_route(route, None, "add route", NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Puts a route in the place of that of the same destination and metric, whoever made it, at once; adds it when there
    /// is none.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        self.set_route(route, None, "replace route", NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Makes the route to the prefix of a device's address that the kernel makes itself when the device comes up.
    ///
    /// # Errors
    /// [`crate::Error::is_exists`] when it is there.
    pub fn restore_prefix_route(&mut self, index: u32, prefix: (IpAddr, u8), address: IpAddr) -> Result<()> {
        /// `RTPROT_KERNEL`, and the metric of IPv6's (`IP6_RT_PRIO_ADDRCONF`).
        const KERNEL: u8 = 2;
        const METRIC: u32 = 256;
        let metric = address.is_ipv6().then_some(METRIC);
        let route = Route { prefix, via: None, index: Some(index), protocol: KERNEL, metric, onlink: false };
        let source = Some(address).filter(IpAddr::is_ipv4);
        self.set_route(&route, source, "restore route", NLM_F_CREATE | NLM_F_EXCL)
    }

    /// `source` is what packets by the route are sent from, where that is not for the kernel to choose.
    fn set_route(
        &mut self,
        route: &Route,
        source: Option<IpAddr>,
        operation: &'static str,
        flags: u16,
    ) -> Result<()> {
        let object = describe(route);
        let wish = Wish { operation, object: &object };
        let mut request = message(route);
        if route.onlink {
            request.header.flags = RouteFlags::Onlink;
        }
        request.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
        if route.via.is_none() && route.prefix.0.is_ipv4() {
            request.header.scope = RouteScope::Link;
        }
        self.change(RouteNetlinkMessage::NewRoute(request), flags, wish)
    }

    /// Removes a route of the same destination, next hop, device, protocol and metric, as far as they are
    /// given.
    ///
    /// # Errors
    /// [`crate::Error::is_gone`] when there is none.
    pub fn remove_route(&mut self, route: &Route) -> Result<()> {
        let object = describe(route);
        let wish = Wish { operation: "remove route", object: &object };
        let mut request = message(route);
        request.header.scope = RouteScope::NoWhere;
        self.change(RouteNetlinkMessage::DelRoute(request), 0, wish)
    }
}

fn message(route: &Route) -> RouteMessage {
    let (destination, length) = route.prefix;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: length,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: route.protocol.into(),
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let attributes = [
        (length > 0).then(|| RouteAttribute::Destination(destination.into())),
        route.via.map(|via| RouteAttribute::Gateway(via.into())),
        route.index.map(RouteAttribute::Oif),
        route.metric.map(RouteAttribute::Priority),
    ];
    message.attributes = attributes.into_iter().flatten().collect();
    message
}

fn describe(route: &Route) -> String {
    let (destination, length) = route.prefix;
    let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
    let link = route.index.map(|index| format!(" on link {index}")).unwrap_or_default();
    format!("{destination}/{length}{via}{link}")
}

//! Addresses of devices.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Address, Netlink, Wish, decode};
use crate::Result;

impl Netlink {
    /// All IPv4 and IPv6 addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let wish = Wish { operation: "list", object: "addresses" };
        self.dump(&request, libc::RTM_NEWADDR, decode::address, wish)
    }

    /// Gives a device an address. An IPv6 address is usable at once: no duplicate address detection.
    ///
    /// # Errors
    /// [`crate::Error::is_exists`] when the device has it; [`crate::Error::is_gone`] when there is no such
    /// device.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix_length: u8) -> Result<()> {
        let mut request = message(index, address, prefix_length);
        match address {
            IpAddr::V4(address) => {
                let broadcast = broadcast(address, prefix_length).map(AddressAttribute::Broadcast);
                request.attributes.extend(broadcast);
                if address.is_loopback() {
                    request.header.scope = AddressScope::Host;
                }
            }
            IpAddr::V6(_) => {
                request.header.flags = AddressHeaderFlags::Nodad;
                request.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
        }
        let object = format!("{address}/{prefix_length} to link {index}");
        let wish = Wish { operation: "add address", object: &object };
        self.change(RouteNetlinkMessage::NewAddress(request), NLM_F_CREATE | NLM_F_EXCL, wish)
    }

    /// Takes an address from a device.
    ///
    /// # Errors
    /// [`crate::Error::is_gone`] when the device does not have it, or there is no such device.
    pub fn remove_address(&mut self, index: u32, address: IpAddr, prefix_length: u8) -> Result<()> {
        let request = message(index, address, prefix_length);
        let object = format!("{address}/{prefix_length} from link {index}");
        let wish = Wish { operation: "remove address", object: &object };
        self.change(RouteNetlinkMessage::DelAddress(request), 0, wish)
    }
}

fn message(index: u32, address: IpAddr, prefix_length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.index = index;
    message.header.prefix_len = prefix_length;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// The directed broadcast address; a /31 (RFC 3021) or /32 has none.
fn broadcast(address: Ipv4Addr, prefix_length: u8) -> Option<Ipv4Addr> {
    let host_bits = u32::MAX.checked_shr(prefix_length.into()).filter(|bits| *bits > 1)?;
    Some(Ipv4Addr::from_bits(address.to_bits() | host_bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_address_is_the_last_of_the_subnet_where_there_is_one() {
        let address = Ipv4Addr::new(198, 18, 1, 7);
        assert_eq!(broadcast(address, 24), Some(Ipv4Addr::new(198, 18, 1, 255)));
        assert_eq!(broadcast(address, 30), Some(Ipv4Addr::new(198, 18, 1, 7)));
        assert_eq!(broadcast(address, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(address, 31), None);
        assert_eq!(broadcast(address, 32), None);
    }
}

//! The device of the node that leads to the other nodes: how large its packets may be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::LinkAttribute;

use crate::error::{Error, Result};

/// Octets of the largest IP packet on the device that has this address; none: no device has it.
pub async fn mtu(address: IpAddr) -> Result<Option<u32>> {
    asked(async |handle| device_mtu(&handle, address).await).await
}

/// All addresses of the node but those of its loopback and links.
pub async fn addresses() -> Result<BTreeSet<IpAddr>> {
    let found: Vec<_> = asked(async |handle| handle.address().get().execute().try_collect().await).await?;
    let global = found.iter().filter(|message| message.header.scope == AddressScope::Universe);
    let address = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    Ok(global.filter_map(|message| message.attributes.iter().find_map(address)).collect())
}

async fn device_mtu(handle: &rtnetlink::Handle, address: IpAddr) -> Result<Option<u32>, rtnetlink::Error> {
    let mut addresses = handle.address().get().set_address_filter(address).execute();
    let mut device = None;
    while let Some(message) = addresses.try_next().await? {
        let is_it = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(own) | AddressAttribute::Address(own) => *own == address,
            _ => false,
        };
        if message.attributes.iter().any(is_it) {
            device = Some(message.header.index);
        }
    }
    let Some(device) = device else { return Ok(None) };
    let mut links = handle.link().get().match_index(device).execute();
    let Some(link) = links.try_next().await? else { return Ok(None) };
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    Ok(mtu)
}

/// Asks the kernel over a netlink socket of its own.
async fn asked<T>(question: impl AsyncFnOnce(rtnetlink::Handle) -> Result<T, rtnetlink::Error>) -> Result<T> {
    let wrong = |error: &dyn std::error::Error| Error::Underlay(error.to_string());
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| wrong(&error))?;
    let task = tokio::spawn(connection);
    let answer = question(handle).await;
    task.abort();
    answer.map_err(|error| wrong(&error))
}

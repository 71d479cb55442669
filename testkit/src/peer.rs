//! Other implementations of tunnels, each in a namespace of its own on the wire: the judges of Weft's own, and who it is
//! measured beside. They end on a device in that namespace, where real programs use them.

pub mod open_vswitch;
pub mod vxlan;
pub mod wireguard;

use anyhow::Result;

use crate::node::Node;

/// Gives a tunnel's device in a peer's namespace addresses with prefix lengths, and sets it up.
fn address(node: &Node, device: &str, addresses: &[&str]) -> Result<()> {
    for address in addresses {
        let no_detection = if address.contains(':') { " nodad" } else { "" };
        node.must(&format!("ip address add {address} dev {device}{no_detection}"))?;
    }
    node.must(&format!("ip link set {device} up")).map(drop)
}

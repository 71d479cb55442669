//! The kernel's parameters without which the node forwards nothing. They are switched on, never off: by then others
//! may rely on them.

use weft_host::{Error, sysctl};

use super::wish::Wish;
use crate::reconcile::error::told;
use crate::reconcile::observe::Refusal;

/// The reason of a Refusal when a parameter cannot be set.
pub const FORWARDING_OFF: &str = "ForwardingOff";

/// Sets what `wish` needs, in the calling thread's namespace.
pub fn switch_on(wish: &Wish) -> Result<(), Refusal> {
    if wish.forwards_v4 {
        switch("net/ipv4/ip_forward").map_err(|error| refusal("IPv4", "net.ipv4.ip_forward", &error))?;
    }
    if wish.forwards_v6 {
        let name = "net/ipv6/conf/all/forwarding";
        forward_v6(name, wish).map_err(|error| refusal("IPv6", "net.ipv6.conf.all.forwarding", &error))?;
    }
    if wish.loopback {
        wish.devices.iter().for_each(|device| lead_loopback(device));
    }
    Ok(())
}

/// A router does not listen to router advertisements unless it is told to: the node would lose its default route. By
/// `host` Ports it shall have none: the Router at the other end sends there what it knows no other way for.
fn forward_v6(name: &str, wish: &Wish) -> Result<(), Error> {
    match sysctl::get(name) {
        Ok(value) if value == "0" => {}
        // Without IPv6 the node has no address that could lead anywhere.
        Err(error) if !error.is_gone() => return Err(error),
        _ => return Ok(()),
    }
    let others = |device: &&String| *device != "all" && !wish.devices.contains(*device);
    for device in sysctl::list("net/ipv6/conf")?.iter().filter(others) {
        let accept = format!("net/ipv6/conf/{device}/accept_ra");
        match sysctl::get(&accept) {
            Ok(value) if value == "1" => {
                sysctl::set(&accept, "2")?;
                tracing::info!("set {accept} to 2: a router takes no routes from others otherwise");
            }
            Err(error) if !error.is_gone() => return Err(error),
            _ => {}
        }
    }
    switch(name)
}

/// Lets what the node sends from 127.0.0.1 leave by this device.
fn lead_loopback(device: &str) {
    match switch(&format!("net/ipv4/conf/{device}/route_localnet")) {
        // Its turn comes when there is a device.
        Err(error) if !error.is_gone() => {
            tracing::warn!("127.0.0.1 does not lead to containers: {}", told(&error));
        }
        _ => {}
    }
}

fn switch(name: &str) -> Result<(), Error> {
    if sysctl::get(name)? == "0" {
        sysctl::set(name, "1")?;
        tracing::info!(
            "set {name} to 1: Ports or Networks need it (spec.portMappings, spec.masquerade, spec.nodeRoutes)"
        );
    }
    Ok(())
}

fn refusal(family: &str, name: &str, error: &Error) -> Refusal {
    let message = format!("the node does not forward {family}: set {name} to 1 there, as {}", told(error));
    Refusal { reason: FORWARDING_OFF, message }
}

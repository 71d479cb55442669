//! This node's addresses on the network that all nodes share, where nobody tells them: those that the kernel would send
//! from. Nothing is sent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Addresses outside of every node, by which the default routes are found (RFC 5737, RFC 3849).
const OUTSIDE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];
/// How long a name server may take: nothing else is done meanwhile.
const LOOKUP: Duration = Duration::from_secs(1);

/// The address towards the first of the endpoints that says one, and then those of the default routes of families that
/// have none yet.
pub async fn own(endpoints: &[String]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let towards_etcd = endpoints.iter().filter_map(|endpoint| host_and_port(endpoint));
    let mut targets = join_all(towards_etcd.map(addresses_of)).await.concat();
    targets.extend(OUTSIDE.iter().filter_map(|target| target.parse::<SocketAddr>().ok()));
    for target in targets {
        let known = found.iter().any(|own| own.is_ipv4() == target.is_ipv4());
        if let Some(address) = source(target).await.filter(|_| !known) {
            found.push(address);
        }
    }
    found
}

/// A name that cannot be found now is not waited for: the next look may find it.
async fn addresses_of(target: &str) -> Vec<SocketAddr> {
    match timeout(LOOKUP, tokio::net::lookup_host(target)).await {
        Ok(Ok(found)) => found.collect(),
        _ => Vec::new(),
    }
}

/// The address that packets to there are sent from, if other nodes can answer to it.
async fn source(target: SocketAddr) -> Option<IpAddr> {
    let any: &str = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(is_shared)
}

fn is_shared(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || link_local)
}

/// `192.0.2.1:2379` of `http://192.0.2.1:2379`.
fn host_and_port(endpoint: &str) -> Option<&str> {
    let (_, rest) = endpoint.split_once("://")?;
    Some(rest.split('/').next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_a_host_and_a_port() {
        assert_eq!(host_and_port("http://192.0.2.1:2379"), Some("192.0.2.1:2379"));
        assert_eq!(host_and_port("https://[2001:db8::1]:2379/"), Some("[2001:db8::1]:2379"));
        assert_eq!(host_and_port("192.0.2.1:2379"), None);
    }

    #[tokio::test]
    async fn an_etcd_on_the_node_itself_says_no_address() {
        assert_eq!(source("127.0.0.1:2379".parse().unwrap()).await, None);
        assert!(own(&["http://127.0.0.1:2379".into()]).await.iter().all(is_shared));
    }
}

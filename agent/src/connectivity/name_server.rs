//! Which name server pods use, where nobody names one: that of the configuration, else in Kubernetes that of the
//! Service `kube-dns`, which every usual cluster has by that name, whatever serves it. It is asked for when it is
//! needed, so that it may come and go.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Api;

use crate::cluster::kubernetes;
use crate::config::{Config, Keeper};
use crate::error::chain;

/// Where the Service is.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// How long the API may take to tell of it.
const BOUND: Duration = Duration::from_secs(2);

/// Who knows the name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameServer {
    /// The configuration.
    Given(IpAddr),
    /// The Kubernetes API.
    Cluster,
    /// Nobody.
    Unknown,
}

impl NameServer {
    /// As a configuration says.
    pub fn of(config: &Config) -> NameServer {
        match (config.connectivity.dns.parse(), config.cluster) {
            (Ok(address), _) => NameServer::Given(address),
            (Err(_), Keeper::Kubernetes) => NameServer::Cluster,
            (Err(_), Keeper::Etcd) => NameServer::Unknown,
        }
    }

    /// Its addresses; none: there is no name server. Errors say why that is not known.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        match self {
            NameServer::Given(address) => Ok(vec![*address]),
            NameServer::Unknown => Ok(Vec::new()),
            NameServer::Cluster => {
                let asked = tokio::time::timeout(BOUND, ask()).await;
                let why = match asked {
                    Ok(Ok(service)) => {
                        return Ok(service.as_ref().map(cluster_addresses).unwrap_or_default());
                    }
                    Ok(Err(error)) => chain(&error),
                    Err(_) => format!("no answer in {} s", BOUND.as_secs()),
                };
                Err(format!("the Kubernetes API does not tell of the Service {NAMESPACE}/{NAME}: {why}"))
            }
        }
    }
}

async fn ask() -> crate::error::Result<Option<Service>> {
    let api = Api::<Service>::namespaced(kubernetes::connect().await?, NAMESPACE);
    Ok(api.get_opt(NAME).await?)
}

/// The addresses that pods reach a Service by; one without (headless) has none.
fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let several = spec.cluster_ips.iter().flatten();
    let all = several.chain(&spec.cluster_ip).filter_map(|text| text.parse().ok());
    let mut found: Vec<IpAddr> = Vec::new();
    for address in all {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_configured_counts_before_the_cluster() {
        let mut config = Config::default();
        assert_eq!(NameServer::of(&config), NameServer::Cluster);
        config.cluster = Keeper::Etcd;
        assert_eq!(NameServer::of(&config), NameServer::Unknown);
        config.connectivity.dns = "192.0.2.53".into();
        assert_eq!(NameServer::of(&config), NameServer::Given("192.0.2.53".parse().unwrap()));
    }

    #[test]
    fn a_service_has_the_addresses_of_its_families_once() {
        let found = |spec| cluster_addresses(&serde_json::from_value(json!({ "spec": spec })).unwrap());
        let both = json!({ "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"] });
        assert_eq!(found(both), ["10.96.0.10", "fd00:10:96::a"].map(|it| it.parse::<IpAddr>().unwrap()));
        assert_eq!(found(json!({ "clusterIP": "10.96.0.10" })).len(), 1);
        assert!(found(json!({ "clusterIP": "None", "clusterIPs": ["None"] })).is_empty());
    }
}

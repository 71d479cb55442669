//! Nodes with a daemon, an agent and a containerd each, and pods that are made as the kubelet makes them.

mod fabric {
    pub mod bandwidth;
    pub mod host_ports;
    pub mod outages;
    pub mod reach;
    pub mod server;
    pub mod services;
}

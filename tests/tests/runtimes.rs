//! Containers of real runtimes on Weft: containerd, as Kubernetes and as ctr use it, and podman.

mod runtimes {
    pub mod containerd;
    pub mod ctr;
    pub mod daemonset;
    pub mod host_ports;
    pub mod image;
    pub mod in_cluster;
    pub mod node;
    pub mod podman;
    pub mod pods;
    pub mod release;

    // The chart's own tests use the rest.
    #[allow(dead_code)]
    #[path = "../chart/rendering.rs"]
    pub mod rendering;
}

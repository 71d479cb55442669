//! Containers that come and go by the CNI plugin: the real plugin, the real daemon, the reference plugins in chains
//! with it, run as libcni runs them.

mod cni {
    pub mod chains;
    pub mod chaos;
    pub mod lifecycle;
    pub mod outage;
    pub mod runtime;
}

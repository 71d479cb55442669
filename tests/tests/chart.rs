//! The Helm chart: helm renders it with several values files; what comes out is what Kubernetes takes, what the
//! programs read, and has no more rights than it must. `scripts/kubernetes-tools` brings helm and the schemas.

#![allow(clippy::unwrap_used)]

mod chart {
    pub mod manual;
    pub mod objects;
    pub mod pods;
    pub mod programs;
    pub mod refusals;
    pub mod rendering;
    pub mod rights;
}

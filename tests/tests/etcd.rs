//! Hosts of containers without Kubernetes: daemons and agents on a wire, with a real etcd on the first of them, or on
//! three.

mod etcd {
    pub mod certificates;
    pub mod fabric;
    pub mod hosts;
    pub mod loss;
    pub mod members;
    pub mod names;
    pub mod users;
}

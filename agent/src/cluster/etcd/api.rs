//! etcd's own messages and client, generated from `agent/proto`: what of its API the agent uses.

/// Keys and changes of them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// Services and their messages.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

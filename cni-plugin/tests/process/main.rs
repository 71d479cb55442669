//! The built plugin, run as libcni runs plugins, against a daemon that is a fake.

#![allow(clippy::unwrap_used)]

mod contract;
mod delegation;
mod fake;
mod further;
mod installing;
mod queue;
mod runtime;
mod verbs;

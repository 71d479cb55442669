//! The condition `Ready` of Weft's objects in the API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::cluster::Readiness;

/// Its name.
pub(super) const READY: &str = "Ready";

/// The condition that says this, with the time of the one that stands, if that is as ready.
pub(super) fn ready(
    readiness: &Readiness,
    message: String,
    generation: Option<i64>,
    stands: Option<&Condition>,
    now: Time,
) -> Condition {
    let word = if readiness.ready { "True" } else { "False" };
    let same = stands.filter(|stands| stands.status == word);
    Condition {
        type_: READY.into(),
        status: word.into(),
        reason: readiness.reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: same.map_or(now, |stands| stands.last_transition_time.clone()),
    }
}

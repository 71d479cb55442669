//! The latest changes of one resource, for watches that go on from a version.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::cluster::object::Object;
use crate::cluster::refusal::Refusal;
use crate::cluster::selector::Selector;

/// What happened to an object.
#[derive(Debug)]
pub struct Event {
    /// The object after it; what it was last when it is gone, with the version of its end.
    pub object: Arc<Object>,
    /// The object before it.
    pub previous: Option<Arc<Object>>,
    /// Whether the object is gone.
    pub deleted: bool,
    /// The version that the event made.
    pub version: u64,
}

impl Event {
    /// What a watch with this selector hears: an object that starts or stops to match is added or deleted for it.
    pub fn heard_as(&self, selector: &Selector) -> Option<&'static str> {
        let was = self.previous.as_ref().is_some_and(|object| selector.matches(&object.value));
        let is = !self.deleted && selector.matches(&self.object.value);
        match (was, is) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }
}

/// A bounded queue of events, the oldest first.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Arc<Event>>,
    /// All events after this version are here.
    horizon: u64,
    bound: usize,
}

impl History {
    /// An empty history of at most `bound` events, which knows nothing of what was until version `horizon`.
    pub fn new(bound: usize, horizon: u64) -> History {
        History { events: VecDeque::new(), horizon, bound }
    }

    /// Adds an event, and forgets the oldest where there are too many.
    pub fn push(&mut self, event: Event) {
        self.events.push_back(Arc::new(event));
        while self.events.len() > self.bound {
            if let Some(oldest) = self.events.pop_front() {
                self.horizon = oldest.version;
            }
        }
    }

    /// Forgets everything until `version`.
    pub fn expire(&mut self, version: u64) {
        self.events.clear();
        self.horizon = version;
    }

    /// Refuses a version from which the events are not known any more.
    pub fn reaches_back_to(&self, version: u64) -> Result<(), Refusal> {
        if version < self.horizon { Err(Refusal::expired(version, self.horizon)) } else { Ok(()) }
    }

    /// At most `limit` events after `version`.
    pub fn since(&self, version: u64, limit: usize) -> Result<Vec<Arc<Event>>, Refusal> {
        self.reaches_back_to(version)?;
        let first = self.events.partition_point(|event| event.version <= version);
        Ok(self.events.range(first..).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(version: u64, before: Option<Value>, after: Value, deleted: bool) -> Event {
        let previous = before.map(|value| Arc::new(Object::new(value, version - 1)));
        Event { object: Arc::new(Object::new(after, version)), previous, deleted, version }
    }

    #[test]
    fn a_version_before_the_oldest_event_is_expired() {
        let mut history = History::new(2, 10);
        for version in [12, 15, 17] {
            history.push(event(version, None, json!({}), false));
        }
        let versions = |from| history.since(from, 9).map(|e| e.iter().map(|e| e.version).collect::<Vec<_>>());
        assert_eq!(versions(12), Ok(vec![15, 17]));
        assert_eq!(versions(16), Ok(vec![17]));
        assert_eq!(versions(17), Ok(vec![]));
        assert_eq!(versions(11).unwrap_err().code, 410);
    }

    #[test]
    fn an_object_that_starts_or_stops_to_match_is_added_or_deleted_for_the_watch() {
        let on = |node: &str| json!({"spec": {"nodeName": node}});
        let selector = Selector::default().fields("spec.nodeName=a");
        for (before, after, deleted, heard) in [
            (None, "a", false, Some("ADDED")),
            (None, "b", false, None),
            (Some("b"), "a", false, Some("ADDED")),
            (Some("a"), "a", false, Some("MODIFIED")),
            (Some("a"), "b", false, Some("DELETED")),
            (Some("a"), "a", true, Some("DELETED")),
            (Some("b"), "b", true, None),
        ] {
            let event = event(5, before.map(on), on(after), deleted);
            assert_eq!(event.heard_as(&selector), heard, "{before:?} to {after}, deleted: {deleted}");
        }
    }
}

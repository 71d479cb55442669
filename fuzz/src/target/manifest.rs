//! What a user writes: YAML or JSON, then the model that the daemon makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_proto::manifest;
use weft_proto::v1::Resource;
use weftd::model::parse::{self, Resources};
use weftd::model::{ObjectRef, check};

/// A text that is a manifest comes back the same from both forms, and the daemon has an opinion of it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match manifest::parse(text, "fuzz.yaml") {
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            errors.iter().for_each(|error| assert!(!error.to_string().is_empty()));
        }
        Ok(resources) => {
            for form in [manifest::to_yaml(&resources), manifest::to_json(&resources)] {
                assert_eq!(manifest::parse(&form, "again"), Ok(resources.clone()), "{form}");
            }
            judge(resources);
        }
    }
}

/// What the daemon does with an Apply, as far as nothing is stored.
fn judge(resources: Vec<Resource>) {
    let mut named = Resources::new();
    for (index, resource) in resources.into_iter().enumerate() {
        match parse::identity(index, &resource) {
            Ok(object) => drop(named.insert(object, Arc::new(resource))),
            Err(violations) => return assert!(!violations.is_empty()),
        }
    }
    match parse::fabric(&named, 1) {
        Ok(fabric) => {
            let touched: BTreeSet<ObjectRef> = named.keys().cloned().collect();
            check::fabric(&fabric, &touched);
        }
        Err(violations) => assert!(!violations.is_empty()),
    }
}

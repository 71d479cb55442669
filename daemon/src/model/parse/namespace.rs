//! A Namespace from its message.

use std::path::{Component, Path};

use weft_proto::v1;

use crate::model::violation::Findings;
use crate::model::{Namespace, ObjectRef, Violation};

pub(super) fn parse(
    object: &ObjectRef,
    message: Option<&v1::NamespaceSpec>,
) -> Result<Namespace, Vec<Violation>> {
    let mut findings = Findings::of(object);
    let path = Path::new(message.map_or("", |spec| &spec.path));
    if path.as_os_str().is_empty() {
        return Ok(Namespace::Make);
    }
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs || path.as_os_str().as_encoded_bytes().contains(&0) {
        let expected = "an absolute path without \"..\" expected";
        findings.add("spec.path", format_args!("{path:?} does not name a namespace, {expected}"));
    }
    findings.finish(Some(Namespace::Adopt(path.to_owned())))
}

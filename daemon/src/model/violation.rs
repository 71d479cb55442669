//! Wrong fields: where they are and what is wrong with them, all of them at once.

use std::fmt;

use super::ObjectRef;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where: "Port/web: spec.vlan".
    pub field: String,
    /// What is wrong and what was expected: "4095 is not a VLAN id, 1 to 4094 expected".
    pub description: String,
}

impl Violation {
    /// A wrong field of an object.
    pub fn new(object: &ObjectRef, path: &str, description: impl fmt::Display) -> Violation {
        Violation { field: format!("{object}: {path}"), description: description.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

/// The wrong fields of one object, collected while it is read.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    object: &'a ObjectRef,
    found: Vec<Violation>,
}

impl<'a> Findings<'a> {
    /// Nothing wrong so far.
    pub fn of(object: &'a ObjectRef) -> Self {
        Findings { object, found: Vec::new() }
    }

    /// Puts down a wrong field.
    pub fn add(&mut self, path: &str, description: impl fmt::Display) {
        self.found.push(Violation::new(self.object, path, description));
    }

    /// The value of a result, or its error put down.
    pub fn value<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error)).ok()
    }

    /// The number, when it is in `range`; the default for 0, which stands for "not given".
    pub fn number(
        &mut self,
        path: &str,
        value: u32,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        match value {
            0 => default,
            _ if range.contains(&value) => value,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.add(path, format_args!("{value} is out of range, {least} to {most} expected"));
                default
            }
        }
    }

    /// The value when nothing was wrong, otherwise everything that was.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }
}

//! The words of manifest errors: what serde and the YAML parser say, in the terms of someone who writes
//! a manifest.

use serde_yaml_ng::Value;

use super::ManifestError;

/// The most characters of a value that an error repeats.
const MAX_SHOWN: usize = 60;

/// How a value of the wrong kind is called.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) if value.chars().count() > MAX_SHOWN => {
            format!("{:?}...", value.chars().take(MAX_SHOWN).collect::<String>())
        }
        Value::String(value) => format!("{value:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(value) => format!("the tag {}", value.tag),
    }
}

/// The error of a document that is not YAML, or has a key twice.
pub(super) fn syntax(
    text: &str,
    source: &str,
    document: usize,
    error: &serde_yaml_ng::Error,
) -> ManifestError {
    let line = error.location().map(|location| location.line());
    let indented_by_tab = line
        .and_then(|line| text.lines().nth(line - 1))
        .is_some_and(|line| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'));
    let message = if indented_by_tab {
        "a tab is used for indentation, spaces expected".to_owned()
    } else {
        without_places(&error.to_string())
    };
    ManifestError {
        source_name: source.to_owned(),
        document,
        line,
        object: String::new(),
        field: String::new(),
        message,
    }
}

/// The parser's text without the "at line 3 column 1" that it puts after each clause.
fn without_places(text: &str) -> String {
    let clauses = text.split(", ").map(|clause| clause.find(" at line ").map_or(clause, |at| &clause[..at]));
    clauses.collect::<Vec<_>>().join(", ").replace("duplicate entry with key", "duplicate key")
}

/// serde's sentence about one field.
pub(super) fn reworded(text: &str) -> String {
    if let Some(rest) = text.strip_prefix("unknown field ") {
        let known = rest.split_once(", ").map_or("", |(_, known)| known);
        let known = match known.strip_prefix("expected one of ") {
            Some(_) => known.to_owned(),
            None => known.replace("expected `", "expected one of `").replace("` or `", "`, `"),
        };
        return format!("unknown field, {}", known.replace('`', ""));
    }
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|prefix| text.strip_prefix(prefix));
    match wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, wish)) => format!("{} given, {} expected", given(found), wished(wish)),
        None => text.to_owned(),
    }
}

/// "integer `4095`" as "4095".
fn given(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "unit value" => "nothing".to_owned(),
        _ => match found.strip_prefix("string ") {
            Some(text) => text.to_owned(),
            None => found.split('`').nth(1).unwrap_or(found).to_owned(),
        },
    }
}

/// serde's names of types as what one writes.
fn wished(wish: &str) -> &str {
    match wish {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        _ if wish.starts_with("struct ") => "a mapping",
        _ => wish,
    }
}

//! The forms of PATCH, as pure steps from an object to the next: merge patch (RFC 7386), JSON patch (RFC 6902) and
//! strategic merge, as far as it is used. Server-side apply is in [`super::apply`].

use serde_json::{Map, Value};

use crate::cluster::refusal::Refusal;

/// Applies a merge patch (RFC 7386 section 2).
pub fn merge(value: &mut Value, patch: &Value) {
    json_patch::merge(value, patch);
}

/// Applies a JSON patch (RFC 6902), or refuses it whole.
pub fn json(value: &mut Value, operations: Value) -> Result<(), Refusal> {
    let operations: json_patch::Patch =
        serde_json::from_value(operations).map_err(|error| Refusal::bad_request(error.to_string()))?;
    json_patch::patch(value, &operations).map_err(|error| Refusal::invalid(error.to_string()))
}

/// Applies a strategic merge patch: a merge patch whose lists of conditions, taints and the like are merged by
/// their keys, with `$patch: delete` for an element that shall go; other lists are replaced.
pub fn strategic(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (name, patch) in patch {
        match (merge_key(name), patch) {
            (_, Value::Null) => {
                fields.remove(name);
            }
            // Lists of the same name elsewhere, of plain values, are replaced.
            (Some(key), Value::Array(elements)) if elements.iter().all(|it| it.get(key).is_some()) => {
                merge_list(fields.entry(name.clone()).or_insert(Value::Null), key, elements);
            }
            _ => strategic(fields.entry(name.clone()).or_insert(Value::Null), patch),
        }
    }
}

/// By which field the elements of a list are told apart; `None` for lists that are replaced. A part of what
/// Kubernetes' types declare as `patchMergeKey`.
pub fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "conditions" | "addresses" => Some("type"),
        "taints" => Some("key"),
        "containers" | "initContainers" | "volumes" | "env" => Some("name"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

fn merge_list(list: &mut Value, key: &str, patches: &[Value]) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Value::Array(elements) = list else { return };
    for patch in patches {
        let at = elements.iter().position(|element| element.get(key) == patch.get(key));
        match (at, patch["$patch"] == "delete") {
            (Some(at), true) => {
                elements.remove(at);
            }
            (Some(at), false) => strategic(&mut elements[at], patch),
            (None, true) => {}
            (None, false) => elements.push(patch.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn merge_patches_do_what_the_appendix_of_rfc_7386_lists() {
        for (original, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut value = parse(original);
            merge(&mut value, &parse(patch));
            assert_eq!(value, parse(result), "{original} and {patch}");
        }
    }

    #[test]
    fn json_patches_do_what_the_appendix_of_rfc_6902_lists() {
        for (section, original, patch, result) in [
            (
                "A.1",
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"qux"}]"#,
                r#"{"baz":"qux","foo":"bar"}"#,
            ),
            (
                "A.2",
                r#"{"foo":["bar","baz"]}"#,
                r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
                r#"{"foo":["bar","qux","baz"]}"#,
            ),
            ("A.3", r#"{"baz":"qux","foo":"bar"}"#, r#"[{"op":"remove","path":"/baz"}]"#, r#"{"foo":"bar"}"#),
            (
                "A.4",
                r#"{"foo":["bar","qux","baz"]}"#,
                r#"[{"op":"remove","path":"/foo/1"}]"#,
                r#"{"foo":["bar","baz"]}"#,
            ),
            (
                "A.5",
                r#"{"baz":"qux","foo":"bar"}"#,
                r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
                r#"{"baz":"boo","foo":"bar"}"#,
            ),
            (
                "A.7",
                r#"{"foo":["all","grass","cows","eat"]}"#,
                r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
                r#"{"foo":["all","cows","eat","grass"]}"#,
            ),
            (
                "A.8",
                r#"{"baz":"qux","foo":["a",2,"c"]}"#,
                r#"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
                r#"{"baz":"qux","foo":["a",2,"c"]}"#,
            ),
            (
                "A.10",
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#,
                r#"{"foo":"bar","child":{"grandchild":{}}}"#,
            ),
            (
                "A.14",
                r#"{"/":9,"~1":10}"#,
                r#"[{"op":"test","path":"/~01","value":10}]"#,
                r#"{"/":9,"~1":10}"#,
            ),
            (
                "A.16",
                r#"{"foo":["bar"]}"#,
                r#"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
                r#"{"foo":["bar",["abc","def"]]}"#,
            ),
        ] {
            let mut value = parse(original);
            json(&mut value, parse(patch)).unwrap();
            assert_eq!(value, parse(result), "{section}");
        }
        for (section, original, patch) in [
            ("A.9", r#"{"baz":"qux"}"#, r#"[{"op":"test","path":"/baz","value":"bar"}]"#),
            ("A.12", r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz/bat","value":"qux"}]"#),
            ("A.15", r#"{"/":9,"~1":10}"#, r#"[{"op":"test","path":"/~01","value":"10"}]"#),
        ] {
            let mut value = parse(original);
            assert_eq!(json(&mut value, parse(patch)).unwrap_err().code, 422, "{section}");
            assert_eq!(value, parse(original), "{section}: a refused patch changes nothing");
        }
    }

    #[test]
    fn strategic_merge_joins_conditions_and_taints_by_their_keys() {
        let mut value = json!({
            "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}], "podCIDRs": ["x"]},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "R"}]},
        });
        strategic(
            &mut value,
            &json!({
                "spec": {"taints": [{"key": "a", "$patch": "delete"}], "podCIDRs": ["y"], "gone": null},
                "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}]},
            }),
        );
        assert_eq!(
            value,
            json!({
                "spec": {"taints": [{"key": "b", "effect": "NoExecute"}], "podCIDRs": ["y"]},
                "status": {"conditions": [
                    {"type": "Ready", "status": "True", "reason": "R"}, {"type": "NetworkUnavailable", "status": "False"},
                ]},
            })
        );
    }
}

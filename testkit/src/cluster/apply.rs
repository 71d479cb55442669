//! Server-side apply: what a manager wishes, merged, and what it wished before and does not any more, taken away.
//!
//! `metadata.managedFields` keeps what each manager applied, in the `FieldsV1` form of the API. Conflicts between
//! managers are not found: the last one wins, as with `force=true`.

use serde_json::{Map, Value, json};

use crate::cluster::object;
use crate::cluster::patch;

/// What identifies an object or is set by the server, and so is nobody's wish.
const IDENTITY: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
];

/// The object after `manager` has applied `wish` to it, or to nothing. With `status` it is the status that is applied.
pub fn apply(old: Option<&Value>, wish: &Value, manager: &str, status: bool) -> Value {
    let mut new = old.cloned().unwrap_or_else(|| json!({}));
    let mut wish = wish.clone();
    if let Some(metadata) = wish.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let fields = wished(&wish);
    let mut entries = new["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let subresource = if status { json!("status") } else { Value::Null };
    let is_own = |entry: &Value| {
        entry["manager"] == manager && entry["operation"] == "Apply" && entry["subresource"] == subresource
    };
    let before = entries.iter().find(|entry| is_own(entry)).map(|entry| entry["fieldsV1"].clone());
    entries.retain(|entry| !is_own(entry));
    if let Some(before) = before {
        let others = entries.iter().map(|entry| &entry["fieldsV1"]);
        let kept: Vec<&Value> = others.chain([&fields]).collect();
        take_away(&mut new, &before, &kept);
    }
    patch::strategic(&mut new, &wish);
    let mut entry = json!({
        "manager": manager, "operation": "Apply", "apiVersion": wish["apiVersion"],
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    if status {
        entry["subresource"] = subresource;
    }
    entries.push(entry);
    object::metadata(&mut new).insert("managedFields".into(), Value::Array(entries));
    new
}

/// The fields of a wish, without those that identify the object.
fn wished(wish: &Value) -> Value {
    let mut wish = wish.clone();
    if let Some(fields) = wish.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !IDENTITY.contains(&name.as_str()));
        }
        if fields.get("metadata") == Some(&json!({})) {
            fields.remove("metadata");
        }
    }
    field_set("", &wish)
}

/// `FieldsV1`: `f:name` for the fields of a map, `k:{key}` for the elements of a list that is merged by a key,
/// and nothing below what is replaced as a whole.
fn field_set(name: &str, value: &Value) -> Value {
    match (value, patch::merge_key(name)) {
        (Value::Object(fields), _) => {
            fields.iter().map(|(name, value)| (format!("f:{name}"), field_set(name, value))).collect()
        }
        (Value::Array(elements), Some(key)) => {
            elements.iter().map(|element| (format!("k:{}", json!({key: element[key]})), json!({}))).collect()
        }
        _ => Value::Object(Map::new()),
    }
}

/// Takes away the fields of `before` that none of `kept` names.
fn take_away(value: &mut Value, before: &Value, kept: &[&Value]) {
    let Some(before) = before.as_object() else { return };
    for (field, inner) in before {
        let kept: Vec<&Value> = kept.iter().filter_map(|set| set.get(field)).collect();
        let is_leaf = inner.as_object().is_none_or(Map::is_empty);
        if is_leaf {
            if kept.is_empty() {
                remove(value, field);
            }
        } else if !kept.iter().any(|set| set.as_object().is_none_or(Map::is_empty))
            && let Some(child) = child(value, field)
        {
            take_away(child, inner, &kept);
            if kept.is_empty() && matches!(child, Value::Object(map) if map.is_empty()) {
                remove(value, field);
            }
        }
    }
}

fn child<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    value.get_mut(field.strip_prefix("f:")?)
}

fn remove(value: &mut Value, field: &str) {
    match value {
        Value::Object(map) => {
            map.remove(field.strip_prefix("f:").unwrap_or(field));
        }
        Value::Array(elements) => {
            let key: Option<Map<String, Value>> =
                field.strip_prefix("k:").and_then(|text| serde_json::from_str(text).ok());
            let Some(key) = key else { return };
            elements.retain(|element| !key.iter().all(|(name, value)| element.get(name) == Some(value)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manager_does_not_wish_any_more_goes_unless_another_does() {
        let wish = |spec: Value| json!({"apiVersion": "x/v1", "metadata": {"name": "a"}, "spec": spec});
        let object = apply(None, &wish(json!({"a": 1, "b": {"c": 2}, "l": [1]})), "one", false);
        let object = apply(Some(&object), &wish(json!({"b": {"d": 3}, "l": [2]})), "two", false);
        assert_eq!(object["spec"], json!({"a": 1, "b": {"c": 2, "d": 3}, "l": [2]}));
        let object = apply(Some(&object), &wish(json!({"a": 5})), "one", false);
        assert_eq!(object["spec"], json!({"a": 5, "b": {"d": 3}, "l": [2]}));
        let again = apply(Some(&object), &wish(json!({"a": 5})), "one", false);
        assert_eq!(again, object, "applying again changes nothing");
    }

    #[test]
    fn a_condition_of_one_manager_leaves_those_of_others() {
        let wish = |kinds: &[&str]| {
            let conditions: Vec<_> =
                kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
            json!({"status": {"conditions": conditions}})
        };
        let object = apply(None, &wish(&["Ready", "Old"]), "one", true);
        let object = apply(Some(&object), &wish(&["Synced"]), "two", true);
        let object = apply(Some(&object), &wish(&["Ready"]), "one", true);
        let kinds = object["status"]["conditions"].as_array().unwrap().iter().map(|c| c["type"].clone());
        assert_eq!(kinds.collect::<Vec<_>>(), ["Ready", "Synced"]);
    }
}

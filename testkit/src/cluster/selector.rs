//! Selectors of labels and fields, as `labelSelector` and `fieldSelector` write them.

use serde_json::Value;

/// Conditions that an object meets all of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// Where the value is: below `metadata.labels`, or anywhere.
    path: Vec<String>,
    test: Test,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    In,
    NotIn,
    Exists,
    Absent,
}

impl Selector {
    /// Adds the conditions of a `labelSelector`: `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)` and `a notin (b,c)`.
    pub fn labels(mut self, text: &str) -> Selector {
        self.0.extend(split(text).into_iter().map(|term| {
            let (name, test, values) = read(term);
            Term { path: vec!["metadata".into(), "labels".into(), name], test, values }
        }));
        self
    }

    /// Adds the conditions of a `fieldSelector`: `a.b=c` and `a.b!=c`, of any field.
    pub fn fields(mut self, text: &str) -> Selector {
        self.0.extend(split(text).into_iter().map(|term| {
            let (name, test, values) = read(term);
            Term { path: name.split('.').map(str::to_owned).collect(), test, values }
        }));
        self
    }

    /// Whether every object meets it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object meets all of it.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| term.matches(object))
    }
}

impl Term {
    fn matches(&self, object: &Value) -> bool {
        let value = self.path.iter().try_fold(object, |at, name| at.get(name)).and_then(Value::as_str);
        // A field that is not set equals the empty word; a label that is not set equals none.
        let is_label = self.path.get(1).is_some_and(|name| name == "labels");
        let equal = || {
            let value = if is_label { value } else { Some(value.unwrap_or_default()) };
            value.is_some_and(|value| self.values.iter().any(|v| v == value))
        };
        match self.test {
            Test::In => equal(),
            Test::NotIn => !equal(),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let terms = text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    terms.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn read(term: &str) -> (String, Test, Vec<String>) {
    let one = |name: &str, test, value: &str| (name.trim().to_owned(), test, vec![value.trim().to_owned()]);
    let many = |name: &str, test, values: &str| {
        let values = values.trim().trim_start_matches('(').trim_end_matches(')');
        (name.trim().to_owned(), test, values.split(',').map(|v| v.trim().to_owned()).collect())
    };
    if let Some((name, values)) = term.split_once(" notin ") {
        return many(name, Test::NotIn, values);
    }
    if let Some((name, values)) = term.split_once(" in ") {
        return many(name, Test::In, values);
    }
    if let Some((name, value)) = term.split_once("!=") {
        return one(name, Test::NotIn, value);
    }
    if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return one(name, Test::In, value);
    }
    match term.strip_prefix('!') {
        Some(name) => one(name, Test::Absent, ""),
        None => one(term, Test::Exists, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_selected_as_the_api_documents_it() {
        let object = json!({"metadata": {"labels": {"environment": "production", "tier": "frontend"}}});
        for (selector, expected) in [
            ("", true),
            ("environment=production", true),
            ("environment==qa", false),
            ("environment=production,tier!=frontend", false),
            ("environment in (production, qa),tier in (frontend)", true),
            ("environment notin (production)", false),
            ("partition", false),
            ("!partition", true),
            ("partition!=customerA", true),
            ("tier,environment", true),
        ] {
            assert_eq!(Selector::default().labels(selector).matches(&object), expected, "{selector}");
        }
    }

    #[test]
    fn fields_are_selected_by_their_path() {
        let object = json!({"metadata": {"name": "p", "namespace": "x"}, "spec": {"nodeName": "a"}});
        for (selector, expected) in [
            ("metadata.name=p", true),
            ("metadata.name=p,metadata.namespace=y", false),
            ("spec.nodeName=a", true),
            ("spec.nodeName!=a", false),
            ("spec.nodeName=", false),
            ("status.phase!=Failed", true),
        ] {
            assert_eq!(Selector::default().fields(selector).matches(&object), expected, "{selector}");
        }
    }
}

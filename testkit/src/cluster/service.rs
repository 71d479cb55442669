//! The server's HTTP side: requests to operations of the store, results to answers.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, Response, header};
use serde_json::{Value, json};

use crate::cluster::answer::{self, Answer};
use crate::cluster::apply;
use crate::cluster::fault::Faults;
use crate::cluster::object::{self, Object};
use crate::cluster::patch;
use crate::cluster::path::{Key, Query, Target};
use crate::cluster::refusal::Refusal;
use crate::cluster::selector::Selector;
use crate::cluster::store::{Page, Store};
use crate::cluster::stream::Watch;

/// Longest body that is read, in octets; the API's own bound is of this size.
const LONGEST: usize = 3 << 20;

type Answered = Result<Response<Answer>, Refusal>;

/// A server of a store's objects, which suffers what a test wants.
#[derive(Debug, Clone)]
pub struct Server {
    store: Arc<Store>,
    faults: Arc<Faults>,
}

impl Server {
    /// A server of these objects.
    pub fn new(store: Arc<Store>) -> Server {
        Server { store, faults: Arc::default() }
    }

    /// Answers one request.
    pub async fn answer<B>(self, request: Request<B>) -> Result<Response<Answer>, Infallible>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answered = self.try_answer(request).await;
        Ok(answered.unwrap_or_else(|refusal| answer::refused(&refusal)))
    }

    async fn try_answer<B>(&self, request: Request<B>) -> Answered
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let url = parts.uri.path_and_query().map_or("/", |url| url.as_str()).to_owned();
        let form = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let form = form.unwrap_or("application/json").split(';').next().unwrap_or_default().to_owned();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| Refusal::bad_request(error.to_string()))?.to_bytes();
        if url.starts_with("/_") {
            return self.control(&parts.method, &url, &body);
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let Some(target) = Target::parse(parts.uri.path()) else {
            self.faults.suffer(&url).await?;
            return about_itself(parts.uri.path());
        };
        self.faults.count(named(&parts.method, &query, &target));
        self.faults.suffer(&url).await?;
        match (parts.method, target.name.is_empty()) {
            (Method::GET, _) if query.is_set("watch") => self.watch(target, &query),
            (Method::GET, true) => self.list(&target, &query),
            (Method::GET, false) => self.store.get(&target).map(|object| shown(200, &object)),
            (Method::POST, true) => {
                self.store.create(&target, read(&body)?).map(|object| shown(201, &object))
            }
            (Method::PUT, false) => self.replace(&target, &body),
            (Method::PATCH, false) => self.patch(&target, &query, &form, &body),
            (Method::DELETE, false) => self.delete(&target, &body),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    /// What a test asks of the fake itself.
    fn control(&self, method: &Method, url: &str, body: &Bytes) -> Answered {
        let done = json!({});
        match (method.as_str(), url) {
            ("POST", "/_faults") => self.faults.add(&read(body)?, &self.store).map(|()| done),
            ("DELETE", "/_faults") => {
                self.faults.clear();
                Ok(done)
            }
            ("GET", "/_requests") => Ok(self.faults.requests()),
            ("DELETE", "/_requests") => {
                self.faults.forget_requests();
                Ok(done)
            }
            _ => Err(Refusal::no_path(url)),
        }
        .map(|value| answer::value(200, &value))
    }

    fn watch(&self, mut target: Target, query: &Query) -> Answered {
        let selector = selector(&target, query);
        // One object is watched like a list that its name selects.
        target.name.clear();
        let lines = Watch::start(self.store.clone(), self.faults.clone(), target, selector, query);
        Ok(answer::pieces(lines))
    }

    fn list(&self, target: &Target, query: &Query) -> Answered {
        let selector = selector(target, query);
        let limit =
            query.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let place = query.get("continue").map(read_place).transpose()?;
        if let Some((version, _)) = &place {
            self.store.reaches_back_to(&target.resource, *version)?;
        }
        let wanted = query.number("resourceVersion").unwrap_or(0);
        let current = self.store.version();
        if wanted > current {
            return Err(Refusal::too_large(wanted, current));
        }
        let from = place.as_ref().map(|(_, key)| key);
        let mut page = self.store.list(target, &selector, limit.unwrap_or(usize::MAX), from);
        if let Some((version, _)) = place {
            page.version = version;
        }
        Ok(answer::text(200, self.list_text(target, &page, !selector.is_empty())))
    }

    /// A list, from the texts of its objects.
    fn list_text(&self, target: &Target, page: &Page, is_selected: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": page.version.to_string()});
        if let Some(Key { namespace, name }) = &page.next {
            metadata["continue"] = format!("{}.{namespace}/{name}", page.version).into();
            // The API does not count what a selector has to look at first.
            if !is_selected {
                metadata["remainingItemCount"] = page.remaining.into();
            }
        }
        let kind = format!("{}List", self.store.kind(&target.resource));
        let head =
            json!({"kind": kind, "apiVersion": target.api_version(), "metadata": metadata}).to_string();
        let items: Vec<&[u8]> = page.objects.iter().map(|object| &*object.json).collect();
        // The head without the brace that closes it.
        let head = head.strip_suffix('}').unwrap_or_default();
        [head.as_bytes(), b",\"items\":[", &items.join(&b','), b"]}"].concat().into()
    }

    fn replace(&self, target: &Target, body: &Bytes) -> Answered {
        let mut new = read(body)?;
        let replaced = self.store.change(target, |old| {
            // Who manages what is not lost by a client that does not know it.
            let managers = old["metadata"]["managedFields"].clone();
            if !managers.is_null() {
                object::metadata(&mut new).insert("managedFields".into(), managers);
            }
            Ok(new)
        });
        replaced.map(|object| shown(200, &object))
    }

    fn patch(&self, target: &Target, query: &Query, form: &str, body: &Bytes) -> Answered {
        if matches!(form, "application/apply-patch+yaml" | "application/apply-patch+json") {
            return self.apply(target, query, body);
        }
        let patch = read(body)?;
        let patched = self.store.change(target, |old| {
            let mut new = old.clone();
            match form {
                "application/merge-patch+json" => patch::merge(&mut new, &patch),
                "application/json-patch+json" => patch::json(&mut new, patch)?,
                "application/strategic-merge-patch+json" => patch::strategic(&mut new, &patch),
                _ => return Err(Refusal::unsupported(form)),
            }
            Ok(new)
        });
        patched.map(|object| shown(200, &object))
    }

    fn apply(&self, target: &Target, query: &Query, body: &Bytes) -> Answered {
        let manager =
            query.get("fieldManager").ok_or_else(|| Refusal::bad_request("fieldManager is required"))?;
        // All JSON is YAML, and is read as JSON many times as fast.
        let wish: Value = match serde_json::from_slice(body) {
            Ok(wish) => wish,
            Err(_) => {
                serde_yaml_ng::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))?
            }
        };
        if wish["kind"].as_str().is_none() || wish["apiVersion"].as_str().is_none() {
            return Err(Refusal::bad_request("apiVersion and kind must be set"));
        }
        let applied =
            self.store.change_or_create(target, |old| Ok(apply::apply(old, &wish, manager, target.status)));
        let (object, is_new) = applied?;
        if is_new {
            // The API wants the right to create as well.
            self.faults.count(format!("create {}", target.resource.plural));
        }
        Ok(shown(if is_new { 201 } else { 200 }, &object))
    }

    fn delete(&self, target: &Target, body: &Bytes) -> Answered {
        let options = if body.is_empty() { Value::Null } else { read(body)? };
        let object = self.store.delete(target, |object| {
            for field in ["uid", "resourceVersion"] {
                let wanted = options["preconditions"][field].as_str();
                if wanted.is_some_and(|wanted| wanted != object.word(field)) {
                    return Err(Refusal::conflict(target, "a precondition does not hold"));
                }
            }
            Ok(())
        })?;
        if object.has_finalizers() {
            return Ok(shown(200, &object));
        }
        let details = json!({
            "name": target.name, "group": target.resource.group, "kind": target.resource.plural,
            "uid": object.word("uid"),
        });
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok(answer::value(200, &status))
    }
}

/// What the server says of itself.
fn about_itself(path: &str) -> Answered {
    match path {
        "/version" => Ok(answer::value(
            200,
            &json!({
                "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "linux/amd64",
            }),
        )),
        "/healthz" | "/livez" | "/readyz" => Ok(answer::text(200, Bytes::from_static(b"ok"))),
        _ => Err(Refusal::no_path(path)),
    }
}

fn selector(target: &Target, query: &Query) -> Selector {
    let name = match target.name.as_str() {
        "" => String::new(),
        name => format!("metadata.name={name}"),
    };
    let labels = query.get("labelSelector").unwrap_or_default();
    Selector::default().labels(labels).fields(query.get("fieldSelector").unwrap_or_default()).fields(&name)
}

/// What a request is counted as: its verb and its resource.
fn named(method: &Method, query: &Query, target: &Target) -> String {
    let verb = match (method.as_str(), target.name.is_empty()) {
        ("GET", _) if query.is_set("watch") => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    format!("{verb} {}{}", target.resource.plural, if target.status { "/status" } else { "" })
}

fn shown(code: u16, object: &Object) -> Response<Answer> {
    answer::text(code, object.json.clone())
}

fn read(body: &Bytes) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// Reads `version.namespace/name`, where a list goes on.
fn read_place(text: &str) -> Result<(u64, Key), Refusal> {
    let wrong = || Refusal::bad_request("continue key is not valid");
    let (version, key) = text.split_once('.').ok_or_else(wrong)?;
    let (namespace, name) = key.split_once('/').ok_or_else(wrong)?;
    let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok((version.parse().map_err(|_| wrong())?, key))
}

#[cfg(test)]
mod tests;

//! Why a request is refused, in the shape of the API: an HTTP status code and a `Status` object.

use serde_json::{Value, json};

use crate::cluster::path::Target;

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// The API's word for it, such as `NotFound`.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
    /// Seconds after which to come again.
    pub retry_after: Option<u64>,
    /// The name of the object that it is about, where it is one.
    pub name: Option<String>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: String) -> Refusal {
        Refusal { code, reason, message, retry_after: None, name: None }
    }

    /// No such object.
    pub fn not_found(target: &Target) -> Refusal {
        let refusal = Refusal::new(404, "NotFound", format!("{} not found", named(target)));
        Refusal { name: Some(target.name.clone()), ..refusal }
    }

    /// No such path.
    pub fn no_path(path: &str) -> Refusal {
        Refusal::new(404, "NotFound", format!("the server could not find the requested resource: {path}"))
    }

    /// An object of this name is there.
    pub fn already_exists(target: &Target) -> Refusal {
        Refusal::new(409, "AlreadyExists", format!("{} already exists", named(target)))
    }

    /// The object is not what the request took it for.
    pub fn conflict(target: &Target, why: &str) -> Refusal {
        let message = format!("Operation cannot be fulfilled on {}: {why}", named(target));
        Refusal::new(409, "Conflict", message)
    }

    /// A version whose history is gone.
    pub fn expired(version: u64, oldest: u64) -> Refusal {
        Refusal::new(410, "Expired", format!("too old resource version: {version} ({oldest})"))
    }

    /// A version that is yet to come.
    pub fn too_large(version: u64, current: u64) -> Refusal {
        let message = format!("Too large resource version: {version}, current: {current}");
        Refusal { retry_after: Some(1), ..Refusal::new(504, "Timeout", message) }
    }

    /// A request that cannot be read.
    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "BadRequest", message.into())
    }

    /// An object that cannot be, or a JSON patch whose test fails.
    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(422, "Invalid", message.into())
    }

    /// A verb that the resource does not have.
    pub fn method_not_allowed() -> Refusal {
        Refusal::new(405, "MethodNotAllowed", "the server does not allow this method on the resource".into())
    }

    /// A patch in a form that is not known.
    pub fn unsupported(form: &str) -> Refusal {
        Refusal::new(415, "UnsupportedMediaType", format!("unsupported content type {form:?} of a patch"))
    }

    /// A fault that a test asked for.
    pub fn fault(code: u16, retry_after: Option<u64>) -> Refusal {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Refusal { retry_after, ..Refusal::new(code, reason, "a fault that the test asked for".into()) }
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(seconds) = self.retry_after {
            status["details"] = json!({ "retryAfterSeconds": seconds });
        }
        if let Some(name) = &self.name {
            status["details"]["name"] = json!(name);
        }
        status
    }
}

fn named(target: &Target) -> String {
    match target.resource.group.as_str() {
        "" => format!("{} {:?}", target.resource.plural, target.name),
        group => format!("{}.{group} {:?}", target.resource.plural, target.name),
    }
}

//! Errors as gRPC statuses, and the API's names of objects as the model's.

use tonic::Status;
use weft_proto::{error_detail, v1};

use crate::error::Error;
use crate::ipam;
use crate::model::{Kind, Name, ObjectRef, Violation};

/// Room for all violations of an answer, in bytes.
const MAX_DETAILS: usize = 6 << 10;
/// The longest field or description, in characters.
const MAX_TEXT: usize = 400;

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        match error {
            Error::Refused(violations) => error_detail::invalid_argument(fitting(violations)),
            Error::NotFound(_) => Status::not_found(error.to_string()),
            Error::InUse { .. } | Error::NoKeys(_) | Error::TooManyKeys { .. } => {
                Status::failed_precondition(error.to_string())
            }
            Error::Going(_) => Status::unavailable(error.to_string()),
            Error::Taken { .. } | Error::Occupied { .. } | Error::Addresses(ipam::Error::Taken { .. }) => {
                Status::already_exists(error.to_string())
            }
            Error::Addresses(ipam::Error::Exhausted { .. }) => Status::resource_exhausted(error.to_string()),
            Error::Addresses(ipam::Error::Outside { .. }) => wrong_field("pools.wanted", error),
            other => {
                let mut message = other.to_string();
                let mut source = std::error::Error::source(&other);
                while let Some(cause) = source {
                    message.push_str(&format!(": {cause}"));
                    source = cause.source();
                }
                tracing::error!("{message}");
                Status::internal(message)
            }
        }
    }
}

/// What fits into the trailers of an answer, which carry the details: clients take some 16 KiB, in base64.
fn fitting(violations: Vec<Violation>) -> Vec<error_detail::Violation> {
    let total = violations.len();
    let mut room = MAX_DETAILS;
    let mut fitting = Vec::new();
    for wrong in violations {
        let told = error_detail::Violation::new(cut(wrong.field), cut(wrong.description));
        let size = told.field.len() + told.description.len();
        if size > room {
            break;
        }
        room -= size;
        fitting.push(told);
    }
    let left_out = total - fitting.len();
    if left_out > 0 {
        let description = format!("{left_out} more wrong fields are not shown");
        fitting.push(error_detail::Violation::new("resources", description));
    }
    fitting
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// One wrong field of a request that is not part of a resource.
pub(super) fn wrong_field(field: &str, description: impl ToString) -> Status {
    error_detail::invalid_argument(vec![error_detail::Violation::new(field, cut(description.to_string()))])
}

/// The kind of a message; `None` when it is not given.
pub(super) fn kind(field: &str, number: i32) -> Result<Option<Kind>, Status> {
    match v1::Kind::try_from(number) {
        Ok(v1::Kind::Unspecified) => Ok(None),
        Ok(v1::Kind::Namespace) => Ok(Some(Kind::Namespace)),
        Ok(v1::Kind::Network) => Ok(Some(Kind::Network)),
        Ok(v1::Kind::Port) => Ok(Some(Kind::Port)),
        Ok(v1::Kind::Router) => Ok(Some(Kind::Router)),
        Ok(v1::Kind::Tunnel) => Ok(Some(Kind::Tunnel)),
        Err(_) => Err(wrong_field(field, format_args!("{number} is not a kind"))),
    }
}

/// The object that a kind and a name stand for; `path` is put before the names of wrong fields.
pub(super) fn object(path: &str, number: i32, name: &str) -> Result<ObjectRef, Status> {
    let field = format!("{path}kind");
    let kind = kind(&field, number)?.ok_or_else(|| {
        wrong_field(&field, "not given, one of Namespace, Network, Port, Router, Tunnel expected")
    })?;
    let name = Name::new(name).map_err(|error| wrong_field(&format!("{path}name"), error))?;
    Ok(ObjectRef::new(kind, name))
}

impl From<Kind> for v1::Kind {
    fn from(kind: Kind) -> v1::Kind {
        match kind {
            Kind::Namespace => v1::Kind::Namespace,
            Kind::Network => v1::Kind::Network,
            Kind::Port => v1::Kind::Port,
            Kind::Router => v1::Kind::Router,
            Kind::Tunnel => v1::Kind::Tunnel,
        }
    }
}

impl From<&ObjectRef> for v1::ObjectRef {
    fn from(object: &ObjectRef) -> v1::ObjectRef {
        v1::ObjectRef { kind: v1::Kind::from(object.kind) as i32, name: object.name.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_fit_into_trailers_however_much_is_wrong() {
        let wrong = |index: usize| Violation {
            field: format!("Port/p{index}: spec.vlan"),
            description: "x".repeat(100_000),
        };
        let status = Status::from(Error::Refused((0..1000).map(wrong).collect()));
        assert!(status.details().len() + status.message().len() < 8 << 10, "{}", status.details().len());
        let told = error_detail::violations(&status);
        assert_eq!(told[0].field, "Port/p0: spec.vlan");
        let more = format!("{} more wrong fields are not shown", 1000 - (told.len() - 1));
        assert_eq!(told.last().unwrap().description, more);
    }

    #[test]
    fn each_error_has_its_code() {
        let web = || ObjectRef::new(Kind::Port, Name::new("web").unwrap());
        let code = |error: Error| Status::from(error).code();
        assert_eq!(code(Error::NotFound(vec![web()])), tonic::Code::NotFound);
        assert_eq!(code(Error::InUse { object: web(), by: vec![] }), tonic::Code::FailedPrecondition);
        assert_eq!(code(Error::Going(web())), tonic::Code::Unavailable);
        assert_eq!(code(Error::Telemetry("x".into())), tonic::Code::Internal);
    }
}

//! Wrong fields in an answer: google.rpc.BadRequest in the details of a gRPC status, in both directions.
//!
//! The messages are those of google/rpc/status.proto and google/rpc/error_details.proto, the few fields
//! that are needed; other programs (grpcurl, other languages' libraries) decode them as such.

use prost::Message;
use tonic::{Code, Status};

const BAD_REQUEST_URL: &str = "type.googleapis.com/google.rpc.BadRequest";

/// One wrong field.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Violation {
    /// The object and the path: `Port/web: spec.vlan`.
    #[prost(string, tag = "1")]
    pub field: String,
    /// The value and what was expected: `4095 is not a VLAN id, 1 to 4094 expected`.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// google.rpc.BadRequest.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<Violation>,
}

/// google.rpc.Status, what the trailer `grpc-status-details-bin` holds.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

impl Violation {
    /// A wrong field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Violation {
        Violation { field: field.into(), description: description.into() }
    }

    /// Both parts on one line.
    pub fn line(&self) -> String {
        format!("{}: {}", self.field, self.description)
    }
}

/// An INVALID_ARGUMENT status that carries the violations; its message is the first one, and how many
/// more there are.
pub fn invalid_argument(violations: Vec<Violation>) -> Status {
    let first = violations.first().map_or_else(|| "invalid argument".to_owned(), Violation::line);
    let message = match violations.len() {
        0 | 1 => first,
        n => format!("{first} (and {} more)", n - 1),
    };
    let request = BadRequest { field_violations: violations };
    let any = prost_types::Any { type_url: BAD_REQUEST_URL.to_owned(), value: request.encode_to_vec() };
    let code = Code::InvalidArgument;
    let details = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The violations that a status carries; none when it carries other details, broken ones or no details.
pub fn violations(status: &Status) -> Vec<Violation> {
    let Ok(details) = RpcStatus::decode(status.details()) else { return Vec::new() };
    let requests = details.details.iter().filter(|any| any.type_url == BAD_REQUEST_URL);
    requests.filter_map(|any| BadRequest::decode(&*any.value).ok()).flat_map(|r| r.field_violations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_come_back_from_the_status() {
        let wrong = vec![
            Violation::new("Port/web: spec.vlan", "4095 is not a VLAN id, 1 to 4094 expected"),
            Violation::new("Port/web: spec.mac", "\"x\" is not a MAC address"),
        ];
        let status = invalid_argument(wrong.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "Port/web: spec.vlan: 4095 is not a VLAN id, 1 to 4094 expected (and 1 more)"
        );
        assert_eq!(violations(&status), wrong);
    }

    #[test]
    fn details_are_those_of_google_rpc_on_the_wire() {
        let status = invalid_argument(vec![Violation::new("f", "d")]);
        // Status { code: 3, message: "f: d", details: [Any { type_url, value }] }, by the encoding rules.
        let mut expected = b"\x08\x03\x12\x04f: d\x1a\x35\x0a\x29".to_vec();
        expected.extend_from_slice(BAD_REQUEST_URL.as_bytes());
        // BadRequest { field_violations: [{ field: "f", description: "d" }] }
        expected.extend_from_slice(b"\x12\x08\x0a\x06\x0a\x01f\x12\x01d");
        assert_eq!(status.details(), expected);
    }

    #[test]
    fn a_status_with_no_or_broken_details_has_no_violations() {
        assert_eq!(violations(&Status::not_found("x")), vec![]);
        let broken = Status::with_details(Code::InvalidArgument, "x", vec![0xff, 1, 2].into());
        assert_eq!(violations(&broken), vec![]);
    }
}

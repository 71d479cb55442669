//! Calls to the daemon, bounded in time, and what its answers mean for a runtime.

use std::error::Error;
use std::future::Future;
use std::io;
use std::iter;
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_proto::Client;
use weft_proto::client::is_unreachable;
use weft_proto::error_detail::{Violation, violations};
use weft_proto::v1::endpoints_client::EndpointsClient;

use crate::failure::{Code, Failure};
use crate::settings::Access;

/// Pause between attempts to reach a daemon that does not listen yet.
const PAUSE: Duration = Duration::from_millis(50);

/// A call without an answer of success.
#[derive(Debug)]
pub enum Unanswered {
    /// The daemon cannot be reached, went away, or did not answer in time: what it did is not known.
    Silent(Status),
    /// It may not be spoken with.
    Forbidden(Status),
    /// It said no.
    Refused(Status),
}

/// Calls the daemon once. A daemon that does not listen, or goes away, is tried again for `patience`.
pub async fn call<T, F, A>(access: &Access, patience: Duration, attempt: F) -> Result<T, Unanswered>
where
    F: Fn(EndpointsClient<Channel>) -> A,
    A: Future<Output = Result<Response<T>, Status>>,
{
    let start = Instant::now();
    loop {
        let client = Client::connect(&access.socket)
            .map_err(|error| Unanswered::Refused(Status::invalid_argument(error.to_string())))?;
        let bound = Duration::from_secs(access.call_timeout_seconds.max(1).into());
        let answer = tokio::time::timeout(bound, attempt(client.endpoints)).await;
        let status = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => {
                let text = format!("weftd at {} gave no answer in {} s", access.socket, bound.as_secs());
                return Err(Unanswered::Silent(Status::deadline_exceeded(text)));
            }
        };
        if !is_unreachable(&status) {
            return Err(Unanswered::Refused(status));
        }
        if is_forbidden(&status) {
            return Err(Unanswered::Forbidden(status));
        }
        if start.elapsed() >= patience {
            return Err(Unanswered::Silent(status));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Unanswered {
    /// Whether the daemon may come back and do it later.
    pub fn is_passing(&self) -> bool {
        match self {
            Unanswered::Silent(_) => true,
            Unanswered::Forbidden(_) => false,
            Unanswered::Refused(status) => {
                matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded)
            }
        }
    }

    /// The failure of a command that needed the answer.
    pub fn failure(self) -> Failure {
        match self {
            Unanswered::Silent(status) => {
                Failure::new(Code::TryAgain, "the Weft daemon does not answer", status.message())
            }
            Unanswered::Forbidden(status) => {
                Failure::new(Code::NotAllowed, "the Weft daemon may not be spoken with", status.message())
            }
            Unanswered::Refused(status) => refused(&status),
        }
    }

    /// What the daemon said, or why there is nothing.
    pub fn status(&self) -> &Status {
        match self {
            Unanswered::Silent(status) | Unanswered::Forbidden(status) | Unanswered::Refused(status) => {
                status
            }
        }
    }
}

/// Whether the socket is there, and is for others.
fn is_forbidden(status: &Status) -> bool {
    let causes = iter::successors(status.source(), |error| (*error).source());
    let mut systems = causes.filter_map(|error| error.downcast_ref::<io::Error>());
    systems.any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// What a refusal means to ADD, DEL and GC.
fn refused(status: &Status) -> Failure {
    let (code, message) = match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => {
            (Code::InvalidConfig, "the daemon finds the request wrong")
        }
        tonic::Code::NotFound => (Code::InvalidConfig, "the configuration names what does not exist"),
        tonic::Code::FailedPrecondition => (Code::UnknownContainer, "the container is not there"),
        tonic::Code::AlreadyExists => (Code::Taken, "a device, an address or a port is taken"),
        tonic::Code::ResourceExhausted => (Code::Exhausted, "nothing is left to give"),
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Aborted => {
            (Code::TryAgain, "the daemon asks to be asked again")
        }
        tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
            (Code::NotAllowed, "the Weft daemon may not be spoken with")
        }
        tonic::Code::Unimplemented => (Code::Daemon, "the daemon is older than the plugin"),
        _ => (Code::Daemon, "the daemon failed"),
    };
    Failure::new(code, message, details(status))
}

/// All that a status says, wrong fields one by one.
pub fn details(status: &Status) -> String {
    let wrong = violations(status);
    if wrong.is_empty() {
        return status.message().to_owned();
    }
    wrong.iter().map(Violation::line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::error_detail::invalid_argument;

    #[test]
    fn each_refusal_has_its_code() {
        let codes = [
            (Status::invalid_argument("x"), 7),
            (Status::not_found("network \"n\" does not exist"), 7),
            (Status::failed_precondition("x"), 3),
            (Status::already_exists("x"), 100),
            (Status::resource_exhausted("x"), 101),
            (Status::unavailable("x"), 11),
            (Status::deadline_exceeded("x"), 11),
            (Status::permission_denied("x"), 105),
            (Status::unimplemented("x"), 106),
            (Status::internal("x"), 106),
        ];
        for (status, code) in codes {
            assert_eq!(refused(&status).code, code, "{status}");
        }
        assert_eq!(refused(&Status::not_found("n is not there")).details, "n is not there");
    }

    #[test]
    fn wrong_fields_are_all_told() {
        let status =
            invalid_argument(vec![Violation::new("mac", "no MAC"), Violation::new("mtu", "too small")]);
        assert_eq!(refused(&status).details, "mac: no MAC; mtu: too small");
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_waited_for_and_named() {
        let access = Access { socket: "/nonexistent/weftd.sock".into(), ..Access::default() };
        let start = Instant::now();
        let patience = Duration::from_millis(120);
        let answer = call(&access, patience, |mut client| async move {
            client.detach(weft_proto::v1::DetachRequest::default()).await
        });
        let silent = answer.await.unwrap_err();
        assert!(start.elapsed() >= patience);
        assert!(silent.is_passing());
        let failure = silent.failure();
        assert_eq!(failure.code, 11);
        assert!(failure.details.contains("/nonexistent/weftd.sock"), "{failure}");
    }
}

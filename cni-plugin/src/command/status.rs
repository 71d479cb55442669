//! STATUS: whether ADD can be served.

use std::time::Duration;

use weft_proto::v1::EndpointStatusRequest;

use super::delegate;
use crate::daemon::{self, Unanswered, details};
use crate::document::Document;
use crate::environment::Environment;
use crate::failure::{Code, Failure};
use crate::settings::{Access, StatusSettings};
use crate::wish;

/// Serves STATUS.
pub async fn run(environment: &Environment, document: &Document) -> Result<(), Failure> {
    let access: Access = document.read()?;
    let settings: StatusSettings = document.read()?;
    let request =
        EndpointStatusRequest { network: wish::network(&settings.network)?, vlan: wish::vlan(document)? };
    let answer = daemon::call(&access, Duration::ZERO, |mut client| {
        let request = request.clone();
        async move { client.status(request).await }
    });
    let status = answer.await.map_err(unavailable)?;
    if !status.ready {
        return Err(Failure::new(Code::NotAvailable, "Weft cannot attach containers now", status.message));
    }
    if settings.status_reports_exhaustion && !status.exhausted.is_empty() {
        let details = format!("no address is left in {}", status.exhausted.join(", "));
        return Err(Failure::new(Code::NotAvailable, "the Network has no addresses left", details));
    }
    delegate(environment, document)
}

fn unavailable(unanswered: Unanswered) -> Failure {
    match unanswered {
        Unanswered::Silent(status) => {
            let message = "the Weft daemon does not answer, and it is what forwards the containers' frames";
            Failure::new(Code::LimitedConnectivity, message, status.message())
        }
        Unanswered::Forbidden(_) => unanswered.failure(),
        Unanswered::Refused(status) => {
            Failure::new(Code::NotAvailable, "Weft cannot attach containers now", details(&status))
        }
    }
}

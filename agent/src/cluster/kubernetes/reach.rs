//! Whether the API answers, and what it refuses. An API that refuses one kind is there: only the kind is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::core::Status;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Listener;
use crate::cluster::Event;
use crate::error::{Error, chain};

/// A watch that was answered, and has not failed for so long, stands: an API that comes up may drop it at once.
const STANDS: Duration = Duration::from_secs(5);

/// What the API said to a request that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing, or that it cannot answer now.
    Away,
    /// No: asking again helps only when somebody has changed something.
    Refused {
        /// The HTTP status code.
        code: u16,
        /// In its words.
        message: String,
    },
    /// What was known is too old: it has to be asked anew, which is everyday.
    TooOld,
}

impl Trouble {
    /// What a failed request met with.
    pub fn of(error: &kube::Error) -> Trouble {
        match error {
            kube::Error::Api(status) => Trouble::said(status),
            _ => Trouble::Away,
        }
    }

    /// What a failed watch or its list met with.
    fn of_watch(error: &watcher::Error) -> (&'static str, Trouble) {
        match error {
            watcher::Error::InitialListFailed(error) => ("list", Trouble::of(error)),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                ("watch", Trouble::of(error))
            }
            watcher::Error::WatchError(status) => ("watch", Trouble::said(status)),
            watcher::Error::NoResourceVersion => ("list", Trouble::Away),
        }
    }

    fn said(status: &Status) -> Trouble {
        match status.code {
            410 => Trouble::TooOld,
            // These are of the moment: a slow client, and one of too many.
            408 | 429 => Trouble::Away,
            400..500 => Trouble::Refused { code: status.code, message: status.message.clone() },
            _ => Trouble::Away,
        }
    }
}

/// What people can do about a refusal.
fn remedy(code: u16) -> &'static str {
    match code {
        401 => "is the token of the agent's ServiceAccount valid?",
        403 => "has the agent's ServiceAccount the chart's ClusterRole?",
        404 => "are Weft's CRDs installed? (kubectl apply --server-side -f charts/weft/crds)",
        _ => "are Weft's CRDs of the agent's version? (kubectl apply --server-side -f charts/weft/crds)",
    }
}

/// What the API does not answer about, and what it refuses.
#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    silent: BTreeSet<&'static str>,
    /// Requests, such as "list networks", by what they are for.
    refused: BTreeMap<(&'static str, String), u16>,
}

impl Reach {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener {
    /// It answers about this, and takes it.
    pub(super) async fn reached(&self, what: &'static str) {
        let taken = self.reach.change(|state| {
            let before = state.refused.len();
            state.refused.retain(|(of, _), _| *of != what);
            state.refused.len() != before
        });
        if taken {
            tracing::info!(what, "the Kubernetes API refuses it no longer");
        }
        self.answered(what).await;
    }

    async fn answered(&self, what: &'static str) {
        if self.reach.change(|state| state.silent.remove(what) && state.silent.is_empty()) {
            tracing::info!("the Kubernetes API answers again");
            let _ = self.sender.send(Event::Reached(true)).await;
        }
    }

    /// A watch of a kind, or the list before it, has failed.
    pub(super) async fn watch_failed(&self, plural: &'static str, error: &watcher::Error) {
        let (verb, trouble) = Trouble::of_watch(error);
        self.failed(plural, verb, plural, trouble, &chain(error)).await;
    }

    /// A request has failed that is for `what`. True: nothing was answered, so that nothing else would be now.
    pub(super) async fn request_failed(&self, what: &'static str, error: &Error) -> bool {
        let Error::Request { verb, plural, source } = error else {
            // It has answered: what it has is not enough.
            tracing::warn!("{}", chain(error));
            self.answered(what).await;
            return false;
        };
        let trouble = Trouble::of(source);
        let away = trouble == Trouble::Away;
        self.failed(what, verb, plural, trouble, &chain(error)).await;
        away
    }

    async fn failed(&self, what: &'static str, verb: &str, plural: &str, trouble: Trouble, error: &str) {
        match trouble {
            Trouble::TooOld => tracing::debug!(what, error, "asking the Kubernetes API anew"),
            Trouble::Away => {
                if self.reach.change(|state| state.silent.insert(what) && state.silent.len() == 1) {
                    tracing::warn!(
                        what,
                        error,
                        "the Kubernetes API does not answer: what is known stays in force"
                    );
                    let _ = self.sender.send(Event::Reached(false)).await;
                } else {
                    tracing::debug!(what, error, "the Kubernetes API does not answer");
                }
            }
            Trouble::Refused { code, message } => {
                let request = (what, format!("{verb} {plural}"));
                if self.reach.change(|state| state.refused.insert(request, code)) == Some(code) {
                    tracing::debug!(code, "the Kubernetes API refuses to {verb} {plural}: {message}");
                } else {
                    let remedy = remedy(code);
                    tracing::warn!(
                        code,
                        "the Kubernetes API refuses to {verb} {plural}: {message}; {remedy}"
                    );
                }
                self.answered(what).await;
            }
        }
    }
}

/// Whether requests of a watch are answered well, which the watch itself does not tell.
pub(super) struct Answers {
    heard: Arc<watch::Sender<()>>,
    answers: watch::Receiver<()>,
    stands_at: Option<Instant>,
}

impl Default for Answers {
    fn default() -> Answers {
        let (heard, answers) = watch::channel(());
        Answers { heard: Arc::new(heard), answers, stands_at: None }
    }
}

impl Answers {
    /// Makes clients whose answers are noted.
    pub fn heeded(&self) -> impl Fn(Client) -> Client + use<> {
        let heard = Arc::clone(&self.heard);
        move |client| {
            let (inner, heard) = (client.clone(), Arc::clone(&heard));
            let service = tower::service_fn(move |request| {
                let (inner, heard) = (inner.clone(), Arc::clone(&heard));
                async move {
                    let answer = inner.send(request).await?;
                    if answer.status().is_success() {
                        heard.send_replace(());
                    }
                    Ok::<_, kube::Error>(answer)
                }
            });
            Client::new(service, client.default_namespace())
        }
    }

    /// The watch has failed: what was answered before says nothing.
    pub fn fail(&mut self) {
        self.answers.mark_unchanged();
        self.stands_at = None;
    }

    /// Waits until a watch stands that was answered. It may be dropped, and called again.
    pub async fn stand(&mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.answers.changed() => self.stands_at = Some(Instant::now() + STANDS),
                () = sleep_until(self.stands_at.unwrap_or_else(Instant::now)), if self.stands_at.is_some() => {
                    self.stands_at = None;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_refuses_is_told_from_what_it_cannot_answer() {
        let status = |code| Status { code, message: "words".into(), ..Status::default() };
        for code in [400, 401, 403, 404, 405, 415, 422] {
            assert_eq!(Trouble::said(&status(code)), Trouble::Refused { code, message: "words".into() });
        }
        for code in [408, 429, 500, 503, 504] {
            assert_eq!(Trouble::said(&status(code)), Trouble::Away, "{code}");
        }
        assert_eq!(Trouble::said(&status(410)), Trouble::TooOld);
    }
}

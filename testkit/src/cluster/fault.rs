//! Faults that a test asks for, and the count of what was asked of the server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::refusal::Refusal;
use crate::cluster::store::Store;

/// What is wrong with the server at the moment, and what it was asked.
#[derive(Debug, Default)]
pub struct Faults {
    ailments: Mutex<Ailments>,
    requests: Mutex<BTreeMap<String, u64>>,
    hangs: watch::Sender<bool>,
    closings: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ailments {
    refusals: Vec<Refusing>,
    delay: Duration,
}

/// The next `count` requests whose URL contains `pattern` are refused.
#[derive(Debug)]
struct Refusing {
    pattern: String,
    count: u64,
    refusal: Refusal,
}

impl Faults {
    /// Adds the faults that a JSON object names: `{"status": 429, "retryAfter": 1, "count": 3, "match": "weftnodes"}`,
    /// `{"expire": true}`, `{"hang": true}`, `{"delay_ms": 50}`, `{"close_watches": true}`.
    pub fn add(&self, fault: &Value, store: &Store) -> Result<(), Refusal> {
        let known = ["status", "retryAfter", "count", "match", "expire", "hang", "delay_ms", "close_watches"];
        let fields = fault.as_object().ok_or_else(|| Refusal::bad_request("a fault is a JSON object"))?;
        if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Refusal::bad_request(format!("{unknown} is no fault")));
        }
        if let Some(code) = fault["status"].as_u64() {
            let code =
                u16::try_from(code).map_err(|_| Refusal::bad_request("status is no HTTP status code"))?;
            self.lock().refusals.push(Refusing {
                pattern: fault["match"].as_str().unwrap_or_default().to_owned(),
                count: fault["count"].as_u64().unwrap_or(1),
                refusal: Refusal::fault(code, fault["retryAfter"].as_u64()),
            });
        }
        if let Some(milliseconds) = fault["delay_ms"].as_u64() {
            self.lock().delay = Duration::from_millis(milliseconds);
        }
        if let Some(hangs) = fault["hang"].as_bool() {
            self.hangs.send_replace(hangs);
        }
        if fault["expire"] == true {
            store.expire();
        }
        if fault["close_watches"] == true {
            self.closings.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Ends all faults.
    pub fn clear(&self) {
        *self.lock() = Ailments::default();
        self.hangs.send_replace(false);
    }

    /// Suffers what there is to suffer before a request is answered.
    pub async fn suffer(&self, url: &str) -> Result<(), Refusal> {
        let delay = self.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.while_hanging().await;
        let mut ailments = self.lock();
        let hit = ailments
            .refusals
            .iter_mut()
            .find(|refusing| refusing.count > 0 && url.contains(&refusing.pattern));
        let Some(refusing) = hit else { return Ok(()) };
        refusing.count -= 1;
        let refusal = refusing.refusal.clone();
        ailments.refusals.retain(|refusing| refusing.count > 0);
        Err(refusal)
    }

    /// Waits while the server hangs.
    pub async fn while_hanging(&self) {
        // It fails when the sender is gone, which is this object itself.
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }

    /// Tells when all watches that are open shall be closed.
    pub fn closings(&self) -> watch::Receiver<u64> {
        self.closings.subscribe()
    }

    /// Counts a request, such as `watch weftnodes`.
    pub fn count(&self, what: String) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// How often what was asked.
    pub fn requests(&self) -> Value {
        json!(*self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts from zero again.
    pub fn forget_requests(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lock(&self) -> MutexGuard<'_, Ailments> {
        self.ailments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Whether this server should be given work: what it can see of its store and of itself.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dayfly_domain::{Span, Time};
use dayfly_store::{Append, AppendError};

use super::App;

/// How often the store is asked to commit.
const EVERY: Span = Span::from_seconds(1);
/// How long one commit may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how long without an answer of the store nobody knows whether it still records.
const UNHEARD: Span = Span::from_seconds(10);

/// What the store's last commit came to.
#[derive(Debug, Default)]
pub(super) struct Recording(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// When the store was asked last and its answer known; none before the first round.
    asked: Option<Time>,
    failure: Option<String>,
}

impl App {
    /// Why this server should not be given work now; empty when it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for tenant in self.tenants() {
            if let Err(why) = self.store.head(tenant.name()) {
                reasons.push(format!(
                    "the ledger of {} cannot be read: {why}",
                    tenant.name()
                ));
            }
        }
        reasons.extend(self.recording.trouble(self.now()));
        if let Some(until) = self.heartbeat_held_until() {
            reasons.push(format!(
                "more than a fifth of the due beats vanished: ends by heartbeat wait until {until}"
            ));
        }
        reasons
    }

    /// Has the writer commit an append that holds nothing, about once a second: a database that is
    /// lost is seen although nobody asks for anything. The marks of life that are saved as often
    /// share the commit.
    pub(super) async fn probe_recording(&self, now: Time) {
        if !self.recording.is_due(now) {
            return;
        }
        // One store has one writer, whichever tenant asks.
        let Some(tenant) = self.tenants().next() else {
            return;
        };
        let empty = Append {
            now,
            ..Append::default()
        };
        let committed = self.store.append(tenant.name(), empty);
        let failure = match tokio::time::timeout(PATIENCE, committed).await {
            Ok(Err(AppendError::Unavailable(why) | AppendError::Unknown(why))) => {
                Some(why.to_string())
            }
            // What refuses an append has read its ledger.
            Ok(
                Ok(_)
                | Err(
                    AppendError::Conflict
                    | AppendError::Revised
                    | AppendError::Stale(_)
                    | AppendError::Claimed { .. }
                    | AppendError::SpentKey { .. }
                    | AppendError::TooLarge,
                ),
            ) => None,
            Err(_) => Some(format!("no commit within {} s", PATIENCE.as_secs())),
        };
        self.recording.heard(now, failure);
    }
}

impl Recording {
    fn is_due(&self, now: Time) -> bool {
        let last = self.last();
        last.asked.is_none_or(|asked| apart(asked, now) >= EVERY)
    }

    fn heard(&self, now: Time, failure: Option<String>) {
        let mut last = self.last();
        if failure.is_some() != last.failure.is_some() {
            match &failure {
                Some(why) => tracing::error!(%why, "the ledger cannot record"),
                None => tracing::info!("the ledger records again"),
            }
        }
        last.asked = Some(now);
        last.failure = failure;
    }

    fn trouble(&self, now: Time) -> Option<String> {
        let last = self.last();
        match (&last.failure, last.asked) {
            (Some(why), _) => Some(format!("the ledger cannot record: {why}")),
            (None, Some(asked)) if now.since(asked) > UNHEARD => Some(format!(
                "the ledger was last seen to record at {asked}: the server's rounds are held up"
            )),
            (None, Some(_) | None) => None,
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far two times lie apart, whichever is first: a clock that was set back stops no probe.
fn apart(a: Time, b: Time) -> Span {
    a.since(b).max(b.since(a))
}

//! Whether this server should be given work: what it can see of its store, its clock and itself.

use std::sync::{Mutex, PoisonError};

use dayfly_domain::{Name, Span, Time};

use super::App;
use super::held::JUMP;

/// How often the store is asked to commit.
const EVERY: Span = Span::from_seconds(1);
/// After how long without an answer of the store nobody knows whether it still records.
const UNHEARD: Span = Span::from_seconds(10);

/// When the store was asked last and its answer known; none before the first round.
#[derive(Debug, Default)]
pub(super) struct Recording(Mutex<Option<Time>>);

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
        if let Some(stall) = self.held.stall() {
            reasons.push(format!(
                "the ledger is stalled since {}: {}; {} ends wait to be recorded",
                stall.since,
                stall.why,
                self.held.waiting()
            ));
        }
        if let Some(jump) = self.held.jump() {
            reasons.push(format!(
                "nothing is granted until the clock is steady: {jump}"
            ));
        }
        reasons.extend(self.recording.held_up(self.now()));
        if let Some(until) = self.heartbeat_held_until() {
            reasons.push(format!(
                "more than a fifth of the due beats vanished: ends by heartbeat wait until {until}"
            ));
        }
        reasons
    }

    /// What somebody should look at although the server is ready.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let low = self.space.low().into_iter();
        let outages = self.outages.told();
        low.chain(self.ahead())
            .chain(self.pod_warnings())
            .chain(outages)
            .collect()
    }

    /// Which ledgers have an entry by a clock that was ahead. It stops nothing, but somebody should
    /// know why entries bear a time that has not come.
    fn ahead(&self) -> impl Iterator<Item = String> {
        let now = self.now();
        self.tenants().filter_map(move |tenant| {
            let last = self.store.head(tenant.name()).ok()?.at;
            (last > now + JUMP).then(|| {
                format!(
                    "the last entry of {} is of {last}, ahead of the clock, which says {now}: \
                     entries bear that time until then",
                    tenant.name()
                )
            })
        })
    }

    /// Has the writer commit an append that holds nothing, about once a second, and where it cannot,
    /// tries to get the ledger to record again. Whether it records.
    pub(super) async fn keep_recording(&self, now: Time) -> bool {
        if self.held.stall().is_none()
            && self.recording.is_due(now)
            // One store has one writer, whichever tenant asks.
            && let Some(tenant) = self.tenants().next()
        {
            self.held.probe(tenant.name(), now).await;
        }
        let tenants: Vec<Name> = self.tenants.keys().cloned().collect();
        let stalled = self.held.stall().is_some();
        let records = self.held.resume(&tenants).await;
        if stalled && records {
            // What was recorded may have handed workloads over.
            for tenant in self.tenants() {
                self.catch_up(tenant).await;
            }
        }
        self.recording.asked(now);
        records
    }
}

impl Recording {
    fn is_due(&self, now: Time) -> bool {
        self.last().is_none_or(|asked| apart(asked, now) >= EVERY)
    }

    fn asked(&self, now: Time) {
        let mut last = self.last();
        if last.is_none_or(|asked| apart(asked, now) >= EVERY) {
            *last = Some(now);
        }
    }

    fn held_up(&self, now: Time) -> Option<String> {
        let asked = (*self.last())?;
        (now.since(asked) > UNHEARD).then(|| {
            format!(
                "the ledger was last seen to record at {asked}: the server's rounds are held up"
            )
        })
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Time>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far two times lie apart, whichever is first: a clock that was set back stops no probe.
fn apart(a: Time, b: Time) -> Span {
    a.since(b).max(b.since(a))
}

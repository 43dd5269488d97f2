//! A store that counts what is appended through it, and how long that takes.

use std::sync::Arc;

use dayfly_domain::{Event, Name, TaskId};
use dayfly_ledger::Hash;
use dayfly_store::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Observed, OpenFilter,
    OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead, Unavailable, Use,
};
use tokio::time::Instant;

use super::{End, Entry, Metrics};

/// Counts in front of another store.
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeteredStore {
    /// Counts what goes to `inner`.
    #[must_use]
    pub const fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Metrics {
    fn appended(&self, committed: &Committed, notes: &[&'static str]) {
        let events = committed.changes().iter().flat_map(|change| &change.events);
        for drafted in events {
            self.entry(drafted.event.kind());
            let cause = match &drafted.event {
                Event::TaskEnded(ended) => ended.cause,
                Event::ClientEnded(ended) => ended.cause,
                Event::TaskRequested(_)
                | Event::TaskApproved(_)
                | Event::TaskDenied(_)
                | Event::TaskStarted(_)
                | Event::ClientRegistered(_)
                | Event::ClientDelegated(_)
                | Event::CredentialIssued(_)
                | Event::CredentialRevoked(_) => continue,
            };
            let cause = cause.word();
            self.ends.get_or_create(&End { cause }).inc();
        }
        for kind in notes {
            self.entry(kind);
        }
    }

    fn entry(&self, kind: &'static str) {
        self.entries.get_or_create(&Entry { kind }).inc();
    }

    fn took(&self, since: Instant, outcome: &'static str) {
        self.appends
            .get_or_create(&super::Append { outcome })
            .observe(since.elapsed().as_secs_f64());
    }
}

impl Store for MeteredStore {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        let since = Instant::now();
        let notes: Vec<_> = append.notes.iter().map(|note| note.kind).collect();
        let answer = self.inner.append(tenant, append);
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(committed) => {
                    metrics.took(since, "committed");
                    metrics.appended(committed, &notes);
                }
                Err(why) => metrics.took(since, outcome(why)),
            }
            answer
        })
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        let since = Instant::now();
        let kinds: Vec<_> = uses.iter().map(|used| used.note.kind).collect();
        let answer = self.inner.observe(tenant, uses);
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(observed) => {
                    metrics.took(since, "committed");
                    for (kind, observed) in kinds.into_iter().zip(observed) {
                        if matches!(observed, Observed::Recorded(_)) {
                            metrics.entry(kind);
                        }
                    }
                }
                Err(why) => metrics.took(since, outcome(why)),
            }
            answer
        })
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        self.inner.touch(tenant, touch);
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.inner.facts(tenant, query)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.inner.open(tenant, filter, cursor, limit)
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.inner.entries(tenant, range, limit)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.inner.find(tenant, key, cursor, limit)
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.inner.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.inner.tile(tenant, level, index, width)
    }
}

const fn outcome(why: &AppendError) -> &'static str {
    match why {
        AppendError::Conflict => "conflict",
        AppendError::Revised => "revised",
        AppendError::Stale(_) => "stale",
        AppendError::Claimed { .. } => "claimed",
        AppendError::SpentKey { .. } => "spent",
        AppendError::TooLarge => "too_large",
        AppendError::Unfit(_) => "unfit",
        AppendError::Unavailable(_) => "unavailable",
        AppendError::Unknown(_) => "unknown",
    }
}

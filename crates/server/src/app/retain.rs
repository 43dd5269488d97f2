//! What leaves the database: sealed entries that are old enough, into bundles, beside the grants.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dayfly_domain::{Span, TaskId, Time};
use dayfly_ledger::ReadLeaf;
use dayfly_store::{
    Append, AppendError, BUNDLE_ENTRIES, Bundle, BundleError, Document, EntryRange, FactsQuery,
    StoredEntry, Unavailable,
};

use super::heads::HeadError;
use super::{App, Tenant};
use crate::record::{RecordError, evidence};

/// How many bundles of a tenant one round writes at most.
const ROUND: usize = 16;

/// The document that says how many entries of a ledger, from the first on, were dropped.
const DROPPED: &str = "ledger/dropped";

/// How long entries stay in the database, and where they go then.
#[derive(Clone, Debug)]
pub struct Retention {
    /// How old the youngest entry of a bundle is at least.
    pub keep: Span,
    /// The folder of bundles that the store reads.
    pub bundles: PathBuf,
}

/// Why entries stay where they are.
#[derive(Debug, thiserror::Error)]
enum Stay {
    #[error(transparent)]
    Store(#[from] Unavailable),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the entry at position {0} cannot be read")]
    Entry(u64),
    #[error("the entries from position {0} on are no tile")]
    Tile(u64),
    #[error("the bundle was broken off")]
    Stopped,
}

impl App {
    /// One round: the oldest entries of each tenant, a bundle at a time, are written to their
    /// bundle and synced, and then dropped from the database. It stops before the first bundle that
    /// is too young, holds an entry of an open task, or is the ledger's last. Gives how many
    /// entries were dropped.
    ///
    /// A crash on the way leaves a bundle of entries that are still in the database, which the next
    /// round writes again.
    pub async fn drop_old(&self, retention: &Retention) -> u64 {
        let mut dropped = 0;
        for tenant in self.tenants() {
            for _ in 0..ROUND {
                match self.drop_oldest(tenant, retention).await {
                    Ok(true) => dropped += BUNDLE_ENTRIES,
                    Ok(false) => break,
                    Err(why) => {
                        tracing::error!(%why, tenant = %tenant.name(), "old entries stay in the database");
                        break;
                    }
                }
            }
        }
        dropped
    }

    async fn drop_oldest(&self, tenant: &Tenant, retention: &Retention) -> Result<bool, Stay> {
        let now = self.now();
        let first = self.dropped(tenant)?;
        let range = first..first + BUNDLE_ENTRIES;
        if range.end >= self.store.head(tenant.name())?.size {
            return Ok(false);
        }
        // INVARIANT: `at` never decreases with the position, so the last is the youngest.
        if self.at(tenant, range.end - 1)? + retention.keep > now {
            return Ok(false);
        }
        let Some(entries) = self.closed(tenant, &range)? else {
            return Ok(false);
        };
        // Whoever has nothing but the bundle and a key can tell that it is of this ledger.
        let head = self.head_note(tenant)?;
        let proof = evidence(self.store(), tenant.name(), &head, range.clone())?;
        let bundle = Bundle::of(tenant.origin(), tenant.name(), entries)
            .ok_or(Stay::Tile(first))?
            .proven(proof);
        write(bundle, &retention.bundles).await?;
        let append = Append {
            now,
            documents: vec![Document {
                name: DROPPED.to_owned(),
                bytes: Some(range.end.to_string().into_bytes()),
            }],
            drops: Some(range),
            ..Append::default()
        };
        match self.store.append(tenant.name(), append).await {
            Ok(_) => Ok(true),
            // An annex was erased meanwhile: the next round writes the bundle without it.
            Err(AppendError::Conflict) => Ok(false),
            Err(why) => Err(why.into()),
        }
    }

    /// How many entries were dropped.
    fn dropped(&self, tenant: &Tenant) -> Result<u64, Unavailable> {
        let query = FactsQuery {
            documents: Some(DROPPED),
            ..FactsQuery::default()
        };
        let documents = self.store.facts(tenant.name(), &query)?.documents;
        let Some((_, bytes)) = documents.iter().find(|(name, _)| name == DROPPED) else {
            return Ok(0);
        };
        let text = std::str::from_utf8(bytes).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Unavailable(format!("`{DROPPED}` holds no position")))
    }

    fn at(&self, tenant: &Tenant, pos: u64) -> Result<Time, Stay> {
        let found = self
            .store
            .entries(tenant.name(), EntryRange::From(pos), 1)?;
        let read = found
            .first()
            .and_then(|entry| ReadLeaf::parse(entry.leaf.as_bytes()).ok());
        read.map(|read| Time::from_millis(read.leaf.at))
            .ok_or(Stay::Entry(pos))
    }

    /// The entries of a range, unless one is of an open task.
    fn closed(
        &self,
        tenant: &Tenant,
        range: &Range<u64>,
    ) -> Result<Option<Vec<StoredEntry>>, Stay> {
        let count = usize::try_from(BUNDLE_ENTRIES).unwrap_or(usize::MAX);
        let from = EntryRange::From(range.start);
        let entries = self.store.entries(tenant.name(), from, count)?;
        let mut tasks = BTreeSet::new();
        for entry in &entries {
            let read =
                ReadLeaf::parse(entry.leaf.as_bytes()).map_err(|_| Stay::Entry(entry.pos))?;
            if let Some(link) = &read.leaf.link {
                let task: TaskId = link.task.parse().map_err(|_| Stay::Entry(entry.pos))?;
                tasks.insert(task);
            }
        }
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        let query = FactsQuery {
            standings: &tasks,
            ..FactsQuery::default()
        };
        let standings = self.store.facts(tenant.name(), &query)?.standings;
        let over = standings.iter().all(Option::is_none);
        Ok(over.then_some(entries))
    }
}

/// Writes a bundle on a thread that may wait for the disk.
async fn write(bundle: Bundle, folder: &Path) -> Result<(), Stay> {
    let folder = folder.to_path_buf();
    let written = tokio::task::spawn_blocking(move || bundle.write(&folder)).await;
    written.map_err(|_| Stay::Stopped)??;
    Ok(())
}

//! The check of a whole ledger from its entries, as an auditor makes it.

use std::collections::BTreeSet;

use dayfly_domain::TaskId;
use dayfly_ledger::Fsck;
use dayfly_store::{EntryRange, OpenFilter, Store, StoredEntry};

use crate::world::acme;

/// How many entries are read at a time.
const PAGE: usize = 4096;

/// All entries of the tenant.
pub(crate) fn entries(store: &dyn Store, from: u64) -> Vec<StoredEntry> {
    let mut entries: Vec<StoredEntry> = Vec::new();
    loop {
        let next = EntryRange::From(from + entries.len() as u64);
        let page = store.entries(&acme(), next, PAGE).unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

/// Checks every entry, chain and hash, the tree against the head, and that what the entries say is
/// open is what the store says is open.
pub(crate) fn check(store: &dyn Store) -> Result<(), String> {
    let mut fsck = Fsck::new("acme");
    // Refusals are noted by themselves and may come in meanwhile.
    let head = store.head(&acme()).map_err(|why| why.to_string())?;
    let within = |entry: &StoredEntry| entry.pos < head.size;
    for entry in entries(store, 0).into_iter().filter(within) {
        fsck.feed(entry.pos, entry.leaf.as_bytes(), &entry.hash)
            .map_err(|why| format!("{why}: {:?}", std::error::Error::source(&why)))?;
    }
    fsck.finish(head.size, &head.root)
        .map_err(|why| why.to_string())?;
    let chained: BTreeSet<String> = fsck.open_tasks().map(str::to_owned).collect();
    let open: BTreeSet<String> = open_tasks(store).iter().map(ToString::to_string).collect();
    if chained == open {
        Ok(())
    } else {
        Err(format!(
            "open by the entries {chained:?}, by the store {open:?}"
        ))
    }
}

/// The open tasks of the store.
pub(crate) fn open_tasks(store: &dyn Store) -> BTreeSet<TaskId> {
    let mut open = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = store.open(&acme(), &OpenFilter::All, cursor, PAGE).unwrap();
        let Some(last) = page.last() else {
            return open;
        };
        cursor = Some(last.task.id);
        open.extend(page.iter().map(|open| open.task.id));
    }
}

/// Whether a task is open.
#[cfg(test)]
pub(crate) fn is_open(store: &dyn Store, task: TaskId) -> bool {
    let query = dayfly_store::FactsQuery {
        tasks: &[task],
        ..dayfly_store::FactsQuery::default()
    };
    let facts = store.facts(&acme(), &query).unwrap();
    facts.tasks.into_iter().flatten().next().is_some()
}

/// A leaf of an entry.
pub(crate) fn leaf(entry: &StoredEntry) -> serde_json::Value {
    serde_json::from_str(&entry.leaf).unwrap()
}

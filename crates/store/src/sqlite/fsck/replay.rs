//! Replays the entries of a tenant into the tasks that are open or pending at its end.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Event, Name, Task, TaskId, apply};
use dayfly_ledger::{Hash, Leaf, ReadLeaf, annex_hash};

use super::FsckFailure;
use crate::StoredEntry;

/// The tasks that are open or pending after the entries so far.
pub(super) struct Replay<'a> {
    tenant: &'a Name,
    open: Open,
    /// Tasks of which an entry could not be read. They have ended, or none would have been dropped.
    unread: BTreeSet<TaskId>,
    at: u64,
}

/// Open tasks, each with the leaf hash of its last entry.
pub(super) type Open = BTreeMap<TaskId, (Task, Hash)>;

impl<'a> Replay<'a> {
    pub(super) fn new(tenant: &'a Name) -> Self {
        Self {
            tenant,
            open: Open::new(),
            unread: BTreeSet::new(),
            at: 0,
        }
    }

    /// Takes the next entry, whose leaf was checked: compares what stands beside the leaf with it,
    /// and applies its event.
    pub(super) fn feed(
        &mut self,
        entry: &StoredEntry,
        task: Option<TaskId>,
        seq: Option<u64>,
    ) -> Result<(), FsckFailure> {
        let Ok(ReadLeaf { leaf, .. }) = ReadLeaf::parse(entry.leaf.as_bytes()) else {
            return Ok(());
        };
        self.at = leaf.at;
        if let Some(annex) = &entry.annex {
            let got = annex_hash(&annex.salt, annex.data.as_bytes());
            if leaf.h != Some(got) {
                let wanted = leaf.h.map_or_else(|| "none".into(), |h| h.to_string());
                return Err(self.beside(entry.pos, "annex", wanted, got.to_string()));
            }
        }
        let link = leaf
            .link
            .as_ref()
            .map(|link| (link.task.to_string(), link.seq));
        let stored = task.map(|task| task.to_string()).zip(seq);
        if link != stored {
            let [wanted, got] = [link, stored].map(|link| format!("{link:?}"));
            return Err(self.beside(entry.pos, "link", wanted, got));
        }
        match task {
            Some(task) if !self.unread.contains(&task) => self.apply(entry, task, &leaf),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes an entry whose leaf cannot be read.
    pub(super) fn pass(&mut self, task: Option<TaskId>) {
        if let Some(task) = task {
            self.open.remove(&task);
            self.unread.insert(task);
        }
    }

    fn apply(
        &mut self,
        entry: &StoredEntry,
        id: TaskId,
        leaf: &Leaf<'_>,
    ) -> Result<(), FsckFailure> {
        let misfit = |got: String| self.beside(entry.pos, "event", "one that applies".into(), got);
        let mut data = serde_json::Deserializer::from_str(leaf.data.get());
        let event = match Event::read(&leaf.kind, &mut data) {
            Ok(Ok(event)) => event,
            Ok(Err(_)) => return Err(misfit(format!("`{}`", leaf.kind))),
            Err(error) => return Err(misfit(error.to_string())),
        };
        let known = self.open.get(&id).map(|(task, _)| task.clone());
        match apply(known, id, &event) {
            None => Err(misfit(format!("`{}` out of place", leaf.kind))),
            Some(next) if !next.has_ended() => {
                self.open.insert(id, (next, entry.hash));
                Ok(())
            }
            Some(_) => {
                self.open.remove(&id);
                Ok(())
            }
        }
    }

    /// Compares the time of the last entry with the one stored for the tenant.
    pub(super) fn finish(&self, size: u64, at: u64) -> Result<(), FsckFailure> {
        if self.at == at {
            return Ok(());
        }
        let pos = size.saturating_sub(1);
        Err(self.beside(pos, "time", self.at.to_string(), at.to_string()))
    }

    pub(super) fn into_open(self) -> Open {
        self.open
    }

    fn beside(&self, pos: u64, what: &'static str, wanted: String, got: String) -> FsckFailure {
        FsckFailure::Beside {
            tenant: self.tenant.clone(),
            pos,
            what,
            wanted,
            got,
        }
    }
}

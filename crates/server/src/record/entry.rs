//! One stored entry, read: its event where it is one of a task, its annex where it still has one.

use dayfly_domain::{Event, Name, TaskId, Time};
use dayfly_ledger::ReadLeaf;
use dayfly_store::{EntryRange, Store, StoredEntry};
use serde_json::Value;

use super::error::RecordError;

/// An entry as it was read.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pos: u64,
    pub(super) at: Time,
    pub(super) kind: String,
    /// The task whose chain it is in.
    pub(super) task: Option<TaskId>,
    /// Which entry of that chain it is, from 1.
    pub(super) seq: Option<u64>,
    pub(super) said: Said,
    pub(super) annex: Annexed,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// An event of a task.
    Event(Box<Event>),
    /// Something else.
    Note(Value),
}

/// What an entry says beside its leaf.
#[derive(Clone, Debug)]
pub(super) enum Annexed {
    /// It never had an annex.
    None,
    /// It had one, which was erased.
    Erased,
    /// What stands in it.
    Here(Value),
}

impl Entry {
    pub(super) fn read(stored: &StoredEntry) -> Result<Self, RecordError> {
        let damaged = |why: &dyn std::fmt::Display| RecordError::Damaged {
            pos: stored.pos,
            why: why.to_string(),
        };
        let leaf = ReadLeaf::parse(stored.leaf.as_bytes())
            .map_err(|why| damaged(&why))?
            .leaf;
        let task = match &leaf.link {
            Some(link) => Some(link.task.parse().map_err(|why| damaged(&why))?),
            None => None,
        };
        let mut data = serde_json::Deserializer::from_str(leaf.data.get());
        let said = match Event::read(&leaf.kind, &mut data).map_err(|why| damaged(&why))? {
            Ok(event) => Said::Event(Box::new(event)),
            Err(dayfly_domain::UnknownKind) => {
                Said::Note(serde_json::from_str(leaf.data.get()).map_err(|why| damaged(&why))?)
            }
        };
        let annex = match (&leaf.h, &stored.annex) {
            (None, _) => Annexed::None,
            (Some(_), None) => Annexed::Erased,
            (Some(_), Some(annex)) => Annexed::Here(
                serde_json::from_str(&annex.data).unwrap_or_else(|_| annex.data.clone().into()),
            ),
        };
        Ok(Self {
            pos: stored.pos,
            at: Time::from_millis(leaf.at),
            kind: leaf.kind.into_owned(),
            task,
            seq: leaf.link.as_ref().map(|link| link.seq),
            said,
            annex,
        })
    }

    /// The task that it belongs to or is about.
    pub(super) fn about(&self) -> Option<TaskId> {
        self.task.or_else(|| match &self.said {
            Said::Event(_) => None,
            Said::Note(data) => data.get("about")?.as_str()?.parse().ok(),
        })
    }

    /// The event, where it is one.
    pub(super) fn event(&self) -> Option<&Event> {
        match &self.said {
            Said::Event(event) => Some(event),
            Said::Note(_) => None,
        }
    }
}

/// The entry at a position; none when the ledger is not that long.
pub(super) fn entry_at(
    store: &dyn Store,
    tenant: &Name,
    pos: u64,
) -> Result<Option<Entry>, RecordError> {
    let stored = store.entries(tenant, EntryRange::From(pos), 1)?;
    match stored.first() {
        Some(stored) if stored.pos == pos => Entry::read(stored).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// How many entries are read at once.
const PAGE: usize = 256;

/// Visits the entries of a task in order.
pub(super) fn each_of(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
    mut visit: impl FnMut(&StoredEntry) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut seq = 1;
    loop {
        let page = store.entries(tenant, EntryRange::Of(task, seq), PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        for stored in &page {
            visit(stored)?;
            seq += 1;
        }
    }
}

/// The task whose chain a stored entry is in.
pub(crate) fn task_of(stored: &StoredEntry) -> Result<Option<TaskId>, RecordError> {
    let damaged = |why: &dyn std::fmt::Display| RecordError::Damaged {
        pos: stored.pos,
        why: why.to_string(),
    };
    let leaf = ReadLeaf::parse(stored.leaf.as_bytes()).map_err(|why| damaged(&why))?;
    let link = leaf.leaf.link;
    link.map(|link| link.task.parse().map_err(|why| damaged(&why)))
        .transpose()
}

/// The kind of a stored entry.
pub(crate) fn kind_of(stored: &StoredEntry) -> Result<String, RecordError> {
    let read = ReadLeaf::parse(stored.leaf.as_bytes());
    let leaf = read.map_err(|why| RecordError::Damaged {
        pos: stored.pos,
        why: why.to_string(),
    })?;
    Ok(leaf.leaf.kind.into_owned())
}

/// Whether a stored entry is a note of this kind, on this where that is given.
pub(crate) fn is_note(
    stored: &StoredEntry,
    kind: &str,
    on: Option<&str>,
) -> Result<bool, RecordError> {
    // Most entries are others, and are not read for it.
    if !stored.leaf.contains(kind) {
        return Ok(false);
    }
    let entry = Entry::read(stored)?;
    let said = |data: &Value| match on {
        Some(on) => data.get("on").and_then(Value::as_str) == Some(on),
        None => true,
    };
    Ok(entry.kind == kind
        && match &entry.said {
            Said::Event(_) => false,
            Said::Note(data) => said(data),
        })
}

/// The event of a stored entry; none where it is about something else or cannot be read.
pub(crate) fn event_of(stored: &StoredEntry) -> Option<Event> {
    let leaf = ReadLeaf::parse(stored.leaf.as_bytes()).ok()?.leaf;
    let mut data = serde_json::Deserializer::from_str(leaf.data.get());
    match Event::read(&leaf.kind, &mut data) {
        Ok(Ok(event)) => Some(event),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Visits the events of a task in order, each with its annex where that still stands.
pub(crate) fn each_event(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
    mut visit: impl FnMut(&Event, Option<&Value>),
) -> Result<(), RecordError> {
    each_of(store, tenant, task, |stored| {
        let entry = Entry::read(stored)?;
        let annex = match &entry.annex {
            Annexed::Here(annex) => Some(annex),
            Annexed::None | Annexed::Erased => None,
        };
        if let Some(event) = entry.event() {
            visit(event, annex);
        }
        Ok(())
    })
}

//! What the store keeps of findings, as documents that are written with the entries: those that are
//! open, what happened to each workload, and the last that closed.

use std::collections::BTreeMap;

use dayfly_domain::{Name, Time};
use dayfly_store::{Annex, Append, Document, Note};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::What;
use super::seen::Seen;
use crate::random::{self, NoRandomness};

/// Everything that is kept begins so.
pub(crate) const PREFIX: &str = "finding/";
const OPEN: &str = "finding/open/";
const SEEN: &str = "finding/seen/";
/// Since when a resource is known to report uses; what follows is its name.
pub(crate) const REPORTS: &str = "finding/reports/";
const BEARER: &str = "finding/bearer/";
const CLOSED: &str = "finding/closed";
const WAITING: &str = "finding/waiting";

/// How many findings of a tenant are open at once. What else there is waits for one of them to
/// close, and that it waits is said.
const MOST: usize = 4096;
/// How many findings open or close in one append.
const ROUND: usize = 256;
/// How many that closed are kept to be listed; the ledger has all of them.
const REMEMBERED: usize = 256;

/// An open finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Since when.
    pub opened: Time,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// One that closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Since when it was open.
    pub opened: Time,
    /// When it closed.
    pub closed: Time,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The open ones by their ids.
    pub(crate) open: BTreeMap<String, Opened>,
    /// What happened to each workload.
    pub(crate) seen: BTreeMap<Name, Seen>,
    /// When each workload last handed a client over to a helper without a key.
    pub(crate) bearer: BTreeMap<Name, Time>,
    /// The last that closed, in order.
    pub(crate) closed: Vec<Closed>,
    /// Since when each resource that reports uses is known to do so.
    pub(crate) reports: BTreeMap<Name, Time>,
    /// How many there are that cannot open.
    pub(crate) waiting: u64,
}

/// What a look has changed.
pub(crate) struct Change {
    /// Everything of it, all or nothing; none where nothing has changed.
    pub(crate) append: Option<Append>,
    /// Whether there is more to be recorded.
    pub(crate) more: bool,
}

impl Kept {
    /// What documents that begin with [`PREFIX`] say. One that cannot be read is of another build,
    /// and is left to it.
    pub(crate) fn of(documents: &[(String, Vec<u8>)]) -> Self {
        let mut kept = Self::default();
        for (name, bytes) in documents {
            if let Some(id) = name.strip_prefix(OPEN) {
                if let Some(opened) = read(name, bytes) {
                    kept.open.insert(id.to_owned(), opened);
                }
            } else if let Some(workload) = name.strip_prefix(SEEN) {
                if let (Ok(workload), Some(seen)) = (workload.parse(), read(name, bytes)) {
                    kept.seen.insert(workload, seen);
                }
            } else if let Some(resource) = name.strip_prefix(REPORTS) {
                if let (Ok(resource), Some(since)) = (resource.parse(), read(name, bytes)) {
                    kept.reports.insert(resource, since);
                }
            } else if let Some(workload) = name.strip_prefix(BEARER) {
                if let (Ok(workload), Some(at)) = (workload.parse(), read(name, bytes)) {
                    kept.bearer.insert(workload, at);
                }
            } else if name == CLOSED {
                kept.closed = read(name, bytes).unwrap_or_default();
            } else if name == WAITING {
                kept.waiting = read(name, bytes).unwrap_or_default();
            }
        }
        kept
    }

    /// Whether a finding of this kind is open.
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.open.values().any(|opened| opened.what.kind() == kind)
    }

    /// What has to be recorded so that this is what is kept: what there is to find, and what
    /// happened to the workloads.
    pub(crate) fn change(
        &self,
        now: Time,
        found: &BTreeMap<String, What>,
        seen: &BTreeMap<Name, Seen>,
        reports: &BTreeMap<Name, Time>,
    ) -> Result<Change, NoRandomness> {
        let mut desk = Desk::default();
        let mut left = ROUND;
        let mut closed = self.closed.clone();
        let over = self.open.iter().filter(|(id, _)| !found.contains_key(*id));
        for (id, opened) in over.take(ROUND) {
            left -= 1;
            desk.close(id, opened, now)?;
            closed.push(Closed {
                opened: opened.opened,
                closed: now,
                what: opened.what.clone(),
            });
        }
        let over = self.open.keys().filter(|id| !found.contains_key(*id));
        let mut room = MOST.saturating_sub(self.open.len() - over.count());
        let mut waiting = 0;
        let mut more = false;
        for (id, what) in found {
            match self.open.get(id) {
                Some(opened) if opened.what == *what => {}
                Some(opened) => desk.keep(id, opened.opened, what),
                None if room == 0 => waiting += 1,
                None if left == 0 => more = true,
                None => {
                    (left, room) = (left - 1, room - 1);
                    desk.open(id, what, now)?;
                }
            }
        }
        if closed.len() != self.closed.len() {
            let surplus = closed.len().saturating_sub(REMEMBERED);
            closed.drain(..surplus);
            desk.write(CLOSED.to_owned(), Some(&closed));
        }
        if waiting != self.waiting {
            tracing::warn!(
                waiting,
                most = MOST,
                "findings wait for others to close before they open"
            );
            desk.write(WAITING.to_owned(), Some(&waiting));
        }
        desk.remember(SEEN, &self.seen, seen);
        desk.remember(REPORTS, &self.reports, reports);
        // That of a declared one stays, old as it is: it may be written anew at any moment.
        for workload in self.bearer.keys().filter(|name| !seen.contains_key(*name)) {
            desk.write::<()>(format!("{BEARER}{workload}"), None);
        }
        let more = more || (left == 0 && self.open.keys().any(|id| !found.contains_key(id)));
        let append = desk.append(now);
        Ok(Change { append, more })
    }
}

/// What is recorded with a client of this workload that is handed over to a helper without a key.
pub(crate) fn handed_to_bearer(workload: &Name, at: Time) -> Document {
    Document {
        name: format!("{BEARER}{workload}"),
        bytes: Some(text_of(&at).into_bytes()),
    }
}

/// Where an append is put together.
#[derive(Default)]
struct Desk {
    notes: Vec<Note>,
    documents: Vec<Document>,
}

impl Desk {
    fn open(&mut self, id: &str, what: &What, now: Time) -> Result<(), NoRandomness> {
        let annex = Annex {
            salt: random::bytes()?,
            data: json!({ "says": what.says(), "do": what.remedy() }).to_string(),
        };
        self.notes.push(Note {
            kind: "finding.opened",
            data: text_of(what),
            annex: Some(annex),
        });
        self.keep(id, now, what);
        Ok(())
    }

    fn close(&mut self, id: &str, opened: &Opened, now: Time) -> Result<(), NoRandomness> {
        let what = &opened.what;
        let annex = Annex {
            salt: random::bytes()?,
            data: json!({ "said": what.says() }).to_string(),
        };
        let closed = Closed {
            opened: opened.opened,
            closed: now,
            what: what.clone(),
        };
        self.notes.push(Note {
            kind: "finding.closed",
            data: text_of(&closed),
            annex: Some(annex),
        });
        self.write::<()>(format!("{OPEN}{id}"), None);
        Ok(())
    }

    fn keep(&mut self, id: &str, opened: Time, what: &What) {
        let opened = Opened {
            opened,
            what: what.clone(),
        };
        self.write(format!("{OPEN}{id}"), Some(&opened));
    }

    fn remember<T: Serialize + PartialEq>(
        &mut self,
        prefix: &str,
        before: &BTreeMap<Name, T>,
        after: &BTreeMap<Name, T>,
    ) {
        for (name, value) in after {
            if before.get(name) != Some(value) {
                self.write(format!("{prefix}{name}"), Some(value));
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.write::<()>(format!("{prefix}{name}"), None);
        }
    }

    fn write<T: Serialize>(&mut self, name: String, value: Option<&T>) {
        let bytes = value.map(|value| text_of(value).into_bytes());
        self.documents.push(Document { name, bytes });
    }

    fn append(self, now: Time) -> Option<Append> {
        if self.documents.is_empty() {
            return None;
        }
        Some(Append {
            now,
            notes: self.notes,
            documents: self.documents,
            ..Append::default()
        })
    }
}

fn text_of<T: Serialize>(value: &T) -> String {
    // INVARIANT: names, numbers and words have no value that JSON cannot write.
    serde_json::to_string(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(why) => {
            tracing::warn!(%why, document = name, "what is kept of a finding cannot be read");
            None
        }
    }
}

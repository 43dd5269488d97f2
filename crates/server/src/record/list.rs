//! Tasks in a list: the open ones in order of their start, or all of them from the newest back.

use dayfly_domain::{Name, TaskId, Time};
use dayfly_store::{EntryRange, OpenFilter, SearchKey, Store};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, entry_at};
use super::error::RecordError;
use super::task::{Found, load};
use super::view::{ClientView, Standing, TaskView};

/// Which tasks.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this workload only: of what runs as a whole. A trace finds what its children came into.
    pub workload: Option<Name>,
    /// Of this owner only, likewise.
    pub owner: Option<Name>,
    /// Ended ones too.
    pub ended: bool,
}

/// A task in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLine {
    /// Its id.
    pub task: TaskId,
    /// Whether it is open.
    #[serde(flatten)]
    pub standing: Standing,
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Which run it is.
    pub key: String,
    /// Which attempt it is, where the platform counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// When it opened.
    pub opened: Time,
    /// When it ends at the latest.
    pub deadline: Time,
    /// How many clients it has.
    pub clients: u64,
    /// How many of its credentials are live.
    pub live: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskLine>,
    /// Where the next page begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many entries or tasks are read at once.
const PAGE: usize = 256;

/// Lists tasks, `limit` at most, after the cursor that the page before gave.
///
/// # Errors
/// [`RecordError`] when the record cannot be read, or the cursor is none of this listing.
pub fn tasks(
    store: &dyn Store,
    tenant: &Name,
    filter: &Filter,
    cursor: Option<&str>,
    limit: usize,
) -> Result<TaskPage, RecordError> {
    let listing = Listing {
        store,
        tenant,
        filter,
        limit: limit.max(1),
    };
    let foreign = |cursor: &str| RecordError::Cursor(cursor.to_owned());
    if filter.ended {
        let below = cursor.map(|text| text.parse().map_err(|_| foreign(text)));
        listing.all(below.transpose()?)
    } else {
        let after = cursor.map(|text| text.parse().map_err(|_| foreign(text)));
        listing.open(after.transpose()?)
    }
}

struct Listing<'a> {
    store: &'a dyn Store,
    tenant: &'a Name,
    filter: &'a Filter,
    limit: usize,
}

impl Listing<'_> {
    fn open(&self, mut after: Option<TaskId>) -> Result<TaskPage, RecordError> {
        let mut tasks: Vec<TaskLine> = Vec::new();
        loop {
            let page = self
                .store
                .open(self.tenant, &OpenFilter::All, after, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(TaskPage { tasks, next: None });
            };
            after = Some(last.task.id);
            for open in page {
                let found = Found::from(open);
                if !self.wanted(&found) {
                    continue;
                }
                if tasks.len() == self.limit {
                    let next = tasks.last().map(|line| line.task.to_string());
                    return Ok(TaskPage { tasks, next });
                }
                tasks.push(found.view().line());
            }
        }
    }

    /// Every task has one first entry, so these are its places in the list.
    fn all(&self, mut below: Option<u64>) -> Result<TaskPage, RecordError> {
        let mut tasks: Vec<TaskLine> = Vec::new();
        let mut last_pos = 0;
        loop {
            let entries = self.entries_below(below)?;
            let Some(last) = entries.last() else {
                return Ok(TaskPage { tasks, next: None });
            };
            below = Some(last.pos);
            for entry in entries.iter().filter(|entry| entry.seq == Some(1)) {
                let Some(found) = self.load(entry)? else {
                    continue;
                };
                if tasks.len() == self.limit {
                    let next = Some(last_pos.to_string());
                    return Ok(TaskPage { tasks, next });
                }
                last_pos = entry.pos;
                tasks.push(found.view().line());
            }
        }
    }

    fn load(&self, first: &Entry) -> Result<Option<Found>, RecordError> {
        let Some(id) = first.task else {
            return Ok(None);
        };
        Ok(load(self.store, self.tenant, id)?.filter(|found| self.wanted(found)))
    }

    /// Entries among which the tasks wanted start, from the newest back; empty at the beginning.
    fn entries_below(&self, below: Option<u64>) -> Result<Vec<Entry>, RecordError> {
        let key = match (&self.filter.workload, &self.filter.owner) {
            (Some(workload), _) => Some(SearchKey::Workload(workload.clone())),
            (None, Some(owner)) => Some(SearchKey::Owner(owner.clone())),
            (None, None) => None,
        };
        if let Some(key) = key {
            let positions = self.store.find(self.tenant, &key, below, PAGE)?;
            return positions
                .into_iter()
                .filter_map(|pos| entry_at(self.store, self.tenant, pos).transpose())
                .collect();
        }
        let end = match below {
            Some(below) => below,
            None => self.store.head(self.tenant)?.size,
        };
        let first = end.saturating_sub(PAGE as u64);
        let count = usize::try_from(end - first).unwrap_or(PAGE);
        if count == 0 {
            return Ok(Vec::new());
        }
        let page = self
            .store
            .entries(self.tenant, EntryRange::From(first), count)?;
        page.iter().rev().map(Entry::read).collect()
    }

    fn wanted(&self, found: &Found) -> bool {
        let Filter {
            workload, owner, ..
        } = self.filter;
        workload
            .as_ref()
            .is_none_or(|name| *name == found.task.workload)
            && owner.as_ref().is_none_or(|name| *name == found.task.owner)
    }
}

impl TaskView {
    /// The task in one line.
    #[must_use]
    pub fn line(&self) -> TaskLine {
        let live = |client: &ClientView| client.credentials.len() as u64;
        TaskLine {
            task: self.task,
            standing: self.standing.clone(),
            workload: self.workload.clone(),
            owner: self.owner.clone(),
            key: self.key.clone(),
            attempt: self.attempt,
            opened: self.opened,
            deadline: self.deadline,
            clients: self.clients.len() as u64,
            live: self.clients.iter().map(live).sum(),
        }
    }
}

//! Where a job, pod or process has active clients: found by the index, or by looking through everything open.

use std::collections::BTreeSet;
use std::sync::Arc;

use dayfly_domain::{Name, Task, TaskId, Time};
use dayfly_store::{EntryRange, FactsQuery, OpenFilter, OpenTask, SearchKey, Store, Unavailable};

/// How many entries or tasks are looked at together.
const PAGE: usize = 256;

/// A job, pod or process, of one issuer or of whichever vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceOf {
    /// The issuer; none where the only one that is meant is found by what is open or declared.
    pub issuer: Option<Name>,
    /// The instance.
    pub instance: String,
}

/// The clients of an instance in one open task; none where it asked for one that waits for people.
pub(super) struct Held {
    pub(super) open: OpenTask,
    pub(super) clients: BTreeSet<u32>,
}

impl Held {
    /// Who vouches for it: for each of its clients, or for what waits without any yet.
    pub(super) fn vouched_by(&self) -> impl Iterator<Item = &Name> {
        let task = &self.open.task;
        let waits = task.pending().map(|_| &task.issuer);
        let clients = self.clients.iter();
        waits
            .into_iter()
            .chain(clients.map(|number| task.vouched_by(*number)))
    }

    /// When the last credential expires that was ever issued to these or below them.
    pub(super) fn last_expiry(&self) -> Option<Time> {
        let clients = self.clients.iter();
        clients
            .filter_map(|number| self.open.task.last_expiry_under(*number))
            .max()
    }
}

/// A look for the clients of an instance. It reads entries, so it belongs on a thread that may wait.
pub(super) struct Looking {
    pub(super) store: Arc<dyn Store>,
    pub(super) tenant: Name,
    pub(super) what: InstanceOf,
    /// Since when what is open of it may be open.
    pub(super) since: Time,
}

impl Looking {
    /// The open tasks with active clients of the instance, and these, those above others only. The
    /// index tells where to look, whatever is open; where it does not answer, everything open is
    /// looked through.
    pub(super) fn held(&self) -> Result<Vec<Held>, Unavailable> {
        let Ok(tasks) = self.tasks() else {
            return self.held_of_all();
        };
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        let mut found = Vec::new();
        for tasks in tasks.chunks(PAGE) {
            let query = FactsQuery {
                tasks,
                ..FactsQuery::default()
            };
            let open = self.store.facts(&self.tenant, &query)?.tasks;
            found.extend(open.into_iter().flatten().filter_map(|open| self.of(open)));
        }
        Ok(found)
    }

    fn held_of_all(&self) -> Result<Vec<Held>, Unavailable> {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(&self.tenant, &OpenFilter::All, cursor, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(found);
            };
            cursor = Some(last.task.id);
            found.extend(page.into_iter().filter_map(|open| self.of(open)));
        }
    }

    /// The clients of the instance in a task; none where it has none there, or where all of the task
    /// has ended by what is held.
    fn of(&self, open: OpenTask) -> Option<Held> {
        if open.task.has_ended() {
            return None;
        }
        let clients = held_in(&open.task, self.what.issuer.as_ref(), &self.what.instance)?;
        Some(Held { open, clients })
    }

    /// The tasks in which the instance came in lately enough for them to be open.
    fn tasks(&self) -> Result<BTreeSet<TaskId>, Unavailable> {
        let key = SearchKey::Instance(self.what.instance.clone());
        let mut tasks = BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = self.store.find(&self.tenant, &key, cursor, PAGE)?;
            for pos in &page {
                let range = EntryRange::From(*pos);
                let entries = self.store.entries(&self.tenant, range, 1)?;
                let Some(leaf) = entries.first().and_then(|entry| read_leaf(&entry.leaf)) else {
                    continue;
                };
                if leaf.at < self.since {
                    return Ok(tasks);
                }
                tasks.extend(leaf.task);
            }
            match page.last() {
                Some(last) => cursor = Some(*last),
                None => return Ok(tasks),
            }
        }
    }
}

/// What of a leaf says where to look.
#[derive(serde::Deserialize)]
struct Leaf {
    task: Option<TaskId>,
    at: Time,
}

fn read_leaf(leaf: &str) -> Option<Leaf> {
    serde_json::from_str(leaf).ok()
}

/// The active clients of an instance in a task, without those below others of it: none of them where
/// it asked for a task that waits for people, and nothing where it has none of it. Where an issuer is
/// named it is the one that vouches for the client, which may be another than its task's.
pub(super) fn held_in(task: &Task, issuer: Option<&Name>, instance: &str) -> Option<BTreeSet<u32>> {
    let vouches = |by: &Name| issuer.is_none_or(|issuer| issuer == by);
    let mut found = BTreeSet::new();
    for (number, client) in (1u32..).zip(&task.clients) {
        let concerned = client.instance == instance && vouches(task.vouched_by(number));
        if concerned && client.is_active() && !is_under(task, number, &found) {
            found.insert(number);
        }
    }
    let waits = task.pending();
    let waits = waits.is_some_and(|of| of.instance == instance && vouches(&task.issuer));
    (waits || !found.is_empty()).then_some(found)
}

/// Whether a client is one of these or was delegated from one of them.
pub(super) fn is_under(task: &Task, number: u32, of: &BTreeSet<u32>) -> bool {
    let mut at = Some(number);
    // INVARIANT: the walk goes on only to a lower number, so it ends.
    while let Some(number) = at {
        if of.contains(&number) {
            return true;
        }
        at = task
            .client(number)
            .and_then(|client| client.parent)
            .filter(|parent| *parent < number);
    }
    false
}

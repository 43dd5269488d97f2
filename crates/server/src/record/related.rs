//! Tasks of the same run that came before or after those shown: superseded by a newer attempt, or opened again.

use dayfly_domain::{Event, Name, TaskId};
use dayfly_store::{EntryRange, SearchKey, Store};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, entry_at};
use super::error::RecordError;
use super::task::load;
use super::view::{Standing, TaskView};

/// How many entries under the name of a series are looked at.
const LOOKED_AT: usize = 64;

/// A task that one of those shown has to do with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    /// The task.
    pub task: TaskId,
    /// What it is to the task in `of`.
    pub how: Relation,
    /// A task that is shown.
    pub of: TaskId,
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Whether it is open.
    #[serde(flatten)]
    pub standing: Standing,
}

/// What a task is to another of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// A newer attempt, whose start ended the other.
    Superseded,
    /// An older attempt, which the start of the other ended.
    SupersededBy,
    /// The same run, which opened again after the other had fallen silent or failed.
    Reopened,
    /// The same run, which the other opened again.
    ReopenedBy,
}

impl Relation {
    /// What is said of the one, before the name of the other.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::SupersededBy => "was superseded by",
            Self::Reopened => "opened again what was",
            Self::ReopenedBy => "was opened again by",
        }
    }
}

/// The first entry of a task: it started, or was asked for. One that people have approved starts by a
/// later entry, which names nothing that it superseded.
struct First {
    workload: Name,
    issuer: Name,
    key: String,
    attempt: Option<u64>,
    supersedes: Vec<TaskId>,
}

impl First {
    fn of(entry: &Entry) -> Option<Self> {
        if entry.seq != Some(1) {
            return None;
        }
        match entry.event()? {
            Event::TaskStarted(started) => Some(Self {
                workload: started.workload.clone(),
                issuer: started.issuer.clone(),
                key: started.key.clone(),
                attempt: started.attempt,
                supersedes: started.supersedes.clone(),
            }),
            Event::TaskRequested(requested) => Some(Self {
                workload: requested.workload.clone(),
                issuer: requested.issuer.clone(),
                key: requested.key.clone(),
                attempt: requested.attempt,
                supersedes: requested.supersedes.clone(),
            }),
            Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
            | Event::CredentialIssued(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => None,
        }
    }
}

/// What the tasks shown have to do with others of their runs, and whether all of these were looked
/// at.
pub(super) fn of(
    store: &dyn Store,
    tenant: &Name,
    shown: &[TaskView],
) -> Result<(Vec<Related>, bool), RecordError> {
    let mut found = Vec::new();
    let mut all = true;
    for task in shown {
        let own = first_entry(store, tenant, task.task)?;
        let superseded = own.map(|own| own.supersedes).unwrap_or_default();
        for other in superseded {
            add(
                store,
                tenant,
                (other, Relation::SupersededBy),
                task,
                &mut found,
            )?;
        }
        let key = SearchKey::Run(task.series.clone());
        let positions = store.find(tenant, &key, None, LOOKED_AT + 1)?;
        all &= positions.len() <= LOOKED_AT;
        for pos in positions.into_iter().take(LOOKED_AT) {
            let Some(entry) = entry_at(store, tenant, pos)? else {
                continue;
            };
            if let (Some(other), Some(first)) = (entry.task, First::of(&entry))
                && other != task.task
                && first.issuer == task.issuer
                && let Some(how) = relation(other, &first, task)
            {
                add(store, tenant, (other, how), task, &mut found)?;
            }
        }
    }
    Ok((found, all))
}

/// What another task of the series is to the one that is shown.
fn relation(other: TaskId, first: &First, task: &TaskView) -> Option<Relation> {
    if first.supersedes.contains(&task.task) {
        return Some(Relation::Superseded);
    }
    let same =
        first.workload == task.workload && first.key == task.key && first.attempt == task.attempt;
    // A key has one open task at a time, so one of both came after the other had ended.
    same.then(|| {
        if other > task.task {
            Relation::Reopened
        } else {
            Relation::ReopenedBy
        }
    })
}

fn add(
    store: &dyn Store,
    tenant: &Name,
    (other, how): (TaskId, Relation),
    task: &TaskView,
    found: &mut Vec<Related>,
) -> Result<(), RecordError> {
    if let Some(loaded) = load(store, tenant, other)? {
        found.push(Related {
            task: other,
            how,
            of: task.task,
            workload: loaded.task.workload.clone(),
            owner: loaded.task.owner.clone(),
            standing: loaded.standing(),
        });
    }
    Ok(())
}

fn first_entry(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
) -> Result<Option<First>, RecordError> {
    let first = store.entries(tenant, EntryRange::Of(task, 1), 1)?;
    let read = first.first().map(Entry::read).transpose()?;
    Ok(read.as_ref().and_then(First::of))
}

//! What a member of an owner is not told: by whom and why what belongs to somebody else was stopped.

use std::collections::BTreeMap;

use dayfly_domain::{Name, TaskId};
use dayfly_store::Store;
use serde_json::Value;

use super::end::{EndNote, said_in};
use super::entry::{Entry, Said, each_of, entry_at};
use super::error::RecordError;
use super::timeline::EntryLine;
use super::trace::{Counts, Trace};
use super::view::{ClientStanding, Standing, TaskView};

/// Of whom somebody may be told, by the names in entries.
#[derive(Clone, Copy)]
pub struct Sees<'a> {
    /// Whether of this owner.
    pub owner: &'a dyn Fn(&str) -> bool,
    /// Whether of this workload.
    pub workload: &'a dyn Fn(&str) -> bool,
}

impl Sees<'_> {
    /// Whether what an entry names may be told; none where it names neither an owner nor a workload.
    fn told(self, entry: &Entry) -> Option<bool> {
        let Said::Note(data) = &entry.said else {
            return None;
        };
        let name = |member: &str| data.get(member).and_then(Value::as_str);
        let owner = name("owner").map(self.owner);
        let workload = name("workload").map(self.workload);
        match (owner, workload) {
            (None, None) => None,
            (owner, workload) => Some(owner.unwrap_or(true) && workload.unwrap_or(true)),
        }
    }
}

/// Withholds from a trace the entries about what somebody may not be told of, and their words wherever
/// an end repeats them. An end may name the entry of another's workload, whose child it was
/// (docs/decisions/0064); where it cannot be told whose an entry is, its words are withheld.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn withhold(
    store: &dyn Store,
    tenant: &Name,
    sees: Sees<'_>,
    trace: &mut Trace,
) -> Result<(), RecordError> {
    let tasks: Vec<TaskId> = trace.tasks.iter().map(|task| task.task).collect();
    let withheld = Withheld::of(store, tenant, sees, &tasks, &trace.timeline)?;
    let mut lines = Vec::with_capacity(trace.timeline.len());
    for mut line in std::mem::take(&mut trace.timeline) {
        let own = match entry_at(store, tenant, line.pos)? {
            Some(entry) => entry.task.is_some() || sees.told(&entry) != Some(false),
            None => false,
        };
        if own && !withheld.0.contains_key(&line.pos) {
            if line
                .said_in
                .is_some_and(|pos| withheld.0.contains_key(&pos))
            {
                line.note = EndNote::default();
                line.said_in = None;
            }
            lines.push(line);
        }
    }
    trace.timeline = lines;
    for task in &mut trace.tasks {
        withheld.silence(task);
    }
    let Counts {
        live,
        pending,
        over,
        ended,
        more,
    } = trace.counts;
    // Why one ended that is not shown cannot be told.
    let shown = u64::try_from(tasks.len()).unwrap_or(u64::MAX);
    let all = !more && live + pending + over + ended == shown;
    let verdict = &mut trace.verdict;
    if let Some(unsaid) = verdict
        .unsaid
        .take_if(|unsaid| !all || withheld.says(&unsaid.reason))
    {
        verdict.line = unsaid.line;
    }
    Ok(())
}

/// The same of a task alone.
///
/// # Errors
/// As [`withhold`].
pub fn withhold_of_task(
    store: &dyn Store,
    tenant: &Name,
    sees: Sees<'_>,
    task: &mut TaskView,
) -> Result<(), RecordError> {
    Withheld::of(store, tenant, sees, &[task.task], &[])?.silence(task);
    Ok(())
}

/// The entries that ends name and that are not told, with what they say.
struct Withheld(BTreeMap<u64, EndNote>);

impl Withheld {
    fn of(
        store: &dyn Store,
        tenant: &Name,
        sees: Sees<'_>,
        tasks: &[TaskId],
        lines: &[EntryLine],
    ) -> Result<Self, RecordError> {
        // What of a task is shown may be cut short, and what its clients say is not.
        let mut named: Vec<u64> = lines.iter().filter_map(|line| line.said_in).collect();
        for task in tasks {
            each_of(store, tenant, *task, |stored| {
                named.extend(said_in(&Entry::read(stored)?));
                Ok(())
            })?;
        }
        let mut withheld = BTreeMap::new();
        named.sort_unstable();
        named.dedup();
        for pos in named {
            let entry = entry_at(store, tenant, pos)?;
            if entry.as_ref().and_then(|entry| sees.told(entry)) != Some(true) {
                let note = entry.map(|entry| EndNote::of(store, tenant, &entry));
                withheld.insert(pos, note.transpose()?.unwrap_or_default());
            }
        }
        Ok(Self(withheld))
    }

    fn says(&self, reason: &str) -> bool {
        let mut notes = self.0.values();
        notes.any(|note| note.reason.as_deref() == Some(reason))
    }

    /// Takes from the ends of a task and its clients what they only repeat.
    fn silence(&self, task: &mut TaskView) {
        let silence = |note: &mut EndNote| {
            if self.0.values().any(|withheld| withheld == note) {
                *note = EndNote::default();
            }
        };
        if let Standing::Ended { note, .. } = &mut task.standing {
            silence(note);
        }
        for client in &mut task.clients {
            if let ClientStanding::Ended { note, .. } = &mut client.standing {
                silence(note);
            }
        }
    }
}

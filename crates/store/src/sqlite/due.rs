//! Which open tasks the sweep should look at, found without looking at all of them each time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use dayfly_domain::{TaskId, Time};

use super::hearing::Hearing;
use super::view::{Held, Published, TenantView, lock};
use dayfly_domain::Name;

/// How many tasks are compared with the epochs under one hold of the lock.
const SCAN: usize = 10_000;

/// Open tasks by when they are due at the earliest.
///
/// A task is due later with every beat, which is not followed here: one that comes up too early is
/// listed anew. What makes it due earlier (a change, a first beat) is followed at once. So nothing
/// is ever listed too late.
#[derive(Debug, Default)]
pub(super) struct Due {
    by_time: BTreeSet<(Time, TaskId)>,
    /// Those that rely on an epoch that has moved, or whose delegated clients do.
    stale: BTreeSet<TaskId>,
    /// From where on open tasks are still to be compared with the epochs, after one has moved.
    compare: Option<TaskId>,
    /// What came due by the time that was asked for last, for the pages that follow the first one.
    page: Option<Paged>,
}

/// The ids that are listed up to a time, in their order. What is no longer due stays in it and is
/// passed over; what is listed anew up to that time has it made again.
#[derive(Debug)]
struct Paged {
    now: Time,
    ids: Vec<TaskId>,
}

impl Due {
    /// Lists a task that opened, changed or was heard for the first time.
    pub(super) fn list(&mut self, id: TaskId, held: &Held, hearing: &Hearing) {
        let due = held.next_due(hearing);
        self.unlist(id, held);
        held.listed.store(due.millis(), Ordering::Relaxed);
        self.by_time.insert((due, id));
        if self.page.as_ref().is_some_and(|page| due <= page.now) {
            self.page = None;
        }
    }

    /// Takes off what [`list`](Self::list) put on for this state of the task.
    pub(super) fn unlist(&mut self, id: TaskId, held: &Held) {
        let listed = Time::from_millis(held.listed.load(Ordering::Relaxed));
        self.by_time.remove(&(listed, id));
    }

    /// Forgets that a task is stale: it has ended, or what lost its rights below it has.
    pub(super) fn forget(&mut self, id: TaskId) {
        self.stale.remove(&id);
    }

    /// Notes a task that relies on a moved epoch.
    pub(super) fn mark_stale(&mut self, id: TaskId) {
        self.stale.insert(id);
    }

    /// The ids that are listed up to a time, in their order, from the first one after `cursor` on.
    /// A hundred thousand may come due in one second: they are gathered once, and not for each page.
    fn listed(&mut self, now: Time, cursor: Option<TaskId>) -> &[TaskId] {
        let by_time = &self.by_time;
        if self.page.as_ref().is_some_and(|page| page.now != now) {
            self.page = None;
        }
        let page = self.page.get_or_insert_with(|| {
            let listed = by_time.range(..=(now, TaskId([u8::MAX; 16])));
            let mut ids: Vec<TaskId> = listed.map(|(_, id)| *id).collect();
            ids.sort_unstable();
            Paged { now, ids }
        });
        let from = cursor.map_or(0, |cursor| page.ids.partition_point(|id| *id <= cursor));
        page.ids.get(from..).unwrap_or_default()
    }

    /// Has all open tasks compared with the epochs, because one has moved.
    pub(super) fn compare_all(&mut self) {
        self.compare = Some(TaskId([0; 16]));
    }
}

#[cfg(test)]
impl Due {
    /// How many tasks are listed.
    pub(super) fn len(&self) -> usize {
        self.by_time.len() + self.stale.len()
    }
}

/// Finds which tasks rely on epochs that have moved, a part at a time, so that the writer never
/// waits long for the view.
pub(super) fn compare_epochs(published: &Published, tenant: &Name) {
    loop {
        let view = published.read();
        let Some((_, tenant)) = view.tenant(tenant) else {
            return;
        };
        let mut due = lock(&tenant.due);
        let Some(from) = due.compare else { return };
        let mut next = tenant.open.range(from..);
        for (id, held) in next.by_ref().take(SCAN) {
            if held.relied.any_lost(&tenant.epochs, &tenant.people) {
                due.stale.insert(*id);
            }
        }
        due.compare = next.next().map(|(id, _)| *id);
    }
}

/// The ids after `cursor` of tasks that are due at `now`, in order, `limit` at most.
pub(super) fn due_ids(
    tenant: &TenantView,
    now: Time,
    cursor: Option<TaskId>,
    limit: usize,
) -> Vec<TaskId> {
    let hearing = lock(&tenant.hearing);
    let mut due = lock(&tenant.due);
    // Rights taken away may concern every open task: only a page of them is looked at.
    let after = cursor.map_or(Bound::Unbounded, Bound::Excluded);
    let stale = due.stale.range((after, Bound::Unbounded));
    let mut found: Vec<TaskId> = stale.take(limit).copied().collect();
    let mut early = Vec::new();
    let mut many = 0;
    for id in due.listed(now, cursor) {
        // One that ended since is in no list any more.
        let Some(held) = tenant.open.get(id) else {
            continue;
        };
        if held.next_due(&hearing) > now {
            early.push((*id, held));
            continue;
        }
        found.push(*id);
        many += 1;
        if many == limit {
            break;
        }
    }
    for (id, held) in early {
        due.list(id, held, &hearing);
    }
    if found.is_empty() {
        due.page = None;
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(limit);
    found
}

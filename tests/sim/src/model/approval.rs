//! What waits for people, as the model knows it: who may approve, and what may be fetched.

use std::collections::BTreeSet;

use dayfly_domain::{Span, TaskId, Time};

use super::workloads::{OWNERS, WITHIN, WORKLOADS};
use super::{Login, Model, Task, WINDOW};
use crate::world::Run;

/// How long what was approved may be fetched.
const FETCH: Span = Span::from_seconds(300);

/// A request that waits, or was approved and not fetched.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Who approved.
    pub(super) given: BTreeSet<usize>,
    /// When the last of those who must had.
    pub(crate) approved: Option<Time>,
}

impl Model {
    /// A request is taken down: it takes the place of a task.
    pub(crate) fn request(&mut self, id: TaskId, workload: usize, run: Run, person: Option<Login>) {
        let task = Task {
            deadline: self.now + WITHIN,
            pending: Some(Pending {
                given: BTreeSet::new(),
                approved: None,
            }),
            ..Task::new(workload, run, person, self.now)
        };
        self.open(id, task);
    }

    /// What waits under this id; none where it is over or was fetched.
    pub(crate) fn pending(&self, id: TaskId) -> Option<&Pending> {
        let task = &self.tasks[&id];
        task.pending.as_ref().filter(|_| !self.is_over(task))
    }

    /// Whether somebody who has just logged in may say yes or no to what a workload asks for.
    pub(crate) fn is_asked(&self, id: TaskId, who: usize) -> bool {
        self.members(id).contains(&who) && !self.is_out(Login::now(who, self.now))
    }

    /// The members of the owner of a task.
    pub(crate) fn members(&self, id: TaskId) -> &'static [usize] {
        let owner = WORKLOADS[self.tasks[&id].workload].owner;
        let found = OWNERS.iter().find(|(name, _)| *name == owner);
        found.map_or(&[], |(_, members)| *members)
    }

    /// Whether somebody may approve: a member of the owner, once, and not who asks.
    pub(crate) fn may_approve(&self, id: TaskId, who: usize) -> bool {
        let asks = self.tasks[&id].person.is_some_and(|login| login.who == who);
        let wanted = self
            .pending(id)
            .is_some_and(|pending| pending.approved.is_none() && !pending.given.contains(&who));
        wanted && !asks && self.is_asked(id, who)
    }

    /// Somebody approves. Once enough people have, it is to be fetched soon.
    pub(crate) fn approve(&mut self, id: TaskId, who: usize, people: usize) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else {
            panic!("an approval of nothing");
        };
        let Some(pending) = &mut task.pending else {
            panic!("an approval of what does not wait");
        };
        pending.given.insert(who);
        if pending.given.len() >= people {
            pending.approved = Some(now);
            task.deadline = now + FETCH;
        }
    }

    /// Whether enough people have approved, of whom one is out by now: then it is over as soon as
    /// somebody wants to fetch it.
    pub(crate) fn is_unapproved(&self, id: TaskId) -> bool {
        let pending = self.pending(id);
        pending.is_some_and(|pending| {
            let out = &self.words.out;
            pending.approved.is_some() && pending.given.iter().any(|who| out.contains_key(who))
        })
    }

    /// Whether it may be fetched: what would keep a new run out keeps this one out.
    pub(crate) fn may_fetch(&self, id: TaskId) -> bool {
        let approved = self.pending(id).is_some_and(|it| it.approved.is_some());
        approved && !self.is_unapproved(id) && !self.is_kept_out(id)
    }

    /// Whether whoever asks for what a task is for would be kept out by now.
    pub(crate) fn is_kept_out(&self, id: TaskId) -> bool {
        let task = &self.tasks[&id];
        self.is_stopped(task.workload, task.run) || self.is_for_nobody(task.person)
    }

    /// It is fetched, which opens it. Its window counts from the approval.
    pub(crate) fn fetch(&mut self, id: TaskId, key: usize) {
        let Some(task) = self.tasks.get_mut(&id) else {
            panic!("nothing is fetched");
        };
        let approved = task.pending.take().and_then(|pending| pending.approved);
        let Some(approved) = approved else {
            panic!("what was not approved is fetched");
        };
        task.deadline = approved + WINDOW;
        self.join(id, Some(key));
    }
}

//! What a batch has changed of a tenant so far: seen by its later appends, published after commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dayfly_domain::{Blocks, Counts, Digest, Epoch, EpochOf, Name, TaskId, Time};
use dayfly_ledger::TileWriter;

use super::people::{Known, People};
use super::tally::Tally;
use super::view::{Epochs, Held, TenantView, lock};

/// One tenant's state after the appends of the batch so far. What is large is looked up in the
/// view behind it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Name,
    /// Whether the tenant is first written to in this batch.
    pub(super) is_new: bool,
    pub(super) tree: TileWriter,
    pub(super) at: Time,
    /// Tasks that changed; none is one that ended.
    pub(super) tasks: BTreeMap<TaskId, Option<Arc<Held>>>,
    pub(super) epochs: Arc<Epochs>,
    /// People of whom something was said.
    pub(super) people: HashMap<Digest, Known>,
    /// Whether an epoch has moved.
    pub(super) moved: bool,
    /// Whether annexes were erased.
    pub(super) erased: bool,
    pub(super) revision: u64,
    pub(super) blocks: Blocks,
    /// Counts that changed.
    pub(super) tallies: HashMap<Name, Tally>,
    /// Uses counted, by task, client and name.
    pub(super) counters: HashMap<TaskId, HashMap<(u32, String), u64>>,
}

/// What is known of people by a draft and the view behind it.
pub(super) struct DraftedPeople<'a>(pub(super) &'a Draft, pub(super) Option<&'a TenantView>);

impl People for DraftedPeople<'_> {
    fn upto(&self, person: &Digest) -> u64 {
        self.0.person(person, self.1).map_or(0, |known| known.upto)
    }
}

impl Draft {
    /// Begins where the view stands; from nothing for a tenant that is new.
    pub(super) fn new(name: &Name, view: Option<&TenantView>) -> Self {
        let empty;
        let from = match view {
            Some(view) => view,
            None => {
                empty = TenantView::default();
                &empty
            }
        };
        Self {
            name: name.clone(),
            is_new: view.is_none(),
            tree: from.tree.clone(),
            at: from.at,
            tasks: BTreeMap::new(),
            epochs: Arc::clone(&from.epochs),
            people: HashMap::new(),
            moved: false,
            erased: false,
            revision: from.revision,
            blocks: from.blocks.clone(),
            tallies: HashMap::new(),
            counters: HashMap::new(),
        }
    }

    /// The open task, if it is open.
    pub(super) fn task(&self, id: TaskId, view: Option<&TenantView>) -> Option<Arc<Held>> {
        match self.tasks.get(&id) {
            Some(changed) => changed.clone(),
            None => view?.open.get(&id).cloned(),
        }
    }

    /// What is known of a person.
    pub(super) fn person(&self, person: &Digest, view: Option<&TenantView>) -> Option<Known> {
        let drafted = self.people.get(person).copied();
        drafted.or_else(|| view?.people.get(person))
    }

    /// The first of these that is lost by now.
    pub(super) fn moved_since(
        &self,
        relies: &[Epoch],
        view: Option<&TenantView>,
    ) -> Option<EpochOf> {
        let people = DraftedPeople(self, view);
        let present = |epoch: &Epoch| match epoch.person() {
            Some(person) => people.upto(&person),
            None => self.epochs.value(&epoch.of),
        };
        let mut relies = relies.iter();
        let lost = relies.find(|epoch| epoch.is_lost(present(epoch)));
        lost.map(|epoch| epoch.of.clone())
    }

    pub(super) fn counts(&self, workload: &Name, view: Option<&TenantView>, now: Time) -> Counts {
        self.tallies
            .get(workload)
            .or_else(|| view?.tallies.get(workload))
            .map_or_else(Counts::default, |tally| tally.counts(now))
    }

    pub(super) fn tally(&mut self, workload: &Name, view: Option<&TenantView>) -> &mut Tally {
        self.tallies.entry(workload.clone()).or_insert_with(|| {
            view.and_then(|view| view.tallies.get(workload))
                .cloned()
                .unwrap_or_default()
        })
    }

    /// Makes the draft the committed state; answers what it replaced, to be dropped without the
    /// lock.
    pub(super) fn publish(self, view: &mut TenantView) -> Vec<Arc<Held>> {
        let hearing = lock(&view.hearing);
        let mut due = lock(&view.due);
        view.tree = self.tree;
        view.at = self.at;
        view.epochs = self.epochs;
        view.people.extend(self.people);
        view.revision = self.revision;
        view.blocks = self.blocks;
        view.tallies.extend(self.tallies);
        let mut replaced = Vec::with_capacity(self.tasks.len());
        for (id, change) in self.tasks {
            let old = match change {
                Some(new) => {
                    let old = view.open.insert(id, Arc::clone(&new));
                    if let Some(old) = &old {
                        // A beat that came while the change was under way.
                        old.last_seen().map(|seen| new.hear(seen));
                        due.unlist(id, old);
                    }
                    due.list(id, &new, &hearing);
                    if new.relied.any_lost(&view.epochs, &view.people) {
                        due.mark_stale(id);
                    } else {
                        due.forget(id);
                    }
                    old
                }
                None => {
                    let old = view.open.remove(&id);
                    if let Some(old) = &old {
                        due.unlist(id, old);
                    }
                    due.forget(id);
                    old
                }
            };
            replaced.extend(old);
        }
        if self.moved {
            due.compare_all();
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::relied::Relied;
    use dayfly_ledger::Hash;

    #[test]
    fn what_ends_is_listed_no_longer() {
        let mut view = TenantView::default();
        let id = TaskId([1; 16]);
        let held = |deadline| Held {
            row: 1,
            version: 1,
            hash: Hash([0; 32]),
            deadline: Time::from_seconds(deadline),
            grace: None,
            linger: None,
            relied: Relied {
                counted: [(0, 0)].into(),
                ..Relied::default()
            },
            seen: 0.into(),
            listed: 0.into(),
            snapshot: [].into(),
        };
        let mut publish = |change: Option<Held>| {
            let mut draft = Draft::new(&"acme".parse().unwrap(), Some(&view));
            // An epoch that the task relies on has moved.
            Arc::make_mut(&mut draft.epochs).set(&EpochOf::Tenant, 1);
            draft.tasks.insert(id, change.map(Arc::new));
            draft.publish(&mut view);
            lock(&view.due).len()
        };
        // Once by its time and once as stale, however often it changes.
        assert_eq!(publish(Some(held(9))), 2);
        assert_eq!(publish(Some(held(8))), 2);
        assert_eq!(publish(None), 0);
    }
}

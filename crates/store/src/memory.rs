//! The in-memory backend: plain maps, no durability, and faults on demand.

mod ledger;
mod touched;
mod used;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Epoch, Name, TaskId};
use dayfly_ledger::Hash;

use crate::clock::{Clock, Reading};
use crate::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Observed, OpenFilter,
    OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead, Unavailable, Use,
};
use ledger::Ledger;

/// What goes wrong with the next append or observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything is written: the caller is told `Unavailable`.
    BeforeWrite,
    /// The commit fails and nothing is kept: the caller is told `Unknown`.
    Lost,
    /// The commit fails and yet all is kept: the caller is told `Unknown`.
    Kept,
}

/// A store in memory. What its contract calls durable outlives [`MemoryStore::crash`] and nothing
/// else does.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    world: Mutex<World>,
}

#[derive(Default)]
struct World {
    tenants: BTreeMap<Name, Ledger>,
    faults: Vec<Fault>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            world: Mutex::default(),
        }
    }

    /// Makes the next appends and observations fail, each in its way.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.extend(faults);
    }

    /// Makes nothing fail any more.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// Falls over and comes back with what was durable.
    pub fn crash(&self) {
        self.world()
            .tenants
            .values_mut()
            .for_each(Ledger::forget_unsaved);
    }

    /// Saves what was touched, as a store that is closed does.
    pub fn save(&self) {
        self.world().tenants.values_mut().for_each(Ledger::save);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        tenant: &Name,
        change: impl FnOnce(&mut Ledger) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let why = || Unavailable("a fault was asked for".into());
        let mut world = self.world();
        let fault = if world.faults.is_empty() {
            None
        } else {
            Some(world.faults.remove(0))
        };
        if fault == Some(Fault::BeforeWrite) {
            return Err(AppendError::Unavailable(why()));
        }
        let now = Reading::of(self.clock.as_ref());
        let ledger = world
            .tenants
            .entry(tenant.clone())
            .or_insert_with(|| Ledger::new(tenant));
        if fault == Some(Fault::Lost) {
            // A copy that is dropped again: whatever would have been refused still is.
            let mut copy = ledger.clone();
            return change(&mut copy).and(Err(AppendError::Unknown(why())));
        }
        let done = change(ledger)?;
        ledger.save();
        ledger.forget_passed(now);
        match fault {
            Some(Fault::Kept) => Err(AppendError::Unknown(why())),
            Some(Fault::BeforeWrite | Fault::Lost) | None => Ok(done),
        }
    }

    fn read<T>(&self, tenant: &Name, read: impl FnOnce(&Ledger) -> T) -> T {
        match self.world().tenants.get(tenant) {
            Some(ledger) => read(ledger),
            None => read(&Ledger::new(tenant)),
        }
    }
}

impl Store for MemoryStore {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        Box::pin(ready(self.change(tenant, |ledger| ledger.append(append))))
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        Box::pin(ready(self.change(tenant, |ledger| ledger.observe(&uses))))
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        if let Some(ledger) = self.world().tenants.get_mut(tenant) {
            ledger.touch(touch);
        }
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        let now = self.clock.now();
        Ok(self.read(tenant, |ledger| Facts {
            tasks: query.tasks.iter().map(|id| ledger.open_task(*id)).collect(),
            standings: query
                .standings
                .iter()
                .map(|id| ledger.open_task(*id).map(|open| open.standing()))
                .collect(),
            claims: query
                .series
                .map_or_else(Vec::new, |(issuer, series)| ledger.claims(issuer, series)),
            closed: query
                .series
                .map_or_else(Vec::new, |(issuer, series)| ledger.closed(issuer, series)),
            spent: query.one_time.and_then(|key| ledger.spent(key)),
            person: query.person.and_then(|person| ledger.person(person)),
            counts: query
                .counts
                .map_or_else(Default::default, |workload| ledger.counts(workload, now)),
            epochs: query
                .epochs
                .iter()
                .map(|of| Epoch {
                    of: of.clone(),
                    at: ledger.epoch(of),
                })
                .collect(),
            blocks: ledger.blocks.clone(),
            revision: ledger.revision,
            documents: query
                .documents
                .map_or_else(Vec::new, |prefix| ledger.documents(prefix)),
        }))
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        Ok(self.read(tenant, |ledger| {
            ledger
                .tasks
                .keys()
                .filter(|id| cursor.is_none_or(|cursor| **id > cursor))
                .filter_map(|id| ledger.open_task(*id))
                .filter(|open| match filter {
                    OpenFilter::All => true,
                    OpenFilter::Due(now) => {
                        open.stale.is_some()
                            || !open.lost.is_empty()
                            || open.task.next_due(open.heard) <= *now
                    }
                })
                .take(limit)
                .collect()
        }))
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        Ok(self.read(tenant, |ledger| match range {
            EntryRange::From(first) => {
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                let entries = ledger.entries.iter().skip(first).take(limit);
                entries.map(|entry| entry.stored.clone()).collect()
            }
            EntryRange::Of(task, first) => ledger
                .chain(task)
                .filter(|entry| entry.link.is_some_and(|(_, seq)| seq >= first))
                .take(limit)
                .map(|entry| entry.stored.clone())
                .collect(),
        }))
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        Ok(self.read(tenant, |ledger| {
            ledger
                .entries
                .iter()
                .rev()
                .filter(|entry| cursor.is_none_or(|cursor| entry.stored.pos < cursor))
                .filter(|entry| ledger.keys_of(entry).contains(key))
                .take(limit)
                .map(|entry| entry.stored.pos)
                .collect()
        }))
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        Ok(self.read(tenant, Ledger::head))
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.read(tenant, |ledger| ledger.tile(level, index, width))
    }
}

//! The tasks that have something in common: every open one, and those that ended as far back as is looked.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Name, TaskId, Time};
use dayfly_store::{OpenFilter, SearchKey, Store};

use super::entry::entry_at;
use super::error::RecordError;
use super::named::{Named, Whom};
use super::reading::Reading;
use super::standing::Stands;
use super::task::{Found, load};
use super::view::Standing;

/// How many tasks are shown.
pub(super) const SHOWN: usize = 20;
/// How many ended tasks are read.
const READ: usize = 1000;
/// How many entries of one search key are looked at.
const LOOKED_AT: usize = 20_000;
const PAGE: usize = 512;

/// What was looked for.
pub(super) struct Search<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) tenant: &'a Name,
    pub(super) readings: &'a [Reading],
    pub(super) since: Option<Time>,
    pub(super) until: Option<Time>,
    pub(super) now: Time,
}

/// What was found. A task is counted as whom of it the key names stands.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// How many are live.
    pub(super) live: u64,
    /// How many wait for approval.
    pub(super) pending: u64,
    /// How many are over without a recorded end.
    pub(super) over: u64,
    /// How many have ended.
    pub(super) ended: u64,
    /// Whether there are more that were not looked at.
    pub(super) more: bool,
    /// When the last of the live ones is over by itself.
    pub(super) live_until: Time,
    /// The last end, and how.
    pub(super) last_end: Option<(Time, Stands)>,
    /// The latest possible acceptance of those that are not live.
    pub(super) last_acceptance: Option<Time>,
    /// Which readings found something.
    pub(super) read_as: Vec<String>,
    /// The newest: the open ones first.
    pub(super) shown: Vec<Named>,
    /// How many that have ended were read.
    read: usize,
    /// Whose end the last end is.
    ended_last: Option<(TaskId, Whom)>,
}

impl Search<'_> {
    /// Finds all open tasks, then the newest of those that ended.
    pub(super) fn run(&self) -> Result<Gathered, RecordError> {
        let mut gathered = Gathered::default();
        let mut seen = BTreeSet::new();
        let mut open = Newest::default();
        self.open_ones(&mut gathered, &mut seen, &mut open)?;
        let mut ended = Newest::default();
        for reading in self.readings {
            self.indexed_ones(reading, &mut gathered, &mut seen, (&mut open, &mut ended))?;
        }
        for (found, whom) in open.newest_first().chain(ended.newest_first()).take(SHOWN) {
            let found = found.with_ends(self.store, self.tenant)?;
            gathered.shown.push(Named::of(&found, &whom));
        }
        self.tell_last_end(&mut gathered)?;
        Ok(gathered)
    }

    /// Reads by whom and why the last end was made: of clients of a task that goes on only its entries
    /// say it.
    fn tell_last_end(&self, gathered: &mut Gathered) -> Result<(), RecordError> {
        if let Some((id, whom @ Whom::Clients(_))) = &gathered.ended_last
            && let Some((_, stands)) = &mut gathered.last_end
            && let Some(found) = load(self.store, self.tenant, *id)?
        {
            let found = found.with_ends(self.store, self.tenant)?;
            *stands = Named::of(&found, whom).stands(self.now);
        }
        Ok(())
    }

    fn open_ones(
        &self,
        gathered: &mut Gathered,
        seen: &mut BTreeSet<TaskId>,
        newest: &mut Newest,
    ) -> Result<(), RecordError> {
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(self.tenant, &OpenFilter::All, cursor, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            cursor = Some(last.task.id);
            for open in page {
                let mut whom: Option<Whom> = None;
                for reading in self.readings {
                    if let Some(named) = reading.names(&open.task) {
                        gathered.note(reading);
                        whom = Some(match whom {
                            Some(others) => others.and(named),
                            None => named,
                        });
                    }
                }
                if let Some(whom) = whom
                    && seen.insert(open.task.id)
                {
                    let found = Found::from(open);
                    let named = Named::of(&found, &whom);
                    if self.within(&named) {
                        gathered.count(&named, &whom, self.now);
                        newest.add(found, whom);
                    }
                }
            }
        }
    }

    fn indexed_ones(
        &self,
        reading: &Reading,
        gathered: &mut Gathered,
        seen: &mut BTreeSet<TaskId>,
        (open, ended): (&mut Newest, &mut Newest),
    ) -> Result<(), RecordError> {
        if reading.is_last_resort() && gathered.is_other_than(reading) {
            return Ok(());
        }
        for key in reading.search_keys() {
            let sighted = self.tasks_under((reading, &key), seen, &mut gathered.more)?;
            for (id, whom) in sighted {
                if gathered.read >= READ {
                    gathered.more = true;
                    return Ok(());
                }
                let Some(found) = load(self.store, self.tenant, id)? else {
                    continue;
                };
                let names = || whom.is_some() || reading.names(&found.task).is_some();
                if reading.narrows() && !names() {
                    continue;
                }
                seen.insert(id);
                gathered.note(reading);
                let whom = self.whom(&found, whom);
                let named = Named::of(&found, &whom);
                if !self.within(&named) {
                    continue;
                }
                gathered.count(&named, &whom, self.now);
                match named.task.standing {
                    Standing::Open { .. } | Standing::Pending { .. } => open.add(found, whom),
                    Standing::Ended { .. } => {
                        gathered.read += 1;
                        ended.add(found, whom);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whom of a task that the index knows the key names: the task, where neither its state nor the
    /// entries say whom. One that nobody came into, because people denied it, has no clients to name.
    fn whom(&self, found: &Found, entries: Option<Whom>) -> Whom {
        let named = Whom::of(&found.task, self.readings);
        let whom = [named, entries].into_iter().flatten().reduce(Whom::and);
        match whom {
            Some(Whom::Clients(of)) if of.iter().any(|of| found.task.client(*of).is_some()) => {
                Whom::Clients(of)
            }
            Some(_) | None => Whom::Task,
        }
    }

    /// The tasks of the entries under a search key that were not seen yet, the newest first, with whom
    /// of them the entries name.
    fn tasks_under(
        &self,
        (reading, key): (&Reading, &SearchKey),
        seen: &BTreeSet<TaskId>,
        more: &mut bool,
    ) -> Result<Vec<(TaskId, Option<Whom>)>, RecordError> {
        let mut ids: Vec<(TaskId, Option<Whom>)> = Vec::new();
        let mut known: BTreeMap<TaskId, usize> = BTreeMap::new();
        let mut cursor = None;
        let mut looked_at = 0;
        loop {
            let page = self.store.find(self.tenant, key, cursor, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(ids);
            };
            cursor = Some(*last);
            for pos in &page {
                let entry = entry_at(self.store, self.tenant, *pos)?;
                let Some(entry) = entry else { continue };
                let Some(id) = entry.about().filter(|id| !seen.contains(id)) else {
                    continue;
                };
                let place = *known.entry(id).or_insert(ids.len());
                let whom = reading.names_in(&entry);
                match ids.get_mut(place) {
                    Some((_, others)) => {
                        *others = [others.take(), whom]
                            .into_iter()
                            .flatten()
                            .reduce(Whom::and);
                    }
                    None => ids.push((id, whom)),
                }
            }
            looked_at += page.len();
            if looked_at >= LOOKED_AT || ids.len() > READ {
                *more = true;
                return Ok(ids);
            }
        }
    }

    /// Whether a task was open, and somebody whom the key names not over, at some time of the window
    /// asked for.
    fn within(&self, named: &Named) -> bool {
        let ended = match named.stands(self.now) {
            Stands::Live { .. } | Stands::Pending { .. } => None,
            Stands::Over { at, .. } => at,
            Stands::Ended { at, .. } | Stands::Expired { at } => Some(at),
        };
        self.until.is_none_or(|until| named.task.opened <= until)
            && self
                .since
                .is_none_or(|since| ended.is_none_or(|at| at >= since))
    }
}

impl Gathered {
    /// Whether the key was something else than this.
    fn is_other_than(&self, reading: &Reading) -> bool {
        let what = reading.what();
        self.read_as.iter().any(|other| *other != what)
    }

    fn note(&mut self, reading: &Reading) {
        let what = reading.what();
        if !self.read_as.contains(&what) {
            self.read_as.push(what);
        }
    }

    fn count(&mut self, named: &Named, whom: &Whom, now: Time) {
        let stands = named.stands(now);
        let end = match &stands {
            Stands::Live { until } => {
                self.live += 1;
                self.live_until = self.live_until.max(*until);
                return;
            }
            Stands::Pending { .. } => {
                self.pending += 1;
                return;
            }
            Stands::Over { at, .. } => {
                self.over += 1;
                *at
            }
            Stands::Ended { at, .. } | Stands::Expired { at } => {
                self.ended += 1;
                Some(*at)
            }
        };
        self.last_acceptance = self.last_acceptance.max(named.last_acceptance).max(end);
        if let Some(at) = end
            && self.last_end.as_ref().is_none_or(|(last, _)| at > *last)
        {
            self.last_end = Some((at, stands));
            self.ended_last = Some((named.task.task, whom.clone()));
        }
    }

    /// How many there are.
    pub(super) const fn all(&self) -> u64 {
        self.live + self.pending + self.over + self.ended
    }
}

/// The newest few of many tasks, by the order of their ids, which is that of time.
#[derive(Debug, Default)]
struct Newest(BTreeMap<TaskId, (Found, Whom)>);

impl Newest {
    fn add(&mut self, found: Found, whom: Whom) {
        self.0.insert(found.task.id, (found, whom));
        if self.0.len() > SHOWN {
            self.0.pop_first();
        }
    }

    fn newest_first(self) -> impl Iterator<Item = (Found, Whom)> {
        self.0.into_values().rev()
    }
}

//! The tasks that have something in common: every open one, and those that ended as far back as is looked.

use std::collections::BTreeSet;

use dayfly_domain::{Name, TaskId, Time};
use dayfly_store::{OpenFilter, SearchKey, Store};

use super::entry::entry_at;
use super::error::RecordError;
use super::reading::Reading;
use super::standing::{self, Stands};
use super::task::{Found, load};
use super::view::{Standing, TaskView};

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

/// What was found.
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
    pub(super) shown: Vec<TaskView>,
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
        gathered.shown = open.into_views();
        gathered.shown.extend(ended.into_views());
        gathered.shown.truncate(SHOWN);
        Ok(gathered)
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
                let mut found = false;
                for reading in self
                    .readings
                    .iter()
                    .filter(|reading| reading.holds(&open.task))
                {
                    gathered.note(reading);
                    found = true;
                }
                if found && seen.insert(open.task.id) {
                    let view = Found::from(open).view();
                    if self.within(&view) {
                        gathered.count(&view, self.now);
                        newest.add(view);
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
        let ids = self.tasks_under(&reading.search_key(), seen, &mut gathered.more)?;
        for id in ids {
            if gathered.ended >= READ as u64 {
                gathered.more = true;
                return Ok(());
            }
            let Some(found) = load(self.store, self.tenant, id)? else {
                continue;
            };
            if reading.narrows() && !reading.holds(&found.task) {
                continue;
            }
            seen.insert(id);
            gathered.note(reading);
            let view = found.view();
            if !self.within(&view) {
                continue;
            }
            gathered.count(&view, self.now);
            match view.standing {
                Standing::Open { .. } | Standing::Pending { .. } => open.add(view),
                Standing::Ended { .. } => ended.add(view),
            }
        }
        Ok(())
    }

    /// The tasks of the entries under a search key that were not seen yet, the newest first.
    fn tasks_under(
        &self,
        key: &SearchKey,
        seen: &BTreeSet<TaskId>,
        more: &mut bool,
    ) -> Result<Vec<TaskId>, RecordError> {
        let mut ids = Vec::new();
        let mut known = BTreeSet::new();
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
                if let Some(id) = entry.and_then(|entry| entry.about())
                    && !seen.contains(&id)
                    && known.insert(id)
                {
                    ids.push(id);
                }
            }
            looked_at += page.len();
            if looked_at >= LOOKED_AT || ids.len() > READ {
                *more = true;
                return Ok(ids);
            }
        }
    }

    /// Whether a task was open at some time of the window asked for.
    fn within(&self, task: &TaskView) -> bool {
        let ended = match task.standing {
            Standing::Open { .. } | Standing::Pending { .. } => None,
            Standing::Ended { at, .. } => Some(at),
        };
        self.until.is_none_or(|until| task.opened <= until)
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

    fn count(&mut self, task: &TaskView, now: Time) {
        let stands = standing::of_task(task, now);
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
        self.last_acceptance = self
            .last_acceptance
            .max(task.last_possible_acceptance)
            .max(end);
        if let Some(at) = end
            && self.last_end.as_ref().is_none_or(|(last, _)| at > *last)
        {
            self.last_end = Some((at, stands));
        }
    }

    /// How many there are.
    pub(super) const fn all(&self) -> u64 {
        self.live + self.pending + self.over + self.ended
    }
}

/// The newest few of many tasks, by the order of their ids, which is that of time.
#[derive(Debug, Default)]
struct Newest(std::collections::BTreeMap<TaskId, TaskView>);

impl Newest {
    fn add(&mut self, view: TaskView) {
        self.0.insert(view.task, view);
        if self.0.len() > SHOWN {
            self.0.pop_first();
        }
    }

    fn into_views(self) -> Vec<TaskView> {
        self.0.into_values().rev().collect()
    }
}

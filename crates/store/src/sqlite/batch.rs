//! One transaction of many appends: each judged at its position, all durable together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dayfly_domain::{Name, Span, TaskId, Time};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::body::{Ready, ReadyUse};
use super::draft::Draft;
use super::judge::{Failure, Place};
use super::known::{Print, series_print};
use super::load::Keep;
use super::partition::{Partitions, claim_day, day};
use super::record::{Desk, forget_starts, write_seen};
use super::tally::minute;
use super::touch::Touched;
use super::value::{int, millis};
use super::view::{Published, TenantView, View, lock};
use crate::clock::Reading;
use crate::contract::{forgets_up_to, sure_after};
use crate::{AppendError, Committed, Observed, Unavailable};

/// What a caller asks of the writer, and where it waits for the answer.
#[derive(Debug)]
pub(super) enum Order {
    Append(Name, Box<Ready>, Waiter<Committed>),
    Observe(Name, Vec<ReadyUse>, Waiter<Vec<Observed>>),
}

pub(super) type Waiter<T> = oneshot::Sender<Result<T, AppendError>>;

/// An answer that waits for the commit.
pub(super) enum Reply {
    Append(Waiter<Committed>, Result<Committed, AppendError>),
    Observe(Waiter<Vec<Observed>>, Result<Vec<Observed>, AppendError>),
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Durable,
    /// Nothing of it was written.
    Undone(Unavailable),
    /// It may or may not have been written.
    Unknown(Unavailable),
}

/// A transaction under way.
pub(super) struct Batch<'w> {
    pub(super) db: &'w Connection,
    pub(super) published: &'w Published,
    pub(super) keep: &'w mut Keep,
    pub(super) partitions: Arc<Partitions>,
    pub(super) drafts: BTreeMap<u32, Draft>,
    new: HashMap<Name, u32>,
    commits: u64,
}

/// What a commit changes in memory.
pub(super) struct Outcome {
    partitions: Arc<Partitions>,
    drafts: BTreeMap<u32, Draft>,
    commits: u64,
    /// Which tenants' marks of life were saved, as of how many changes.
    heard: Vec<(u32, u64)>,
}

impl<'w> Batch<'w> {
    pub(super) fn begin(
        db: &'w Connection,
        published: &'w Published,
        keep: &'w mut Keep,
    ) -> rusqlite::Result<Self> {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // Of a batch before this one that was rolled back.
        keep.prints.clear();
        let view = published.read();
        Ok(Self {
            db,
            published,
            keep,
            partitions: Arc::clone(&view.partitions),
            drafts: BTreeMap::new(),
            new: HashMap::new(),
            commits: view.commits + 1,
        })
    }

    /// Judges and writes one order. After an error the transaction must be rolled back.
    pub(super) fn take(&mut self, order: Order) -> (Reply, rusqlite::Result<()>) {
        match order {
            Order::Append(tenant, append, waiter) => {
                let (answer, result) = settle(self.append(&tenant, *append));
                (Reply::Append(waiter, answer), result)
            }
            Order::Observe(tenant, uses, waiter) => {
                let (answer, result) = settle(self.observe(&tenant, &uses));
                (Reply::Observe(waiter, answer), result)
            }
        }
    }

    fn append(&mut self, tenant: &Name, ready: Ready) -> Result<Committed, Failure> {
        let view = { self.published }.read();
        let number = self.number(&view, tenant);
        let published = view.tenants.get(number as usize);
        let draft = self
            .drafts
            .entry(number)
            .or_insert_with(|| Draft::new(tenant, published));
        let judged = Place {
            db: self.db,
            tenant: number,
            draft,
            view: published,
            partitions: &self.partitions,
            all: &view,
            fresh: &self.keep.prints,
        }
        .judge(&ready)?;
        let mut desk = Desk {
            db: self.db,
            tenant: number,
            draft,
            view: published,
            partitions: &mut self.partitions,
            keep: self.keep,
        };
        if let Some((which, by)) = desk.spend(&ready.append.spends)? {
            return Err(AppendError::SpentKey { which, by }.into());
        }
        Ok(desk.record(ready, judged)?)
    }

    /// The number of a tenant, a new one where it has none.
    pub(super) fn number(&mut self, view: &View, tenant: &Name) -> u32 {
        if let Some(number) = view.numbers.get(tenant) {
            return *number;
        }
        // Not more tenants than numbers: each is a declared name.
        let next = u32::try_from(view.tenants.len() + self.new.len()).unwrap_or(u32::MAX);
        *self.new.entry(tenant.clone()).or_insert(next)
    }

    /// Writes what stands once a batch: touches, heads, what is over. The rest is the commit.
    pub(super) fn finish(mut self, touched: &Touched, now: Reading) -> rusqlite::Result<Outcome> {
        for (tenant, issuer, series, until) in touched.claims() {
            self.keep_claims((tenant, issuer, series), until, now.wall)?;
        }
        let view = { self.published }.read();
        let heard = self.write_heard(&view, touched)?;
        for (number, draft) in &mut self.drafts {
            Desk {
                db: self.db,
                tenant: *number,
                draft,
                view: view.tenants.get(*number as usize),
                partitions: &mut self.partitions,
                keep: self.keep,
            }
            .finish()?;
        }
        self.forget(&view, now)?;
        self.db
            .prepare_cached("UPDATE commits SET n = ?1")?
            .execute([int(self.commits)])?;
        Ok(Outcome {
            partitions: self.partitions,
            drafts: self.drafts,
            commits: self.commits,
            heard,
        })
    }

    /// Moves a series' claims, and what of it is closed, to the tables of a later day.
    fn keep_claims(
        &mut self,
        (tenant, issuer, series): (&Name, &Name, &str),
        until: Time,
        now: Time,
    ) -> rusqlite::Result<()> {
        let view = { self.published }.read();
        let Some((number, _)) = view.tenant(tenant) else {
            return Ok(());
        };
        let target = claim_day(until, now);
        let key = (number, issuer.as_str(), series);
        let print = series_print(number, issuer.as_str(), series);
        let older: Vec<u64> = self.partitions.claims_before(target).collect();
        for day in older {
            if !self.holds("claims", day, key)? {
                continue;
            }
            if !self.partitions.has_claims(target) {
                Arc::make_mut(&mut self.partitions).add_claims(self.db, target)?;
            }
            self.keep.prints.push(Print::Claim { day: target, print });
            // What is known of their tasks' ends may be forgotten earlier than they are: it goes along.
            let columns = self.partitions.claim_columns(day);
            self.move_rows(("claims", &columns), (day, target), key)?;
        }
        let older: Vec<u64> = self.partitions.closed_before(target).collect();
        for day in older {
            if !self.holds("closed", day, key)? {
                continue;
            }
            if !self.partitions.has_closed(target) {
                Arc::make_mut(&mut self.partitions).add_closed(self.db, target)?;
            }
            self.keep.prints.push(Print::Claim { day: target, print });
            self.move_rows(("closed", "*"), (day, target), key)?;
        }
        Ok(())
    }

    /// Whether a table holds rows of a series.
    fn holds(&self, table: &str, day: u64, series: (u32, &str, &str)) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(&format!(
                "SELECT 1 FROM {table}_{day} WHERE tenant = ?1 AND issuer = ?2 AND series = ?3 LIMIT 1"
            ))?
            .exists(series)
    }

    /// Moves the rows of a series from the table of one day to that of another. A row lies in one
    /// table only, so nothing is replaced that was newer.
    fn move_rows(
        &self,
        (table, columns): (&str, &str),
        (day, target): (u64, u64),
        series: (u32, &str, &str),
    ) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(&format!(
                "INSERT OR IGNORE INTO {table}_{target} SELECT {columns} FROM {table}_{day}
                 WHERE tenant = ?1 AND issuer = ?2 AND series = ?3"
            ))?
            .execute(series)?;
        self.db
            .prepare_cached(&format!(
                "DELETE FROM {table}_{day} WHERE tenant = ?1 AND issuer = ?2 AND series = ?3"
            ))?
            .execute(series)?;
        Ok(())
    }

    /// Saves beats and marks of life.
    fn write_heard(&self, view: &View, touched: &Touched) -> rusqlite::Result<Vec<(u32, u64)>> {
        for (tenant, id) in touched.beats() {
            let Some((number, known)) = view.tenant(tenant) else {
                continue;
            };
            let Some(held) = self.open(number, known, id) else {
                continue;
            };
            let heard = known.open.get(&id).and_then(|held| held.last_seen());
            if let Some(seen) = heard.max(held.last_seen()) {
                write_seen(self.db, held.row, seen)?;
            }
        }
        let mut saved = Vec::new();
        for (number, tenant) in (0u32..).zip(&view.tenants) {
            let hearing = lock(&tenant.hearing);
            if !hearing.is_unsaved() {
                continue;
            }
            self.db
                .prepare_cached("UPDATE tenants SET alive = ?2 WHERE id = ?1")?
                .execute((number, hearing.alive().map(millis)))?;
            self.db
                .prepare_cached("DELETE FROM deaf WHERE tenant = ?1")?
                .execute([number])?;
            for (since, until) in hearing.deaf() {
                self.db
                    .prepare_cached("INSERT INTO deaf (tenant, since, until) VALUES (?1, ?2, ?3)")?
                    .execute((number, millis(*since), millis(*until)))?;
            }
            saved.push((number, hearing.changes()));
        }
        Ok(saved)
    }

    fn open(&self, number: u32, known: &TenantView, id: TaskId) -> Option<Arc<super::view::Held>> {
        match self.drafts.get(&number) {
            Some(draft) => draft.task(id, Some(known)),
            None => known.open.get(&id).cloned(),
        }
    }

    /// Drops the tables of days that have passed by the clock and by the ledger, and have been for
    /// long enough: so that a clock gone wrong forgets nothing before an entry was made by it, nor
    /// where it is set right again.
    fn forget(&mut self, view: &View, now: Reading) -> rusqlite::Result<()> {
        let before = view.tenants.iter().map(|tenant| tenant.at);
        let last = before
            .chain(self.drafts.values().map(|draft| draft.at))
            .max();
        let passed = now.wall.min(last.unwrap_or_default());
        if let Some(day) = self.sure(day(passed), now.monotonic) {
            Arc::make_mut(&mut self.partitions).drop_before(self.db, day)?;
        }
        // Back as well, where the clock went back: they grow otherwise until it is where it was.
        if minute(passed) != self.keep.starts_forgotten {
            self.keep.starts_forgotten = minute(passed);
            forget_starts(self.db, passed)?;
        }
        Ok(())
    }

    /// The day up to which it is sure by now that all is over; none where nothing new is.
    fn sure(&mut self, passed: u64, monotonic: Span) -> Option<u64> {
        if passed <= self.partitions.forgotten {
            self.keep.over = None;
            return None;
        }
        let known = self.keep.over.filter(|(day, _)| *day <= passed);
        let (day, since) = known.unwrap_or((passed, monotonic));
        let forgotten = self.partitions.forgotten;
        let is_sure = monotonic >= since + sure_after(forgotten, day);
        // What lies beyond that day waits for a time of its own.
        self.keep.over = Some(if is_sure {
            (passed, monotonic)
        } else {
            (day, since)
        });
        is_sure.then(|| forgets_up_to(forgotten, day, self.partitions.first_kept()))
    }
}

impl Outcome {
    /// Whether annexes were erased.
    pub(super) fn erased(&self) -> bool {
        self.drafts.values().any(|draft| draft.erased)
    }

    /// Makes the batch visible, from now on, to every read.
    pub(super) fn publish(self, published: &Published, keep: &mut Keep) {
        for (number, draft) in &self.drafts {
            keep.count(*number, draft);
        }
        let mut replaced = Vec::new();
        published.change(|view| {
            view.commits = self.commits;
            if let Some(known) = &mut view.known {
                for print in &keep.prints {
                    known.add(*print);
                }
                if !Arc::ptr_eq(&view.partitions, &self.partitions) {
                    known.keep(&self.partitions);
                }
            }
            if !Arc::ptr_eq(&view.partitions, &self.partitions) {
                for tenant in &mut view.tenants {
                    tenant.people.keep(&self.partitions);
                }
            }
            view.partitions = self.partitions;
            for (number, draft) in self.drafts {
                if draft.is_new {
                    // INVARIANT: drafts go by number, so new tenants come in the order of theirs.
                    view.numbers.insert(draft.name.clone(), number);
                    view.tenants.push(TenantView::default());
                }
                if let Some(tenant) = view.tenant_mut(number) {
                    replaced.push(draft.publish(tenant));
                }
            }
            for (number, changes) in self.heard {
                if let Some(tenant) = view.tenant_mut(number) {
                    lock(&tenant.hearing).save(changes);
                }
            }
        });
        drop(replaced);
    }
}

impl Keep {
    /// Takes over what a draft counted.
    fn count(&mut self, tenant: u32, draft: &Draft) {
        for (task, counted) in &draft.counters {
            let counters = self.counters.entry((tenant, *task)).or_default();
            counters.extend(counted.iter().map(|(key, n)| (key.clone(), *n)));
        }
        for (task, change) in &draft.tasks {
            if change.is_none() {
                self.counters.remove(&(tenant, *task));
            }
        }
    }
}

impl Order {
    /// Whether others go first.
    pub(super) const fn yields(&self) -> bool {
        match self {
            Self::Append(_, ready, _) => ready.append.yields,
            Self::Observe(..) => false,
        }
    }

    /// The reply to an order that was not begun.
    pub(super) fn undone(self) -> Reply {
        let error = AppendError::Unavailable(Unavailable("the writer did not take it".into()));
        match self {
            Self::Append(_, _, waiter) => Reply::Append(waiter, Err(error)),
            Self::Observe(_, _, waiter) => Reply::Observe(waiter, Err(error)),
        }
    }
}

impl Reply {
    /// Answers, now that the fate of the transaction is known. What a loser lost against may be
    /// undone as well, so without a commit it gets no reason of its own.
    pub(super) fn send(self, fate: &Fate) {
        match self {
            Self::Append(waiter, result) => drop(waiter.send(fate.of(result))),
            Self::Observe(waiter, result) => drop(waiter.send(fate.of(result))),
        }
    }
}

impl Fate {
    fn of<T>(&self, result: Result<T, AppendError>) -> Result<T, AppendError> {
        match (self, result) {
            (Self::Durable, result) => result,
            (Self::Undone(why), _) | (Self::Unknown(why), Err(_)) => {
                Err(AppendError::Unavailable(why.clone()))
            }
            (Self::Unknown(why), Ok(_)) => Err(AppendError::Unknown(why.clone())),
        }
    }
}

/// Parts what a caller is told from whether the batch can go on.
fn settle<T>(result: Result<T, Failure>) -> (Result<T, AppendError>, rusqlite::Result<()>) {
    match result {
        Ok(done) => (Ok(done), Ok(())),
        Err(Failure::Refused(error)) => (Err(error), Ok(())),
        Err(Failure::Broken(error)) => {
            let why = Unavailable(error.to_string());
            (Err(AppendError::Unavailable(why)), Err(error))
        }
    }
}

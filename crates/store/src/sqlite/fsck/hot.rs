//! Compares the tables of what is open now with the tasks that the entries leave open.

use std::collections::BTreeSet;

use dayfly_domain::{ClaimState, Epoch, EpochOf, HeartbeatMode, Name, Task, TaskId};
use dayfly_ledger::Hash;
use rusqlite::{Connection, OptionalExtension, Row};

use super::FsckFailure;
use super::replay::Open;
use crate::NOBODY;
use crate::sqlite::load::{json, read_held};
use crate::sqlite::partition::Partitions;
use crate::sqlite::read::read_claim;
use crate::sqlite::relied::OnPerson;
use crate::sqlite::value::task;
use crate::sqlite::view::BELOW;

/// Checks all tables of a tenant that follow from its entries.
pub(super) fn check(db: &Connection, tenant: (u32, &Name), open: &Open) -> Result<(), FsckFailure> {
    let hot = Hot { db, tenant, open };
    hot.check_tasks()?;
    let partitions = Partitions::load(db)?;
    for day in partitions.claims() {
        hot.check_claims(&partitions, day)?;
    }
    for day in partitions.ended() {
        hot.check_ended(day)?;
    }
    for day in partitions.spent() {
        hot.check_spent(day)?;
    }
    hot.check_counters()
}

struct Hot<'a> {
    db: &'a Connection,
    tenant: (u32, &'a Name),
    open: &'a Open,
}

impl Hot<'_> {
    fn check_tasks(&self) -> Result<(), FsckFailure> {
        let mut seen = BTreeSet::new();
        let epochs = self.epochs()?;
        let mut tasks = self.db.prepare(
            "SELECT tenant, row, id, version, hash, deadline, grace, linger, relied, snapshot, workload
             FROM tasks WHERE tenant = ?1",
        )?;
        let mut rows = tasks.query([self.tenant.0])?;
        while let Some(row) = rows.next()? {
            let id = task(row, 2)?;
            let Some((wanted, last)) = self.open.get(&id) else {
                return Err(self.differs("tasks", id, "no open task", "one"));
            };
            if !seen.insert(id) {
                return Err(self.differs("tasks", id, "one row", "two"));
            }
            self.check_task(row, &epochs, wanted, *last)?;
        }
        match self.open.keys().find(|id| !seen.contains(*id)) {
            Some(id) => Err(self.differs("tasks", *id, "an open task", "none")),
            None => Ok(()),
        }
    }

    /// Compares a row with the task that the entries give, in all that is read without decoding it
    /// and in the snapshot itself.
    fn check_task(
        &self,
        row: &Row<'_>,
        epochs: &[EpochOf],
        wanted: &Task,
        last: Hash,
    ) -> Result<(), FsckFailure> {
        let held = read_held(row)?;
        let of = |number: u32| epochs.get((number & !BELOW) as usize).cloned();
        let relied = held.relied.counted.iter();
        let relied = relied.map(|(number, at)| (number & BELOW != 0, of(*number), *at));
        let on_person = |on: &OnPerson| (on.below, Some(EpochOf::Person(on.person)), on.at);
        let relied = relied.chain(held.relied.people.iter().map(on_person));
        let beside = (
            (held.version, held.hash, row.get::<_, String>(10)?),
            (held.deadline, held.grace, held.linger),
            relied.collect::<Vec<_>>(),
        );
        let watched = !matches!(wanted.heartbeat.mode, HeartbeatMode::Off);
        let grace = watched.then_some(wanted.heartbeat.grace);
        let linger = wanted.lingers_until().map(|(until, _)| until);
        let relies = |below: bool, epoch: &Epoch| (below, Some(epoch.of.clone()), epoch.at);
        let of_task = wanted.epochs.iter().map(|epoch| relies(false, epoch));
        let relies = of_task.chain(wanted.relied_below().map(|epoch| relies(true, epoch)));
        // People stand after what is counted.
        let mut relies: Vec<_> = relies.collect();
        relies.sort_by_key(|(_, of, _)| matches!(of, Some(EpochOf::Person(_))));
        let fits = (
            (wanted.version, last, wanted.workload.to_string()),
            (wanted.deadline, grace, linger),
            relies,
        );
        let differs = |wanted: String, got: String, id| Err(self.differs("tasks", id, wanted, got));
        if beside != fits {
            return differs(format!("{fits:?}"), format!("{beside:?}"), wanted.id);
        }
        match held.decode() {
            Ok(got) if got == *wanted => Ok(()),
            Ok(got) => differs(format!("{wanted:?}"), format!("{got:?}"), wanted.id),
            Err(why) => differs(format!("{wanted:?}"), why.0, wanted.id),
        }
    }

    /// The tenant's epochs, by their numbers.
    fn epochs(&self) -> rusqlite::Result<Vec<EpochOf>> {
        self.db
            .prepare("SELECT of FROM epochs WHERE tenant = ?1 ORDER BY id")?
            .query_map([self.tenant.0], |row| json(row, 0))?
            .collect()
    }

    /// An open claim is that of an open task, under that task's own key, and an ended one is not.
    fn check_claims(&self, partitions: &Partitions, day: u64) -> Result<(), FsckFailure> {
        let columns = partitions.claim_columns(day);
        let mut claims = self.db.prepare(&format!(
            "SELECT {day}, key, workload, attempt, task, cause, deadline, series
             FROM (SELECT {columns} FROM claims_{day} WHERE tenant = ?1)"
        ))?;
        let mut rows = claims.query([self.tenant.0])?;
        while let Some(row) = rows.next()? {
            let claim = read_claim(row)?;
            let series: String = row.get(7)?;
            let task = self.open.get(&claim.task).map(|(task, _)| task);
            let of_task = task.filter(|task| {
                task.key == claim.key && task.workload == claim.workload && task.series == series
            });
            match (claim.state, task.is_some(), of_task.is_some()) {
                (ClaimState::Open, _, true) | (ClaimState::Ended { .. }, false, _) => {}
                (ClaimState::Open, _, false) => {
                    return Err(self.differs(
                        "claims",
                        claim.task,
                        "an ended claim",
                        "an open one",
                    ));
                }
                (ClaimState::Ended { .. }, true, _) => {
                    return Err(self.differs(
                        "claims",
                        claim.task,
                        "an open claim",
                        "an ended one",
                    ));
                }
            }
        }
        Ok(())
    }

    /// What is told of an end is of a task that is not open.
    fn check_ended(&self, day: u64) -> Result<(), FsckFailure> {
        let mut ended = self
            .db
            .prepare(&format!("SELECT task FROM ended_{day} WHERE tenant = ?1"))?;
        let mut rows = ended.query([self.tenant.0])?;
        while let Some(row) = rows.next()? {
            let id = task(row, 0)?;
            if self.open.contains_key(&id) {
                return Err(self.differs("ends", id, "none", "one"));
            }
        }
        Ok(())
    }

    /// A key was spent by a task that the ledger knows, or by [`NOBODY`].
    fn check_spent(&self, day: u64) -> Result<(), FsckFailure> {
        let mut strays = self.db.prepare(&format!(
            "SELECT task FROM spent_{day} WHERE tenant = ?1 AND NOT (task = ?2 AND client = ?3)
               AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.task = spent_{day}.task)"
        ))?;
        let stray = strays
            .query_row((self.tenant.0, NOBODY.task.0, NOBODY.client), |row| {
                task(row, 0)
            })
            .optional()?;
        match stray {
            Some(id) => Err(self.differs("spent keys", id, "a task that the ledger knows", "none")),
            None => Ok(()),
        }
    }

    /// Uses are counted for open tasks only.
    fn check_counters(&self) -> Result<(), FsckFailure> {
        let mut counters = self
            .db
            .prepare("SELECT DISTINCT task FROM counters WHERE tenant = ?1")?;
        let mut rows = counters.query([self.tenant.0])?;
        while let Some(row) = rows.next()? {
            let id = task(row, 0)?;
            if !self.open.contains_key(&id) {
                return Err(self.differs("counters", id, "an open task", "none"));
            }
        }
        Ok(())
    }

    fn differs(
        &self,
        table: &'static str,
        id: TaskId,
        wanted: impl Into<String>,
        got: impl Into<String>,
    ) -> FsckFailure {
        FsckFailure::Hot {
            tenant: self.tenant.1.clone(),
            table,
            task: id.to_string(),
            wanted: wanted.into(),
            got: got.into(),
        }
    }
}

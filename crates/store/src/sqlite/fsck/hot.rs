//! Compares the tables of what is open now with the tasks that the entries leave open.

use std::collections::BTreeSet;

use dayfly_domain::{ClaimState, Name, Task, TaskId};
use dayfly_ledger::Hash;
use rusqlite::{Connection, OptionalExtension, Row};

use super::FsckFailure;
use super::replay::Open;
use crate::sqlite::partition::Partitions;
use crate::sqlite::read::read_claim;
use crate::sqlite::value::{count, task, time};
use crate::sqlite::view::Held;

/// Checks all tables of a tenant that follow from its entries.
pub(super) fn check(db: &Connection, tenant: (u32, &Name), open: &Open) -> Result<(), FsckFailure> {
    let hot = Hot { db, tenant, open };
    hot.check_tasks()?;
    let partitions = Partitions::load(db)?;
    for day in partitions.claims() {
        hot.check_claims(day)?;
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
        let mut tasks = self.db.prepare(
            "SELECT id, version, hash, deadline, workload, snapshot FROM tasks WHERE tenant = ?1",
        )?;
        let mut rows = tasks.query([self.tenant.0])?;
        while let Some(row) = rows.next()? {
            let id = task(row, 0)?;
            let Some((wanted, last)) = self.open.get(&id) else {
                return Err(self.differs("tasks", id, "no open task", "one"));
            };
            if !seen.insert(id) {
                return Err(self.differs("tasks", id, "one row", "two"));
            }
            self.check_task(row, wanted, *last)?;
        }
        match self.open.keys().find(|id| !seen.contains(*id)) {
            Some(id) => Err(self.differs("tasks", *id, "an open task", "none")),
            None => Ok(()),
        }
    }

    fn check_task(&self, row: &Row<'_>, wanted: &Task, last: Hash) -> Result<(), FsckFailure> {
        let differs = |wanted: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug, id| {
            Err(self.differs("tasks", id, format!("{wanted:?}"), format!("{got:?}")))
        };
        let workload = row.get::<_, String>(4)?;
        let beside = (
            count(row, 1)?,
            Hash(row.get(2)?),
            time(row, 3)?,
            workload.as_str(),
        );
        let fits = (
            wanted.version,
            last,
            wanted.deadline,
            wanted.workload.as_str(),
        );
        if beside != fits {
            return differs(&fits, &beside, wanted.id);
        }
        match Held::read(row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?) {
            Ok(got) if got == *wanted => Ok(()),
            Ok(got) => differs(wanted, &got, wanted.id),
            Err(why) => differs(wanted, &why.0, wanted.id),
        }
    }

    /// An open claim is that of an open task, under that task's own key, and an ended one is not.
    fn check_claims(&self, day: u64) -> Result<(), FsckFailure> {
        let mut claims = self.db.prepare(&format!(
            "SELECT {day}, key, workload, attempt, task, cause, deadline, series
             FROM claims_{day} WHERE tenant = ?1"
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

    /// A key was spent by a task that the ledger knows.
    fn check_spent(&self, day: u64) -> Result<(), FsckFailure> {
        self.check_none(
            "spent keys",
            &format!(
                "SELECT task FROM spent_{day} WHERE tenant = ?1
                   AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.task = spent_{day}.task)"
            ),
        )
    }

    fn check_counters(&self) -> Result<(), FsckFailure> {
        self.check_none(
            "counters",
            "SELECT task FROM counters WHERE tenant = ?1 AND NOT EXISTS
               (SELECT 1 FROM tasks WHERE tasks.tenant = ?1 AND tasks.id = counters.task)",
        )
    }

    /// Checks that a query for what must not be finds nothing.
    fn check_none(&self, table: &'static str, sql: &str) -> Result<(), FsckFailure> {
        let mut strays = self.db.prepare(sql)?;
        let stray = strays
            .query_row([self.tenant.0], |row| task(row, 0))
            .optional()?;
        match stray {
            Some(id) => Err(self.differs(table, id, "a task that the ledger knows", "none")),
            None => Ok(()),
        }
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

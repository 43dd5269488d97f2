//! Runs that their platform said are over: judged against the open tasks of their attempt, written, and looked up.

use std::sync::Arc;

use dayfly_domain::{ClaimState, Closed, Name, TaskId, Time};
use rusqlite::{Connection, OptionalExtension, Row};

use super::judge::{Failure, Place};
use super::known::{Print, series_print};
use super::partition::{Partitions, claim_day};
use super::read::read_claim;
use super::record::Desk;
use super::value::{int, millis, time, uint};
use crate::{Append, AppendError, CloseWrite, RunAsked};

/// How an attempt that is not counted stands in a table.
const UNCOUNTED: i64 = -1;

impl Place<'_> {
    /// A run that is closed is granted nothing.
    pub(super) fn check_asked(&self, asked: &RunAsked) -> Result<(), Failure> {
        if !self.may_collide(&asked.issuer, &asked.series) {
            return Ok(());
        }
        let run = (self.tenant, &asked.issuer, asked.series.as_str());
        let closed = closed(self.db, self.partitions, run)?;
        let covers = |closed: &Closed| closed.covers(asked.attempt, &asked.instance);
        if closed.iter().any(covers) {
            return Err(AppendError::Conflict.into());
        }
        Ok(())
    }

    /// A close has seen every open task of the attempt as it is now, and ends them where the whole
    /// attempt is over.
    pub(super) fn check_close(&self, close: &CloseWrite, append: &Append) -> Result<(), Failure> {
        let Some(sql) = &self.partitions.series else {
            return Ok(());
        };
        if !self.may_collide(&close.issuer, &close.series) {
            return Ok(());
        }
        let claims = self
            .db
            .prepare_cached(sql)?
            .query_map(
                (self.tenant, close.issuer.as_str(), &close.series),
                read_claim,
            )?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let open = claims.iter().filter(|claim| {
            claim.state == ClaimState::Open && claim.attempt == close.closed.attempt
        });
        for claim in open {
            let mut changes = append.changes.iter();
            let change = changes.find(|change| change.task == claim.task);
            let goes_on = change.is_none_or(|change| !change.next.has_ended());
            let seen = |(task, version): &(TaskId, u64)| {
                let held = self.draft.task(claim.task, self.view);
                *task == claim.task && held.is_some_and(|held| held.version == *version)
            };
            let known = change.is_some() || close.seen.iter().any(seen);
            if !known || (goes_on && close.closed.part.is_none()) {
                return Err(AppendError::Conflict.into());
            }
        }
        Ok(())
    }
}

impl Desk<'_> {
    /// Writes what is closed. What was said before keeps its time, and moves to a later table where
    /// it is to be kept for longer.
    pub(super) fn write_close(&mut self, close: &CloseWrite, now: Time) -> rusqlite::Result<()> {
        let day = claim_day(close.until.max(now), now);
        let attempt = close.closed.attempt.map_or(UNCOUNTED, int);
        let part = close.closed.part.as_deref().unwrap_or_default();
        let row = (
            self.tenant,
            close.issuer.as_str(),
            &close.series,
            attempt,
            part,
        );
        let mut at = millis(close.closed.at);
        let tables: Vec<u64> = self.partitions.closed().collect();
        for table in tables {
            let said = self
                .db
                .prepare_cached(&format!(
                    "SELECT at FROM closed_{table} WHERE tenant = ?1 AND issuer = ?2
                       AND series = ?3 AND attempt = ?4 AND part = ?5"
                ))?
                .query_row(row, |row| row.get::<_, i64>(0))
                .optional()?;
            let Some(said) = said else { continue };
            if table >= day {
                return Ok(());
            }
            at = said;
            self.db
                .prepare_cached(&format!(
                    "DELETE FROM closed_{table} WHERE tenant = ?1 AND issuer = ?2
                       AND series = ?3 AND attempt = ?4 AND part = ?5"
                ))?
                .execute(row)?;
        }
        if !self.partitions.has_closed(day) {
            Arc::make_mut(self.partitions).add_closed(self.db, day)?;
        }
        self.keep.prints.push(Print::Claim {
            day,
            print: series_print(self.tenant, close.issuer.as_str(), &close.series),
        });
        let (tenant, issuer, series, attempt, part) = row;
        self.db
            .prepare_cached(&format!(
                "INSERT INTO closed_{day} (tenant, issuer, series, attempt, part, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            ))?
            .execute((tenant, issuer, series, attempt, part, at))?;
        Ok(())
    }
}

/// What of a series is closed.
pub(super) fn closed(
    db: &Connection,
    partitions: &Partitions,
    (tenant, issuer, series): (u32, &Name, &str),
) -> rusqlite::Result<Vec<Closed>> {
    let Some(sql) = &partitions.closes else {
        return Ok(Vec::new());
    };
    db.prepare_cached(sql)?
        .query_map((tenant, issuer.as_str(), series), read)?
        .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Closed> {
    let attempt: i64 = row.get(0)?;
    let part: String = row.get(1)?;
    Ok(Closed {
        attempt: (attempt != UNCOUNTED).then(|| uint(attempt)),
        part: (!part.is_empty()).then_some(part),
        at: time(row, 2)?,
    })
}

//! Writes an append that was judged, and notes in the draft what it left.

use std::sync::Arc;

use dayfly_domain::{Claim, ClaimState, Name, Task, TaskId, TaskState, Time};
use dayfly_ledger::tile::encode_hashes;
use rusqlite::Connection;

use super::body::Ready;
use super::draft::Draft;
use super::judge::{Judged, Sealed};
use super::known::{Print, series_print};
use super::load::Keep;
use super::partition::Partitions;
use super::relied::Relied;
use super::tally::first_minute;
use super::value::{entry_id, int, millis};
use super::view::{Held, Recorded, TenantView};
use crate::{Annex, Append, Change, ClaimWrite, Committed, Note};

/// Where an append is written.
pub(super) struct Desk<'a> {
    pub(super) db: &'a Connection,
    pub(super) tenant: u32,
    pub(super) draft: &'a mut Draft,
    /// The tenant as published; none for one that is new.
    pub(super) view: Option<&'a TenantView>,
    pub(super) partitions: &'a mut Arc<Partitions>,
    pub(super) keep: &'a mut Keep,
}

impl Desk<'_> {
    /// Writes an append. After an error the transaction must be rolled back and the draft dropped.
    pub(super) fn record(&mut self, ready: Ready, judged: Judged) -> rusqlite::Result<Committed> {
        let append = ready.append;
        let first = self.draft.tree.size();
        // Claims come first, so that an end in the same append finds its claim.
        for (claim, (day, replaced)) in append.claims.iter().zip(judged.claims) {
            self.write_claim(claim, day, replaced)?;
        }
        for close in &append.closes {
            self.write_close(close, append.now)?;
        }
        for person in &append.people {
            self.write_person(person, append.now)?;
        }
        let changes = append.changes.iter().zip(judged.changes).zip(ready.changes);
        for ((change, (held, leaves)), (_, snapshot)) in changes {
            self.write_change(change, &leaves, judged.at)?;
            if let Some(Sealed { hash, .. }) = leaves.last() {
                let last = Recorded {
                    hash: *hash,
                    snapshot,
                };
                self.write_state(&change.next, held, (last, append.now))?;
            }
        }
        for (note, sealed) in append.notes.iter().zip(&judged.notes) {
            self.write_note(note, sealed, judged.at)?;
        }
        self.drop_entries(&judged.dropped)?;
        self.write_declared(&append)?;
        self.erase(&append.erases)?;
        let size = self.draft.tree.size();
        Ok(Committed {
            at: judged.at,
            size,
            changes: append.changes,
            positions: (first..size).collect(),
        })
    }

    fn write_change(
        &mut self,
        change: &Change,
        leaves: &[Sealed],
        at: Time,
    ) -> rusqlite::Result<()> {
        let seqs = change.expected_version + 1..;
        for ((seq, drafted), sealed) in seqs.zip(&change.events).zip(leaves) {
            self.write_entry(Some((change.task, seq)), sealed, drafted.annex.as_ref())?;
        }
        self.draft.at = at;
        Ok(())
    }

    fn write_state(
        &mut self,
        task: &Task,
        held: Option<Arc<Held>>,
        (last, now): (Recorded, Time),
    ) -> rusqlite::Result<()> {
        if held.is_none() {
            self.draft.tally(&task.workload, self.view).start(now);
        }
        match (held, &task.state) {
            (None, TaskState::Open | TaskState::Pending(_)) => self.insert_task(task, last),
            (Some(held), TaskState::Open | TaskState::Pending(_)) => {
                self.update_task(task, &held, last)
            }
            (held, TaskState::Ended { cause, .. }) => {
                self.draft.tally(&task.workload, self.view).end();
                if let Some(held) = held {
                    self.delete_task(task, &held)?;
                }
                self.end_claim(task, *cause, now)
            }
        }
    }

    pub(super) fn write_note(
        &mut self,
        note: &Note,
        sealed: &Sealed,
        at: Time,
    ) -> rusqlite::Result<()> {
        self.draft.at = at;
        self.write_entry(None, sealed, note.annex.as_ref())
    }

    fn write_entry(
        &mut self,
        link: Option<(TaskId, u64)>,
        sealed: &Sealed,
        annex: Option<&Annex>,
    ) -> rusqlite::Result<()> {
        let id = entry_id(self.tenant, self.draft.tree.size());
        self.db
            .prepare_cached(
                "INSERT INTO entries (id, task, seq, leaf, hash, salt, annex)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                id,
                link.map(|(task, _)| task.0),
                link.map(|(_, seq)| int(seq)),
                &sealed.leaf,
                sealed.hash.0,
                annex.map(|annex| annex.salt),
                annex.map(|annex| &annex.data),
            ))?;
        self.draft.tree.push(sealed.hash);
        for tile in self.draft.tree.take_full() {
            self.db
                .prepare_cached(
                    "INSERT INTO tiles (tenant, level, idx, hashes) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((
                    self.tenant,
                    tile.level,
                    int(tile.index),
                    encode_hashes(&tile.hashes),
                ))?;
        }
        Ok(())
    }

    fn insert_task(&mut self, task: &Task, last: Recorded) -> rusqlite::Result<()> {
        let relied = self.relied(task)?;
        let row = self.keep.next_row;
        self.keep.next_row += 1;
        let held = Held::new(row, task, relied, last);
        self.db
            .prepare_cached(
                "INSERT INTO tasks (row, tenant, id, version, hash, workload, deadline, grace, linger,
                   relied, snapshot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                row,
                self.tenant,
                task.id.0,
                int(held.version),
                held.hash.0,
                task.workload.as_str(),
                millis(held.deadline),
                held.grace.map(|grace| int(grace.millis())),
                held.linger.map(millis),
                held.relied.bytes(),
                &*held.snapshot,
            ))?;
        if let Some(seen) = held.last_seen() {
            write_seen(self.db, row, seen)?;
        }
        self.draft.tasks.insert(task.id, Some(Arc::new(held)));
        Ok(())
    }

    fn update_task(&mut self, task: &Task, old: &Held, last: Recorded) -> rusqlite::Result<()> {
        let relied = self.relied(task)?;
        let held = Held::new(old.row, task, relied, last);
        match (old.last_seen(), held.last_seen()) {
            (Some(seen), _) => {
                held.hear(seen);
            }
            // A pending task that opened is heard from then on.
            (None, Some(seen)) => write_seen(self.db, held.row, seen)?,
            (None, None) => {}
        }
        self.db
            .prepare_cached(
                "UPDATE tasks SET version = ?2, hash = ?3, deadline = ?4, grace = ?5, linger = ?6,
                   relied = ?7, snapshot = ?8, workload = ?9 WHERE row = ?1",
            )?
            .execute((
                held.row,
                int(held.version),
                held.hash.0,
                millis(held.deadline),
                held.grace.map(|grace| int(grace.millis())),
                held.linger.map(millis),
                held.relied.bytes(),
                &*held.snapshot,
                task.workload.as_str(),
            ))?;
        self.draft.tasks.insert(task.id, Some(Arc::new(held)));
        Ok(())
    }

    fn delete_task(&mut self, task: &Task, held: &Held) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("DELETE FROM tasks WHERE row = ?1")?
            .execute([held.row])?;
        // INVARIANT: a row of `seen` is written only for a state that was heard, and every later one
        // has heard as much.
        if held.last_seen().is_some() {
            self.db
                .prepare_cached("DELETE FROM seen WHERE row = ?1")?
                .execute([held.row])?;
        }
        let counted = self.draft.counters.remove(&task.id).is_some()
            || self.keep.counters.contains_key(&(self.tenant, task.id));
        if counted {
            self.db
                .prepare_cached("DELETE FROM counters WHERE tenant = ?1 AND task = ?2")?
                .execute((self.tenant, task.id.0))?;
        }
        self.draft.tasks.insert(task.id, None);
        Ok(())
    }

    /// Tells of its claim that a task has ended. The claim itself is not touched: claims lie in the
    /// order of their runs, so that each would be another page to write.
    fn end_claim(
        &mut self,
        task: &Task,
        cause: dayfly_domain::Cause,
        now: Time,
    ) -> rusqlite::Result<()> {
        let Some(day) = self.day_of_end(task, now)? else {
            return Ok(());
        };
        if !self.partitions.has_ended(day) {
            Arc::make_mut(self.partitions).add_ended(self.db, day)?;
        }
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO ended_{day} (tenant, task, cause, deadline)
                 VALUES (?1, ?2, ?3, ?4)"
            ))?
            .execute((self.tenant, task.id.0, cause.word(), millis(task.deadline)))?;
        Ok(())
    }

    /// The table for the end of a task that ends now: its claim lies in no later one, so that its end
    /// is known for as long as that is. One table takes the ends of all whose claims are near; those
    /// beyond, which a long keep or a clock that was ahead has made, take only their own.
    fn day_of_end(&self, task: &Task, now: Time) -> rusqlite::Result<Option<u64>> {
        for day in self.partitions.claims_beyond(now) {
            let holds = self
                .db
                .prepare_cached(&format!(
                    "SELECT 1 FROM claims_{day} WHERE tenant = ?1 AND issuer = ?2 AND series = ?3
                       AND key = ?4 AND workload = ?5 AND task = ?6"
                ))?
                .exists((
                    self.tenant,
                    task.issuer.as_str(),
                    &task.series,
                    &task.key,
                    task.workload.as_str(),
                    task.id.0,
                ))?;
            if holds {
                return Ok(Some(day));
            }
        }
        Ok(self.partitions.last_near(now))
    }

    /// What a task relies on; an epoch that is new is numbered for good.
    fn relied(&mut self, task: &Task) -> rusqlite::Result<Relied> {
        Relied::of(task, |of| self.number_of(of))
    }

    fn number_of(&mut self, of: &dayfly_domain::EpochOf) -> rusqlite::Result<u32> {
        match self.draft.epochs.number(of) {
            Some(number) => Ok(number),
            None => self.set_epoch(of, 0),
        }
    }

    fn set_epoch(&mut self, of: &dayfly_domain::EpochOf, value: u64) -> rusqlite::Result<u32> {
        let number = Arc::make_mut(&mut self.draft.epochs).set(of, value);
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO epochs (tenant, id, of, value) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((self.tenant, number, json(of)?, int(value)))?;
        Ok(number)
    }

    fn write_claim(
        &mut self,
        write: &ClaimWrite,
        day: u64,
        replaced: Option<u64>,
    ) -> rusqlite::Result<()> {
        if !self.partitions.has_claims(day) {
            Arc::make_mut(self.partitions).add_claims(self.db, day)?;
        }
        let Claim {
            workload,
            key,
            attempt,
            task,
            state,
        } = &write.claim;
        if let Some(old) = replaced.filter(|old| *old != day) {
            self.db
                .prepare_cached(&format!(
                    "DELETE FROM claims_{old} WHERE tenant = ?1 AND issuer = ?2 AND series = ?3
                       AND key = ?4 AND workload = ?5"
                ))?
                .execute((
                    self.tenant,
                    write.issuer.as_str(),
                    &write.series,
                    key,
                    workload.as_str(),
                ))?;
        }
        self.keep.prints.push(Print::Claim {
            day,
            print: series_print(self.tenant, write.issuer.as_str(), &write.series),
        });
        let (cause, deadline) = match state {
            ClaimState::Open => (None, None),
            ClaimState::Ended { cause, deadline } => (Some(cause.word()), Some(millis(*deadline))),
        };
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO claims_{day}
                   (tenant, issuer, series, key, workload, attempt, task, cause, deadline)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            ))?
            .execute((
                self.tenant,
                write.issuer.as_str(),
                &write.series,
                key,
                workload.as_str(),
                attempt.map(int),
                task.0,
                cause,
                deadline,
            ))?;
        Ok(())
    }

    /// Overwrites annexes with nothing: with zeros in the file, once the log has been moved into it.
    fn erase(&mut self, positions: &[u64]) -> rusqlite::Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        // Pages of the longest of them are freed whole.
        self.db.execute_batch("PRAGMA secure_delete = ON")?;
        let mut statement = self
            .db
            .prepare_cached("UPDATE entries SET salt = NULL, annex = NULL WHERE id = ?1")?;
        for pos in positions {
            statement.execute([entry_id(self.tenant, *pos)])?;
        }
        self.db.execute_batch("PRAGMA secure_delete = FAST")?;
        self.draft.erased = true;
        Ok(())
    }

    fn write_declared(&mut self, append: &Append) -> rusqlite::Result<()> {
        for block in &append.blocks {
            self.draft.blocks.set(block.clone());
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO blocks (tenant, target, block) VALUES (?1, ?2, ?3)",
                )?
                .execute((self.tenant, block.on.to_string(), json(block)?))?;
        }
        for on in &append.lifts {
            self.draft.blocks.lift(on);
            self.db
                .prepare_cached("DELETE FROM blocks WHERE tenant = ?1 AND target = ?2")?
                .execute((self.tenant, on.to_string()))?;
        }
        for of in &append.moves {
            self.set_epoch(of, self.draft.epochs.value(of) + 1)?;
            self.draft.moved = true;
        }
        if append.revises {
            self.draft.revision += 1;
        }
        for document in &append.documents {
            match &document.bytes {
                Some(bytes) => self
                    .db
                    .prepare_cached(
                        "INSERT OR REPLACE INTO documents (tenant, name, bytes) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((self.tenant, &document.name, bytes))?,
                None => self
                    .db
                    .prepare_cached("DELETE FROM documents WHERE tenant = ?1 AND name = ?2")?
                    .execute((self.tenant, &document.name))?,
            };
        }
        Ok(())
    }

    /// Writes what stands once a tenant, after the last append of a batch.
    pub(super) fn finish(&mut self) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "INSERT INTO tenants (id, name, size, at, root, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET size = ?3, at = ?4, root = ?5, revision = ?6",
            )?
            .execute((
                self.tenant,
                self.draft.name.as_str(),
                int(self.draft.tree.size()),
                millis(self.draft.at),
                self.draft.tree.root().0,
                int(self.draft.revision),
            ))?;
        for (workload, tally) in &mut self.draft.tallies {
            for (minute, starts) in tally.take_unsaved() {
                write_starts(self.db, self.tenant, workload, (minute, starts))?;
            }
        }
        Ok(())
    }
}

/// Writes how many tasks of a workload started in a minute.
fn write_starts(
    db: &Connection,
    tenant: u32,
    workload: &Name,
    (minute, starts): (u64, u64),
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO starts (tenant, workload, minute, n) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((tenant, workload.as_str(), int(minute), int(starts)))?;
    Ok(())
}

/// Forgets starts that count no longer.
pub(super) fn forget_starts(db: &Connection, now: Time) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM starts WHERE minute < ?1")?
        .execute([int(first_minute(now))])?;
    Ok(())
}

/// Writes when a task was heard.
pub(super) fn write_seen(db: &Connection, row: i64, at: Time) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO seen (row, at) VALUES (?1, ?2)")?
        .execute((row, millis(at)))?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

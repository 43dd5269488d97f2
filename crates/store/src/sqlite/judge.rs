//! Checks everything of an append against what the batch left so far, before any of it is written.

use std::collections::HashSet;
use std::sync::Arc;

use dayfly_domain::{BlockOn, EpochOf, Name, TaskId, Time};
use dayfly_ledger::leaf::LeafError;
use dayfly_ledger::{Hash, Leaf, Link, leaf_hash};
use rusqlite::{Connection, Row};

use super::body::{Body, Ready, unfit};
use super::draft::Draft;
use super::entries::Kept;
use super::known::{Print, series_print};
use super::partition::{Partitions, claim_day, day};
use super::tally::admits;
use super::value::{entry_id, int, task, uint};
use super::view::{Held, TenantView, View};
use crate::{Append, AppendError, Change, ClaimWrite, ERASED, OneTimeKey};

/// Why an append is not written.
pub(super) enum Failure {
    /// It is refused; the batch goes on.
    Refused(AppendError),
    /// The database failed, and with it the batch.
    Broken(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        Self::Refused(error)
    }
}

/// Where an append is judged.
pub(super) struct Place<'a> {
    pub(super) db: &'a Connection,
    pub(super) tenant: u32,
    pub(super) draft: &'a Draft,
    /// The tenant as published; none for one that is new.
    pub(super) view: Option<&'a TenantView>,
    pub(super) partitions: &'a Partitions,
    /// Everything published.
    pub(super) all: &'a View,
    /// What this batch has written so far.
    pub(super) fresh: &'a [Print],
}

/// An append that holds, ready to be written.
pub(super) struct Judged {
    pub(super) at: Time,
    /// For each change the task as it is now, and the leaves.
    pub(super) changes: Vec<(Option<Arc<Held>>, Vec<Sealed>)>,
    pub(super) notes: Vec<Sealed>,
    /// For each claim which table it goes into, and from which one it takes another's place.
    pub(super) claims: Vec<(u64, Option<u64>)>,
    /// What stays of the entries that are dropped.
    pub(super) dropped: Vec<Kept>,
}

/// The bytes of an entry and their hash.
pub(super) struct Sealed {
    pub(super) leaf: String,
    pub(super) hash: Hash,
}

impl Place<'_> {
    /// Judges an append in all but its one-time keys, which [`Desk::spend`] does. Nothing is changed.
    ///
    /// [`Desk::spend`]: super::record::Desk::spend
    pub(super) fn judge(&self, ready: &Ready) -> Result<Judged, Failure> {
        let append = &ready.append;
        let at = self.draft.at.max(append.now);
        let held = self.check_versions(&append.changes)?;
        if append
            .revision
            .is_some_and(|revision| revision != self.draft.revision)
        {
            return Err(AppendError::Revised.into());
        }
        if let Some(of) = self.draft.moved_since(&append.relies, self.view) {
            return Err(AppendError::Stale(of).into());
        }
        let blocked = |on: &BlockOn| self.draft.blocks.stands(on);
        if append.unblocked.iter().any(blocked) || !append.blocked.iter().all(blocked) {
            return Err(AppendError::Conflict.into());
        }
        if let Some(asked) = &append.asks {
            self.check_asked(asked)?;
        }
        for close in &append.closes {
            self.check_close(close, append)?;
        }
        let mut claims = Vec::with_capacity(append.claims.len());
        for claim in &append.claims {
            claims.push(self.check_claim(claim, append)?);
        }
        if !append.spends.iter().all(|spend| self.keeps(&spend.key)) {
            return Err(unfit(&"a one-time key is of a day that is forgotten").into());
        }
        if append
            .moves
            .iter()
            .any(|of| matches!(of, EpochOf::Person(_)))
        {
            return Err(unfit(&"the epoch of a person is not counted").into());
        }
        let size = self.draft.tree.size();
        if append.erases.len() > ERASED || append.erases.iter().any(|pos| *pos >= size) {
            return Err(
                unfit(&"annexes are erased of few entries, and of those that there are").into(),
            );
        }
        if let Some((workload, limits)) = &append.limits
            && !admits(*limits, self.draft.counts(workload, self.view, append.now))
        {
            return Err(AppendError::Conflict.into());
        }
        let dropping = ready.dropping.as_ref();
        let dropped = dropping.map_or(Ok(Vec::new()), |dropping| self.judge_drop(dropping))?;
        let mut changes = Vec::with_capacity(append.changes.len());
        for ((change, held), (bodies, _)) in append.changes.iter().zip(held).zip(&ready.changes) {
            let leaves = self.seal_change(change, bodies, held.as_deref(), at)?;
            changes.push((held, leaves));
        }
        let notes = ready.notes.iter().map(|note| self.seal_note(note, at));
        Ok(Judged {
            at,
            changes,
            notes: notes.collect::<Result<_, _>>()?,
            claims,
            dropped,
        })
    }

    /// Whether it is known of a one-time key that it was spent, where it was: not once its day is
    /// forgotten.
    pub(super) fn keeps(&self, key: &OneTimeKey) -> bool {
        day(key.until) >= self.partitions.forgotten
    }

    fn check_versions(&self, changes: &[Change]) -> Result<Vec<Option<Arc<Held>>>, Failure> {
        let mut found = Vec::with_capacity(changes.len());
        let mut seen = HashSet::with_capacity(changes.len());
        for change in changes {
            let held = self.draft.task(change.task, self.view);
            let present = held.as_ref().map_or(0, |held| held.version);
            let after = present.saturating_add(change.events.len() as u64);
            let fits = present == change.expected_version
                && change.next.version == after
                && change.next.id == change.task
                && !change.events.is_empty();
            // An id whose task has ended is never given again: its chain is closed.
            if !seen.insert(change.task)
                || !fits
                || (held.is_none() && self.was_open(change.task)?)
            {
                return Err(AppendError::Conflict.into());
            }
            found.push(held);
        }
        Ok(found)
    }

    fn was_open(&self, task: TaskId) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(
                "SELECT 1 FROM entries WHERE task = ?1 AND id BETWEEN ?2 AND ?3 LIMIT 1",
            )?
            .exists((
                task.0,
                entry_id(self.tenant, 0),
                entry_id(self.tenant, u64::MAX),
            ))
    }

    /// A claim holds when nothing stands in its place but what it replaces, and when the series is
    /// as it was decided on: no higher attempt, and no lower one that stays open.
    fn check_claim(
        &self,
        write: &ClaimWrite,
        append: &Append,
    ) -> Result<(u64, Option<u64>), Failure> {
        let claim = &write.claim;
        // A claim outlives its task, whatever `until` says.
        let deadline = append
            .changes
            .iter()
            .find(|change| change.task == claim.task)
            .map_or(write.until, |change| change.next.deadline);
        let now = append.now;
        let day = claim_day(write.until.max(deadline).max(now), now);
        let ends = |task: TaskId| {
            let mut changes = append.changes.iter();
            changes.any(|change| change.task == task && change.next.has_ended())
        };
        let mut replaced = None;
        for rival in self.rivals(write)? {
            if rival.is_same {
                if write.replaces != Some(rival.task) || (rival.is_open && !ends(rival.task)) {
                    return Err(AppendError::Claimed { by: rival.task }.into());
                }
                replaced = Some(rival.day);
            } else if rival.attempt > claim.attempt || !ends(rival.task) {
                return Err(AppendError::Conflict.into());
            }
        }
        Ok((day, replaced))
    }

    fn rivals(&self, write: &ClaimWrite) -> rusqlite::Result<Vec<Rival>> {
        let Some(sql) = &self.partitions.rivals else {
            return Ok(Vec::new());
        };
        if !self.may_collide(&write.issuer, &write.series) {
            return Ok(Vec::new());
        }
        let claim = &write.claim;
        let key = (
            self.tenant,
            write.issuer.as_str(),
            &write.series,
            &claim.key,
            claim.workload.as_str(),
            claim.attempt.map(int),
        );
        self.db
            .prepare_cached(sql)?
            .query_map(key, |row| Rival::read(row, write))?
            .collect()
    }

    /// Whether a series may have claims, or something of it be closed, by what is published and what
    /// this batch has written.
    pub(super) fn may_collide(&self, issuer: &Name, series: &str) -> bool {
        let print = series_print(self.tenant, issuer.as_str(), series);
        let is_fresh =
            |fresh: &Print| matches!(fresh, Print::Claim { print: of, .. } if *of == print);
        self.all.may_hold_series(self.tenant, issuer, series) || self.fresh.iter().any(is_fresh)
    }

    fn seal_change(
        &self,
        change: &Change,
        bodies: &[Body],
        held: Option<&Held>,
        at: Time,
    ) -> Result<Vec<Sealed>, AppendError> {
        let task = change.task.to_string();
        let mut prev = held.map(|held| held.hash);
        let mut sealed = Vec::with_capacity(bodies.len());
        for (seq, body) in (change.expected_version + 1..).zip(bodies) {
            let task = task.as_str().into();
            let entry = self.seal(body, Some(Link { task, seq, prev }), at)?;
            prev = Some(entry.hash);
            sealed.push(entry);
        }
        Ok(sealed)
    }

    /// The entry of a note.
    pub(super) fn seal_note(&self, body: &Body, at: Time) -> Result<Sealed, AppendError> {
        self.seal(body, None, at)
    }

    fn seal(&self, body: &Body, link: Option<Link<'_>>, at: Time) -> Result<Sealed, AppendError> {
        let leaf = Leaf {
            tenant: self.draft.name.as_str().into(),
            link,
            at: at.millis(),
            kind: body.kind.into(),
            data: &body.data,
            h: body.h,
        };
        let leaf = leaf.encode().map_err(|error| match error {
            LeafError::TooLong { .. } => AppendError::TooLarge,
            LeafError::Data | LeafError::Link | LeafError::Json(_) | LeafError::Spelling { .. } => {
                unfit(&error)
            }
        })?;
        let hash = leaf_hash(leaf.as_bytes());
        Ok(Sealed { leaf, hash })
    }
}

/// A claim that a new one could collide with.
struct Rival {
    day: u64,
    is_same: bool,
    attempt: Option<u64>,
    task: TaskId,
    is_open: bool,
}

impl Rival {
    fn read(row: &Row<'_>, write: &ClaimWrite) -> rusqlite::Result<Self> {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        Ok(Self {
            day: uint(row.get(0)?),
            is_same: text(1)? == write.claim.key && text(2)? == write.claim.workload.as_str(),
            attempt: row.get::<_, Option<i64>>(3)?.map(uint),
            task: task(row, 4)?,
            is_open: row.get_ref(5)? == rusqlite::types::ValueRef::Null,
        })
    }
}

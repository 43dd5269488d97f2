//! Checks everything of an append against what the batch left so far, before any of it is written.

use std::sync::Arc;

use dayfly_domain::{TaskId, Time};
use dayfly_ledger::leaf::LeafError;
use dayfly_ledger::{Hash, Leaf, Link, RawValue, annex_hash, leaf_hash};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::value::to_raw_value;

use super::draft::Draft;
use super::partition::{Partitions, claim_day, day};
use super::tally::admits;
use super::value::{entry_id, int, task, uint};
use super::view::{Held, TenantView};
use crate::{Annex, Append, AppendError, Change, ClaimWrite, Note, Spend, Unavailable};

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
}

/// An append that holds, ready to be written.
pub(super) struct Judged {
    pub(super) at: Time,
    /// For each change the task's present state, its new snapshot and its leaves.
    pub(super) changes: Vec<JudgedChange>,
    pub(super) notes: Vec<Sealed>,
    /// For each claim which table it goes into, and from which one it takes another's place.
    pub(super) claims: Vec<(u64, Option<u64>)>,
}

pub(super) struct JudgedChange {
    pub(super) held: Option<Arc<Held>>,
    pub(super) snapshot: Box<[u8]>,
    pub(super) leaves: Vec<Sealed>,
}

/// The bytes of an entry and their hash.
pub(super) struct Sealed {
    pub(super) leaf: String,
    pub(super) hash: Hash,
}

impl Place<'_> {
    /// Judges an append. Nothing is changed.
    pub(super) fn judge(&self, append: &Append) -> Result<Judged, Failure> {
        let at = self.draft.at.max(append.now);
        let held = self.check_versions(&append.changes)?;
        if append
            .revision
            .is_some_and(|revision| revision != self.draft.revision)
        {
            return Err(AppendError::Revised.into());
        }
        if let Some(of) = self.draft.moved_since(&append.relies) {
            return Err(AppendError::Stale(of).into());
        }
        let mut claims = Vec::with_capacity(append.claims.len());
        for claim in &append.claims {
            claims.push(self.check_claim(claim, append, at)?);
        }
        self.check_spends(&append.spends, at)?;
        if let Some((workload, limits)) = &append.limits
            && !admits(*limits, self.draft.counts(workload, self.view, at))
        {
            return Err(AppendError::Conflict.into());
        }
        let mut changes = Vec::with_capacity(append.changes.len());
        for (change, held) in append.changes.iter().zip(held) {
            changes.push(JudgedChange {
                leaves: self.seal_change(change, held.as_deref(), at)?,
                snapshot: serde_json::to_vec(&change.next)
                    .map_err(|error| refuse(&error))?
                    .into(),
                held,
            });
        }
        let notes = append.notes.iter().map(|note| self.seal_note(note, at));
        Ok(Judged {
            at,
            changes,
            notes: notes.collect::<Result<_, _>>()?,
            claims,
        })
    }

    fn check_versions(&self, changes: &[Change]) -> Result<Vec<Option<Arc<Held>>>, Failure> {
        let mut found = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            let held = self.draft.task(change.task, self.view);
            let present = held.as_ref().map_or(0, |held| held.version);
            let after = change
                .expected_version
                .saturating_add(change.events.len() as u64);
            let doubled = changes
                .iter()
                .take(index)
                .any(|other| other.task == change.task);
            let fits = present == change.expected_version
                && change.next.version == after
                && change.next.id == change.task
                && !change.events.is_empty();
            // An id whose task has ended is never given again: its chain is closed.
            if doubled || !fits || (held.is_none() && self.was_open(change.task)?) {
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
        at: Time,
    ) -> Result<(u64, Option<u64>), Failure> {
        let claim = &write.claim;
        // A claim outlives its task, whatever `until` says.
        let deadline = append
            .changes
            .iter()
            .find(|change| change.task == claim.task)
            .map_or(write.until, |change| change.next.deadline);
        let day = claim_day(write.until.max(deadline).max(at), at);
        let ends = |task: TaskId| {
            let mut changes = append.changes.iter();
            changes.any(|change| change.task == task && !change.next.is_open())
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
        // Nothing is ever kept shorter than it was.
        Ok((replaced.map_or(day, |old| day.max(old)), replaced))
    }

    fn rivals(&self, write: &ClaimWrite) -> rusqlite::Result<Vec<Rival>> {
        let Some(sql) = &self.partitions.rivals else {
            return Ok(Vec::new());
        };
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

    fn check_spends(&self, spends: &[Spend], at: Time) -> Result<(), Failure> {
        for (which, spend) in spends.iter().enumerate() {
            // Whether it was spent may be forgotten by now.
            if day(spend.key.until) < day(at) {
                return Err(refuse(&"a one-time key is past its keep").into());
            }
            let twice = spends
                .iter()
                .take(which)
                .find(|other| other.key == spend.key);
            let by = match twice {
                Some(other) => Some(other.by),
                None => spent(self.db, self.partitions, self.tenant, &spend.key)?,
            };
            if let Some(by) = by {
                return Err(AppendError::SpentKey { which, by }.into());
            }
        }
        Ok(())
    }

    fn seal_change(
        &self,
        change: &Change,
        held: Option<&Held>,
        at: Time,
    ) -> Result<Vec<Sealed>, Failure> {
        let task = change.task.to_string();
        let mut prev = held.map(|held| held.hash);
        let mut sealed = Vec::with_capacity(change.events.len());
        for (seq, drafted) in (change.expected_version + 1..).zip(&change.events) {
            let data = to_raw_value(&drafted.event).map_err(|error| refuse(&error))?;
            let entry = seal(&Leaf {
                tenant: self.draft.name.as_str().into(),
                link: Some(Link {
                    task: task.as_str().into(),
                    seq,
                    prev,
                }),
                at: at.millis(),
                kind: drafted.event.kind().into(),
                data: &data,
                h: drafted.annex.as_ref().map(hash_of),
            })?;
            prev = Some(entry.hash);
            sealed.push(entry);
        }
        Ok(sealed)
    }

    /// The entry of a note.
    pub(super) fn seal_note(&self, note: &Note, at: Time) -> Result<Sealed, Failure> {
        let data: &RawValue = serde_json::from_str(&note.data).map_err(|error| refuse(&error))?;
        seal(&Leaf {
            tenant: self.draft.name.as_str().into(),
            link: None,
            at: at.millis(),
            kind: note.kind.into(),
            data,
            h: note.annex.as_ref().map(hash_of),
        })
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

/// Who spent a one-time key, if anyone did.
pub(super) fn spent(
    db: &Connection,
    partitions: &Partitions,
    tenant: u32,
    key: &crate::OneTimeKey,
) -> rusqlite::Result<Option<dayfly_domain::Spent>> {
    let day = day(key.until);
    if !partitions.has_spent(day) {
        return Ok(None);
    }
    db.prepare_cached(&format!(
        "SELECT task, client FROM spent_{day} WHERE tenant = ?1 AND at = ?2 AND digest = ?3"
    ))?
    .query_row((tenant, int(key.at.seconds()), short(key)), |row| {
        Ok(dayfly_domain::Spent {
            task: task(row, 0)?,
            client: row.get(1)?,
        })
    })
    .optional()
}

/// Half a digest: 128 bits tell keys apart that nobody can choose freely.
pub(super) fn short(key: &crate::OneTimeKey) -> &[u8] {
    key.digest.0.split_at(16).0
}

fn seal(leaf: &Leaf<'_>) -> Result<Sealed, Failure> {
    let leaf = leaf.encode().map_err(|error| match error {
        LeafError::TooLong { .. } => AppendError::TooLarge,
        LeafError::Data | LeafError::Link | LeafError::Json(_) | LeafError::Spelling { .. } => {
            refuse(&error)
        }
    })?;
    let hash = leaf_hash(leaf.as_bytes());
    Ok(Sealed { leaf, hash })
}

fn hash_of(annex: &Annex) -> Hash {
    annex_hash(&annex.salt, annex.data.as_bytes())
}

/// An append that no ledger can hold: a fault of the caller's.
fn refuse(error: &impl ToString) -> AppendError {
    AppendError::Unavailable(Unavailable(format!(
        "the append cannot be written: {}",
        error.to_string()
    )))
}

//! Judges uses of credentials at their position and records those that are still allowed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use dayfly_domain::{Cause, ClientId, ClientState, Digest, Name, Task, TaskId, Time};
use dayfly_ledger::ReadLeaf;
use rusqlite::OptionalExtension;
use serde::Deserialize;

use super::batch::Batch;
use super::body::ReadyUse;
use super::draft::{Draft, DraftedPeople};
use super::entries::{COLUMNS, Entries, bundle_error};
use super::judge::{Failure, Place, Sealed};
use super::record::Desk;
use super::value::{entry_id, int};
use super::view::{Held, lock};
use crate::{AppendError, Observed, Spend, Unavailable, Use, UseLimit};

impl Batch<'_> {
    /// Judges all uses of a call, then records those that hold.
    pub(super) fn observe(
        &mut self,
        tenant: &Name,
        uses: &[ReadyUse],
    ) -> Result<Vec<Observed>, Failure> {
        let view = { self.published }.read();
        let number = self.number(&view, tenant);
        let published = view.tenants.get(number as usize);
        let draft = self
            .drafts
            .entry(number)
            .or_insert_with(|| Draft::new(tenant, published));
        let place = Place {
            db: self.db,
            tenant: number,
            draft,
            view: published,
            partitions: &self.partitions,
            all: &view,
            fresh: &self.keep.prints,
        };
        let mut bench = Bench {
            place,
            tasks: HashMap::new(),
            keep: self.keep,
        };
        let mut judged = Vec::with_capacity(uses.len());
        for ready in uses {
            judged.push(bench.judge(ready)?);
        }
        let mut desk = Desk {
            db: self.db,
            tenant: number,
            draft,
            view: published,
            partitions: &mut self.partitions,
            keep: self.keep,
        };
        let mut counted = Counted::new();
        let mut together = HashSet::new();
        let mut observed = Vec::with_capacity(uses.len());
        for (ReadyUse { used, .. }, verdict) in uses.iter().zip(judged) {
            observed.push(match verdict {
                Ok((sealed, at)) => match desk.take(used, &mut counted, &mut together)? {
                    None => {
                        let position = desk.draft.tree.size();
                        desk.write_note(&used.note, &sealed, at)?;
                        Observed::Recorded(position)
                    }
                    Some(verdict) => verdict,
                },
                Err(verdict) => verdict,
            });
        }
        desk.write_counters(counted)?;
        Ok(observed)
    }
}

type Counted = HashMap<(ClientId, String), u64>;

/// Where the uses of one call are judged.
struct Bench<'a> {
    place: Place<'a>,
    /// Tasks that were decoded.
    tasks: HashMap<TaskId, Task>,
    keep: &'a super::load::Keep,
}

impl Bench<'_> {
    /// The entry to record and its time, or why there is none. What it counts and spends is left.
    fn judge(&mut self, ready: &ReadyUse) -> Result<Result<(Sealed, Time), Observed>, Failure> {
        let used = &ready.used;
        let Some(held) = self.place.draft.task(used.client.task, self.place.view) else {
            return Ok(Err(Observed::Ended(self.cause_of(used.client.task)?)));
        };
        if let Some(cause) = self.over(&held, used)? {
            return Ok(Err(Observed::Ended(cause)));
        }
        let (draft, view) = (self.place.draft, self.place.view);
        let people = DraftedPeople(draft, view);
        let relied = held.relied.stale(&draft.epochs, &people).or_else(|| {
            let lost = held.relied.lost(&draft.epochs, &people);
            let task = self.tasks.get(&used.client.task)?;
            task.lost_by(used.client.number, &lost).cloned()
        });
        if let Some(of) = draft.moved_since(&used.relies, view).or(relied) {
            return Ok(Err(Observed::Stale(of)));
        }
        if used
            .revision
            .is_some_and(|revision| revision != draft.revision)
        {
            return Ok(Err(Observed::Revised));
        }
        let mut ons = used.unblocked.iter();
        if let Some(on) = ons.find(|on| draft.blocks.stands(on)) {
            return Ok(Err(Observed::Blocked(on.clone())));
        }
        let forgotten = |spend: &Spend| !self.place.keeps(&spend.key);
        if used.spend.as_ref().is_some_and(forgotten) {
            return Ok(Err(Observed::Forgotten));
        }
        let at = draft.at.max(used.now);
        Ok(Ok((self.place.seal_note(&ready.body, at)?, at)))
    }

    /// Why the client is over although its task is still listed as open.
    fn over(&mut self, held: &Held, used: &Use) -> Result<Option<Cause>, Failure> {
        let task = match self.tasks.entry(used.client.task) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(slot) => slot.insert(held.decode().map_err(AppendError::Unavailable)?),
        };
        let heard = self
            .place
            .view
            .map_or_else(Default::default, |view| held.heard(&lock(&view.hearing)));
        Ok(task
            .lapsed(used.now, heard)
            .or_else(|| client_over(task, used.client.number, used.now)))
    }

    /// Why a task that is not open ended, by its last entry. One that the ledger does not know was
    /// opened in a time that a restore cut off.
    fn cause_of(&self, task: TaskId) -> Result<Cause, Failure> {
        #[derive(Deserialize)]
        struct Ended {
            cause: Cause,
        }
        let place = &self.place;
        let entries = Entries::new(place.db, &self.keep.bundles);
        let last = place
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM entries WHERE task = ?1 AND id BETWEEN ?2 AND ?3
                 ORDER BY seq DESC LIMIT 1"
            ))?
            .query_row(
                (
                    task.0,
                    entry_id(place.tenant, 0),
                    entry_id(place.tenant, u64::MAX),
                ),
                |row| entries.read(place.tenant, row),
            )
            .optional();
        let last = last.map_err(|error| match bundle_error(&error) {
            // The batch goes on: nothing is wrong with the database.
            Some(why) => AppendError::Unavailable(Unavailable(why.to_string())).into(),
            None => Failure::Broken(error),
        })?;
        let cause = last.and_then(|last| {
            let read = ReadLeaf::parse(last.leaf.as_bytes()).ok()?;
            serde_json::from_str::<Ended>(read.leaf.data.get()).ok()
        });
        Ok(cause.map_or(Cause::Restored, |ended| ended.cause))
    }
}

/// Why a client is over, or one it was delegated from.
fn client_over(task: &Task, number: u32, now: Time) -> Option<Cause> {
    let mut next = Some(number);
    // INVARIANT: a parent's number is lower than its child's, so the walk ends.
    while let Some(at) = next {
        let Some(client) = task.client(at) else {
            return Some(Cause::Restored);
        };
        if let ClientState::Ended { cause, .. } = client.state {
            return Some(if at == number { cause } else { Cause::Parent });
        }
        if now >= client.expires {
            return Some(Cause::Deadline);
        }
        next = client.parent.filter(|parent| *parent < at);
    }
    None
}

impl Desk<'_> {
    /// Counts a use that holds and spends its key, or says why it does not hold after all.
    fn take(
        &mut self,
        used: &Use,
        counted: &mut Counted,
        together: &mut HashSet<(Time, Digest)>,
    ) -> rusqlite::Result<Option<Observed>> {
        let counter = used.limit.as_ref().map(|limit| {
            let so_far = counted.get(&(used.client, limit.counter.clone())).copied();
            (
                limit,
                so_far.unwrap_or_else(|| self.counted(used.client, limit)),
            )
        });
        if counter.is_some_and(|(limit, so_far)| so_far >= limit.most) {
            return Ok(Some(Observed::Exhausted));
        }
        if let Some(spend) = &used.spend
            && together.insert((spend.key.at, spend.key.digest))
            && let Some((_, by)) = self.spend(std::slice::from_ref(spend))?
        {
            together.remove(&(spend.key.at, spend.key.digest));
            return Ok(Some(Observed::Spent(by)));
        }
        if let Some((limit, so_far)) = counter {
            counted.insert((used.client, limit.counter.clone()), so_far + 1);
        }
        Ok(None)
    }

    /// How often a counter was raised before this call.
    fn counted(&self, client: ClientId, limit: &UseLimit) -> u64 {
        let key = (client.number, limit.counter.clone());
        let drafted = self.draft.counters.get(&client.task);
        let drafted = drafted.and_then(|of| of.get(&key));
        let kept = || {
            let of = self.keep.counters.get(&(self.tenant, client.task))?;
            of.get(&key)
        };
        drafted.or_else(kept).copied().unwrap_or_default()
    }

    fn write_counters(&mut self, counted: Counted) -> rusqlite::Result<()> {
        for ((client, name), n) in counted {
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO counters (tenant, task, client, name, n)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((self.tenant, client.task.0, client.number, &name, int(n)))?;
            let of_task = self.draft.counters.entry(client.task).or_default();
            of_task.insert((client.number, name), n);
        }
        Ok(())
    }
}

//! One tenant's ledger as plain maps, each rule of the contract written in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{
    BlockOn, Blocks, Claim, ClaimState, ClientId, Closed, Counts, Digest, Epoch, EpochOf, Heard,
    Limits, Name, Span, Spent, Task, TaskId, TaskState, Time,
};
use dayfly_ledger::leaf::LeafError;
use dayfly_ledger::tile::TILE_WIDTH;
use dayfly_ledger::{
    Frontier, Hash, Leaf, Link, RawValue, annex_hash, empty_root, leaf_hash, node_hash,
};
use serde_json::value::to_raw_value;

use super::touched::Touched;
use crate::clock::Reading;
use crate::contract::{forgets_up_to, sure_after};
use crate::keys::{issuer_of, keys_of};
use crate::{
    Annex, Append, AppendError, Change, ClaimWrite, CloseWrite, Committed, ERASED, Note,
    OneTimeKey, OpenTask, PersonOver, PersonWrite, RunAsked, SearchKey, Spend, StoredEntry,
    TreeHead, Unavailable,
};

const DAY_MILLIS: u64 = 86_400_000;

/// Everything a tenant has.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    tenant: Name,
    pub(super) entries: Vec<Entry>,
    /// The positions of each task's entries, and the tree over all.
    chains: BTreeMap<TaskId, Vec<usize>>,
    tree: Frontier,
    pub(super) at: Time,
    pub(super) tasks: BTreeMap<TaskId, OpenState>,
    pub(super) claims: Vec<Claimed>,
    pub(super) closed: Vec<ClosedRun>,
    pub(super) spent: BTreeMap<(Time, Digest), (Time, Spent)>,
    epochs: BTreeMap<EpochOf, u64>,
    people: BTreeMap<Digest, PersonWrite>,
    /// The first day of which nothing is forgotten.
    forgotten: u64,
    /// The day up to which all was over when it was looked at last, and since when.
    over: Option<(u64, Span)>,
    pub(super) revision: u64,
    pub(super) blocks: Blocks,
    documents: BTreeMap<String, Vec<u8>>,
    starts: Vec<(Name, Time)>,
    pub(super) counters: BTreeMap<(ClientId, String), u64>,
    pub(super) touched: Touched,
    /// What of the touches is durable.
    pub(super) saved: Touched,
}

/// An entry and its place in the chain of its task.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) stored: StoredEntry,
    pub(super) link: Option<(TaskId, u64)>,
}

/// An open task and the leaf hash of its last entry.
#[derive(Clone, Debug)]
pub(super) struct OpenState {
    task: Task,
    last: Hash,
}

#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) issuer: Name,
    pub(super) series: String,
    claim: Claim,
    pub(super) until: Time,
}

/// What of a series is closed.
#[derive(Clone, Debug)]
pub(super) struct ClosedRun {
    pub(super) issuer: Name,
    pub(super) series: String,
    closed: Closed,
    pub(super) until: Time,
}

/// An entry that is to be pushed: leaf, hash, annex, link.
type Sealed = (String, Hash, Option<Annex>, Option<(TaskId, u64)>);

impl Ledger {
    pub(super) fn new(tenant: &Name) -> Self {
        Self {
            tenant: tenant.clone(),
            entries: Vec::new(),
            chains: BTreeMap::new(),
            tree: Frontier::new(),
            at: Time::default(),
            tasks: BTreeMap::new(),
            claims: Vec::new(),
            closed: Vec::new(),
            spent: BTreeMap::new(),
            epochs: BTreeMap::new(),
            people: BTreeMap::new(),
            forgotten: 0,
            over: None,
            revision: 0,
            blocks: Blocks::default(),
            documents: BTreeMap::new(),
            starts: Vec::new(),
            counters: BTreeMap::new(),
            touched: Touched::default(),
            saved: Touched::default(),
        }
    }

    /// Checks everything, then changes everything.
    pub(super) fn append(&mut self, append: Append) -> Result<Committed, AppendError> {
        let at = self.at.max(append.now);
        self.check_versions(&append.changes)?;
        if append
            .revision
            .is_some_and(|revision| revision != self.revision)
        {
            return Err(AppendError::Revised);
        }
        if let Some(of) = self.moved_since(&append.relies) {
            return Err(AppendError::Stale(of));
        }
        let blocked = |on: &BlockOn| self.blocks.stands(on);
        if append.unblocked.iter().any(blocked) || !append.blocked.iter().all(blocked) {
            return Err(AppendError::Conflict);
        }
        if let Some(asked) = &append.asks {
            self.check_asked(asked)?;
        }
        for close in &append.closes {
            self.check_close(close, &append)?;
        }
        for claim in &append.claims {
            self.check_claim(claim, &append)?;
        }
        self.check_spends(&append.spends)?;
        if append
            .moves
            .iter()
            .any(|of| matches!(of, EpochOf::Person(_)))
        {
            return Err(unfit(&"the epoch of a person is not counted"));
        }
        let size = self.entries.len() as u64;
        if append.erases.len() > ERASED || append.erases.iter().any(|pos| *pos >= size) {
            return Err(unfit(
                &"annexes are erased of few entries, and of those that there are",
            ));
        }
        self.check_drop(&append)?;
        if let Some((workload, limits)) = &append.limits {
            self.check_limits(workload, *limits, append.now)?;
        }
        let mut sealed = Vec::new();
        for change in &append.changes {
            self.seal_change(change, at, &mut sealed)?;
        }
        for note in &append.notes {
            sealed.push(self.seal_note(note, at)?);
        }
        let first = self.entries.len() as u64;
        self.record(&append, sealed, at);
        let size = self.entries.len() as u64;
        Ok(Committed {
            at,
            size,
            changes: append.changes,
            positions: (first..size).collect(),
        })
    }

    fn check_versions(&self, changes: &[Change]) -> Result<(), AppendError> {
        let mut seen = BTreeSet::new();
        for change in changes {
            let present = self
                .tasks
                .get(&change.task)
                .map_or(0, |open| open.task.version);
            let known = self.chains.contains_key(&change.task);
            let holds = seen.insert(change.task)
                && present == change.expected_version
                && (present > 0) == known
                && !change.events.is_empty()
                && change.next.id == change.task
                && change.next.version == present + change.events.len() as u64;
            if !holds {
                return Err(AppendError::Conflict);
            }
        }
        Ok(())
    }

    /// What may be dropped is judged as everywhere; nothing is, for there are no bundles here.
    fn check_drop(&self, append: &Append) -> Result<(), AppendError> {
        let Some(range) = &append.drops else {
            return Ok(());
        };
        let mut dropped = self
            .entries
            .iter()
            .filter(|e| range.contains(&e.stored.pos));
        let is_open = |e: &Entry| {
            e.link
                .is_some_and(|(task, _)| self.tasks.contains_key(&task))
        };
        if range.end >= self.entries.len() as u64 || dropped.any(is_open) {
            return Err(AppendError::Conflict);
        }
        Ok(())
    }

    fn check_claim(&self, write: &ClaimWrite, append: &Append) -> Result<(), AppendError> {
        let ends = |task| {
            append
                .changes
                .iter()
                .any(|c| c.task == task && c.next.has_ended())
        };
        for held in self.series(&write.issuer, &write.series) {
            let is_open = held.state == ClaimState::Open;
            if held.key == write.claim.key && held.workload == write.claim.workload {
                if write.replaces != Some(held.task) || (is_open && !ends(held.task)) {
                    return Err(AppendError::Claimed { by: held.task });
                }
            } else if let Some(attempt) = write.claim.attempt
                && (held.attempt > Some(attempt)
                    || (held.attempt < Some(attempt) && is_open && !ends(held.task)))
            {
                return Err(AppendError::Conflict);
            }
        }
        Ok(())
    }

    fn check_asked(&self, asked: &RunAsked) -> Result<(), AppendError> {
        let closed = self.closed(&asked.issuer, &asked.series);
        let covers = |closed: &Closed| closed.covers(asked.attempt, &asked.instance);
        if closed.iter().any(covers) {
            return Err(AppendError::Conflict);
        }
        Ok(())
    }

    fn check_close(&self, close: &CloseWrite, append: &Append) -> Result<(), AppendError> {
        for held in self.series(&close.issuer, &close.series) {
            if held.state != ClaimState::Open || held.attempt != close.closed.attempt {
                continue;
            }
            let mut changes = append.changes.iter();
            let change = changes.find(|change| change.task == held.task);
            let goes_on = change.is_none_or(|change| !change.next.has_ended());
            let seen = |(task, version): &(TaskId, u64)| {
                let open = self.tasks.get(task);
                *task == held.task && open.is_some_and(|open| open.task.version == *version)
            };
            let known = change.is_some() || close.seen.iter().any(seen);
            if !known || (goes_on && close.closed.part.is_none()) {
                return Err(AppendError::Conflict);
            }
        }
        Ok(())
    }

    pub(super) fn check_spends(&self, spends: &[Spend]) -> Result<(), AppendError> {
        let mut own: BTreeMap<(Time, Digest), Spent> = BTreeMap::new();
        for (which, spend) in spends.iter().enumerate() {
            let key = (spend.key.at, spend.key.digest);
            if !self.keeps(&spend.key) {
                return Err(unfit(&"a one-time key is of a day that is forgotten"));
            }
            if let Some(by) = self.spent(&spend.key).or_else(|| own.get(&key).copied()) {
                return Err(AppendError::SpentKey { which, by });
            }
            own.insert(key, spend.by);
        }
        Ok(())
    }

    /// Whether it is known of a one-time key that it was spent, where it was.
    pub(super) const fn keeps(&self, key: &OneTimeKey) -> bool {
        day(key.until) >= self.forgotten
    }

    fn check_limits(&self, workload: &Name, limits: Limits, now: Time) -> Result<(), AppendError> {
        let Counts {
            open,
            starts_last_hour,
        } = self.counts(workload, now);
        let full = limits.open.is_some_and(|most| open >= most)
            || limits
                .starts_per_hour
                .is_some_and(|most| starts_last_hour >= most);
        if full {
            Err(AppendError::Conflict)
        } else {
            Ok(())
        }
    }

    fn seal_change(
        &self,
        change: &Change,
        at: Time,
        sealed: &mut Vec<Sealed>,
    ) -> Result<(), AppendError> {
        let mut prev = self.tasks.get(&change.task).map(|open| open.last);
        let task = change.task.to_string();
        for (seq, drafted) in (change.expected_version + 1..).zip(&change.events) {
            let data = to_raw_value(&drafted.event).map_err(|error| unfit(&error))?;
            let link = Link {
                task: task.as_str().into(),
                seq,
                prev,
            };
            let (leaf, hash) = self.seal(
                drafted.event.kind(),
                &data,
                drafted.annex.as_ref(),
                (Some(link), at),
            )?;
            prev = Some(hash);
            sealed.push((leaf, hash, drafted.annex.clone(), Some((change.task, seq))));
        }
        Ok(())
    }

    pub(super) fn seal_note(&self, note: &Note, at: Time) -> Result<Sealed, AppendError> {
        let data: &RawValue = serde_json::from_str(&note.data).map_err(|error| unfit(&error))?;
        let (leaf, hash) = self.seal(note.kind, data, note.annex.as_ref(), (None, at))?;
        Ok((leaf, hash, note.annex.clone(), None))
    }

    fn seal(
        &self,
        kind: &str,
        data: &RawValue,
        annex: Option<&Annex>,
        (link, at): (Option<Link<'_>>, Time),
    ) -> Result<(String, Hash), AppendError> {
        let leaf = Leaf {
            tenant: self.tenant.as_str().into(),
            link,
            at: at.millis(),
            kind: kind.into(),
            data,
            h: annex.map(|annex| annex_hash(&annex.salt, annex.data.as_bytes())),
        };
        let leaf = leaf.encode().map_err(|error| match error {
            LeafError::TooLong { .. } => AppendError::TooLarge,
            LeafError::Data | LeafError::Link | LeafError::Json(_) | LeafError::Spelling { .. } => {
                unfit(&error)
            }
        })?;
        let hash = leaf_hash(leaf.as_bytes());
        Ok((leaf, hash))
    }

    fn record(&mut self, append: &Append, sealed: Vec<Sealed>, at: Time) {
        for write in &append.claims {
            self.claims.retain(|held| {
                !(held.issuer == write.issuer
                    && held.series == write.series
                    && held.claim.key == write.claim.key
                    && held.claim.workload == write.claim.workload)
            });
            let deadline = append
                .changes
                .iter()
                .find(|change| change.task == write.claim.task);
            self.claims.push(Claimed {
                issuer: write.issuer.clone(),
                series: write.series.clone(),
                claim: write.claim.clone(),
                until: deadline.map_or(write.until, |c| write.until.max(c.next.deadline)),
            });
        }
        for close in &append.closes {
            self.record_close(close);
        }
        for write in &append.people {
            self.record_person(write);
        }
        for entry in sealed {
            self.push(entry, at);
        }
        for change in &append.changes {
            self.record_change(change, append.now);
        }
        for spend in &append.spends {
            self.spent.insert(
                (spend.key.at, spend.key.digest),
                (spend.key.until, spend.by),
            );
        }
        for block in &append.blocks {
            self.blocks.set(block.clone());
        }
        for on in &append.lifts {
            self.blocks.lift(on);
        }
        for of in &append.moves {
            *self.epochs.entry(of.clone()).or_default() += 1;
        }
        self.revision += u64::from(append.revises);
        for pos in &append.erases {
            let entry = usize::try_from(*pos)
                .ok()
                .and_then(|at| self.entries.get_mut(at));
            if let Some(entry) = entry {
                entry.stored.annex = None;
            }
        }
        for document in &append.documents {
            match &document.bytes {
                Some(bytes) => self.documents.insert(document.name.clone(), bytes.clone()),
                None => self.documents.remove(&document.name),
            };
        }
    }

    /// What was said before keeps its time and is kept as long as either asks.
    fn record_close(&mut self, close: &CloseWrite) {
        let same = self.closed.iter_mut().find(|held| {
            held.issuer == close.issuer
                && held.series == close.series
                && held.closed.is_same(&close.closed)
        });
        match same {
            Some(held) => held.until = held.until.max(close.until),
            None => self.closed.push(ClosedRun {
                issuer: close.issuer.clone(),
                series: close.series.clone(),
                closed: close.closed.clone(),
                until: close.until,
            }),
        }
    }

    /// What reaches furthest stands, and is kept as long as anybody asked.
    fn record_person(&mut self, write: &PersonWrite) {
        let held = self.people.entry(write.person);
        let held = held.or_insert_with(|| write.clone());
        let until = held.until.max(write.until);
        if held.over.upto < write.over.upto {
            *held = write.clone();
        }
        held.until = until;
    }

    pub(super) fn person(&self, person: &Digest) -> Option<PersonOver> {
        self.people.get(person).map(|held| held.over.clone())
    }

    pub(super) fn push(&mut self, (leaf, hash, annex, link): Sealed, at: Time) {
        let pos = self.entries.len() as u64;
        if let Some((task, _)) = link
            && let Some(open) = self.tasks.get_mut(&task)
        {
            open.last = hash;
        }
        if let Some((task, _)) = link {
            self.chains
                .entry(task)
                .or_default()
                .push(self.entries.len());
        }
        self.tree.push(hash);
        self.entries.push(Entry {
            stored: StoredEntry {
                pos,
                leaf,
                hash,
                annex,
            },
            link,
        });
        self.at = at;
    }

    fn record_change(&mut self, change: &Change, now: Time) {
        let task = &change.next;
        if change.expected_version == 0 {
            self.starts.push((task.workload.clone(), now));
        }
        if task.hears_from_start() && !task.has_ended() {
            self.touched.seen.entry(task.id).or_insert(task.opened);
        }
        match task.state {
            TaskState::Open | TaskState::Pending(_) => {
                let last = self.chain(task.id).last();
                if let Some(last) = last.map(|entry| entry.stored.hash) {
                    self.tasks.insert(
                        task.id,
                        OpenState {
                            task: task.clone(),
                            last,
                        },
                    );
                }
            }
            TaskState::Ended { cause, .. } => {
                self.tasks.remove(&task.id);
                self.touched.seen.remove(&task.id);
                self.counters
                    .retain(|(client, _), _| client.task != task.id);
                let deadline = task.deadline;
                for held in self
                    .claims
                    .iter_mut()
                    .filter(|held| held.claim.task == task.id)
                {
                    held.claim.state = ClaimState::Ended { cause, deadline };
                }
            }
        }
    }

    /// Drops what is kept until a day that has been over for long enough.
    pub(super) fn forget_passed(&mut self, now: Reading) {
        let passed = day(now.wall.min(self.at));
        if passed <= self.forgotten {
            self.over = None;
            return;
        }
        let (over, since) = match self.over {
            Some((over, since)) if over <= passed => (over, since),
            Some(_) | None => (passed, now.monotonic),
        };
        self.over = Some((over, since));
        if now.monotonic < since + sure_after(self.forgotten, over) {
            return;
        }
        let over = forgets_up_to(self.forgotten, over, self.first_kept());
        self.claims.retain(|held| day(held.until) >= over);
        self.closed.retain(|held| day(held.until) >= over);
        self.people.retain(|_, held| day(held.until) >= over);
        self.spent.retain(|_, (until, _)| day(*until) >= over);
        self.forgotten = over;
        self.over = Some((passed, now.monotonic));
    }

    /// The first day of which anything is kept.
    fn first_kept(&self) -> Option<u64> {
        let claims = self.claims.iter().map(|held| held.until);
        let closed = self.closed.iter().map(|held| held.until);
        let people = self.people.values().map(|held| held.until);
        let spent = self.spent.values().map(|(until, _)| *until);
        let kept = claims.chain(closed).chain(people).chain(spent);
        kept.map(day).min()
    }

    /// The entries of a task, in their order.
    pub(super) fn chain(&self, task: TaskId) -> impl Iterator<Item = &Entry> {
        let places = self.chains.get(&task).into_iter().flatten();
        places.filter_map(|at| self.entries.get(*at))
    }

    pub(super) fn open_task(&self, id: TaskId) -> Option<OpenTask> {
        let task = self.tasks.get(&id)?.task.clone();
        let last_seen = self.touched.seen.get(&id).copied();
        Some(OpenTask {
            heard: Heard {
                last_seen,
                deaf: self.touched.deaf_since(last_seen),
            },
            stale: self.moved_since(&task.epochs),
            lost: task
                .relied_below()
                .filter(|epoch| epoch.is_lost(self.epoch(&epoch.of)))
                .cloned()
                .collect(),
            task,
        })
    }

    pub(super) fn epoch(&self, of: &EpochOf) -> u64 {
        if let EpochOf::Person(person) = of {
            let upto = self.people.get(person).map(|held| held.over.upto);
            return upto.unwrap_or_default().millis();
        }
        self.epochs.get(of).copied().unwrap_or_default()
    }

    pub(super) fn moved_since(&self, relies: &[Epoch]) -> Option<EpochOf> {
        let moved = relies
            .iter()
            .find(|epoch| epoch.is_lost(self.epoch(&epoch.of)))?;
        Some(moved.of.clone())
    }

    pub(super) fn claims(&self, issuer: &Name, series: &str) -> Vec<Claim> {
        self.series(issuer, series).cloned().collect()
    }

    pub(super) fn closed(&self, issuer: &Name, series: &str) -> Vec<Closed> {
        self.closed
            .iter()
            .filter(|held| held.issuer == *issuer && held.series == series)
            .map(|held| held.closed.clone())
            .collect()
    }

    fn series(&self, issuer: &Name, series: &str) -> impl Iterator<Item = &Claim> {
        self.claims
            .iter()
            .filter(move |held| held.issuer == *issuer && held.series == series)
            .map(|held| &held.claim)
    }

    pub(super) fn spent(&self, key: &OneTimeKey) -> Option<Spent> {
        self.spent.get(&(key.at, key.digest)).map(|(_, by)| *by)
    }

    pub(super) fn counts(&self, workload: &Name, now: Time) -> Counts {
        let hour = Span::from_seconds(3600);
        let open = self
            .tasks
            .values()
            .filter(|open| open.task.workload == *workload)
            .count();
        let minute = Span::from_seconds(60);
        let started =
            |(of, at): &&(Name, Time)| of == workload && *at + hour > now && *at < now + minute;
        Counts {
            open: open as u64,
            starts_last_hour: self.starts.iter().filter(started).count() as u64,
        }
    }

    pub(super) fn documents(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let documents = self
            .documents
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        documents
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    }

    pub(super) fn keys_of(&self, entry: &Entry) -> Vec<SearchKey> {
        let issuer = || {
            let (task, _) = entry.link?;
            let first = self.entries.iter().find(|e| e.link == Some((task, 1)))?;
            issuer_of(&first.stored.leaf)
        };
        let annex = entry.stored.annex.as_ref().map(|annex| annex.data.as_str());
        keys_of(&entry.stored.leaf, annex, issuer)
    }

    pub(super) fn head(&self) -> TreeHead {
        let root = if self.entries.is_empty() {
            empty_root()
        } else {
            self.tree.root()
        };
        TreeHead {
            size: self.entries.len() as u64,
            root,
            at: self.at,
        }
    }

    pub(super) fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Unavailable> {
        let mut nodes: Vec<Hash> = self.entries.iter().map(|entry| entry.stored.hash).collect();
        for _ in 0..8 * u32::from(level) {
            nodes = nodes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[left, right]| node_hash(left, right))
                .collect();
        }
        let first = usize::try_from(index)
            .unwrap_or(usize::MAX)
            .saturating_mul(256);
        nodes
            .get(first..first.saturating_add(width.into()))
            .filter(|_| width <= TILE_WIDTH)
            .map(<[Hash]>::to_vec)
            .ok_or_else(|| Unavailable("the tree does not hold that tile".into()))
    }
}

const fn day(time: Time) -> u64 {
    time.millis() / DAY_MILLIS
}

/// An append that no ledger can hold: a fault of the caller's.
fn unfit(error: &impl ToString) -> AppendError {
    AppendError::Unfit(Unavailable(error.to_string()))
}

//! The way back: what was held becomes the first batch of a ledger that records again, then the outage itself.

use std::collections::HashSet;
use std::sync::Arc;

use dayfly_domain::{BlockOn, EpochOf, Name, Span, TaskId, Time};
use dayfly_store::{
    Annex, Answer, Append, AppendError, Change, Committed, Facts, FactsQuery, Note, OpenTask,
    Store, Touch, Unavailable,
};
use serde_json::json;

use super::record::{Held, HeldBlock, HeldMove};
use super::set::applied;
use super::store::{ObeyingStore, late, within};
use super::words::{PEOPLE, Word};
use super::{PATIENCE, Stall};
use crate::app::closing::Closing;
use crate::app::contain::{Contained, Stop, stopped};
use crate::app::instance::{InstanceOf, Looking};
use crate::app::moved::{Moves, Taken};
use crate::app::signal;
use crate::app::sought::{Sought, What};
use crate::declared::HandOvers;
use crate::random;

/// How many ends are recorded side by side.
const BATCH: usize = 256;
/// How often an end is looked at again whose task moves under it.
const ROUNDS: usize = 64;
/// How often the door is tried to be opened behind those who had come before it was closed.
const STRAGGLERS: usize = 8;
/// The first and the longest wait between two tries.
const FIRST_WAIT: Span = Span::from_millis(500);
const LONGEST_WAIT: Span = Span::from_seconds(5);

/// When to try again, by the monotonic clock.
#[derive(Default)]
pub(super) struct Retry {
    wait: Span,
    not_before: Span,
    unanswered: Option<Made>,
}

/// The answer to an append of an outage.
type Made = Answer<Result<Committed, AppendError>>;

impl ObeyingStore {
    /// Tries to go on after a stall, no more often than its backoff allows: records what is held,
    /// then the outage in the ledgers of these tenants. Whether the ledger records.
    pub async fn resume(&self, tenants: &[Name]) -> bool {
        if !self.shared.is_closed() {
            return true;
        }
        let Ok(mut retry) = self.shared.resuming.try_lock() else {
            return false;
        };
        self.hear_nothing(tenants);
        let now = self.shared.clock.monotonic();
        if now < retry.not_before {
            return false;
        }
        match self.try_resume(tenants, &mut retry.unanswered).await {
            Ok(true) => {
                tracing::info!("the ledger records again");
                *retry = Retry::default();
                true
            }
            Ok(false) => false,
            Err(why) => {
                let doubled = retry.wait + retry.wait;
                retry.wait = doubled.max(FIRST_WAIT).min(LONGEST_WAIT);
                retry.not_before = now + retry.wait;
                tracing::warn!(%why, waiting = self.waiting(), "the ledger is still stalled");
                false
            }
        }
    }

    /// Time in which nobody could renew or be sure to be heard counts against no task. What was
    /// marked before is part of the same span, so an outage is added once.
    fn hear_nothing(&self, tenants: &[Name]) {
        let Some(stall) = self.stall() else {
            return;
        };
        for tenant in tenants {
            let (from, to) = (stall.since, self.shared.clock.now());
            Store::touch(self, tenant, Touch::Deaf { from, to });
        }
    }

    async fn try_resume(
        &self,
        tenants: &[Name],
        unanswered: &mut Option<Made>,
    ) -> Result<bool, Unavailable> {
        self.keep_unkept().await;
        self.record_held().await?;
        // The ledger records. What came meanwhile are few, and while these are recorded none are
        // added: otherwise ends that come faster than that would keep the ledger stalled for ever.
        let _closed = self.shared.door.write().await;
        for _ in 0..STRAGGLERS {
            let (held, stall) = self.record_held().await?;
            if let Some(stall) = stall {
                self.note_outage(tenants, &stall, &held, unanswered).await?;
            }
            let shared = Arc::clone(&self.shared);
            let open = tokio::task::spawn_blocking(move || shared.reopen())
                .await
                .map_err(|why| Unavailable(why.to_string()))?;
            let emptied = |why| format!("the containment journal cannot be emptied: {why}");
            if open.map_err(|why| Unavailable(emptied(why)))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Records what is held by now; gives all that was held in this stall, and the stall.
    async fn record_held(&self) -> Result<(Vec<Arc<Held>>, Option<Stall>), Unavailable> {
        let (held, recorded, stall) = {
            let state = self.shared.state();
            (state.held.clone(), state.recorded, state.stall.clone())
        };
        let mut left = held.get(recorded..).unwrap_or_default();
        while !left.is_empty() {
            let (batch, rest) = left.split_at(together(left));
            self.record(batch).await?;
            self.shared.state_mut().count_recorded(batch);
            left = rest;
        }
        self.record_words().await?;
        Ok((held, stall))
    }

    /// Records ends of different tasks side by side. Each is decided on the state as it is now, so
    /// what is in the ledger already is not recorded again.
    async fn record(&self, batch: &[Arc<Held>]) -> Result<(), Unavailable> {
        let mut left: Vec<Arc<Held>> = batch.to_vec();
        for _ in 0..ROUNDS {
            let mut waiting = Vec::with_capacity(left.len());
            for held in left {
                if let Some(append) = self.append_of(&held)? {
                    let answer = self.shared.inner.append(&held.tenant, append);
                    waiting.push((held, answer));
                }
            }
            left = Vec::new();
            for (held, answer) in waiting {
                match within(answer).await {
                    Ok(committed) => self.shared.count(&held.tenant, &committed),
                    Err(
                        AppendError::Unfit(why)
                        | AppendError::Unavailable(why)
                        | AppendError::Unknown(why),
                    ) => return Err(why),
                    // It moved meanwhile: the next round looks again.
                    Err(
                        AppendError::Conflict
                        | AppendError::Revised
                        | AppendError::Stale(_)
                        | AppendError::Claimed { .. }
                        | AppendError::SpentKey { .. },
                    ) => left.push(held),
                    Err(AppendError::TooLarge) => left.push(Arc::new(short(&held)?)),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(Unavailable("what is held did not stand still".to_owned()))
    }

    /// Records what is held of people, side by side: each by what is known of the person now. Those
    /// that come faster than this are left for the next time.
    async fn record_words(&self) -> Result<(), Unavailable> {
        let mut idle = 0;
        for _ in 0..PEOPLE / BATCH + ROUNDS {
            let (left, before) = {
                let words = &self.shared.state().words;
                (words.waiting(BATCH), words.len())
            };
            if left.is_empty() {
                return Ok(());
            }
            self.record_words_of(left).await?;
            let fewer = self.shared.state().words.len() < before;
            idle = if fewer { 0 } else { idle + 1 };
            if idle == ROUNDS {
                return Err(Unavailable(
                    "what is said of people did not stand still".to_owned(),
                ));
            }
        }
        Ok(())
    }

    async fn record_words_of(&self, words: Vec<Arc<Word>>) -> Result<(), Unavailable> {
        let mut waiting = Vec::with_capacity(words.len());
        for word in words {
            let facts = self.shared.inner.facts(
                &word.tenant,
                &FactsQuery {
                    epochs: &signal::epochs(&word),
                    ..FactsQuery::default()
                },
            )?;
            let append = signal::append(&word, &facts);
            let answer = append
                .map_err(|why| Unavailable(why.to_string()))?
                .map(|append| self.shared.inner.append(&word.tenant, append));
            waiting.push((word, answer));
        }
        for (word, answer) in waiting {
            let recorded = match answer {
                None => Ok(()),
                Some(answer) => within(answer).await.map(drop),
            };
            match recorded {
                Ok(()) => self.shared.state_mut().words.recorded(&word),
                // Two transmitters said it, or it moved meanwhile: the next round looks again.
                Err(
                    AppendError::Conflict
                    | AppendError::Revised
                    | AppendError::Stale(_)
                    | AppendError::Claimed { .. }
                    | AppendError::SpentKey { .. },
                ) => {}
                Err(
                    AppendError::Unfit(why)
                    | AppendError::Unavailable(why)
                    | AppendError::Unknown(why),
                ) => return Err(why),
                Err(AppendError::TooLarge) => {
                    return Err(Unavailable("a word does not fit into an entry".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// What is left to record of this; none when the ledger has all of it.
    pub(super) fn append_of(&self, held: &Held) -> Result<Option<Append>, Unavailable> {
        let tasks: Vec<TaskId> = held.ends.iter().map(|end| end.task).collect();
        let blocked = held.blocks.iter();
        let blocked = blocked.filter_map(|held| Contained::of(&held.block.on));
        let moved = held.moves.iter().map(|held| held.of.clone());
        let epochs: Vec<EpochOf> = blocked.map(|what| what.epoch()).chain(moved).collect();
        let documents = (!epochs.is_empty()).then(Moves::documents);
        let query = FactsQuery {
            tasks: &tasks,
            epochs: &epochs,
            documents,
            ..FactsQuery::default()
        };
        let facts = self.shared.inner.facts(&held.tenant, &query)?;
        // INVARIANT: after the epochs were read, as [`Contained::append`] demands.
        let size = self.shared.inner.head(&held.tenant)?.size;
        let mut append = Append::default();
        for block_held in &held.blocks {
            block(&mut append, block_held, (&facts, size))?;
        }
        for moved in &held.moves {
            take_rights(&mut append, moved, held.at, (&facts, size))?;
        }
        append.now = held.at;
        for (end, open) in held.ends.iter().zip(&facts.tasks) {
            let Some(open) = open else {
                tracing::info!(
                    tenant = %held.tenant, task = %end.task,
                    "a held end is of no open task: there is nothing to record"
                );
                continue;
            };
            let (events, next) = applied(&open.task, &end.events);
            if !events.is_empty() {
                append.changes.push(Change {
                    task: end.task,
                    expected_version: open.task.version,
                    events,
                    next,
                });
            }
        }
        for closing in &held.closings {
            self.close(&mut append, held, closing)?;
        }
        for sought in &held.sought {
            self.find(&mut append, held, sought)?;
        }
        let nothing = append.changes.is_empty()
            && append.blocks.is_empty()
            && append.closes.is_empty()
            && append.moves.is_empty();
        Ok((!nothing).then_some(append))
    }

    /// Has an append close a run, and end what of it is open beside what is held.
    fn close(
        &self,
        append: &mut Append,
        held: &Held,
        closing: &Closing,
    ) -> Result<(), Unavailable> {
        let query = FactsQuery {
            series: Some((&closing.issuer, &closing.series)),
            ..FactsQuery::default()
        };
        let claims = self.shared.inner.facts(&held.tenant, &query)?.claims;
        let open = self.with_moves(held, &closing.of_attempt(&claims))?;
        closing
            .add_to(append, &open)
            .map(drop)
            .map_err(|why| Unavailable(why.to_string()))
    }

    /// Has an append end what could not be looked up when that was acknowledged.
    fn find(&self, append: &mut Append, held: &Held, sought: &Sought) -> Result<(), Unavailable> {
        let tasks = match &sought.what {
            What::Task(task) => vec![*task],
            What::Client(client) => vec![client.task],
            What::Instance { issuer, instance } => {
                let looking = Looking {
                    store: Arc::clone(&self.shared.inner),
                    tenant: held.tenant.clone(),
                    what: InstanceOf {
                        issuer: issuer.clone(),
                        instance: instance.clone(),
                    },
                    since: self.open_since(),
                };
                let found = looking.held()?;
                found.iter().map(|found| found.open.task.id).collect()
            }
        };
        let (open, moves) = self.open_of(held, &tasks)?;
        if open.is_empty() {
            tracing::info!(
                tenant = %held.tenant, ?sought,
                "a held end is of nothing that is open: there is nothing to record"
            );
        }
        let standing = self
            .shared
            .inner
            .facts(&held.tenant, &FactsQuery::default())?
            .blocks;
        sought
            .add_to(append, (open, &moves), &standing)
            .map_err(|why| Unavailable(why.to_string()))
    }

    /// Those of these tasks that are open, each with why it is over already.
    fn with_moves(
        &self,
        held: &Held,
        tasks: &[TaskId],
    ) -> Result<Vec<(OpenTask, Option<Taken>)>, Unavailable> {
        let (open, moves) = self.open_of(held, tasks)?;
        let taken = |open: OpenTask| {
            let taken = moves.taken(&open, held.at);
            (open, taken)
        };
        Ok(open.into_iter().map(taken).collect())
    }

    /// Those of these tasks that are open, and the moves that may have taken rights from them.
    fn open_of(
        &self,
        held: &Held,
        tasks: &[TaskId],
    ) -> Result<(Vec<OpenTask>, Moves), Unavailable> {
        let query = FactsQuery {
            tasks,
            documents: Some(Moves::documents()),
            ..FactsQuery::default()
        };
        let facts = self.shared.inner.facts(&held.tenant, &query)?;
        let mut moves = Moves::of(&facts.documents)?;
        let open: Vec<OpenTask> = facts.tasks.into_iter().flatten().collect();
        moves.look_up_notes(self.shared.inner.as_ref(), &held.tenant, &open)?;
        Ok((open, moves))
    }

    /// Records the outage in the ledgers that do not have it yet.
    async fn note_outage(
        &self,
        tenants: &[Name],
        stall: &Stall,
        held: &[Arc<Held>],
        unanswered: &mut Option<Made>,
    ) -> Result<(), Unavailable> {
        let noted = self.shared.state().noted;
        for tenant in tenants.iter().skip(noted) {
            // What was answered too late may be made all the same: only what was not is tried again.
            if let Some(late) = unanswered.take()
                && patiently(late, unanswered).await?.is_ok()
            {
                self.shared.state_mut().noted += 1;
                continue;
            }
            let now = self.shared.clock.now();
            let ends = held.iter().filter(|held| held.tenant == *tenant).count();
            let ends = ends + self.shared.state().words.of_tenant(tenant);
            let reason = json!({ "reason": stall.why.to_string() }).to_string();
            let salt = random::bytes().map_err(|why| Unavailable(why.to_string()))?;
            let append = Append {
                now,
                notes: vec![
                    Note {
                        kind: "ledger.stalled",
                        data: json!({ "since": stall.since }).to_string(),
                        annex: Some(Annex { salt, data: reason }),
                    },
                    Note {
                        kind: "ledger.resumed",
                        data: json!({ "since": stall.since, "until": now, "held": ends })
                            .to_string(),
                        annex: None,
                    },
                ],
                ..Append::default()
            };
            let answer = self.shared.inner.append(tenant, append);
            let committed = patiently(answer, unanswered).await?;
            committed.map_err(|why| Unavailable(why.to_string()))?;
            self.shared.state_mut().noted += 1;
        }
        Ok(())
    }
}

/// Waits for as long as a commit may take; keeps the answer that does not come within that.
async fn patiently(
    mut answer: Made,
    unanswered: &mut Option<Made>,
) -> Result<Result<Committed, AppendError>, Unavailable> {
    match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(made) => Ok(made),
        Err(_) => {
            *unanswered = Some(answer);
            Err(late())
        }
    }
}

/// What was held although its entry does not fit: it is recorded with one that does, for nothing is
/// granted before all of it is.
fn short(held: &Held) -> Result<Held, Unavailable> {
    let short = held.shortened();
    if short.bytes() == held.bytes() {
        return Err(Unavailable(
            "what is held does not fit into an entry".to_owned(),
        ));
    }
    tracing::error!(
        tenant = %held.tenant, at = %held.at,
        "a held entry does not fit: it is recorded with its long texts cut"
    );
    Ok(short)
}

/// How many from the first on may be recorded side by side: a containment alone, for it moves what
/// others rely on, and of each task one.
fn together(held: &[Arc<Held>]) -> usize {
    let mut tasks = HashSet::new();
    let fit = held.iter().take(BATCH).take_while(|held| {
        let mut blocked = held.blocks.iter();
        let alone = !held.moves.is_empty()
            || !held.sought.is_empty()
            || blocked.any(|held| Contained::of(&held.block.on).is_some());
        !alone && held.ends.iter().all(|end| tasks.insert(end.task))
    });
    fit.count().max(1)
}

/// Has an append set a block that does not stand yet.
fn block(
    append: &mut Append,
    held: &HeldBlock,
    (facts, size): (&Facts, u64),
) -> Result<(), Unavailable> {
    let on: &BlockOn = &held.block.on;
    let stands = facts.blocks.stands(on);
    let handed = match on {
        BlockOn::Owner(owner) => {
            let handed = HandOvers::of(&facts.documents)?;
            handed.of_owner(owner).map(|handed| handed.to.clone())
        }
        BlockOn::Series { .. }
        | BlockOn::Key { .. }
        | BlockOn::Instance { .. }
        | BlockOn::Person(_)
        | BlockOn::Barred(_)
        | BlockOn::Issuer(_)
        | BlockOn::Workload(_)
        | BlockOn::Tenant => None,
    };
    if stands && (held.to.is_none() || held.to == handed) {
        return Ok(());
    }
    let mut data = held.data.clone();
    let stop = match &held.to {
        None => Stop::Block,
        Some(to) => match no_heir(to, handed.as_ref(), facts) {
            None => Stop::HandOver(to.clone()),
            // Nobody could read this when it was acknowledged. The end of it stands all the same.
            Some(why) => {
                tracing::error!(%on, %to, %why, "a held hand-over is recorded as a block alone");
                if stands {
                    return Ok(());
                }
                data = without_heir(&data);
                Stop::Block
            }
        },
    };
    let note = stopped(&stop, data, held.annex.clone());
    if let Some(what) = Contained::of(on) {
        *append = what.append(&stop, (facts, size), held.block.since, note)?;
        return Ok(());
    }
    append.notes.push(note);
    // A try that was not answered in time may be made all the same: it is looked at again.
    append.unblocked.push(on.clone());
    append.blocks.push(held.block.clone());
    Ok(())
}

/// Why workloads cannot be handed over to this owner now; none where they can.
fn no_heir(to: &Name, handed: Option<&Name>, facts: &Facts) -> Option<String> {
    if let Some(other) = handed {
        return Some(format!("they were handed over to {other} before"));
    }
    let offboarded = BlockOn::Owner(to.clone());
    let block = facts.blocks.get(&offboarded)?;
    Some(format!("{to} is offboarded since {}", block.since))
}

/// The data of an entry that hands over, without to whom.
fn without_heir(data: &str) -> String {
    match serde_json::from_str(data) {
        Ok(serde_json::Value::Object(mut members)) => {
            members.remove("to");
            serde_json::Value::Object(members).to_string()
        }
        Ok(_) | Err(_) => data.to_owned(),
    }
}

/// Has an append take rights that were not taken yet.
fn take_rights(
    append: &mut Append,
    held: &HeldMove,
    at: Time,
    (facts, size): (&Facts, u64),
) -> Result<(), Unavailable> {
    let Some(what) = Contained::of_epoch(&held.of) else {
        return Ok(());
    };
    // The moves that are kept say when: it was recorded before its answer came, or before a fall.
    if Moves::of(&facts.documents)?.holds(&held.of, what.cause(&Stop::End), at) {
        return Ok(());
    }
    let note = stopped(&Stop::End, held.data.clone(), held.annex.clone());
    *append = what.append(&Stop::End, (facts, size), at, note)?;
    Ok(())
}

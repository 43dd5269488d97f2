//! The store as every use case sees it: what is held is obeyed, and nothing is granted while the ledger stalls.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dayfly_domain::{Digest, EpochOf, Event, Heard, Moved, Name, Span, TaskId, Time};
use dayfly_ledger::Hash;
use dayfly_store::clock::Clock;
use dayfly_store::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Observed, OpenFilter,
    OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead, Unavailable, Use,
};

use super::journal::{BARE_BYTES, Backlog, Journal};
use super::jump::{Jump, JumpWatch};
use super::record::Held;
use super::resume::Retry;
use super::set::{Contained, OfTenant};
use super::words::{PEOPLE, Part, Word, Words};
use super::{Acknowledged, PATIENCE, Stall};
use crate::app::closing::{Closing, Closings};
use crate::app::pods::Pods;
use crate::app::sought::Sought;
use crate::app::sweep::LONGEST_OPEN;
use crate::app::tally::Tally;

/// Longer than any grace.
const FOREVER: Span = Span::from_millis(u64::MAX);

/// A store in front of another one. See the module's text.
#[derive(Clone)]
pub struct ObeyingStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) inner: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    journal: Mutex<Option<Journal>>,
    /// The folder of the journal, whose disk is watched.
    folder: Option<PathBuf>,
    /// Whether the ledger stalls or anything is held: what is read while it is set is covered.
    closed: AtomicBool,
    state: RwLock<State>,
    /// Held to write while the last few of what is held are recorded: whoever ends something
    /// meanwhile waits, and decides anew once the ledger records.
    pub(super) door: tokio::sync::RwLock<()>,
    pub(super) resuming: tokio::sync::Mutex<Retry>,
    watch: JumpWatch,
    tally: Tally,
    pods: Arc<Pods>,
}

/// What is held, and why.
#[derive(Default)]
pub(super) struct State {
    /// In the order of their acknowledgement.
    pub(super) held: Vec<Arc<Held>>,
    /// How many of these, from the first on, the ledger has by now.
    pub(super) recorded: usize,
    /// Those that neither the ledger nor the journal has: they are lost with this process.
    pub(super) unkept: Vec<Arc<Held>>,
    /// What is held of people.
    pub(super) words: Words,
    set: Contained,
    pub(super) stall: Option<Stall>,
    /// How many ledgers have the outage by now.
    pub(super) noted: usize,
    /// How much of the journal closes take that change no task.
    bare: usize,
}

impl ObeyingStore {
    /// A store in front of `inner`, which obeys what the journal of the last run has left from the
    /// first read on. Without a journal an end that cannot be recorded lasts as long as the process.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        journal: Option<(Journal, Backlog)>,
    ) -> Self {
        let (journal, Backlog { held, words }) = match journal {
            Some((journal, backlog)) => (Some(journal), backlog),
            None => (None, Backlog::default()),
        };
        let times = held.iter().map(|held| held.at);
        let first = times.chain(words.iter().map(Word::at)).min();
        let stall = first.map(|since| Stall {
            since,
            why: Unavailable("ends wait in the journal since before the start".to_owned()),
        });
        let state = State {
            bare: held.iter().map(Held::bare_room).sum(),
            set: Contained::of(&held, &words),
            words: Words::of(words),
            held: held.into_iter().map(Arc::new).collect(),
            stall,
            ..State::default()
        };
        let shared = Shared {
            inner,
            clock,
            folder: journal
                .as_ref()
                .map(|journal| journal.ends.folder().to_owned()),
            journal: Mutex::new(journal),
            closed: AtomicBool::new(state.stall.is_some()),
            state: RwLock::new(state),
            door: tokio::sync::RwLock::default(),
            resuming: tokio::sync::Mutex::default(),
            watch: JumpWatch::default(),
            tally: Tally::default(),
            pods: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Records an end, or holds it where the ledger cannot: it is obeyed from then on, whatever
    /// becomes of the ledger.
    ///
    /// # Errors
    /// Those that say that it has to be decided again, and [`AppendError::TooLarge`]: what no entry
    /// can hold is not held either, for the ledger could never go on with it.
    pub(in crate::app) async fn end(
        &self,
        tenant: &Name,
        append: Append,
    ) -> Result<Acknowledged, AppendError> {
        let held = Held::of(tenant, &append);
        if !held.fits() {
            return Err(AppendError::TooLarge);
        }
        match self.append(tenant, append).await {
            Ok(_) => Ok(Acknowledged::Recorded),
            Err(AppendError::Unavailable(why) | AppendError::Unknown(why)) => {
                Ok(self.hold(held, why).await)
            }
            Err(error) => Err(error),
        }
    }

    /// The same for what is over by the word of a platform: where it is held, the runs are closed with
    /// the ends when they are recorded.
    ///
    /// # Errors
    /// As [`ObeyingStore::end`].
    pub(in crate::app) async fn end_closing(
        &self,
        tenant: &Name,
        append: Append,
        closings: Closings,
    ) -> Result<Acknowledged, AppendError> {
        let (now, bare) = (append.now, closings.bare);
        let held = Held::closing(tenant, &append, closings.ending);
        if !held.fits() {
            return Err(AppendError::TooLarge);
        }
        let why = match self.append(tenant, append).await {
            Ok(_) => return Ok(Acknowledged::Recorded),
            Err(AppendError::Unavailable(why) | AppendError::Unknown(why)) => why,
            Err(error) => return Err(error),
        };
        // What ends is taken, whether there is room for what else the word closes or not.
        let ended = if held.ends.is_empty() {
            None
        } else {
            Some(self.hold(held, why.clone()).await)
        };
        let closed = self.hold_closings(tenant, now, bare, why).await;
        let closed = closed.map_err(AppendError::Unavailable)?;
        let mut held = [&ended, &closed].into_iter().flatten();
        // What is held already by an earlier word may not be in the journal either.
        let journaled = held.all(Acknowledged::is_durable) && self.keeps_all(tenant).await;
        Ok(Acknowledged::Held { journaled })
    }

    /// Holds a word about a person that cannot be recorded: it is obeyed from now on, until the
    /// ledger records, whether the journal has room for it or not.
    ///
    /// # Errors
    /// The transmitter has spoken of more people in this stall than its part of the memory holds.
    pub(in crate::app) async fn hold_word(
        &self,
        word: &Word,
        part: Part,
        why: Unavailable,
    ) -> Result<Acknowledged, Unavailable> {
        let held = {
            let mut state = self.shared.state_mut();
            let held = state.words.add(word, part.of(PEOPLE));
            if let Some(held) = &held {
                state.set.add_word(held);
            }
            self.shared.close(&mut state, why);
            held
        };
        let held = held.ok_or_else(|| {
            Unavailable("the transmitter's part of what is held of people is full".to_owned())
        })?;
        let shared = Arc::clone(&self.shared);
        let kept = tokio::task::spawn_blocking(move || shared.journal_word(&held, part));
        let journaled = answered(kept).await;
        Ok(Acknowledged::Held { journaled })
    }

    /// Whether all that is known of a person outlives this process.
    pub(in crate::app) fn keeps(&self, tenant: &Name, person: &Digest) -> bool {
        !self.shared.is_closed() || self.shared.state().words.is_durable(tenant, person)
    }

    /// Holds what is over that cannot even be tried; none where all of it is held already.
    ///
    /// # Errors
    /// There is no more room for closes that change no task.
    pub(in crate::app) async fn hold_closings(
        &self,
        tenant: &Name,
        now: Time,
        mut closings: Vec<Closing>,
        why: Unavailable,
    ) -> Result<Option<Acknowledged>, Unavailable> {
        {
            let state = self.shared.state();
            if let Some(held) = state.set.of_tenant(tenant) {
                closings.retain(|closing| !held.is_closed(closing));
            }
        }
        if closings.is_empty() {
            return Ok(None);
        }
        let empty = Append {
            now,
            ..Append::default()
        };
        let held = Held::closing(tenant, &empty, closings);
        self.hold_close(held, why).await.map(Some)
    }

    /// Holds a close, within the share of the journal that those have that change no task.
    async fn hold_close(&self, held: Held, why: Unavailable) -> Result<Acknowledged, Unavailable> {
        let room = held.bare_room();
        let fits = {
            let mut state = self.shared.state_mut();
            let fits = state.bare + room <= BARE_BYTES;
            state.bare += if fits { room } else { 0 };
            fits
        };
        if fits {
            return Ok(self.hold(held, why).await);
        }
        self.shared.begin_stall(why, &[]);
        Err(Unavailable(
            "the share of the containment journal for what changes no task is full".to_owned(),
        ))
    }

    /// Holds an end that cannot even be tried, because the store cannot be read.
    pub(in crate::app) async fn hold_append(
        &self,
        tenant: &Name,
        append: &Append,
        why: Unavailable,
    ) -> Acknowledged {
        self.hold(Held::of(tenant, append), why).await
    }

    /// Holds an end of what could not be looked up, with the block that goes along.
    pub(in crate::app) async fn hold_sought(
        &self,
        tenant: &Name,
        append: &Append,
        sought: Sought,
        why: Unavailable,
    ) -> Acknowledged {
        self.hold(Held::seeking(tenant, append, sought), why).await
    }

    /// Obeys an end from now on, and has the journal keep it.
    async fn hold(&self, held: Held, why: Unavailable) -> Acknowledged {
        let parts: Vec<Arc<Held>> = held.parts().into_iter().map(Arc::new).collect();
        self.shared.begin_stall(why, &parts);
        let shared = Arc::clone(&self.shared);
        let kept = tokio::task::spawn_blocking(move || shared.keep(&parts));
        let journaled = answered(kept).await;
        Acknowledged::Held { journaled }
    }

    /// Since when and why nothing is granted; none while the ledger records.
    pub(in crate::app) fn stall(&self) -> Option<Stall> {
        if !self.shared.is_closed() {
            return None;
        }
        self.shared.state().stall.clone()
    }

    /// The epochs of a tenant that move when what is held is recorded, each with why and when.
    pub(in crate::app) fn moves(&self, tenant: &Name) -> Vec<(EpochOf, Moved)> {
        if !self.shared.is_closed() {
            return Vec::new();
        }
        let state = self.shared.state();
        let held = state.set.of_tenant(tenant);
        held.map(|held| held.moves().to_vec()).unwrap_or_default()
    }

    /// How many ends wait to be recorded.
    pub(in crate::app) fn waiting(&self) -> usize {
        let state = self.shared.state();
        state.held.len().saturating_sub(state.recorded) + state.words.len()
    }

    /// The jump of the wall clock that has not settled.
    pub(in crate::app) fn jump(&self) -> Option<Jump> {
        self.shared.watch.look(self.shared.clock.as_ref())
    }

    /// Whether the clock has been steady for long enough after a jump.
    pub(in crate::app) fn has_settled(&self) -> bool {
        self.shared.watch.has_settled(self.shared.clock.as_ref())
    }

    /// Whether nobody can say by the clock when something was heard.
    pub(in crate::app) fn is_settling(&self) -> bool {
        self.shared.watch.is_settling(self.shared.clock.as_ref())
    }

    /// Lets grants go on after a jump that has settled, unless there was another since; whether they
    /// do.
    pub(in crate::app) fn forget_jump(&self, settled: Jump) -> bool {
        // A stall that began by a clock that was ahead has lasted from now on at least.
        let now = self.shared.clock.now();
        if let Some(stall) = &mut self.shared.state_mut().stall {
            stall.since = stall.since.min(now);
        }
        self.shared.watch.forget(settled)
    }

    /// Since when what is open may be open: since ever where the clock cannot say.
    pub(in crate::app) fn open_since(&self) -> Time {
        if self.jump().is_some() {
            return Time::default();
        }
        self.shared.clock.now() - LONGEST_OPEN
    }

    /// Nobody is silent by a clock that has not settled: once it has, every task has one full grace.
    fn hear_all<'h>(&self, heard: impl Iterator<Item = &'h mut Heard>) {
        if self.is_settling() {
            heard.for_each(|heard| heard.deaf = FOREVER);
        }
    }

    /// What was recorded of workloads since somebody looked.
    pub(in crate::app) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// The tokens of pods that have something open.
    pub(in crate::app) fn pods(&self) -> &Arc<Pods> {
        &self.shared.pods
    }

    /// The folder of the journal.
    pub(in crate::app) fn folder(&self) -> Option<&std::path::Path> {
        self.shared.folder.as_deref()
    }

    /// Has the writer commit an append that holds nothing: a database that is lost is seen although
    /// nobody asks for anything.
    pub(in crate::app) async fn probe(&self, tenant: &Name, now: Time) {
        let empty = Append {
            now,
            ..Append::default()
        };
        if let Err(AppendError::Unavailable(why) | AppendError::Unknown(why)) =
            self.shared.commit(tenant, empty).await
        {
            self.shared.begin_stall(why, &[]);
        }
    }

    /// What keeps an append from being made now.
    fn refusal(&self, append: &Append) -> Option<Unavailable> {
        if self.shared.is_closed() {
            let state = self.shared.state();
            let stall = state.stall.as_ref()?;
            return Some(Unavailable(format!(
                "the ledger is stalled since {}: {}",
                stall.since, stall.why
            )));
        }
        if grants(append)
            && let Some(jump) = self.jump()
        {
            return Some(Unavailable(format!("nothing is granted: {jump}")));
        }
        None
    }

    /// Waits until the last of what is held is recorded. What this was decided on was covered with
    /// it, and the ledger may have come to the same in another way: so it is decided anew.
    async fn behind_the_door(&self, append: &Append) -> AppendError {
        // One that stays closed for so long is as good as a ledger that does not answer.
        drop(tokio::time::timeout(PATIENCE, self.shared.door.read()).await);
        match self.refusal(append) {
            Some(why) => AppendError::Unavailable(why),
            None => AppendError::Conflict,
        }
    }

    /// Reads, and covers what was read with what is held at that moment.
    ///
    /// What is held is looked for before and after the read, and leaves the set only while nobody
    /// reads: otherwise a read from before the record could meet a set from after it.
    fn covered<T>(
        &self,
        tenant: &Name,
        read: impl Fn() -> Result<T, Unavailable>,
        cover: impl FnOnce(&OfTenant, &mut T) -> Result<(), Unavailable>,
    ) -> Result<T, Unavailable> {
        if !self.shared.is_closed() {
            let committed = read()?;
            if !self.shared.is_closed() {
                return Ok(committed);
            }
        }
        let state = self.shared.state();
        let mut committed = read()?;
        if let Some(held) = state.set.of_tenant(tenant) {
            cover(held, &mut committed)?;
        }
        Ok(committed)
    }

    fn cover_facts(
        &self,
        tenant: &Name,
        query: &FactsQuery<'_>,
        held: &OfTenant,
        facts: &mut Facts,
    ) -> Result<(), Unavailable> {
        for open in facts.tasks.iter_mut().flatten() {
            held.cover(open)?;
        }
        if let Some(run) = query.series {
            let closed = held.closed_beside(run, &facts.closed);
            facts.closed.extend(closed);
        }
        for epoch in &mut facts.epochs {
            let over = epoch.person().and_then(|person| held.person(&person));
            let upto = over.map_or(0, |over| over.upto.millis());
            epoch.at = epoch.at.max(upto);
        }
        if let Some(over) = query.person.and_then(|person| held.person(person))
            && facts
                .person
                .as_ref()
                .is_none_or(|known| known.upto < over.upto)
        {
            facts.person = Some(over.clone());
        }
        facts.blocks = held.blocks_beside(&facts.blocks);
        if query.standings.is_empty() {
            return Ok(());
        }
        // A standing does not say what its task relies on.
        let query = FactsQuery {
            tasks: query.standings,
            ..FactsQuery::default()
        };
        let tasks = self.shared.inner.facts(tenant, &query)?.tasks;
        let standing = |open: Option<OpenTask>| {
            let Some(mut open) = open else {
                return Ok(None);
            };
            held.cover(&mut open)?;
            Ok((!open.task.has_ended()).then(|| open.standing()))
        };
        facts.standings = tasks.into_iter().map(standing).collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits behind the gate, within the bound.
    pub(super) async fn commit(
        &self,
        tenant: &Name,
        append: Append,
    ) -> Result<Committed, AppendError> {
        within(self.inner.append(tenant, append)).await
    }

    /// Takes note of what was recorded: of an end that was held, too, once the ledger has it.
    pub(super) fn count(&self, tenant: &Name, committed: &Committed) {
        self.tally.committed(tenant, committed);
        self.pods.committed(tenant, committed);
    }

    /// Closes the gate, and adds to what is held.
    fn begin_stall(&self, why: Unavailable, held: &[Arc<Held>]) {
        let mut state = self.state_mut();
        for held in held {
            state.set.add(held);
            state.held.push(Arc::clone(held));
            state.unkept.push(Arc::clone(held));
        }
        self.close(&mut state, why);
    }

    /// Closes the gate, once what is held can be seen behind it.
    fn close(&self, state: &mut State, why: Unavailable) {
        if state.stall.is_none() {
            tracing::error!(%why, "the ledger is stalled: nothing is granted, ends go to the journal");
            state.stall = Some(Stall {
                since: self.clock.now(),
                why,
            });
        }
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Has the journal keep what is held of a person; whether it is durable then.
    fn journal_word(&self, word: &Arc<Word>, part: Part) -> bool {
        let mut journal = self.open_journal();
        // What was recorded meanwhile must not be in a journal that was emptied since. One that took
        // its place says all of it.
        let Some(word) = self.state().words.unkept(word) else {
            return true;
        };
        let kept = journal
            .as_mut()
            .is_some_and(|journal| is_kept(journal.words.keep(&word, part)));
        if kept {
            self.state_mut().words.journaled(&word);
        }
        kept
    }

    /// Empties the journal and opens the gate, when the ledger has everything that was held.
    /// Whether it has.
    pub(super) fn reopen(&self) -> std::io::Result<bool> {
        let mut journal = self.open_journal();
        let all = {
            let state = self.state();
            state.recorded == state.held.len() && state.words.len() == 0
        };
        if !all {
            return Ok(false);
        }
        if let Some(journal) = journal.as_mut() {
            journal.clear()?;
        }
        let mut state = self.state_mut();
        let recorded = std::mem::take(&mut state.recorded);
        state.held.drain(..recorded);
        state.words.forget_recorded();
        let set = Contained::of(state.held.iter().map(AsRef::as_ref), state.words.iter());
        state.set = set;
        state.bare = state.held.iter().map(|held| held.bare_room()).sum();
        if !state.held.is_empty() || state.words.len() > 0 {
            // They came while the journal was emptied, and will be in it.
            return Ok(false);
        }
        state.stall = None;
        state.noted = 0;
        self.closed.store(false, Ordering::SeqCst);
        Ok(true)
    }

    pub(super) fn open_journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the journal has kept something; an answer that does not come in time is none.
pub(super) async fn answered(kept: tokio::task::JoinHandle<bool>) -> bool {
    match tokio::time::timeout(PATIENCE, kept).await {
        Ok(Ok(journaled)) => journaled,
        Ok(Err(_)) | Err(_) => {
            tracing::error!("the containment journal does not answer");
            false
        }
    }
}

pub(super) fn is_kept(kept: std::io::Result<()>) -> bool {
    if let Err(why) = &kept {
        tracing::error!(%why, "an end is obeyed and yet not durable: the containment journal cannot keep it");
    }
    kept.is_ok()
}

/// Whether an append opens anything, issues a credential, or leads to that.
fn grants(append: &Append) -> bool {
    let events = append.changes.iter().flat_map(|change| &change.events);
    events.into_iter().any(|drafted| match drafted.event {
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskStarted(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialIssued(_) => true,
        Event::TaskDenied(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_)
        | Event::TaskEnded(_) => false,
    })
}

/// Waits for an answer of the writer for as long as a commit may take.
pub(super) async fn within<T>(answer: Answer<Result<T, AppendError>>) -> Result<T, AppendError> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(AppendError::Unknown(late())))
}

pub(super) fn late() -> Unavailable {
    Unavailable(format!("no commit within {} s", PATIENCE.as_secs()))
}

impl Store for ObeyingStore {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        if let Some(why) = self.refusal(&append) {
            if !grants(&append) && self.shared.door.try_read().is_err() {
                let store = self.clone();
                return Box::pin(async move { Err(store.behind_the_door(&append).await) });
            }
            return Box::pin(std::future::ready(Err(AppendError::Unavailable(why))));
        }
        // Only what changes a task is counted: what else is appended asks for no copy of the name.
        let counted = (!append.changes.is_empty()).then(|| tenant.clone());
        let answer = self.shared.inner.append(tenant, append);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(answer) => {
                    if let (Some(tenant), Ok(committed)) = (&counted, &answer) {
                        shared.count(tenant, committed);
                    }
                    answer
                }
                Err(_) => {
                    shared.begin_stall(late(), &[]);
                    Err(AppendError::Unknown(late()))
                }
            }
        })
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        // A use that is allowed is accepted like a grant, and by the same clock.
        let jumped = || {
            self.jump()
                .map(|jump| Unavailable(format!("no use is allowed: {jump}")))
        };
        if let Some(why) = self.refusal(&Append::default()).or_else(jumped) {
            return Box::pin(std::future::ready(Err(AppendError::Unavailable(why))));
        }
        let answer = self.shared.inner.observe(tenant, uses);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    shared.begin_stall(late(), &[]);
                    Err(AppendError::Unknown(late()))
                }
            }
        })
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        let by_the_clock = match touch {
            Touch::Beat { .. } | Touch::Deaf { .. } | Touch::Alive { .. } => true,
            Touch::Claim { .. } | Touch::Clock { .. } => false,
        };
        // A time that has not settled counts for nothing: it may be one that comes in hours.
        if !by_the_clock || !self.is_settling() {
            self.shared.inner.touch(tenant, touch);
        }
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        let mut facts = self.covered(
            tenant,
            || self.shared.inner.facts(tenant, query),
            |held, facts| self.cover_facts(tenant, query, held, facts),
        )?;
        let tasks = facts.tasks.iter_mut().flatten();
        let standings = facts.standings.iter_mut().flatten();
        let heard = tasks.map(|open| &mut open.heard);
        self.hear_all(heard.chain(standings.map(|standing| &mut standing.heard)));
        Ok(facts)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        let mut cursor = cursor;
        loop {
            let mut last = None;
            let mut page = self.covered(
                tenant,
                || self.shared.inner.open(tenant, filter, cursor, limit),
                |held, page| {
                    last = page.last().map(|open| open.task.id);
                    for open in page.iter_mut() {
                        held.cover(open)?;
                    }
                    page.retain(|open| !open.task.has_ended());
                    Ok(())
                },
            )?;
            self.hear_all(page.iter_mut().map(|open| &mut open.heard));
            // A page of which nothing is left is not the end of them.
            if !page.is_empty() || last.is_none() {
                return Ok(page);
            }
            cursor = last;
        }
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.shared.inner.entries(tenant, range, limit)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.shared.inner.find(tenant, key, cursor, limit)
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.shared.inner.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.shared.inner.tile(tenant, level, index, width)
    }
}

//! What happens by itself: ends that are due, steps of keys, refusal counts, heads every minute.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dayfly_domain::{Cause, Command, Name, Span, Sweep, TaskId, Time, decide};
use dayfly_store::{
    ALIVE_GAP, Answer, Append, AppendError, Committed, FactsQuery, OpenFilter, OpenTask, Touch,
    Unavailable,
};

use super::ending::recorded;
use super::moved::Moves;
use super::{App, Tenant};

/// How many due tasks are read at once, how many of them end in one append, and how many appends
/// are with the writer while the next are made. What an append costs beside its entries is paid
/// once; a grant that comes goes before all of them but the one that is being written.
const PAGE: usize = 512;
const SHARED: usize = 32;
const WAITING: usize = 2 * PAGE / SHARED;
/// Longer than any task is open.
pub(super) const LONGEST_OPEN: Span = Span::from_seconds(25 * 3600);

/// What the sweep remembers between its rounds.
#[derive(Default)]
pub(super) struct SweepState {
    held: Mutex<BTreeMap<Name, Hold>>,
    last_head_minute: AtomicU64,
    /// When the server last said that it is there to hear, in milliseconds.
    alive: AtomicU64,
    /// Whether there was a round.
    begun: AtomicBool,
    /// Whether a jump of the clock was told of that has not settled.
    jumped: AtomicBool,
    /// Held while it says so, so that nobody judges silence by half of it.
    waking: Mutex<()>,
}

/// A span in which a tenant's ends by heartbeat wait.
#[derive(Clone, Copy)]
struct Hold {
    from: Time,
    until: Time,
}

impl Hold {
    /// One that began by a clock that was ahead begins now.
    fn set_back(&mut self, now: Time) {
        if self.from > now {
            self.until = now + self.until.since(self.from);
            self.from = now;
        }
    }
}

impl App {
    /// Says that the server is there to hear, when it was not for a while: whoever judges silence
    /// first after a pause must not take the pause for it.
    pub(super) fn wake(&self, now: Time) {
        let paused = |alive: &AtomicU64| {
            let last = Time::from_millis(alive.load(Ordering::SeqCst));
            now.since(last) > ALIVE_GAP
        };
        // While the clock has not settled nobody is silent, and nothing is said by it.
        if !paused(&self.sweeps.alive) || self.held.is_settling() {
            return;
        }
        let _one_says_it = self
            .sweeps
            .waking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if paused(&self.sweeps.alive) {
            self.say_alive(now);
        }
    }

    /// Gives every open task one full grace from now on: whatever was heard of it, its silence
    /// begins now. Deadlines stay. What was heard by a clock that was ahead was heard now.
    fn give_grace(&self, now: Time) {
        self.set_back(now);
        for tenant in self.tenants() {
            let (from, to) = (now - LONGEST_OPEN, now);
            self.store.touch(tenant.name(), Touch::Deaf { from, to });
        }
        self.sweeps.alive.store(now.millis(), Ordering::SeqCst);
    }

    /// Has nothing be of a time that comes, or wait for one that a clock that was ahead has set.
    fn set_back(&self, now: Time) {
        for tenant in self.tenants() {
            self.store.touch(tenant.name(), Touch::Clock { at: now });
        }
        self.held.pods().set_back(now);
        let mut held = self
            .sweeps
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for hold in held.values_mut() {
            hold.set_back(now);
        }
    }

    /// Whether the clock may be swept by. After a jump it may not until it has been steady for a
    /// while; then every task has one full grace from that moment.
    fn clock_is_steady(&self, now: Time) -> bool {
        let Some(jump) = self.held.jump() else {
            self.sweeps.jumped.store(false, Ordering::SeqCst);
            return true;
        };
        if !self.sweeps.jumped.swap(true, Ordering::SeqCst) {
            tracing::error!(%jump, "the clock jumped: nothing is granted and no end comes due until it is steady");
        }
        if !self.held.has_settled() {
            return false;
        }
        self.give_grace(now);
        self.sweeps.jumped.store(false, Ordering::SeqCst);
        // Another one may have been seen since: then the next round waits for that.
        let steady = self.held.forget_jump(jump);
        if steady {
            tracing::warn!(%jump, "the clock is steady again: every open task has one full grace");
        }
        steady
    }

    fn say_alive(&self, now: Time) {
        for tenant in self.tenants() {
            self.store.touch(tenant.name(), Touch::Alive { at: now });
        }
        if !self.held.is_settling() {
            self.sweeps.alive.fetch_max(now.millis(), Ordering::SeqCst);
        }
    }

    /// Until when ends by heartbeat wait because too many tasks fell silent at once.
    #[must_use]
    pub fn heartbeat_held_until(&self) -> Option<Time> {
        let now = self.now();
        let held = self
            .sweeps
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let until = held.values().map(|hold| hold.until);
        until.filter(|until| now < *until).max()
    }

    /// One round: says that the server is alive, ends what is due, goes on with the keys, and hands
    /// out heads. Gives the number of tasks ended.
    pub async fn sweep(self: &Arc<Self>) -> u64 {
        let now = self.now();
        if !self.sweeps.begun.swap(true, Ordering::SeqCst) {
            // The clock may have been ahead until this start.
            self.set_back(now);
        }
        let steady = self.clock_is_steady(now);
        self.say_alive(now);
        self.forget_proofs(now);
        if let Some(folder) = self.held.folder() {
            self.space.look(folder, now);
        }
        if !self.keep_recording(now).await || !steady {
            return 0;
        }
        let mut ended = 0;
        for tenant in self.tenants() {
            ended += self.sweep_tenant(tenant, now).await;
            match self.finish_ending(tenant).await {
                Ok(finished) => ended += finished,
                Err(why) => {
                    tracing::error!(%why, tenant = %tenant.name(), "cannot end what an apply has ended");
                }
            }
            self.sweep_keys(tenant, now).await;
        }
        self.flush_refusals(now);
        self.sync_heads().await;
        let minute = now.millis() / 60_000;
        let minute_passed = self.sweeps.last_head_minute.swap(minute, Ordering::SeqCst) != minute;
        if minute_passed || ended > 0 {
            self.publish_heads();
        }
        ended
    }

    async fn sweep_tenant(self: &Arc<Self>, tenant: &Arc<Tenant>, now: Time) -> u64 {
        let mut ends = Ends::default();
        if let Err(why) = self.end_due(tenant, now, &mut ends).await {
            tracing::error!(%why, tenant = %tenant.name(), "cannot tell which tasks are over, and why");
        }
        ends.settle(0).await;
        let moved = std::mem::take(&mut ends.moved);
        for some in moved.chunks(PAGE) {
            if let Err(why) = self.end_again(tenant, some, now, &mut ends).await {
                tracing::error!(%why, tenant = %tenant.name(), "cannot look at tasks that changed again");
            }
        }
        ends.ended
    }

    /// Records the ends of all tasks that are due. While the writer has those of one page, the next
    /// is read.
    async fn end_due(
        &self,
        tenant: &Tenant,
        now: Time,
        ends: &mut Ends,
    ) -> Result<(), Unavailable> {
        let mut cursor = None;
        loop {
            let filter = OpenFilter::Due(now);
            let due = self.store.open(tenant.name(), &filter, cursor, PAGE)?;
            let Some(last) = due.last() else {
                return Ok(());
            };
            cursor = Some(last.task.id);
            let due = self.without_vanished(tenant, due, now);
            let moves = self.moves_of(tenant, &due)?;
            let mut shared = Shared::default();
            for open in due {
                shared.add(open, &moves, now);
                if shared.tasks.len() == SHARED {
                    self.send(tenant, std::mem::take(&mut shared), ends).await;
                }
            }
            self.send(tenant, shared, ends).await;
        }
    }

    /// Records the ends of tasks that had changed when an append with their ends was written: of
    /// each as it is now, and alone, so that whoever changes again keeps no other.
    async fn end_again(
        &self,
        tenant: &Tenant,
        tasks: &[TaskId],
        now: Time,
        ends: &mut Ends,
    ) -> Result<(), Unavailable> {
        let query = FactsQuery {
            tasks,
            ..FactsQuery::default()
        };
        let open = self.store.facts(tenant.name(), &query)?.tasks;
        let open: Vec<OpenTask> = open.into_iter().flatten().collect();
        let moves = self.moves_of(tenant, &open)?;
        for open in open {
            let mut alone = Shared::default();
            alone.add(open, &moves, now);
            self.send(tenant, alone, ends).await;
        }
        ends.settle(0).await;
        Ok(())
    }

    /// Gives an append to the writer, once there are few enough before it.
    async fn send(&self, tenant: &Tenant, shared: Shared, ends: &mut Ends) {
        if shared.tasks.is_empty() {
            return;
        }
        ends.settle(WAITING - 1).await;
        let answer = self.store.append(tenant.name(), shared.append);
        ends.waiting.push_back((shared.tasks, answer));
    }

    /// Leaves out tasks that fell silent together with more than a fifth of the others: then the
    /// silence may be ours, and each of them gets one more grace. A task that was not heard since
    /// it got one gets no other.
    fn without_vanished(&self, tenant: &Tenant, due: Vec<OpenTask>, now: Time) -> Vec<OpenTask> {
        let last = self
            .sweeps
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tenant.name())
            .copied();
        let silent = |open: &OpenTask| {
            let since = last.is_none_or(|hold| open.heard.last_seen > Some(hold.from));
            open.stale.is_none()
                && since
                && open.task.lapsed(now, open.heard) == Some(Cause::Heartbeat)
        };
        let silences = due.iter().filter(|open| silent(open)).count() as u64;
        if silences == 0 {
            return due;
        }
        let many = tenant.pulse.fell_silent(now, silences);
        if !many || last.is_some_and(|hold| now < hold.until) {
            return due;
        }
        let grace = due
            .iter()
            .filter(|open| silent(open))
            .map(|open| open.task.heartbeat.grace)
            .max()
            .unwrap_or(Span::ZERO);
        tracing::warn!(
            tenant = %tenant.name(),
            "more than a fifth of the due beats vanished: ends by heartbeat wait one more grace"
        );
        // Counted as time in which Dayfly could not hear, so that every check agrees at once.
        self.store.touch(
            tenant.name(),
            Touch::Deaf {
                from: now - grace,
                to: now,
            },
        );
        self.sweeps
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(
                tenant.name().clone(),
                Hold {
                    from: now,
                    until: now + grace,
                },
            );
        due.into_iter().filter(|open| !silent(open)).collect()
    }

    /// Presses the heads that were handed out onto the disk.
    async fn sync_heads(&self) {
        let Some(handed_out) = self.handed_out.clone() else {
            return;
        };
        let synced = tokio::task::spawn_blocking(move || handed_out.sync()).await;
        if let Ok(Err(why)) = synced {
            tracing::error!(%why, "the heads that were handed out cannot be synced");
        }
    }

    /// Writes the present head of every tenant to the log stream and its sinks.
    fn publish_heads(&self) {
        for tenant in self.tenants() {
            match self.head_note(tenant) {
                Ok(note) => {
                    tracing::info!(tenant = %tenant.name(), head = %note.replace('\n', "\\n"), "head");
                    self.head_sinks.write(tenant.name(), &note);
                }
                Err(why) => tracing::error!(%why, tenant = %tenant.name(), "no head"),
            }
        }
    }
}

/// What the writer will say of an append.
type Recorded = Answer<Result<Committed, AppendError>>;

/// Ends that are under way, and what became of those that were.
#[derive(Default)]
struct Ends {
    /// Those that the writer has, in their order, each with its tasks.
    waiting: VecDeque<(Vec<TaskId>, Recorded)>,
    ended: u64,
    /// Tasks of appends that found one of their tasks changed.
    moved: Vec<TaskId>,
}

impl Ends {
    /// Waits until no more than so many are under way.
    async fn settle(&mut self, most: usize) {
        while self.waiting.len() > most
            && let Some((tasks, answer)) = self.waiting.pop_front()
        {
            match answer.await {
                Ok(_) => self.ended += tasks.len() as u64,
                Err(AppendError::Conflict) => self.moved.extend(tasks),
                Err(why) => tracing::error!(%why, "cannot record ends that are due"),
            }
        }
    }
}

/// Ends that share an append.
struct Shared {
    tasks: Vec<TaskId>,
    append: Append,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            append: Append {
                yields: true,
                ..Append::default()
            },
        }
    }
}

impl Shared {
    /// Adds the end of a task that is over; nothing where it is not, or cannot be ended.
    fn add(&mut self, open: OpenTask, moves: &Moves, now: Time) {
        let task = open.task.id;
        let Some(one) = end_of(open, moves, now) else {
            return;
        };
        self.tasks.push(task);
        self.append.now = now;
        self.append.changes.extend(one.changes);
        self.append.notes.extend(one.notes);
        self.append.blocks.extend(one.blocks);
    }
}

/// What records that a task is over; none where it is not, or cannot be ended, which is told.
fn end_of(open: OpenTask, moves: &Moves, now: Time) -> Option<Append> {
    let task = open.task.id;
    let fallen = moves.fallen(&open, now);
    let command = Command::Sweep(Sweep {
        now,
        heard: open.heard,
        moved: moves.first(&open, now),
        fallen: &fallen,
    });
    let events = decide(Some(&open.task), &command).ok()?;
    if events.is_empty() {
        return None;
    }
    let whys = moves.whys(&open, &events);
    let append = recorded(open, events, now, whys);
    let told = |refusal: &_| tracing::error!(%refusal, %task, "cannot end");
    append.inspect_err(told).ok()
}

//! The baton: of several use cases one runs at a time, and at each call of the store it hands over.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::Hash;
use dayfly_server::app::App;
use dayfly_store::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Fault, MemoryStore,
    Observed, OpenFilter, OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead, Unavailable,
    Use,
};

/// After how long an actor that does not hand over is taken to be stuck: a step takes microseconds.
const STUCK: Duration = Duration::from_secs(120);

/// Who may run now, and where everybody stands.
#[derive(Default)]
pub(super) struct Baton {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose turn it is; nobody's while the next one is chosen.
    turn: Option<usize>,
    actors: Vec<Standing>,
    /// Whether store calls hand over at all.
    playing: bool,
    /// Whether the play failed: nobody is given a turn any more.
    failed: bool,
    log: Vec<(usize, Step)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It may go on.
    Ready,
    /// It waits for something that only another actor can give.
    Blocked,
    Done,
}

/// What an actor did, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It looked at committed state.
    Read,
    /// It appended.
    Append,
    /// It noted a beat or a claim.
    Touch,
    /// It had its answer.
    Done,
}

impl Baton {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, guard: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a play of so many actors, all of which stand before their first step.
    pub(super) fn begin(&self, actors: usize) {
        *self.state() = State {
            turn: None,
            actors: vec![Standing::Ready; actors],
            playing: true,
            failed: false,
            log: Vec::new(),
        };
    }

    /// Lets nobody go on: whoever waits for a turn fails too, so that the failure is told rather
    /// than waited for.
    fn fail(&self) {
        self.state().failed = true;
        self.changed.notify_all();
    }

    /// Fails the play when what holds this fails.
    pub(super) fn failing(&self) -> Failing<'_> {
        Failing(self)
    }

    /// Ends the play: store calls go through. Gives what happened.
    pub(super) fn finish(&self) -> Vec<(usize, Step)> {
        let mut state = self.state();
        state.playing = false;
        std::mem::take(&mut state.log)
    }

    /// What happened so far.
    pub(super) fn log(&self) -> Vec<(usize, Step)> {
        self.state().log.clone()
    }

    /// Waits until nobody runs; gives who may go on. Empty when all are done.
    pub(super) fn choices(&self) -> Vec<usize> {
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.state(), STUCK, |state| state.turn.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            // Its thread cannot be ended from outside, and a test that waits for it tells nothing.
            eprintln!(
                "an actor does not hand over: turn {:?}, {:?}, {:?}",
                state.turn, state.actors, state.log
            );
            std::process::abort();
        }
        let ready = |(at, standing): (usize, &Standing)| match standing {
            Standing::Ready => Some(at),
            Standing::Blocked | Standing::Done => None,
        };
        let ready: Vec<usize> = state.actors.iter().enumerate().filter_map(ready).collect();
        let all_done = state.actors.iter().all(|actor| *actor == Standing::Done);
        assert!(
            all_done || !ready.is_empty(),
            "a deadlock: {:?}",
            state.actors
        );
        ready
    }

    /// Gives an actor the turn, up to its next step.
    pub(super) fn give(&self, actor: usize) {
        self.state().turn = Some(actor);
        self.changed.notify_all();
    }

    /// Hands over before a step, on whichever thread it is made for the actor whose turn it is.
    fn pause(&self, step: Step) {
        let mut state = self.state();
        if !state.playing {
            return;
        }
        let Some(me) = state.turn.take() else {
            panic!("a step of nobody's: {step:?}");
        };
        self.changed.notify_all();
        let mut state = self.turn_of(me, state);
        state.log.push((me, step));
    }

    fn await_turn(&self, me: usize) {
        drop(self.turn_of(me, self.state()));
    }

    fn turn_of<'g>(&self, me: usize, mut state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        while state.turn != Some(me) {
            assert!(!state.failed, "the play failed elsewhere");
            state = self.wait(state);
        }
        state
    }

    fn leave(&self, me: usize, standing: Standing) {
        let mut state = self.state();
        state.actors[me] = standing;
        if standing == Standing::Done {
            state.log.push((me, Step::Done));
        }
        state.turn = None;
        self.changed.notify_all();
    }

    /// Runs an actor's use case on this thread, whenever it has the turn.
    pub(super) fn play<T>(
        self: &Arc<Self>,
        me: usize,
        mut act: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    ) -> T {
        // Whoever panics must not be waited for.
        let _leaving = Leaving(self, me);
        // One thread for what blocks, so that a closure that comes after another has ended last.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let inside = runtime.enter();
        let alarm = Arc::new(Alarm {
            baton: Arc::clone(self),
            me,
            rung: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&alarm));
        self.await_turn(me);
        loop {
            alarm.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(answer) = act.as_mut().poll(&mut Context::from_waker(&waker)) {
                drop(act);
                drop(inside);
                // What it began and did not wait for ends in its turn.
                finish(&runtime);
                self.leave(me, Standing::Done);
                return answer;
            }
            // What it has a blocking thread or a task of its own do ends by itself, the store's
            // calls in it included: they have the same turn.
            while !alarm.is_rung() {
                runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
                if runtime.metrics().num_alive_tasks() == 0 {
                    break;
                }
            }
            if !alarm.is_rung() {
                // It waits for another actor.
                self.leave(me, Standing::Blocked);
                self.await_turn(me);
            }
        }
    }
}

/// Waits until nothing goes on by itself any more.
pub(super) fn finish(runtime: &tokio::runtime::Runtime) {
    while runtime.metrics().num_alive_tasks() > 0 {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }
}

/// Lets everybody go who plays, when the one who gives the turns fails.
pub(super) struct Failing<'b>(&'b Baton);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// Gives the turn up for whoever ends without an answer.
struct Leaving<'b>(&'b Baton, usize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.leave(self.1, Standing::Done);
        }
    }
}

/// Wakes an actor.
struct Alarm {
    baton: Arc<Baton>,
    me: usize,
    rung: AtomicBool,
}

impl Alarm {
    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        let mut state = self.baton.state();
        if let Some(standing) = state.actors.get_mut(self.me)
            && *standing == Standing::Blocked
        {
            *standing = Standing::Ready;
        }
    }
}

/// A store in memory each of whose calls is a step.
pub(super) struct SteppedStore {
    pub(super) inner: MemoryStore,
    baton: Arc<Baton>,
    app: Mutex<Weak<App>>,
    /// Whose next appends fail, and how.
    faults: Mutex<Vec<(usize, Fault)>>,
}

impl SteppedStore {
    pub(super) fn new(inner: MemoryStore, baton: Arc<Baton>) -> Self {
        Self {
            inner,
            baton,
            app: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    pub(super) fn serves(&self, app: &Arc<App>) {
        *self.app.lock().unwrap() = Arc::downgrade(app);
    }

    /// Makes the next appends of an actor fail, each in its way.
    pub(super) fn fail(&self, actor: usize, faults: impl IntoIterator<Item = Fault>) {
        let of_actor = faults.into_iter().map(|fault| (actor, fault));
        self.faults.lock().unwrap().extend(of_actor);
    }

    pub(super) fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    fn fault(&self) -> Option<Fault> {
        let turn = self.baton.state().turn?;
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(actor, _)| *actor == turn)?;
        Some(faults.remove(at).1)
    }

    /// A read. While ends are held reads are made under the lock that covers them, which nobody may
    /// be kept waiting for.
    fn read<T>(&self, read: impl FnOnce(&MemoryStore) -> T) -> T {
        let app = self.app.lock().unwrap().upgrade();
        let stalled = app.is_some_and(|app| {
            let reasons = app.unready();
            reasons
                .iter()
                .any(|why| why.starts_with("the ledger is stalled"))
        });
        if !stalled {
            self.baton.pause(Step::Read);
        }
        read(&self.inner)
    }
}

/// Whether an append is part of a decision: refusals are noted on the way out, and the sweep asks
/// by an empty one whether the ledger records.
fn decides(append: &Append) -> bool {
    let notes_of_refusals = append
        .notes
        .iter()
        .all(|note| ["refused", "finding.opened"].contains(&note.kind));
    !(notes_of_refusals
        && append.changes.is_empty()
        && append.documents.is_empty()
        && append.spends.is_empty()
        && !append.revises)
}

impl Store for SteppedStore {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        if !decides(&append) {
            return self.inner.append(tenant, append);
        }
        self.baton.pause(Step::Append);
        let fault = self.fault();
        if let Some(fault) = fault {
            self.inner.fail([fault]);
        }
        let answer = self.inner.append(tenant, append);
        if fault.is_some() {
            // Others may go on between what became of it and the moment its caller is told.
            self.baton.pause(Step::Append);
        }
        answer
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        self.baton.pause(Step::Append);
        self.inner.observe(tenant, uses)
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        match touch {
            Touch::Beat { .. } | Touch::Claim { .. } => self.baton.pause(Step::Touch),
            // Said under a lock, by whoever comes first after a pause.
            Touch::Alive { .. } | Touch::Deaf { .. } | Touch::Clock { .. } => {}
        }
        self.inner.touch(tenant, touch);
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.read(|store| store.facts(tenant, query))
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.read(|store| store.open(tenant, filter, cursor, limit))
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.read(|store| store.entries(tenant, range, limit))
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.read(|store| store.find(tenant, key, cursor, limit))
    }

    /// No step: what it says is of no weight for a decision, and it is read under a lock.
    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.inner.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.inner.tile(tenant, level, index, width)
    }
}

//! Committed state in memory: what every read sees, changed by the writer alone, after a commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use dayfly_domain::{Blocks, Epoch, EpochOf, Heard, HeartbeatMode, Name, Span, Task, TaskId, Time};
use dayfly_ledger::{Hash, TileWriter};

use super::due::Due;
use super::hearing::Hearing;
use super::known::{Known, series_print};
use super::partition::Partitions;
use super::people::{KnownPeople, People as _};
use super::relied::Relied;
use super::snapshot;
use super::tally::Tally;
use crate::{OneTimeKey, OpenTask, Standing, Unavailable};

/// The view that reads share, replaced in one step.
#[derive(Debug, Default)]
pub(super) struct Published {
    view: RwLock<View>,
    /// How many commits are published, for those who wait for one.
    turn: Mutex<u64>,
    turned: Condvar,
}

/// Everything committed that is held in memory.
#[derive(Debug, Default)]
pub(super) struct View {
    /// How many commits the database had then.
    pub(super) commits: u64,
    /// By their numbers.
    pub(super) tenants: Vec<TenantView>,
    pub(super) numbers: HashMap<Name, u32>,
    pub(super) partitions: Arc<Partitions>,
    /// What rows of claims and spent keys there may be; none where only the rows themselves tell.
    pub(super) known: Option<Known>,
}

/// One tenant's part.
#[derive(Debug, Default)]
pub(super) struct TenantView {
    /// The right edge of the tree.
    pub(super) tree: TileWriter,
    /// The `at` of the last entry.
    pub(super) at: Time,
    pub(super) open: BTreeMap<TaskId, Arc<Held>>,
    pub(super) epochs: Arc<Epochs>,
    pub(super) people: KnownPeople,
    pub(super) revision: u64,
    pub(super) blocks: Blocks,
    pub(super) tallies: HashMap<Name, Tally>,
    pub(super) hearing: Mutex<Hearing>,
    pub(super) due: Mutex<Due>,
}

/// An open task: its state as bytes, decoded by those who ask for it, and beside it what the
/// writer and the sweep need of each task without decoding.
#[derive(Debug)]
pub(super) struct Held {
    /// Its row in the database.
    pub(super) row: i64,
    pub(super) version: u64,
    /// The leaf hash of its last entry.
    pub(super) hash: Hash,
    pub(super) deadline: Time,
    /// How long silence is borne; none when it is not watched.
    pub(super) grace: Option<Span>,
    /// When its linger runs out; none while a root client is active.
    pub(super) linger: Option<Time>,
    /// What it relies on.
    pub(super) relied: Relied,
    /// When it was heard last, in milliseconds; 0 is never.
    pub(super) seen: AtomicU64,
    /// Under which time [`Due`] lists it; read and written under that lock only.
    pub(super) listed: AtomicU64,
    /// The [`Task`], as [`snapshot`] writes it.
    pub(super) snapshot: Box<[u8]>,
}

/// Marks the number of an epoch that only delegated clients of a task rely on. No epoch has such a
/// number: each is a declared name.
pub(super) const BELOW: u32 = 1 << 31;

/// The epochs of a tenant, numbered so that a task holds four numbers and no names.
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs {
    numbers: HashMap<EpochOf, u32>,
    values: Vec<(EpochOf, u64)>,
}

impl Published {
    pub(super) fn new(view: View) -> Self {
        Self {
            turn: Mutex::new(view.commits),
            view: RwLock::new(view),
            turned: Condvar::new(),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view in one step and wakes those who wait for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut view);
        let commits = view.commits;
        drop(view);
        *lock(&self.turn) = commits;
        self.turned.notify_all();
        done
    }

    /// Waits until the view holds this commit, or a bound passes.
    pub(super) fn wait_for(&self, commits: u64, bound: Duration) -> Result<(), Unavailable> {
        let waited = self
            .turned
            .wait_timeout_while(lock(&self.turn), bound, |turn| *turn < commits);
        let (turn, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *turn < commits {
            return Err(Unavailable("the last commit is not yet to be seen".into()));
        }
        Ok(())
    }
}

/// Locks what no holder leaves half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    pub(super) fn tenant(&self, name: &Name) -> Option<(u32, &TenantView)> {
        let number = *self.numbers.get(name)?;
        Some((number, self.tenants.get(number as usize)?))
    }

    /// Whether there may be a claim of a series, or something of it closed.
    pub(super) fn may_hold_series(&self, tenant: u32, issuer: &Name, series: &str) -> bool {
        let print = || series_print(tenant, issuer.as_str(), series);
        let known = self.known.as_ref();
        known.is_none_or(|known| known.may_hold_series(print()))
    }

    /// Whether a one-time key may be spent.
    pub(super) fn may_hold_key(&self, key: &OneTimeKey) -> bool {
        let known = self.known.as_ref();
        known.is_none_or(|known| known.may_hold_key(key))
    }

    pub(super) fn tenant_mut(&mut self, number: u32) -> Option<&mut TenantView> {
        self.tenants.get_mut(number as usize)
    }
}

impl TenantView {
    /// The present value of an epoch; 0 for one that has never moved.
    pub(super) fn value(&self, of: &EpochOf) -> u64 {
        match of {
            EpochOf::Person(person) => self.people.upto(person),
            EpochOf::Tenant | EpochOf::Issuer(_) | EpochOf::Owner(_) | EpochOf::Workload(_) => {
                self.epochs.value(of)
            }
        }
    }

    /// How an open task stands.
    pub(super) fn standing(&self, held: &Held, hearing: &Hearing) -> Standing {
        Standing {
            version: held.version,
            heard: held.heard(hearing),
            stale: held.relied.stale(&self.epochs, &self.people),
            lost: held.relied.lost(&self.epochs, &self.people),
        }
    }

    /// An open task as far as it can be read under the lock: cheap, still to be decoded.
    pub(super) fn peek(&self, held: &Arc<Held>, hearing: &Hearing) -> Peeked {
        Peeked {
            held: Arc::clone(held),
            heard: held.heard(hearing),
            stale: held.relied.stale(&self.epochs, &self.people),
            lost: held.relied.lost(&self.epochs, &self.people),
        }
    }
}

/// An open task that is still to be decoded.
pub(super) struct Peeked {
    held: Arc<Held>,
    heard: Heard,
    stale: Option<EpochOf>,
    lost: Vec<Epoch>,
}

impl Peeked {
    pub(super) fn decode(self) -> Result<OpenTask, Unavailable> {
        Ok(OpenTask {
            task: self.held.decode()?,
            heard: self.heard,
            stale: self.stale,
            lost: self.lost,
        })
    }
}

impl Held {
    /// An open task as the writer holds it.
    pub(super) fn new(row: i64, task: &Task, relied: Relied, last: Recorded) -> Self {
        let seen = if task.hears_from_start() {
            task.opened.millis()
        } else {
            0
        };
        let watched = !matches!(task.heartbeat.mode, HeartbeatMode::Off);
        Self {
            row,
            version: task.version,
            hash: last.hash,
            deadline: task.deadline,
            grace: watched.then_some(task.heartbeat.grace),
            linger: task.lingers_until().map(|(until, _)| until),
            relied,
            seen: AtomicU64::new(seen),
            listed: AtomicU64::new(0),
            snapshot: last.snapshot,
        }
    }

    pub(super) fn decode(&self) -> Result<Task, Unavailable> {
        snapshot::read(&self.snapshot)
            .map_err(|why| Unavailable(format!("the state of a task cannot be read: {why}")))
    }

    pub(super) fn last_seen(&self) -> Option<Time> {
        match self.seen.load(Ordering::Relaxed) {
            0 => None,
            seen => Some(Time::from_millis(seen)),
        }
    }

    /// Notes that it was heard; true when that is later than what was known.
    pub(super) fn hear(&self, at: Time) -> bool {
        self.seen.fetch_max(at.millis(), Ordering::Relaxed) < at.millis()
    }

    /// Has it be heard no later than this; true when it was.
    pub(super) fn set_back(&self, at: Time) -> bool {
        // Zero would be never.
        let at = at.millis().max(1);
        self.seen.fetch_min(at, Ordering::Relaxed) > at
    }

    pub(super) fn heard(&self, hearing: &Hearing) -> Heard {
        let last_seen = self.last_seen();
        Heard {
            last_seen,
            deaf: last_seen.map_or(Span::ZERO, |seen| hearing.deaf_since(seen)),
        }
    }

    /// [`Task::next_due`], without decoding the task.
    pub(super) fn next_due(&self, hearing: &Hearing) -> Time {
        let heard = self.heard(hearing);
        let silent = self
            .grace
            .zip(heard.last_seen)
            .map(|(grace, seen)| seen + grace + heard.deaf + Span::from_millis(1));
        [silent, self.linger]
            .into_iter()
            .flatten()
            .fold(self.deadline, Time::min)
    }
}

/// What the last event of a change left.
pub(super) struct Recorded {
    pub(super) hash: Hash,
    pub(super) snapshot: Box<[u8]>,
}

impl Epochs {
    /// The present value; 0 for one that has never moved.
    pub(super) fn value(&self, of: &EpochOf) -> u64 {
        self.numbers
            .get(of)
            .and_then(|number| self.values.get(*number as usize))
            .map_or(0, |(_, value)| *value)
    }

    pub(super) fn number(&self, of: &EpochOf) -> Option<u32> {
        self.numbers.get(of).copied()
    }

    /// Sets a value, and numbers the epoch if it has none yet.
    pub(super) fn set(&mut self, of: &EpochOf, value: u64) -> u32 {
        if let Some(number) = self.number(of) {
            if let Some(slot) = self.values.get_mut(number as usize) {
                slot.1 = value;
            }
            return number;
        }
        // A number is never reached: each is a declared name.
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.numbers.insert(of.clone(), number);
        self.values.push((of.clone(), value));
        number
    }

    /// Those of these that only delegated clients rely on and that have moved since.
    pub(super) fn moved_below(&self, relied: &[(u32, u64)]) -> Vec<Epoch> {
        let below = relied.iter().filter(|(number, _)| number & BELOW != 0);
        below
            .filter_map(|(number, at)| {
                let (of, value) = self.values.get((number & !BELOW) as usize)?;
                let of = of.clone();
                (value != at).then_some(Epoch { of, at: *at })
            })
            .collect()
    }

    /// The first of these that the task itself relies on and that has moved since.
    pub(super) fn moved_since(&self, relied: &[(u32, u64)]) -> Option<&EpochOf> {
        relied.iter().find_map(|(number, at)| {
            let (of, value) = self.values.get(*number as usize)?;
            (value != at).then_some(of)
        })
    }
}

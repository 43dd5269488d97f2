//! The search index: a file of its own, derived from the entries, that follows the commits.

mod index;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dayfly_domain::Name;
use rusqlite::Connection;

use self::index::{BLOCK, Index, is_damage};
use super::OpenError;
use super::entries::{Entries, said};
use super::read::Reader;
use super::view::{Published, lock};
use super::writer::Shared;
use crate::clock::Stopwatch;
use crate::{SearchKey, Unavailable};

/// How long `find` waits until the index holds what was committed before the call.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits besides while more than [`TAIL`] entries are missing.
const BOUND: Duration = Duration::from_secs(4);

/// How many entries that the index lacks are looked through one by one at most: about a third of a
/// second's work.
const TAIL: u64 = 65_536;

/// So few are looked through at once, without waiting for the index.
const NEAR: u64 = 256;

/// How long the projector rests after a batch, as a multiple of how long that took: with nobody
/// waiting and no more missing than can be looked through it takes a fifth of one core at most, so
/// that grants go first.
const REST: u32 = 4;

/// How long it rests when it has caught up.
const IDLE: Duration = Duration::from_millis(200);

/// The way to the projector.
pub(super) struct Search {
    state: Arc<State>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    progress: Mutex<Progress>,
    changed: Condvar,
    idle: Mutex<Idle>,
}

/// Connections that nobody reads the index with now, all to the same file.
#[derive(Default)]
struct Idle {
    /// How often the index was begun anew, each time in another file.
    file: u64,
    connections: Vec<Connection>,
}

#[derive(Default)]
struct Progress {
    /// How many entries of each tenant the index holds.
    sizes: Vec<u64>,
    /// How many wait for it.
    waiting: usize,
    closed: bool,
    /// Whether a reader found the index damaged.
    damaged: bool,
    /// Why the index cannot be built, if it cannot.
    failed: Option<Unavailable>,
}

/// The index file beside a database.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".search");
    PathBuf::from(name)
}

impl Search {
    /// Starts the projector, which opens the index or builds it anew.
    pub(super) fn start(shared: Arc<Shared>, reader: Arc<Reader>) -> Result<Self, OpenError> {
        let state = Arc::new(State::default());
        let path = beside(&reader.path);
        let projector = Projector {
            state: Arc::clone(&state),
            path: path.clone(),
            shared,
            reader,
        };
        let thread = std::thread::Builder::new()
            .name("dayfly-search".into())
            .spawn(move || projector.run())
            .map_err(OpenError::Thread)?;
        Ok(Self {
            state,
            path,
            thread: Some(thread),
        })
    }

    /// Positions under a key, newest first, of all that is committed now.
    pub(super) fn find(
        &self,
        published: &Published,
        reader: &Reader,
        tenant: &Name,
        (key, cursor, limit): (&SearchKey, Option<u64>, usize),
    ) -> Result<Vec<u64>, Unavailable> {
        let (number, size) = match published.read().tenant(tenant) {
            Some((number, tenant)) => (number, tenant.tree.size()),
            None => return Ok(Vec::new()),
        };
        let failed = self.state.wait_for(number, size);
        let below = cursor.unwrap_or(size).min(size);
        let (file, idle) = {
            let mut idle = lock(&self.state.idle);
            (idle.file, idle.connections.pop())
        };
        let index = match idle {
            Some(index) => Some(index),
            None => index::open_reader(&self.path).ok(),
        };
        let found = reader.with(|db| {
            let places = Places {
                index: index.as_ref(),
                entries: &Entries::new(db, &reader.bundles),
                tenant: number,
                tail: TAIL,
            };
            places.find(key, below, limit).map_err(|error| {
                if let Missed::Broken(error) = &error {
                    lock(&self.state.progress).damaged |= is_damage(error);
                }
                error.because(failed).into()
            })
        })?;
        let mut idle = lock(&self.state.idle);
        if idle.file == file {
            idle.connections.extend(index);
        }
        Ok(found)
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        lock(&self.state.progress).closed = true;
        self.state.changed.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the projector of the search index ended by a panic");
        }
    }
}

/// Finds without an index of its own to keep, however much that of another process lacks.
pub(super) fn find_alone(
    reader: &Reader,
    published: &Published,
    tenant: &Name,
    (key, cursor, limit): (&SearchKey, Option<u64>, usize),
) -> Result<Vec<u64>, Unavailable> {
    reader.catch_up(published)?;
    let (number, size) = match published.read().tenant(tenant) {
        Some((number, tenant)) => (number, tenant.tree.size()),
        None => return Ok(Vec::new()),
    };
    let index = index::open_reader(&beside(&reader.path)).ok();
    reader.with(|db| {
        let places = Places {
            index: index.as_ref(),
            entries: &Entries::new(db, &reader.bundles),
            tenant: number,
            tail: u64::MAX,
        };
        let found = places.find(key, cursor.unwrap_or(size).min(size), limit);
        found.map_err(|error| error.because(None).into())
    })
}

/// Where a tenant's entries are found: in an index as far as it goes, and one by one in what it
/// does not hold.
struct Places<'d> {
    index: Option<&'d Connection>,
    entries: &'d Entries<'d>,
    tenant: u32,
    /// How many are looked through one by one at most.
    tail: u64,
}

/// Why not everything could be looked through.
enum Missed {
    Broken(rusqlite::Error),
    /// The index lacks so many entries.
    Lags(u64),
}

impl Places<'_> {
    fn find(&self, key: &SearchKey, below: u64, limit: usize) -> Result<Vec<u64>, Missed> {
        let Self {
            entries, tenant, ..
        } = *self;
        let held = match self.index {
            Some(index) => index::held(index, entries, tenant)?.min(below),
            None => 0,
        };
        let looked = held.max(below.saturating_sub(self.tail));
        let mut found = index::scan(entries, tenant, looked..below, (key, limit))?;
        let missing = limit.saturating_sub(found.len());
        if missing == 0 {
            return Ok(found);
        }
        if looked > held {
            return Err(Missed::Lags(below - held));
        }
        if let Some(index) = self.index {
            found.extend(index::find(index, entries, tenant, (key, held, missing))?);
        }
        Ok(found)
    }
}

impl From<rusqlite::Error> for Missed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

impl Missed {
    /// What is told, with why the index is not written where that is known.
    fn because(self, failed: Option<Unavailable>) -> Unavailable {
        match (self, failed) {
            (Self::Broken(error), _) => unavailable(said(&error)),
            (Self::Lags(_), Some(why)) => why,
            (Self::Lags(missing), None) => {
                unavailable(format!("{missing} entries are still to be put into it"))
            }
        }
    }
}

impl State {
    /// Waits until the index holds so many entries of a tenant, or lacks few enough of them once
    /// patience is at its end; gives up when it cannot be written, and answers why.
    fn wait_for(&self, tenant: u32, size: u64) -> Option<Unavailable> {
        let mut progress = lock(&self.progress);
        let lacks = |progress: &Progress| size.saturating_sub(progress.size(tenant));
        if lacks(&progress) > NEAR {
            progress.waiting += 1;
            self.changed.notify_all();
            for (span, most) in [(PATIENCE, 0), (BOUND, TAIL)] {
                let waited = self.changed.wait_timeout_while(progress, span, |progress| {
                    lacks(progress) > most && progress.failed.is_none()
                });
                (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
            progress.waiting -= 1;
        }
        progress.failed.clone()
    }

    /// Rests, unless someone waits for the index or the store is closed; true when it is.
    fn rest(&self, span: Duration) -> bool {
        let progress = lock(&self.progress);
        let rested = self.changed.wait_timeout_while(progress, span, |progress| {
            progress.waiting == 0 && !progress.closed
        });
        let (progress, _) = rested.unwrap_or_else(PoisonError::into_inner);
        progress.closed
    }

    fn report(&self, sizes: Vec<u64>, failed: Option<Unavailable>) {
        let mut progress = lock(&self.progress);
        progress.sizes = sizes;
        progress.failed = failed;
        drop(progress);
        self.changed.notify_all();
    }
}

impl Progress {
    fn size(&self, tenant: u32) -> u64 {
        self.sizes.get(tenant as usize).copied().unwrap_or_default()
    }
}

/// Writes the index.
struct Projector {
    state: Arc<State>,
    path: PathBuf,
    shared: Arc<Shared>,
    reader: Arc<Reader>,
}

impl Projector {
    fn run(self) {
        let mut index = None;
        let mut anew = false;
        loop {
            let watch = Stopwatch::start();
            if std::mem::take(&mut lock(&self.state.progress).damaged) {
                index = None;
                anew = true;
            }
            let projected = self.project(&mut index, anew);
            let rest = match projected {
                Ok(Projected { written: 0, .. }) => IDLE,
                // What nobody can look through any more must become less.
                Ok(Projected { missing, .. }) if missing > TAIL - 2 * BLOCK => Duration::ZERO,
                Ok(_) => watch.elapsed() * REST,
                Err(Trouble { why, damaged }) => {
                    tracing::warn!(%why, "the search index could not be written");
                    self.state.report(Vec::new(), Some(why));
                    anew = damaged;
                    index = None;
                    // Whoever waits is told, and hurries the next try.
                    IDLE * 25
                }
            };
            if self.state.rest(rest) {
                return;
            }
        }
    }

    /// Puts the next entries of every tenant into the index.
    fn project(&self, open: &mut Option<Index>, anew: bool) -> Result<Projected, Trouble> {
        let targets: Vec<u64> = {
            let view = self.shared.published.read();
            let sizes = view.tenants.iter().map(|tenant| tenant.tree.size());
            sizes.collect()
        };
        let written = self.reader.with(|db| {
            let entries = Entries::new(db, &self.reader.bundles);
            Ok(self.write(open, &entries, &targets, anew))
        });
        match written {
            Ok(written) => Ok(written?),
            Err(why) => Err(Trouble {
                why,
                damaged: false,
            }),
        }
    }

    fn write(
        &self,
        open: &mut Option<Index>,
        entries: &Entries<'_>,
        targets: &[u64],
        anew: bool,
    ) -> rusqlite::Result<Projected> {
        let index = match open {
            Some(index) => index,
            None => {
                let there = if anew {
                    None
                } else {
                    Index::open(&self.path, entries)?
                };
                match there {
                    Some(index) => open.insert(index),
                    None => open.insert(self.begin()?),
                }
            }
        };
        let written = index.write(entries, targets)?;
        let sizes = index.sizes();
        let lacks = |(size, target): (&u64, &u64)| target.saturating_sub(*size);
        let missing = sizes.iter().zip(targets).map(lacks).max().unwrap_or(0);
        self.state.report(sizes, None);
        Ok(Projected { written, missing })
    }

    /// Begins an empty index; whoever reads the old file shall not go on doing so.
    fn begin(&self) -> rusqlite::Result<Index> {
        let index = Index::begin(&self.path)?;
        let mut idle = lock(&self.state.idle);
        idle.file += 1;
        idle.connections.clear();
        Ok(index)
    }
}

/// What was done at one go.
struct Projected {
    /// How many entries were put into the index.
    written: usize,
    /// How many are missing still, of the tenant that lacks most.
    missing: u64,
}

/// Why the index was not written.
struct Trouble {
    why: Unavailable,
    damaged: bool,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            damaged: is_damage(&error),
            why: unavailable(said(&error)),
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Unavailable {
    Unavailable(format!("the search index: {error}"))
}

//! The search index: a file of its own, derived from the entries, that follows the commits.

mod index;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dayfly_domain::Name;
use rusqlite::Connection;

use self::index::{Index, is_damage, keys_at};
use super::OpenError;
use super::read::Reader;
use super::view::{Published, lock};
use super::writer::Shared;
use crate::clock::Stopwatch;
use crate::{SearchKey, Unavailable};

/// How long `find` waits until the index holds what was committed before the call.
const BOUND: Duration = Duration::from_secs(5);

/// How many entries go into the index in one transaction.
const BATCH: usize = 5000;

/// How long the projector rests after a batch, as a multiple of how long that took: with nobody
/// waiting it takes a fifth of one core at most, so that grants go first.
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

    /// Positions under a key, newest first, once the index holds all that is committed now.
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
        self.state.wait_for(number, size)?;
        let below = cursor.unwrap_or(size).min(size);
        let (file, idle) = {
            let mut idle = lock(&self.state.idle);
            (idle.file, idle.connections.pop())
        };
        let db = match idle {
            Some(db) => db,
            None => index::open_reader(&self.path).map_err(unavailable)?,
        };
        let found = reader.with(|entries| {
            index::find(&db, entries, number, (key, below, limit)).map_err(|error| {
                lock(&self.state.progress).damaged |= is_damage(&error);
                error.into()
            })
        })?;
        let mut idle = lock(&self.state.idle);
        if idle.file == file {
            idle.connections.push(db);
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

/// Finds without an index of its own to keep: in the index as far as it goes and, entry by entry,
/// in what it does not hold.
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
    let below = cursor.unwrap_or(size).min(size);
    let index = index::open_reader(&beside(&reader.path)).ok();
    reader.with(|entries| {
        let held = match &index {
            Some(index) => index::held(index, entries, number)?,
            None => 0,
        };
        let mut found = Vec::new();
        let mut pos = below;
        while pos > held && found.len() < limit {
            pos -= 1;
            if keys_at(entries, number, pos)?.contains(key) {
                found.push(pos);
            }
        }
        if let Some(index) = index.filter(|_| found.len() < limit) {
            let limit = limit - found.len();
            found.extend(index::find(
                &index,
                entries,
                number,
                (key, below.min(held), limit),
            )?);
        }
        Ok(found)
    })
}

impl State {
    /// Waits until the index holds so many entries of a tenant.
    fn wait_for(&self, tenant: u32, size: u64) -> Result<(), Unavailable> {
        let mut progress = lock(&self.progress);
        progress.waiting += 1;
        self.changed.notify_all();
        let (mut progress, _) = self
            .changed
            .wait_timeout_while(progress, BOUND, |progress| {
                progress.size(tenant) < size && progress.failed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        progress.waiting -= 1;
        match &progress.failed {
            Some(why) => Err(why.clone()),
            None if progress.size(tenant) >= size => Ok(()),
            None => Err(Unavailable("the search index lags behind".into())),
        }
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
                Ok(0) => IDLE,
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

    /// Puts the next entries of every tenant into the index; answers how many.
    fn project(&self, open: &mut Option<Index>, anew: bool) -> Result<usize, Trouble> {
        let targets: Vec<u64> = {
            let view = self.shared.published.read();
            let sizes = view.tenants.iter().map(|tenant| tenant.tree.size());
            sizes.collect()
        };
        let written = self
            .reader
            .with(|entries| Ok(self.write(open, entries, &targets, anew)));
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
        entries: &Connection,
        targets: &[u64],
        anew: bool,
    ) -> rusqlite::Result<usize> {
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
        let written = index.write(entries, targets, BATCH)?;
        self.state.report(index.sizes(), None);
        Ok(written)
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

/// Why the index was not written.
struct Trouble {
    why: Unavailable,
    damaged: bool,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            damaged: is_damage(&error),
            why: unavailable(error),
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Unavailable {
    Unavailable(format!("the search index: {error}"))
}

//! The SQLite backend: one file, one writer thread, open tasks in memory.

mod backup;
mod batch;
mod body;
mod checkpoint;
mod close;
mod draft;
mod due;
mod entries;
mod fsck;
mod hearing;
mod judge;
mod known;
mod load;
mod observe;
mod partition;
mod people;
mod read;
mod record;
mod relied;
mod schema;
mod search;
mod snapshot;
mod spend;
mod tally;
#[cfg(test)]
mod tests;
mod touch;
mod value;
mod view;
mod writer;

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::Hash;
use tokio::sync::{Semaphore, oneshot};

pub use backup::{BackupFailure, BackupOptions, BackupProgress, backup};
pub use fsck::{FsckFailure, FsckReport, TenantReport, fsck, fsck_with};

use crate::clock::{Clock, SystemClock};
use crate::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Observed, OpenFilter,
    OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead, Unavailable, Use,
};

use batch::{Order, Waiter};
use body::{Ready, ReadyUse};
use checkpoint::Checkpoints;
use entries::Dropping;
use load::{load, load_to_write};
use read::Reader;
use schema::{Sync, open_reader, open_writer};
use search::{Search, find_alone};
use view::{Published, lock};
use writer::{Message, Shared, Writer};

/// The folder of bundles beside a database.
const BUNDLES: &str = "bundles";

/// How a database is opened and served.
#[derive(Clone)]
pub struct SqliteOptions {
    /// The database file. Beside it lie `-wal`, `-shm`, `.lock` and the search index `.search`.
    pub path: PathBuf,
    /// The folder of the bundles that dropped entries stand in.
    pub bundles: PathBuf,
    /// How long the writer gathers appends into one commit, at most.
    pub gather: Duration,
    /// How often it looks for them meanwhile; it gathers no longer when there is nothing new. So
    /// long waits an append that comes alone.
    pub look: Duration,
    /// How many appends one commit holds, at most.
    pub batch_max: usize,
    /// How many appends may wait for the writer; more wait to be let in.
    pub queue: usize,
    /// How much of the database the writer keeps in memory, in MiB.
    pub cache_mib: u32,
    /// The most bytes of a leaf; the ledger's own bound of 8 KiB holds besides.
    pub leaf_bytes: usize,
    /// Tells the time by which counts are read and tables of passed days dropped.
    pub clock: Arc<dyn Clock>,
}

impl SqliteOptions {
    /// The defaults for a database file: a window of 5 ms with a look each 0.6 ms, batches of 256,
    /// a queue of 4,096 and 64 MiB of cache, by the wall clock; bundles lie in `bundles` beside it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            bundles: path.with_file_name(BUNDLES),
            path,
            gather: Duration::from_millis(5),
            look: Duration::from_micros(600),
            batch_max: 256,
            queue: 4096,
            cache_mib: 64,
            leaf_bytes: dayfly_ledger::leaf::MAX_LEAF_BYTES,
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("path", &self.path)
            .field("bundles", &self.bundles)
            .field("gather", &self.gather)
            .field("look", &self.look)
            .field("batch_max", &self.batch_max)
            .field("queue", &self.queue)
            .field("cache_mib", &self.cache_mib)
            .finish_non_exhaustive()
    }
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this file.
    #[error("`{}` is held by another process that serves the database", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("the lock file `{}` cannot be used", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database is of a version that this program does not know.
    #[error("the database has version {found}; this program knows versions up to {supported}")]
    Version {
        /// Its version.
        found: usize,
        /// The newest version that is known here.
        supported: usize,
    },
    /// The file is some other program's database.
    #[error("the file is no database of dayfly")]
    Foreign,
    /// The entries are not those that the last commit left.
    #[error("the ledger of `{tenant}` is damaged: run `dayfly ledger fsck`")]
    Damaged {
        /// The tenant.
        tenant: Name,
    },
    /// The tree cannot be read from its tiles.
    #[error("a tree cannot be read, run `dayfly ledger fsck`: {0}")]
    Tree(String),
    /// The database failed.
    #[error("the database cannot be read")]
    Database(#[from] rusqlite::Error),
    /// The writer's thread cannot be started.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
}

/// A store in one SQLite file.
///
/// Dropping it takes what has queued, commits it and closes the file.
pub struct SqliteStore {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    /// None where the database was opened to read only.
    writing: Option<Writing>,
    search: Option<Search>,
    leaf_bytes: usize,
}

/// The way to the writer.
struct Writing {
    messages: Sender<Message>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    checkpoints: Option<Checkpoints>,
    /// Held until the writer has ended, so that nobody else serves the file.
    _lock: File,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.reader.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens a database to serve it, and makes it when it is not there. The process is the only
    /// one that may.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        Self::open_with(
            options,
            Sync::Full,
            #[cfg(test)]
            Arc::default(),
        )
    }

    fn open_with(
        options: SqliteOptions,
        sync: Sync,
        #[cfg(test)] faults: Arc<tests::Faults>,
    ) -> Result<Self, OpenError> {
        let lock = lock_file(&options.path)?;
        let leaf_bytes = options.leaf_bytes;
        let db = open_writer(&options.path, options.cache_mib, sync)?;
        let (view, keep) = load_to_write(&db, &options)?;
        let shared = Arc::new(Shared {
            published: Published::new(view),
            // A server that was killed may have left what it erased in the log.
            scrub: AtomicBool::new(true),
            ..Shared::default()
        });
        let reader = Arc::new(Reader::new(&options, false));
        let (messages, taken) = mpsc::channel();
        let places = Arc::new(Semaphore::new(
            options.queue.clamp(1, Semaphore::MAX_PERMITS),
        ));
        let writer = Writer {
            options,
            sync,
            shared: Arc::clone(&shared),
            messages: taken,
            yielding: VecDeque::new(),
            db: Ok((db, keep)),
            #[cfg(test)]
            faults,
        };
        let thread = std::thread::Builder::new()
            .name("dayfly-writer".into())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        let search = Search::start(Arc::clone(&shared), Arc::clone(&reader))?;
        let checkpoints = Checkpoints::start(reader.path.clone(), Arc::clone(&shared))?;
        Ok(Self {
            shared,
            reader,
            writing: Some(Writing {
                messages,
                places,
                thread: Some(thread),
                checkpoints: Some(checkpoints),
                _lock: lock,
            }),
            search: Some(search),
            leaf_bytes,
        })
    }

    /// Opens a database to read only, whether it is being served or not. Appends are answered
    /// with [`AppendError::Unavailable`].
    ///
    /// # Errors
    /// [`OpenError`]; also when there is no database.
    pub fn open_read_only(options: &SqliteOptions) -> Result<Self, OpenError> {
        let db = open_reader(&options.path)?;
        let (view, _) = load(&db)?;
        let reader = Reader::new(options, true);
        lock(&reader.idle).push(db);
        Ok(Self {
            shared: Arc::new(Shared {
                published: Published::new(view),
                ..Shared::default()
            }),
            reader: Arc::new(reader),
            writing: None,
            search: None,
            leaf_bytes: options.leaf_bytes,
        })
    }

    /// Sends an order to the writer: at once where there is a place in the queue, else when the
    /// future is waited for.
    fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce(Waiter<T>) -> Order,
    ) -> Answer<Result<T, AppendError>> {
        let closed = || {
            Err(AppendError::Unavailable(Unavailable(
                "the writer has ended".into(),
            )))
        };
        let Some(writing) = &self.writing else {
            let why = Unavailable("the database was opened to read only".into());
            return Box::pin(std::future::ready(Err(AppendError::Unavailable(why))));
        };
        let (waiter, answer) = oneshot::channel();
        let order = order(waiter);
        let messages = writing.messages.clone();
        let late = match Arc::clone(&writing.places).try_acquire_owned() {
            Ok(place) => {
                if messages.send(Message::Order(order, place)).is_err() {
                    return Box::pin(std::future::ready(closed()));
                }
                None
            }
            Err(_) => Some((order, Arc::clone(&writing.places))),
        };
        Box::pin(async move {
            if let Some((order, places)) = late {
                let Ok(place) = places.acquire_owned().await else {
                    return closed();
                };
                if messages.send(Message::Order(order, place)).is_err() {
                    return closed();
                }
            }
            // A writer that ended with the order in hand says nothing of what it wrote.
            let lost = || AppendError::Unknown(Unavailable("the writer ended meanwhile".into()));
            answer.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Those who only read go first, so that the writer can leave the file in order.
        self.search = None;
        if let Some(writing) = &mut self.writing {
            writing.places.close();
            writing.checkpoints = None;
            // Neither can fail but when the writer has already ended.
            let _ = writing.messages.send(Message::Close);
            if let Some(Err(_)) = writing.thread.take().map(JoinHandle::join) {
                tracing::error!("the writer ended by a panic");
            }
        }
    }
}

impl Store for SqliteStore {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        let drops = append.drops.clone();
        let erases = append.erases.clone();
        let dropping = drops.map(|range| Dropping::read(&self.reader.bundles, tenant, range));
        let ready = dropping
            .transpose()
            .map_err(|why| AppendError::Unavailable(Unavailable(why.to_string())))
            .and_then(|dropping| Ready::new(append, dropping, self.leaf_bytes));
        match ready {
            Ok(ready) => {
                let answer =
                    self.order(|waiter| Order::Append(tenant.clone(), Box::new(ready), waiter));
                if erases.is_empty() {
                    return answer;
                }
                let (bundles, tenant) = (self.reader.bundles.clone(), tenant.clone());
                Box::pin(async move {
                    let committed = answer.await?;
                    // Only now, so that it is on record: whoever repeats it finds what is left.
                    crate::bundle::erase(&bundles, tenant.as_str(), &erases)
                        .map_err(|why| AppendError::Unavailable(Unavailable(why.to_string())))?;
                    Ok(committed)
                })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        match uses.into_iter().map(ReadyUse::new).collect() {
            Ok(uses) => self.order(|waiter| Order::Observe(tenant.clone(), uses, waiter)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        if self.writing.is_some() {
            lock(&self.shared.touched).note(&self.shared.published, tenant, touch);
        }
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.reader.facts(&self.shared.published, tenant, query)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.reader
            .open(&self.shared.published, tenant, filter, (cursor, limit))
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.reader
            .entries(&self.shared.published, tenant, range, limit)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        let (published, wanted) = (&self.shared.published, (key, cursor, limit));
        match &self.search {
            Some(search) => search.find(published, &self.reader, tenant, wanted),
            None => find_alone(&self.reader, published, tenant, wanted),
        }
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.reader.head(&self.shared.published, tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.reader
            .tile(&self.shared.published, tenant, (level, index, width))
    }
}

/// Takes the lock that says who serves the file. It falls with the process that holds it.
/// The right to serve a database file: while one holds it, nobody else does.
#[derive(Debug)]
pub struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Takes it, whether there is a database yet or not.
    ///
    /// # Errors
    /// [`OpenError::Locked`] and [`OpenError::Lock`].
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        lock_file(path).map(|file| Self { _file: file })
    }
}

fn lock_file(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let opened = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(source) => return Err(OpenError::Lock { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(OpenError::Lock { path, source }),
    }
}

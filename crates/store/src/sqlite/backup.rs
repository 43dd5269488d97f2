//! A consistent copy of a database, served or not, in steps between which the caller may rest.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::OpenError;
use super::schema::open_reader;

/// How a database is copied.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// How many pages one step copies.
    pub step_pages: u16,
    /// How many bytes the write-ahead log may have when the copy still goes on, where that is more
    /// than the database has.
    pub log_bytes: u64,
}

impl Default for BackupOptions {
    /// Steps of 256 pages (2 MiB), and a log of 1 GiB.
    fn default() -> Self {
        Self {
            step_pages: 256,
            log_bytes: 1024 * 1024 * 1024,
        }
    }
}

/// How far a copy is. What is copied does not change meanwhile, so `total` stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes copied.
    pub copied: u64,
    /// Bytes of the whole copy.
    pub total: u64,
    /// Bytes of the write-ahead log, which is not begun anew while the copy goes on.
    pub log: u64,
    /// At how many bytes of log the copy is given up.
    pub log_limit: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailure {
    /// The database cannot be opened.
    #[error("the database cannot be opened")]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error("the database cannot be read")]
    Read(#[source] rusqlite::Error),
    /// The copy cannot be written, or what it is copied from cannot be read.
    #[error("the copy to `{}` fails", .path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The log has grown too long meanwhile.
    #[error(
        "the write-ahead log grew to {log} bytes while the database was copied, of which {limit} are allowed"
    )]
    Log {
        /// How many bytes it has.
        log: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The caller did not go on.
    #[error("the copy was stopped")]
    Stopped,
}

/// Copies the database as of the moment of the call into `copy`, an empty file that is there, and gives
/// its bytes. Whatever was committed before the call is in it and nothing that is committed after.
/// The writer never waits for this: it appends to the log, which is read up to that moment.
///
/// `between` is called before each step; it may rest there, or break off. The
/// copy is one file in order, with no log beside it. It is not synced; where there is an error,
/// what `copy` holds is of no use.
///
/// # Errors
/// [`BackupFailure`].
pub fn backup(
    path: &Path,
    copy: &Path,
    options: BackupOptions,
    mut between: impl FnMut(&BackupProgress) -> ControlFlow<()>,
) -> Result<u64, BackupFailure> {
    let source = open_reader(path)?;
    // INVARIANT: this transaction is open until the last step. Without it SQLite would begin again
    // at every commit of the writer, and never be done while it is busy.
    let snapshot = source
        .unchecked_transaction()
        .map_err(BackupFailure::Read)?;
    let total = bytes(&snapshot).map_err(BackupFailure::Read)?;
    let failed = |source| BackupFailure::Copy {
        path: copy.to_path_buf(),
        source,
    };
    // The file is there already. One that was taken away meanwhile is not made again: whoever told
    // the copy to stop would find it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(copy, flags).map_err(failed)?;
    // A copy that is cut short is thrown away, so nothing protects it meanwhile.
    target
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        .map_err(failed)?;
    let progress = |copied| {
        let log = log_bytes(path);
        let log_limit = options.log_bytes.max(total);
        BackupProgress {
            copied,
            total,
            log,
            log_limit,
        }
    };
    let steps = Backup::new(&snapshot, &mut target).map_err(failed)?;
    let mut copied = 0;
    loop {
        let now = progress(copied);
        if now.log > now.log_limit {
            let BackupProgress { log, log_limit, .. } = now;
            return Err(BackupFailure::Log {
                log,
                limit: log_limit,
            });
        }
        if between(&now).is_break() {
            return Err(BackupFailure::Stopped);
        }
        let step = steps.step(i32::from(options.step_pages.max(1)));
        let done = step.map_err(failed)? == StepResult::Done;
        let at = steps.progress();
        let left = share(total, at.remaining, at.pagecount);
        copied = total.saturating_sub(left);
        if done {
            break;
        }
    }
    drop(steps);
    // The copy says of itself, as its original does, that it has a log; it goes without one.
    target
        .query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
        .map_err(failed)?;
    target.close().map_err(|(_, source)| failed(source))?;
    Ok(total)
}

/// The bytes of a database as of its transaction, what is still in the log included.
fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| {
        db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u32>(0))
            .map(u64::from)
    };
    // A statement that reads a table is what takes the snapshot.
    db.query_row("SELECT count(*) FROM commits", [], |_| Ok(()))?;
    Ok(pragma("page_count")? * pragma("page_size")?)
}

/// So much of `total` as `part` is of `whole`.
fn share(total: u64, part: i32, whole: i32) -> u64 {
    let (part, whole) = (part.max(0).unsigned_abs(), whole.max(1).unsigned_abs());
    total / u64::from(whole) * u64::from(part)
}

/// How long the log is; none is no log.
fn log_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(0, |log| log.len())
}

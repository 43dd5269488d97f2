//! Moves the write-ahead log into the database beside the writer, so that grants do not wait for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::OpenError;
use super::schema::open_checkpointer;
use super::view::lock;
use super::writer::Shared;

/// How often the log is moved, when there was a commit.
const EVERY: Duration = Duration::from_millis(250);

/// The thread that moves it.
///
/// What it has moved, the writer need not: SQLite begins the log anew at the next commit that
/// finds it moved whole, and has the writer itself move the rest when it grows too long, so the
/// log is bounded whether this keeps pace or not.
pub(super) struct Checkpoints {
    closed: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(path: PathBuf, shared: Arc<Shared>) -> Result<Self, OpenError> {
        let closed = Arc::<(Mutex<bool>, Condvar)>::default();
        let watched = Arc::clone(&closed);
        let thread = std::thread::Builder::new()
            .name("dayfly-log".into())
            .spawn(move || run(&path, &shared, &watched))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            closed,
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        *lock(&self.closed.0) = true;
        self.closed.1.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that moves the log ended by a panic");
        }
    }
}

fn run(path: &Path, shared: &Shared, (closed, woken): &(Mutex<bool>, Condvar)) {
    let mut db: Option<Connection> = None;
    let mut moved = 0;
    loop {
        let rested = woken.wait_timeout_while(lock(closed), EVERY, |closed| !*closed);
        if *rested.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        let commits = shared.published.read().commits;
        let scrub = shared.scrub.load(Ordering::SeqCst);
        if commits == moved && !scrub {
            continue;
        }
        // A connection that failed, or lost its file, is opened again at the next turn.
        db = db.or_else(|| open_checkpointer(path).ok());
        let checkpoint = |db: &Connection| {
            let busy = checkpoint(db, "PASSIVE")?;
            // Only once all of it is moved: then it holds nobody up, for there is nothing to sync.
            if scrub && !busy {
                checkpoint(db, "TRUNCATE")
            } else {
                Ok(busy)
            }
        };
        match db.as_ref().map(checkpoint) {
            Some(Ok(busy)) => {
                moved = commits;
                if scrub && !busy {
                    shared.scrub.store(false, Ordering::SeqCst);
                }
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the write-ahead log could not be moved");
                db = None;
            }
            None => {}
        }
    }
}

/// Moves the log in this way; gives whether somebody stood in the way of all of it.
fn checkpoint(db: &Connection, how: &str) -> rusqlite::Result<bool> {
    db.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| {
        let (busy, log, moved): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy || moved < log)
    })
}

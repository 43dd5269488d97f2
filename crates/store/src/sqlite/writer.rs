//! The one writer: gathers what has queued within a short window and commits it all at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use super::batch::{Batch, Fate, Order, Reply};
use super::load::{Keep, keep_heard, load_to_write};
use super::schema::{Sync, open_writer};
use super::touch::Touched;
use super::view::{Published, lock};
use super::{OpenError, SqliteOptions};
use crate::Unavailable;
use crate::clock::{Reading, Stopwatch};

/// How often touches are saved when nothing else is committed, and the least time between two
/// tries to open a database again.
const TICK: Duration = Duration::from_secs(1);

/// What goes to the writer.
pub(super) enum Message {
    /// An order, with its place in the queue.
    Order(Order, OwnedSemaphorePermit),
    /// The store is closed; what came before this is still done.
    Close,
}

/// What the writer shares with the readers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) published: Published,
    pub(super) touched: Mutex<Touched>,
    /// Whether the log holds what was erased: then it is not only moved but emptied.
    pub(super) scrub: AtomicBool,
}

/// The writer of a database file.
pub(super) struct Writer {
    pub(super) options: SqliteOptions,
    pub(super) sync: Sync,
    pub(super) shared: Arc<Shared>,
    pub(super) messages: Receiver<Message>,
    /// What has come and gives way to others, each with its place in the queue.
    pub(super) yielding: VecDeque<(Order, OwnedSemaphorePermit)>,
    /// The database; none after a commit whose fate is not known, until it is opened again.
    pub(super) db: Result<(Connection, Keep), Lost>,
    #[cfg(test)]
    pub(super) faults: Arc<super::tests::Faults>,
}

/// A database that is to be opened again, and since when.
pub(super) struct Lost {
    tried: Stopwatch,
    why: Unavailable,
}

impl Writer {
    /// Serves until the store is closed.
    pub(super) fn run(mut self) {
        loop {
            let closed = match self.first() {
                Ok(Message::Order(first, place)) => {
                    drop(place);
                    self.serve(Some(first))
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.save_touches();
                    false
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => true,
            };
            if closed {
                // What came before the end is still done, whatever it gave way to.
                while let Some((order, place)) = self.yielding.pop_front() {
                    drop(place);
                    self.serve(Some(order));
                }
                self.save_touches();
                return self.settle();
            }
        }
    }

    /// The first message of a batch: of what yields only where nothing else is there.
    fn first(&mut self) -> Result<Message, RecvTimeoutError> {
        loop {
            let message = match self.yielding.pop_front() {
                None => self.messages.recv_timeout(TICK)?,
                Some((order, place)) => match self.messages.try_recv() {
                    Err(_) => return Ok(Message::Order(order, place)),
                    Ok(message) => {
                        self.yielding.push_front((order, place));
                        message
                    }
                },
            };
            match message {
                Message::Order(order, place) if order.yields() => {
                    self.yielding.push_back((order, place));
                }
                Message::Order(..) | Message::Close => return Ok(message),
            }
        }
    }

    /// Moves the log into the database, so that one file holds everything while nobody serves it.
    /// Whoever opens it next does the same with what is left.
    fn settle(&self) {
        if let Ok((db, _)) = &self.db
            && let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::warn!(%error, "the write-ahead log could not be moved into the database");
        }
    }

    fn save_touches(&mut self) {
        if !lock(&self.shared.touched).is_empty() {
            self.serve(None);
        }
    }

    /// Takes one batch from its first order to its answers; true when the store is closed.
    fn serve(&mut self, first: Option<Order>) -> bool {
        if self
            .db
            .as_ref()
            .is_err_and(|lost| lost.tried.elapsed() >= TICK)
        {
            self.reopen();
        }
        let (db, keep) = match &mut self.db {
            Ok((db, keep)) => (db, keep),
            Err(lost) => {
                if let Some(order) = first {
                    order.undone().send(&Fate::Undone(lost.why.clone()));
                }
                return false;
            }
        };
        let mut gathering = Gathering {
            messages: &self.messages,
            yielding: &mut self.yielding,
            options: &self.options,
            watch: Stopwatch::start(),
            taken: 1,
            coming: true,
            waited_for: first.as_ref().is_some_and(|first| !first.yields()),
            yielded: first.as_ref().is_some_and(Order::yields),
            closed: false,
        };
        let transaction = Transaction {
            db,
            keep,
            shared: &self.shared,
            #[cfg(test)]
            faults: &self.faults,
        };
        let now = Reading::of(self.options.clock.as_ref());
        let (replies, fate) = transaction.run(first, now, &mut gathering);
        let closed = gathering.closed;
        if let Fate::Undone(why) | Fate::Unknown(why) = &fate {
            tracing::error!(%why, "a batch could not be committed");
        }
        for reply in replies {
            reply.send(&fate);
        }
        if let Fate::Unknown(_) = fate {
            self.reopen();
        }
        closed
    }

    /// Opens the database again and reads everything anew, as at start.
    fn reopen(&mut self) {
        let lost = |why: String| Lost {
            tried: Stopwatch::start(),
            why: Unavailable(why),
        };
        // The old connection goes first: its transaction ends with it.
        self.db = Err(lost("the database is being opened again".into()));
        let open = || -> Result<_, OpenError> {
            let db = open_writer(&self.options.path, self.options.cache_mib, self.sync)?;
            let (view, keep) = load_to_write(&db, &self.options)?;
            Ok((db, view, keep))
        };
        self.db = match open() {
            Ok((db, view, keep)) => {
                self.shared.published.change(|old| {
                    keep_heard(old, &view);
                    *old = view;
                });
                Ok((db, keep))
            }
            Err(error) => Err(lost(format!(
                "the database cannot be opened again: {error}"
            ))),
        };
    }
}

/// The orders of one batch as they come in.
///
/// The writer looks for them a few times in a window and sleeps in between: an order that wakes
/// nobody is given for a fraction of what one costs that does. While there are new ones at every
/// look it goes on, for whoever asks in a loop asks again within the time of a commit.
///
/// What yields fills the time between two looks. Whoever comes while only such orders are taken is
/// part of this batch, and does not wait for more of them than the one at hand.
struct Gathering<'w> {
    messages: &'w Receiver<Message>,
    yielding: &'w mut VecDeque<(Order, OwnedSemaphorePermit)>,
    options: &'w SqliteOptions,
    watch: Stopwatch,
    taken: usize,
    /// Whether an order that does not yield came since the last look.
    coming: bool,
    /// Whether one of the batch does not yield: its caller waits.
    waited_for: bool,
    /// Whether one of the batch yields.
    yielded: bool,
    closed: bool,
}

impl Gathering<'_> {
    /// The next order of this batch, up to its size; none when a look found nothing new, or the
    /// window is over and what is there is taken.
    fn next(&mut self) -> Option<Order> {
        while !self.closed && self.taken < self.options.batch_max {
            if let Some(order) = self.arrived() {
                return Some(order);
            }
            let new = std::mem::take(&mut self.coming);
            let left = self.watch.left_of(self.options.gather);
            let goes_on = !left.is_zero() && (new || !self.waited_for);
            if goes_on && let Some(order) = self.next_yielding() {
                return Some(order);
            }
            if left.is_zero() || !new {
                break;
            }
            if self.yielding.is_empty() {
                Stopwatch::pass(left.min(self.options.look));
            }
        }
        // However many others come, some of what gives way to them is in every batch.
        if self.yielded || self.closed {
            return None;
        }
        self.next_yielding()
    }

    /// The next order that has come and does not yield.
    fn arrived(&mut self) -> Option<Order> {
        loop {
            match self.messages.try_recv() {
                Ok(Message::Order(order, place)) if order.yields() => {
                    self.yielding.push_back((order, place));
                }
                Ok(Message::Order(order, place)) => {
                    drop(place);
                    self.taken += 1;
                    self.coming = true;
                    self.waited_for = true;
                    return Some(order);
                }
                Ok(Message::Close) => {
                    self.closed = true;
                    return None;
                }
                Err(_) => return None,
            }
        }
    }

    fn next_yielding(&mut self) -> Option<Order> {
        let (order, place) = self.yielding.pop_front()?;
        drop(place);
        self.taken += 1;
        self.yielded = true;
        Some(order)
    }
}

/// One transaction of the database.
struct Transaction<'w> {
    db: &'w Connection,
    keep: &'w mut Keep,
    shared: &'w Shared,
    #[cfg(test)]
    faults: &'w super::tests::Faults,
}

impl Transaction<'_> {
    fn run(
        self,
        mut first: Option<Order>,
        now: Reading,
        gathering: &mut Gathering<'_>,
    ) -> (Vec<Reply>, Fate) {
        let mut replies = Vec::new();
        let mut touched = Touched::default();
        let Shared {
            published,
            touched: unsaved,
            scrub,
        } = self.shared;
        let Self { db, keep, .. } = self;
        let written = Batch::begin(db, published, keep).and_then(|mut batch| {
            let mut next = first.take();
            while let Some(order) = next {
                let (reply, result) = batch.take(order);
                replies.push(reply);
                result?;
                next = gathering.next();
            }
            // Only now, so that what was touched before an order was given is saved with it.
            touched = std::mem::take(&mut *lock(unsaved));
            batch.finish(&touched, now)
        });
        replies.extend(first.map(Order::undone));
        let fate = match written {
            Err(error) => undo(db, &error),
            Ok(outcome) => {
                #[cfg(test)]
                let committed = self.faults.commit(db);
                #[cfg(not(test))]
                let committed = commit(db);
                // From here on a crash is clean: what was committed is read back as it is.
                match committed {
                    Ok(()) => {
                        if outcome.erased() {
                            scrub.store(true, Ordering::SeqCst);
                        }
                        outcome.publish(published, keep);
                        return (replies, Fate::Durable);
                    }
                    Err(error) => Fate::Unknown(Unavailable(error.to_string())),
                }
            }
        };
        lock(unsaved).take_back(touched);
        (replies, fate)
    }
}

pub(super) fn commit(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("COMMIT")?.execute([]).map(drop)
}

/// Rolls a transaction back whose statement failed. SQLite may have done it by itself.
fn undo(db: &Connection, error: &rusqlite::Error) -> Fate {
    let why = Unavailable(error.to_string());
    if db.is_autocommit() || db.execute_batch("ROLLBACK").is_ok() {
        Fate::Undone(why)
    } else {
        Fate::Unknown(why)
    }
}

//! The least that SQLite does for one durable issuance: its rows, in a transaction of many, without any of our code.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::{Connection, params};

use super::clock::Watch;
use super::failure::{Context, Failure};
use super::machine;

/// How many issuances share a transaction.
const BATCH: u32 = 128;

/// Three entries, a task, a claim, two one-time keys, in the pages that such tables have.
const TABLES: &str = "
PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;
CREATE TABLE entries (id INTEGER PRIMARY KEY, task BLOB, seq INTEGER, leaf TEXT NOT NULL,
  hash BLOB NOT NULL, salt BLOB, annex TEXT) STRICT;
CREATE INDEX entries_of_task ON entries (task, seq);
CREATE TABLE tasks (row INTEGER PRIMARY KEY, id BLOB NOT NULL, snapshot BLOB NOT NULL) STRICT;
CREATE TABLE claims (series TEXT NOT NULL, key TEXT NOT NULL, task BLOB NOT NULL,
  PRIMARY KEY (series, key)) STRICT, WITHOUT ROWID;
CREATE TABLE spent (at INTEGER NOT NULL, digest BLOB NOT NULL, task BLOB NOT NULL,
  PRIMARY KEY (at, digest)) STRICT, WITHOUT ROWID;
CREATE TABLE head (one INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
";

/// Bytes of the leaves of an opening: `task.started`, `client.registered`, `credential.issued`.
const LEAVES: [usize; 3] = [700, 950, 850];
/// Bytes of the claims of a proof, kept beside the second leaf.
const ANNEX: usize = 1300;
/// Bytes of a task's state.
const SNAPSHOT: usize = 1300;

/// Microseconds of CPU, and of time, for each issuance.
pub(super) fn issuance(folder: &Path, quick: bool) -> Result<(f64, f64), Failure> {
    let path = folder.join("primitive.db");
    let failed = "the SQLite primitive";
    let db = Connection::open(&path).context(failed)?;
    db.execute_batch(TABLES).context(failed)?;
    let batches = if quick { 60 } else { 240 };
    let mut work = Work::new(&db);
    // The first transactions make the file and its pages.
    for _ in 0..10 {
        work.transaction().context(failed)?;
    }
    let (watch, before) = (Watch::start(), machine::own_thread_nanos()?);
    for _ in 0..batches {
        work.transaction().context(failed)?;
    }
    let done = f64::from(batches * BATCH);
    let nanos = machine::own_thread_nanos()?.saturating_sub(before);
    let elapsed = watch.elapsed().as_secs_f64();
    drop(db);
    for suffix in ["", "-wal", "-shm"] {
        // Left behind it only takes room until the folder goes.
        let _ = std::fs::remove_file(folder.join(format!("primitive.db{suffix}")));
    }
    Ok((nanos as f64 / 1000.0 / done, elapsed * 1e6 / done))
}

struct Work<'d> {
    db: &'d Connection,
    next: i64,
    texts: [String; 3],
    annex: String,
}

impl<'d> Work<'d> {
    fn new(db: &'d Connection) -> Self {
        Self {
            db,
            next: 0,
            texts: LEAVES.map(|bytes| "x".repeat(bytes)),
            annex: "y".repeat(ANNEX),
        }
    }

    fn transaction(&mut self) -> rusqlite::Result<()> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..BATCH {
            self.issuance()?;
        }
        self.db
            .prepare_cached("INSERT OR REPLACE INTO head VALUES (1, ?1, ?2)")?
            .execute(params![self.next, [0_u8; 32]])?;
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn issuance(&mut self) -> rusqlite::Result<()> {
        let n = self.next;
        self.next += 1;
        let mut id = [0_u8; 16];
        for (to, from) in id.iter_mut().zip(n.to_be_bytes()) {
            *to = from;
        }
        let mut entries = self
            .db
            .prepare_cached("INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for (seq, leaf) in (0_i64..).zip(&self.texts) {
            let annex = (seq == 1).then_some((&self.annex, [0_u8; 16]));
            let (text, salt) = (annex.map(|(text, _)| text), annex.map(|(_, salt)| salt));
            entries.execute(params![n * 3 + seq, id, seq, leaf, [7_u8; 32], salt, text])?;
        }
        self.db
            .prepare_cached("INSERT INTO tasks VALUES (?1, ?2, ?3)")?
            .execute(params![n, id, self.annex.as_bytes().get(..SNAPSHOT)])?;
        self.db
            .prepare_cached("INSERT INTO claims VALUES (?1, ?2, ?3)")?
            .execute(params![
                format!("1000001/{n}"),
                format!("1000001/{n}/{n}"),
                id
            ])?;
        let mut spent = self
            .db
            .prepare_cached("INSERT INTO spent VALUES (?1, ?2, ?3)")?;
        for which in 0..2_i64 {
            // A digest is spread over all values, which these bits are too.
            let spread = (n * 2 + which).wrapping_mul(-0x61c8_8646_80b5_83eb);
            let digest = [spread.to_be_bytes(), spread.to_le_bytes()].concat();
            spent.execute(params![n / 10_000, digest, id])?;
        }
        Ok(())
    }
}

/// Microseconds, by the median, to write a page to a file that is long enough and sync it.
pub(super) fn lone_sync(folder: &Path, quick: bool) -> Result<f64, Failure> {
    let failed = "the sync primitive";
    let page = [0x5a; 8192];
    let mut file = File::create(folder.join("primitive.sync")).context(failed)?;
    file.write_all(&page).context(failed)?;
    file.sync_all().context(failed)?;
    let mut times = Vec::new();
    for _ in 0..if quick { 50 } else { 400 } {
        file.seek(SeekFrom::Start(0)).context(failed)?;
        let watch = Watch::start();
        file.write_all(&page).context(failed)?;
        file.sync_data().context(failed)?;
        times.push(watch.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context(failed)
}

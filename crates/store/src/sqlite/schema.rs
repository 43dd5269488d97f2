//! The tables of a database file, their versions, and the one way to open it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// Brings a database from each version to the next; a database is of the version that says how
/// many of these it has seen. Only ever appended to.
const MIGRATIONS: [&str; 3] = [VERSION_1, VERSION_2, VERSION_3];

/// The oldest version that is read as it stands, in a backup for one: nothing that came since
/// changed a table.
const READ_FROM: usize = 1;

/// Marks a file as ours (`PRAGMA application_id`): "dayf".
const APPLICATION: i64 = 0x6461_7966;

/// An entry's id is its tenant's number and its position side by side, so that the entries of a
/// tenant lie together in order, and looking one up needs no second index.
///
/// Rows of `tasks` have numbers of their own, which the writer keeps in memory beside the open
/// task; no index by task id is needed. What was heard lies in a narrow table of its own because
/// beats would otherwise write a page of snapshots each.
const VERSION_1: &str = "
CREATE TABLE commits (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL) STRICT;
INSERT INTO commits VALUES (1, 0);
CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL,
  at INTEGER NOT NULL, root BLOB NOT NULL, revision INTEGER NOT NULL, alive INTEGER) STRICT;
CREATE TABLE entries (id INTEGER PRIMARY KEY, task BLOB, seq INTEGER, leaf TEXT NOT NULL,
  hash BLOB NOT NULL, salt BLOB, annex TEXT) STRICT;
CREATE INDEX entries_of_task ON entries (task, seq) WHERE task IS NOT NULL;
CREATE TABLE tiles (tenant INTEGER NOT NULL, level INTEGER NOT NULL, idx INTEGER NOT NULL,
  hashes BLOB NOT NULL, PRIMARY KEY (tenant, level, idx)) STRICT;
CREATE TABLE tasks (row INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id BLOB NOT NULL,
  version INTEGER NOT NULL, hash BLOB NOT NULL, workload TEXT NOT NULL, deadline INTEGER NOT NULL,
  grace INTEGER, linger INTEGER, relied BLOB NOT NULL, snapshot BLOB NOT NULL) STRICT;
CREATE TABLE seen (row INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
CREATE TABLE starts (tenant INTEGER NOT NULL, workload TEXT NOT NULL, minute INTEGER NOT NULL,
  n INTEGER NOT NULL, PRIMARY KEY (tenant, workload, minute)) STRICT, WITHOUT ROWID;
CREATE TABLE counters (tenant INTEGER NOT NULL, task BLOB NOT NULL, client INTEGER NOT NULL,
  name TEXT NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (tenant, task, client, name)) STRICT, WITHOUT ROWID;
CREATE TABLE epochs (tenant INTEGER NOT NULL, id INTEGER NOT NULL, of TEXT NOT NULL,
  value INTEGER NOT NULL, PRIMARY KEY (tenant, id)) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (tenant INTEGER NOT NULL, target TEXT NOT NULL, block TEXT NOT NULL,
  PRIMARY KEY (tenant, target)) STRICT, WITHOUT ROWID;
CREATE TABLE documents (tenant INTEGER NOT NULL, name TEXT NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (tenant, name)) STRICT;
CREATE TABLE deaf (tenant INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (tenant, since)) STRICT, WITHOUT ROWID;
";

/// No table changes: snapshots have another form from here on, which a program of before cannot
/// read and must not meet in the middle of its work ([`super::snapshot`]).
const VERSION_2: &str = "";

/// The first day of which nothing was dropped. What a database of before has dropped it did not
/// write down; it was nothing beyond its last entry.
///
/// Tables of ends come beside those of claims as tasks end ([`super::partition`]): a program of
/// before would take a claim whose end stands there for an open one.
const VERSION_3: &str = "
CREATE TABLE forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), day INTEGER NOT NULL) STRICT;
INSERT INTO forgotten SELECT 1, coalesce(max(at), 0) / 86400000 FROM tenants;
";

/// How hard a commit is pressed onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// Every commit is synced before it is answered.
    Full,
    /// Only checkpoints are: what the durability test must be able to tell from `Full`.
    #[cfg(test)]
    Normal,
}

impl Sync {
    const fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            #[cfg(test)]
            Self::Normal => "NORMAL",
        }
    }
}

/// How long a statement waits for a lock that only a backup could hold.
const BUSY: Duration = Duration::from_secs(5);

/// At how many pages of 8 KiB the writer itself moves what is left of the log: 128 MiB.
const LOG_PAGES: u32 = 16_384;

/// Opens the database to write, makes it when it is not there, and brings it to this version.
pub(super) fn open_writer(
    path: &Path,
    cache_mib: u32,
    sync: Sync,
) -> Result<Connection, OpenError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    // The page size holds for a file that is made now; the others keep theirs.
    db.execute_batch(&format!(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = {};
         PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{};
         PRAGMA secure_delete = FAST; PRAGMA wal_autocheckpoint = {LOG_PAGES};",
        sync.pragma(),
        u64::from(cache_mib) * 1024,
    ))?;
    db.set_prepared_statement_cache_capacity(512);
    migrate(&db)?;
    Ok(db)
}

/// Opens the database to move its log.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // To empty the log it takes the writer's place, and must not wait there for a reader.
    db.busy_timeout(Duration::ZERO)?;
    // What is moved is synced before the log may be written over.
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
    Ok(db)
}

/// Opens the database to read only; it must be there.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;")?;
    db.set_prepared_statement_cache_capacity(128);
    match version(&db)? {
        current if (READ_FROM..=MIGRATIONS.len()).contains(&current) => Ok(db),
        found => Err(OpenError::Version {
            found,
            supported: MIGRATIONS.len(),
        }),
    }
}

fn migrate(db: &Connection) -> Result<(), OpenError> {
    let found = version(db)?;
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(OpenError::Version {
            found,
            supported: MIGRATIONS.len(),
        });
    };
    for (done, migration) in (found + 1..).zip(missing) {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration}; PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {done}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// How many migrations the database has seen.
fn version(db: &Connection) -> Result<usize, OpenError> {
    let pragma =
        |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables = db.query_row("SELECT count(*) FROM sqlite_master", [], |row| {
        row.get::<_, i64>(0)
    })?;
    match (version, application, tables) {
        (0, 0, 0) => Ok(0),
        (1.., APPLICATION, _) => Ok(usize::try_from(version).unwrap_or(usize::MAX)),
        _ => Err(OpenError::Foreign),
    }
}

//! The index file itself: hashes of keys with the positions of the entries that have them.

use std::collections::HashMap;
use std::path::Path;

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::{Hash, sha256};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};

use crate::keys::{issuer_of, keys_of};
use crate::sqlite::entries::{COLUMNS, Entries};
use crate::sqlite::value::{count, entry_id, int, uint};
use crate::{SearchKey, StoredEntry};

/// The form of the index; one of another form is built anew.
const FORM: i64 = 5;

/// How many entries share a block. Hashes are in no order, so they are sorted within a block of
/// positions only: what is written lies in the few pages of the last block, however long the
/// ledger has become, and a look-up goes through the blocks, 610 for 10^7 entries.
pub(super) const BLOCK: u64 = if cfg!(test) { 256 } else { 16_384 };

const TABLES: &str = "
CREATE TABLE keys (tenant INTEGER NOT NULL, block INTEGER NOT NULL, hash INTEGER NOT NULL,
  pos INTEGER NOT NULL, PRIMARY KEY (tenant, block, hash, pos)) STRICT, WITHOUT ROWID;
CREATE TABLE held (tenant INTEGER PRIMARY KEY, size INTEGER NOT NULL, last BLOB NOT NULL) STRICT;
";

/// An index that is being written.
pub(super) struct Index {
    db: Connection,
    /// How many entries of each tenant it holds.
    sizes: Vec<u64>,
}

impl Index {
    /// Begins an empty index in place of whatever is there.
    pub(super) fn begin(path: &Path) -> rusqlite::Result<Self> {
        for ending in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            // A file that cannot be removed is found again when the index is opened.
            let _ = std::fs::remove_file(name);
        }
        let db = open_writer(path)?;
        db.execute_batch(&format!(
            "BEGIN; {TABLES} PRAGMA user_version = {FORM}; COMMIT;"
        ))?;
        Ok(Self {
            db,
            sizes: Vec::new(),
        })
    }

    /// Opens an index; none when there is none, it is damaged, or it is not of these entries.
    pub(super) fn open(path: &Path, entries: &Entries<'_>) -> rusqlite::Result<Option<Self>> {
        match Self::open_there(path, entries) {
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "the search index is damaged and is built anew");
                Ok(None)
            }
            opened => opened,
        }
    }

    fn open_there(path: &Path, entries: &Entries<'_>) -> rusqlite::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let db = open_writer(path)?;
        if db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? != FORM {
            return Ok(None);
        }
        let mut sizes = Vec::new();
        let held = db
            .prepare("SELECT tenant, size, last FROM held ORDER BY tenant")?
            .query_map([], |row| {
                Ok((row.get(0)?, count(row, 1)?, Hash(row.get(2)?)))
            })?
            .collect::<rusqlite::Result<Vec<(u32, u64, Hash)>>>()?;
        for (tenant, size, last) in held {
            if hash_at(entries, tenant, size)? != Some(last) {
                return Ok(None);
            }
            sizes.resize(tenant as usize, 0);
            sizes.push(size);
        }
        Ok(Some(Self { db, sizes }))
    }

    /// Puts the next entries into the index, up to the size that each tenant has and not beyond
    /// the end of a block.
    pub(super) fn write(
        &mut self,
        entries: &Entries<'_>,
        targets: &[u64],
    ) -> rusqlite::Result<usize> {
        self.sizes.resize(self.sizes.len().max(targets.len()), 0);
        let mut written = 0;
        for (tenant, target) in (0u32..).zip(targets) {
            let Some(size) = self.sizes.get_mut(tenant as usize) else {
                continue;
            };
            if *size >= *target {
                continue;
            }
            let until = (*target).min((*size / BLOCK + 1) * BLOCK);
            let batch = read_batch(entries, tenant, *size..until)?;
            write_batch(&mut self.db, (tenant, *size / BLOCK), until, &batch)?;
            written += batch.count;
            *size = until;
        }
        Ok(written)
    }

    pub(super) fn sizes(&self) -> Vec<u64> {
        self.sizes.clone()
    }
}

/// What the entries of a range are found by.
struct Batch {
    /// Hashes of keys with positions, sorted, so that they are written in the order of the table.
    rows: Vec<(i64, u64)>,
    last: Hash,
    count: usize,
}

fn read_batch(
    entries: &Entries<'_>,
    tenant: u32,
    range: std::ops::Range<u64>,
) -> rusqlite::Result<Batch> {
    let mut statement = entries.db.prepare_cached(&format!(
        "SELECT {COLUMNS}, task, seq FROM entries WHERE id >= ?1 AND id < ?2 ORDER BY id"
    ))?;
    let mut found =
        statement.query((entry_id(tenant, range.start), entry_id(tenant, range.end)))?;
    let mut batch = Batch {
        rows: Vec::new(),
        last: Hash([0; 32]),
        count: 0,
    };
    let mut issuers = Issuers::new(entries, tenant);
    while let Some(row) = found.next()? {
        let (entry, keys) = issuers.keys(row)?;
        batch
            .rows
            .extend(keys.iter().map(|key| (hash_of(key), entry.pos)));
        batch.last = entry.hash;
        batch.count += 1;
    }
    batch.rows.sort_unstable();
    Ok(batch)
}

fn write_batch(
    db: &mut Connection,
    (tenant, block): (u32, u64),
    size: u64,
    batch: &Batch,
) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO keys (tenant, block, hash, pos) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for (hash, pos) in &batch.rows {
            insert.execute((tenant, int(block), hash, int(*pos)))?;
        }
        transaction
            .prepare_cached("INSERT OR REPLACE INTO held (tenant, size, last) VALUES (?1, ?2, ?3)")?
            .execute((tenant, int(size), batch.last.0))?;
    }
    transaction.commit()
}

/// Who vouched for the tasks of some entries, each looked up once.
struct Issuers<'e> {
    entries: &'e Entries<'e>,
    tenant: u32,
    known: HashMap<TaskId, Option<Name>>,
}

impl<'e> Issuers<'e> {
    fn new(entries: &'e Entries<'e>, tenant: u32) -> Self {
        Self {
            entries,
            tenant,
            known: HashMap::new(),
        }
    }

    /// The entry of a row of [`COLUMNS`], `task` and `seq`, and its keys.
    fn keys(&mut self, row: &Row<'_>) -> rusqlite::Result<(StoredEntry, Vec<SearchKey>)> {
        let entry = self.entries.read(self.tenant, row)?;
        let annex = entry.annex.as_ref().map(|annex| annex.data.as_str());
        let of = row.get::<_, Option<[u8; 16]>>(5)?.map(TaskId);
        let is_first = row.get::<_, Option<i64>>(6)? == Some(1);
        let mut broken = None;
        let keys = keys_of(&entry.leaf, annex, || {
            self.of(of?).unwrap_or_else(|error| {
                broken = Some(error);
                None
            })
        });
        if let Some(error) = broken {
            return Err(error);
        }
        // Most entries of a task follow its first closely.
        if let Some(of) = of.filter(|_| is_first) {
            self.known.insert(of, issuer_of(&entry.leaf));
        }
        Ok((entry, keys))
    }

    fn of(&mut self, task: TaskId) -> rusqlite::Result<Option<Name>> {
        if let Some(known) = self.known.get(&task) {
            return Ok(known.clone());
        }
        let issuer = issuer_at_start(self.entries, self.tenant, task)?;
        self.known.insert(task, issuer.clone());
        Ok(issuer)
    }
}

/// Who vouched for a task, by its first entry.
fn issuer_at_start(
    entries: &Entries<'_>,
    tenant: u32,
    of: TaskId,
) -> rusqlite::Result<Option<Name>> {
    let key = (of.0, entry_id(tenant, 0), entry_id(tenant, u64::MAX));
    let first = entries
        .db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM entries WHERE task = ?1 AND seq = 1 AND id BETWEEN ?2 AND ?3"
        ))?
        .query_row(key, |row| entries.read(tenant, row))
        .optional()?;
    Ok(first.and_then(|first| issuer_of(&first.leaf)))
}

/// Positions below `below` under a key, newest first; each is looked at before it is believed.
pub(super) fn find(
    index: &Connection,
    entries: &Entries<'_>,
    tenant: u32,
    (key, below, limit): (&SearchKey, u64, usize),
) -> rusqlite::Result<Vec<u64>> {
    let mut statement = index.prepare_cached(
        "SELECT pos FROM keys WHERE tenant = ?1 AND block = ?2 AND hash = ?3 AND pos < ?4
         ORDER BY pos DESC",
    )?;
    let hash = hash_of(key);
    let mut found = Vec::new();
    for block in (0..below.div_ceil(BLOCK)).rev() {
        let mut candidates = statement.query((tenant, int(block), hash, int(below)))?;
        while found.len() < limit
            && let Some(row) = candidates.next()?
        {
            let pos = count(row, 0)?;
            if !scan(entries, tenant, pos..pos + 1, (key, 1))?.is_empty() {
                found.push(pos);
            }
        }
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// Positions of a range under a key, newest first, by the entries themselves.
pub(super) fn scan(
    entries: &Entries<'_>,
    tenant: u32,
    range: std::ops::Range<u64>,
    (key, limit): (&SearchKey, usize),
) -> rusqlite::Result<Vec<u64>> {
    let mut statement = entries.db.prepare_cached(&format!(
        "SELECT {COLUMNS}, task, seq FROM entries WHERE id >= ?1 AND id < ?2 ORDER BY id DESC"
    ))?;
    let mut rows = statement.query((entry_id(tenant, range.start), entry_id(tenant, range.end)))?;
    let mut issuers = Issuers::new(entries, tenant);
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let (entry, keys) = issuers.keys(row)?;
        if keys.contains(key) {
            found.push(entry.pos);
        }
    }
    Ok(found)
}

/// How many entries of a tenant an index holds; none when it is not of these entries.
pub(super) fn held(
    index: &Connection,
    entries: &Entries<'_>,
    tenant: u32,
) -> rusqlite::Result<u64> {
    let held = index
        .prepare_cached("SELECT size, last FROM held WHERE tenant = ?1")?
        .query_row([tenant], |row| Ok((uint(row.get(0)?), Hash(row.get(1)?))))
        .optional()?;
    match held {
        Some((size, last)) if hash_at(entries, tenant, size)? == Some(last) => Ok(size),
        Some(_) | None => Ok(0),
    }
}

/// The leaf hash of the last of so many entries.
fn hash_at(entries: &Entries<'_>, tenant: u32, size: u64) -> rusqlite::Result<Option<Hash>> {
    entries
        .db
        .prepare_cached("SELECT hash FROM entries WHERE id = ?1")?
        .query_row([entry_id(tenant, size.saturating_sub(1))], |row| {
            row.get(0).map(Hash)
        })
        .optional()
}

/// Opens an index to read; none of another form, which lacks some of what is looked for.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    match db.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        FORM => Ok(db),
        form => Err(rusqlite::Error::IntegralValueOutOfRange(0, form)),
    }
}

/// What is lost when the machine falls over is derived again; a log that is synced at checkpoints
/// alone loses the last batches then and never damages the file.
fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8000;",
    )?;
    Ok(db)
}

/// Whether a file is no good, so that it is better built anew than tried again.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
    )
}

/// The first eight bytes of a digest of a key.
fn hash_of(key: &SearchKey) -> i64 {
    let (kind, text) = match key {
        SearchKey::Owner(name) => (b'o', name.as_str().to_owned()),
        SearchKey::Workload(name) => (b'w', name.as_str().to_owned()),
        SearchKey::Subject(issuer, sub) => (b's', format!("{issuer} {sub}")),
        SearchKey::Instance(instance) => (b'i', instance.clone()),
        SearchKey::Part(id) => (b'd', id.clone()),
        SearchKey::Run(run) => (b'r', run.clone()),
        SearchKey::Resource(name) => (b'a', name.as_str().to_owned()),
        SearchKey::Key(digest) => (b'k', digest.to_string()),
        SearchKey::Token(digest) => (b't', digest.to_string()),
        SearchKey::Proof(digest) => (b'p', digest.to_string()),
        SearchKey::Issuer(name) => (b'v', name.as_str().to_owned()),
        SearchKey::About(task) => (b'n', task.to_string()),
        SearchKey::Uses(task) => (b'u', task.to_string()),
    };
    let mut bytes = vec![kind];
    bytes.extend_from_slice(text.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = sha256(&bytes).0;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

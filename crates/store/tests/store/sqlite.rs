//! The SQLite backend under the suite.

use std::ops::ControlFlow;
use std::sync::Arc;

use dayfly_domain::{Cause, ClaimState, Closed, Event, Span, Task};
use dayfly_store::clock::{Clock as _, ManualClock};
use dayfly_store::{
    Append, AppendError, BackupFailure, BackupOptions, CloseWrite, FactsQuery, NOBODY, OpenError,
    PersonOver, PersonWrite, SearchKey, SqliteOptions, SqliteStore, Store, Touch, backup, fsck,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::conformance;
use super::fixture::*;
use super::races::state;

pub(crate) struct Sqlite {
    /// Dropped before its folder.
    store: Option<SqliteStore>,
    pub(crate) options: SqliteOptions,
    folder: TempDir,
}

impl Subject for Sqlite {
    fn fresh(clock: Arc<ManualClock>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut options = SqliteOptions::new(folder.path().join("dayfly.db"));
        options.clock = clock;
        let store = Some(SqliteStore::open(options.clone()).unwrap());
        Self {
            store,
            options,
            folder,
        }
    }

    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(SqliteStore::open(self.options.clone()).unwrap());
    }
}

conformance!(Sqlite);

fn open(subject: &Sqlite) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(subject.options.clone())
}

#[test]
fn a_database_is_served_once() {
    let mut bench = Bench::<Sqlite>::new();
    assert!(matches!(
        open(&bench.subject),
        Err(OpenError::Locked { .. })
    ));
    bench.start(1);
    bench.subject.reopen();
    assert!(matches!(
        open(&bench.subject),
        Err(OpenError::Locked { .. })
    ));
}

#[test]
fn other_versions_and_other_files_are_refused() {
    let mut bench = Bench::<Sqlite>::new();
    bench.start(1);
    bench.subject.store = None;
    let path = bench.subject.options.path.clone();
    let set = |pragma: &str| {
        Connection::open(&path)
            .unwrap()
            .execute_batch(pragma)
            .unwrap()
    };
    set("PRAGMA user_version = 4");
    let error = open(&bench.subject).unwrap_err();
    assert!(matches!(
        error,
        OpenError::Version {
            found: 4,
            supported: 3
        }
    ));
    assert!(error.to_string().contains("version 4"), "{error}");
    assert!(SqliteStore::open_read_only(&bench.subject.options).is_err());
    set("PRAGMA user_version = 3; PRAGMA application_id = 7");
    assert!(matches!(open(&bench.subject), Err(OpenError::Foreign)));
    std::fs::write(&path, "some text that is no database").unwrap();
    assert!(matches!(open(&bench.subject), Err(OpenError::Database(_))));
}

/// A database of the version before snapshots had bytes of their own: all of a state was JSON.
#[test]
fn a_database_of_the_former_version_is_read_and_served() {
    let mut bench = Bench::<Sqlite>::new();
    let task = bench.start(1);
    bench.subject.store = None;
    let path = bench.subject.options.path.clone();
    let db = Connection::open(&path).unwrap();
    let former = serde_json::to_vec(&task).unwrap();
    let changed = db
        .execute(
            "UPDATE tasks SET snapshot = ?1 WHERE snapshot <> ?1",
            [former],
        )
        .unwrap();
    assert_eq!(changed, 1, "it has another form by now");
    db.execute_batch("DROP TABLE forgotten; PRAGMA user_version = 1")
        .unwrap();
    drop(db);
    let query = FactsQuery {
        tasks: &[id(1)],
        ..FactsQuery::default()
    };
    let read = |store: &dyn Store| store.facts(&acme(), &query).unwrap().tasks.remove(0);
    // A backup of it is read as it stands.
    let backup = SqliteStore::open_read_only(&bench.subject.options).unwrap();
    assert_eq!(read(&backup).unwrap().task, task);
    assert_eq!(fsck(&path).unwrap().tenants[0].open, 1);
    drop(backup);
    bench.subject.reopen();
    assert_eq!(read(bench.store()).unwrap().task, task);
    bench.commit(changed_by(&task, issued(1, 2)));
    assert_eq!(read(bench.store()).unwrap().task.version, task.version + 1);
    // Which days it had dropped it did not write down: none that its last entry lies in.
    let mut spending = noted(NOON, "{}");
    spending.spends = vec![spend("proof", 1)];
    bench.commit(spending.clone());
    spending.spends[0].key.until = NOON - Span::from_seconds(86_400);
    let refused = bench.append(spending).unwrap_err();
    assert!(matches!(refused, AppendError::Unfit(_)), "{refused}");
    bench.subject.store = None;
    fsck(&path).unwrap();
    let version = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
    assert_eq!(version, Ok(3));
}

/// Before version 3 the end of a task stood in its claim.
#[test]
fn an_end_that_stands_in_its_claim_is_read_as_one_beside_it() {
    let mut bench = full();
    let states = |bench: &Bench<Sqlite>| -> Vec<ClaimState> {
        let claims = (1..=6).flat_map(|n| bench.claims(&format!("repo/run-{n}")));
        claims.map(|claim| claim.state).collect()
    };
    let wanted = states(&bench);
    assert_eq!(wanted.len(), 6);
    assert!(wanted[..3].iter().all(|state| *state == ClaimState::Open));
    assert!(wanted[3..].iter().all(|state| *state != ClaimState::Open));
    bench.subject.store = None;
    let path = bench.subject.options.path.clone();
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "UPDATE claims_20468 SET cause = e.cause, deadline = e.deadline
               FROM ended_20468 AS e WHERE e.task = claims_20468.task;
             DROP TABLE ended_20468; DROP TABLE forgotten; PRAGMA user_version = 2;",
        )
        .unwrap();
    fsck(&path).unwrap();
    bench.subject.reopen();
    assert_eq!(states(&bench), wanted);
    bench.commit(changed(end(&start(1).task, Cause::Failed)));
    assert_ne!(states(&bench)[0], ClaimState::Open);
    assert_eq!(states(&bench)[1..], wanted[1..]);
    bench.subject.store = None;
    fsck(&path).unwrap();
}

fn changed_by(task: &Task, event: Event) -> Append {
    changed(change(Some(task), task.id, [event]))
}

#[test]
fn a_ledger_that_is_not_the_committed_one_is_not_served() {
    for damage in [
        "DELETE FROM entries WHERE id = 2",
        "UPDATE entries SET hash = zeroblob(32) WHERE id = 2",
        "INSERT INTO entries SELECT 3, task, 4, leaf, hash, salt, annex FROM entries WHERE id = 2",
        "UPDATE tenants SET size = 2",
    ] {
        let mut bench = Bench::<Sqlite>::new();
        bench.start(1);
        bench.subject.store = None;
        let db = Connection::open(&bench.subject.options.path).unwrap();
        db.execute_batch(damage).unwrap();
        drop(db);
        assert!(open(&bench.subject).is_err(), "{damage}");
    }
}

#[test]
fn a_read_only_store_follows_the_one_that_serves() {
    let mut bench = Bench::<Sqlite>::new();
    let mut start = start(1);
    start.append.claims.push(claim(&start.task));
    bench.commit(start.append);
    let reading = Bench {
        clock: Arc::clone(&bench.clock),
        subject: ReadOnly(SqliteStore::open_read_only(&bench.subject.options).unwrap()),
    };
    let same = |bench: &Bench<Sqlite>| {
        assert_eq!(state(&reading), state(bench));
        let key = SearchKey::Workload(release());
        let found = |store: &dyn Store| store.find(&acme(), &key, None, 10).unwrap();
        assert_eq!(found(reading.store()), found(bench.store()));
        let tile = |store: &dyn Store| store.tile(&acme(), 0, 0, 3).unwrap();
        assert_eq!(tile(reading.store()), tile(bench.store()));
    };
    same(&bench);
    bench.start(2);
    same(&bench);
    let refused = reading.append(noted(NOON, "{}")).unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_)));
    let before = state(&bench);
    bench.subject.store = None;
    assert_eq!(state(&reading), before);
    // Without an index there is one less way to find, and the same to be found.
    std::fs::remove_file(bench.subject.folder.path().join("dayfly.db.search")).unwrap();
    let alone = SqliteStore::open_read_only(&bench.subject.options).unwrap();
    let found = alone.find(&acme(), &SearchKey::Workload(release()), None, 10);
    assert_eq!(found.unwrap(), [3, 0]);
}

struct ReadOnly(SqliteStore);

impl Subject for ReadOnly {
    fn fresh(_: Arc<ManualClock>) -> Self {
        panic!("a store that is read only is not begun")
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {}
}

#[test]
fn the_search_index_is_built_anew_when_it_is_not_of_these_entries() {
    let mut bench = Bench::<Sqlite>::new();
    for n in 1..=3 {
        bench.start(n);
    }
    let key = SearchKey::Workload(release());
    let found = |bench: &Bench<Sqlite>| bench.store().find(&acme(), &key, None, 10).unwrap();
    assert_eq!(found(&bench), [6, 3, 0]);
    let index = bench.subject.folder.path().join("dayfly.db.search");
    type Damage = fn(&std::path::Path);
    let damages: [Damage; 5] = [
        |index| std::fs::remove_file(index).unwrap(),
        |index| std::fs::write(index, "no database").unwrap(),
        |index| std::fs::write(index, [0; 9000]).unwrap(),
        |index| {
            Connection::open(index)
                .unwrap()
                .execute_batch("PRAGMA user_version = 3; DELETE FROM keys")
                .unwrap()
        },
        |index| {
            let other = "UPDATE held SET last = zeroblob(32); DELETE FROM keys";
            Connection::open(index)
                .unwrap()
                .execute_batch(other)
                .unwrap();
        },
    ];
    for damage in damages {
        bench.subject.store = None;
        damage(&index);
        bench.subject.reopen();
        assert_eq!(found(&bench), [6, 3, 0]);
    }
}

#[test]
fn a_stray_hash_in_the_index_is_not_believed() {
    let mut bench = Bench::<Sqlite>::new();
    bench.start(1);
    let key = SearchKey::Workload(release());
    assert_eq!(bench.store().find(&acme(), &key, None, 10).unwrap(), [0]);
    bench.subject.store = None;
    let index = Connection::open(bench.subject.folder.path().join("dayfly.db.search")).unwrap();
    let stray = "INSERT OR IGNORE INTO keys SELECT tenant, block, hash, 1 FROM keys";
    index.execute_batch(stray).unwrap();
    drop(index);
    bench.subject.reopen();
    assert_eq!(bench.store().find(&acme(), &key, None, 10).unwrap(), [0]);
}

#[test]
fn closing_takes_what_has_queued() {
    let mut bench = Bench::<Sqlite>::new();
    let starts = (1..=500).map(|n| bench.store().append(&acme(), start(n).append));
    let answers: Vec<_> = starts.collect();
    bench.subject.store = None;
    for answer in answers {
        wait(answer).unwrap();
    }
    bench.subject.reopen();
    assert_eq!(bench.store().head(&acme()).unwrap().size, 1500);
}

#[test]
fn a_full_queue_makes_others_wait_their_turn() {
    let mut bench = Bench::<Sqlite>::new();
    bench.subject.store = None;
    bench.subject.options.queue = 2;
    bench.subject.options.batch_max = 3;
    bench.subject.reopen();
    let starts = (1..=50).map(|n| bench.store().append(&acme(), start(n).append));
    for answer in starts.collect::<Vec<_>>() {
        wait(answer).unwrap();
    }
    let late = (51..=60).map(|n| bench.store().append(&acme(), start(n).append));
    let late: Vec<_> = late.collect();
    bench.subject.store = None;
    for answer in late {
        // Those without a place when the store closed were never taken.
        assert!(matches!(
            wait(answer),
            Ok(_) | Err(AppendError::Unavailable(_))
        ));
    }
}

#[test]
fn touches_are_saved_without_an_append() {
    let bench = Bench::<Sqlite>::new();
    bench.start(1);
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: id(1),
            at: after(9),
        },
    );
    let reading = SqliteStore::open_read_only(&bench.subject.options).unwrap();
    let query = FactsQuery {
        tasks: &[id(1)],
        ..FactsQuery::default()
    };
    let is_saved = |_| {
        let facts = reading.facts(&acme(), &query).unwrap();
        facts.tasks[0].as_ref().unwrap().heard.last_seen == Some(after(9))
    };
    // So many looks take far longer than the second within which it is saved.
    assert!((0..1_000_000).any(is_saved));
}

#[test]
fn what_was_answered_survives_the_process() {
    let bench = full();
    let task = bench.start(7);
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: task.id,
            at: after(9),
        },
    );
    bench.commit(changed(renewal(&task, 7)));
    let before = state(&bench);
    // The files as a killed process leaves them: the log is not moved, nothing is closed.
    let folder = TempDir::new().unwrap();
    for name in ["dayfly.db", "dayfly.db-wal"] {
        std::fs::copy(
            bench.subject.folder.path().join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    let mut options = SqliteOptions::new(folder.path().join("dayfly.db"));
    options.clock = bench.subject.options.clock.clone();
    let store = Some(SqliteStore::open(options.clone()).unwrap());
    let clock = Arc::clone(&bench.clock);
    let again = Bench {
        clock,
        subject: Sqlite {
            store,
            options,
            folder,
        },
    };
    assert_eq!(state(&again), before);
    again.start(8);
    fsck(&again.subject.options.path).unwrap();
}

/// A database with some of everything.
fn full() -> Bench<Sqlite> {
    let bench = Bench::<Sqlite>::new();
    for n in 1..=6 {
        let mut start = start(n);
        start.append.claims.push(claim(&start.task));
        start.append.spends.push(spend(&format!("proof {n}"), n));
        bench.commit(start.append);
        if n > 3 {
            bench.commit(changed(end(&start.task, Cause::Completed)));
        }
    }
    let notes = vec![note("finding.opened", "{}"); 300];
    bench.commit(Append {
        now: NOON,
        notes,
        ..Append::default()
    });
    wait(bench.store().append(&name("umbrella"), start(1).append)).unwrap();
    bench
}

#[test]
fn a_database_that_holds_is_found_to() {
    let bench = full();
    let report = fsck(&bench.subject.options.path).unwrap();
    let summary: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| (tenant.name.as_str(), tenant.size, tenant.open))
        .collect();
    assert_eq!(summary, [("acme", 321, 3), ("umbrella", 3, 1)]);
    assert_eq!(
        report.tenants[0].root,
        bench.store().head(&acme()).unwrap().root
    );
}

/// What a resource spends belongs to no task.
#[test]
fn a_key_that_no_task_has_spent_is_no_damage() {
    let bench = full();
    let mut spending = spend("a resource", 1);
    spending.by = NOBODY;
    bench.commit(Append {
        now: NOON,
        spends: vec![spending],
        ..Append::default()
    });
    fsck(&bench.subject.options.path).unwrap();
}

/// Has an append close a run, and say something of a person.
fn say_all(append: &mut Append) {
    append.closes.push(CloseWrite {
        issuer: github(),
        series: "repo/run-9".into(),
        closed: Closed {
            attempt: None,
            part: None,
            at: NOON,
        },
        seen: Vec::new(),
        until: NOON + Span::from_seconds(20 * 86_400),
    });
    append.people.push(PersonWrite {
        person: digest("mona"),
        over: PersonOver {
            upto: NOON,
            at: NOON,
            said: String::new(),
        },
        until: NOON + Span::from_seconds(20 * 86_400),
    });
}

/// How many rows a table has.
fn rows(db: &Connection, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    db.query_row(&count, [], |row| row.get(0)).unwrap()
}

/// The last day of the tables of a kind, and how many rows that has.
fn last(db: &Connection, kind: &str) -> (u64, i64) {
    let mut names = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let days = names.filter_map(|name| name.unwrap().strip_prefix(kind)?.parse().ok());
    let last: u64 = days.max().unwrap();
    (last, rows(db, &format!("{kind}{last}")))
}

/// What one entry that is ahead of the clock makes tables grow by is nothing.
#[test]
fn tables_are_those_of_the_clock_whatever_time_the_last_entry_bears() {
    let mut bench = Bench::<Sqlite>::new();
    let day = Span::from_seconds(86_400);
    let (year, early) = (NOON + Span::from_seconds(365 * 86_400), start(1));
    let claimed = |mut start: Start| {
        start.append.claims.push(claim(&start.task));
        start.append
    };
    bench.commit(claimed(early));
    // One task is started by a clock that is ahead, and one has its claim kept by it.
    let mut ahead = start_with(2, |started| {
        started.deadline = year + Span::from_seconds(3600);
    });
    ahead.append.now = year;
    ahead.append.claims.push(claim(&ahead.task));
    ahead.append.claims[0].until = year + day;
    bench.clock.jump(year);
    bench.commit(ahead.append.clone());
    bench.commit(claimed(start(3)));
    let touch = Touch::Claim {
        issuer: github(),
        series: "repo/run-3".to_owned(),
        until: year + day,
    };
    bench.store().touch(&acme(), touch);
    bench.commit(noted(year, "{}"));
    bench.clock.jump(NOON);
    let late = start(4);
    let mut append = claimed(start(4));
    say_all(&mut append);
    bench.commit(append);
    for task in [&start(1).task, &ahead.task, &start(3).task, &late.task] {
        let mut ending = changed(end(task, Cause::Completed));
        ending.now = NOON;
        bench.commit(ending);
    }
    for n in 1..=4 {
        let claims = bench.claims(&format!("repo/run-{n}"));
        assert_ne!(claims[0].state, ClaimState::Open, "{n}");
    }
    for n in 5..=8u64 {
        bench.clock.advance(day);
        let mut later = start(n).append;
        later.now = bench.clock.now();
        bench.commit(later);
    }
    bench.subject.store = None;
    let db = Connection::open(&bench.subject.options.path).unwrap();
    let (today, beyond) = (NOON.millis() / 86_400_000, year.millis() / 86_400_000);
    assert!(last(&db, "closed_").0 <= today + 40 && last(&db, "people_").0 <= today + 40);
    let (claims, held) = last(&db, "claims_");
    assert!(claims > beyond && held == 2, "{claims} {held}");
    assert_eq!(
        last(&db, "ended_"),
        (claims, 2),
        "of the same two, and no other"
    );
    assert!(rows(&db, "starts") <= 2, "what no longer counts is gone");
}

#[test]
fn every_damage_is_found_where_it_is() {
    // Each line: what is done, and what is said about it.
    let table = [
        ("UPDATE entries SET leaf = replace(leaf, 'job-2', 'job-9') WHERE id = 4", "position 4"),
        ("UPDATE entries SET hash = zeroblob(32) WHERE id = 7", "position 7"),
        ("DELETE FROM entries WHERE id = 320", "320 entries"),
        ("DELETE FROM entries WHERE id = 100", "position 100"),
        ("UPDATE entries SET annex = '{}' WHERE id = 3", "annex"),
        ("UPDATE entries SET salt = zeroblob(16) WHERE id = 3", "annex"),
        ("UPDATE entries SET seq = 9 WHERE id = 5", "link"),
        ("UPDATE entries SET task = NULL WHERE id = 5", "link"),
        ("UPDATE tiles SET hashes = zeroblob(8192)", "tile 0 of level 0"),
        ("DELETE FROM tiles", "tile 0 of level 0"),
        ("INSERT INTO tiles VALUES (0, 0, 1, zeroblob(8192))", "tile 1 of level 0"),
        ("UPDATE tenants SET size = 320 WHERE id = 0", "321 entries"),
        ("UPDATE tenants SET root = zeroblob(32) WHERE id = 0", "root"),
        ("UPDATE tenants SET at = at + 1 WHERE id = 0", "time"),
        ("DELETE FROM tasks WHERE row = 2", "tasks"),
        ("INSERT INTO tasks SELECT 99, tenant, id, version, hash, workload, deadline, grace, linger,
            relied, snapshot FROM tasks WHERE row = 1", "tasks"),
        ("UPDATE tasks SET version = 7 WHERE row = 1", "tasks"),
        ("UPDATE tasks SET deadline = deadline + 1 WHERE row = 1", "tasks"),
        ("UPDATE tasks SET hash = zeroblob(32) WHERE row = 1", "tasks"),
        ("UPDATE tasks SET workload = 'deploy' WHERE row = 1", "tasks"),
        ("UPDATE tasks SET snapshot =
                CAST(replace(CAST(snapshot AS TEXT), 'job-1', 'job-9') AS BLOB) WHERE row = 1", "tasks"),
        ("UPDATE tasks SET snapshot = x'7b' WHERE row = 1", "tasks"),
        ("DELETE FROM ended_20468", "claims"),
        ("INSERT INTO ended_20468 SELECT tenant, id, 'completed', 1 FROM tasks WHERE row = 1", "claims"),
        ("INSERT INTO ended_20468 SELECT tenant, id, 'completed', 1 FROM tasks WHERE tenant = 1", "ends"),
        ("UPDATE claims_20468 SET cause = 'completed', deadline = 1", "claims"),
        ("UPDATE spent_20467 SET task = zeroblob(16)", "spent keys"),
        ("UPDATE spent_20467 SET task = randomblob(16), client = 0", "spent keys"),
        ("INSERT INTO counters VALUES (0, zeroblob(16), 1, 'x', 1)", "counters"),
    ];
    for (damage, said) in table {
        let mut bench = full();
        bench.subject.store = None;
        let db = Connection::open(&bench.subject.options.path).unwrap();
        db.execute_batch(damage).unwrap();
        assert!(db.changes() > 0, "{damage} changes nothing");
        drop(db);
        let failure = fsck(&bench.subject.options.path).unwrap_err();
        let mut text = failure.to_string();
        let mut source = std::error::Error::source(&failure);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        assert!(text.contains(said), "{damage}: {text}");
    }
}

#[test]
fn a_damaged_file_is_found() {
    let mut bench = full();
    bench.subject.store = None;
    let path = &bench.subject.options.path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8192..].fill(7);
    std::fs::write(path, bytes).unwrap();
    assert!(fsck(path).is_err());
}

#[test]
fn a_copy_is_of_one_moment_whatever_is_committed_meanwhile() {
    let bench = Bench::<Sqlite>::new();
    for n in 0..40 {
        bench.start(n);
    }
    let source = &bench.subject.options.path;
    let then = fsck(source).unwrap();
    let copy = bench.subject.folder.path().join("copy.db");
    std::fs::File::create(&copy).unwrap();
    let options = BackupOptions {
        step_pages: 1,
        ..BackupOptions::default()
    };
    let (mut n, mut last) = (1000, 0);
    let bytes = backup(source, &copy, options, |progress| {
        assert!((last..progress.total).contains(&progress.copied));
        last = progress.copied;
        n += 1;
        assert!(n < 3000, "the copy begins again at each commit");
        bench.start(n);
        ControlFlow::Continue(())
    });
    assert!(n > 1010, "the copy is made in steps");
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), bytes.unwrap());
    // Nothing is needed beside it, and nothing is left.
    for beside in ["copy.db-wal", "copy.db-shm", "copy.db-journal"] {
        assert!(!bench.subject.folder.path().join(beside).exists());
    }
    assert_eq!(fsck(&copy).unwrap(), then);
    assert!(!bench.subject.folder.path().join("copy.db-shm").exists());
    assert_ne!(fsck(source).unwrap(), then);
    // It is a database like any other.
    let served = SqliteStore::open(SqliteOptions::new(&copy)).unwrap();
    assert_eq!(served.head(&acme()).unwrap().size, then.tenants[0].size);
}

#[test]
fn a_copy_gives_up_before_the_log_fills_the_disk_and_when_it_is_told_to() {
    let bench = Bench::<Sqlite>::new();
    bench.start(0);
    let source = &bench.subject.options.path;
    let copy = bench.subject.folder.path().join("copy.db");
    std::fs::File::create(&copy).unwrap();
    let options = BackupOptions {
        step_pages: 1,
        log_bytes: 0,
    };
    let mut n = 0;
    let failure = backup(source, &copy, options, |progress| {
        assert!(progress.log <= progress.log_limit);
        n += 1;
        for m in 0..50 {
            bench.start(n * 100 + m);
        }
        ControlFlow::Continue(())
    });
    assert!(
        matches!(failure, Err(BackupFailure::Log { log, limit }) if log > limit),
        "{failure:?}"
    );
    let stopped = backup(source, &copy, BackupOptions::default(), |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(BackupFailure::Stopped)));
    // Taken away by whoever told it to stop, it is not made again.
    std::fs::remove_file(&copy).unwrap();
    let gone = backup(source, &copy, options, |_| ControlFlow::Continue(()));
    assert!(gone.is_err() && !copy.exists());
    let nothing = bench.subject.folder.path().join("nothing.db");
    let failure = backup(&nothing, &copy, options, |_| ControlFlow::Continue(()));
    assert!(matches!(failure, Err(BackupFailure::Open(_))));
    assert!(!nothing.exists());
}

//! Row 8: the tables of what is open and kept after many tasks came and went, beside the size they had after a hundredth of them.

use std::path::Path;
use std::sync::Arc;

use dayfly_domain::Span;
use dayfly_store::clock::ManualClock;
use dayfly_store::{SqliteOptions, SqliteStore};
use rusqlite::{Connection, OpenFlags};

use super::Bench;
use super::clock;
use super::failure::{Context, Failure};
use super::fill::{self, Filler};
use super::report::{Direction, Line, Report};
use super::world::TENANT;

/// A day of the clock that the store is given.
const DAY: Span = Span::from_seconds(86_400);
/// Longer than anything is kept: claims are kept for 36 days.
const LONGEST_KEEP: Span = Span::from_seconds(50 * 86_400);
/// How many days the tasks come and go in, the same number on each.
const DAYS: u64 = 100;
/// What the history of one task takes on the disk, about.
const BYTES: u64 = 5_000;
/// Half of that: often enough that each day goes after it is over.
const HALF_DAY: Span = Span::from_seconds(43_200);
/// A few that come afterwards, each half a day: what is over is dropped when something new is written.
const FEW: u64 = 4;
/// What grows with history, and may.
const HISTORY: [&str; 3] = ["entries", "entries_of_task", "tiles"];

/// Measures the row.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let tasks = bench.options.passed();
    let folder = bench.folder.join("hot");
    std::fs::create_dir_all(&folder).context("no folder for the hot tables")?;
    let database = folder.join("dayfly.db");
    let clock = Arc::new(ManualClock::at(clock::now()));
    let issuer = format!("http://127.0.0.1/{TENANT}");
    let mut filler = Filler::new(&issuer, Span::from_seconds(3600))?;
    eprintln!(
        "bench: {tasks} tasks come and go, whose history takes some {} GB of the disk …",
        tasks * BYTES / 1_000_000_000
    );
    let (mut first, mut sizes) = (0, Vec::new());
    for days in [1, DAYS - 1] {
        let store = SqliteStore::open(SqliteOptions {
            batch_max: 8,
            cache_mib: 256,
            clock: clock.clone(),
            ..SqliteOptions::new(&database)
        });
        let store = store.context("the database cannot be opened")?;
        for _ in 0..days {
            first = pass(&store, &mut filler, &clock, first..first + tasks / DAYS)?;
            clock.advance(DAY);
        }
        // Few come meanwhile, for a ledger that sleeps forgets a day at a time.
        for _ in 0..LONGEST_KEEP.millis() / DAY.millis() * 2 {
            clock.advance(HALF_DAY);
            first = pass(&store, &mut filler, &clock, first..first + FEW)?;
        }
        drop(store);
        sizes.push(Sizes::of(&database)?);
    }
    let [then, now] = sizes.as_slice() else {
        return Err(Failure::new("not every size was measured"));
    };
    let (few, many) = (then.hot as f64, now.hot as f64);
    report.row(
        Line::new(
            &format!("hot tables after {tasks} tasks"),
            format!("{:.2} MiB", many / 1_048_576.0),
        )
        .floor(
            format!("{:.2} MiB", few / 1_048_576.0),
            many / few,
            Direction::AtMost,
        )
        .note(format!(
            "the floor is their size after {}; meanwhile the history grew from {:.1} to {:.1} MiB; a day of the clock for each hundredth, then {} days with a few; the largest: {}",
            tasks / DAYS,
            then.history as f64 / 1_048_576.0,
            now.history as f64 / 1_048_576.0,
            LONGEST_KEEP.millis() / DAY.millis(),
            now.largest,
        )),
    );
    std::fs::remove_dir_all(&folder).context("the folder cannot be removed")
}

/// Has tasks come and go; gives the job after the last.
fn pass(
    store: &SqliteStore,
    filler: &mut Filler,
    clock: &ManualClock,
    jobs: std::ops::Range<u64>,
) -> Result<u64, Failure> {
    use dayfly_store::clock::Clock as _;
    filler.now = clock.now();
    let end = jobs.end;
    fill::feed(store, filler, jobs.clone(), Filler::append)?;
    fill::feed(store, filler, jobs, Filler::ends)?;
    Ok(end)
}

/// Bytes of the pages of a database's tables.
struct Sizes {
    hot: u64,
    history: u64,
    /// The largest of the hot ones, in words.
    largest: String,
}

impl Sizes {
    fn of(database: &Path) -> Result<Self, Failure> {
        let failed = "the tables cannot be measured";
        let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .context(failed)?;
        let sql = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC";
        let mut statement = db.prepare(sql).context(failed)?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?.unsigned_abs(),
            ))
        });
        let (mut hot, mut history, mut largest) = (0, 0, String::new());
        for row in rows.context(failed)? {
            let (name, bytes) = row.context(failed)?;
            if HISTORY.contains(&name.as_str()) {
                history += bytes;
                continue;
            }
            if largest.is_empty() {
                largest = format!("`{name}`, {bytes} B");
            }
            hot += bytes;
        }
        Ok(Self {
            hot,
            history,
            largest,
        })
    }
}

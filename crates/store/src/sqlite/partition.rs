//! Claims and how their tasks ended, closed runs, what was said of people, and spent keys in tables by the day they expire, dropped whole.

use std::collections::BTreeSet;

use dayfly_domain::Time;
use rusqlite::Connection;

use super::value::{int, uint};

const DAY_MILLIS: u64 = 86_400_000;

/// A claim kept for more days than this lies in a table whose day is a multiple of it, so that
/// there are few tables to look through.
const COARSE_DAYS: u64 = 8;

/// No claim that is kept for 36 days, the longest that any is unless an issuer says otherwise, lies
/// in a table that is further off.
const NEAR_DAYS: u64 = 36 + COARSE_DAYS;

/// Which tables there are, and the look-ups over all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Partitions {
    claims: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    closed: BTreeSet<u64>,
    people: BTreeSet<u64>,
    spent: BTreeSet<u64>,
    /// The first day of which nothing was dropped.
    pub(super) forgotten: u64,
    /// The statement that finds a series' claims; none while there is no table to look through.
    pub(super) series: Option<String>,
    /// The same, of those claims only that a new claim could collide with.
    pub(super) rivals: Option<String>,
    /// The statement that finds what of a series is closed; none while there is no table.
    pub(super) closes: Option<String>,
    /// The statement that finds what was said of a person; none while there is no table.
    pub(super) people_sql: Option<String>,
}

/// The day a time lies in, from 1970.
pub(super) const fn day(time: Time) -> u64 {
    time.millis() / DAY_MILLIS
}

/// The table for a claim that is kept until then.
pub(super) fn claim_day(until: Time, now: Time) -> u64 {
    let until = day(until);
    if until > day(now) + COARSE_DAYS {
        until.next_multiple_of(COARSE_DAYS)
    } else {
        until
    }
}

impl Partitions {
    /// Reads which tables a database has.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut found = Self::default();
        let mut tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?;
        let mut rows = tables.query([])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str()?;
            if let Some(day) = name
                .strip_prefix("claims_")
                .and_then(|day| day.parse().ok())
            {
                found.claims.insert(day);
            } else if let Some(day) = name.strip_prefix("ended_").and_then(|day| day.parse().ok()) {
                found.ended.insert(day);
            } else if let Some(day) = name
                .strip_prefix("closed_")
                .and_then(|day| day.parse().ok())
            {
                found.closed.insert(day);
            } else if let Some(day) = name
                .strip_prefix("people_")
                .and_then(|day| day.parse().ok())
            {
                found.people.insert(day);
            } else if let Some(day) = name.strip_prefix("spent_").and_then(|day| day.parse().ok()) {
                found.spent.insert(day);
            } else if name == "forgotten" {
                let day = db.query_row("SELECT day FROM forgotten", [], |row| row.get(0));
                found.forgotten = uint(day?);
            }
        }
        found.write_lookups();
        Ok(found)
    }

    pub(super) fn has_claims(&self, day: u64) -> bool {
        self.claims.contains(&day)
    }

    pub(super) fn has_closed(&self, day: u64) -> bool {
        self.closed.contains(&day)
    }

    /// The tables of closed runs that are dropped before this one.
    pub(super) fn closed_before(&self, day: u64) -> impl Iterator<Item = u64> {
        self.closed.range(..day).copied()
    }

    pub(super) fn closed(&self) -> impl Iterator<Item = u64> {
        self.closed.iter().copied()
    }

    pub(super) fn has_people(&self, day: u64) -> bool {
        self.people.contains(&day)
    }

    pub(super) fn people(&self) -> impl Iterator<Item = u64> {
        self.people.iter().copied()
    }

    pub(super) fn has_spent(&self, day: u64) -> bool {
        self.spent.contains(&day)
    }

    /// The tables of claims that are dropped before this one.
    pub(super) fn claims_before(&self, day: u64) -> impl Iterator<Item = u64> {
        self.claims.range(..day).copied()
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = u64> {
        self.claims.iter().copied()
    }

    /// The tables of claims that are kept for longer than most are.
    pub(super) fn claims_beyond(&self, now: Time) -> impl Iterator<Item = u64> {
        self.claims.range(day(now) + NEAR_DAYS + 1..).copied()
    }

    /// The last of the tables of all other claims.
    pub(super) fn last_near(&self, now: Time) -> Option<u64> {
        self.claims.range(..=day(now) + NEAR_DAYS).last().copied()
    }

    /// The first day of which anything is kept.
    pub(super) fn first_kept(&self) -> Option<u64> {
        let kept = [&self.claims, &self.closed, &self.people, &self.spent];
        kept.into_iter().filter_map(BTreeSet::first).min().copied()
    }

    pub(super) fn has_ended(&self, day: u64) -> bool {
        self.ended.contains(&day)
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = u64> {
        self.ended.iter().copied()
    }

    /// The columns of the claims in the table of a day. How a task ended stands in its claim, where
    /// that was written after the end, or in the table of ends.
    pub(super) fn claim_columns(&self, day: u64) -> String {
        let [cause, deadline] = ["cause", "deadline"].map(|column| self.told(day, column));
        format!(
            "tenant, issuer, series, key, workload, attempt, task, {cause} AS cause,
               {deadline} AS deadline"
        )
    }

    /// The expression for what is told of the end of a claim's task; null while it is open.
    fn told(&self, day: u64, column: &str) -> String {
        let tables = self.ended.range(day..);
        let told = tables.map(|table| {
            format!(
                ", (SELECT {column} FROM ended_{table} AS e
                    WHERE e.tenant = claims_{day}.tenant AND e.task = claims_{day}.task)"
            )
        });
        let told: String = told.collect();
        if told.is_empty() {
            column.to_owned()
        } else {
            format!("coalesce({column}{told})")
        }
    }

    pub(super) fn spent(&self) -> impl Iterator<Item = u64> {
        self.spent.iter().copied()
    }

    /// Makes the table for claims of that day.
    pub(super) fn add_claims(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "CREATE TABLE claims_{day} (tenant INTEGER NOT NULL, issuer TEXT NOT NULL,
               series TEXT NOT NULL, key TEXT NOT NULL, workload TEXT NOT NULL, attempt INTEGER,
               task BLOB NOT NULL, cause TEXT, deadline INTEGER,
               PRIMARY KEY (tenant, issuer, series, key, workload)) STRICT, WITHOUT ROWID"
        ))?;
        self.claims.insert(day);
        self.write_lookups();
        Ok(())
    }

    /// Makes the table for how tasks ended whose claims are kept until that day at most. Ends lie
    /// in it in the order in which tasks began, so that many of now are written to few pages.
    pub(super) fn add_ended(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "CREATE TABLE ended_{day} (tenant INTEGER NOT NULL, task BLOB NOT NULL,
               cause TEXT NOT NULL, deadline INTEGER NOT NULL,
               PRIMARY KEY (tenant, task)) STRICT, WITHOUT ROWID"
        ))?;
        self.ended.insert(day);
        self.write_lookups();
        Ok(())
    }

    /// Makes the table for closed runs of that day; an attempt that is not counted is -1 there, and
    /// the part of a whole attempt is empty.
    pub(super) fn add_closed(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "CREATE TABLE closed_{day} (tenant INTEGER NOT NULL, issuer TEXT NOT NULL,
               series TEXT NOT NULL, attempt INTEGER NOT NULL, part TEXT NOT NULL,
               at INTEGER NOT NULL,
               PRIMARY KEY (tenant, issuer, series, attempt, part)) STRICT, WITHOUT ROWID"
        ))?;
        self.closed.insert(day);
        self.write_lookups();
        Ok(())
    }

    /// Makes the table for what was said of people and is kept until that day.
    pub(super) fn add_people(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "CREATE TABLE people_{day} (tenant INTEGER NOT NULL, person BLOB NOT NULL,
               upto INTEGER NOT NULL, at INTEGER NOT NULL, said TEXT NOT NULL,
               PRIMARY KEY (tenant, person)) STRICT, WITHOUT ROWID"
        ))?;
        self.people.insert(day);
        self.write_lookups();
        Ok(())
    }

    /// Makes the table for keys of that day. Keys of one second lie together, so that the pages
    /// that many proofs of now are written to are few.
    pub(super) fn add_spent(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "CREATE TABLE spent_{day} (tenant INTEGER NOT NULL, at INTEGER NOT NULL,
               digest BLOB NOT NULL, task BLOB NOT NULL, client INTEGER NOT NULL,
               PRIMARY KEY (tenant, at, digest)) STRICT, WITHOUT ROWID"
        ))?;
        self.spent.insert(day);
        Ok(())
    }

    /// Drops the tables of the days before this one, and remembers that it did.
    pub(super) fn drop_before(&mut self, db: &Connection, day: u64) -> rusqlite::Result<()> {
        for passed in self.claims.range(..day) {
            db.execute_batch(&format!("DROP TABLE claims_{passed}"))?;
        }
        for passed in self.ended.range(..day) {
            db.execute_batch(&format!("DROP TABLE ended_{passed}"))?;
        }
        for passed in self.closed.range(..day) {
            db.execute_batch(&format!("DROP TABLE closed_{passed}"))?;
        }
        for passed in self.people.range(..day) {
            db.execute_batch(&format!("DROP TABLE people_{passed}"))?;
        }
        for passed in self.spent.range(..day) {
            db.execute_batch(&format!("DROP TABLE spent_{passed}"))?;
        }
        self.claims = self.claims.split_off(&day);
        self.ended = self.ended.split_off(&day);
        self.closed = self.closed.split_off(&day);
        self.people = self.people.split_off(&day);
        self.spent = self.spent.split_off(&day);
        db.execute("UPDATE forgotten SET day = ?1", [int(day)])?;
        self.forgotten = day;
        self.write_lookups();
        Ok(())
    }

    fn write_lookups(&mut self) {
        let select = |more: &dyn Fn(u64) -> String| {
            let parts = self.claims.iter().map(|day| {
                let [cause, deadline] = ["cause", "deadline"].map(|column| self.told(*day, column));
                format!(
                    "SELECT {day}, key, workload, attempt, task, {cause}, {deadline}
                     FROM claims_{day} WHERE tenant = ?1 AND issuer = ?2 AND series = ?3{}",
                    more(*day)
                )
            });
            let parts: Vec<String> = parts.collect();
            (!parts.is_empty()).then(|| parts.join(" UNION ALL "))
        };
        let series = select(&|_| String::new());
        // The same key of the same workload; a higher attempt; a lower one that is still open.
        let rivals = select(&|day| {
            let cause = self.told(day, "cause");
            format!(
                " AND ((key = ?4 AND workload = ?5) OR attempt > ?6
                  OR (ifnull(attempt, -1) < ?6 AND {cause} IS NULL))"
            )
        });
        let parts: Vec<String> = self
            .closed
            .iter()
            .map(|day| {
                format!(
                    "SELECT attempt, part, at FROM closed_{day}
                     WHERE tenant = ?1 AND issuer = ?2 AND series = ?3"
                )
            })
            .collect();
        self.closes = (!parts.is_empty()).then(|| parts.join(" UNION ALL "));
        let people: Vec<String> = self
            .people
            .iter()
            .map(|day| {
                format!("SELECT upto, at, said FROM people_{day} WHERE tenant = ?1 AND person = ?2")
            })
            .collect();
        self.people_sql = (!people.is_empty()).then(|| people.join(" UNION ALL "));
        self.series = series;
        self.rivals = rivals;
    }
}

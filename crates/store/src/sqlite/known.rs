//! Which claims and spent keys there may be: answers "certainly none" without a row being read.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use rusqlite::Connection;

use super::partition::{Partitions, day};
use crate::OneTimeKey;

/// How many prints are held at most, about 8 bytes each. Beyond it the tables of rows answer.
const MOST: usize = 8_000_000;

/// The sets that a day's prints are spread over, so that none takes long to grow.
const SETS: usize = 64;

/// Prints of what the tables of each day hold, and perhaps of more.
///
/// INVARIANT: whatever is in a table has its print here, so that a print that is missing proves
/// that there is nothing. One that is there proves nothing.
#[derive(Debug)]
pub(super) struct Known {
    claims: BTreeMap<u64, Prints>,
    spent: BTreeMap<u64, Prints>,
    held: usize,
    most: usize,
}

/// A print to be held once what it stands for is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Print {
    /// Of a series, in the table of claims or of closed runs of this day.
    Claim { day: u64, print: u64 },
    /// Of a one-time key, in the table of this day.
    Spent { day: u64, print: u64 },
}

/// The print of a series.
pub(super) fn series_print(tenant: u32, issuer: &str, series: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (tenant, issuer, series).hash(&mut hasher);
    hasher.finish()
}

/// The print of a one-time key: the first bytes of its digest.
pub(super) fn key_print(digest: &[u8]) -> u64 {
    let first = digest.first_chunk();
    first.map_or(0, |first| u64::from_le_bytes(*first))
}

impl Default for Known {
    fn default() -> Self {
        Self {
            claims: BTreeMap::new(),
            spent: BTreeMap::new(),
            held: 0,
            most: MOST,
        }
    }
}

impl Known {
    /// Reads the prints of everything that the tables hold, of no day further than there is room.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        // Each page is read once, and what a cache takes is hardly given back.
        db.execute_batch("PRAGMA cache_size = -1024")?;
        let snapshot = db.unchecked_transaction()?;
        let partitions = Partitions::load(&snapshot)?;
        let mut known = Self::default();
        for day in partitions.claims() {
            let sql = format!("SELECT tenant, issuer, series FROM claims_{day}");
            let mut statement = snapshot.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (issuer, series) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
                let print = series_print(row.get(0)?, issuer, series);
                if !known.add(Print::Claim { day, print }) {
                    break;
                }
            }
        }
        for day in partitions.closed() {
            let sql = format!("SELECT tenant, issuer, series FROM closed_{day}");
            let mut statement = snapshot.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (issuer, series) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
                let print = series_print(row.get(0)?, issuer, series);
                if !known.add(Print::Claim { day, print }) {
                    break;
                }
            }
        }
        for day in partitions.spent() {
            let mut statement = snapshot.prepare(&format!("SELECT digest FROM spent_{day}"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let print = key_print(row.get_ref(0)?.as_blob()?);
                if !known.add(Print::Spent { day, print }) {
                    break;
                }
            }
        }
        Ok(known)
    }

    /// Holds a print, or from here on none of its day where there is no room. Says whether it holds
    /// all of that day, so that there is any use in the next one.
    pub(super) fn add(&mut self, print: Print) -> bool {
        let (days, day, print) = match print {
            Print::Claim { day, print } => (&mut self.claims, day, print),
            Print::Spent { day, print } => (&mut self.spent, day, print),
        };
        let prints = days.entry(day).or_default();
        let Prints::All(sets) = prints else {
            return false;
        };
        if self.held >= self.most {
            self.held -= prints.len();
            *prints = Prints::Unknown;
            return false;
        }
        let (set, short) = place(print);
        let is_new = sets.get_mut(set).is_some_and(|set| set.insert(short));
        self.held += usize::from(is_new);
        true
    }

    /// Whether there may be a claim of a series, or something of it closed.
    pub(super) fn may_hold_series(&self, print: u64) -> bool {
        self.claims.values().any(|prints| prints.may_hold(print))
    }

    /// Whether a one-time key may be spent.
    pub(super) fn may_hold_key(&self, key: &OneTimeKey) -> bool {
        let prints = self.spent.get(&day(key.until));
        prints.is_some_and(|prints| prints.may_hold(key_print(&key.digest.0)))
    }

    /// Forgets the days that have no table any more.
    pub(super) fn keep(&mut self, partitions: &Partitions) {
        self.claims
            .retain(|day, _| partitions.has_claims(*day) || partitions.has_closed(*day));
        self.spent.retain(|day, _| partitions.has_spent(*day));
        let days = self.claims.values().chain(self.spent.values());
        self.held = days.map(Prints::len).sum();
    }
}

/// The prints of one day.
#[derive(Debug)]
enum Prints {
    /// All of them, four bytes each.
    All(Vec<HashSet<u32, BuildHasherDefault<Spread>>>),
    /// There was no room for all of them.
    Unknown,
}

impl Default for Prints {
    fn default() -> Self {
        Self::All(
            std::iter::repeat_with(HashSet::default)
                .take(SETS)
                .collect(),
        )
    }
}

impl Prints {
    fn may_hold(&self, print: u64) -> bool {
        let Self::All(sets) = self else { return true };
        let (set, short) = place(print);
        sets.get(set).is_none_or(|set| set.contains(&short))
    }

    fn len(&self) -> usize {
        match self {
            Self::All(sets) => sets.iter().map(HashSet::len).sum(),
            Self::Unknown => 0,
        }
    }
}

/// The set that a print lies in, and what of it lies there.
fn place(print: u64) -> (usize, u32) {
    let [a, b, c, d, set, ..] = print.to_le_bytes();
    (usize::from(set) % SETS, u32::from_le_bytes([a, b, c, d]))
}

/// Prints are drawn as if at random already; this only puts their bits where a set looks for them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte) ^ (self.0 as u32).rotate_left(8));
        }
    }

    fn write_u32(&mut self, short: u32) {
        self.0 = u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::{Sync, open_writer};
    use dayfly_domain::{Digest, Time};

    fn key(digest: u64, day: u64) -> OneTimeKey {
        let mut bytes = [3; 32];
        for (to, from) in bytes.iter_mut().zip(digest.to_le_bytes()) {
            *to = from;
        }
        let at = Time::from_seconds(day * 86_400);
        OneTimeKey {
            digest: Digest(bytes),
            at,
            until: at,
        }
    }

    /// Numbers that look drawn at random.
    fn drawn(n: u64) -> impl Iterator<Item = u64> {
        (0..n).map(|n| series_print(0, "drawn", &n.to_string()))
    }

    #[test]
    fn what_was_added_is_never_denied() {
        // Also when there is no room for all of it, and when a day is added to twice.
        for most in [0, 1, 100, 5000, MOST] {
            let mut known = Known {
                most,
                ..Known::default()
            };
            for (day, print) in [0, 1, 0, 2].into_iter().cycle().zip(drawn(4000)) {
                let claims = known.add(Print::Claim { day, print });
                let spent = known.add(Print::Spent { day, print });
                assert!(known.held <= most, "{} of {most}", known.held);
                // What is not held is not said to be, whatever else is asked for.
                assert_eq!(claims, matches!(known.claims[&day], Prints::All(_)));
                assert_eq!(spent, matches!(known.spent[&day], Prints::All(_)));
            }
            for (day, print) in [0, 1, 0, 2].into_iter().cycle().zip(drawn(4000)) {
                assert!(known.may_hold_series(print));
                assert!(known.may_hold_key(&key(print, day)));
            }
            assert!(most < MOST || known.held == 8000);
        }
    }

    #[test]
    fn what_was_not_added_is_denied_most_often() {
        let mut known = Known::default();
        for print in drawn(50_000) {
            known.add(Print::Claim { day: 1, print });
            known.add(Print::Spent { day: 1, print });
        }
        let others = || drawn(100_000).skip(50_000);
        assert!(
            others()
                .filter(|print| known.may_hold_series(*print))
                .count()
                < 50
        );
        let spent = |print: &u64| known.may_hold_key(&key(*print, 1));
        assert!(others().filter(spent).count() < 50);
        assert!(!drawn(9).any(|print| known.may_hold_key(&key(print, 2))));
    }

    #[test]
    fn days_go_with_their_tables() {
        let folder = tempfile::TempDir::new().unwrap();
        let db = open_writer(&folder.path().join("db"), 1, Sync::Full).unwrap();
        let mut partitions = Partitions::default();
        let mut known = Known::default();
        for day in 1..=3 {
            partitions.add_claims(&db, day).unwrap();
            partitions.add_spent(&db, day).unwrap();
            known.add(Print::Claim { day, print: day });
            known.add(Print::Spent { day, print: day });
        }
        partitions.drop_before(&db, 3).unwrap();
        known.keep(&partitions);
        assert_eq!(known.held, 2);
        assert!(!known.may_hold_series(1) && known.may_hold_series(3));
        assert!(!known.may_hold_key(&key(2, 2)) && known.may_hold_key(&key(3, 3)));
    }
}

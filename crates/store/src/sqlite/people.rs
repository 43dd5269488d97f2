//! Up to when what people authenticated for is worth nothing: in memory by person, in tables by day.

use std::collections::HashMap;
use std::sync::Arc;

use dayfly_domain::{Digest, Time};
use rusqlite::{Connection, OptionalExtension};

use super::partition::{Partitions, claim_day};
use super::record::Desk;
use super::value::{count, int, millis, time};
use super::view::View;
use crate::{PersonOver, PersonWrite};

/// What is known of people, wherever it is held.
pub(super) trait People {
    /// Up to when, in milliseconds, what a person authenticated for is worth nothing; 0 where
    /// nothing was said of the person.
    fn upto(&self, person: &Digest) -> u64;
}

/// What is held in memory of one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) upto: u64,
    /// The day of the table that holds the rest.
    pub(super) day: u64,
}

/// Everybody of whom something was said that is kept still.
#[derive(Debug, Default)]
pub(super) struct KnownPeople(HashMap<Digest, Known>);

impl KnownPeople {
    pub(super) fn get(&self, person: &Digest) -> Option<Known> {
        self.0.get(person).copied()
    }

    pub(super) fn extend(&mut self, people: impl IntoIterator<Item = (Digest, Known)>) {
        self.0.extend(people);
    }

    /// Forgets those whose table is gone.
    pub(super) fn keep(&mut self, partitions: &Partitions) {
        self.0.retain(|_, known| partitions.has_people(known.day));
    }
}

impl People for KnownPeople {
    fn upto(&self, person: &Digest) -> u64 {
        self.0.get(person).map_or(0, |known| known.upto)
    }
}

impl Desk<'_> {
    /// Writes what was said of a person, where it says more than what was said before; else the
    /// person moves to a later table where it is to be kept for longer.
    pub(super) fn write_person(&mut self, write: &PersonWrite, now: Time) -> rusqlite::Result<()> {
        let known = self.draft.person(&write.person, self.view);
        let (upto, day) = (
            write.over.upto.millis(),
            claim_day(write.until.max(now), now),
        );
        let day = known.map_or(day, |known| known.day.max(day));
        let grows = known.is_none_or(|known| known.upto < upto);
        let moves = known.filter(|known| known.day != day);
        if !grows && moves.is_none() {
            return Ok(());
        }
        if !self.partitions.has_people(day) {
            Arc::make_mut(self.partitions).add_people(self.db, day)?;
        }
        let row = (self.tenant, write.person.0);
        if let Some(Known { day: old, .. }) = moves {
            if !grows {
                self.db
                    .prepare_cached(&format!(
                        "INSERT INTO people_{day} SELECT * FROM people_{old}
                         WHERE tenant = ?1 AND person = ?2"
                    ))?
                    .execute(row)?;
            }
            self.db
                .prepare_cached(&format!(
                    "DELETE FROM people_{old} WHERE tenant = ?1 AND person = ?2"
                ))?
                .execute(row)?;
        }
        if grows {
            let PersonOver { at, said, .. } = &write.over;
            self.db
                .prepare_cached(&format!(
                    "INSERT OR REPLACE INTO people_{day} (tenant, person, upto, at, said)
                     VALUES (?1, ?2, ?3, ?4, ?5)"
                ))?
                .execute((row.0, row.1, int(upto), millis(*at), said))?;
            self.draft.moved = true;
        }
        let upto = known.map_or(upto, |known| known.upto.max(upto));
        self.draft.people.insert(write.person, Known { upto, day });
        Ok(())
    }
}

/// What was said of a person.
pub(super) fn read(
    db: &Connection,
    partitions: &Partitions,
    tenant: u32,
    person: &Digest,
) -> rusqlite::Result<Option<PersonOver>> {
    let Some(sql) = &partitions.people_sql else {
        return Ok(None);
    };
    db.prepare_cached(sql)?
        .query_row((tenant, person.0), |row| {
            Ok(PersonOver {
                upto: time(row, 0)?,
                at: time(row, 1)?,
                said: row.get(2)?,
            })
        })
        .optional()
}

/// Reads everybody into memory.
pub(super) fn load(db: &Connection, view: &mut View) -> rusqlite::Result<()> {
    let partitions = Arc::clone(&view.partitions);
    for day in partitions.people() {
        let mut people = db.prepare(&format!("SELECT tenant, person, upto FROM people_{day}"))?;
        let mut rows = people.query([])?;
        while let Some(row) = rows.next()? {
            let known = Known {
                upto: count(row, 2)?,
                day,
            };
            if let Some(tenant) = view.tenant_mut(row.get(0)?) {
                tenant.people.extend([(Digest(row.get(1)?), known)]);
            }
        }
    }
    Ok(())
}

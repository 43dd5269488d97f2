//! One-time keys: spent by writing them, which is also how it is found out that one was.

use std::sync::Arc;

use dayfly_domain::Spent;
use rusqlite::{Connection, OptionalExtension};

use super::known::{Print, key_print};
use super::partition::{Partitions, day};
use super::record::Desk;
use super::value::{int, task};
use crate::{OneTimeKey, Spend};

impl Desk<'_> {
    /// Spends the keys of an append, all or none: the first that was spent before, and by whom.
    ///
    /// Looking each up before it is written would take as long again. What was written before the
    /// one that fails is taken back.
    pub(super) fn spend(&mut self, spends: &[Spend]) -> rusqlite::Result<Option<(usize, Spent)>> {
        for (which, spend) in spends.iter().enumerate() {
            if self.write_spend(spend)? {
                continue;
            }
            let by = spent(self.db, self.partitions, self.tenant, &spend.key)?;
            for undone in spends.iter().take(which) {
                self.take_back(&undone.key)?;
            }
            return Ok(by.map(|by| (which, by)));
        }
        Ok(None)
    }

    /// Writes a key; false when it is there.
    fn write_spend(&mut self, spend: &Spend) -> rusqlite::Result<bool> {
        let day = day(spend.key.until);
        if !self.partitions.has_spent(day) {
            Arc::make_mut(self.partitions).add_spent(self.db, day)?;
        }
        self.keep.prints.push(Print::Spent {
            day,
            print: key_print(&spend.key.digest.0),
        });
        let written = self
            .db
            .prepare_cached(&format!(
                "INSERT OR IGNORE INTO spent_{day} (tenant, at, digest, task, client)
                 VALUES (?1, ?2, ?3, ?4, ?5)"
            ))?
            .execute((
                self.tenant,
                int(spend.key.at.seconds()),
                short(&spend.key),
                spend.by.task.0,
                spend.by.client,
            ))?;
        Ok(written > 0)
    }

    fn take_back(&self, key: &OneTimeKey) -> rusqlite::Result<()> {
        let day = day(key.until);
        self.db
            .prepare_cached(&format!(
                "DELETE FROM spent_{day} WHERE tenant = ?1 AND at = ?2 AND digest = ?3"
            ))?
            .execute((self.tenant, int(key.at.seconds()), short(key)))?;
        Ok(())
    }
}

/// Who spent a one-time key, if anyone did.
pub(super) fn spent(
    db: &Connection,
    partitions: &Partitions,
    tenant: u32,
    key: &OneTimeKey,
) -> rusqlite::Result<Option<Spent>> {
    let day = day(key.until);
    if !partitions.has_spent(day) {
        return Ok(None);
    }
    db.prepare_cached(&format!(
        "SELECT task, client FROM spent_{day} WHERE tenant = ?1 AND at = ?2 AND digest = ?3"
    ))?
    .query_row((tenant, int(key.at.seconds()), short(key)), |row| {
        Ok(Spent {
            task: task(row, 0)?,
            client: row.get(1)?,
        })
    })
    .optional()
}

/// Half a digest: 128 bits tell keys apart that nobody can choose freely.
fn short(key: &OneTimeKey) -> &[u8] {
    key.digest.0.split_at(16).0
}

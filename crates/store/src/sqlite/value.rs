//! Numbers and ids between Rust and the columns of the database.

use dayfly_domain::{TaskId, Time};
use rusqlite::Row;

/// How many bits of an entry's id hold its position; the tenant's number stands above them.
const POSITION_BITS: u32 = 40;

/// A count as a column holds it. What SQLite cannot count to stands as the most that it can.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A time as a column holds it.
pub(super) fn millis(time: Time) -> i64 {
    int(time.millis())
}

/// Reads what [`int`] wrote.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(uint(row.get(column)?))
}

/// Reads what [`millis`] wrote.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Time> {
    count(row, column).map(Time::from_millis)
}

/// Reads a task's id.
pub(super) fn task(row: &Row<'_>, column: usize) -> rusqlite::Result<TaskId> {
    row.get(column).map(TaskId)
}

/// Reads a text that has a stricter type.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|_| rusqlite::types::FromSqlError::InvalidType.into())
}

/// A column's number as a count; none is negative.
pub(super) fn uint(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// The id of the entry at a position of a tenant.
pub(super) fn entry_id(tenant: u32, pos: u64) -> i64 {
    let most = (1 << POSITION_BITS) - 1;
    (i64::from(tenant) << POSITION_BITS) | int(pos.min(most))
}

/// The position that an entry's id holds.
pub(super) fn position(id: i64) -> u64 {
    uint(id & ((1 << POSITION_BITS) - 1))
}

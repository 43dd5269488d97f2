//! The receipt of a task: all its entries, each with its place in the tree of one signed head.

use dayfly_domain::{Name, TaskId};
use dayfly_ledger::receipt::{Annex, ReceiptEntry};
use dayfly_ledger::{ReadTiles, Receipt, inclusion_proofs};
use dayfly_store::{Store, StoredEntry, Unavailable};

use super::entry::each_of;
use super::error::RecordError;
use super::ledger::{Tiles, size_of};

/// The entries of a task that a head covers, with their proofs; none where it covers none.
///
/// The head is taken as given: whoever verifies the receipt checks its signature. Entries that
/// came after it are left out, so a head that was made after an end was acknowledged shows it.
///
/// # Errors
/// [`RecordError`] when the record cannot be read, or the note is no head.
pub fn receipt(
    store: &dyn Store,
    tenant: &Name,
    origin: &str,
    head: &str,
    task: TaskId,
    with_annex: bool,
) -> Result<Option<Receipt>, RecordError> {
    let size = size_of(head)?;
    let mut stored: Vec<StoredEntry> = Vec::new();
    each_of(store, tenant, task, |entry| {
        if entry.pos < size {
            stored.push(entry.clone());
        }
        Ok(())
    })?;
    if stored.is_empty() {
        return Ok(None);
    }
    let proofs = prove(&stored, size, &Tiles { store, tenant })?;
    let entries = stored
        .into_iter()
        .zip(proofs)
        .map(|(entry, proof)| ReceiptEntry {
            pos: entry.pos,
            leaf: entry.leaf,
            annex: entry.annex.filter(|_| with_annex).map(|annex| Annex {
                salt: annex.salt,
                data: annex.data,
            }),
            proof,
        })
        .collect();
    Ok(Some(Receipt::new(
        origin.to_owned(),
        task.to_string(),
        entries,
        head.to_owned(),
    )))
}

fn prove<R: ReadTiles<Error = Unavailable>>(
    entries: &[StoredEntry],
    size: u64,
    tiles: &R,
) -> Result<Vec<Vec<dayfly_ledger::Hash>>, RecordError> {
    let positions: Vec<u64> = entries.iter().map(|entry| entry.pos).collect();
    inclusion_proofs(&positions, size, tiles).map_err(|why| RecordError::Tree(why.to_string()))
}

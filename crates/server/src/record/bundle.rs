//! Entries as bundles that prove themselves: for exports, and for what leaves the database.

use std::ops::Range;

use dayfly_domain::Name;
use dayfly_ledger::range_proof;
use dayfly_store::{BUNDLE_ENTRIES, Bundle, EntryRange, Evidence, Store};

use super::error::RecordError;
use super::ledger::{Tiles, size_of};

/// The entries that a head covers of the tile that begins at a position, with what leads from them
/// to that head; none where it covers none of them, or is of no ledger as long as this. The head is taken as given: whoever verifies
/// the bundle checks its signature.
///
/// # Errors
/// [`RecordError`] when the record cannot be read, no tile begins there, or the note is no head.
pub fn bundle(
    store: &dyn Store,
    tenant: &Name,
    origin: &str,
    head: &str,
    first: u64,
    with_annex: bool,
) -> Result<Option<Bundle>, RecordError> {
    let size = size_of(head)?;
    let range = first..size.min(first.saturating_add(BUNDLE_ENTRIES));
    if range.is_empty() || size > store.head(tenant)?.size {
        return Ok(None);
    }
    let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut entries = store.entries(tenant, EntryRange::From(first), count)?;
    if !with_annex {
        for entry in &mut entries {
            entry.annex = None;
        }
    }
    let proof = evidence(store, tenant, head, range)?;
    let bundle = Bundle::begun(origin, tenant, entries)
        .ok_or_else(|| RecordError::Tree(format!("no tile begins at position {first}")))?;
    Ok(Some(bundle.proven(proof)))
}

/// What leads from a range of entries to a head that covers them.
pub(crate) fn evidence(
    store: &dyn Store,
    tenant: &Name,
    head: &str,
    range: Range<u64>,
) -> Result<Evidence, RecordError> {
    let tiles = Tiles { store, tenant };
    let rest = range_proof(range.start, range.end, size_of(head)?, &tiles)
        .map_err(|why| RecordError::Tree(why.to_string()))?;
    Ok(Evidence {
        head: head.to_owned(),
        rest,
    })
}

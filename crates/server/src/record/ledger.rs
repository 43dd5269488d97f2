//! The ledger as a whole: its head, and whether it still begins with an earlier one.

use dayfly_domain::Name;
use dayfly_ledger::head::{ExtendsError, HeadError};
use dayfly_ledger::{
    Hash, Head, ReadTiles, VerifierKey, consistency_proof, open_head, verify_extends,
};
use dayfly_store::{Store, Unavailable};
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use crate::restore::{Former, Lineage};

/// A signed head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadView {
    /// The ledger.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
    /// The key that verifies the note, as `dayfly verify --key` takes it.
    pub verifier_key: String,
    /// The signed note itself.
    pub note: String,
}

/// An earlier head that somebody held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// How many entries the ledger had.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

/// An earlier head beside the present ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether the present ledger begins with the earlier one.
    pub holds: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the earlier head says; none where it is not one of this ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
    /// The present head.
    pub present: HeadView,
    /// The ledgers that this one goes on from by restores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// The consistency proof between them (RFC 6962, section 2.1.2).
    pub proof: Vec<Hash>,
}

/// A signed note as it is shown; the latest of the ledger's keys that signed it is named.
///
/// # Errors
/// [`RecordError::Head`] when the note is not a head of these keys.
pub fn head_view(note: &str, keys: &[VerifierKey]) -> Result<HeadView, RecordError> {
    let (Head { origin, size, root }, key) = opened(note, keys)?;
    Ok(HeadView {
        origin,
        size,
        root,
        verifier_key: key.to_string(),
        note: note.to_owned(),
    })
}

/// Compares an earlier head with the present one, which is of the committed ledger.
///
/// # Errors
/// [`RecordError`] when the record cannot be read. That the earlier head does not hold is no error.
pub fn compare(
    store: &dyn Store,
    tenant: &Name,
    held: &str,
    present: HeadView,
    keys: &[VerifierKey],
) -> Result<Comparison, RecordError> {
    let mut comparison = Comparison {
        holds: false,
        why: None,
        held: None,
        present,
        former: Lineage::read(store, tenant)?.map_or_else(Vec::new, |lineage| lineage.former),
        proof: Vec::new(),
    };
    if let Ok((head, _)) = opened(held, keys) {
        comparison.held = Some(HeldView {
            size: head.size,
            root: head.root,
        });
        if head.size <= comparison.present.size {
            let tiles = Tiles { store, tenant };
            comparison.proof = consistency_proof(head.size, comparison.present.size, &tiles)
                .map_err(|why| RecordError::Tree(why.to_string()))?;
        }
    }
    comparison.why = comparison.check(held, keys).err();
    comparison.holds = comparison.why.is_none();
    Ok(comparison)
}

impl Comparison {
    /// Checks it without believing who made it: each head by one of the keys, which follow each
    /// other where the ledger's key was replaced, and the proof between them.
    ///
    /// # Errors
    /// What does not hold, in a sentence.
    pub fn check(&self, held: &str, keys: &[VerifierKey]) -> Result<(), String> {
        let (earlier, _) = opened(held, keys)
            .map_err(|why| said("the earlier head is not one of this ledger", &why))?;
        let (present, _) = opened(&self.present.note, keys)
            .map_err(|why| said("the present head is not one of this ledger", &why))?;
        let earlier = self.of_this_ledger(earlier, &present)?;
        verify_extends(&earlier, &present, &self.proof).map_err(|why| match &why {
            ExtendsError::CutOff { got, .. } => {
                format!("{why}: what stood from position {got} on is gone")
            }
            ExtendsError::Origin { .. } => why.to_string(),
            ExtendsError::Rewritten { source, .. } => format!("{why}: {source}"),
        })
    }
}

impl Comparison {
    /// A head of a ledger that this one goes on from, as one of this: they share their entries up
    /// to the restore.
    fn of_this_ledger(&self, earlier: Head, present: &Head) -> Result<Head, String> {
        if earlier.origin == present.origin {
            return Ok(earlier);
        }
        let mut former = self.former.iter();
        match former.find(|former| former.origin == earlier.origin) {
            // `verify_extends` tells that it is of another.
            None => Ok(earlier),
            Some(former) if earlier.size > former.size => Err(format!(
                "the ledger was restored from a backup of {} entries: what stood from position {} on up to the {} of the earlier head is gone",
                former.size, former.size, earlier.size
            )),
            Some(_) => Ok(Head {
                origin: present.origin.clone(),
                ..earlier
            }),
        }
    }
}

/// Opens a head by the latest of these keys that signed it.
fn opened<'k>(note: &str, keys: &'k [VerifierKey]) -> Result<(Head, &'k VerifierKey), HeadError> {
    let mut why = HeadError::Line {
        line: 1,
        wanted: "the origin of a ledger that has a key",
    };
    for key in keys.iter().rev() {
        match open_head(note, key) {
            Ok(head) => return Ok((head, key)),
            Err(other) => why = other,
        }
    }
    Err(why)
}

/// An error with all its causes.
fn said(what: &str, why: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {why}");
    let mut source = why.source();
    while let Some(why) = source {
        text.push_str(&format!(": {why}"));
        source = why.source();
    }
    text
}

/// The size that a note claims, its signature not looked at.
pub(super) fn size_of(note: &str) -> Result<u64, RecordError> {
    let size = note.split('\n').nth(1).and_then(|line| line.parse().ok());
    size.ok_or(RecordError::Head(HeadError::Line {
        line: 2,
        wanted: "a tree size",
    }))
}

/// The tiles of a tenant's tree, as proofs read them.
pub(crate) struct Tiles<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) tenant: &'a Name,
}

impl ReadTiles for Tiles<'_> {
    type Error = Unavailable;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Unavailable> {
        self.store.tile(self.tenant, level, index, width)
    }
}

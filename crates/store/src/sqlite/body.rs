//! What of an append does not depend on its position, made before the writer takes it.

use dayfly_ledger::leaf::MAX_LEAF_BYTES;
use dayfly_ledger::{Hash, RawValue, annex_hash};
use serde_json::value::to_raw_value;

use super::entries::Dropping;
use super::snapshot;
use crate::{Annex, Append, AppendError, Change, Drafted, Note, Unavailable, Use};

/// An append with the bytes that its entries and snapshots will have. The writer is one thread, so
/// what can be done on others is not done there.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) append: Append,
    /// For each change the bodies of its events and the snapshot of the task, if that stays open.
    pub(super) changes: Vec<(Vec<Body>, Box<[u8]>)>,
    pub(super) notes: Vec<Body>,
    /// What is to be dropped, and what its bundle holds.
    pub(super) dropping: Option<Dropping>,
}

/// A use with the body of its note.
#[derive(Debug)]
pub(super) struct ReadyUse {
    pub(super) used: Use,
    pub(super) body: Body,
}

/// An entry without its place.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) kind: &'static str,
    pub(super) data: Box<RawValue>,
    /// The hash of the annex.
    pub(super) h: Option<Hash>,
}

/// The most that the members of a leaf beside `data` take: names, ids, hashes and numbers.
const CHAIN_BYTES: usize = 384;

impl Ready {
    /// `leaf_bytes` is the most that a leaf may have here; the ledger's own bound holds besides.
    pub(super) fn new(
        mut append: Append,
        dropping: Option<Dropping>,
        leaf_bytes: usize,
    ) -> Result<Self, AppendError> {
        let changes = append
            .changes
            .iter_mut()
            .map(body_of_change)
            .collect::<Result<Vec<(Vec<Body>, Box<[u8]>)>, _>>()?;
        let notes = append
            .notes
            .iter()
            .map(Body::of_note)
            .collect::<Result<Vec<Body>, _>>()?;
        let events = changes.iter().flat_map(|(bodies, _)| bodies);
        if leaf_bytes < MAX_LEAF_BYTES
            && events
                .chain(&notes)
                .any(|body| body.data.get().len() + CHAIN_BYTES > leaf_bytes)
        {
            return Err(AppendError::TooLarge);
        }
        Ok(Self {
            append,
            changes,
            notes,
            dropping,
        })
    }
}

impl ReadyUse {
    pub(super) fn new(used: Use) -> Result<Self, AppendError> {
        let body = Body::of_note(&used.note)?;
        Ok(Self { used, body })
    }
}

fn body_of_change(change: &mut Change) -> Result<(Vec<Body>, Box<[u8]>), AppendError> {
    let bodies = change
        .events
        .iter()
        .map(Body::of_event)
        .collect::<Result<_, _>>()?;
    // What has ended leaves the hot tables: nobody reads its state there again.
    let snapshot = if change.next.has_ended() {
        Box::default()
    } else {
        snapshot::write(&mut change.next).map_err(|error| unfit(&error))?
    };
    Ok((bodies, snapshot))
}

impl Body {
    fn of_event(drafted: &Drafted) -> Result<Self, AppendError> {
        Ok(Self {
            kind: drafted.event.kind(),
            data: to_raw_value(&drafted.event).map_err(|error| unfit(&error))?,
            h: drafted.annex.as_ref().map(hash_of),
        })
    }

    fn of_note(note: &Note) -> Result<Self, AppendError> {
        Ok(Self {
            kind: note.kind,
            data: RawValue::from_string(note.data.clone()).map_err(|error| unfit(&error))?,
            h: note.annex.as_ref().map(hash_of),
        })
    }
}

fn hash_of(annex: &Annex) -> Hash {
    annex_hash(&annex.salt, annex.data.as_bytes())
}

/// An append that no ledger can hold: a fault of the caller's.
pub(super) fn unfit(error: &impl ToString) -> AppendError {
    AppendError::Unfit(Unavailable(error.to_string()))
}

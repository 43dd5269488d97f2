//! One end as the journal has it: what happened to which tasks, and what stays blocked.

use dayfly_domain::{Block, BlockOn, EpochOf, Event, Name, TaskId, Time};
use dayfly_store::{Annex, Append, Document, Drafted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::closing::Closing;
use crate::declared::HandOvers;

/// The version of the text.
const VERSION: u8 = 1;

/// An end that the ledger has not taken yet. Its events hold cause and time as they were
/// acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) tenant: Name,
    /// When it was acknowledged.
    pub(super) at: Time,
    pub(super) ends: Vec<HeldEnd>,
    pub(super) blocks: Vec<HeldBlock>,
    /// What lost its rights without being blocked.
    pub(super) moves: Vec<HeldMove>,
    /// The runs that are over, by the word of their platform.
    pub(super) closings: Vec<Closing>,
}

/// What lost its rights by an operator's hand and may start anew, and the entry that says so.
#[derive(Clone, Debug)]
pub(super) struct HeldMove {
    pub(super) of: EpochOf,
    pub(super) data: String,
    pub(super) annex: Option<Annex>,
}

/// What ends of one task.
#[derive(Clone, Debug)]
pub(super) struct HeldEnd {
    pub(super) task: TaskId,
    pub(super) events: Vec<Drafted>,
}

/// A block that is to stand, and the entry that says so.
#[derive(Clone, Debug)]
pub(super) struct HeldBlock {
    pub(super) block: Block,
    /// Who answers for the workloads of a blocked owner since.
    pub(super) to: Option<Name>,
    pub(super) data: String,
    pub(super) annex: Option<Annex>,
}

/// A record that this program cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

impl Held {
    /// What an append ends, blocks, and takes rights from. Each block comes with the note that
    /// records it, and each epoch that moves without a block.
    pub(super) fn of(tenant: &Name, append: &Append) -> Self {
        let ends = append.changes.iter().map(|change| HeldEnd {
            task: change.task,
            events: change.events.clone(),
        });
        let blocks = append.blocks.iter().zip(&append.notes);
        let moved: &[EpochOf] = if append.blocks.is_empty() {
            &append.moves
        } else {
            // Each is of a block.
            &[]
        };
        let moves = moved.iter().zip(&append.notes);
        Self {
            tenant: tenant.clone(),
            at: append.now,
            ends: ends.collect(),
            blocks: blocks
                .map(|(block, note)| HeldBlock {
                    block: block.clone(),
                    to: handed_to(&block.on, &append.documents),
                    data: note.data.clone(),
                    annex: note.annex.clone(),
                })
                .collect(),
            moves: moves
                .map(|(of, note)| HeldMove {
                    of: of.clone(),
                    data: note.data.clone(),
                    annex: note.annex.clone(),
                })
                .collect(),
            closings: Vec::new(),
        }
    }

    /// The same, and the run that is over.
    pub(super) fn closing(tenant: &Name, append: &Append, closing: &Closing) -> Self {
        Self {
            closings: vec![closing.clone()],
            ..Self::of(tenant, append)
        }
    }

    /// As the journal keeps it: JSON.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let wire = Wire {
            v: VERSION,
            tenant: self.tenant.clone(),
            at: self.at,
            ends: self.ends.iter().map(WireEnd::of).collect(),
            blocks: self.blocks.iter().map(WireBlock::of).collect(),
            moves: self.moves.iter().map(WireMove::of).collect(),
            closings: self.closings.clone(),
        };
        // INVARIANT: names, numbers and texts have no value that JSON cannot write; were it
        // otherwise, the empty text would be refused when it is read.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unread> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| Unread)?;
        if wire.v != VERSION {
            return Err(Unread);
        }
        Ok(Self {
            tenant: wire.tenant,
            at: wire.at,
            ends: wire
                .ends
                .into_iter()
                .map(WireEnd::read)
                .collect::<Result<_, _>>()?,
            blocks: wire.blocks.into_iter().map(WireBlock::read).collect(),
            moves: wire.moves.into_iter().map(WireMove::read).collect(),
            closings: wire.closings,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u8,
    tenant: Name,
    at: Time,
    ends: Vec<WireEnd>,
    blocks: Vec<WireBlock>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    moves: Vec<WireMove>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    closings: Vec<Closing>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMove {
    of: EpochOf,
    data: String,
    annex: Option<WireAnnex>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEnd {
    task: TaskId,
    events: Vec<WireEvent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEvent {
    kind: String,
    data: Value,
    annex: Option<WireAnnex>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBlock {
    block: Block,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Name>,
    data: String,
    annex: Option<WireAnnex>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAnnex {
    salt: [u8; 16],
    data: String,
}

/// To whom these documents hand over what a block is on.
fn handed_to(on: &BlockOn, documents: &[Document]) -> Option<Name> {
    let BlockOn::Owner(owner) = on else {
        return None;
    };
    let documents = documents.iter();
    let kept: Vec<(String, Vec<u8>)> = documents
        .filter_map(|document| Some((document.name.clone(), document.bytes.clone()?)))
        .collect();
    let handed = HandOvers::of(&kept).ok()?;
    handed.of_owner(owner).map(|handed| handed.to.clone())
}

impl WireEnd {
    fn of(end: &HeldEnd) -> Self {
        let event = |drafted: &Drafted| WireEvent {
            kind: drafted.event.kind().to_owned(),
            data: serde_json::to_value(&drafted.event).unwrap_or_default(),
            annex: drafted.annex.as_ref().map(WireAnnex::of),
        };
        Self {
            task: end.task,
            events: end.events.iter().map(event).collect(),
        }
    }

    fn read(self) -> Result<HeldEnd, Unread> {
        let event = |wire: WireEvent| {
            let event = Event::read(&wire.kind, wire.data).map_err(|_| Unread)?;
            Ok(Drafted {
                event: event.map_err(|_| Unread)?,
                annex: wire.annex.map(WireAnnex::read),
            })
        };
        Ok(HeldEnd {
            task: self.task,
            events: self
                .events
                .into_iter()
                .map(event)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl WireBlock {
    fn of(held: &HeldBlock) -> Self {
        Self {
            block: held.block.clone(),
            to: held.to.clone(),
            data: held.data.clone(),
            annex: held.annex.as_ref().map(WireAnnex::of),
        }
    }

    fn read(self) -> HeldBlock {
        HeldBlock {
            block: self.block,
            to: self.to,
            data: self.data,
            annex: self.annex.map(WireAnnex::read),
        }
    }
}

impl WireMove {
    fn of(held: &HeldMove) -> Self {
        Self {
            of: held.of.clone(),
            data: held.data.clone(),
            annex: held.annex.as_ref().map(WireAnnex::of),
        }
    }

    fn read(self) -> HeldMove {
        HeldMove {
            of: self.of,
            data: self.data,
            annex: self.annex.map(WireAnnex::read),
        }
    }
}

impl WireAnnex {
    fn of(annex: &Annex) -> Self {
        Self {
            salt: annex.salt,
            data: annex.data.clone(),
        }
    }

    fn read(self) -> Annex {
        Annex {
            salt: self.salt,
            data: self.data,
        }
    }
}

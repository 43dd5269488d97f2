//! One end as the journal has it: what happened to which tasks, and what stays blocked.

use dayfly_domain::{Block, BlockOn, EpochOf, Event, Name, TaskId, Time};
use dayfly_ledger::leaf::MAX_LEAF_BYTES;
use dayfly_store::{Annex, Append, Document, Drafted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::former::{self, FormerWord};
use super::frame::{self, PAYLOAD};
use super::words::Word;
use crate::app::closing::Closing;
use crate::app::sought::Sought;
use crate::declared::HandOvers;

/// The version of the text.
const VERSION: u8 = 1;

/// What a leaf holds beside the data of its entry takes no more than this.
const BESIDE: usize = 512;
/// A text of an entry that is longer is cut to this where the entry does not fit otherwise.
const SHORT: usize = 64;

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
    /// What ends by hand and could not be looked up.
    pub(super) sought: Vec<Sought>,
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
            sought: Vec::new(),
        }
    }

    /// The same, and the runs that are over.
    pub(super) fn closing(tenant: &Name, append: &Append, closings: Vec<Closing>) -> Self {
        Self {
            closings,
            ..Self::of(tenant, append)
        }
    }

    /// The same, and what ends beside it wherever it is found.
    pub(super) fn seeking(tenant: &Name, append: &Append, sought: Sought) -> Self {
        Self {
            sought: vec![sought],
            ..Self::of(tenant, append)
        }
    }

    /// The room in the journal of one that closes a run and changes no task: it would have no end by
    /// itself, for nothing bounds how many runs a platform knows. None of any other.
    pub(super) fn bare_room(&self) -> usize {
        if self.closings.is_empty() || !self.ends.is_empty() {
            return 0;
        }
        frame::room(self.bytes().len())
    }

    /// Whether every entry of it fits into a leaf: what does not must not be held.
    pub(super) fn fits(&self) -> bool {
        let fits = |bytes: usize| bytes + BESIDE <= MAX_LEAF_BYTES;
        let events = self.ends.iter().flat_map(|end| &end.events);
        let mut events = events.map(|drafted| serde_json::to_vec(&drafted.event));
        events.all(|bytes| bytes.is_ok_and(|bytes| fits(bytes.len())))
            && self.blocks.iter().all(|held| fits(held.data.len()))
            && self.moves.iter().all(|held| fits(held.data.len()))
    }

    /// The same with entries that fit into any leaf: their long texts are cut, and they say so. What
    /// is blocked and moved stays as it is.
    pub(super) fn shortened(&self) -> Self {
        let mut short = self.clone();
        for held in &mut short.blocks {
            held.data = shortened(&held.data);
        }
        for held in &mut short.moves {
            held.data = shortened(&held.data);
        }
        short
    }

    /// The same in parts, in their order, of which the journal keeps each: one where all of it fits
    /// into a frame, else the blocks and moves first and then each end by itself, in as many as it
    /// takes.
    pub(super) fn parts(self) -> Vec<Self> {
        if self.bytes().len() <= PAYLOAD {
            return vec![self];
        }
        let empty = Self {
            ends: Vec::new(),
            blocks: Vec::new(),
            moves: Vec::new(),
            closings: Vec::new(),
            sought: Vec::new(),
            ..self.clone()
        };
        let mut parts = Vec::new();
        for block in self.blocks {
            parts.push(Self {
                blocks: vec![block],
                ..empty.clone()
            });
        }
        for moved in self.moves {
            parts.push(Self {
                moves: vec![moved],
                ..empty.clone()
            });
        }
        for end in self.ends.into_iter().flat_map(in_parts) {
            parts.push(Self {
                ends: vec![end],
                ..empty.clone()
            });
        }
        for closing in self.closings {
            parts.push(Self {
                closings: vec![closing],
                ..empty.clone()
            });
        }
        for sought in self.sought {
            parts.push(Self {
                sought: vec![sought],
                ..empty.clone()
            });
        }
        parts
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
            sought: self.sought.clone(),
            people: Vec::new(),
        };
        // INVARIANT: names, numbers and texts have no value that JSON cannot write; were it
        // otherwise, the empty text would be refused when it is read.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// With the words about people that a former build kept beside.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, Vec<Word>), Unread> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| Unread)?;
        if wire.v != VERSION {
            return Err(Unread);
        }
        let mut held = Self {
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
            sought: wire.sought,
        };
        let words = former::words(&mut held, &wire.people);
        Ok((held, words))
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sought: Vec<Sought>,
    /// Of a former build; this one writes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    people: Vec<FormerWord>,
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

/// An end in as many as it takes, each of which fits into a frame.
fn in_parts(end: HeldEnd) -> Vec<HeldEnd> {
    let empty = || HeldEnd {
        task: end.task,
        events: Vec::new(),
    };
    let (mut parts, mut part, mut taken) = (Vec::new(), empty(), 0);
    for drafted in end.events {
        let bytes = WireEvent::of(&drafted).bytes();
        if taken + bytes > PAYLOAD - BESIDE && !part.events.is_empty() {
            parts.push(std::mem::replace(&mut part, empty()));
            taken = 0;
        }
        taken += bytes + 1;
        part.events.push(drafted);
    }
    parts.push(part);
    parts
}

/// The data of an entry with its long texts cut.
fn shortened(data: &str) -> String {
    let Ok(Value::Object(mut members)) = serde_json::from_str(data) else {
        return data.to_owned();
    };
    let mut cut = false;
    for value in members.values_mut() {
        if let Value::String(text) = value
            && text.len() > 2 * SHORT
        {
            let end = text.floor_char_boundary(SHORT);
            text.truncate(end);
            text.push('…');
            cut = true;
        }
    }
    if cut {
        members.insert("shortened".to_owned(), true.into());
    }
    Value::Object(members).to_string()
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

impl WireEvent {
    fn of(drafted: &Drafted) -> Self {
        Self {
            kind: drafted.event.kind().to_owned(),
            data: serde_json::to_value(&drafted.event).unwrap_or_default(),
            annex: drafted.annex.as_ref().map(WireAnnex::of),
        }
    }

    /// How many bytes it takes.
    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |bytes| bytes.len())
    }
}

impl WireEnd {
    fn of(end: &HeldEnd) -> Self {
        Self {
            task: end.task,
            events: end.events.iter().map(WireEvent::of).collect(),
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

//! All entries of one task in one file that anyone can verify offline, and why one does not hold.

mod wire;

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::chain::{ChainError, Step, Tail, follow};
use crate::hash::{Hash, leaf_hash};
use crate::head::{Head, HeadError, open_head, tenant_of};
use crate::leaf::{Leaf, LeafError, ReadLeaf, annex_hash};
use crate::note::VerifierKey;
use crate::proof::{ProofError, verify_inclusion};

/// The version of receipts written and read here.
pub const RECEIPT_VERSION: u64 = 1;

/// A receipt as it goes over the wire (DESIGN section 9); nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    v: u64,
    /// The ledger it is from.
    pub origin: String,
    /// The task it is about.
    pub task: String,
    /// The entries of the task, in order.
    pub entries: Vec<ReceiptEntry>,
    /// The head that the entries are in, a signed note.
    pub head: String,
}

/// One entry of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptEntry {
    /// Its leaf index.
    pub pos: u64,
    /// Its leaf bytes.
    pub leaf: String,
    /// Its annex; absent where it has none, and where it is erased or withheld.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "wire::present"
    )]
    pub annex: Option<Annex>,
    /// The inclusion proof of the leaf, each hash in standard base64 as in C2SP proofs.
    #[serde(with = "wire::hashes")]
    pub proof: Vec<Hash>,
}

/// What an entry says beside its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annex {
    /// Its salt, in base64url.
    #[serde(with = "wire::salt")]
    pub salt: [u8; 16],
    /// Its bytes as text.
    pub data: String,
}

/// A receipt that holds: made by [`Receipt::verify`] only.
#[derive(Clone, Debug)]
pub struct Verified<'a> {
    head: Head,
    task: &'a str,
    entries: Vec<VerifiedEntry<'a>>,
    complete: bool,
}

/// One entry of a receipt that holds.
#[derive(Clone, Debug)]
pub struct VerifiedEntry<'a> {
    /// Its leaf index.
    pub pos: u64,
    /// The version of its leaf, as in [`ReadLeaf`].
    pub v: u64,
    /// What it says.
    pub leaf: Leaf<'a>,
    /// What it says beside that.
    pub annex: VerifiedAnnex<'a>,
}

/// The annex of an entry of a receipt that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedAnnex<'a> {
    /// The entry never had one.
    None,
    /// The entry has one, which was erased or is not shown.
    Withheld,
    /// The one the entry was made with.
    Shown(&'a str),
}

/// Why a receipt does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not the JSON of a receipt.
    #[error("not a receipt: {0}")]
    Json(String),
    /// A receipt of another version.
    #[error("the receipt is of version {got} instead of {RECEIPT_VERSION}")]
    Version {
        /// The version it names.
        got: u64,
    },
    /// The head is not one of this key.
    #[error("the receipt's head does not hold")]
    Head(#[from] HeadError),
    /// The receipt names another ledger than its head.
    #[error("the receipt is of the ledger `{got}`, its head of `{wanted}`")]
    Origin {
        /// The origin of the head.
        wanted: String,
        /// The origin the receipt names.
        got: String,
    },
    /// There are no entries.
    #[error("the receipt has no entries")]
    Empty,
    /// An entry is not what it should be there.
    #[error("entry {number} of the receipt, at position {pos}, does not hold")]
    Entry {
        /// Which entry, from 1.
        number: usize,
        /// The position it names.
        pos: u64,
        /// What differs.
        source: EntryError,
    },
}

/// What differs in one entry of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry follows the end of the task.
    #[error("it comes after the task's end")]
    AfterEnd,
    /// Positions do not increase.
    #[error("its position is not above {before}, that of the entry before it")]
    Position {
        /// The position of the entry before.
        before: u64,
    },
    /// It is not in the ledger at that position.
    #[error("it is not in the ledger of the head at that position")]
    Proof(#[from] ProofError),
    /// Its bytes are no leaf.
    #[error("it is no leaf")]
    Leaf(#[from] LeafError),
    /// It is of another tenant than the ledger.
    #[error("it is of the tenant `{got}` instead of `{wanted}`")]
    Tenant {
        /// The tenant of the ledger.
        wanted: String,
        /// The tenant the leaf names.
        got: String,
    },
    /// It is of another task, or of none.
    #[error("it is of {} instead of the task `{wanted}`", .got.as_ref().map_or_else(|| "no task".into(), |got| alloc::format!("the task `{got}`")))]
    Task {
        /// The task of the receipt.
        wanted: String,
        /// The task the leaf names.
        got: Option<String>,
    },
    /// Time goes backwards.
    #[error("its time {got} is before {before}, that of the entry before it")]
    Time {
        /// The time of the entry before, in milliseconds since 1970.
        before: u64,
        /// Its own.
        got: u64,
    },
    /// It is not the next entry of the task.
    #[error("it breaks the chain of the task")]
    Chain(#[from] ChainError),
    /// It has an annex and was made without.
    #[error("it has an annex, and its leaf names none")]
    AnnexUnknown,
    /// Its annex is not the one it was made with.
    #[error("its annex has the hash `{got}` instead of `{wanted}`")]
    Annex {
        /// The hash in the leaf.
        wanted: Hash,
        /// The hash of the annex shown.
        got: Hash,
    },
}

impl Receipt {
    /// A receipt of what the ledger holds about a task.
    #[must_use]
    pub fn new(origin: String, task: String, entries: Vec<ReceiptEntry>, head: String) -> Self {
        Self {
            v: RECEIPT_VERSION,
            origin,
            task,
            entries,
            head,
        }
    }

    /// Reads a receipt. Members unknown or doubled are refused.
    ///
    /// # Errors
    /// [`ReceiptError::Json`] and [`ReceiptError::Version`].
    pub fn parse(json: &[u8]) -> Result<Self, ReceiptError> {
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        let unreadable = |error: serde_json::Error| ReceiptError::Json(error.to_string());
        // The version first: a later receipt may have members that are unknown here.
        let Version { v } = serde_json::from_slice(json).map_err(unreadable)?;
        if v != RECEIPT_VERSION {
            return Err(ReceiptError::Version { got: v });
        }
        serde_json::from_slice(json).map_err(unreadable)
    }

    /// Checks everything the receipt says: the head by the key, each entry's place in it, the
    /// chain of the task from its first entry without a gap, and the annexes shown.
    ///
    /// # Errors
    /// [`ReceiptError`] naming the first thing that differs, and in which entry.
    pub fn verify(&self, key: &VerifierKey) -> Result<Verified<'_>, ReceiptError> {
        let head = open_head(&self.head, key)?;
        if self.origin != head.origin {
            return Err(ReceiptError::Origin {
                wanted: head.origin,
                got: self.origin.clone(),
            });
        }
        if self.entries.is_empty() {
            return Err(ReceiptError::Empty);
        }
        let mut walk = Walk {
            head: &head,
            task: &self.task,
            last: None,
        };
        let mut entries = Vec::with_capacity(self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            let step = walk.step(entry);
            let step = step.map_err(|source| ReceiptError::Entry {
                number: index + 1,
                pos: entry.pos,
                source,
            });
            entries.push(step?);
        }
        let complete = matches!(
            walk.last,
            Some(Last {
                chain: Step::Ended,
                ..
            })
        );
        Ok(Verified {
            head,
            task: &self.task,
            entries,
            complete,
        })
    }
}

impl<'a> Verified<'a> {
    /// The head that the entries are in.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &'a str {
        self.task
    }

    /// Its entries, from the first.
    #[must_use]
    pub fn entries(&self) -> &[VerifiedEntry<'a>] {
        &self.entries
    }

    /// Whether the task has ended, so that these are all its entries. Otherwise it was open after
    /// the last of them, and the ledger may have more.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }
}

/// The way through the entries.
struct Walk<'h> {
    head: &'h Head,
    task: &'h str,
    last: Option<Last>,
}

/// What the entry before leaves to compare with.
struct Last {
    pos: u64,
    at: u64,
    chain: Step,
}

impl Walk<'_> {
    fn step<'a>(&mut self, entry: &'a ReceiptEntry) -> Result<VerifiedEntry<'a>, EntryError> {
        let tail = self.tail_before(entry.pos)?;
        let hash = leaf_hash(entry.leaf.as_bytes());
        verify_inclusion(
            entry.pos,
            self.head.size,
            &hash,
            &entry.proof,
            &self.head.root,
        )?;
        let ReadLeaf { v, leaf } = ReadLeaf::parse(entry.leaf.as_bytes())?;
        let wanted = tenant_of(&self.head.origin);
        if leaf.tenant != wanted {
            return Err(EntryError::Tenant {
                wanted: wanted.into(),
                got: leaf.tenant.into(),
            });
        }
        let link = leaf.link.as_ref().filter(|link| link.task == self.task);
        let Some(link) = link else {
            let got = leaf.link.map(|link| link.task.into());
            return Err(EntryError::Task {
                wanted: self.task.into(),
                got,
            });
        };
        let chain = follow(tail, &leaf, link, hash)?;
        let before = self.last.as_ref().map_or(0, |last| last.at);
        if leaf.at < before {
            return Err(EntryError::Time {
                before,
                got: leaf.at,
            });
        }
        let annex = check_annex(leaf.h, entry.annex.as_ref())?;
        self.last = Some(Last {
            pos: entry.pos,
            at: leaf.at,
            chain,
        });
        Ok(VerifiedEntry {
            pos: entry.pos,
            v,
            leaf,
            annex,
        })
    }

    fn tail_before(&self, pos: u64) -> Result<Option<&Tail>, EntryError> {
        match &self.last {
            None => Ok(None),
            Some(Last {
                chain: Step::Ended, ..
            }) => Err(EntryError::AfterEnd),
            Some(Last { pos: before, .. }) if pos <= *before => {
                Err(EntryError::Position { before: *before })
            }
            Some(Last {
                chain: Step::Open(tail),
                ..
            }) => Ok(Some(tail)),
        }
    }
}

fn check_annex(h: Option<Hash>, annex: Option<&Annex>) -> Result<VerifiedAnnex<'_>, EntryError> {
    match (h, annex) {
        (None, None) => Ok(VerifiedAnnex::None),
        (Some(_), None) => Ok(VerifiedAnnex::Withheld),
        (None, Some(_)) => Err(EntryError::AnnexUnknown),
        (Some(wanted), Some(annex)) => {
            let got = annex_hash(&annex.salt, annex.data.as_bytes());
            if got == wanted {
                Ok(VerifiedAnnex::Shown(&annex.data))
            } else {
                Err(EntryError::Annex { wanted, got })
            }
        }
    }
}

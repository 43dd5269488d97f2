//! What is asked of committed state, and what is answered: the reading half of the contract.

use dayfly_domain::{
    Blocks, Claim, Closed, Counts, Digest, Epoch, EpochOf, Heard, Name, Spent, Task, TaskId, Time,
};
use dayfly_ledger::Hash;

use super::{Annex, OneTimeKey, PersonOver};

/// What [`Store::facts`](super::Store::facts) reads.
#[derive(Clone, Debug, Default)]
pub struct FactsQuery<'a> {
    /// Open tasks, and those that wait for approval, here and below.
    pub tasks: &'a [TaskId],
    /// Open tasks of which only the standing is asked, which is cheaper.
    pub standings: &'a [TaskId],
    /// All claims of a series, and what of it is closed.
    pub series: Option<(&'a Name, &'a str)>,
    /// Who spent a one-time key.
    pub one_time: Option<&'a OneTimeKey>,
    /// What was said of a person.
    pub person: Option<&'a Digest>,
    /// How many tasks of a workload there are.
    pub counts: Option<&'a Name>,
    /// The present values of these epochs.
    pub epochs: &'a [EpochOf],
    /// Documents whose name begins so.
    pub documents: Option<&'a str>,
}

/// Committed state at one position.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The open tasks asked for, in the order asked; none for one that is not open.
    pub tasks: Vec<Option<OpenTask>>,
    /// How the open tasks stand whose standing was asked for, in the order asked.
    pub standings: Vec<Option<Standing>>,
    /// The claims of the series asked for.
    pub claims: Vec<Claim>,
    /// What of the series asked for is closed.
    pub closed: Vec<Closed>,
    /// Who spent the one-time key asked for.
    pub spent: Option<Spent>,
    /// What was said of the person asked for.
    pub person: Option<PersonOver>,
    /// The counts asked for.
    pub counts: Counts,
    /// The epochs asked for, in the order asked.
    pub epochs: Vec<Epoch>,
    /// All blocks, as they are shared with the store: nothing is copied.
    pub blocks: Blocks,
    /// The revision of the declared state; 0 before the first.
    pub revision: u64,
    /// The documents asked for, in order of their names.
    pub documents: Vec<(String, Vec<u8>)>,
}

/// An open task and what was heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTask {
    /// Its state.
    pub task: Task,
    /// What was heard of its root clients.
    pub heard: Heard,
    /// The first epoch it relied on that has moved since, if any.
    pub stale: Option<EpochOf>,
    /// The epochs that active delegated clients rely on beside it and that have moved since.
    pub lost: Vec<Epoch>,
}

impl OpenTask {
    /// The first epoch that has moved of those that a client relies on, its task's and those of
    /// its whole chain.
    #[must_use]
    pub fn stale_for(&self, client: u32) -> Option<&EpochOf> {
        let below = || self.task.lost_by(client, &self.lost);
        self.stale.as_ref().or_else(below)
    }

    /// How it stands, without its state.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            version: self.task.version,
            heard: self.heard,
            stale: self.stale.clone(),
            lost: self.lost.clone(),
        }
    }
}

/// How an open task stands, without its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its version: whoever holds the state of this version holds its present state.
    pub version: u64,
    /// What was heard of its root clients.
    pub heard: Heard,
    /// The first epoch it relied on that has moved since, if any.
    pub stale: Option<EpochOf>,
    /// The epochs that active delegated clients rely on beside it and that have moved since.
    pub lost: Vec<Epoch>,
}

/// Which open tasks.
#[derive(Clone, Debug)]
pub enum OpenFilter {
    /// All of them.
    All,
    /// Those that the sweep should look at: [`Task::next_due`] is not after this time, or an epoch
    /// they or their active delegated clients rely on has moved.
    Due(Time),
}

/// Which entries.
#[derive(Clone, Copy, Debug)]
pub enum EntryRange {
    /// From this position on.
    From(u64),
    /// Those of a task, from this `seq` on.
    Of(TaskId, u64),
}

/// An entry as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its position.
    pub pos: u64,
    /// Its leaf bytes.
    pub leaf: String,
    /// Its leaf hash, as stored beside it.
    pub hash: Hash,
    /// Its annex; none when it has none or it was erased.
    pub annex: Option<Annex>,
}

/// A key under which entries are found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchKey {
    /// An owner's name.
    Owner(Name),
    /// A workload's name.
    Workload(Name),
    /// An issuer's name and the `sub` of a proof.
    Subject(Name, String),
    /// An instance.
    Instance(String),
    /// One of the ids that an instance is made of.
    Part(String),
    /// A whole task key, a whole series, or one of the values that make the key.
    Run(String),
    /// A resource's name.
    Resource(Name),
    /// A key's thumbprint.
    Key(Digest),
    /// The SHA-256 of a token's signing input.
    Token(Digest),
    /// The digest of the proof that a client came in by.
    Proof(Digest),
    /// The name of an issuer that vouched, for a task or for the person it acts for: the first entry
    /// of the task; and for a delegated client with a proof of its own: the entry by which it came in.
    Issuer(Name),
    /// A task that an entry is about without being of its chain, uses left out.
    About(TaskId),
    /// A task of whose credentials an entry records a use. A use is found by nothing else: there
    /// may be many, and they must not stand in the way of what is found by workload or resource.
    Uses(TaskId),
}

/// The committed tree of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many entries it has.
    pub size: u64,
    /// Its root (RFC 6962, section 2.1).
    pub root: Hash,
    /// The `at` of its last entry; 1970 when it has none.
    pub at: Time,
}

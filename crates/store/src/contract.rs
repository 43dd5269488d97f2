//! The store contract: what is durable when, in which order, who retries, what each error proves.
//!
//! **One writer per ledger.** Everything that changes durable state goes through one writer that
//! takes what has queued within a short window and commits it in one transaction. For each append
//! of the batch it checks versions, claims, epochs, revision, limits and one-time keys against
//! what the earlier appends of the same batch left; the loser gets its error and the caller
//! decides again. The writer never decides. What [yields](Append::yields) is taken when nobody
//! else waits, and a little of it in every commit.
//!
//! **Durable means answered.** [`Store::append`] answers `Ok` only after the transaction that
//! holds the append is on disk. Until then nothing of it is visible to any read. An answer that
//! never arrives proves nothing: the caller reads again.
//!
//! **Order.** Within a tenant every entry gets the next position; `at` is the greater of the
//! previous entry's `at` and the append's `now`, so it never decreases with the position. It orders
//! and says nothing of what time it is: whether something lives and how many started within an
//! hour is judged by the append's own `now`, so that one entry by a clock that was ahead ends
//! nothing once the clock is right. Reads see committed state only, all of one call at one position.
//!
//! **Errors prove something.** [`AppendError::Conflict`], `Revised`, `Stale`, `Claimed`, `SpentKey`,
//! `TooLarge` and `Unfit`: nothing of the append was written and it never will be. `Unavailable`: nothing was
//! written. `Unknown`: the commit may or may not have happened; the store reloads itself from disk
//! before it takes another append, and the caller reads again. Where several errors hold, any one
//! of them is answered.
//!
//! **Runs that are over.** [`Append::closes`] says that a platform called a run over, or one job of
//! it. Said again it changes nothing, and it is kept as long as a claim of that issuer. Who grants
//! to a run names it in [`Append::asks`]. So a grant and a close of the same run that race leave
//! nothing open: a grant that is recorded after the close is a `Conflict`, and so is a close that
//! comes after a grant it did not see, for it names the open tasks of the attempt that were looked
//! at, each with its version ([`CloseWrite::seen`]), or ends them in the same append. Whoever gets
//! the `Conflict` reads again: the facts of a series hold what of it is closed, beside its claims.
//!
//! **People.** [`Append::people`] says of a person up to when what the person authenticated for is
//! worth nothing: the value of [`EpochOf::Person`], which only grows. It makes no entry, and what
//! relies on it is `Stale` from then on like on any epoch. Said again, or of an earlier time, it
//! changes nothing but how long it is kept; after that the person counts as one of whom nothing
//! was ever said.
//!
//! **Hot tables** hold open tasks, and claims and spent keys within their keep. A day of these is
//! forgotten once both the clock and the last entry have been beyond it for [`SURE`] without a
//! break, and one day at a time, for [`SURE_OF_LEAP`] each, where they are beyond more than one. The
//! append that records a task's end takes it out of them; its history is in the entries. A task that waits for
//! approval is held, listed, counted and ended like an open one, and its first entry is the start
//! that limits count; whether it is live its state says.

mod read;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use dayfly_domain::{
    Block, BlockOn, Cause, Claim, Closed, Digest, Epoch, EpochOf, Event, Limits, Name, Span, Spent,
    Task, TaskId, Time,
};
use dayfly_ledger::Hash;

pub use read::*;

/// A future that answers when the writer has.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Durable state of all tenants of a server. See the module's text for what each method promises.
pub trait Store: Send + Sync + 'static {
    /// Makes an append durable, all or nothing. It is on its way from this call on, or, when the
    /// queue is full, from when the answer is first waited for.
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>>;

    /// Records uses of credentials, each judged at the position it gets: one line of an answer for
    /// each use, in order. Nothing is recorded for a use whose client is over by then.
    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>>;

    /// Notes what makes no entry: beats, proofs shown, and that the server is alive. Seen by reads
    /// at once, durable within about a second, never later than the next append's commit.
    fn touch(&self, tenant: &Name, touch: Touch);

    /// Committed state, all read at one position.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read; never "not found" instead.
    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable>;

    /// Open tasks in order of their ids, after `cursor`.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read.
    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable>;

    /// Committed entries in order of their positions.
    ///
    /// # Errors
    /// [`Unavailable`] when they cannot be read.
    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable>;

    /// Positions of entries under a search key, newest first, below `cursor`, of all that was
    /// committed before the call. An index that follows the commits is waited for within a bound,
    /// and what it lacks then is looked through entry by entry, within another.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read or lags too far.
    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable>;

    /// The committed size of a tenant's ledger and the root of its tree.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read.
    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable>;

    /// The first `width` hashes of a tile of a tenant's tree (C2SP tlog-tiles).
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read, or when the tree holds fewer.
    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable>;
}

/// Everything that one decision changes, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The command's now.
    pub now: Time,
    /// Tasks that change, each at most once.
    pub changes: Vec<Change>,
    /// Entries about no open task, after those of the tasks.
    pub notes: Vec<Note>,
    /// Task keys to claim. The claim of a task that ends is marked by the writer itself.
    pub claims: Vec<ClaimWrite>,
    /// One-time keys to spend.
    pub spends: Vec<Spend>,
    /// Epochs that must not have moved.
    pub relies: Vec<Epoch>,
    /// The revision of the declared state decided under; none where it does not matter, as in ends.
    pub revision: Option<u64>,
    /// A workload's limits, checked again at the position.
    pub limits: Option<(Name, Limits)>,
    /// What must not be blocked; what is means [`AppendError::Conflict`].
    pub unblocked: Vec<BlockOn>,
    /// What must be blocked; what is not means [`AppendError::Conflict`].
    pub blocked: Vec<BlockOn>,
    /// Blocks to set.
    pub blocks: Vec<Block>,
    /// The run that this grants to; one that is closed means [`AppendError::Conflict`].
    pub asks: Option<RunAsked>,
    /// Runs that their platform said are over.
    pub closes: Vec<CloseWrite>,
    /// What people authenticated for and is worth nothing any more.
    pub people: Vec<PersonWrite>,
    /// Blocks to lift.
    pub lifts: Vec<BlockOn>,
    /// Epochs to move on by one; no person's, which are not counted.
    pub moves: Vec<EpochOf>,
    /// Whether the revision of the declared state moves on by one.
    pub revises: bool,
    /// Named blobs to write in the same transaction.
    pub documents: Vec<Document>,
    /// Positions of earlier entries whose annexes are erased, [`ERASED`] at most. The leaf and its
    /// hash stay; the bytes are gone from the file soon after, once no reader holds an older state.
    pub erases: Vec<u64>,
    /// Positions of one bundle, which is written and synced, whose entries the store need not hold
    /// the bytes of any longer: reads find them in the bundle, and their leaf hashes stay. A
    /// conflict where the bundle does not hold what the store does, a task of them is open, or no
    /// entry comes after them.
    pub drops: Option<Range<u64>>,
    /// Whether others go first: what records in the background that which is over already. It gets
    /// its turn in every commit all the same, if no more than one of them in each, and its order
    /// among its like stays.
    pub yields: bool,
}

/// How many annexes one append may erase.
pub const ERASED: usize = 512;

/// One task's change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task.
    pub task: TaskId,
    /// The version decided on; 0 for a task that starts.
    pub expected_version: u64,
    /// What happened, in order; never empty.
    pub events: Vec<Drafted>,
    /// The state after the last event.
    pub next: Task,
}

/// An event to be recorded, and what is kept apart from its leaf.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The event.
    pub event: Event,
    /// JSON of claims, people, addresses, reasons and explanations.
    pub annex: Option<Annex>,
}

/// An annex: bytes that can be erased without touching the leaf, and the salt of their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annex {
    /// Fresh random bytes.
    pub salt: [u8; 16],
    /// JSON text.
    pub data: String,
}

/// An entry about no open task. A task it is about stands in `data.about`.
#[derive(Clone, Debug)]
pub struct Note {
    /// The entry's kind.
    pub kind: &'static str,
    /// JSON object text.
    pub data: String,
    /// What is kept apart from the leaf.
    pub annex: Option<Annex>,
}

/// Claims a task key for a task.
#[derive(Clone, Debug)]
pub struct ClaimWrite {
    /// Who vouches for the key.
    pub issuer: Name,
    /// The series that the key belongs to.
    pub series: String,
    /// The claim, whose state is open.
    pub claim: Claim,
    /// The task that holds the claim of this workload and key now and gives it up; none when
    /// nothing may hold it. Anything else is [`AppendError::Claimed`].
    pub replaces: Option<TaskId>,
    /// Until when the claim is kept at least, and never for less than its task's deadline.
    pub until: Time,
}

/// A run that asks for something.
#[derive(Clone, Debug)]
pub struct RunAsked {
    /// Who vouches for it.
    pub issuer: Name,
    /// The series that it belongs to.
    pub series: String,
    /// Which attempt it is, where the platform counts them.
    pub attempt: Option<u64>,
    /// Which job, pod or process of it.
    pub instance: String,
}

/// Closes a run, or one job of it.
#[derive(Clone, Debug)]
pub struct CloseWrite {
    /// Who vouches for the run.
    pub issuer: Name,
    /// The series that it belongs to.
    pub series: String,
    /// What of it is over.
    pub closed: Closed,
    /// The open tasks of the attempt that were looked at, with their versions, and that go on. One
    /// that is neither among them nor changed by the append, or that goes on although the whole
    /// attempt is over, means [`AppendError::Conflict`].
    pub seen: Vec<(TaskId, u64)>,
    /// Until when it is kept at least.
    pub until: Time,
}

/// Says of a person up to when what that person authenticated for is worth nothing.
#[derive(Clone, Debug)]
pub struct PersonWrite {
    /// The person, by pseudonym.
    pub person: Digest,
    /// What is said.
    pub over: PersonOver,
    /// Until when it is kept at least.
    pub until: Time,
}

/// What was said of a person, of all that was said what reaches furthest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonOver {
    /// Up to when what the person authenticated for is worth nothing: the value of the epoch.
    pub upto: Time,
    /// When it was first heard.
    pub at: Time,
    /// By whose word, for whoever explains the ends that follow.
    pub said: String,
}

/// Spends a one-time key.
#[derive(Clone, Debug)]
pub struct Spend {
    /// Which key.
    pub key: OneTimeKey,
    /// Who spends it.
    pub by: Spent,
}

/// A key that may be used once: a platform's proof, a DPoP proof or a client's assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OneTimeKey {
    /// SHA-256 of what makes it one, its kind included.
    pub digest: Digest,
    /// A time that the proof itself fixes (its `iat`, else `exp`), so that the same proof always
    /// names the same; keys of one time lie together.
    pub at: Time,
    /// Until when it is kept: computed from the proof's own times too, never from now. Once the day
    /// (UTC) of this is forgotten, the key is [`AppendError::Unfit`]: nobody knows whether it was
    /// spent.
    pub until: Time,
}

/// A named blob: wrapped keys, revisions of the declared state, the last head handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name, like `key/<kid>`.
    pub name: String,
    /// Its bytes; none deletes it.
    pub bytes: Option<Vec<u8>>,
}

/// An append that is durable. Only the store makes one.
#[derive(Clone, Debug)]
pub struct Committed {
    pub(crate) at: Time,
    pub(crate) size: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) positions: Vec<u64>,
}

impl Committed {
    /// The `at` of its entries.
    #[must_use]
    pub const fn at(&self) -> Time {
        self.at
    }

    /// The size of the tenant's ledger that holds it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The changes, as they were recorded.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The positions of its entries: those of each change in order, then those of the notes.
    #[must_use]
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }
}

/// Why an append is not durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// A task has another version or its id was used before, a limit was reached, the series of a
    /// claim has moved on: a higher attempt is there, or a lower one would stay open; or a run is
    /// closed, or has an open task that its close did not see. Read and decide again.
    Conflict,
    /// The declared state has another revision: load it and decide again.
    Revised,
    /// Rights that the decision relied on were taken away: refuse.
    Stale(EpochOf),
    /// The key is claimed.
    Claimed {
        /// By this task.
        by: TaskId,
    },
    /// A one-time key is spent.
    SpentKey {
        /// Which of the append's keys, by its place.
        which: usize,
        /// By this grant.
        by: Spent,
    },
    /// An entry's leaf would be larger than 8 KiB.
    TooLarge,
    /// No ledger holds it as it is, however often it is tried: the store is well. A one-time key of a
    /// day that is forgotten is refused with this too.
    Unfit(Unavailable),
    /// Nothing was written.
    Unavailable(Unavailable),
    /// It may or may not have been written.
    Unknown(Unavailable),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the task has changed meanwhile"),
            Self::Revised => f.write_str("the declared state has changed meanwhile"),
            Self::Stale(of) => write!(f, "rights were taken away: {of:?}"),
            Self::Claimed { by } => write!(f, "the task key is claimed by {by}"),
            Self::SpentKey { by, .. } => write!(f, "a one-time key was spent by {}", by.task),
            Self::TooLarge => f.write_str("an entry is larger than a leaf may be"),
            Self::Unfit(why) => write!(f, "the append cannot be written: {why}"),
            Self::Unavailable(why) => write!(f, "nothing was recorded: {why}"),
            Self::Unknown(why) => write!(f, "it is not known whether it was recorded: {why}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// The store cannot answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// What is noted without an entry; nothing for a tenant that has no entries yet.
#[derive(Clone, Debug)]
pub enum Touch {
    /// A root client was heard.
    Beat {
        /// The task.
        task: TaskId,
        /// When.
        at: Time,
    },
    /// A proof of a claimed or closed series was shown, granted or not: its claims, and what of it
    /// is closed, are kept until then.
    Claim {
        /// Who vouches.
        issuer: Name,
        /// The series.
        series: String,
        /// Until when.
        until: Time,
    },
    /// The server judges that it did not hear well in this span: no silence counts in it.
    Deaf {
        /// From when.
        from: Time,
        /// Until when.
        to: Time,
    },
    /// It is no later than this: what was heard after it, and that nothing could be heard, was said
    /// by a clock that was ahead, and counts up to this time alone.
    Clock {
        /// What the clock says.
        at: Time,
    },
    /// The server is there to hear. A gap of more than five seconds between two of these, a
    /// restart included, is time in which no beat could be heard.
    Alive {
        /// When.
        at: Time,
    },
}

/// A use of a credential, to be recorded.
#[derive(Clone, Debug)]
pub struct Use {
    /// Whose.
    pub client: dayfly_domain::ClientId,
    /// When.
    pub now: Time,
    /// Epochs that must not have moved.
    pub relies: Vec<Epoch>,
    /// The revision of the declared state decided under; none where it does not matter.
    pub revision: Option<u64>,
    /// What must not be blocked.
    pub unblocked: Vec<BlockOn>,
    /// The one-time key of the proof that it was shown with. Uses of one call may name the same:
    /// they were shown together, and all of them spend it.
    pub spend: Option<Spend>,
    /// A counter that must stay below its bound, and is raised by one.
    pub limit: Option<UseLimit>,
    /// The entry to record, without a task's chain: `use.allowed` or `use.denied`.
    pub note: Note,
}

/// A counter of uses within a client's life.
#[derive(Clone, Debug)]
pub struct UseLimit {
    /// Its name within the client.
    pub counter: String,
    /// How many uses there may be.
    pub most: u64,
}

/// What became of a use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is recorded, at this position.
    Recorded(u64),
    /// Its task or client is over. One that the ledger does not know was cut off by a restore.
    Ended(Cause),
    /// Rights were taken away.
    Stale(EpochOf),
    /// The declared state has another revision: load it and decide again.
    Revised,
    /// A block stands in its way that was none when it was decided.
    Blocked(BlockOn),
    /// Its counter is at its bound.
    Exhausted,
    /// Its one-time key was spent before, by this.
    Spent(Spent),
    /// Its one-time key is of a day that is forgotten: nobody knows whether it was spent.
    Forgotten,
}

/// What spends a key that belongs to no task: a resource's own assertion.
pub const NOBODY: Spent = Spent {
    task: TaskId([0; 16]),
    client: 0,
};

/// For how long the clock and the ledger have to say that a day is over before it is forgotten: by
/// then somebody has set a clock right that was wrong.
pub const SURE: Span = Span::from_seconds(3600);

/// The same where they are beyond more than the one day that is next to be forgotten: a clock that
/// is days ahead says so, and a ledger that slept for days. Then one day goes at a time, each after
/// so long: fewer than three a day while a clock is wrong, and enough to catch up after a sleep.
pub const SURE_OF_LEAP: Span = Span::from_seconds(8 * 3600);

/// After how many days in a row of which nothing is kept a ledger has slept, or is new: these are
/// forgotten together.
const EMPTY_DAYS: u64 = 64;

/// The day up to which a store forgets next, where `passed` is over: by the day up to which it has
/// forgotten, and the first day of which it keeps anything.
pub(crate) fn forgets_up_to(forgotten: u64, passed: u64, first: Option<u64>) -> u64 {
    let slept = first.filter(|first| *first > forgotten + EMPTY_DAYS);
    slept.unwrap_or(forgotten + 1).min(passed)
}

/// For how long a day has to be over before it is forgotten.
pub(crate) const fn sure_after(forgotten: u64, passed: u64) -> Span {
    if passed > forgotten + 1 {
        SURE_OF_LEAP
    } else {
        SURE
    }
}

/// How long a gap between two [`Touch::Alive`] may be before it counts as deafness.
pub const ALIVE_GAP: Span = Span::from_seconds(5);

//! Why rights were taken away: what is kept of each move of an epoch, for the ends that follow it.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Cause, Digest, Epoch, EpochOf, Event, Moved, Name, Refusal, Time};
use dayfly_store::{
    Annex, Document, EntryRange, FactsQuery, OpenTask, PersonOver, Store, Unavailable,
};
use serde::{Deserialize, Serialize};

use super::ending::{by_entry, by_word};
use super::refuse::unavailable;
use super::{App, Tenant};
use crate::record::is_note;

/// The documents of moves begin so; what follows is whose epoch it is.
const MOVED: &str = "moved/";
/// How many moves of one epoch are kept. A task is swept within seconds of the first that concerns
/// it, so that only the last few are ever asked for.
const KEPT: usize = 8;
/// How many entries are looked at for that of a move: far more than are committed while one append
/// is decided and written.
const LOOKED_AT: u64 = 16_384;
const PAGE: usize = 256;

/// One move of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    /// The value that it moved to.
    to: u64,
    cause: Cause,
    at: Time,
    /// Where who and why stand; none for moves from before that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<NoteOf>,
}

/// Where the entry of a move is found. Its own position is not known while the document that names
/// it is written: both are of one append.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct NoteOf {
    /// Its kind.
    pub(super) kind: String,
    /// What it stands on, where it says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<String>,
    /// It is the first of these from this position on.
    pub(super) from: u64,
}

/// Why a task or client is over already: the move that took its rights first, and where it stands by
/// whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) moved: Moved,
    why: Option<Why>,
}

/// Where it stands by whom rights were taken and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody who is no person here said this.
    Word(String),
    /// The annex of the entry at this position says it. It is named and not repeated: an erasure of
    /// it is one of all.
    Entry(u64),
}

/// What rights were taken from already when somebody ends a task or clients of it by hand: what came
/// first names the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Over {
    /// The first move that took rights from the task.
    pub(super) moved: Option<Moved>,
    /// The clients that lost rights of their own, each with the first move that took some.
    pub(super) fallen: Vec<(u32, Moved)>,
}

impl Over {
    /// Whether an event that somebody's end comes to at this time records what was over before it: by
    /// itself, or because rights were taken away.
    fn explains(&self, open: &OpenTask, event: &Event, now: Time) -> bool {
        match event {
            Event::TaskEnded(_) => open.task.over(now, open.heard, self.moved).is_some(),
            Event::ClientEnded(ended) => self.fallen.iter().any(|(of, _)| *of == ended.client),
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
            | Event::CredentialIssued(_)
            | Event::CredentialRevoked(_) => false,
        }
    }
}

impl NoteOf {
    /// Where the entry lies. It was appended right after the ledger was `from` long: only what was
    /// committed in that moment lies before it.
    fn position(&self, store: &dyn Store, tenant: &Name) -> Result<Option<u64>, Unavailable> {
        let upto = self.from + LOOKED_AT;
        let mut from = self.from;
        while from < upto {
            let page = store.entries(tenant, EntryRange::From(from), PAGE)?;
            let Some(last) = page.last() else { break };
            from = last.pos + 1;
            for entry in &page {
                let is_it = is_note(entry, &self.kind, self.on.as_deref());
                if is_it.map_err(|why| Unavailable(why.to_string()))? {
                    return Ok(Some(entry.pos));
                }
            }
        }
        Ok(None)
    }
}

impl Taken {
    /// The annex of what is recorded after it: none where the task was over before by another cause.
    pub(super) fn annex_of(&self, event: &Event) -> Result<Option<Annex>, Refusal> {
        let ended = match event {
            Event::TaskEnded(ended) => Some(ended.cause),
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
            | Event::CredentialIssued(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_) => None,
        };
        let why = self
            .why
            .as_ref()
            .filter(|_| ended == Some(self.moved.cause));
        why.map(Why::annex).transpose()
    }
}

impl Why {
    /// The annex of an end that came of it.
    pub(super) fn annex(&self) -> Result<Annex, Refusal> {
        match self {
            Self::Word(said) => by_word(said),
            Self::Entry(pos) => by_entry(*pos),
        }
    }
}

/// The moves that are kept of a tenant's epochs.
#[derive(Debug, Default)]
pub(super) struct Moves {
    counted: BTreeMap<String, Vec<Move>>,
    /// What was said of people, where somebody asked for it.
    people: BTreeMap<Digest, PersonOver>,
    /// The positions of the entries that say why, where somebody asked for them.
    noted: BTreeMap<NoteOf, u64>,
}

impl Moves {
    /// Those that a read of the documents below [`Moves::documents`] has found.
    pub(super) fn of(documents: &[(String, Vec<u8>)]) -> Result<Self, Unavailable> {
        documents
            .iter()
            .filter(|(name, _)| name.starts_with(MOVED))
            .map(|(name, bytes)| {
                let moves = serde_json::from_slice(bytes)
                    .map_err(|why| Unavailable(format!("`{name}` cannot be read: {why}")))?;
                Ok((name.clone(), moves))
            })
            .collect::<Result<_, _>>()
            .map(|counted| Self {
                counted,
                ..Self::default()
            })
    }

    /// By whom and why an event ends a task or client, where the move that it names as the cause says
    /// it.
    pub(super) fn why(&self, open: &OpenTask, event: &Event) -> Option<Why> {
        match event {
            Event::TaskEnded(ended) => {
                let relied = open.stale.as_ref().map(|_| &open.task.epochs)?;
                self.why_of(relied, ended.cause)
            }
            // A client that ends by what its task has kept ends by what took its own rights.
            Event::ClientEnded(ended) => {
                let own = open.task.client(ended.client)?.own.as_ref()?;
                let lost = own.epochs.iter().any(|epoch| open.lost.contains(epoch));
                lost.then(|| self.why_of(&own.epochs, ended.cause))?
            }
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
            | Event::CredentialIssued(_)
            | Event::CredentialRevoked(_) => None,
        }
    }

    /// The same of each of these events, in their order.
    pub(super) fn whys(&self, open: &OpenTask, events: &[Event]) -> Vec<Option<Why>> {
        events.iter().map(|event| self.why(open, event)).collect()
    }

    /// The annex of an event that somebody's end comes to at this time: their own, and of what was over
    /// before that of whoever ended it, where there was somebody and it is known who.
    pub(super) fn annex(
        &self,
        (open, over): (&OpenTask, &Over),
        event: &Event,
        now: Time,
        own: impl FnOnce() -> Result<Annex, Refusal>,
    ) -> Result<Option<Annex>, Refusal> {
        match self.why(open, event) {
            Some(why) => why.annex().map(Some),
            None if over.explains(open, event, now) => Ok(None),
            None => own().map(Some),
        }
    }

    /// What is kept of the move that took these rights first, where it is this cause.
    fn why_of(&self, relied: &[Epoch], cause: Cause) -> Option<Why> {
        let (epoch, moved) = self.earliest(relied)?;
        if moved.cause != cause {
            return None;
        }
        match epoch.person() {
            Some(person) => Some(Why::Word(self.people.get(&person)?.said.clone())),
            None => {
                let note = self.counted_move(epoch)?.note.as_ref()?;
                self.noted.get(note).copied().map(Why::Entry)
            }
        }
    }

    /// Where the first moves that took rights from these tasks say why.
    fn notes_of(&self, open: &[OpenTask]) -> BTreeSet<NoteOf> {
        let stale = open.iter().filter(|open| open.stale.is_some());
        let whole = stale.map(|open| open.task.epochs.as_slice());
        let lost = open.iter().filter(|open| !open.lost.is_empty());
        let own = lost
            .flat_map(|open| &open.task.clients)
            .filter(|client| client.is_active())
            .filter_map(|client| Some(client.own.as_ref()?.epochs.as_slice()));
        whole
            .chain(own)
            .filter_map(|relied| self.counted_move(self.earliest(relied)?.0)?.note.clone())
            .collect()
    }

    /// Finds the entries of the first moves that took rights from these tasks.
    pub(super) fn look_up_notes(
        &mut self,
        store: &dyn Store,
        tenant: &Name,
        open: &[OpenTask],
    ) -> Result<(), Unavailable> {
        for note in self.notes_of(open) {
            if let Some(pos) = note.position(store, tenant)? {
                self.noted.insert(note, pos);
            }
        }
        Ok(())
    }

    /// The epoch among these that moved first.
    fn earliest<'a>(&self, relied: &'a [Epoch]) -> Option<(&'a Epoch, Moved)> {
        relied
            .iter()
            .filter_map(|epoch| Some((epoch, self.of_epoch(epoch)?)))
            .min_by_key(|(_, moved)| moved.at)
    }

    /// The same with moves that are held until the ledger can record them.
    fn with_held(mut self, held: Vec<(EpochOf, Moved)>) -> Self {
        for (of, Moved { cause, at }) in held {
            // Every value of before is below what it will move to.
            let to = u64::MAX;
            let moves = self.counted.entry(document(&of)).or_default();
            moves.push(Move {
                to,
                cause,
                at,
                // The ledger has no entry of it yet.
                note: None,
            });
        }
        self
    }

    /// Whether a move of this epoch at this time by this cause is among them.
    pub(super) fn holds(&self, of: &EpochOf, cause: Cause, at: Time) -> bool {
        let moves = self.counted.get(&document(of)).map(Vec::as_slice);
        let mut moves = moves.unwrap_or_default().iter();
        moves.any(|moved| moved.cause == cause && moved.at == at)
    }

    /// Where the moves of all epochs are kept, and with them to whom workloads were handed over:
    /// whoever stops an owner reads both at one position.
    pub(super) const fn documents() -> &'static str {
        "moved"
    }

    /// The document that keeps one more move of an epoch, from the value it has now, and where the
    /// entry that goes with it is found.
    pub(super) fn with(
        &self,
        epoch: &Epoch,
        cause: Cause,
        at: Time,
        note: Option<NoteOf>,
    ) -> Document {
        let name = document(&epoch.of);
        let mut moves = self.counted.get(&name).cloned().unwrap_or_default();
        moves.push(Move {
            to: epoch.at + 1,
            cause,
            at,
            note,
        });
        let surplus = moves.len().saturating_sub(KEPT);
        moves.drain(..surplus);
        Document {
            name,
            // INVARIANT: numbers and words have no value that JSON cannot write.
            bytes: Some(serde_json::to_vec(&moves).unwrap_or_default()),
        }
    }

    /// The first move that took rights from a task; none while it has all that it relied on.
    pub(super) fn first(&self, open: &OpenTask, now: Time) -> Option<Moved> {
        let stale = open.stale.as_ref()?;
        Some(self.first_of(&open.task.epochs, stale, now))
    }

    /// The same, and where it stands by whom and why.
    pub(super) fn taken(&self, open: &OpenTask, now: Time) -> Option<Taken> {
        let moved = self.first(open, now)?;
        let why = self.why_of(&open.task.epochs, moved.cause);
        Some(Taken { moved, why })
    }

    /// What rights were taken from in a task, whether an entry says so already or not.
    pub(super) fn over(&self, open: &OpenTask, now: Time) -> Over {
        Over {
            moved: self.first(open, now),
            fallen: self.fallen(open, now),
        }
    }

    /// The active delegated clients that lost rights of their own, each with the first move that
    /// took some.
    pub(super) fn fallen(&self, open: &OpenTask, now: Time) -> Vec<(u32, Moved)> {
        if open.lost.is_empty() {
            return Vec::new();
        }
        let own = (1u32..)
            .zip(&open.task.clients)
            .filter(|(_, client)| client.is_active())
            .filter_map(|(number, client)| Some((number, client.own.as_ref()?)));
        own.filter_map(|(number, own)| {
            let lost = own.epochs.iter().find(|epoch| open.lost.contains(epoch))?;
            Some((number, self.first_of(&own.epochs, &lost.of, now)))
        })
        .collect()
    }

    /// The first move that concerns whoever relied on this epoch.
    fn of_epoch(&self, epoch: &Epoch) -> Option<Moved> {
        if let Some(person) = epoch.person() {
            let over = self.people.get(&person);
            let over = over.filter(|over| epoch.is_lost(over.upto.millis()))?;
            return Some(Moved {
                cause: Cause::Upstream,
                at: over.at,
            });
        }
        let moved = self.counted_move(epoch)?;
        Some(Moved {
            cause: moved.cause,
            at: moved.at,
        })
    }

    fn counted_move(&self, epoch: &Epoch) -> Option<&Move> {
        let moves = self.counted.get(&document(&epoch.of))?;
        moves.iter().find(|moved| moved.to > epoch.at)
    }

    fn first_of(&self, relied: &[Epoch], stale: &EpochOf, now: Time) -> Moved {
        match self.earliest(relied) {
            Some((_, moved)) => moved,
            // Nothing is kept of it: the epoch's owner still names the end.
            None => Moved {
                cause: usual_cause(stale),
                at: now,
            },
        }
    }
}

/// The document of a move that a restore makes, before there is a tenant that is served.
pub(crate) fn restored_moves(
    store: &dyn Store,
    tenant: &Name,
    epoch: &Epoch,
    at: Time,
    from: u64,
) -> Result<Document, Unavailable> {
    let query = FactsQuery {
        documents: Some(MOVED),
        ..FactsQuery::default()
    };
    let moves = Moves::of(&store.facts(tenant, &query)?.documents)?;
    let note = NoteOf {
        kind: "ledger.restored".to_owned(),
        on: None,
        from,
    };
    Ok(moves.with(epoch, Cause::Restored, at, Some(note)))
}

impl App {
    /// Why rights were taken away, where any of these tasks lost some.
    pub(super) fn moves_of(
        &self,
        tenant: &Tenant,
        open: &[OpenTask],
    ) -> Result<Moves, Unavailable> {
        let has_rights = |open: &OpenTask| open.stale.is_none() && open.lost.is_empty();
        if open.iter().all(has_rights) {
            return Ok(Moves::default());
        }
        let mut moves = self.moves(tenant)?;
        // Which of them moved first is to be found among all that a task relies on.
        let stale = open.iter().filter(|open| open.stale.is_some());
        let stale = stale
            .flat_map(|open| &open.task.epochs)
            .filter_map(Epoch::person);
        let lost = open
            .iter()
            .flat_map(|open| &open.lost)
            .filter_map(Epoch::person);
        for person in stale.chain(lost) {
            if moves.people.contains_key(&person) {
                continue;
            }
            let query = FactsQuery {
                person: Some(&person),
                ..FactsQuery::default()
            };
            let said = self.store.facts(tenant.name(), &query)?.person;
            moves.people.extend(said.map(|over| (person, over)));
        }
        moves.look_up_notes(self.store.as_ref(), tenant.name(), open)?;
        Ok(moves)
    }

    /// The same of one task.
    pub(super) fn moves_of_one(&self, tenant: &Tenant, open: &OpenTask) -> Result<Moves, Refusal> {
        let moves = self.moves_of(tenant, std::slice::from_ref(open));
        moves.map_err(|why| unavailable(&why))
    }

    fn moves(&self, tenant: &Tenant) -> Result<Moves, Unavailable> {
        let query = FactsQuery {
            documents: Some(MOVED),
            ..FactsQuery::default()
        };
        let moves = Moves::of(&self.store.facts(tenant.name(), &query)?.documents)?;
        Ok(moves.with_held(self.held.moves(tenant.name())))
    }
}

fn document(of: &EpochOf) -> String {
    match of {
        EpochOf::Tenant => format!("{MOVED}tenant"),
        EpochOf::Issuer(name) => format!("{MOVED}issuer/{name}"),
        EpochOf::Owner(name) => format!("{MOVED}owner/{name}"),
        EpochOf::Workload(name) => format!("{MOVED}workload/{name}"),
        // Never written: what is said of people is no document.
        EpochOf::Person(person) => format!("{MOVED}person/{person}"),
    }
}

/// What the end of a task is called when nothing else is known of the move.
const fn usual_cause(of: &EpochOf) -> Cause {
    match of {
        EpochOf::Tenant => Cause::Operator,
        EpochOf::Issuer(_) => Cause::IssuerRemoved,
        EpochOf::Owner(_) => Cause::OwnerOffboarded,
        EpochOf::Workload(_) => Cause::WorkloadDisabled,
        EpochOf::Person(_) => Cause::Upstream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_moves_are_kept_and_no_more() {
        let of = EpochOf::Owner("team".parse().unwrap());
        let mut moves = Moves::default();
        for at in 0..20 {
            let epoch = Epoch { of: of.clone(), at };
            let document = moves.with(&epoch, Cause::OwnerOffboarded, Time::from_seconds(at), None);
            moves = Moves::of(&[(document.name, document.bytes.unwrap())]).unwrap();
        }
        let kept: Vec<u64> = moves.counted["moved/owner/team"]
            .iter()
            .map(|m| m.to)
            .collect();
        assert_eq!(kept, (13..=20).collect::<Vec<u64>>());
    }
}

//! Why rights were taken away: what is kept of each move of an epoch, for the ends that follow it.

use std::collections::BTreeMap;

use dayfly_domain::{Cause, Digest, Epoch, EpochOf, Event, Moved, Name, Refusal, Time};
use dayfly_store::{Document, FactsQuery, OpenTask, PersonOver, Store, Unavailable};
use serde::{Deserialize, Serialize};

use super::refuse::unavailable;
use super::{App, Tenant};

/// The documents of moves begin so; what follows is whose epoch it is.
const MOVED: &str = "moved/";
/// How many moves of one epoch are kept. A task is swept within seconds of the first that concerns
/// it, so that only the last few are ever asked for.
const KEPT: usize = 8;

/// One move of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    /// The value that it moved to.
    to: u64,
    cause: Cause,
    at: Time,
}

/// The moves that are kept of a tenant's epochs.
#[derive(Debug, Default)]
pub(super) struct Moves {
    counted: BTreeMap<String, Vec<Move>>,
    /// What was said of people, where somebody asked for it.
    people: BTreeMap<Digest, PersonOver>,
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
                people: BTreeMap::new(),
            })
    }

    /// By whose word these events end a task or client, where the move that they name as the cause
    /// is a word about a person.
    pub(super) fn said(&self, open: &OpenTask, events: &[Event]) -> Option<&str> {
        let ended = events.iter().find_map(|event| match event {
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
        });
        if let Some(cause) = ended.filter(|_| open.stale.is_some()) {
            return self.word_of(&open.task.epochs, cause);
        }
        // A client that ends by what its task has kept ends by a word about its own person.
        events.iter().find_map(|event| match event {
            Event::ClientEnded(ended) => {
                let own = open.task.client(ended.client)?.own.as_ref()?;
                let lost = own.epochs.iter().any(|epoch| open.lost.contains(epoch));
                lost.then(|| self.word_of(&own.epochs, ended.cause))?
            }
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
            | Event::CredentialIssued(_)
            | Event::CredentialRevoked(_)
            | Event::TaskEnded(_) => None,
        })
    }

    /// What was said of a person, where that took these rights first and is this cause.
    fn word_of(&self, relied: &[Epoch], cause: Cause) -> Option<&str> {
        let (epoch, moved) = self.earliest(relied)?;
        let over = self.people.get(&epoch.person()?)?;
        (moved.cause == cause).then_some(&over.said)
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
            moves.push(Move { to, cause, at });
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

    /// The document that keeps one more move of an epoch, from the value it has now.
    pub(super) fn with(&self, epoch: &Epoch, cause: Cause, at: Time) -> Document {
        let name = document(&epoch.of);
        let mut moves = self.counted.get(&name).cloned().unwrap_or_default();
        moves.push(Move {
            to: epoch.at + 1,
            cause,
            at,
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
        let moves = self.counted.get(&document(&epoch.of))?;
        let moved = moves.iter().find(|moved| moved.to > epoch.at)?;
        Some(Moved {
            cause: moved.cause,
            at: moved.at,
        })
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
    cause: Cause,
    at: Time,
) -> Result<Document, Unavailable> {
    let query = FactsQuery {
        documents: Some(MOVED),
        ..FactsQuery::default()
    };
    let moves = Moves::of(&store.facts(tenant, &query)?.documents)?;
    Ok(moves.with(epoch, cause, at))
}

impl App {
    /// Why an open task is over by rights that were taken away; none where none were.
    pub(super) fn moved(&self, tenant: &Tenant, open: &OpenTask) -> Result<Option<Moved>, Refusal> {
        if open.stale.is_none() {
            return Ok(None);
        }
        let moves = self.moves_of(tenant, std::slice::from_ref(open));
        let moves = moves.map_err(|why| unavailable(&why))?;
        Ok(moves.first(open, self.now()))
    }

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
        Ok(moves)
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
            let document = moves.with(&epoch, Cause::OwnerOffboarded, Time::from_seconds(at));
            moves = Moves::of(&[(document.name, document.bytes.unwrap())]).unwrap();
        }
        let kept: Vec<u64> = moves.counted["moved/owner/team"]
            .iter()
            .map(|m| m.to)
            .collect();
        assert_eq!(kept, (13..=20).collect::<Vec<u64>>());
    }
}

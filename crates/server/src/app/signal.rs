//! Ends by the word of a person's provider: what the person authenticated for up to then is worth nothing any more.

use dayfly_domain::{Block, BlockOn, Digest, Epoch, EpochOf, Refusal, Span, Time};
use dayfly_store::{
    Append, AppendError, Facts, FactsQuery, Note, PersonOver, PersonWrite, Unavailable,
};
use dayfly_token::hash::sha256_of_parts;
use serde_json::json;

use super::end::ATTEMPTS;
use super::ending::by_word;
use super::held::Acknowledged;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::verify::VerifiedSignal;
use crate::verify::signal::{LONGEST_LATE_SECONDS, Over};

/// How long it is kept up to when what a person authenticated for is worth nothing: longer than any
/// authentication is fresh enough to be shown, and anything that came of it open.
const KEPT: Span = Span::from_seconds(3 * 86_400);
/// How long it is kept which word has barred a person: longer than that word may come again.
const BAR_KEPT: Span = Span::from_seconds(LONGEST_LATE_SECONDS + 2 * 86_400);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// It says nothing that ends anything.
    Ignored,
    /// It was known, or a word that reaches further.
    Known,
    /// What the person authenticated for is over.
    Over {
        /// Whether that outlives this process; it is obeyed in any case.
        recorded: bool,
    },
}

impl App {
    /// Ends what a person authenticated for, in one append whatever came of it, and bars the person
    /// where the account is gone. Said again it does nothing, and the order in which things are said
    /// does not matter.
    ///
    /// # Errors
    /// The refusal: neither ledger nor journal can take it.
    pub async fn signal(
        &self,
        tenant: &Tenant,
        signal: &VerifiedSignal,
        trail: &Trail,
    ) -> Result<Signalled, Refused> {
        let Some(over) = signal.over() else {
            return Ok(Signalled::Ignored);
        };
        let done = self.try_signal(tenant, over).await;
        done.map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    async fn try_signal(&self, tenant: &Tenant, over: &Over) -> Result<Signalled, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = self.now();
            // Whoever was not heard while the server slept has not fallen silent.
            self.wake(now);
            let epochs = [EpochOf::Person(over.person), barred_by(over.person)];
            let query = FactsQuery {
                epochs: &epochs,
                ..FactsQuery::default()
            };
            let facts = match self.store.facts(tenant.name(), &query) {
                Ok(facts) => facts,
                Err(why) => return self.signal_unread(tenant, over, now, why).await,
            };
            let Some(append) = append(over, &facts, now)? else {
                return Ok(self.known());
            };
            match self.held.end_of_person(tenant.name(), append).await {
                Ok(done) => return Ok(Signalled::of(&done)),
                // The same word came twice at once.
                Err(AppendError::Stale(_)) => {}
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the person did not stand still"))
    }

    /// Obeys it although nothing can be read.
    async fn signal_unread(
        &self,
        tenant: &Tenant,
        over: &Over,
        now: Time,
        why: Unavailable,
    ) -> Result<Signalled, Refusal> {
        let Some(append) = append(over, &Facts::default(), now)? else {
            return Ok(self.known());
        };
        let held = self.held.hold_of_person(tenant.name(), &append, why);
        let done = held.await.map_err(|why| unavailable(&why))?;
        Ok(done.as_ref().map_or_else(|| self.known(), Signalled::of))
    }

    /// Whether the clock has jumped and not settled: what is judged by it is not judged for good.
    pub(crate) fn has_jumped(&self) -> bool {
        self.held.jump().is_some()
    }

    /// What is known may be obeyed alone: whoever says it must keep it until it is kept here.
    fn known(&self) -> Signalled {
        if self.held.is_durable() {
            Signalled::Known
        } else {
            Signalled::Over { recorded: false }
        }
    }
}

impl Signalled {
    const fn of(done: &Acknowledged) -> Self {
        Self::Over {
            recorded: done.is_durable(),
        }
    }
}

/// Under what is kept which word has barred a person. Nothing relies on it but the next such word:
/// one that was obeyed, and whose block was lifted since, sets no block again.
pub(super) fn barred_by(person: Digest) -> EpochOf {
    EpochOf::Person(Digest(sha256_of_parts(&[b"barred\0", &person.0])))
}

/// What is to be recorded; none where all of it is known.
fn append(over: &Over, facts: &Facts, now: Time) -> Result<Option<Append>, Refusal> {
    let value = |of: &EpochOf| {
        let found = facts.epochs.iter().find(|epoch| epoch.of == *of);
        found.map_or(0, |epoch| epoch.at)
    };
    let word = |person, until| PersonWrite {
        person,
        over: PersonOver {
            upto: over.upto,
            at: now,
            said: over.said.clone(),
        },
        until: now + until,
    };
    let upto = over.upto.millis();
    let mut append = Append {
        now,
        ..Append::default()
    };
    if value(&EpochOf::Person(over.person)) < upto {
        append.people.push(word(over.person, KEPT));
    }
    let bar = barred_by(over.person);
    if over.bars
        && value(&bar) < upto
        && let EpochOf::Person(mark) = bar
    {
        append.relies.push(Epoch::of_person(mark, over.upto));
        append.people.push(word(mark, BAR_KEPT));
        let on = BlockOn::Person(over.person);
        if facts.blocks.iter().all(|block| block.on != on) {
            append.notes.push(Note {
                kind: "block.set",
                data: json!({"on": on.to_string()}).to_string(),
                annex: Some(by_word(&over.said)?),
            });
            append.blocks.push(Block {
                on,
                task: None,
                since: now,
            });
        }
    }
    Ok((!append.people.is_empty()).then_some(append))
}

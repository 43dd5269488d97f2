//! Ends by the word of a person's provider: what the person authenticated for up to then is worth nothing any more.

use dayfly_domain::{Block, BlockOn, Digest, Epoch, EpochOf, Refusal, Span, Time};
use dayfly_store::{
    Append, AppendError, Facts, FactsQuery, Note, PersonOver, PersonWrite, Unavailable,
};
use dayfly_token::hash::sha256_of_parts;
use serde_json::json;

use super::end::ATTEMPTS;
use super::ending::by_word;
use super::held::{Part, Said, Word};
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
    /// The refusal: the ledger cannot take it, and more people are held than the transmitter has a
    /// part for.
    pub async fn signal(
        &self,
        tenant: &Tenant,
        signal: &VerifiedSignal,
        trail: &Trail,
    ) -> Result<Signalled, Refused> {
        let Some(over) = signal.over() else {
            return Ok(Signalled::Ignored);
        };
        let done = self.try_signal(tenant, signal, over).await;
        done.map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    async fn try_signal(
        &self,
        tenant: &Tenant,
        signal: &VerifiedSignal,
        over: &Over,
    ) -> Result<Signalled, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = self.now();
            // Whoever was not heard while the server slept has not fallen silent.
            self.wake(now);
            let mut word = word(tenant, signal, over, now);
            let query = FactsQuery {
                epochs: &epochs(&word),
                ..FactsQuery::default()
            };
            let facts = match self.store.facts(tenant.name(), &query) {
                Ok(facts) => facts,
                Err(why) => return self.hold_word(tenant, &word, why).await,
            };
            let Some(append) = append(&word, &facts)? else {
                if self.held.keeps(tenant.name(), &word.person) {
                    return Ok(Signalled::Known);
                }
                // It is obeyed, but what is obeyed may be lost: it has a part of its own as well.
                return self.hold_word(tenant, &word, waits()).await;
            };
            match self.store.append(tenant.name(), append).await {
                Ok(_) => return Ok(Signalled::Over { recorded: true }),
                Err(AppendError::Unavailable(why) | AppendError::Unknown(why)) => {
                    // One that has barred already may have been lifted since.
                    if has_barred(&word, &facts) {
                        word.barred = None;
                    }
                    return self.hold_word(tenant, &word, why).await;
                }
                // The same word came twice at once, or what bars the person was lifted meanwhile.
                Err(AppendError::Stale(_) | AppendError::Conflict) => {}
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the person did not stand still"))
    }

    /// Obeys it although it cannot be recorded.
    async fn hold_word(
        &self,
        tenant: &Tenant,
        word: &Word,
        why: Unavailable,
    ) -> Result<Signalled, Refusal> {
        let part = Part {
            tenants: self.tenants.len(),
            transmitters: tenant.loaded().receivers.len(),
        };
        let held = self.held.hold_word(word, part, why).await;
        let held = held.map_err(|why| unavailable(&why))?;
        Ok(Signalled::Over {
            recorded: held.is_durable(),
        })
    }

    /// Whether the clock has jumped and not settled: what is judged by it is not judged for good.
    pub(crate) fn has_jumped(&self) -> bool {
        self.held.jump().is_some()
    }
}

fn waits() -> Unavailable {
    Unavailable("what was said of people waits for the ledger".to_owned())
}

fn word(tenant: &Tenant, signal: &VerifiedSignal, over: &Over, now: Time) -> Word {
    let said = Said {
        upto: over.upto,
        at: now,
        said: over.said.clone(),
    };
    Word {
        tenant: tenant.name().clone(),
        from: signal.from().clone(),
        person: over.person,
        barred: over.bars.then(|| said.clone()),
        over: said,
    }
}

/// Under what is kept which word has barred a person. Nothing relies on it but the next such word:
/// one that was obeyed, and whose block was lifted since, sets no block again.
pub(super) fn barred_by(person: Digest) -> EpochOf {
    EpochOf::Person(Digest(sha256_of_parts(&[b"barred\0", &person.0])))
}

/// The epochs by which a word is judged.
pub(super) fn epochs(word: &Word) -> [EpochOf; 2] {
    [EpochOf::Person(word.person), barred_by(word.person)]
}

/// What is to be recorded of a word by the facts of its epochs; none where all of it is known.
pub(super) fn append(word: &Word, facts: &Facts) -> Result<Option<Append>, Refusal> {
    let heard = |person, of: &Said, until| PersonWrite {
        person,
        over: PersonOver {
            upto: of.upto,
            at: of.at,
            said: of.said.clone(),
        },
        until: of.at + until,
    };
    let mut append = Append {
        now: word.at(),
        ..Append::default()
    };
    if value(facts, &EpochOf::Person(word.person)) < word.over.upto.millis() {
        append.people.push(heard(word.person, &word.over, KEPT));
    }
    if let Some(barred) = &word.barred
        && !has_barred(word, facts)
        && let EpochOf::Person(mark) = barred_by(word.person)
    {
        append.relies.push(Epoch::of_person(mark, barred.upto));
        append.people.push(heard(mark, barred, BAR_KEPT));
        let on = BlockOn::Barred(word.person);
        if facts.blocks.stands(&on) {
            // Whoever lifts it meanwhile has not seen this.
            append.blocked.push(on);
        } else {
            append.notes.push(Note {
                kind: "block.set",
                data: json!({"on": on.to_string()}).to_string(),
                annex: Some(by_word(&barred.said)?),
            });
            append.blocks.push(Block {
                on,
                task: None,
                since: barred.at,
            });
        }
    }
    Ok((!append.people.is_empty()).then_some(append))
}

/// Whether a word has barred its person before, or one that reaches further: it does not again, for
/// what it set may have been lifted.
fn has_barred(word: &Word, facts: &Facts) -> bool {
    let barred = value(facts, &barred_by(word.person));
    let reaches = word.barred.as_ref().map(|said| said.upto.millis());
    reaches.is_none_or(|upto| upto <= barred)
}

fn value(facts: &Facts, of: &EpochOf) -> u64 {
    let found = facts.epochs.iter().find(|epoch| epoch.of == *of);
    found.map_or(0, |epoch| epoch.at)
}

//! Words about people that the ledger does not have yet: one a person for each transmitter, of which each has its own part.
//!
//! What is said of a person only grows, so a later word takes the place of an earlier one, in memory
//! and in the journal. How many people a transmitter may speak of while nothing is recorded is
//! bounded by its part, which no other can use up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use dayfly_domain::{Digest, Name, Time};
use serde::{Deserialize, Serialize};

/// Of how many people is kept in memory what could not be recorded, over all tenants.
pub(super) const PEOPLE: usize = 65_536;

/// A word about a person, as its provider proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::app) struct Word {
    pub(in crate::app) tenant: Name,
    /// The declared transmitter that said it.
    pub(in crate::app) from: Name,
    /// Of whom, by pseudonym.
    pub(in crate::app) person: Digest,
    /// Up to when what the person authenticated for is worth nothing.
    pub(in crate::app) over: Said,
    /// Up to when the account is gone, where it is.
    pub(in crate::app) barred: Option<Said>,
}

/// Something that holds up to a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::app) struct Said {
    pub(in crate::app) upto: Time,
    /// When it was heard.
    pub(in crate::app) at: Time,
    /// By whose word, for a person.
    pub(in crate::app) said: String,
}

/// The part of a transmitter: a like share of its tenant's like share.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct Part {
    /// How many tenants there are.
    pub(in crate::app) tenants: usize,
    /// How many transmitters are declared in this one.
    pub(in crate::app) transmitters: usize,
}

impl Part {
    /// How many of so many are its own.
    pub(super) fn of(&self, all: usize) -> usize {
        all / self.tenants.max(1) / self.transmitters.max(1)
    }
}

impl Word {
    /// When it was acknowledged.
    pub(in crate::app) fn at(&self) -> Time {
        let barred = self.barred.as_ref().map(|said| said.at);
        barred.map_or(self.over.at, |at| self.over.at.max(at))
    }

    /// Whether it says all that another says of the same person.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let bars = |upto: Time| self.barred.as_ref().is_some_and(|own| own.upto >= upto);
        self.over.upto >= other.over.upto
            && other.barred.as_ref().is_none_or(|said| bars(said.upto))
    }

    /// What both say: of each, what reaches further.
    pub(super) fn with(&self, other: &Self) -> Self {
        let further = |one: &Said, other: &Said| {
            let own = one.upto >= other.upto;
            if own { one.clone() } else { other.clone() }
        };
        let barred = match (&self.barred, &other.barred) {
            (Some(one), Some(other)) => Some(further(one, other)),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        Self {
            over: further(&self.over, &other.over),
            barred,
            ..self.clone()
        }
    }
}

/// The words that are held.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<(Name, Name), HashMap<Digest, Kept>>);

/// One of them, and where it is by now.
#[derive(Debug)]
struct Kept {
    word: Arc<Word>,
    journaled: bool,
    recorded: bool,
}

impl Words {
    /// Those that the journal of the last run has left.
    pub(super) fn of(journaled: Vec<Word>) -> Self {
        let mut words = Self::default();
        for word in journaled {
            let part = words.0.entry((word.tenant.clone(), word.from.clone()));
            let kept = |word| Kept {
                word: Arc::new(word),
                journaled: true,
                recorded: false,
            };
            // A former build left each word about a person by itself.
            match part.or_default().entry(word.person) {
                Entry::Occupied(mut held) => {
                    let both = held.get().word.with(&word);
                    held.insert(kept(both));
                }
                Entry::Vacant(free) => {
                    free.insert(kept(word));
                }
            }
        }
        words
    }

    /// Adds a word to what is held, within so many people of its transmitter. Gives what is held of
    /// the person then; none where there is no more room.
    pub(super) fn add(&mut self, word: &Word, most: usize) -> Option<Arc<Word>> {
        let part = self.0.entry((word.tenant.clone(), word.from.clone()));
        let part = part.or_default();
        let full = part.len() >= most;
        match part.entry(word.person) {
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                if !held.word.covers(word) {
                    *held = Kept {
                        word: Arc::new(held.word.with(word)),
                        journaled: false,
                        recorded: false,
                    };
                }
                Some(Arc::clone(&held.word))
            }
            Entry::Vacant(_) if full => None,
            Entry::Vacant(free) => {
                let held = free.insert(Kept {
                    word: Arc::new(word.clone()),
                    journaled: false,
                    recorded: false,
                });
                Some(Arc::clone(&held.word))
            }
        }
    }

    /// What is held of the person that a word is about, by the same transmitter, as long as neither
    /// journal nor ledger has it: that word, or a later one that says all of it.
    pub(super) fn unkept(&self, word: &Word) -> Option<Arc<Word>> {
        let part = self.0.get(&(word.tenant.clone(), word.from.clone()))?;
        let kept = part.get(&word.person)?;
        (!kept.journaled && !kept.recorded).then(|| Arc::clone(&kept.word))
    }

    /// Whether all that is held of a person outlives this process.
    pub(super) fn is_durable(&self, tenant: &Name, person: &Digest) -> bool {
        let mut parts = self.0.iter();
        parts.all(|((of, _), part)| {
            let kept = part.get(person).filter(|_| of == tenant);
            kept.is_none_or(|kept| kept.journaled || kept.recorded)
        })
    }

    pub(super) fn journaled(&mut self, word: &Arc<Word>) {
        if let Some(kept) = self.kept_mut(word) {
            kept.journaled = true;
        }
    }

    pub(super) fn recorded(&mut self, word: &Arc<Word>) {
        if let Some(kept) = self.kept_mut(word) {
            kept.recorded = true;
        }
    }

    /// So many of those that the ledger does not have.
    pub(super) fn waiting(&self, most: usize) -> Vec<Arc<Word>> {
        let waiting = self.all().filter(|kept| !kept.recorded);
        waiting
            .map(|kept| Arc::clone(&kept.word))
            .take(most)
            .collect()
    }

    /// How many the ledger does not have.
    pub(super) fn len(&self) -> usize {
        self.all().filter(|kept| !kept.recorded).count()
    }

    /// How many were held for a tenant since the ledger stalls.
    pub(super) fn of_tenant(&self, tenant: &Name) -> usize {
        let parts = self.0.iter().filter(|((of, _), _)| of == tenant);
        parts.map(|(_, part)| part.len()).sum()
    }

    /// Forgets those that the ledger has.
    pub(super) fn forget_recorded(&mut self) {
        for part in self.0.values_mut() {
            part.retain(|_, kept| !kept.recorded);
        }
        self.0.retain(|_, part| !part.is_empty());
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Word> {
        self.all().map(|kept| kept.word.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Kept> {
        self.0.values().flat_map(HashMap::values)
    }

    /// Where this very word is; none once another has taken its place.
    fn kept_mut(&mut self, word: &Arc<Word>) -> Option<&mut Kept> {
        let part = self.0.get_mut(&(word.tenant.clone(), word.from.clone()))?;
        let kept = part.get_mut(&word.person)?;
        Arc::ptr_eq(&kept.word, word).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(person: u8, upto: u64, barred: Option<u64>) -> Word {
        let said = |upto| Said {
            upto: Time::from_seconds(upto),
            at: Time::from_seconds(1000 + upto),
            said: format!("said {upto}"),
        };
        Word {
            tenant: "acme".parse().unwrap(),
            from: "okta".parse().unwrap(),
            person: Digest([person; 32]),
            over: said(upto),
            barred: barred.map(said),
        }
    }

    #[test]
    fn later_words_take_the_place_of_earlier_ones_in_whatever_order_they_come() {
        let all = [
            word(1, 10, None),
            word(1, 30, Some(30)),
            word(1, 40, None),
            word(1, 20, Some(20)),
        ];
        let wanted = word(1, 40, Some(30));
        for first in 0..4 {
            let mut words = Words::default();
            for next in 0..4 {
                words.add(&all[(first + next) % 4], 1).unwrap();
            }
            let held: Vec<&Word> = words.iter().collect();
            assert_eq!(held, [&wanted], "from {first}");
            assert!(wanted.covers(&all[1]) && !all[1].covers(&wanted));
        }
    }

    #[test]
    fn what_took_the_place_of_another_is_neither_journaled_nor_recorded() {
        let mut words = Words::default();
        let first = words.add(&word(1, 10, None), 9).unwrap();
        words.journaled(&first);
        words.recorded(&first);
        assert!(words.unkept(&first).is_none() && words.len() == 0);
        let second = words.add(&word(1, 20, None), 9).unwrap();
        // What was under way for the former says nothing of the latter.
        words.journaled(&first);
        words.recorded(&first);
        assert_eq!(words.unkept(&first).as_ref(), Some(&second));
        assert_eq!(words.len(), 1);
        assert!(!words.is_durable(&second.tenant, &second.person));
        words.forget_recorded();
        assert_eq!(words.waiting(9), [second]);
    }

    #[test]
    fn a_part_that_is_full_keeps_what_it_has_and_leaves_others_theirs() {
        let mut words = Words::default();
        let part = Part {
            tenants: 2,
            transmitters: 2,
        };
        let most = part.of(8);
        assert_eq!(most, 2);
        assert!(words.add(&word(1, 10, None), most).is_some());
        assert!(words.add(&word(2, 10, None), most).is_some());
        assert!(words.add(&word(3, 10, None), most).is_none());
        assert!(words.add(&word(2, 20, None), most).is_some());
        for (tenant, from) in [("acme", "other"), ("zeta", "okta")] {
            let of_another = Word {
                tenant: tenant.parse().unwrap(),
                from: from.parse().unwrap(),
                ..word(3, 10, None)
            };
            assert!(words.add(&of_another, most).is_some());
        }
        assert_eq!(
            (words.len(), words.of_tenant(&word(1, 1, None).tenant)),
            (4, 3)
        );
    }
}

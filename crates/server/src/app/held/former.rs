//! Words about people as a former build left them among the ends, and what is held of them now.

use dayfly_domain::{BlockOn, Digest, EpochOf, Name, Time};
use serde::{Deserialize, Serialize};

use super::record::Held;
use super::words::{Said, Word};
use crate::app::signal::barred_by;

/// A word about a person, or the mark that one has barred a person: that build had no files of
/// their own for them, and barred by the block that is set by hand now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormerWord {
    person: Digest,
    /// Up to when what the person authenticated for is worth nothing.
    upto: Time,
    said: String,
    /// Until when it was to be kept: that follows from when it was heard.
    #[serde(rename = "until")]
    _until: Time,
}

/// The words that a frame holds, and takes the blocks out of it that came with them: the words set
/// them.
pub(super) fn words(held: &mut Held, former: &[FormerWord]) -> Vec<Word> {
    let mut people: Vec<Digest> = Vec::new();
    for word in former {
        people.push(word.person);
    }
    for held in &held.blocks {
        if let BlockOn::Person(person) = held.block.on
            && !former.is_empty()
            && !people.contains(&person)
        {
            people.push(person);
        }
    }
    // A mark whose person is named beside it is part of that word.
    let mark = |person: &Digest| match barred_by(*person) {
        EpochOf::Person(mark) => former.iter().find(|word| word.person == mark),
        EpochOf::Owner(_) | EpochOf::Workload(_) | EpochOf::Issuer(_) | EpochOf::Tenant => None,
    };
    let marks: Vec<Digest> = people
        .iter()
        .filter_map(mark)
        .map(|word| word.person)
        .collect();
    let mut words = Vec::new();
    for person in people.iter().filter(|person| !marks.contains(person)) {
        let own = former.iter().find(|word| word.person == *person);
        let Some(over) = own.or_else(|| mark(person)) else {
            continue;
        };
        let on = BlockOn::Person(*person);
        let is_blocked = held.blocks.iter().any(|held| held.block.on == on);
        let barred = mark(person).or_else(|| is_blocked.then_some(over));
        words.push(Word {
            tenant: held.tenant.clone(),
            from: from(over, &held.tenant),
            person: *person,
            over: over.said_at(held.at),
            barred: barred.map(|word| word.said_at(held.at)),
        });
    }
    let is_word = |on: &BlockOn| words.iter().any(|word| *on == BlockOn::Person(word.person));
    held.blocks.retain(|held| !is_word(&held.block.on));
    words
}

/// Who said it, by its text; where that does not tell, all of a tenant's have one name.
fn from(word: &FormerWord, tenant: &Name) -> Name {
    let named = word.said.strip_prefix("signals.");
    let named = named.and_then(|named| named.split(':').next());
    let named = named.and_then(|named| named.parse().ok());
    named.unwrap_or_else(|| tenant.clone())
}

impl FormerWord {
    fn said_at(&self, at: Time) -> Said {
        Said {
            upto: self.upto,
            at,
            said: self.said.clone(),
        }
    }
}

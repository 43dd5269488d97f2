//! What an open task relies on, as it stands beside the snapshot: epochs by their numbers, and people.

use dayfly_domain::{Digest, Epoch, EpochOf, Task};

use super::people::People;
use super::view::{BELOW, Epochs};

/// Marks, in bytes, that a person follows in place of an epoch that is counted. No epoch has such a
/// number: each is a declared name.
const PERSON: u32 = 1 << 30;

/// What an open task relies on, and beside it what its active delegated clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relied {
    /// Epochs by their numbers, with the values they had; those that only delegated clients rely on
    /// are marked by [`BELOW`].
    pub(super) counted: Box<[(u32, u64)]>,
    /// The people whose authentication it came of. They have no numbers: people come and go, and
    /// what was never said of them takes no room.
    pub(super) people: Box<[OnPerson]>,
}

/// The authentication of a person that something relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnPerson {
    /// Whether only delegated clients do.
    pub(super) below: bool,
    pub(super) person: Digest,
    /// When the person authenticated, in milliseconds.
    pub(super) at: u64,
}

impl Relied {
    /// Of a task, whose counted epochs are numbered by `number`.
    pub(super) fn of<E>(
        task: &Task,
        mut number: impl FnMut(&EpochOf) -> Result<u32, E>,
    ) -> Result<Self, E> {
        let own = task.epochs.iter().map(|epoch| (false, epoch));
        let all = own.chain(task.relied_below().map(|epoch| (true, epoch)));
        let (mut counted, mut people) = (Vec::with_capacity(task.epochs.len()), Vec::new());
        for (below, epoch) in all {
            match epoch.person() {
                Some(person) => people.push(OnPerson {
                    below,
                    person,
                    at: epoch.at,
                }),
                None => {
                    let mark = if below { BELOW } else { 0 };
                    counted.push((number(&epoch.of)? | mark, epoch.at));
                }
            }
        }
        Ok(Self {
            counted: counted.into(),
            people: people.into(),
        })
    }

    /// The first of these that the task itself relies on and that is lost.
    pub(super) fn stale(&self, epochs: &Epochs, people: &impl People) -> Option<EpochOf> {
        let of_person = || {
            let mut lost = self.lost_people(people).filter(|on| !on.below);
            lost.next().map(|on| EpochOf::Person(on.person))
        };
        let counted = epochs.moved_since(&self.counted).cloned();
        counted.or_else(of_person)
    }

    /// Those that only delegated clients rely on and that are lost.
    pub(super) fn lost(&self, epochs: &Epochs, people: &impl People) -> Vec<Epoch> {
        let mut lost = epochs.moved_below(&self.counted);
        let people = self.lost_people(people).filter(|on| on.below);
        lost.extend(people.map(OnPerson::epoch));
        lost
    }

    /// Whether any of these is lost, whoever relies on it.
    pub(super) fn any_lost(&self, epochs: &Epochs, people: &impl People) -> bool {
        epochs.moved_since(&self.counted).is_some()
            || !epochs.moved_below(&self.counted).is_empty()
            || self.lost_people(people).next().is_some()
    }

    fn lost_people(&self, people: &impl People) -> impl Iterator<Item = &OnPerson> {
        let lost = |on: &&OnPerson| on.epoch().is_lost(people.upto(&on.person));
        self.people.iter().filter(lost)
    }

    /// As a column holds it: number and value, twelve bytes each, and after each mark of a person
    /// the pseudonym.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let pair = |number: u32, at: u64| number.to_le_bytes().into_iter().chain(at.to_le_bytes());
        let counted = self
            .counted
            .iter()
            .flat_map(|(number, at)| pair(*number, *at));
        let mut bytes: Vec<u8> = counted.collect();
        for on in &self.people {
            let mark = PERSON | if on.below { BELOW } else { 0 };
            bytes.extend(pair(mark, on.at));
            bytes.extend(on.person.0);
        }
        bytes
    }

    pub(super) fn from_bytes(mut bytes: &[u8]) -> Self {
        let (mut counted, mut people) = (Vec::new(), Vec::new());
        while let Some((pair, rest)) = bytes.split_first_chunk::<12>() {
            bytes = rest;
            let [a, b, c, d, at @ ..] = *pair;
            let (number, at) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(at));
            if number & PERSON == 0 {
                counted.push((number, at));
            } else if let Some((person, rest)) = bytes.split_first_chunk::<32>() {
                bytes = rest;
                people.push(OnPerson {
                    below: number & BELOW != 0,
                    person: Digest(*person),
                    at,
                });
            }
        }
        Self {
            counted: counted.into(),
            people: people.into(),
        }
    }
}

impl OnPerson {
    pub(super) const fn epoch(&self) -> Epoch {
        Epoch {
            of: EpochOf::Person(self.person),
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relied_on_there_and_back() {
        let person = |below, byte, at| OnPerson {
            below,
            person: Digest([byte; 32]),
            at,
        };
        let relied = Relied {
            counted: [(0, 0), (7, u64::MAX), (BELOW | 9, 1)].into(),
            people: [person(false, 0, 0), person(true, u8::MAX, u64::MAX)].into(),
        };
        assert_eq!(Relied::from_bytes(&relied.bytes()), relied);
        // As it was written before there were people.
        let counted = Relied {
            people: [].into(),
            ..relied
        };
        assert_eq!(counted.bytes().len(), 36);
        assert_eq!(Relied::from_bytes(&counted.bytes()), counted);
    }
}

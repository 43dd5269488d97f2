//! When the server could hear beats, and when it could not.

use dayfly_domain::{Span, Time};

use crate::ALIVE_GAP;

/// How long a deaf interval is kept: no task is open for more than 24 h.
const KEEP: Span = Span::from_seconds(25 * 3600);

/// A tenant's marks of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hearing {
    alive: Option<Time>,
    deaf: Vec<(Time, Time)>,
    /// How often it changed, and how many of these changes the database has.
    changes: u64,
    saved: u64,
}

impl Hearing {
    pub(super) fn restored(alive: Option<Time>, deaf: Vec<(Time, Time)>) -> Self {
        Self {
            alive,
            deaf,
            ..Self::default()
        }
    }

    /// Marks that the server is there; a gap since the last mark was deafness.
    pub(super) fn mark(&mut self, at: Time) {
        let Some(last) = self.alive.filter(|last| *last <= at) else {
            if self.alive.is_none() {
                self.alive = Some(at);
                self.changes += 1;
            }
            return;
        };
        if at.since(last) > ALIVE_GAP {
            self.deafen(last, at);
        }
        self.deaf.retain(|(_, until)| *until + KEEP > at);
        self.alive = Some(at);
        self.changes += 1;
    }

    /// Counts a span as deaf; what is known to be deaf already is not counted twice.
    pub(super) fn deafen(&mut self, mut from: Time, mut to: Time) {
        if from >= to {
            return;
        }
        self.deaf.retain(|(since, until)| {
            let apart = *until < from || to < *since;
            if !apart {
                (from, to) = (from.min(*since), to.max(*until));
            }
            apart
        });
        self.deaf.push((from, to));
        self.deaf.sort_unstable();
        self.changes += 1;
    }

    /// Has nothing be marked later than this; true when something was.
    pub(super) fn set_back(&mut self, at: Time) -> bool {
        let later = |time: Time| time > at;
        let ahead =
            self.alive.is_some_and(later) || self.deaf.iter().any(|(_, until)| later(*until));
        if ahead {
            self.alive = self.alive.map(|alive| alive.min(at));
            self.deaf.retain(|(since, _)| *since < at);
            for (_, until) in &mut self.deaf {
                *until = at.min(*until);
            }
            self.changes += 1;
        }
        ahead
    }

    /// How much of the time since then was deaf.
    pub(super) fn deaf_since(&self, seen: Time) -> Span {
        self.deaf.iter().fold(Span::ZERO, |sum, (since, until)| {
            sum + until.since(seen.max(*since))
        })
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.changes != self.saved
    }

    /// How often it has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Notes that the database has so many of its changes.
    pub(super) fn save(&mut self, changes: u64) {
        self.saved = changes;
    }

    pub(super) fn alive(&self) -> Option<Time> {
        self.alive
    }

    pub(super) fn deaf(&self) -> &[(Time, Time)] {
        &self.deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_deaf_and_marks_are_not() {
        let at = Time::from_seconds;
        let mut hearing = Hearing::default();
        for second in [100, 105, 115, 110, 116, 200] {
            hearing.mark(at(second));
        }
        assert_eq!(hearing.deaf(), [(at(105), at(115)), (at(116), at(200))]);
        assert_eq!(hearing.deaf_since(at(0)), Span::from_seconds(94));
        assert_eq!(hearing.deaf_since(at(112)), Span::from_seconds(87));
        assert_eq!(hearing.deaf_since(at(190)), Span::from_seconds(10));
        assert_eq!(hearing.deaf_since(at(201)), Span::ZERO);
    }

    #[test]
    fn deafness_is_counted_once() {
        let at = Time::from_seconds;
        let mut hearing = Hearing::default();
        hearing.deafen(at(100), at(160));
        hearing.deafen(at(130), at(170));
        hearing.deafen(at(120), at(150));
        assert_eq!(hearing.deaf_since(at(0)), Span::from_seconds(70));
    }

    #[test]
    fn old_deafness_is_forgotten() {
        let mut hearing = Hearing::default();
        hearing.mark(Time::from_seconds(0));
        hearing.mark(Time::from_seconds(10));
        hearing.mark(Time::from_seconds(10 + 25 * 3600));
        assert_eq!(hearing.deaf().len(), 1);
    }
}

//! How many tasks of a workload are open, and how many started within an hour.

use std::collections::BTreeMap;

use dayfly_domain::{Counts, Limits, Time};

const MINUTE_MILLIS: u64 = 60_000;

/// How many minutes count as the last hour: the one under way and the sixty before it, so that a
/// start counts for an hour at least and for a minute more at most.
const MINUTES: u64 = 60;

/// One workload's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) open: u64,
    starts: BTreeMap<u64, u64>,
    /// The first minute of which the database has another number.
    unsaved: Option<u64>,
}

/// The minute a time lies in.
pub(super) const fn minute(time: Time) -> u64 {
    time.millis() / MINUTE_MILLIS
}

/// The first minute that still counts.
pub(super) const fn first_minute(now: Time) -> u64 {
    minute(now).saturating_sub(MINUTES)
}

impl Tally {
    /// Counts a task that started.
    pub(super) fn start(&mut self, at: Time) {
        self.open += 1;
        let minute = minute(at);
        self.add(minute, 1);
        self.unsaved = Some(self.unsaved.map_or(minute, |first| first.min(minute)));
        self.starts = self.starts.split_off(&first_minute(at));
    }

    /// Counts starts without open tasks, as read back.
    pub(super) fn add(&mut self, minute: u64, starts: u64) {
        *self.starts.entry(minute).or_default() += starts;
    }

    /// Counts a task that ended.
    pub(super) fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub(super) fn counts(&self, now: Time) -> Counts {
        Counts {
            open: self.open,
            // What started by a clock that was ahead did not start within the last hour. The next
            // minute counts: who comes first may have a later now.
            starts_last_hour: self
                .starts
                .range(first_minute(now)..=minute(now) + 1)
                .map(|(_, n)| n)
                .sum(),
        }
    }

    /// The minutes, with their starts, that the database is to be told of.
    pub(super) fn take_unsaved(&mut self) -> Vec<(u64, u64)> {
        let Some(first) = self.unsaved.take() else {
            return Vec::new();
        };
        self.starts
            .range(first..)
            .map(|(minute, n)| (*minute, *n))
            .collect()
    }
}

/// Whether one more task may start.
pub(super) fn admits(limits: Limits, counts: Counts) -> bool {
    limits.open.is_none_or(|most| counts.open < most)
        && limits
            .starts_per_hour
            .is_none_or(|most| counts.starts_last_hour < most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_hour_is_counted_and_kept() {
        let mut tally = Tally::default();
        for minute in 0..500 {
            tally.start(Time::from_seconds(minute * 60));
        }
        let now = Time::from_seconds(499 * 60);
        let counts = tally.counts(now);
        assert_eq!((counts.open, counts.starts_last_hour), (500, MINUTES + 1));
        assert_eq!(tally.starts.len() as u64, MINUTES + 1);
        let unsaved: u64 = tally.take_unsaved().iter().map(|(_, starts)| starts).sum();
        assert_eq!(unsaved, MINUTES + 1);
        assert_eq!(tally.take_unsaved(), []);
    }
}

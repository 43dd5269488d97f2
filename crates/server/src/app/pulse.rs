//! How many of a tenant's due beats were heard, and how many vanished, by the minute.

use std::sync::atomic::{AtomicU64, Ordering};

use dayfly_domain::{Span, Time};

/// With fewer tasks gone silent within the window, silence is theirs and not ours.
const VANISHED_AT_LEAST: u64 = 10;
const MINUTE_MILLIS: u64 = 60_000;

/// A tenant's beats over this minute and the one before.
#[derive(Default)]
pub(super) struct Pulse {
    /// The time that heard beats stand for: a task that beats as it should covers all of it.
    covered_millis: Minutes,
    vanished: Minutes,
}

impl Pulse {
    /// Counts a beat of a task that beats so often.
    pub(super) fn beat(&self, at: Time, every: Span) {
        self.covered_millis.add(at, every.millis());
    }

    /// Counts tasks that fell silent, and says whether they are more than a fifth of those whose
    /// beats were due.
    pub(super) fn fell_silent(&self, at: Time, tasks: u64) -> bool {
        self.vanished.add(at, tasks);
        let vanished = self.vanished.recent(at);
        let window = MINUTE_MILLIS + at.millis() % MINUTE_MILLIS;
        let missing = vanished.saturating_mul(window);
        let covered = self.covered_millis.recent(at);
        vanished >= VANISHED_AT_LEAST && missing > missing.saturating_add(covered) / 5
    }
}

/// A count for this minute and the one before.
#[derive(Default)]
struct Minutes {
    minute: AtomicU64,
    now: AtomicU64,
    before: AtomicU64,
}

impl Minutes {
    fn add(&self, at: Time, count: u64) {
        let minute = at.millis() / MINUTE_MILLIS;
        let known = self.minute.swap(minute, Ordering::SeqCst);
        if known != minute {
            let passed = self.now.swap(0, Ordering::SeqCst);
            let before = if known + 1 == minute { passed } else { 0 };
            self.before.store(before, Ordering::SeqCst);
        }
        self.now.fetch_add(count, Ordering::SeqCst);
    }

    fn recent(&self, at: Time) -> u64 {
        self.add(at, 0);
        self.now.load(Ordering::SeqCst) + self.before.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks that beat every 30 s for three minutes, and then some that fall silent at once.
    fn held(alive: u64, silent: u64) -> bool {
        let pulse = Pulse::default();
        for second in (0..180).step_by(30) {
            for _ in 0..alive {
                pulse.beat(Time::from_seconds(second), Span::from_seconds(30));
            }
        }
        pulse.fell_silent(Time::from_seconds(179), silent)
    }

    #[test]
    fn more_than_a_fifth_is_many() {
        assert!(held(75, 25));
        assert!(!held(85, 15));
        assert!(held(0, 10));
        assert!(!held(0, 9), "a handful is silent by itself");
    }
}

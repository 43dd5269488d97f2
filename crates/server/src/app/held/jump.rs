//! The watch for jumps of the wall clock: what the monotonic clock says has passed beside what the wall clock says.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Span, Time};
use dayfly_store::clock::{Clock, Reading};

/// A drift beyond this is a jump.
pub(in crate::app) const JUMP: Span = Span::from_seconds(5);
/// A drift up to this is none: a clock that is steered slowly.
const STEADY: Span = Span::from_seconds(1);
/// For how long the clock must be steady after a jump.
const SETTLING: Span = Span::from_seconds(10);
/// After how long the clocks are compared from anew, so that slow steering never adds up to a jump.
const RENEWED: Span = Span::from_seconds(60);

/// Watches the clock of a server.
#[derive(Debug, Default)]
pub(super) struct JumpWatch(Mutex<Watched>);

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// From where both clocks are compared; none before the first look.
    from: Option<Reading>,
    jump: Option<Jump>,
}

/// A jump that has not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) struct Jump {
    /// What the wall clock said when it was last as it should be.
    pub(in crate::app) before: Time,
    /// What it said when the jump was seen.
    pub(in crate::app) after: Time,
    /// How much time had really passed between the two.
    passed: Span,
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the wall clock went from {} to {} while {} passed by the monotonic clock",
            self.before, self.after, self.passed
        )
    }
}

impl JumpWatch {
    /// Looks at both clocks; gives the jump that has not settled.
    pub(super) fn look(&self, clock: &dyn Clock) -> Option<Jump> {
        let mut watched = self.watched();
        let now = Reading::of(clock);
        let Some(from) = watched.from else {
            watched.from = Some(now);
            return None;
        };
        let passed = Span::from_millis(
            now.monotonic
                .millis()
                .saturating_sub(from.monotonic.millis()),
        );
        let expected = from.wall + passed;
        let drift = now.wall.since(expected).max(expected.since(now.wall));
        let most = if watched.jump.is_some() { STEADY } else { JUMP };
        if drift > most {
            watched.jump = Some(Jump {
                before: from.wall,
                after: now.wall,
                passed,
            });
            watched.from = Some(now);
        } else if watched.jump.is_none() && passed >= RENEWED {
            watched.from = Some(now);
        }
        watched.jump
    }

    /// Whether the clock has been steady for long enough after a jump.
    pub(super) fn has_settled(&self, clock: &dyn Clock) -> bool {
        self.look(clock).is_some() && self.is_steady(clock)
    }

    /// Whether there was a jump, and the clock has not been steady for long enough since.
    pub(super) fn is_settling(&self, clock: &dyn Clock) -> bool {
        self.look(clock).is_some() && !self.is_steady(clock)
    }

    fn is_steady(&self, clock: &dyn Clock) -> bool {
        let from = self.watched().from;
        let monotonic = clock.monotonic().millis();
        from.is_some_and(|from| {
            monotonic.saturating_sub(from.monotonic.millis()) >= SETTLING.millis()
        })
    }

    /// Forgets a jump that has settled; whether none was seen since.
    pub(super) fn forget(&self, settled: Jump) -> bool {
        let mut watched = self.watched();
        if watched.jump == Some(settled) {
            watched.jump = None;
        }
        watched.jump.is_none()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use dayfly_store::clock::ManualClock;

    use super::*;

    const BEGIN: Time = Time::from_seconds(1_800_000_000);

    fn watching() -> (ManualClock, JumpWatch) {
        let (clock, watch) = (ManualClock::at(BEGIN), JumpWatch::default());
        assert_eq!(watch.look(&clock), None);
        (clock, watch)
    }

    #[test]
    fn a_jump_either_way_is_seen_and_settles() {
        for to in [
            BEGIN + Span::from_seconds(3600),
            BEGIN - Span::from_seconds(3600),
        ] {
            let (clock, watch) = watching();
            clock.advance(Span::from_seconds(2));
            clock.jump(to);
            let jump = watch.look(&clock).unwrap();
            assert_eq!((jump.before, jump.after), (BEGIN, to));
            assert_eq!(jump.passed, Span::from_seconds(2));
            clock.advance(Span::from_seconds(9));
            assert!(!watch.has_settled(&clock));
            // It moves again meanwhile: the count begins anew.
            clock.jump(clock.now() + Span::from_seconds(2));
            assert!(!watch.has_settled(&clock));
            clock.advance(Span::from_seconds(9));
            assert!(!watch.has_settled(&clock) && watch.look(&clock).is_some());
            clock.advance(Span::from_seconds(1));
            assert!(watch.has_settled(&clock));
            let settled = watch.look(&clock).unwrap();
            assert!(watch.forget(settled));
            assert_eq!(watch.look(&clock), None);
        }
    }

    #[test]
    fn a_jump_that_is_seen_while_another_settles_is_not_forgotten_with_it() {
        let (clock, watch) = watching();
        clock.jump(BEGIN + Span::from_seconds(3600));
        let first = watch.look(&clock).unwrap();
        clock.advance(Span::from_seconds(10));
        assert!(watch.has_settled(&clock));
        clock.jump(BEGIN);
        let second = watch.look(&clock).unwrap();
        assert!(!watch.forget(first));
        assert!(watch.look(&clock) == Some(second) && watch.is_settling(&clock));
    }

    #[test]
    fn time_that_passes_and_a_clock_that_is_steered_are_no_jump() {
        let (clock, watch) = watching();
        clock.advance(Span::from_seconds(86_400));
        assert_eq!(watch.look(&clock), None);
        for _ in 0..100 {
            clock.advance(Span::from_seconds(60));
            clock.jump(clock.now() + Span::from_millis(500));
            assert_eq!(watch.look(&clock), None);
        }
        clock.jump(clock.now() + Span::from_seconds(5));
        assert_eq!(watch.look(&clock), None);
        clock.jump(clock.now() + Span::from_millis(1));
        assert!(watch.look(&clock).is_some());
    }
}

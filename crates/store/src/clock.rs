//! The one place that asks what time it is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dayfly_domain::{Span, Time};

/// Tells the time of a store: the process's for SQLite.
pub trait Clock: Send + Sync + 'static {
    /// Now, in milliseconds since 1970.
    fn now(&self) -> Time;

    /// How long it is since some fixed moment, whatever becomes of the wall clock.
    fn monotonic(&self) -> Span;
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the wall clock says.
    pub wall: Time,
    /// What the monotonic clock says.
    pub monotonic: Span,
}

impl Reading {
    /// Reads both.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }
}

/// The wall clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the wall clock"
    )]
    fn now(&self) -> Time {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Time::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the monotonic clock"
    )]
    fn monotonic(&self) -> Span {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let since = ORIGIN.get_or_init(Instant::now).elapsed();
        Span::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Measures how long something takes, whatever becomes of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the monotonic clock"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Lets a span pass, for whoever has more to do the longer it waits.
    #[expect(
        clippy::disallowed_methods,
        reason = "the writer gathers orders, and being woken for each would cost more than taking it"
    )]
    pub(crate) fn pass(span: Duration) {
        std::thread::sleep(span);
    }

    /// What is left of a span that began with the watch.
    pub(crate) fn left_of(self, span: Duration) -> Duration {
        span.saturating_sub(self.elapsed())
    }
}

/// A clock that stands until it is set, for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at this time.
    #[must_use]
    pub fn at(time: Time) -> Self {
        Self {
            wall: AtomicU64::new(time.millis()),
            monotonic: AtomicU64::new(0),
        }
    }

    /// Lets time pass until then; a time before the present one is a jump.
    pub fn set(&self, time: Time) {
        let before = self.wall.swap(time.millis(), Ordering::SeqCst);
        let passed = time.millis().saturating_sub(before);
        self.monotonic.fetch_add(passed, Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, span: Span) {
        self.wall.fetch_add(span.millis(), Ordering::SeqCst);
        self.monotonic.fetch_add(span.millis(), Ordering::SeqCst);
    }

    /// Sets the wall clock to a time although none has passed.
    pub fn jump(&self, time: Time) {
        self.wall.store(time.millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_millis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Span {
        Span::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

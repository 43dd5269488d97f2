//! The one place of the bench that reads clocks.

use std::time::{Duration, Instant};

use dayfly_store::clock::{Clock, SystemClock};

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch(Instant);

impl Watch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench is about what the clock says"
    )]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whole microseconds since a moment after the start.
    pub(super) fn micros_since(self, at: Duration) -> u32 {
        let since = self.0.elapsed().saturating_sub(at);
        u32::try_from(since.as_micros()).unwrap_or(u32::MAX)
    }

    /// Whole microseconds, at most an hour's.
    pub(super) fn micros(self) -> u32 {
        u32::try_from(self.0.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

/// Now, by the server's own clock.
pub(super) fn now() -> dayfly_domain::Time {
    SystemClock.now()
}

/// Waits: another process says nothing when it is ready or has come to rest.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no event of another process to wait for"
)]
pub(super) fn wait(span: Duration) {
    std::thread::sleep(span);
}

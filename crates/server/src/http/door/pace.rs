//! What a connection is doing and until when it may: the one place that knows whether a caller is slow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) header: Duration,
    pub(super) body: Duration,
    pub(super) request: Duration,
    pub(super) idle: Duration,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a request, or for the caller to take an answer.
    Idle,
    /// The first byte of a head has come, the last has not.
    Head,
    /// A request is being answered.
    Work,
}

impl Phase {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Work => "work",
        }
    }
}

/// The pace of one connection, known to its stream, its requests and its watch.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    due: Instant,
    patience: Patience,
}

impl Pace {
    pub(super) fn new(patience: Patience) -> Self {
        Self(Arc::new(Mutex::new(State {
            phase: Phase::Idle,
            due: Instant::now() + patience.idle,
            patience,
        })))
    }

    /// Bytes came in.
    pub(super) fn heard(&self) {
        self.with(|state| {
            if state.phase == Phase::Idle {
                state.phase = Phase::Head;
                state.due = Instant::now() + state.patience.header;
            }
        });
    }

    /// A head is complete: until when its body must be here, and until when its answer.
    pub(super) fn begin(&self) -> (Instant, Instant) {
        self.with(|state| {
            let now = Instant::now();
            let answer = now + state.patience.request;
            state.phase = Phase::Work;
            // The request is cut by its own time; the connection only where that hangs.
            state.due = answer + state.patience.idle;
            (now + state.patience.body, answer)
        })
    }

    /// An answer is made.
    pub(super) fn finish(&self) {
        self.with(|state| {
            state.phase = Phase::Idle;
            state.due = Instant::now() + state.patience.idle;
        });
    }

    pub(super) fn due(&self) -> Instant {
        self.with(|state| state.due)
    }

    pub(super) fn phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

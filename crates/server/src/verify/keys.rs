//! The keys of issuers, held for a while: read once for many requests, seldom, and served stale when the issuer is down.
//!
//! | bound | network | file | why |
//! |---|---|---|---|
//! | fresh | 10 min | 10 s | how long a key that the issuer withdrew still counts while it can be reached |
//! | floor | 30 s | 10 s | the least time between two attempts, whatever asks for them: tokens with unknown `kid`s, failures, cold starts |
//! | stale | 24 h | 24 h | how long keys count while they cannot be read anew; then [`Rule::KeysUnavailable`](dayfly_domain::Rule) |
//!
//! One attempt at a time runs for each origin, apart from the requests that wait for it, so a request
//! that goes away takes nothing with it. No lock is held while anything waits.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dayfly_domain::{Span, Time};
use dayfly_token::alg::Alg;
use dayfly_token::jwks::KeySet;
use tokio::sync::watch;
use tokio::time::timeout;

use super::origin::Origin;
use super::review::{ReviewStatus, Reviewer, Reviewers};
use crate::declared::Issuer;

/// How long one attempt may take, metadata and keys together.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a request that could go on with stale keys waits for fresh ones.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long keys count while they cannot be read anew.
const STALE: Span = Span::from_seconds(24 * 3600);

/// What was read of all issuers of all tenants, and who is asked about their tokens. It outlives the
/// verifiers, so that a reload of declared state keeps the keys of every issuer whose origin stays
/// the same.
#[derive(Clone, Debug, Default)]
pub struct KeyCache {
    sources: Arc<Mutex<Vec<Weak<KeySource>>>>,
    reviewers: Reviewers,
}

/// How it stands with the keys of one origin, for a person and for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The URL or path.
    pub origin: String,
    /// When the keys that are held were read; none before the first success.
    pub read_at: Option<Time>,
    /// Why the last attempt failed; none when it did not.
    pub failure: Option<String>,
}

impl KeyCache {
    /// A cache that holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How it stands with every origin in use.
    #[must_use]
    pub fn status(&self) -> Vec<KeyStatus> {
        let sources = locked(&self.sources);
        sources
            .iter()
            .filter_map(Weak::upgrade)
            .map(|source| source.status())
            .collect()
    }

    /// How it stands with every cluster that is asked about tokens.
    #[must_use]
    pub fn reviews(&self) -> Vec<ReviewStatus> {
        self.reviewers.status()
    }

    /// Who is asked about the tokens of an issuer; none where nobody is.
    pub(super) fn reviewer(&self, issuer: &Issuer) -> Option<Arc<Reviewer>> {
        self.reviewers.of(issuer)
    }

    /// The source of an issuer's keys, shared with everyone who uses the same origin.
    pub(super) fn source(&self, issuer: &Issuer) -> Arc<KeySource> {
        let origin = Origin::of(issuer);
        let mut sources = locked(&self.sources);
        sources.retain(|source| source.strong_count() > 0);
        let held = sources
            .iter()
            .filter_map(Weak::upgrade)
            .find(|source| source.origin == origin);
        held.unwrap_or_else(|| {
            let source = Arc::new(KeySource::new(origin));
            sources.push(Arc::downgrade(&source));
            source
        })
    }
}

/// The keys of one origin.
#[derive(Debug)]
pub(super) struct KeySource {
    origin: Origin,
    fresh: Span,
    floor: Span,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<Held>>,
    tried: Option<Time>,
    failure: Option<String>,
    flight: Option<Flight>,
}

/// Keys as they were read.
#[derive(Debug)]
pub(super) struct Held {
    /// The keys.
    pub(super) set: KeySet,
    /// When reading them began.
    pub(super) at: Time,
}

/// A key that a token needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed<'a> {
    /// The token's `kid`.
    pub(super) kid: Option<&'a str>,
    /// The token's `alg`.
    pub(super) alg: Alg,
}

/// No keys can be had, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoKeys(pub(super) String);

/// An attempt under way; it is over when the other end is gone, however it ended.
type Flight = watch::Receiver<()>;

enum Step {
    Use(Arc<Held>),
    Wait {
        flight: Flight,
        patience: Option<Duration>,
    },
    Refuse(NoKeys),
}

impl KeySource {
    fn new(origin: Origin) -> Self {
        let (fresh, floor) = if origin.is_local() {
            (10, 10)
        } else {
            (600, 30)
        };
        Self {
            origin,
            fresh: Span::from_seconds(fresh),
            floor: Span::from_seconds(floor),
            state: Mutex::default(),
        }
    }

    /// Keys by which a token may be judged now: fresh ones that hold the needed key where they can be had within
    /// the bounds, else those at hand.
    pub(super) async fn keys(
        self: &Arc<Self>,
        needed: Needed<'_>,
        now: Time,
    ) -> Result<Arc<Held>, NoKeys> {
        let first = self.step(needed, now);
        let (mut flight, patience) = match first {
            Step::Use(held) => return Ok(held),
            Step::Refuse(why) => return Err(why),
            Step::Wait { flight, patience } => (flight, patience),
        };
        // The flight never sends: this ends when it is over, or with the patience.
        match patience {
            Some(patience) => drop(timeout(patience, flight.changed()).await),
            None => drop(flight.changed().await),
        }
        locked(&self.state).at_hand(now)
    }

    /// How long from now until keys may be read anew for a token whose key is not known.
    pub(super) fn rest(&self, now: Time) -> Span {
        match locked(&self.state).tried {
            Some(tried) => Span::from_millis(
                self.floor
                    .millis()
                    .saturating_sub(apart(tried, now).millis()),
            ),
            None => Span::ZERO,
        }
    }

    fn step(self: &Arc<Self>, needed: Needed<'_>, now: Time) -> Step {
        let mut state = locked(&self.state);
        let known = state
            .held
            .as_deref()
            .is_some_and(|held| held.may_verify(needed));
        let fresh = state
            .held
            .as_deref()
            .is_some_and(|held| apart(held.at, now) < self.fresh);
        if let (true, true, Some(held)) = (known, fresh, &state.held) {
            return Step::Use(Arc::clone(held));
        }
        let flight = match state.under_way() {
            Some(flight) => flight,
            None if state
                .tried
                .is_some_and(|tried| apart(tried, now) < self.floor) =>
            {
                return match state.at_hand(now) {
                    Ok(held) => Step::Use(held),
                    Err(why) => Step::Refuse(why),
                };
            }
            None => self.start(&mut state, now),
        };
        let patience = (known && state.at_hand(now).is_ok()).then_some(PATIENCE);
        Step::Wait { flight, patience }
    }

    fn start(self: &Arc<Self>, state: &mut State, now: Time) -> Flight {
        let (landing, flight) = watch::channel(());
        state.tried = Some(now);
        state.flight = Some(flight.clone());
        tokio::spawn(Arc::clone(self).fly(now, landing));
        flight
    }

    async fn fly(self: Arc<Self>, now: Time, landing: watch::Sender<()>) {
        let read = match timeout(ATTEMPT, self.origin.read()).await {
            Ok(Ok(set)) => Ok(set),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
        };
        let mut state = locked(&self.state);
        match read {
            Ok(set) => {
                state.held = Some(Arc::new(Held { set, at: now }));
                state.failure = None;
            }
            Err(why) => {
                tracing::warn!(
                    origin = self.origin.name(),
                    error = why,
                    "keys of an issuer cannot be read"
                );
                state.failure = Some(why);
            }
        }
        drop(state);
        // INVARIANT: those who wait are woken after the outcome can be seen.
        drop(landing);
    }

    fn status(&self) -> KeyStatus {
        let state = locked(&self.state);
        KeyStatus {
            origin: self.origin.name(),
            read_at: state.held.as_deref().map(|held| held.at),
            failure: state.failure.clone(),
        }
    }
}

impl State {
    fn under_way(&self) -> Option<Flight> {
        self.flight
            .clone()
            .filter(|flight| flight.has_changed().is_ok())
    }

    /// The keys that were read last, unless that was too long ago.
    fn at_hand(&self, now: Time) -> Result<Arc<Held>, NoKeys> {
        match &self.held {
            Some(held) if apart(held.at, now) <= STALE => Ok(Arc::clone(held)),
            Some(held) => {
                let why = self.failure.as_deref().unwrap_or("not read since");
                Err(NoKeys(format!("last read {}: {why}", held.at)))
            }
            None => Err(NoKeys(
                self.failure
                    .clone()
                    .unwrap_or_else(|| "not read yet".to_owned()),
            )),
        }
    }
}

impl Held {
    fn may_verify(&self, needed: Needed<'_>) -> bool {
        self.set.select(needed.kid, needed.alg).next().is_some()
    }
}

/// How far two times lie apart, whichever is first: a clock that was set back makes nothing fresh for longer.
fn apart(a: Time, b: Time) -> Span {
    a.since(b).max(b.since(a))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // INVARIANT: every write under these locks is whole after each statement, so a poisoned one is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

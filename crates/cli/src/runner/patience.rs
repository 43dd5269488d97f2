//! Repeats a call to a server that is away, for as long as the caller can wait.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::output::say;
use crate::runner::span;
use crate::runner::wire::{Away, Failure};

const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long a caller waits for a server that is away.
#[derive(Debug)]
pub(crate) struct Patience {
    what: &'static str,
    wait: Duration,
    started: Instant,
    deadline: Instant,
    delay: Duration,
    said: bool,
}

impl Patience {
    /// `what` names in messages who is waited for.
    pub(crate) fn new(wait: Duration, what: &'static str) -> Self {
        Self {
            what,
            wait,
            started: clock::instant(),
            deadline: clock::after(wait),
            delay: FIRST_DELAY,
            said: false,
        }
    }

    /// Waits before the next attempt, or fails when that would be too late: as refused where a rule is what sets the
    /// limit.
    ///
    /// The server's `Retry-After` goes before the delays of our own.
    pub(crate) async fn after(&mut self, away: Away) -> Result<(), Failure> {
        let (what, wait) = (self.what, span::show(self.wait));
        let pause = away.retry_after.unwrap_or(self.delay).max(self.delay);
        let next = clock::after(pause);
        let helps_until = away
            .within
            .and_then(|within| self.started.checked_add(within))
            .map_or(self.deadline, |until| until.min(self.deadline));
        if next > helps_until {
            if let Some(refusal) = away.refusal {
                return Err(Failure::Refused(refusal));
            }
            let why = match self.wait.is_zero() {
                true => format!("{what} does not answer: {}", away.why),
                false => format!("{what} did not answer within {wait}: {}", away.why),
            };
            return Err(Failure::Away(Away { why, ..away }));
        }
        if !self.said {
            let why = &away.why;
            let does = match away.refusal {
                Some(_) => "refuses for now",
                None => "does not answer",
            };
            say(format_args!("{what} {does}, waiting up to {wait}: {why}"));
            self.said = true;
        }
        sleep_until(next).await;
        self.delay = self.delay.saturating_mul(2).min(LONGEST_DELAY);
        Ok(())
    }
}

/// Calls `attempt` until it gets an answer or `wait` is over; a refusal is an answer.
pub(crate) async fn patiently<T>(
    wait: Duration,
    what: &'static str,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut patience = Patience::new(wait, what);
    loop {
        match attempt().await {
            Err(Failure::Away(away)) => patience.after(away).await?,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::wire::Refusal;

    #[tokio::test(start_paused = true)]
    async fn an_away_server_is_asked_again_until_the_wait_is_over() {
        let mut calls = 0;
        let answer: Result<(), _> = patiently(Duration::from_secs(10), "it", async || {
            calls += 1;
            Err(Failure::away("gone"))
        })
        .await;
        assert!(matches!(answer, Err(Failure::Away(_))));
        // After 0, 0.25, 0.75, 1.75, 3.75 and 7.75 seconds.
        assert_eq!(calls, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_own_delay_goes_first() {
        let started = clock::instant();
        let mut calls = 0;
        let answer = patiently(Duration::from_secs(60), "it", async || {
            calls += 1;
            match calls {
                1 => Err(Failure::Away(Away {
                    why: "busy".to_owned(),
                    retry_after: Some(Duration::from_secs(30)),
                    refusal: None,
                    within: None,
                    rule: None,
                })),
                _ => Ok(calls),
            }
        })
        .await;
        assert_eq!(answer.unwrap(), 2);
        assert_eq!((clock::instant() - started).as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_may_pass_is_asked_again_for_as_long_as_it_may() {
        let started = clock::instant();
        let refusal = Refusal::read(
            400,
            &serde_json::Map::from_iter([("error".into(), "x".into())]),
        );
        let answer: Result<(), _> = patiently(Duration::from_secs(600), "it", async || {
            Err(Failure::Away(Away {
                why: "it does not know the key".to_owned(),
                retry_after: None,
                refusal: refusal.clone().map(Box::new),
                within: Some(Duration::from_secs(45)),
                rule: None,
            }))
        })
        .await;
        assert!(matches!(answer, Err(Failure::Refused(_))));
        let asked_for = (clock::instant() - started).as_secs();
        assert!((40..=45).contains(&asked_for), "{asked_for}");
    }
}

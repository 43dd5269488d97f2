//! How often the client of a pending task may ask whether it was approved.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dayfly_domain::{Refusal, Rule, Span, TaskId, Time};

use super::deferral::POLL;

/// By how much each poll that comes too early makes the wait longer (RFC 8628, section 3.5).
const SLOWER: Span = Span::from_seconds(5);
/// A poll may come this much early: clocks and networks are not exact.
const EARLY: Span = Span::from_seconds(1);
/// After how many polls too early in a row a client is not told to slow down any more.
const PERSISTENT: u32 = 12;
/// How many tasks are remembered.
const KEPT: usize = 1 << 16;
/// For how long a task that nobody asks about is remembered at least.
const STALE: Span = Span::from_seconds(600);

/// When the tasks of a tenant were asked about last.
#[derive(Default)]
pub(super) struct Polls(Mutex<HashMap<TaskId, Poll>>);

struct Poll {
    last: Time,
    interval: Span,
    early: u32,
}

impl Polls {
    /// Takes note of a poll.
    ///
    /// # Errors
    /// `slow_down`, and after many of these in a row the refusal of a client that does not.
    pub(super) fn take(&self, task: TaskId, now: Time) -> Result<(), Refusal> {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.len() >= KEPT {
            polls.retain(|_, poll| now.since(poll.last) < STALE);
            if polls.len() >= KEPT {
                // Forgetting them is lenient, and all it costs is a read for each poll.
                polls.clear();
            }
        }
        let Some(poll) = polls.get_mut(&task) else {
            let first = Poll {
                last: now,
                interval: POLL,
                early: 0,
            };
            polls.insert(task, first);
            return Ok(());
        };
        let waited = now.since(poll.last);
        poll.last = now;
        if waited + EARLY >= poll.interval {
            poll.early = 0;
            return Ok(());
        }
        poll.early = poll.early.saturating_add(1);
        let rule = if poll.early > PERSISTENT {
            Rule::PollFlood
        } else {
            poll.interval = poll.interval + SLOWER;
            Rule::SlowDown
        };
        Err(Refusal::new(rule)
            .field("deferral_code")
            .wanted(format!("a poll every {}", poll.interval))
            .got(format!("one after {waited}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_slow_down_is_refused_and_one_that_does_is_heard() {
        let polls = Polls::default();
        let task = TaskId([1; 16]);
        let at = |seconds| Time::from_seconds(1_767_225_600 + seconds);
        let rule = |seconds| polls.take(task, at(seconds)).map_err(|why| why.rule);
        assert_eq!(rule(0), Ok(()), "the first may come at once");
        assert_eq!(rule(5), Ok(()));
        assert_eq!(rule(9), Ok(()), "a second early is early enough");
        assert_eq!(rule(10), Err(Rule::SlowDown));
        assert_eq!(rule(15), Err(Rule::SlowDown), "it is ten seconds now");
        assert_eq!(rule(29), Ok(()), "and fifteen");
        for early in 0..PERSISTENT {
            assert_eq!(rule(30 + u64::from(early)), Err(Rule::SlowDown));
        }
        assert_eq!(rule(43), Err(Rule::PollFlood));
        assert_eq!(polls.take(TaskId([2; 16]), at(43)), Ok(()), "another task");
        assert_eq!(rule(1_000), Ok(()), "who waited is heard again");
    }
}

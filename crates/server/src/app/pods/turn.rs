//! Who asks about the pods of an issuer, a few at a time, and whose turn each of them has taken.

use std::sync::Arc;

use dayfly_domain::{Span, TaskId, Time};

use super::kept::{FAILURES, Fall, Of, OfIssuer, Pods};
use crate::verify::PodToken;

/// One who asks about the pods of an issuer, a question at a time.
pub(super) struct Asking {
    pods: Arc<Pods>,
    pub(super) of: Of,
}

/// A pod whose turn it is. Nobody else asks about it for as long as this is there; then it has its next
/// turn when it is due, whatever became of this one.
pub(super) struct Turn {
    pods: Arc<Pods>,
    of: Of,
    number: u64,
    /// The series of its tasks.
    pub(super) series: String,
    pub(super) token: Arc<PodToken>,
    pub(super) tasks: Vec<TaskId>,
}

impl Asking {
    /// Who asks; the issuer counts it already.
    pub(super) fn of(pods: &Arc<Pods>, of: &Of) -> Self {
        Self {
            pods: Arc::clone(pods),
            of: of.clone(),
        }
    }

    /// The pod whose turn came first, unless as many are asked about as may be.
    pub(super) fn next(&self, now: Time) -> Option<Turn> {
        self.with(|of| {
            if now < of.rests || of.open >= of.at_once() {
                return None;
            }
            let (due, series) = of.turns.first().filter(|(due, _)| *due <= now)?.clone();
            let kept = of.kept.get_mut(&series)?;
            of.turns.remove(&(due, series.clone()));
            of.open += 1;
            of.turn += 1;
            kept.turn = Some(of.turn);
            Some(Turn {
                pods: Arc::clone(&self.pods),
                of: self.of.clone(),
                number: of.turn,
                token: Arc::clone(&kept.token),
                tasks: kept.tasks.iter().copied().collect(),
                series,
            })
        })
    }

    /// It is asked about again then, unless another token came meanwhile, whose turn that is.
    pub(super) fn put_off(&self, turn: &Turn, until: Time) {
        self.with(|of| {
            if of.is_current(turn) {
                of.put_off(&turn.series, until);
            }
            None::<()>
        });
    }

    /// The cluster vouches for it: whatever was said before does not count.
    pub(super) fn stands(&self, turn: &Turn, until: Time) {
        self.put_off(turn, until);
        self.with(|of| {
            of.stands(&turn.series);
            None::<()>
        });
    }

    /// The cluster does not vouch for it; what that does.
    pub(super) fn falls(&self, turn: &Turn, now: Time, every: Span) -> Fall {
        let fall = self.with(|of| {
            of.failures = 0;
            Some(of.falls(&turn.series, now, every))
        });
        fall.unwrap_or(Fall::Again)
    }

    /// A question was not answered. After so many in a row nobody is asked before then.
    pub(super) fn failed(&self, rests: Time) {
        self.with(|of| {
            of.failures = of.failures.saturating_add(1);
            if of.failures >= FAILURES {
                of.rests = rests;
            }
            None::<()>
        });
    }

    /// Whether no other token of the pod came since its turn began.
    pub(super) fn is_current(&self, turn: &Turn) -> bool {
        let current = self.with(|of| Some(of.is_current(turn)));
        current.unwrap_or(false)
    }

    /// Nothing can be said by its token any more.
    pub(super) fn forget(&self, turn: &Turn) {
        self.with(|of| {
            of.is_current(turn).then(|| of.remove(&turn.series))?;
            None::<()>
        });
    }

    /// These have ended.
    pub(super) fn ended(&self, turn: &Turn, tasks: &[TaskId]) {
        self.with(|of| {
            of.ended(&turn.series, tasks);
            None::<()>
        });
    }

    /// Nobody is asked about the pods of this issuer any more.
    pub(super) fn forget_all(&self) {
        self.with(|of| {
            of.forget_all();
            None::<()>
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut OfIssuer) -> Option<T>) -> Option<T> {
        act(self.pods.locked().get_mut(&self.of)?)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut pods = self.pods.locked();
        let Some(of) = pods.get_mut(&self.of) else {
            return;
        };
        of.askers = of.askers.saturating_sub(1);
        if of.is_idle() {
            pods.remove(&self.of);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut pods = self.pods.locked();
        let Some(of) = pods.get_mut(&self.of) else {
            return;
        };
        of.open = of.open.saturating_sub(1);
        // What was dropped and came back meanwhile has turns of its own.
        if let Some(kept) = of.kept.get_mut(&self.series)
            && kept.turn == Some(self.number)
        {
            kept.turn = None;
            of.turns.insert((kept.due, self.series.clone()));
        }
    }
}

impl OfIssuer {
    fn is_current(&self, turn: &Turn) -> bool {
        let kept = self.kept.get(&turn.series);
        kept.is_some_and(|kept| Arc::ptr_eq(&kept.token, &turn.token))
    }
}

#[cfg(test)]
mod tests {
    use dayfly_domain::Name;

    use super::*;
    use crate::verify::AGAIN_AT_ONCE;

    fn tenant() -> Name {
        "acme".parse().unwrap()
    }

    fn issuer() -> Name {
        "cluster".parse().unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::from_seconds(seconds)
    }

    /// So many pods whose turn comes after half a minute.
    fn pods(number: u8) -> Arc<Pods> {
        let pods = Arc::<Pods>::default();
        for pod in 0..number {
            let token = PodToken::sample(&issuer(), 9, 1, 9000);
            let task = TaskId([pod; 16]);
            pods.keep(&tenant(), &token, &format!("pod-{pod}"), task, at(30));
        }
        pods
    }

    #[test]
    fn a_few_are_asked_about_at_once_and_nobody_twice() {
        let pods = pods(9);
        assert_eq!(pods.begin(at(29)).len(), 0);
        let askers = pods.begin(at(30));
        assert_eq!((askers.len(), pods.begin(at(30)).len()), (AGAIN_AT_ONCE, 0));
        let turns: Vec<Turn> = askers.iter().map(|one| one.next(at(30)).unwrap()).collect();
        let mut named: Vec<&str> = turns.iter().map(|turn| turn.series.as_str()).collect();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len(), AGAIN_AT_ONCE);
        // All of them are open.
        assert!(askers[0].next(at(30)).is_none());
        for (asker, turn) in askers.iter().zip(turns) {
            asker.stands(&turn, at(60));
        }
        let again: Vec<Turn> = askers.iter().map(|one| one.next(at(30)).unwrap()).collect();
        for (asker, turn) in askers.iter().zip(&again) {
            asker.stands(turn, at(60));
        }
        drop(again);
        let last = askers[0].next(at(30)).unwrap();
        assert!(askers[1].next(at(30)).is_none(), "nine, and no more");
        drop(last);
        drop(askers);
        // One was let go of without a word: its turn is what it was.
        assert_eq!(pods.begin(at(30)).len(), 1);
    }

    #[test]
    fn three_without_an_answer_stop_all_who_ask_and_one_tries_again() {
        let pods = pods(9);
        let askers = pods.begin(at(30));
        let turns: Vec<Turn> = askers.iter().map(|one| one.next(at(30)).unwrap()).collect();
        for (asker, turn) in askers.iter().zip(turns).take(2) {
            asker.put_off(&turn, at(60));
            asker.failed(at(35));
        }
        // While the last was not answered there is one question at a time.
        let third = askers[0].next(at(30)).unwrap();
        assert!(askers[1].next(at(30)).is_none());
        askers[0].put_off(&third, at(60));
        askers[0].failed(at(35));
        drop(third);
        assert!(askers.iter().all(|one| one.next(at(34)).is_none()));
        drop(askers);
        assert_eq!(pods.begin(at(34)).len(), 0);
        let askers = pods.begin(at(35));
        assert_eq!(askers.len(), 1);
        let turn = askers[0].next(at(35)).unwrap();
        askers[0].stands(&turn, at(65));
        drop(turn);
        assert_eq!(pods.begin(at(35)).len(), AGAIN_AT_ONCE - 1);
    }

    /// A pod that ended and came back while it was asked about has its own turn.
    #[test]
    fn what_came_back_is_not_asked_about_by_the_turn_before() {
        let pods = pods(1);
        let askers = pods.begin(at(30));
        let turn = askers[0].next(at(30)).unwrap();
        askers[0].ended(&turn, &[TaskId([0; 16])]);
        let token = PodToken::sample(&issuer(), 9, 2, 9000);
        pods.keep(&tenant(), &token, "pod-0", TaskId([7; 16]), at(90));
        assert!(!askers[0].is_current(&turn) && askers[0].next(at(89)).is_none());
        let own = askers[0].next(at(90)).unwrap();
        assert!(Arc::ptr_eq(&own.token, &token));
        drop(turn);
        assert!(askers[0].next(at(90)).is_none(), "somebody asks about it");
        assert_eq!(pods.watched()[0].tasks, 1);
    }
}

//! The newest token of each pod that has a task open, in memory alone, and whose turn it is to be asked about.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Name, Span, TaskId, Time};
use dayfly_store::Committed;

use crate::verify::PodToken;

/// Of how many pods of one issuer tokens are kept.
pub(super) const MOST: usize = 16_384;
/// How much memory these may take.
const MOST_BYTES: usize = 32 << 20;
/// How much longer than its turn a pod may wait before somebody should look.
const LATE: u64 = 2;
/// How long after a first no a cluster is asked again, before it counts.
pub(super) const AGAIN: Span = Span::from_seconds(5);
/// Within which time pods that fall are many.
const WINDOW: Span = Span::from_seconds(60);
/// With fewer within it, they are gone and the cluster is well.
const MANY: usize = 10;
/// How long no pod ends where many fall at once.
const HOLD: Span = Span::from_seconds(300);
/// After how many questions without an answer in a row nobody is asked for a while.
const FAILURES: u32 = 3;

/// The issuer of a tenant.
pub(super) type Of = (Name, Name);

/// Tokens by issuer and pod.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<BTreeMap<Of, OfIssuer>>);

#[derive(Debug, Default)]
struct OfIssuer {
    /// By the series of its tasks, which is the pod's uid.
    kept: HashMap<String, Kept>,
    /// The same in the order of their turns.
    turns: BTreeSet<(Time, String)>,
    bytes: usize,
    /// Whether the last token that came had no room, and none was made since.
    turned_away: bool,
    /// Whether somebody asks: one question at a time.
    asking: bool,
    /// How many questions in a row were not answered.
    failures: u32,
    /// Until when nobody asks after questions that were not answered.
    rests: Time,
    /// The pods of which a first no was said, and when.
    fallen: VecDeque<(Time, String)>,
    /// Until when no pod ends, because many fell at once.
    holds: Time,
}

#[derive(Debug)]
struct Kept {
    token: Arc<PodToken>,
    tasks: BTreeSet<TaskId>,
    due: Time,
    word: Word,
}

/// What its cluster said last of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It vouches for it.
    Stands,
    /// It does not, since then.
    Doubted(Time),
    /// Nor for many others: it may be the cluster, and the pod ends by this no earlier than then.
    Held(Time),
}

/// What a no does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fall {
    /// Nothing yet: it is asked about once more.
    Again,
    /// Nothing yet: more than a fifth of the pods fall at once.
    Held,
    /// The pod is gone.
    Gone,
}

/// A pod whose turn it is.
pub(super) struct Turn {
    /// The series of its tasks.
    pub(super) series: String,
    pub(super) token: Arc<PodToken>,
    pub(super) tasks: Vec<TaskId>,
}

/// How many pods of an issuer are asked about.
pub(crate) struct Watched {
    /// The tenant.
    pub(crate) tenant: Name,
    /// The declared issuer.
    pub(crate) issuer: Name,
    /// How many.
    pub(crate) pods: usize,
    /// Whether there is no room for more.
    pub(crate) is_full: bool,
    /// The turn that has come first.
    pub(crate) first: Option<Time>,
    /// Until when none of them ends, because many fell at once.
    pub(crate) holds: Time,
}

impl Pods {
    /// Keeps the token of a pod that has this task open, unless one is kept by which more can be
    /// said. One for which there is no room is not kept, and leaves the older one where it is. No
    /// token puts off the turn of its pod, nor what was said of it.
    pub(super) fn keep(
        &self,
        tenant: &Name,
        token: &Arc<PodToken>,
        series: &str,
        task: TaskId,
        due: Time,
    ) {
        let mut pods = self.locked();
        let of = (tenant.clone(), token.issuer().clone());
        let of_issuer = pods.entry(of).or_default();
        let Some(kept) = of_issuer.kept.get_mut(series) else {
            let kept = Kept {
                token: Arc::clone(token),
                tasks: BTreeSet::from([task]),
                due,
                word: Word::Stands,
            };
            return of_issuer.add(series, kept);
        };
        kept.tasks.insert(task);
        if !token.outlives(&kept.token) {
            return;
        }
        let others = of_issuer.bytes.saturating_sub(kept.token.bytes());
        let bytes = others.saturating_add(token.bytes());
        if bytes > MOST_BYTES {
            of_issuer.turned_away = true;
            return;
        }
        kept.token = Arc::clone(token);
        of_issuer.bytes = bytes;
    }

    /// An append is durable: what ended by it needs no token any more.
    pub(crate) fn committed(&self, tenant: &Name, committed: &Committed) {
        let changes = committed.changes().iter();
        for change in changes.filter(|change| change.next.has_ended()) {
            let mut pods = self.locked();
            if pods.is_empty() {
                return;
            }
            let of = (tenant.clone(), change.next.issuer.clone());
            if let Some(of_issuer) = pods.get_mut(&of) {
                of_issuer.ended(&change.next.series, &[change.task]);
            }
        }
    }

    /// The issuers of which somebody's turn has come and nobody asks, who are asked from now on.
    pub(super) fn begin(self: &Arc<Self>, now: Time) -> Vec<Asking> {
        let mut pods = self.locked();
        let due = pods.iter_mut().filter(|(_, of)| of.is_due(now));
        due.map(|(of, of_issuer)| {
            of_issuer.asking = true;
            Asking {
                pods: Arc::clone(self),
                of: of.clone(),
            }
        })
        .collect()
    }

    /// How many are asked about, by issuer.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let pods = self.locked();
        let watched = pods.iter().map(|((tenant, issuer), of)| Watched {
            tenant: tenant.clone(),
            issuer: issuer.clone(),
            pods: of.kept.len(),
            is_full: of.turned_away,
            holds: of.holds,
            first: of.turns.first().map(|(due, _)| *due),
        });
        watched.collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Of, OfIssuer>> {
        // INVARIANT: `kept` and `turns` are changed together by calls that do not panic between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Whether the pods wait longer than they should, when each is asked about so often.
    pub(crate) fn is_late(&self, every: Span, now: Time) -> bool {
        let late = Span::from_millis(every.millis().saturating_mul(LATE));
        self.first.is_some_and(|due| now.since(due) > late)
    }
}

impl OfIssuer {
    fn is_due(&self, now: Time) -> bool {
        let first = self.turns.first();
        !self.asking && self.rests <= now && first.is_some_and(|(due, _)| *due <= now)
    }

    fn is_full(&self, more: usize) -> bool {
        self.kept.len() >= MOST || self.bytes.saturating_add(more) > MOST_BYTES
    }

    fn add(&mut self, series: &str, kept: Kept) {
        let bytes = kept.token.bytes();
        if self.is_full(bytes) {
            self.turned_away = true;
            return;
        }
        self.bytes += bytes;
        self.turns.insert((kept.due, series.to_owned()));
        self.kept.insert(series.to_owned(), kept);
    }

    fn remove(&mut self, series: &str) -> Option<Kept> {
        let kept = self.kept.remove(series)?;
        self.turns.remove(&(kept.due, series.to_owned()));
        self.bytes = self.bytes.saturating_sub(kept.token.bytes());
        self.turned_away = false;
        Some(kept)
    }

    fn put_off(&mut self, series: &str, until: Time) {
        if let Some(kept) = self.kept.get_mut(series) {
            self.turns.remove(&(kept.due, series.to_owned()));
            kept.due = until;
            self.turns.insert((until, series.to_owned()));
        }
    }

    /// What a no about a pod does, which is asked about again after `every` where it does nothing.
    fn falls(&mut self, series: &str, now: Time, every: Span) -> Fall {
        let Some(word) = self.kept.get(series).map(|kept| kept.word) else {
            return Fall::Again;
        };
        let (word, due, fall) = match word {
            Word::Stands => {
                self.fallen.push_back((now, series.to_owned()));
                (Word::Doubted(now), now + AGAIN, Fall::Again)
            }
            Word::Doubted(since) if now < since + AGAIN => (word, since + AGAIN, Fall::Again),
            Word::Doubted(_) if self.holds(now) => {
                let until = self.holds;
                (Word::Held(until), until.min(now + every), Fall::Held)
            }
            Word::Held(until) if now < until => (word, until.min(now + every), Fall::Held),
            Word::Doubted(_) | Word::Held(_) => return Fall::Gone,
        };
        if let Some(kept) = self.kept.get_mut(series) {
            kept.word = word;
        }
        self.put_off(series, due);
        fall
    }

    /// Whether no pod ends, because more than a fifth of them fell within the window.
    fn holds(&mut self, now: Time) -> bool {
        if now < self.holds {
            return true;
        }
        while self
            .fallen
            .front()
            .is_some_and(|(at, _)| now.since(*at) > WINDOW)
        {
            self.fallen.pop_front();
        }
        let gone = self
            .fallen
            .iter()
            .filter(|(_, series)| !self.kept.contains_key(series));
        let all = self.kept.len() + gone.count();
        let many = self.fallen.len() >= MANY && self.fallen.len() * 5 > all;
        if many {
            self.holds = now + HOLD;
        }
        many
    }

    fn ended(&mut self, series: &str, tasks: &[TaskId]) {
        let Some(kept) = self.kept.get_mut(series) else {
            return;
        };
        kept.tasks.retain(|task| !tasks.contains(task));
        if kept.tasks.is_empty() {
            self.remove(series);
        }
    }
}

/// That nobody else asks about the pods of an issuer for as long as this is there.
pub(super) struct Asking {
    pods: Arc<Pods>,
    pub(super) of: Of,
}

impl Asking {
    /// The pod whose turn came first.
    pub(super) fn next(&self, now: Time) -> Option<Turn> {
        self.with(|of| {
            let (due, series) = of.turns.first()?;
            let kept = of.kept.get(series).filter(|_| *due <= now)?;
            Some(Turn {
                series: series.clone(),
                token: Arc::clone(&kept.token),
                tasks: kept.tasks.iter().copied().collect(),
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
            of.failures = 0;
            let kept = of.kept.get_mut(&turn.series)?;
            if kept.word != Word::Stands {
                kept.word = Word::Stands;
                of.fallen.retain(|(_, series)| *series != turn.series);
            }
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

    /// A question was not answered; whether so many in a row that nobody should be asked for a while.
    pub(super) fn failed(&self) -> bool {
        let many = self.with(|of| {
            of.failures = of.failures.saturating_add(1);
            Some(of.failures >= FAILURES)
        });
        many.unwrap_or(true)
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
            *of = OfIssuer {
                asking: true,
                ..OfIssuer::default()
            };
            None::<()>
        });
    }

    /// Nobody asks until then.
    pub(super) fn rest(&self, until: Time) {
        self.with(|of| {
            of.rests = until;
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
        of.asking = false;
        if of.kept.is_empty() {
            pods.remove(&self.of);
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
    use super::*;

    fn of() -> (Name, Name) {
        ("acme".parse().unwrap(), "cluster".parse().unwrap())
    }

    fn keep(pods: &Pods, series: &str, token: &Arc<PodToken>, due: u64) {
        let task = TaskId([0; 16]);
        pods.keep(&of().0, token, series, task, Time::from_seconds(due));
    }

    fn sample(bytes: usize, made: u64, expires: u64) -> Arc<PodToken> {
        PodToken::sample(&of().1, bytes, made, expires)
    }

    fn kept(pods: &Pods, series: &str) -> Option<Arc<PodToken>> {
        let locked = pods.locked();
        locked
            .get(&of())?
            .kept
            .get(series)
            .map(|kept| Arc::clone(&kept.token))
    }

    #[test]
    fn no_token_takes_the_place_of_one_that_expires_later() {
        let pods = Pods::default();
        let (long, newer, longer) = (sample(9, 1, 900), sample(9, 2, 800), sample(9, 1, 901));
        keep(&pods, "one", &long, 30);
        keep(&pods, "one", &newer, 40);
        assert!(Arc::ptr_eq(&kept(&pods, "one").unwrap(), &long));
        keep(&pods, "one", &longer, 50);
        assert!(Arc::ptr_eq(&kept(&pods, "one").unwrap(), &longer));
        // Its turn stays where it was.
        assert_eq!(pods.watched()[0].first, Some(Time::from_seconds(30)));
    }

    #[test]
    fn what_has_no_room_is_left_out_and_told_and_the_older_token_stays() {
        let pods = Pods::default();
        let quarter = MOST_BYTES / 4;
        let first = sample(quarter, 1, 900);
        for series in ["a", "b", "c", "d"] {
            keep(&pods, series, &first, 30);
        }
        assert!(!pods.watched()[0].is_full);
        keep(&pods, "e", &first, 30);
        assert!(pods.watched()[0].is_full && kept(&pods, "e").is_none());
        keep(&pods, "a", &sample(2 * quarter, 2, 901), 30);
        assert!(Arc::ptr_eq(&kept(&pods, "a").unwrap(), &first));
        pods.locked().get_mut(&of()).unwrap().remove("b");
        assert!(!pods.watched()[0].is_full);
        keep(&pods, "e", &first, 30);
        assert!(kept(&pods, "e").is_some());
    }

    #[test]
    fn so_many_pods_of_an_issuer_and_no_more() {
        let pods = Pods::default();
        for number in 0..=MOST {
            keep(&pods, &number.to_string(), &sample(1, 1, 900), 30);
        }
        let watched = &pods.watched()[0];
        assert_eq!((watched.pods, watched.is_full), (MOST, true));
    }

    /// Pods of which so many fall within a minute: how many are gone by a second no.
    fn gone(pods: usize, fall: usize) -> (usize, OfIssuer) {
        let mut of = OfIssuer::default();
        for number in 0..pods {
            let kept = Kept {
                token: sample(1, 1, 9000),
                tasks: BTreeSet::new(),
                due: Time::default(),
                word: Word::Stands,
            };
            of.add(&number.to_string(), kept);
        }
        let (now, every) = (Time::from_seconds(100), Span::from_seconds(30));
        for number in 0..fall {
            assert_eq!(of.falls(&number.to_string(), now, every), Fall::Again);
        }
        // Asked again too early it is no second no.
        assert_eq!(of.falls("0", now, every), Fall::Again);
        let mut falls =
            |number: usize| of.falls(&number.to_string(), now + AGAIN, every) == Fall::Gone;
        ((0..fall).filter(|number| falls(*number)).count(), of)
    }

    #[test]
    fn a_second_no_counts_unless_it_is_one_of_many() {
        assert_eq!(gone(100, 1).0, 1);
        assert_eq!(gone(9, 9).0, 9, "a handful is gone by itself");
        assert_eq!(gone(50, 10).0, 10);
        let (none, mut of) = gone(49, 10);
        assert_eq!(none, 0);
        let (after, every) = (Time::from_seconds(105) + HOLD, Span::from_seconds(30));
        assert_eq!(of.falls("0", Time::from_seconds(200), every), Fall::Held);
        assert_eq!(of.falls("0", after, every), Fall::Gone);
    }
}

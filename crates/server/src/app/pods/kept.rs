//! The newest token of each pod that has a task open, in memory alone, and whose turn it is to be asked about.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Name, Span, TaskId, Time};
use dayfly_store::Committed;

use super::turn::Asking;
use crate::verify::{AGAIN_AT_ONCE, PodToken};

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
pub(super) const FAILURES: u32 = 3;

/// The issuer of a tenant.
pub(super) type Of = (Name, Name);

/// Tokens by issuer and pod.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<BTreeMap<Of, OfIssuer>>);

#[derive(Debug, Default)]
pub(super) struct OfIssuer {
    /// By the series of its tasks, which is the pod's uid.
    pub(super) kept: HashMap<String, Kept>,
    /// Those about which nobody asks now, in the order of their turns.
    pub(super) turns: BTreeSet<(Time, String)>,
    bytes: usize,
    /// How many tasks these pods have open.
    tasks: usize,
    /// Whether the last token that came had no room, and none was made since.
    turned_away: bool,
    /// How many tokens had none, since the start.
    turned_away_so_far: u64,
    /// How many ask, each one question at a time.
    pub(super) askers: usize,
    /// How many questions are open.
    pub(super) open: usize,
    /// How many turns there were, so that each has a number of its own.
    pub(super) turn: u64,
    /// How many questions in a row were not answered.
    pub(super) failures: u32,
    /// Until when nobody asks after questions that were not answered.
    pub(super) rests: Time,
    /// The pods of which a first no was said, and when.
    fallen: VecDeque<(Time, String)>,
    /// Until when no pod ends, because many fell at once.
    holds: Time,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) token: Arc<PodToken>,
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) due: Time,
    pub(super) word: Word,
    /// The turn in which somebody asks about it now.
    pub(super) turn: Option<u64>,
}

/// What its cluster said last of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
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

/// How many pods of an issuer are asked about.
pub(crate) struct Watched {
    /// The tenant.
    pub(crate) tenant: Name,
    /// The declared issuer.
    pub(crate) issuer: Name,
    /// How many.
    pub(crate) pods: usize,
    /// How many tasks these have open.
    pub(crate) tasks: usize,
    /// Whether there is no room for more.
    pub(crate) is_full: bool,
    /// How many tokens had no room, since the start.
    pub(crate) turned_away: u64,
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
                turn: None,
            };
            return of_issuer.add(series, kept);
        };
        of_issuer.tasks += usize::from(kept.tasks.insert(task));
        if !token.outlives(&kept.token) {
            return;
        }
        let others = of_issuer.bytes.saturating_sub(kept.token.bytes());
        let bytes = others.saturating_add(token.bytes());
        if bytes > MOST_BYTES {
            of_issuer.turn_away();
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

    /// As many who ask as there are pods whose turn has come, each issuer's within what is asked of it
    /// at a time.
    pub(super) fn begin(self: &Arc<Self>, now: Time) -> Vec<Asking> {
        let mut pods = self.locked();
        let mut all = Vec::new();
        for (of, of_issuer) in pods.iter_mut() {
            let more = of_issuer.wanted(now);
            of_issuer.askers += more;
            all.extend((0..more).map(|_| Asking::of(self, of)));
        }
        all
    }

    /// Has nothing wait for a time that a clock that was ahead has set: every pod is asked about from
    /// now on, a few at a time, and what was said of it was said by now.
    pub(crate) fn set_back(&self, now: Time) {
        let mut pods = self.locked();
        for of_issuer in pods.values_mut() {
            of_issuer.set_back(now);
        }
    }

    /// The token of a pod by which its cluster can be asked about it now.
    pub(super) fn token(&self, of: &Of, series: &str, now: Time) -> Option<Arc<PodToken>> {
        let pods = self.locked();
        let token = &pods.get(of)?.kept.get(series)?.token;
        (!token.may_have_expired(now)).then(|| Arc::clone(token))
    }

    /// How many are asked about, by issuer.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let pods = self.locked();
        let watched = pods.iter().map(|((tenant, issuer), of)| Watched {
            tenant: tenant.clone(),
            issuer: issuer.clone(),
            pods: of.kept.len(),
            tasks: of.tasks,
            is_full: of.turned_away,
            turned_away: of.turned_away_so_far,
            holds: of.holds,
            first: of.turns.first().map(|(due, _)| *due),
        });
        watched.collect()
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, BTreeMap<Of, OfIssuer>> {
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
    /// How many questions may be open at once: one for as long as the last was not answered, so that a
    /// cluster in trouble is not asked in vain by many.
    pub(super) const fn at_once(&self) -> usize {
        if self.failures == 0 { AGAIN_AT_ONCE } else { 1 }
    }

    /// How many more should ask.
    fn wanted(&self, now: Time) -> usize {
        if now < self.rests {
            return 0;
        }
        let due = self.turns.iter().take_while(|(due, _)| *due <= now);
        due.take(self.at_once().saturating_sub(self.askers)).count()
    }

    fn set_back(&mut self, now: Time) {
        let latest = now + HOLD;
        self.rests = self.rests.min(now);
        self.holds = self.holds.min(latest);
        for (at, _) in &mut self.fallen {
            *at = now.min(*at);
        }
        for kept in self.kept.values_mut() {
            kept.due = kept.due.min(now);
            kept.word = match kept.word {
                Word::Stands => Word::Stands,
                Word::Doubted(since) => Word::Doubted(since.min(now)),
                Word::Held(until) => Word::Held(until.min(latest)),
            };
        }
        let turns = std::mem::take(&mut self.turns);
        self.turns = turns
            .into_iter()
            .map(|(due, series)| (due.min(now), series))
            .collect();
    }

    fn turn_away(&mut self) {
        self.turned_away = true;
        self.turned_away_so_far = self.turned_away_so_far.saturating_add(1);
    }

    /// Whether nothing has to be remembered of it.
    pub(super) fn is_idle(&self) -> bool {
        self.kept.is_empty() && self.askers == 0 && self.turned_away_so_far == 0
    }

    /// The same issuer, of which nothing is asked any more.
    pub(super) fn forget_all(&mut self) {
        *self = Self {
            askers: self.askers,
            open: self.open,
            turn: self.turn,
            turned_away_so_far: self.turned_away_so_far,
            ..Self::default()
        };
    }

    fn is_full(&self, more: usize) -> bool {
        self.kept.len() >= MOST || self.bytes.saturating_add(more) > MOST_BYTES
    }

    fn add(&mut self, series: &str, kept: Kept) {
        let bytes = kept.token.bytes();
        if self.is_full(bytes) {
            self.turn_away();
            return;
        }
        self.bytes += bytes;
        self.tasks += kept.tasks.len();
        self.turns.insert((kept.due, series.to_owned()));
        self.kept.insert(series.to_owned(), kept);
    }

    pub(super) fn remove(&mut self, series: &str) -> Option<Kept> {
        let kept = self.kept.remove(series)?;
        self.turns.remove(&(kept.due, series.to_owned()));
        self.bytes = self.bytes.saturating_sub(kept.token.bytes());
        self.tasks = self.tasks.saturating_sub(kept.tasks.len());
        self.turned_away = false;
        Some(kept)
    }

    /// It is asked about then; one that somebody asks about now is among the turns again once that is
    /// over.
    pub(super) fn put_off(&mut self, series: &str, until: Time) {
        if let Some(kept) = self.kept.get_mut(series) {
            let waits = self.turns.remove(&(kept.due, series.to_owned()));
            kept.due = until;
            if waits {
                self.turns.insert((until, series.to_owned()));
            }
        }
    }

    /// What a no about a pod does, which is asked about again after `every` where it does nothing.
    pub(super) fn falls(&mut self, series: &str, now: Time, every: Span) -> Fall {
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

    /// The cluster vouches for it: what was said before does not count.
    pub(super) fn stands(&mut self, series: &str) {
        self.failures = 0;
        if let Some(kept) = self.kept.get_mut(series)
            && kept.word != Word::Stands
        {
            kept.word = Word::Stands;
            self.fallen.retain(|(_, fallen)| *fallen != series);
        }
    }

    pub(super) fn ended(&mut self, series: &str, tasks: &[TaskId]) {
        let Some(kept) = self.kept.get_mut(series) else {
            return;
        };
        let before = kept.tasks.len();
        kept.tasks.retain(|task| !tasks.contains(task));
        self.tasks = self.tasks.saturating_sub(before - kept.tasks.len());
        if kept.tasks.is_empty() {
            self.remove(series);
        }
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
        assert_eq!(pods.watched()[0].turned_away, 1);
        keep(&pods, "a", &sample(2 * quarter, 2, 901), 30);
        assert!(Arc::ptr_eq(&kept(&pods, "a").unwrap(), &first));
        assert_eq!(pods.watched()[0].turned_away, 2);
        pods.locked().get_mut(&of()).unwrap().remove("b");
        // The flag is of now, the number of all time.
        assert!(!pods.watched()[0].is_full && pods.watched()[0].turned_away == 2);
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
                turn: None,
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

    /// What was said by a clock that was ahead was said by now, and no pod waits for that time.
    #[test]
    fn nothing_waits_for_the_time_of_a_clock_that_was_ahead() {
        let pods = Pods::default();
        let (_, mut of_issuer) = gone(49, 10);
        let ahead = Time::from_seconds(105);
        of_issuer.rests = ahead;
        for (series, due) in [("20", 90), ("21", 105)] {
            of_issuer.put_off(series, Time::from_seconds(due));
        }
        pods.locked().insert(of(), of_issuer);
        let now = Time::from_seconds(10);
        pods.set_back(now);
        let mut locked = pods.locked();
        let of_issuer = locked.get_mut(&of()).unwrap();
        assert_eq!(of_issuer.turns.len(), 49);
        assert!(of_issuer.wanted(now) > 0 && of_issuer.turns.iter().all(|(due, _)| *due <= now));
        let every = Span::from_seconds(30);
        // The hold goes on for no longer than one that begins now.
        let after = now + HOLD;
        assert_eq!(of_issuer.falls("1", now, every), Fall::Held);
        assert_eq!(of_issuer.falls("1", after, every), Fall::Gone);
        // A first no by the clock that was ahead is one by now.
        assert_eq!(of_issuer.falls("30", now, every), Fall::Again);
        assert_eq!(of_issuer.falls("30", after + AGAIN, every), Fall::Gone);
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

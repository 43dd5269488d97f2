//! What the provider of people said, as the model knows it: which logins are worth nothing any more, and who is out.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::Time;

use super::Model;

/// A person, by place among all, and when they logged in: in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) who: usize,
    pub(crate) at: Time,
}

/// What was said of people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// Up to when what somebody logged in for is over.
    over: BTreeMap<usize, Time>,
    /// The latest word by which somebody was put out.
    out_by: BTreeMap<usize, Time>,
    /// Who is out until somebody lets them in, and since when.
    pub(crate) out: BTreeMap<usize, Time>,
}

impl Login {
    /// Somebody who logs in now.
    pub(crate) const fn now(who: usize, now: Time) -> Self {
        Self::ago(who, now, 0)
    }

    /// Somebody who logged in so many seconds ago.
    pub(crate) const fn ago(who: usize, now: Time, seconds: u64) -> Self {
        Self {
            who,
            at: Time::from_seconds(now.seconds() - seconds),
        }
    }
}

impl Model {
    /// Whether a login is worth nothing: it is over, or the person is out.
    pub(crate) fn is_out(&self, login: Login) -> bool {
        self.words.out.contains_key(&login.who) || self.is_logged_out(login)
    }

    fn is_logged_out(&self, login: Login) -> bool {
        let over = self.words.over.get(&login.who);
        over.is_some_and(|over| login.at <= *over)
    }

    /// Whether whom a task runs for is out: it goes on, and gets nothing further.
    pub(super) fn is_for_nobody(&self, person: Option<Login>) -> bool {
        person.is_some_and(|login| self.is_out(login))
    }

    /// For whom something runs or waits, and who approved what waits.
    pub(crate) fn concerned(&self) -> Vec<usize> {
        let mut people = BTreeSet::new();
        for task in self.tasks.values().filter(|task| !self.is_over(task)) {
            people.extend(task.person.map(|login| login.who));
            people.extend(task.pending.iter().flat_map(|it| it.given.iter().copied()));
        }
        people.into_iter().collect()
    }

    /// It is said that what somebody logged in for up to then is over, or that the account is gone.
    /// Said again, late or in another order it comes to the same; and who was let in again is put
    /// out only by a later word.
    pub(crate) fn hear_of(&mut self, who: usize, upto: Time, gone: bool) {
        let over = self.words.over.entry(who).or_insert(upto);
        *over = upto.max(*over);
        let by = self.words.out_by.get(&who);
        if gone && by.is_none_or(|by| *by < upto) {
            self.words.out_by.insert(who, upto);
            self.words.out.entry(who).or_insert(self.now);
        }
        let over: Vec<Login> = self.tasks.values().filter_map(|task| task.person).collect();
        let over = over.into_iter().filter(|login| self.is_logged_out(*login));
        let over: Vec<Login> = over.collect();
        self.end_where(|task| task.person.is_some_and(|login| over.contains(&login)));
    }

    /// Somebody is let in again.
    pub(crate) fn let_in(&mut self, who: usize) {
        self.words.out.remove(&who);
    }
}

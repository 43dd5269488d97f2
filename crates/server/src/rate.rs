//! Counts who asks how often, in a bounded number of places (generic cell rate algorithm).

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use dayfly_domain::{Span, Time};

use crate::config::Rate;

/// How many callers of one kind are told apart; beyond, newcomers share one place.
const PLACES: usize = 1 << 16;

/// Who asked how often of late. A place holds the time at which everything it was charged is paid
/// off, in microseconds; one that is paid off is no different from none.
#[derive(Debug)]
pub(crate) struct Buckets<K>(Mutex<Held<K>>);

#[derive(Debug)]
struct Held<K> {
    paid: HashMap<K, u64>,
    /// The place of those for whom there was none.
    others: u64,
    /// Before this time another look for places that are paid off would find few.
    look_again: u64,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::new(Held {
            paid: HashMap::new(),
            others: 0,
            look_again: 0,
        }))
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// Charges one request, or says how long to wait.
    pub(crate) fn take(&self, key: K, rate: Rate, now: Time) -> Result<(), Span> {
        let now = micros(now);
        self.with(|held| {
            let paid = held.place(key, now);
            let cost = Cost::of(rate);
            *paid = cost.sane(*paid, now);
            cost.check(*paid, now)?;
            *paid = (*paid).max(now) + cost.each;
            Ok(())
        })
    }

    /// Takes back the charge of one request that was taken.
    pub(crate) fn give_back(&self, key: K, rate: Rate, now: Time) {
        let now = micros(now);
        self.with(|held| {
            let paid = held.place(key, now);
            *paid = paid.saturating_sub(Cost::of(rate).each);
        });
    }

    /// Whether one more request would pass, or how long to wait; charges nothing.
    pub(crate) fn check<Q>(&self, key: &Q, rate: Rate, now: Time) -> Result<(), Span>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = micros(now);
        self.with(|held| {
            let cost = Cost::of(rate);
            let paid = held.paid.get(key).copied().unwrap_or(held.others);
            cost.check(cost.sane(paid, now), now)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Held<K>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Hash + Eq> Held<K> {
    fn place(&mut self, key: K, now: u64) -> &mut u64 {
        if self.paid.len() >= PLACES && now >= self.look_again && !self.paid.contains_key(&key) {
            self.paid.retain(|_, paid| *paid > now);
            // At most once a second, whoever comes and however often.
            self.look_again = now + 1_000_000;
        }
        if self.paid.len() >= PLACES && !self.paid.contains_key(&key) {
            return &mut self.others;
        }
        self.paid.entry(key).or_insert(0)
    }
}

/// A rate in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    each: u64,
    /// How much may be charged ahead: as many requests as the rate names.
    ahead: u64,
}

impl Cost {
    fn of(rate: Rate) -> Self {
        let ahead = rate.per.millis().saturating_mul(1000);
        Self {
            each: (ahead / u64::from(rate.requests.max(1))).max(1),
            ahead,
        }
    }

    /// No more than can have been charged: a clock that was set back asks nobody to wait for it.
    fn sane(self, paid: u64, now: u64) -> u64 {
        paid.min(now.saturating_add(self.ahead))
    }

    fn check(self, paid: u64, now: u64) -> Result<(), Span> {
        let over = (paid.max(now) + self.each).saturating_sub(now + self.ahead);
        if over == 0 {
            Ok(())
        } else {
            Err(Span::from_millis(over.div_ceil(1000)))
        }
    }
}

fn micros(time: Time) -> u64 {
    time.millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::per_minute(6);

    fn at(millis: u64) -> Time {
        Time::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn as_many_as_the_rate_says_and_then_one_by_one() {
        let buckets = Buckets::default();
        for _ in 0..6 {
            assert_eq!(buckets.check("a", RATE, at(0)), Ok(()));
            assert_eq!(buckets.take("a", RATE, at(0)), Ok(()));
        }
        let ten = Span::from_seconds(10);
        assert_eq!(buckets.check("a", RATE, at(0)), Err(ten));
        assert_eq!(buckets.take("a", RATE, at(0)), Err(ten));
        // Being refused costs nothing.
        assert_eq!(
            buckets.take("a", RATE, at(9_000)),
            Err(Span::from_seconds(1))
        );
        assert_eq!(buckets.take("a", RATE, at(10_000)), Ok(()));
        assert_eq!(buckets.take("a", RATE, at(10_000)), Err(ten));
        assert_eq!(buckets.take("b", RATE, at(0)), Ok(()));
        for _ in 0..6 {
            assert_eq!(buckets.take("a", RATE, at(100_000)), Ok(()));
        }
    }

    #[test]
    fn what_is_given_back_was_never_asked() {
        let buckets = Buckets::default();
        for _ in 0..60 {
            assert_eq!(buckets.take("a", RATE, at(0)), Ok(()));
            buckets.give_back("a", RATE, at(0));
        }
        for _ in 0..6 {
            assert_eq!(buckets.take("a", RATE, at(0)), Ok(()));
        }
        assert!(buckets.take("a", RATE, at(0)).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_asks_for_no_more_than_one_span() {
        let buckets = Buckets::default();
        for _ in 0..6 {
            let _ = buckets.take("a", RATE, at(3_600_000));
        }
        assert_eq!(buckets.take("a", RATE, at(0)), Err(Span::from_seconds(10)));
        assert_eq!(buckets.take("a", RATE, at(60_000)), Ok(()));
    }

    #[test]
    fn places_are_bounded_and_those_that_are_paid_off_are_given_up() {
        let buckets = Buckets::default();
        for n in 0..PLACES + 100 {
            let _ = buckets.take(n, RATE, at(0));
        }
        let places = |buckets: &Buckets<usize>| buckets.0.lock().unwrap().paid.len();
        assert_eq!(places(&buckets), PLACES);
        // Newcomers share one place, which a hundred have used up.
        assert!(buckets.take(usize::MAX, RATE, at(0)).is_err());
        assert_eq!(buckets.take(1, RATE, at(0)), Ok(()));
        assert_eq!(buckets.take(usize::MAX, RATE, at(61_000)), Ok(()));
        assert_eq!(places(&buckets), 1);
    }
}

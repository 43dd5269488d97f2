//! Judges `iat`, `nbf` and `exp` against a given now, with both clocks in every error (RFC 7519 section 4.1).

use serde_json::Value;

use crate::claims::{ClaimError, Claims};
use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};

/// Seconds by which clocks may differ where nothing else is configured.
pub const SKEW_SECONDS: u64 = 60;

/// The last second of the year 9999; a later time is a mistake in units, not a date.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// How far the clocks may differ and how old a token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// By how many seconds clocks may differ.
    pub skew_seconds: u64,
    /// The greatest age by `iat`, which must then be there; `None` leaves `iat` optional.
    pub max_age_seconds: Option<u64>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            skew_seconds: SKEW_SECONDS,
            max_age_seconds: None,
        }
    }
}

/// The times of a token, in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was made.
    pub iat: Option<u64>,
    /// From when it counts.
    pub nbf: Option<u64>,
    /// The first second at which it counts no more.
    pub exp: u64,
}

impl Claims {
    /// Checks that the token is made, begun and not over at `now`; `exp` is required.
    pub fn check_times(&self, now: u64, tolerance: Tolerance) -> Result<Times, TimesError> {
        let exp = self.date("exp")?.ok_or_else(|| self.error("exp", DATE))?;
        let nbf = self.date("nbf")?;
        let iat = self.date("iat")?;
        let skew = tolerance.skew_seconds;
        let fail = |claim, at, reason, tolerance| {
            Err(TimeError {
                claim,
                at,
                now,
                tolerance,
                reason,
            }
            .into())
        };
        if now >= exp.floor.saturating_add(skew) {
            return fail("exp", exp.floor, TimeReason::Expired, skew);
        }
        if let Some(nbf) = nbf.filter(|nbf| nbf.ceil() > now.saturating_add(skew)) {
            return fail("nbf", nbf.ceil(), TimeReason::NotYet, skew);
        }
        if let Some(iat) = iat {
            check_age(iat, now, skew, tolerance.max_age_seconds)?;
        } else if tolerance.max_age_seconds.is_some() {
            return Err(self.error("iat", DATE).into());
        }
        let floor = |date: NumericDate| date.floor;
        Ok(Times {
            iat: iat.map(floor),
            nbf: nbf.map(floor),
            exp: exp.floor,
        })
    }

    /// Checks `iat` alone: at most `max_age_seconds` old and `max_ahead_seconds` in the future.
    pub(crate) fn check_made(
        &self,
        now: u64,
        max_age_seconds: u64,
        max_ahead_seconds: u64,
    ) -> Result<u64, TimesError> {
        let iat = self.date("iat")?.ok_or_else(|| self.error("iat", DATE))?;
        check_ahead(iat, now, max_ahead_seconds)?;
        check_old(iat, now, max_age_seconds)?;
        Ok(iat.floor)
    }

    /// A NumericDate (RFC 7519 section 2), rounded down to whole seconds.
    pub fn time(&self, claim: &'static str) -> Result<Option<u64>, ClaimError> {
        Ok(self.date(claim)?.map(|date| date.floor))
    }

    fn date(&self, claim: &'static str) -> Result<Option<NumericDate>, ClaimError> {
        let Some(value) = self.get(claim) else {
            return Ok(None);
        };
        match NumericDate::of(value) {
            Some(date) => Ok(Some(date)),
            None => Err(self.error(claim, DATE)),
        }
    }
}

/// A token that is not made, not begun, over, or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: `{claim}` is {at}, our clock says {now}, tolerance is {tolerance} s")]
pub struct TimeError {
    /// The claim that decided.
    pub claim: &'static str,
    /// Their clock: the claim's time, in seconds since 1970.
    pub at: u64,
    /// Our clock, in seconds since 1970.
    pub now: u64,
    /// Seconds that were allowed between them.
    pub tolerance: u64,
    /// What is wrong.
    pub reason: TimeReason,
}

/// What is wrong with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeReason {
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` has not come.
    #[error("not valid yet")]
    NotYet,
    /// `iat` has not come.
    #[error("made in the future")]
    Future,
    /// `iat` is too long ago.
    #[error("too old")]
    TooOld,
}

/// A time claim is malformed, or judged against the clock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// Missing or no NumericDate.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Outside its time.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl Explained for TimeError {
    fn fault(&self) -> Fault {
        let (rule, wanted) = match self.reason {
            TimeReason::Expired => ("time.expired", "later than"),
            TimeReason::NotYet => ("time.not_yet", "not later than"),
            TimeReason::Future => ("time.future", "not later than"),
            TimeReason::TooOld => ("time.too_old", "not earlier than"),
        };
        let wanted = format!(
            "{wanted} our clock {}, within {} s",
            self.now, self.tolerance
        );
        Fault::new(rule, self.claim, wanted, Excerpt::of(&self.at.to_string()))
    }
}

impl Explained for TimesError {
    fn fault(&self) -> Fault {
        match self {
            Self::Claim(error) => error.fault(),
            Self::Time(error) => error.fault(),
        }
    }
}

const DATE: &str = "a time in seconds since 1970, before the year 10000";

/// Seconds since 1970 and whether a fraction was cut off, so that each check can round to its safe side.
#[derive(Clone, Copy)]
struct NumericDate {
    floor: u64,
    fraction: bool,
}

impl NumericDate {
    fn of(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else {
            return None;
        };
        let date = match number.as_u64() {
            Some(floor) => Self {
                floor,
                fraction: false,
            },
            None => Self::of_float(number.as_f64()?)?,
        };
        (date.floor <= LAST_SECOND).then_some(date)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie between 0 and 2^53, where the cast only drops the fraction"
    )]
    fn of_float(seconds: f64) -> Option<Self> {
        let in_range = (0.0..9_007_199_254_740_992.0).contains(&seconds);
        in_range.then(|| Self {
            floor: seconds as u64,
            fraction: seconds.fract() > 0.0,
        })
    }

    fn ceil(self) -> u64 {
        self.floor.saturating_add(u64::from(self.fraction))
    }
}

fn check_age(
    iat: NumericDate,
    now: u64,
    skew: u64,
    max_age: Option<u64>,
) -> Result<(), TimesError> {
    check_ahead(iat, now, skew)?;
    match max_age {
        Some(max_age) => check_old(iat, now, max_age.saturating_add(skew)),
        None => Ok(()),
    }
}

fn check_ahead(iat: NumericDate, now: u64, tolerance: u64) -> Result<(), TimesError> {
    if iat.ceil() > now.saturating_add(tolerance) {
        let reason = TimeReason::Future;
        return Err(TimeError {
            claim: "iat",
            at: iat.ceil(),
            now,
            tolerance,
            reason,
        }
        .into());
    }
    Ok(())
}

fn check_old(iat: NumericDate, now: u64, tolerance: u64) -> Result<(), TimesError> {
    if now > iat.floor.saturating_add(tolerance) {
        let reason = TimeReason::TooOld;
        return Err(TimeError {
            claim: "iat",
            at: iat.floor,
            now,
            tolerance,
            reason,
        }
        .into());
    }
    Ok(())
}

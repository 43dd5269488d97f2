//! Shared Signals: a transmitter says of a person that sessions are over, by a security event token (RFC 8417) that proves it.
//!
//! | attack | excluded by |
//! |---|---|
//! | another kind of JWT taken for an event, or an event for a credential | `typ` is `secevent+jwt`, `sub` and `exp` must not stand in it |
//! | an event of somebody else | its `iss` is the transmitter's, its keys come only from where the declaration says |
//! | an event for another receiver | `aud` has exactly one value, and it is ours |
//! | a word about people who are none of the transmitter's business | the subject's `iss` must be one that it is declared to speak of |
//! | an event shown again, late or in another order | it says up to when something is worth nothing, which only grows |
//! | an event kept for a rainy day | 30 days after `iat`; and it never reaches beyond its own `iat` |

use std::sync::Arc;

use dayfly_domain::{Digest, Name, Refusal, Rule, Time};
use dayfly_token::claims::Claims;
use dayfly_token::excerpt::Excerpt;
use dayfly_token::hash::{constant_time_eq, sha256};
use dayfly_token::jws::MAX_TOKEN_BYTES;
use dayfly_token::jwt::Jwt;
use dayfly_token::times::SKEW_SECONDS;
use dayfly_token::typ::TypRule;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::explain;
use super::fetch::{self, FetchError};
use super::keys::KeyCache;
use super::pseudonym::{MAX_SUB_BYTES, Pseudonyms};
use super::verifier::Trusted;
use crate::declared::{Delivery, Poll, Transmitter};

/// The oldest event that is judged, by its `iat`. What is remembered of it is kept for longer.
pub const LONGEST_LATE_SECONDS: u64 = 30 * 86_400;
/// The longest `jti`.
const MAX_JTI_BYTES: usize = 255;

const TYP: &str = "secevent+jwt";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// Verifies the events of one transmitter.
#[derive(Debug)]
pub struct Receiver {
    name: Name,
    trusted: Trusted,
    audience: Vec<String>,
    speaks_of: Vec<String>,
    delivery: Delivery,
    allow_private: bool,
    pseudonyms: Arc<Pseudonyms>,
}

/// An event that is proven to be its transmitter's. Only [`Receiver::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSignal {
    from: Name,
    jti: String,
    over: Option<Over>,
}

/// What is over by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Of whom, by pseudonym.
    pub person: Digest,
    /// Up to when what that person authenticated for is worth nothing.
    pub upto: Time,
    /// Whether the account is gone, so that the person stays out until somebody lets it in.
    pub bars: bool,
    /// What was said, for a person.
    pub said: String,
}

/// An event that cannot be judged, or is not the transmitter's.
#[derive(Clone, Debug)]
pub struct Unfit {
    /// What the transmitter is told.
    pub err: SetError,
    /// Why.
    pub refusal: Refusal,
    may_pass: bool,
}

/// The registered errors (RFC 8935, section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// It cannot be read, or says nothing that can be judged.
    InvalidRequest,
    /// Its key or signature does not do.
    InvalidKey,
    /// Its issuer is another.
    InvalidIssuer,
    /// Its audience is another.
    InvalidAudience,
    /// The transmitter did not prove that it is one.
    AuthenticationFailed,
    /// The transmitter may not speak of this subject.
    AccessDenied,
}

impl SetError {
    /// As it is written on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidKey => "invalid_key",
            Self::InvalidIssuer => "invalid_issuer",
            Self::InvalidAudience => "invalid_audience",
            Self::AuthenticationFailed => "authentication_failed",
            Self::AccessDenied => "access_denied",
        }
    }

    pub(crate) fn with(self, refusal: Refusal) -> Unfit {
        // No key could be had.
        let may_pass = refusal.rule == Rule::KeysUnavailable;
        Unfit {
            err: self,
            refusal,
            may_pass,
        }
    }
}

impl Unfit {
    /// An event that came under the name of another.
    pub(crate) fn other_jti() -> Self {
        SetError::InvalidRequest.with(
            Refusal::new(Rule::ClaimForm)
                .field("jti")
                .wanted("the name that the event came under")
                .got("another"),
        )
    }

    /// Whether the same may be judged when it is sent once more.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// The same, to be judged once more where this holds.
    #[must_use]
    pub(crate) fn or_later(mut self, later: bool) -> Self {
        self.may_pass |= later;
        self
    }
}

impl VerifiedSignal {
    /// The declared transmitter that said it.
    #[must_use]
    pub const fn from(&self) -> &Name {
        &self.from
    }

    /// Its `jti`.
    #[must_use]
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// What is over; none where it says something else.
    #[must_use]
    pub const fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }
}

impl Receiver {
    /// For a declared transmitter, whose keys are held in the cache.
    pub(crate) fn new(
        transmitter: &Transmitter,
        cache: &KeyCache,
        pseudonyms: Arc<Pseudonyms>,
    ) -> Self {
        Self {
            name: transmitter.name.clone(),
            trusted: Trusted::new(&transmitter.as_issuer(), cache),
            audience: transmitter.audience.clone(),
            speaks_of: transmitter.speaks_of.clone(),
            delivery: transmitter.delivery.clone(),
            allow_private: transmitter.allow_private,
            pseudonyms,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// How its events come.
    #[must_use]
    pub const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Asks the transmitter for events by this request (RFC 8936), under the bounds of the keys of
    /// issuers.
    pub(crate) async fn ask(
        &self,
        poll: &Poll,
        question: String,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let request = fetch::Request {
            url: &poll.url,
            allow_private: self.allow_private,
            token_file: Some(&poll.token_file),
            ca_file: poll.ca_file.as_deref(),
        };
        fetch::post(request, Zeroizing::new(question.into_bytes())).await
    }

    /// Checks that whoever sends events shows the transmitter's bearer token, before anything of
    /// them is read.
    ///
    /// # Errors
    /// [`SetError::AuthenticationFailed`], which says nothing of the token that was shown.
    pub fn check_sender(&self, authorization: Option<&str>) -> Result<(), Unfit> {
        let Delivery::Push(secrets) = &self.delivery else {
            return Err(unproven("none"));
        };
        let shown = authorization.ok_or_else(|| unproven("none"))?;
        let (scheme, token) = shown.split_once(' ').unwrap_or((shown, ""));
        let shown = sha256(token.as_bytes());
        // All of them are compared, whichever it is.
        let same = secrets.iter().fold(false, |same, secret| {
            same | constant_time_eq(&shown, &sha256(secret.expose()))
        });
        if same && scheme.eq_ignore_ascii_case("bearer") {
            return Ok(());
        }
        Err(unproven("another"))
    }

    /// Verifies one event that came at this time. Nothing is fetched before it has the right form and
    /// type and names the transmitter; no claim but `iss` is read before the signature holds.
    ///
    /// # Errors
    /// [`Unfit`]; one that [may pass](Unfit::may_pass) says nothing about the event.
    pub async fn verify(&self, set: &str, now: Time) -> Result<VerifiedSignal, Unfit> {
        let bad = |refusal| SetError::InvalidRequest.with(refusal);
        let jwt = Jwt::parse(set, MAX_TOKEN_BYTES).map_err(|error| bad(explain::form(&error)))?;
        TypRule::Exactly(TYP)
            .check(jwt.header().typ.as_deref())
            .map_err(|error| {
                bad(explain::typ(&error).hint("an event has the type `secevent+jwt`"))
            })?;
        let iss = self.trusted.url();
        if jwt.claimed_issuer() != Some(iss) {
            let refusal = explain::unknown_issuer(jwt.claimed_issuer(), std::iter::once(iss));
            return Err(SetError::InvalidIssuer.with(refusal));
        }
        let unnamed = jwt.header().kid.is_none();
        let jwt = self.trusted.judge_signature(jwt, now).await;
        let jwt = jwt.map_err(|(refusal, read)| {
            // Its key may be newer than those at hand: only keys read since it came say no for good.
            let unknown = refusal.rule == Rule::Key || unnamed && refusal.rule == Rule::Signature;
            let later = unknown && read.is_some_and(|read| read < now);
            SetError::InvalidKey.with(refusal).or_later(later)
        })?;
        let claims = jwt.claims();
        let accepted: Vec<&str> = self.audience.iter().map(String::as_str).collect();
        claims
            .sole_audience_of(&accepted)
            .map_err(|error| SetError::InvalidAudience.with(explain::audience(&error)))?;
        let jti = claims
            .bounded_text("jti", MAX_JTI_BYTES)
            .map_err(|error| bad(explain::claim(&error)))?;
        let made = made(claims, now).map_err(|refusal| {
            // What is not yet may be later: one of the two clocks is wrong, and it may be ours.
            let later = refusal.rule == Rule::Times;
            bad(refusal).or_later(later)
        })?;
        for claim in ["sub", "exp"] {
            if claims.get(claim).is_some() {
                return Err(bad(unwanted(claim)));
            }
        }
        let (uri, event) = sole_event(claims).map_err(bad)?;
        let over = match meaning(uri) {
            None => None,
            Some((word, bars)) => Some(Over {
                person: self.person(claims, event)?,
                // An account that is gone was so for everything until it was said.
                upto: if bars {
                    Time::from_seconds(made)
                } else {
                    happened(claims, event, made)
                },
                bars,
                said: said(&self.name, word, jti),
            }),
        };
        Ok(VerifiedSignal {
            from: self.name.clone(),
            jti: jti.to_owned(),
            over,
        })
    }

    /// The pseudonym of the person that an event is about.
    fn person(&self, claims: &Claims, event: &Map<String, Value>) -> Result<Digest, Unfit> {
        let bad = |refusal| SetError::InvalidRequest.with(refusal);
        // Older transmitters name the subject within the event.
        let subject = match (claims.get("sub_id"), event.get("subject")) {
            (Some(subject), None) | (None, Some(subject)) => subject,
            (Some(subject), Some(within)) if subject == within => subject,
            (Some(_), Some(_)) => return Err(bad(no_person("two that differ"))),
            (None, None) => return Err(bad(no_person("none"))),
        };
        let mut known = people(subject);
        if known.is_empty() {
            return Err(bad(no_person(format_of(subject).unwrap_or("another"))));
        }
        known.retain(|(iss, _)| self.speaks_of.iter().any(|of| of == iss));
        match known.as_slice() {
            [(iss, sub)] => Ok(self.pseudonyms.of(iss, sub)),
            [] => Err(SetError::AccessDenied.with(
                Refusal::new(Rule::NotAllowed)
                    .field("sub_id")
                    .wanted("a subject of an issuer that the transmitter is declared to speak of")
                    .got("one of another"),
            )),
            [_, _, ..] => Err(bad(no_person("several"))),
        }
    }
}

/// What an event means here, and a word for it; none where it means nothing. Whatever says that a
/// session is over or that what proves a person has changed ends what came of it; what says that an
/// account is gone bars the person as well.
fn meaning(uri: &str) -> Option<(&'static str, bool)> {
    const MEANINGS: [(&str, &str, bool); 5] = [
        (CAEP, "session-revoked", false),
        (CAEP, "credential-change", false),
        (RISC, "sessions-revoked", false),
        (RISC, "account-disabled", true),
        (RISC, "account-purged", true),
    ];
    let means = |(of, word, _): &&(&str, &str, bool)| uri.strip_prefix(of) == Some(*word);
    let (_, word, bars) = MEANINGS.iter().find(means)?;
    Some((word, *bars))
}

/// When an event was made: at most as long ago as is remembered what became of it.
fn made(claims: &Claims, now: Time) -> Result<u64, Refusal> {
    let made = claims.time("iat").map_err(|error| explain::claim(&error))?;
    let wanted = "whole seconds since 1970";
    let made = made.ok_or_else(|| explain::claim(&claims.error("iat", wanted)))?;
    let got = || format!("iat is {}, our clock says {now}", Time::from_seconds(made));
    if made > now.seconds().saturating_add(SKEW_SECONDS) {
        return Err(Refusal::new(Rule::Times)
            .field("iat")
            .wanted("a time that has been")
            .got(got())
            .hint("one of the two clocks is wrong"));
    }
    if now.seconds() > made.saturating_add(LONGEST_LATE_SECONDS) {
        return Err(Refusal::new(Rule::ProofAge)
            .field("iat")
            .wanted("at most 30 days ago")
            .got(got()));
    }
    Ok(made)
}

/// When what an event says happened: as the event or the token says, and never after the token was
/// made, which also is the time where neither says so in whole seconds, or says one so long before
/// that nobody would tell of it now: such a one would end nothing.
fn happened(claims: &Claims, event: &Map<String, Value>, made: u64) -> Time {
    let told = event.get("event_timestamp").or_else(|| claims.get("toe"));
    let seconds = told.and_then(Value::as_u64);
    let seconds = seconds.filter(|told| told.saturating_add(LONGEST_LATE_SECONDS) >= made);
    Time::from_seconds(seconds.unwrap_or(made).min(made))
}

fn sole_event(claims: &Claims) -> Result<(&str, &Map<String, Value>), Refusal> {
    let events = claims.get("events").and_then(Value::as_object);
    let mut events = events.into_iter().flatten();
    match (events.next(), events.next()) {
        (Some((uri, Value::Object(event))), None) => Ok((uri, event)),
        _ => Err(Refusal::new(Rule::ClaimForm)
            .field("events")
            .wanted("exactly one event, an object")
            .got("something else")),
    }
}

/// The people that a subject names by issuer and subject (RFC 9493): itself, the user of a complex
/// one, or among its aliases.
fn people(subject: &Value) -> Vec<(&str, &str)> {
    match (format_of(subject), subject.get("user")) {
        (Some("complex") | None, Some(user)) => iss_sub(user).into_iter().collect(),
        (Some("aliases"), _) => {
            let aliases = subject.get("identifiers").and_then(Value::as_array);
            aliases.into_iter().flatten().filter_map(iss_sub).collect()
        }
        (Some(_) | None, _) => iss_sub(subject).into_iter().collect(),
    }
}

fn iss_sub(subject: &Value) -> Option<(&str, &str)> {
    let format = format_of(subject)?;
    let text = |member| subject.get(member).and_then(Value::as_str);
    let (iss, sub) = (text("iss")?, text("sub")?);
    let fits = matches!(format, "iss_sub" | "iss-sub") && (1..=MAX_SUB_BYTES).contains(&sub.len());
    fits.then_some((iss, sub))
}

/// Older transmitters write `subject_type`.
fn format_of(subject: &Value) -> Option<&str> {
    let format = subject
        .get("format")
        .or_else(|| subject.get("subject_type"));
    format.and_then(Value::as_str)
}

fn said(transmitter: &Name, word: &str, jti: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':');
    if jti.bytes().all(plain) {
        format!("signals.{transmitter}: {word} (jti {jti})")
    } else {
        format!("signals.{transmitter}: {word}")
    }
}

fn unproven(got: &str) -> Unfit {
    SetError::AuthenticationFailed.with(
        Refusal::new(Rule::Authentication)
            .field("authorization")
            .wanted("the transmitter's bearer token")
            .got(got),
    )
}

fn unwanted(claim: &str) -> Refusal {
    Refusal::new(Rule::ClaimForm)
        .field(claim)
        .wanted("nothing: an event has none")
        .got("something")
}

fn no_person(got: &str) -> Refusal {
    let got = Excerpt::of(got);
    Refusal::new(Rule::ClaimForm)
        .field("sub_id")
        .wanted("one person, as `iss_sub` or as the `user` of a `complex` subject")
        .got(got.text().unwrap_or_default())
}

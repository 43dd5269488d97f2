//! Turns what the token crate found wrong into refusals: the one place where its errors get a rule of the domain.

use dayfly_domain::{Refusal, Rule, Span, Time};
use dayfly_token::access_token::AccessTokenError;
use dayfly_token::assertion::AssertionError;
use dayfly_token::claims::ClaimError;
use dayfly_token::dpop::DpopError;
use dayfly_token::excerpt::Excerpt;
use dayfly_token::fault::{Explained, Fault};
use dayfly_token::handover::HandoverError;
use dayfly_token::jws::JwsError;
use dayfly_token::jwt::JwtError;
use dayfly_token::times::{TimeReason, TimesError};
use dayfly_token::typ::TypError;

use super::keys::{Held, NoKeys};

/// How many names of keys or issuers an explanation lists.
const LISTED: usize = 8;

/// A proof of possession of a key that does not hold (RFC 9449, section 4.3).
#[must_use]
pub fn key_proof(error: &DpopError) -> Refusal {
    explained(Rule::KeyProof, error.fault()).hint(error.to_string())
}

/// A client's assertion that does not hold (RFC 7523, section 3).
#[must_use]
pub fn assertion(error: &AssertionError) -> Refusal {
    explained(Rule::Assertion, error.fault()).hint(error.to_string())
}

/// A hand-over that does not hold.
#[must_use]
pub fn handover(error: &HandoverError) -> Refusal {
    explained(Rule::Handover, error.fault()).hint(error.to_string())
}

/// A credential of this server that does not hold (RFC 9068, section 4).
#[must_use]
pub fn credential(error: &AccessTokenError) -> Refusal {
    explained(Rule::Credential, error.fault()).hint(error.to_string())
}

pub(super) fn form(error: &JwtError) -> Refusal {
    match error {
        JwtError::Jws(error) => jws(error),
        JwtError::Claims(_) => explained(Rule::TokenForm, error.fault()),
    }
}

pub(super) fn typ(error: &TypError) -> Refusal {
    explained(Rule::TokenType, error.fault())
        .hint("send the id token of the platform, not an access token or another kind of jwt")
}

pub(super) fn jws(error: &JwsError) -> Refusal {
    let rule = match error {
        JwsError::TooLong { .. }
        | JwsError::Parts { .. }
        | JwsError::Encoding { .. }
        | JwsError::Header(_)
        | JwsError::Member { .. }
        | JwsError::RefusedMember { .. } => Rule::TokenForm,
        JwsError::UnknownAlg(_) | JwsError::AlgNotAllowed { .. } => Rule::Algorithm,
        JwsError::UnknownKid { .. } | JwsError::NoKey { .. } => Rule::Key,
        JwsError::Signature => Rule::Signature,
    };
    let hint = match error {
        JwsError::Parts { parts: 5 } => "encrypted tokens are not accepted, only signed ones",
        JwsError::AlgNotAllowed { .. } => "`algs` of the declared issuer lists what is allowed",
        JwsError::Signature => "the token was changed on its way, or signed by somebody else",
        JwsError::TooLong { .. }
        | JwsError::Parts { .. }
        | JwsError::Encoding { .. }
        | JwsError::Header(_)
        | JwsError::Member { .. }
        | JwsError::RefusedMember { .. }
        | JwsError::UnknownAlg(_)
        | JwsError::UnknownKid { .. }
        | JwsError::NoKey { .. } => "",
    };
    explained(rule, error.fault()).hint(hint)
}

/// As [`jws`], and for an unknown key says which ones there are, why others cannot be used, and
/// when they may be read anew: a key that was rotated a moment ago is found then.
pub(super) fn signature(error: &JwsError, held: &Held, rest: Span) -> Refusal {
    let refusal = jws(error);
    if refusal.rule == Rule::Key {
        return refusal.hint(format!(
            "{}; they may be read anew in {} s",
            keys_at_hand(held),
            rest.millis().div_ceil(1000)
        ));
    }
    refusal
}

/// No keys can be had. Why not is for the operator alone: it tells about networks, not about the token.
pub(super) fn no_keys(issuer: &str, why: &NoKeys) -> Refusal {
    Refusal::new(Rule::KeysUnavailable)
        .field("iss")
        .wanted("keys of the issuer that were read within 24h")
        .got(issuer)
        .hint(why.0.as_str())
}

/// An issuer that is not declared. Those that differ only by a slash at the end are told apart, because issuers
/// compare byte by byte (RFC 8414, section 3.3).
pub(super) fn unknown_issuer<'a>(
    claimed: Option<&str>,
    declared: impl Iterator<Item = &'a str>,
) -> Refusal {
    let declared: Vec<&str> = declared.collect();
    let bare = |url: &str| url.strip_suffix('/').unwrap_or(url).to_owned();
    let near = claimed.and_then(|claimed| declared.iter().find(|url| bare(url) == bare(claimed)));
    let hint = match near {
        Some(near) => format!("`{near}` is declared; a slash at the end makes another issuer"),
        None => "declare the issuer in the tenant, or send a token of a declared one".to_owned(),
    };
    let listed: Vec<&str> = declared.iter().copied().take(LISTED).collect();
    Refusal::new(Rule::Issuer)
        .field("iss")
        .wanted(listed.join(" or "))
        .got(shown(&Excerpt::of_option(claimed)))
        .hint(hint)
}

/// Times, showing both clocks: the claim and ours.
pub(super) fn times(error: &TimesError, now: Time) -> Refusal {
    let error = match error {
        TimesError::Claim(error) => return claim(error),
        TimesError::Time(error) => error,
    };
    let (rule, hint) = match error.reason {
        TimeReason::Expired => (
            Rule::Times,
            "ask the platform for the token right before it is used",
        ),
        TimeReason::NotYet | TimeReason::Future => (Rule::Times, "one of the two clocks is wrong"),
        TimeReason::TooOld => (Rule::ProofAge, "ask the platform for a fresh token"),
    };
    let claimed = Time::from_seconds(error.at);
    explained(rule, error.fault())
        .got(format!(
            "{} is {claimed}, our clock says {now}",
            error.claim
        ))
        .hint(hint)
}

/// A claim that is missing or of the wrong form.
pub(super) fn claim(error: &ClaimError) -> Refusal {
    let rule = match error.got.text() {
        None => Rule::ClaimMissing,
        Some(_) => Rule::ClaimForm,
    };
    explained(rule, error.fault())
}

/// `aud` that is not exactly one accepted value.
pub(super) fn audience(error: &ClaimError) -> Refusal {
    explained(Rule::Audience, error.fault())
}

fn explained(rule: Rule, fault: Fault) -> Refusal {
    Refusal::new(rule)
        .field(fault.field)
        .wanted(fault.wanted)
        .got(shown(&fault.got))
}

fn shown(excerpt: &Excerpt) -> &str {
    excerpt.text().unwrap_or("nothing")
}

fn keys_at_hand(held: &Held) -> String {
    let usable = held.set.keys().iter().take(LISTED);
    let usable: Vec<String> = usable
        .map(|key| Excerpt::of_option(key.kid()).to_string())
        .collect();
    let unusable = held.set.skipped().iter().take(LISTED);
    let unusable: Vec<String> = unusable
        .map(|key| format!("{} ({})", key.kid, key.reason))
        .collect();
    let mut text = format!("keys read {}: ", held.at);
    text.push_str(&if usable.is_empty() {
        "none".to_owned()
    } else {
        usable.join(", ")
    });
    if !unusable.is_empty() {
        text.push_str("; not usable: ");
        text.push_str(&unusable.join(", "));
    }
    text
}

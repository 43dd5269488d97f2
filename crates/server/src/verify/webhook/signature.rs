//! What proves a webhook: GitHub's signature, GitLab's token or signature, or that of Standard Webhooks.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{Refusal, Rule, Time};
use dayfly_token::hash::{constant_time_eq, sha256};

use super::Delivery;
use crate::config::Secret;
use crate::declared::{Issuer, IssuerKind, WebhookSecret};

/// How far `webhook-timestamp` may lie from now, as the libraries of Standard Webhooks have it.
const TOLERANCE_SECONDS: u64 = 300;
/// The longest `webhook-id`.
const MAX_ID_BYTES: usize = 256;
/// How many signatures one delivery may carry.
const MAX_SIGNATURES: usize = 8;

/// Checks that a delivery is the issuer's own.
pub(super) fn check(issuer: &Issuer, delivery: Delivery<'_>, now: Time) -> Result<(), Refusal> {
    match issuer.kind {
        IssuerKind::Github => github(issuer, delivery),
        // A delivery that is signed is judged by its signature where GitLab was given a key to sign
        // with, and by nothing else: whoever reads the token of one delivery cannot make another.
        IssuerKind::Gitlab if standard_keys(issuer).next().is_some() => {
            match ((delivery.header)("webhook-signature"), texts(issuer).next()) {
                (None, Some(_)) => gitlab_token(issuer, delivery),
                (Some(_) | None, _) => standard(issuer, delivery, now),
            }
        }
        IssuerKind::Gitlab => gitlab_token(issuer, delivery),
        IssuerKind::Kubernetes | IssuerKind::Oidc => standard(issuer, delivery, now),
    }
}

/// `X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
fn github(issuer: &Issuer, delivery: Delivery<'_>) -> Result<(), Refusal> {
    const HEADER: &str = "x-hub-signature-256";
    const WANTED: &str = "`sha256=` and the HMAC of the body under one of the issuer's secrets";
    let value = (delivery.header)(HEADER).ok_or_else(|| refused(HEADER, WANTED, "none"))?;
    let tag = value.strip_prefix("sha256=").and_then(hexadecimal);
    let tag = tag.ok_or_else(|| refused(HEADER, WANTED, "something else"))?;
    if any(texts(issuer), |secret| {
        verifies(secret, &[delivery.body], &tag)
    }) {
        return Ok(());
    }
    Err(refused(HEADER, WANTED, "another"))
}

/// `X-Gitlab-Token`: the secret itself.
fn gitlab_token(issuer: &Issuer, delivery: Delivery<'_>) -> Result<(), Refusal> {
    const HEADER: &str = "x-gitlab-token";
    const WANTED: &str = "one of the issuer's secrets";
    let value = (delivery.header)(HEADER).ok_or_else(|| refused(HEADER, WANTED, "none"))?;
    let shown = sha256(value.as_bytes());
    let is = |secret: &Secret| constant_time_eq(&shown, &sha256(secret.expose()));
    if any(texts(issuer), is) {
        return Ok(());
    }
    Err(refused(HEADER, WANTED, "another"))
}

/// Standard Webhooks: `v1,` and the HMAC-SHA256 of id, time and body in Base64, within the tolerance.
fn standard(issuer: &Issuer, delivery: Delivery<'_>, now: Time) -> Result<(), Refusal> {
    let (id, timestamp) = ("webhook-id", "webhook-timestamp");
    const HEADER: &str = "webhook-signature";
    const WANTED: &str =
        "`v1,` and the HMAC of id, time and body under one of the issuer's secrets";
    let need =
        |name, wanted: &str| (delivery.header)(name).ok_or_else(|| refused(name, wanted, "none"));
    let sent = need(timestamp, "whole seconds since 1970")?;
    let shown = need(id, "the name of the delivery")?;
    let signatures = need(HEADER, WANTED)?;
    if shown.is_empty() || shown.len() > MAX_ID_BYTES {
        return Err(refused(id, "1 to 256 bytes", &shown.len().to_string()));
    }
    let digits = (1..=12).contains(&sent.len()) && sent.bytes().all(|b| b.is_ascii_digit());
    let at: Option<u64> = sent.parse().ok().filter(|_| digits);
    let at = at.ok_or_else(|| refused(timestamp, "whole seconds since 1970", "something else"))?;
    let signed = [shown.as_bytes(), b".", sent.as_bytes(), b".", delivery.body];
    let tags = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok());
    let mut holds = false;
    for tag in tags {
        holds |= any(standard_keys(issuer), |key| verifies(key, &signed, &tag));
    }
    if !holds {
        return Err(refused(HEADER, WANTED, "another"));
    }
    // Judged last: only who signed it learns that its clock is wrong.
    if now.seconds().abs_diff(at) > TOLERANCE_SECONDS {
        return Err(refused(
            timestamp,
            &format!("at most {TOLERANCE_SECONDS} s from now, {now}"),
            &Time::from_seconds(at).to_string(),
        ));
    }
    Ok(())
}

fn texts(issuer: &Issuer) -> impl Iterator<Item = &Secret> {
    issuer.webhooks.iter().filter_map(|secret| match secret {
        WebhookSecret::Text(secret) => Some(secret),
        WebhookSecret::Standard(_) => None,
    })
}

fn standard_keys(issuer: &Issuer) -> impl Iterator<Item = &Secret> {
    issuer.webhooks.iter().filter_map(|secret| match secret {
        WebhookSecret::Standard(key) => Some(key),
        WebhookSecret::Text(_) => None,
    })
}

/// Whether one of the secrets holds; all are tried, so that the time tells nothing.
fn any<'s>(
    secrets: impl Iterator<Item = &'s Secret>,
    mut holds: impl FnMut(&Secret) -> bool,
) -> bool {
    secrets.fold(false, |found, secret| holds(secret) | found)
}

/// Whether a tag is the HMAC-SHA256 of these parts, compared in constant time.
fn verifies(secret: &Secret, parts: &[&[u8]], tag: &[u8]) -> bool {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
    for part in parts {
        context.update(part);
    }
    constant_time_eq(context.sign().as_ref(), tag)
}

/// The 32 bytes of 64 hexadecimal digits.
fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

fn refused(header: &'static str, wanted: &str, got: &str) -> Refusal {
    Refusal::new(Rule::Authentication)
        .field(header)
        .wanted(wanted)
        .got(got)
}

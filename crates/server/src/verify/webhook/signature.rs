//! What proves a webhook: GitHub's signature, GitLab's token or signature, or that of Standard Webhooks.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{Refusal, Rule, Time};
use dayfly_token::hash::{constant_time_eq, sha256};

use super::{Delivery, Proven};
use crate::config::Secret;
use crate::declared::{Issuer, IssuerKind, WebhookSecret};

/// How far `webhook-timestamp` may lie from now, as the libraries of Standard Webhooks have it.
const TOLERANCE_SECONDS: u64 = 300;
/// The longest `webhook-id`.
const MAX_ID_BYTES: usize = 256;
/// The length of an HMAC-SHA256.
const TAG_BYTES: usize = 32;
/// How many signatures one delivery may carry.
const MAX_SIGNATURES: usize = 8;

/// What of a delivery stands in its header to prove it.
enum Shown<'a> {
    /// The tag of GitHub.
    Hub([u8; 32]),
    /// The token of GitLab, which holds: nothing of the body is needed.
    Token,
    /// What Standard Webhooks send.
    Standard {
        id: &'a str,
        sent: &'a str,
        at: u64,
        tags: Vec<Vec<u8>>,
    },
}

/// Reads a header.
type Header<'a> = dyn Fn(&'static str) -> Option<&'a str> + Sync + 'a;

/// Checks that a header could be of a delivery of the issuer's, before anything of its body is read.
pub(super) fn check_header(issuer: &Issuer, header: &Header<'_>) -> Result<Proven, Refusal> {
    Ok(match shown(issuer, header)? {
        Shown::Token => Proven::Already,
        Shown::Hub(_) | Shown::Standard { .. } => Proven::WithBody,
    })
}

/// Checks that a delivery is the issuer's own.
pub(super) fn check(issuer: &Issuer, delivery: Delivery<'_>, now: Time) -> Result<(), Refusal> {
    match shown(issuer, delivery.header)? {
        Shown::Hub(tag) => {
            let signs = |secret: &Secret| verifies(secret, &[delivery.body], &tag);
            if any(texts(issuer), signs) {
                return Ok(());
            }
            Err(refused(HUB, HUB_WANTED, "another"))
        }
        Shown::Token => Ok(()),
        Shown::Standard { id, sent, at, tags } => {
            let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", delivery.body];
            standard(issuer, &signed, at, &tags, now)
        }
    }
}

fn shown<'a>(issuer: &Issuer, header: &Header<'a>) -> Result<Shown<'a>, Refusal> {
    match issuer.kind {
        IssuerKind::Github => github(header),
        // A delivery that is signed is judged by its signature where GitLab was given a key to sign
        // with, and by nothing else: whoever reads the token of one delivery cannot make another.
        IssuerKind::Gitlab if standard_keys(issuer).next().is_some() => {
            match (header(STANDARD_TAG), texts(issuer).next()) {
                (None, Some(_)) => gitlab_token(issuer, header),
                (Some(_) | None, _) => standard_header(header),
            }
        }
        IssuerKind::Gitlab => gitlab_token(issuer, header),
        IssuerKind::Kubernetes | IssuerKind::Oidc => standard_header(header),
    }
}

const HUB: &str = "x-hub-signature-256";
const HUB_WANTED: &str = "`sha256=` and the HMAC of the body under one of the issuer's secrets";

/// `X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
fn github<'a>(header: &Header<'a>) -> Result<Shown<'a>, Refusal> {
    let value = header(HUB).ok_or_else(|| refused(HUB, HUB_WANTED, "none"))?;
    let tag = value.strip_prefix("sha256=").and_then(hexadecimal);
    let tag = tag.ok_or_else(|| refused(HUB, HUB_WANTED, "something else"))?;
    Ok(Shown::Hub(tag))
}

/// `X-Gitlab-Token`: the secret itself.
fn gitlab_token<'a>(issuer: &Issuer, header: &Header<'a>) -> Result<Shown<'a>, Refusal> {
    const HEADER: &str = "x-gitlab-token";
    const WANTED: &str = "one of the issuer's secrets";
    let value = header(HEADER).ok_or_else(|| refused(HEADER, WANTED, "none"))?;
    let shown = sha256(value.as_bytes());
    let is = |secret: &Secret| constant_time_eq(&shown, &sha256(secret.expose()));
    if any(texts(issuer), is) {
        return Ok(Shown::Token);
    }
    Err(refused(HEADER, WANTED, "another"))
}

const STANDARD_TAG: &str = "webhook-signature";
const STANDARD_AT: &str = "webhook-timestamp";
const STANDARD_WANTED: &str =
    "`v1,` and the HMAC of id, time and body under one of the issuer's secrets";

/// Standard Webhooks: `v1,` and the HMAC-SHA256 of id, time and body in Base64.
fn standard_header<'a>(header: &Header<'a>) -> Result<Shown<'a>, Refusal> {
    const ID: &str = "webhook-id";
    let need = |name, wanted: &str| header(name).ok_or_else(|| refused(name, wanted, "none"));
    let sent = need(STANDARD_AT, "whole seconds since 1970")?;
    let id = need(ID, "the name of the delivery")?;
    let signatures = need(STANDARD_TAG, STANDARD_WANTED)?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(refused(ID, "1 to 256 bytes", &id.len().to_string()));
    }
    let digits = (1..=12).contains(&sent.len()) && sent.bytes().all(|b| b.is_ascii_digit());
    let at: Option<u64> = sent.parse().ok().filter(|_| digits);
    let at =
        at.ok_or_else(|| refused(STANDARD_AT, "whole seconds since 1970", "something else"))?;
    let tags: Vec<Vec<u8>> = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .filter(|tag| tag.len() == TAG_BYTES)
        .collect();
    if tags.is_empty() {
        return Err(refused(STANDARD_TAG, STANDARD_WANTED, "something else"));
    }
    Ok(Shown::Standard { id, sent, at, tags })
}

/// Whether one of the tags holds, within the tolerance.
fn standard(
    issuer: &Issuer,
    signed: &[&[u8]],
    at: u64,
    tags: &[Vec<u8>],
    now: Time,
) -> Result<(), Refusal> {
    let mut holds = false;
    for tag in tags {
        holds |= any(standard_keys(issuer), |key| verifies(key, signed, tag));
    }
    if !holds {
        return Err(refused(STANDARD_TAG, STANDARD_WANTED, "another"));
    }
    // Judged last: only who signed it learns that its clock is wrong.
    if now.seconds().abs_diff(at) > TOLERANCE_SECONDS {
        return Err(refused(
            STANDARD_AT,
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

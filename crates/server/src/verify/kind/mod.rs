//! What each kind of issuer must say, and what of it names the instance.

mod github;
mod gitlab;
mod kubernetes;
mod oidc;

use dayfly_domain::{Claims, Digest, Refusal, Rule};
use dayfly_token::excerpt::Excerpt;

use super::flatten::flatten;
use crate::declared::IssuerKind;

/// What a token of a known kind says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Its claims, laid flat.
    pub(super) claims: Claims,
    /// Which job, pod or token it is, as `name=value` pairs joined by commas.
    pub(super) instance: String,
    /// The page of the run.
    pub(super) run_url: Option<String>,
    /// Whether the platform makes a token for one use.
    pub(super) one_time: bool,
}

/// A verified token, to be read by the rules of its kind.
#[derive(Clone, Copy)]
pub(super) struct Verified<'a> {
    /// The issuer's URL.
    pub(super) issuer_url: &'a str,
    /// The claims as they stand.
    pub(super) claims: &'a dayfly_token::claims::Claims,
    /// What names the token.
    pub(super) digest: Digest,
}

/// Reads a token by the rules of its kind.
///
/// # Errors
/// A refusal of stage `proof`.
pub(super) fn read(kind: IssuerKind, token: Verified<'_>) -> Result<Reading, Refusal> {
    let claims = flatten(token.claims)?;
    match kind {
        IssuerKind::Github => github::read(token.issuer_url, claims),
        IssuerKind::Gitlab => gitlab::read(token.issuer_url, claims),
        IssuerKind::Kubernetes => kubernetes::read(token.claims, claims),
        IssuerKind::Oidc => Ok(oidc::read(token.digest, claims)),
    }
}

/// Whether tokens of this kind always say when they were made.
pub(super) fn demands_iat(kind: IssuerKind) -> bool {
    match kind {
        IssuerKind::Github | IssuerKind::Gitlab | IssuerKind::Kubernetes => true,
        IssuerKind::Oidc => false,
    }
}

/// How to ask this kind of platform for a token with this audience.
pub(super) fn audience_hint(kind: IssuerKind, audience: &str) -> String {
    match kind {
        IssuerKind::Github => format!(
            "in the job ask for it by name: `core.getIDToken('{audience}')`, or `&audience={audience}` at ACTIONS_ID_TOKEN_REQUEST_URL"
        ),
        IssuerKind::Gitlab => {
            format!("in the job write `id_tokens: {{ DAYFLY_ID_TOKEN: {{ aud: {audience} }} }}`")
        }
        IssuerKind::Kubernetes => format!(
            "mount a `serviceAccountToken` with `audience: {audience}`; the default token of a pod is for the cluster itself"
        ),
        IssuerKind::Oidc => {
            format!("ask the provider for a token whose only audience is {audience}")
        }
    }
}

/// What to do about a token that is too old or has no end.
pub(super) fn age_hint(kind: IssuerKind) -> &'static str {
    match kind {
        IssuerKind::Github => {
            "ask for the token in the step that uses it; each request gives a fresh one"
        }
        IssuerKind::Gitlab => {
            "a job gets one token at its start: use it early, or raise `proof_age`"
        }
        IssuerKind::Kubernetes => {
            "mount a `serviceAccountToken` with `expirationSeconds: 3600` or less, which the kubelet \
             renews at four fifths of its life; tokens of old secrets, without an end, are not accepted"
        }
        IssuerKind::Oidc => "ask the provider for a fresh token with `iat`, or with a nearer `exp`",
    }
}

/// A whole number without leading zeros, as platforms write their ids.
fn number<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, Refusal> {
    let text = present(claims, name, "a whole number")?;
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain && (1..=20).contains(&text.len()) {
        Ok(text)
    } else {
        Err(malformed(name, "a whole number", text))
    }
}

/// As [`number`], for a claim that may be absent.
fn optional_number<'a>(claims: &'a Claims, name: &str) -> Result<Option<&'a str>, Refusal> {
    claims
        .contains_key(name)
        .then(|| number(claims, name))
        .transpose()
}

fn present<'a>(claims: &'a Claims, name: &str, wanted: &str) -> Result<&'a str, Refusal> {
    claims
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| missing(name, wanted))
}

fn missing(name: &str, wanted: &str) -> Refusal {
    Refusal::new(Rule::ClaimMissing)
        .field(name)
        .wanted(wanted)
        .got("nothing")
}

fn malformed(name: &str, wanted: &str, got: &str) -> Refusal {
    let got = Excerpt::of(got);
    Refusal::new(Rule::ClaimForm)
        .field(name)
        .wanted(wanted)
        .got(got.text().unwrap_or_default())
}

/// Whether a text can stand in a path of a URL as it is, slash included and dots alone excluded.
fn is_plain_path(text: &str) -> bool {
    let plain = |segment: &str| {
        let bytes = segment.bytes();
        !matches!(segment, "" | "." | "..")
            && bytes
                .into_iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    text.split('/').all(plain)
}

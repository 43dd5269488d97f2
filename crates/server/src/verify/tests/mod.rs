//! Tests of the whole way of a token: a local issuer serves keys over loopback and signs what a test wants.

mod audience;
mod form;
mod held;
mod kinds;
pub(crate) mod local;
mod network;
mod people;
mod times;
mod tls;

use dayfly_domain::{Needed, Refusal, Rule, Span, Time};
use serde_json::{Value, json};

use super::{Entrance, KeyCache, ProofBounds, Pseudonyms, Recipient, VerifiedProof, Verifier};
use crate::declared::{Issuer, IssuerKind, JwksSource};
use dayfly_token::alg::Alg;

/// The tenant that tokens are made for.
pub(in crate::verify) const TENANT: &str = "https://dayfly.example/acme";
/// Its token endpoint.
const ENDPOINT: &str = "https://dayfly.example/acme/token";
/// Now, in seconds since 1970.
pub(in crate::verify) const NOW: u64 = 1_800_000_000;

pub(in crate::verify) fn at(seconds: u64) -> Time {
    Time::from_seconds(seconds)
}

/// An issuer with the defaults of configuration, whose keys may be fetched from this machine.
pub(in crate::verify) fn issuer(kind: IssuerKind, url: &str) -> Issuer {
    Issuer {
        place: crate::config::Place::of_file("tenant.toml".to_owned()),
        name: kind.word().parse().unwrap(),
        kind,
        url: url.to_owned(),
        audience: None,
        jwks: JwksSource::Discovery,
        algs: Alg::DEFAULT.to_vec(),
        allow_private: true,
        keep: Span::from_seconds(36 * 86_400),
        rate: None,
        people: None,
        auth_time: Needed::Required,
        webhooks: Vec::new(),
        review: None,
    }
}

pub(in crate::verify) fn verifier(issuer: &Issuer) -> Verifier {
    verifier_with(issuer, &KeyCache::new())
}

pub(in crate::verify) fn verifier_with(issuer: &Issuer, cache: &KeyCache) -> Verifier {
    let recipient = Recipient {
        issuer: TENANT.to_owned(),
        token_endpoint: ENDPOINT.to_owned(),
    };
    let pseudonyms = Pseudonyms::new(&[7; 32]);
    Verifier::new(
        recipient,
        [issuer],
        ProofBounds::default(),
        cache,
        pseudonyms,
    )
}

/// Shows a token as `assertion` at `NOW`.
pub(in crate::verify) async fn show(
    verifier: &Verifier,
    token: &str,
) -> Result<VerifiedProof, Refusal> {
    verifier.verify(token, Entrance::Assertion, at(NOW)).await
}

/// The rule that refuses a token.
async fn rule(verifier: &Verifier, token: &str) -> Rule {
    show(verifier, token).await.unwrap_err().rule
}

/// The claims of a token of this kind, made at `NOW` for five minutes.
pub(in crate::verify) fn claims(kind: IssuerKind, issuer: &str) -> Value {
    let mut claims = match kind {
        IssuerKind::Github => json!({
            "jti": "0b6ac5e8-3c4d", "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
            "repository": "octo-org/octo-repo", "repository_id": "456789", "repository_owner_id": "123456",
            "ref": "refs/heads/main", "event_name": "push", "runner_environment": "github-hosted",
            "run_id": "30433642", "run_attempt": "1", "check_run_id": "12345",
        }),
        IssuerKind::Gitlab => json!({
            "jti": "c82eeb0c", "sub": "project_path:group/project:ref_type:branch:ref:main",
            "namespace_id": "72", "project_id": "20", "project_path": "group/project", "pipeline_id": 574,
            "job_id": "302", "ref": "main", "ref_protected": "true", "runner_id": 1,
        }),
        IssuerKind::Kubernetes => json!({
            "sub": "system:serviceaccount:payments:settler",
            "kubernetes.io": {
                "namespace": "payments", "node": {"name": "worker-1", "uid": "646e7c5e"},
                "pod": {"name": "settler-7d9", "uid": "5e0bd49b"},
                "serviceaccount": {"name": "settler", "uid": "14ee3fa4"},
            },
        }),
        IssuerKind::Oidc => json!({}),
    };
    claims["iss"] = json!(issuer);
    claims["aud"] = json!(TENANT);
    claims["iat"] = json!(NOW);
    claims["nbf"] = json!(NOW);
    claims["exp"] = json!(NOW + 300);
    claims
}

/// `claims` with one of them replaced.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// `claims` without one of them.
pub(in crate::verify) fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// The same claims as if made at another time.
fn moved(claims: Value, seconds: u64) -> Value {
    let claims = with(claims, "iat", json!(seconds));
    let claims = with(claims, "nbf", json!(seconds));
    with(claims, "exp", json!(seconds + 300))
}

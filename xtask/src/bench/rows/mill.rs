//! Makes what callers show: platform tokens, and DPoP proofs by keys of their own.

use std::fmt::Write as _;

use dayfly_token::alg::Alg;
use dayfly_token::b64;
use dayfly_token::client::{self, HandoverRequest};
use dayfly_token::handover::Given;
use dayfly_token::hash::{Thumbprint, sha256};
use dayfly_token::sign::{SigningKey, signing_input};
use serde_json::json;

use super::failure::{Context, Failure};
use super::load;
use super::world::{RESOURCE_URL, TENANT, WORKLOADS, repository_id};
use super::{clock, machine};

/// The key id of the platform.
const KID: &str = "38826b17-6a30-5f9b-b169-8beb8202f723";

/// A CI platform: the key that signs its tokens.
pub(super) struct Platform {
    key: SigningKey,
}

impl Platform {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            key: SigningKey::generate(Alg::Rs256).context("no RSA key")?,
        })
    }

    /// Its public key as a JWK Set.
    pub(super) fn jwks(&self) -> String {
        json!({"keys": [self.key.public_jwk().published(KID, Alg::Rs256)]}).to_string()
    }

    /// Tokens of as many jobs, each of its own run, signed on every core.
    pub(super) fn tokens(
        &self,
        issuer: &str,
        jobs: std::ops::Range<u64>,
    ) -> Result<Vec<String>, Failure> {
        let iat = clock::now().seconds();
        in_parallel(jobs, |job| {
            let header = json!({"typ": "JWT", "alg": "RS256", "kid": KID});
            let input = signing_input(&header, claims(issuer, job, iat).as_bytes());
            self.key.sign_compact(&input).context("no RSA signature")
        })
    }
}

/// The claims of a job's token, as the platform gives them.
pub(super) fn claims(issuer: &str, job: u64, iat: u64) -> String {
    let workload = job % WORKLOADS;
    let (repository, run, check) = (repository_id(workload), run_id(job), check_run_id(job));
    json!({
        "jti": format!("{job:08x}-6a30-4f9b-b169-{run:012x}"),
        "sub": format!("repo:octo-org/octo-repo-{workload:04}:ref:refs/heads/main"),
        "aud": issuer,
        "ref": "refs/heads/main",
        "sha": "5ad2d6ef83bcc4d4a9d3b2c8a5ac9c9d2f0e7b11",
        "repository": format!("octo-org/octo-repo-{workload:04}"),
        "repository_owner": "octo-org",
        "repository_owner_id": "65",
        "run_id": run.to_string(),
        "run_number": "10",
        "run_attempt": "1",
        "repository_visibility": "private",
        "repository_id": repository.to_string(),
        "actor_id": "12",
        "actor": "octocat",
        "workflow": "release",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_protected": "true",
        "ref_type": "branch",
        "workflow_ref": format!("octo-org/octo-repo-{workload:04}/.github/workflows/release.yml@refs/heads/main"),
        "workflow_sha": "5ad2d6ef83bcc4d4a9d3b2c8a5ac9c9d2f0e7b11",
        "job_workflow_ref": format!("octo-org/octo-repo-{workload:04}/.github/workflows/release.yml@refs/heads/main"),
        "job_workflow_sha": "5ad2d6ef83bcc4d4a9d3b2c8a5ac9c9d2f0e7b11",
        "runner_environment": "github-hosted",
        "check_run_id": check.to_string(),
        "iss": "https://token.actions.githubusercontent.com",
        "nbf": iat,
        "exp": iat + 3600,
        "iat": iat,
    })
    .to_string()
}

/// The run of a job.
pub(super) const fn run_id(job: u64) -> u64 {
    11_000_000_000 + job
}

/// The job itself, as the platform numbers it.
pub(super) const fn check_run_id(job: u64) -> u64 {
    31_000_000_000 + job
}

/// Keys of callers, each with the header of its proofs.
pub(super) struct Callers {
    keys: Vec<(SigningKey, String)>,
}

impl Callers {
    pub(super) fn new(number: u64) -> Result<Self, Failure> {
        let keys = in_parallel(0..number, |_| {
            let key = SigningKey::generate(Alg::Es256).context("no EC key")?;
            let header = format!(
                r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#,
                key.public_jwk().canonical_json()
            );
            Ok((key, b64::encode(header)))
        })?;
        Ok(Self { keys })
    }

    fn key(&self, job: u64) -> Result<&(SigningKey, String), Failure> {
        let at = job
            .checked_rem(self.keys.len() as u64)
            .and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.keys.get(at))
            .context("no caller has a key")
    }

    /// The thumbprint of the key that a job shows.
    pub(super) fn thumbprint(&self, job: u64) -> Result<Thumbprint, Failure> {
        Ok(self.key(job)?.0.thumbprint())
    }

    /// The public key that a job shows, as canonical JSON.
    pub(super) fn jwk(&self, job: u64) -> Result<&str, Failure> {
        Ok(self.key(job)?.0.public_jwk().canonical_json())
    }

    /// Requests for a first credential, each with a fresh proof. `first` is the job of the first
    /// token.
    pub(super) fn requests(
        &self,
        issuer: &str,
        first: u64,
        tokens: &[String],
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let iat = clock::now().seconds();
        in_parallel(0..tokens.len() as u64, |at| {
            let token = usize::try_from(at).ok().and_then(|at| tokens.get(at));
            let token = token.context("a token is missing")?;
            self.request(first + at, token, issuer, iat)
        })
    }

    /// A request by which a helper with its own key takes what a client hands over. Both are named
    /// by the job whose key they have.
    pub(super) fn exchange(
        &self,
        issuer: &str,
        parent: (u64, &str),
        helper: u64,
        iat: u64,
    ) -> Result<Vec<u8>, Failure> {
        let (key, header) = self.key(helper)?;
        let (of, client_id) = parent;
        let jti = format!("{client_id}-{helper:x}");
        let handover = client::handover(
            &self.key(of)?.0,
            &HandoverRequest {
                parent: client_id,
                issuer,
                jkt: Some(key.thumbprint()),
                given: &Given::Scope("artifacts:read".to_owned()),
                now: iat,
                jti: &jti,
            },
        );
        let handover = handover.context("no hand-over")?;
        let proof = proof(key, header, &jti, issuer, iat)?;
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token_type=urn%3Adayfly%3Aparams%3Aoauth%3Atoken-type%3Ahandover\
             &subject_token={handover}"
        );
        Ok(load::post(
            &format!("/{TENANT}/token"),
            &format!("dpop: {proof}\r\n"),
            &form,
        ))
    }

    fn request(&self, job: u64, token: &str, issuer: &str, iat: u64) -> Result<Vec<u8>, Failure> {
        let (key, header) = self.key(job)?;
        let proof = proof(key, header, &format!("{job:012x}"), issuer, iat)?;
        let mut form = String::with_capacity(token.len() + 256);
        form.push_str("grant_type=client_credentials&client_assertion_type=");
        form.push_str("urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer");
        // Writing to a string does not fail.
        let _ = write!(
            form,
            "&client_assertion={token}&resource={}",
            RESOURCE_URL.replace(':', "%3A").replace('/', "%2F")
        );
        Ok(load::post(
            &format!("/{TENANT}/token"),
            &format!("dpop: {proof}\r\n"),
            &form,
        ))
    }
}

impl Callers {
    /// A proof by a job's key for a request to a resource with an access token.
    pub(super) fn proof_with(
        &self,
        job: u64,
        (method, url): (&str, &str),
        (jti, iat): (&str, u64),
        token: &str,
    ) -> Result<String, Failure> {
        let (key, header) = self.key(job)?;
        let ath = b64::encode(sha256(token.as_bytes()));
        let claims = format!(
            r#"{{"jti":"{jti}","htm":"{method}","htu":"{url}","iat":{iat},"ath":"{ath}"}}"#
        );
        let input = format!("{header}.{}", b64::encode(claims));
        key.sign_compact(&input).context("no EC signature")
    }
}

/// A DPoP proof for the token endpoint.
fn proof(
    key: &SigningKey,
    header: &str,
    jti: &str,
    issuer: &str,
    iat: u64,
) -> Result<String, Failure> {
    let claims =
        format!(r#"{{"jti":"{jti}-{iat:x}","htm":"POST","htu":"{issuer}/token","iat":{iat}}}"#);
    let input = format!("{header}.{}", b64::encode(claims));
    key.sign_compact(&input).context("no EC signature")
}

/// Makes one thing for each number, on every core, in their order.
pub(super) fn in_parallel<T: Send>(
    numbers: std::ops::Range<u64>,
    make: impl Fn(u64) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let many = numbers.end.saturating_sub(numbers.start);
    let share = many.div_ceil(machine::cores() as u64).max(1);
    let make = &make;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (numbers.start..numbers.end)
            .step_by(usize::try_from(share).unwrap_or(usize::MAX))
            .map(|from| {
                let part = from..(from + share).min(numbers.end);
                scope.spawn(move || part.map(make).collect::<Result<Vec<T>, Failure>>())
            })
            .collect();
        let mut made = Vec::with_capacity(usize::try_from(many).unwrap_or(0));
        for worker in workers {
            let part = worker
                .join()
                .map_err(|_| Failure::new("a signing thread ended"))?;
            made.extend(part?);
        }
        Ok(made)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_work_keeps_the_order() {
        let made = in_parallel(3..1000, |n| Ok(n * 2)).unwrap();
        assert_eq!(made, (3..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert!(in_parallel(5..5, Ok).unwrap().is_empty());
        assert!(
            in_parallel(0..9, |n| if n == 7 {
                Err(Failure::new("x"))
            } else {
                Ok(n)
            })
            .is_err()
        );
    }

    #[test]
    fn jobs_differ_in_every_id() {
        let (one, other) = (claims("i", 1, 7), claims("i", 1001, 7));
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let (one, other) = (read(&one), read(&other));
        assert_eq!(one["repository_id"], other["repository_id"]);
        for claim in ["jti", "run_id", "check_run_id"] {
            assert_ne!(one[claim], other[claim], "{claim}");
        }
    }
}

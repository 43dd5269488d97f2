//! What a job's claims would match, for a person who looks before a first run; nothing is granted by it.

use dayfly_domain::{ActsFor, ClauseFailure, Digest, Name, Refusal, Rule};
use dayfly_token::claims::Claims;

use super::kind;
use super::pseudonym::PERSON;
use crate::declared::Declared;

/// How one workload reads the claims of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The workload.
    pub workload: Name,
    /// The first clause that fails; none when all hold.
    pub failure: Option<ClauseFailure>,
    /// Why a proof that matches is refused all the same: the key that the declaration still lacks.
    pub unfinished: Option<String>,
    /// Why the proof does not say which run it is; none when it does.
    pub task_key: Option<Refusal>,
    /// Whom its tasks act for; none acts for nobody.
    pub acts_for: Option<ActsFor>,
}

/// Compares the payload of a platform's token, which nobody verified, with every workload of its
/// issuer.
///
/// # Errors
/// A refusal of stage `proof` when the claims cannot be read or name no declared issuer.
pub fn preview(declared: &Declared, payload: &[u8]) -> Result<Vec<Preview>, Refusal> {
    let claims = Claims::parse(payload).map_err(|why| {
        Refusal::new(Rule::TokenForm)
            .field("payload")
            .wanted("the claims of a token")
            .got(why.to_string())
    })?;
    let iss = claims.get("iss").and_then(|value| value.as_str());
    let issuer = iss
        .and_then(|iss| declared.issuer_by_url(iss))
        .ok_or_else(|| {
            super::explain::unknown_issuer(
                iss,
                declared.issuers.values().map(|issuer| issuer.url.as_str()),
            )
        })?;
    let mut reading = kind::read(
        issuer.kind,
        kind::Verified {
            issuer_url: &issuer.url,
            claims: &claims,
            digest: Digest([0; 32]),
        },
    )?;
    if issuer.people.is_some() {
        // Only the server can make it, and that there is one is all that matters here.
        reading.claims.insert(PERSON.to_owned(), "…".to_owned());
    }
    Ok(declared
        .workloads_of(&issuer.name)
        .map(|found| Preview {
            workload: found.workload.name.clone(),
            failure: found.workload.matching.first_failure(&reading.claims),
            unfinished: found.unfinished.clone(),
            task_key: found.workload.key.read(&reading.claims).err(),
            acts_for: found.workload.acts_for.clone(),
        })
        .collect())
}

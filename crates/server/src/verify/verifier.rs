//! The way of a platform's token from text to [`VerifiedProof`], each check in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use dayfly_domain::{Digest, Epoch, Name, Proof, Refusal, Rule, Span, Time};
use dayfly_token::alg;
use dayfly_token::claims::Claims;
use dayfly_token::jws::{JwsError, MAX_TOKEN_BYTES};
use dayfly_token::jwt::{Jwt, VerifiedJwt};
use dayfly_token::times::{SKEW_SECONDS, Times, Tolerance};
use dayfly_token::typ::TypRule;

use super::entrance::{Entrance, Recipient};
use super::explain;
use super::keys::{KeyCache, KeySource, Needed};
use super::kind;
use super::proof::{Findings, LONGEST_AGE, Unvouched, VerifiedProof};
use super::pseudonym::{PERSON, Pseudonyms, check_auth, subject};
use super::review::{PodToken, Reviewer};
use crate::declared::Issuer;

/// How large and how old a platform's token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofBounds {
    /// The longest time since `iat`, beside the tolerance of 60 s; more than 24 h counts as 24 h.
    pub proof_age: Span,
    /// The most bytes.
    pub token_bytes: usize,
}

impl Default for ProofBounds {
    fn default() -> Self {
        Self {
            proof_age: Span::from_seconds(3600),
            token_bytes: MAX_TOKEN_BYTES,
        }
    }
}

/// Verifies the tokens of the issuers that one tenant declares. A change of declared state makes a
/// new one; the keys live on in the [`KeyCache`].
#[derive(Debug)]
pub struct Verifier {
    pub(super) recipient: Recipient,
    pub(super) trusted: BTreeMap<String, Trusted>,
    pub(super) bounds: ProofBounds,
    pub(super) pseudonyms: Pseudonyms,
}

/// An issuer whose tokens count, and its keys.
#[derive(Debug)]
pub(super) struct Trusted {
    issuer: Issuer,
    keys: Arc<KeySource>,
    reviewer: Option<Arc<Reviewer>>,
}

impl Verifier {
    /// A verifier for these issuers. That their URLs differ is checked when declared state is
    /// loaded; of several with one URL the first counts.
    #[must_use]
    pub fn new<'a>(
        recipient: Recipient,
        issuers: impl IntoIterator<Item = &'a Issuer>,
        bounds: ProofBounds,
        cache: &KeyCache,
        pseudonyms: Pseudonyms,
    ) -> Self {
        let mut trusted = BTreeMap::new();
        for issuer in issuers {
            trusted
                .entry(issuer.url.clone())
                .or_insert_with(|| Trusted::new(issuer, cache));
        }
        Self {
            recipient,
            trusted,
            bounds: ProofBounds {
                proof_age: bounds.proof_age.min(LONGEST_AGE),
                ..bounds
            },
            pseudonyms,
        }
    }

    /// Makes the pseudonyms of people.
    #[must_use]
    pub const fn pseudonyms(&self) -> &Pseudonyms {
        &self.pseudonyms
    }

    /// Verifies a platform's token that came in by `entrance`, and asks its cluster where there is one.
    ///
    /// # Errors
    /// A refusal of stage `proof`; [`Rule::KeysUnavailable`] and [`Rule::TokenReviewUnavailable`]
    /// alone may pass by themselves.
    pub async fn verify(
        &self,
        token: &str,
        entrance: Entrance,
        now: Time,
    ) -> Result<VerifiedProof, Refusal> {
        self.check(token, entrance, now).await?.vouched(now).await
    }

    /// Verifies all of a platform's token that can be known without its cluster.
    ///
    /// The order matters: nothing is fetched and nothing computed with keys before the token has
    /// the right form and type and names a declared issuer and an algorithm allowed for it; no
    /// claim but `iss` is read before the signature holds; and no cluster is asked about a token that
    /// is refused without it.
    ///
    /// # Errors
    /// A refusal of stage `proof`; [`Rule::KeysUnavailable`] alone may pass by itself.
    pub(crate) async fn check(
        &self,
        token: &str,
        entrance: Entrance,
        now: Time,
    ) -> Result<Unvouched, Refusal> {
        let jwt =
            Jwt::parse(token, self.bounds.token_bytes).map_err(|error| explain::form(&error))?;
        TypRule::PlatformToken
            .check(jwt.header().typ.as_deref())
            .map_err(|error| explain::typ(&error))?;
        let trusted = self.trusted(jwt.claimed_issuer())?;
        let jwt = trusted.verify_signature(jwt, now).await?;
        let claims = jwt.claims();
        let times = self.check_times(&trusted.issuer, claims, now)?;
        let audience = self.check_audience(&trusted.issuer, claims, entrance)?;
        let digest = Digest(jwt.signing_input_hash());
        let mut reading = kind::read(
            trusted.issuer.kind,
            kind::Verified {
                issuer_url: &trusted.issuer.url,
                claims,
                digest,
            },
        )?;
        let mut person = None;
        if let Some(auth_age) = trusted.issuer.people {
            let at = check_auth(claims, auth_age, now)?;
            let pseudonym = self.pseudonyms.of(trusted.url(), subject(claims)?);
            // What the token itself calls so is not ours.
            let claim = pseudonym.to_string();
            reading.claims.insert(PERSON.to_owned(), claim);
            person = Some(Epoch::of_person(pseudonym, at));
        }
        let claims = Arc::new(reading.claims);
        let asks = trusted.reviewer.as_ref().map(|reviewer| {
            let pod = PodToken::new(token, &trusted.issuer.name, audience, &claims, times);
            (Arc::clone(reviewer), Arc::new(pod))
        });
        let found = Findings {
            proof: Proof {
                issuer: trusted.issuer.name.clone(),
                claims,
                digest,
                instance: reading.instance,
                one_time: reading.one_time,
                person,
            },
            kind: trusted.issuer.kind,
            issuer_url: trusted.issuer.url.clone(),
            times,
            keep: trusted.issuer.keep,
            run_url: reading.run_url,
        };
        Ok(Unvouched::new(found, asks))
    }

    /// Who is asked about the tokens of an issuer; none where nobody is.
    pub(crate) fn reviewer(&self, issuer: &Name) -> Option<&Arc<Reviewer>> {
        let mut trusted = self.trusted.values();
        let trusted = trusted.find(|trusted| trusted.issuer.name == *issuer)?;
        trusted.reviewer.as_ref()
    }

    /// The declared issuer, compared byte for byte (RFC 8414, section 3.3).
    pub(super) fn trusted(&self, claimed: Option<&str>) -> Result<&Trusted, Refusal> {
        claimed
            .and_then(|claimed| self.trusted.get(claimed))
            .ok_or_else(|| {
                explain::unknown_issuer(claimed, self.trusted.keys().map(String::as_str))
            })
    }

    /// Times with the tolerance of 60 s, then the age. A token that does not say when it was made
    /// is as old as its `exp` lets it become: it must lie within the bound ahead of now.
    pub(super) fn check_times(
        &self,
        issuer: &Issuer,
        claims: &Claims,
        now: Time,
    ) -> Result<Times, Refusal> {
        let max_age = self.bounds.proof_age.seconds();
        let demanded = kind::demands_iat(issuer.kind) || issuer.people.is_some();
        let aged = demanded || claims.get("iat").is_some();
        let tolerance = Tolerance {
            skew_seconds: SKEW_SECONDS,
            max_age_seconds: aged.then_some(max_age),
        };
        let times = claims
            .check_times(now.seconds(), tolerance)
            .map_err(|error| {
                let refusal = explain::times(&error, now);
                let about_age =
                    refusal.rule == Rule::ProofAge || refusal.rule == Rule::ClaimMissing;
                if about_age {
                    refusal.hint(kind::age_hint(issuer.kind))
                } else {
                    refusal
                }
            })?;
        let ahead = Time::from_seconds(times.exp).since(now).seconds();
        if times.iat.is_none() && ahead > max_age.saturating_add(SKEW_SECONDS) {
            return Err(Refusal::new(Rule::ProofAge)
                .field("exp")
                .wanted(format!(
                    "`iat`, or `exp` at most {} ahead",
                    self.bounds.proof_age
                ))
                .got(format!(
                    "exp is {}, our clock says {now}",
                    Time::from_seconds(times.exp)
                ))
                .hint(kind::age_hint(issuer.kind)));
        }
        Ok(times)
    }

    fn check_audience(
        &self,
        issuer: &Issuer,
        claims: &Claims,
        entrance: Entrance,
    ) -> Result<String, Refusal> {
        let accepted = self.recipient.audiences(issuer, entrance);
        let listed: Vec<&str> = accepted.iter().map(String::as_str).collect();
        match claims.sole_audience_of(&listed) {
            Ok(audience) => Ok(audience.to_owned()),
            Err(error) => {
                let first = accepted
                    .first()
                    .map_or(self.recipient.issuer.as_str(), String::as_str);
                Err(explain::audience(&error).hint(kind::audience_hint(issuer.kind, first)))
            }
        }
    }
}

impl Trusted {
    pub(super) fn new(issuer: &Issuer, cache: &KeyCache) -> Self {
        Self {
            issuer: issuer.clone(),
            keys: cache.source(issuer),
            reviewer: cache.reviewer(issuer),
        }
    }

    /// Its URL.
    pub(super) fn url(&self) -> &str {
        &self.issuer.url
    }

    /// Its declaration.
    pub(super) const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// How long ago the people whom it vouches for may have authenticated.
    pub(super) const fn people(&self) -> Option<Span> {
        self.issuer.people
    }

    /// Verifies a token that claims to be from this issuer, by an algorithm allowed for it.
    pub(super) async fn verify_signature(
        &self,
        jwt: Jwt<'_>,
        now: Time,
    ) -> Result<VerifiedJwt, Refusal> {
        let alg = jwt.header().alg;
        let allowed = self.issuer.algs.as_slice();
        if !allowed.contains(&alg) {
            let allowed = alg::names(allowed);
            return Err(explain::jws(&JwsError::AlgNotAllowed { alg, allowed }));
        }
        let needed = Needed {
            kid: jwt.header().kid.as_deref(),
            alg,
        };
        let held = self
            .keys
            .keys(needed, now)
            .await
            .map_err(|why| explain::no_keys(&self.issuer.url, &why))?;
        jwt.verify_with(&held.set, allowed)
            .map_err(|error| explain::signature(&error, &held, self.keys.rest(now)))
    }
}

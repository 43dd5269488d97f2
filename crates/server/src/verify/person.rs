//! People at the admin face: the ID token of the operators' provider, checked whole, as a value that only this module makes.
//!
//! | attack | excluded by |
//! |---|---|
//! | a token that the provider made for another client | `aud` is the one client, `azp` too where it stands |
//! | an access token, which an API could pass on | its type is refused (`at+jwt`), or its audience |
//! | a token that says that somebody logged out, or another that is no login | `events` and every `typ` claim but `ID` are refused |
//! | a token of the platform of some tenant | the provider is the only issuer here, whatever tenants declare |
//! | an address that somebody claims to have | `email` counts with `email_verified` alone |
//! | a token that is kept for a rainy day | twelve hours after `iat`, whatever `exp` says |
//! | a token of a session that is over, or of an account that is gone | `App::check_operator`, at each request (docs/decisions/0036) |
//! | a token made before a restore, which may have lost what was said of the person since | the same (docs/decisions/0028) |

use dayfly_domain::{Needed, Refusal, Span, Time};
use dayfly_token::claims::Claims;
use dayfly_token::jws::MAX_TOKEN_BYTES;
use dayfly_token::jwt::Jwt;
use dayfly_token::times::{SKEW_SECONDS, Tolerance};
use dayfly_token::typ::TypRule;
use serde_json::Value;

use super::explain;
use super::keys::KeyCache;
use super::pseudonym::subject;
use super::subject::check_kind;
use super::verifier::Trusted;
use crate::config::{Named, Operators, Place};
use crate::declared::{Issuer, IssuerKind, JwksSource};

/// How old an ID token may be, whatever its `exp` says: a day's work (docs/decisions/0031).
const LONGEST_AGE: Span = Span::from_seconds(12 * 3600);

/// Verifies the tokens of one provider for one client.
#[derive(Debug)]
pub struct People {
    provider: Trusted,
    client_id: String,
    groups_claim: String,
}

/// A person whom the provider vouches for.
#[derive(Clone, Debug)]
pub struct VerifiedPerson {
    iss: String,
    sub: String,
    groups: Vec<String>,
    email: Option<String>,
    authenticated: Time,
    issued: Time,
    expires: Time,
}

impl People {
    /// Verifies for the operators of this server; their provider's keys are held in the cache.
    #[must_use]
    pub fn new(operators: &Operators, cache: &KeyCache) -> Option<Self> {
        let issuer = Issuer {
            place: Place::of_file("dayfly.toml".to_owned()),
            name: "operators".parse().ok()?,
            kind: IssuerKind::Oidc,
            url: operators.issuer.clone(),
            audience: Some(vec![operators.client_id.clone()]),
            jwks: JwksSource::Discovery,
            algs: operators.algs.clone(),
            allow_private: operators.allow_private,
            keep: Span::ZERO,
            rate: None,
            people: None,
            auth_time: Needed::Required,
            webhooks: Vec::new(),
            review: None,
        };
        Some(Self {
            provider: Trusted::new(&issuer, cache),
            client_id: operators.client_id.clone(),
            groups_claim: operators.groups_claim.clone(),
        })
    }

    /// Verifies an ID token (OpenID Connect Core 1.0, section 3.1.3.7). `nonce` is not looked at:
    /// the server began no flow that it could belong to.
    ///
    /// # Errors
    /// A refusal of stage `proof`, which says nothing that the provider's metadata and
    /// `/operators` do not say to everybody.
    pub async fn verify(&self, token: &str, now: Time) -> Result<VerifiedPerson, Refusal> {
        let jwt = Jwt::parse(token, MAX_TOKEN_BYTES).map_err(|error| explain::form(&error))?;
        TypRule::PlatformToken
            .check(jwt.header().typ.as_deref())
            .map_err(|error| explain::typ(&error))?;
        let iss = self.provider.url();
        if jwt.claimed_issuer() != Some(iss) {
            let claimed = jwt.claimed_issuer();
            return Err(explain::unknown_issuer(claimed, std::iter::once(iss)));
        }
        let jwt = self.provider.verify_signature(jwt, now).await?;
        let claims = jwt.claims();
        check_kind(claims, TypRule::PlatformToken)?;
        let tolerance = Tolerance {
            skew_seconds: SKEW_SECONDS,
            max_age_seconds: Some(LONGEST_AGE.seconds()),
        };
        let times = claims
            .check_times(now.seconds(), tolerance)
            .map_err(|error| explain::times(&error, now).hint("log in again"))?;
        claims
            .sole_audience_of(&[&self.client_id])
            .map_err(|error| explain::audience(&error))?;
        self.check_party(claims)?;
        let sub = subject(claims)?;
        Ok(VerifiedPerson {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
            groups: groups(claims.find(&self.groups_claim)),
            email: checked_email(claims),
            authenticated: authenticated(claims, times.iat)?,
            // One that does not say when it was made is as old as can be.
            issued: Time::from_seconds(times.iat.unwrap_or(0)),
            expires: Time::from_seconds(times.exp),
        })
    }

    /// `azp` is the client that the token was given to: ours, where it is said.
    fn check_party(&self, claims: &Claims) -> Result<(), Refusal> {
        match claims.get("azp") {
            None => Ok(()),
            Some(Value::String(azp)) if *azp == self.client_id => Ok(()),
            Some(_) => Err(explain::audience(
                &claims.error("azp", format!("`{}`", self.client_id)),
            )),
        }
    }
}

impl VerifiedPerson {
    /// The provider.
    #[must_use]
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// The person.
    #[must_use]
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// When the person authenticated at the latest.
    #[must_use]
    pub const fn authenticated(&self) -> Time {
        self.authenticated
    }

    /// When the token was made.
    #[must_use]
    pub const fn issued(&self) -> Time {
        self.issued
    }

    /// When the token expires.
    #[must_use]
    pub const fn expires(&self) -> Time {
        self.expires
    }

    /// What roles and members may name.
    #[must_use]
    pub fn named(&self) -> Named<'_> {
        Named {
            sub: &self.sub,
            groups: &self.groups,
            email: self.email.as_deref(),
        }
    }
}

/// Groups as a list of texts or one text; anything else is no group, which gives no role.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

/// When the person authenticated: `auth_time` where the provider says it, else when the token was
/// made, and never later than that.
fn authenticated(claims: &Claims, made: Option<u64>) -> Result<Time, Refusal> {
    let said = claims.time("auth_time");
    let said = said.map_err(|error| explain::claim(&error))?;
    let made = made.unwrap_or(0);
    Ok(Time::from_seconds(said.map_or(made, |said| said.min(made))))
}

fn checked_email(claims: &Claims) -> Option<String> {
    let checked = claims.get("email_verified") == Some(&Value::Bool(true));
    let email = claims.get("email").and_then(Value::as_str);
    email.filter(|_| checked).map(str::to_owned)
}

//! The bearer of a credential as a resource shows it: the token checked by the record, its key proven.

use std::sync::Arc;

use dayfly_domain::{Name, Refusal, Rule, Spent};
use dayfly_store::Spend;
use dayfly_token::alg::Alg;
use dayfly_token::dpop::{DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use dayfly_token::htu::Htu;

use super::authenticate::OwnToken;
use super::refuse::Trail;
use super::replay::one_time;
use super::{App, Tenant};
use crate::verify;

/// What a subject is, the only kind there is: the bearer of a credential.
pub const SUBJECT: &str = "credential";

/// The bearer of a credential, by what it showed to the resource that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// What kind of subject it is said to be.
    pub kind: String,
    /// How the resource calls it. It names and gives nothing: a name of another is refused.
    pub id: String,
    /// The token.
    pub token: Option<String>,
    /// The DPoP proof.
    pub proof: Option<String>,
    /// The method of the request that both came with.
    pub method: Option<String>,
    /// The URL of it.
    pub url: Option<String>,
}

/// Whoever was shown, and what is known of it for those who ask why.
pub(super) struct Party<'a> {
    pub(super) bearer: Result<Bearer<'a>, Refusal>,
    pub(super) trail: Trail,
}

/// Who has shown a live credential of this resource, and holds its key where it is bound to one.
pub(super) struct Bearer<'a> {
    pub(super) token: &'a str,
    pub(super) own: Arc<OwnToken>,
    pub(super) spend: Option<Spend>,
}

impl App {
    /// Checks what was shown: a token for this very resource that is live, and a proof by its key.
    pub(super) fn party<'a>(
        &self,
        tenant: &Tenant,
        resource: &Name,
        shown: &'a Shown,
        trail: &Trail,
    ) -> Party<'a> {
        let mut trail = Trail {
            resource: Some(resource.clone()),
            ..trail.clone()
        };
        let bearer = self.bearer(tenant, resource, shown, &mut trail);
        Party { bearer, trail }
    }

    fn bearer<'a>(
        &self,
        tenant: &Tenant,
        resource: &Name,
        shown: &'a Shown,
        trail: &mut Trail,
    ) -> Result<Bearer<'a>, Refusal> {
        if shown.kind != SUBJECT {
            return Err(Refusal::new(Rule::Invalid)
                .field("subject.type")
                .wanted(SUBJECT)
                .got("another"));
        }
        let token = shown.token.as_deref().ok_or_else(|| {
            Refusal::new(Rule::Credential)
                .field("subject.properties.token")
                .wanted("the token that the caller showed: an id is nobody's authority")
                .got("none")
        })?;
        let own = self.own_token(tenant, token)?;
        let loaded = tenant.loaded();
        let url = loaded.declared.catalog.url_of(resource);
        if own.audience != url {
            return Err(Refusal::new(Rule::Audience)
                .field("aud")
                .wanted(url)
                .got(own.audience.as_str()));
        }
        let names = [own.id.to_string(), own.id.client.to_string()];
        if own.subject != shown.id && !names.contains(&shown.id) {
            return Err(Refusal::new(Rule::Credential)
                .field("subject.id")
                .wanted("the `sub`, `client_id` or `jti` of the token")
                .got("another"));
        }
        trail.task = Some(own.id.client.task);
        let open = self.check_live(tenant, &own, self.now())?;
        // Whose job it is may be told why, although nobody has proven to be it.
        trail.workload = Some(open.task.workload);
        let spend = self.prove_bearer(shown, token, &own)?;
        trail.client = Some(own.id.client);
        Ok(Bearer { token, own, spend })
    }

    /// Checks, for a bound credential, the proof that its key made for the request to the resource
    /// (RFC 9449, section 4.3). A nonce in it is the resource's own.
    fn prove_bearer(
        &self,
        shown: &Shown,
        token: &str,
        own: &OwnToken,
    ) -> Result<Option<Spend>, Refusal> {
        let (jkt, proof) = match (own.jkt, shown.proof.as_deref()) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(Refusal::new(Rule::OtherKey)
                    .field("subject.properties.dpop")
                    .wanted("none, for a token that is bound to no key")
                    .got("a proof"));
            }
            (Some(_), None) => {
                return Err(Refusal::new(Rule::KeyProofMissing)
                    .field("subject.properties.dpop")
                    .wanted("a proof by the key that the token is bound to")
                    .got("none"));
            }
            (Some(jkt), Some(proof)) => (jkt, proof),
        };
        let method = of_request("subject.properties.method", shown.method.as_deref())?;
        let url = of_request("subject.properties.url", shown.url.as_deref())?;
        let htu = Htu::parse(url).map_err(|_| {
            Refusal::new(Rule::KeyProof)
                .field("subject.properties.url")
                .wanted("the absolute url of the request")
                .got(url)
        })?;
        let verified = VerifiedDpop::verify(
            proof,
            &DpopExpect {
                method,
                htu: &htu,
                now: self.now().seconds(),
                max_age_seconds: MAX_AGE_SECONDS,
                max_ahead_seconds: MAX_AHEAD_SECONDS,
                access_token: Some(token),
                algs: Alg::DEFAULT,
            },
        )
        .map_err(|why| verify::key_proof(&why))?;
        if verified.jkt().0 != jkt.0 {
            return Err(Refusal::new(Rule::OtherKey)
                .field("DPoP jwk")
                .wanted(jkt.to_string())
                .got(verified.jkt().to_string()));
        }
        Ok(Some(Spend {
            key: one_time(&verified),
            by: Spent {
                task: own.id.client.task,
                client: own.id.client.number,
            },
        }))
    }
}

/// What the request had that the proof was shown with.
fn of_request<'a>(field: &'static str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    value.ok_or_else(|| {
        Refusal::new(Rule::KeyProof)
            .field(field)
            .wanted("what the caller's request had")
            .got("none")
    })
}

//! Introspection (RFC 7662) for the resource that is the token's audience, and for nobody else.

use dayfly_domain::{Name, Refusal, Rule};
use dayfly_store::{Append, AppendError, NOBODY, Spend};
use dayfly_token::assertion::{AssertionExpect, VerifiedAssertion};
use dayfly_token::hash::{constant_time_eq, sha256};

use super::refuse::{Refused, Trail, unavailable};
use super::renew::assertion_key;
use super::{App, Tenant};
use crate::declared::{JwksSource, ResourceAuth};

/// How a resource authenticates.
#[derive(Clone, Copy)]
pub enum ResourceCaller<'a> {
    /// By its secret (RFC 6749, section 2.3.1).
    Secret {
        /// Its name.
        id: &'a str,
        /// The secret it sent.
        secret: &'a str,
    },
    /// By a `private_key_jwt`.
    Assertion {
        /// The assertion.
        assertion: &'a str,
        /// `client_id`, where the request names one.
        client_id: Option<&'a str>,
    },
}

impl App {
    /// Authenticates a resource and says which it is.
    ///
    /// # Errors
    /// The refusal, the same whether the resource exists or not.
    pub async fn resource(
        &self,
        tenant: &Tenant,
        caller: &ResourceCaller<'_>,
        trail: &Trail,
    ) -> Result<Name, Refused> {
        let result = match caller {
            ResourceCaller::Secret { id, secret } => resource_by_secret(tenant, id, secret),
            ResourceCaller::Assertion {
                assertion,
                client_id,
            } => self.resource_by_key(tenant, assertion, *client_id).await,
        };
        result.map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    /// The answer of introspection as JSON text; none when the token is not live or not for this
    /// resource, which must then be told `{"active":false}` and nothing more.
    ///
    /// # Errors
    /// Only where the record cannot be asked: a failure is never "inactive".
    pub fn introspect(
        &self,
        tenant: &Tenant,
        resource: &Name,
        token: &str,
        trail: &Trail,
    ) -> Result<Option<String>, Refused> {
        let loaded = tenant.loaded();
        let Ok(own) = self.own_token(tenant, token) else {
            return Ok(None);
        };
        if loaded.declared.catalog.url_of(resource) != own.audience {
            return Ok(None);
        }
        match self.check_live(tenant, &own, self.now()) {
            Ok(_) => Ok(Some(own.introspection.clone())),
            Err(refusal) if refusal.rule == Rule::Unavailable => {
                Err(self.refuse(tenant, trail, refusal))
            }
            Err(_) => Ok(None),
        }
    }

    async fn resource_by_key(
        &self,
        tenant: &Tenant,
        assertion: &str,
        client_id: Option<&str>,
    ) -> Result<Name, Refusal> {
        let jwt = dayfly_token::jwt::Jwt::parse(assertion, self.bounds.token_bytes)
            .map_err(|_| unauthenticated())?;
        let claimed = jwt.claimed_subject().unwrap_or_default().to_owned();
        if client_id.is_some_and(|named| named != claimed) {
            return Err(unauthenticated());
        }
        let loaded = tenant.loaded();
        let name: Name = claimed.parse().map_err(|_| unauthenticated())?;
        let keys = match loaded
            .declared
            .resources
            .get(&name)
            .and_then(|resource| resource.auth.as_ref())
        {
            Some(ResourceAuth::Keys(JwksSource::File { keys, .. })) => keys,
            Some(ResourceAuth::Keys(_) | ResourceAuth::Secret(_)) | None => {
                return Err(unauthenticated());
            }
        };
        let header = jwt.header().clone();
        let expect = AssertionExpect {
            client_id: &claimed,
            issuer: tenant.issuer(),
            lenient_audience: false,
            now: self.now().seconds(),
        };
        let mut last = unauthenticated();
        for key in keys.select(header.kid.as_deref(), header.alg) {
            match VerifiedAssertion::verify(assertion, key, &expect) {
                Ok(verified) => {
                    self.spend_assertion(tenant, &verified).await?;
                    return Ok(name);
                }
                // Only the operator is told why: it would tell that the resource exists.
                Err(why) => last = unauthenticated().hint(why.to_string()),
            }
        }
        Err(last)
    }

    /// Spends a resource's assertion: it may be used once, whatever restarts.
    async fn spend_assertion(
        &self,
        tenant: &Tenant,
        assertion: &VerifiedAssertion,
    ) -> Result<(), Refusal> {
        let append = Append {
            now: self.now(),
            spends: vec![Spend {
                key: assertion_key(assertion),
                by: NOBODY,
            }],
            ..Append::default()
        };
        match self.store.append(tenant.name(), append).await {
            Ok(_) => Ok(()),
            Err(AppendError::SpentKey { .. }) => Err(Refusal::new(Rule::AssertionSpent)
                .field("client_assertion jti")
                .wanted("a fresh assertion for each request")
                .got("one that was used")),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// Both secrets are hashed before they are compared, so that neither content nor length shows.
fn resource_by_secret(tenant: &Tenant, id: &str, secret: &str) -> Result<Name, Refusal> {
    let loaded = tenant.loaded();
    let found = id
        .parse::<Name>()
        .ok()
        .and_then(|name| loaded.declared.resources.get_key_value(&name))
        .and_then(|(name, resource)| match &resource.auth {
            Some(ResourceAuth::Secret(secret)) => Some((name, secret)),
            Some(ResourceAuth::Keys(_)) | None => None,
        });
    let (name, wanted) = match found {
        Some((name, secret)) => (Some(name.clone()), sha256(secret.expose())),
        None => (None, [0; 32]),
    };
    let same = constant_time_eq(&sha256(secret.as_bytes()), &wanted);
    match name {
        Some(name) if same => Ok(name),
        Some(_) | None => Err(unauthenticated()),
    }
}

fn unauthenticated() -> Refusal {
    Refusal::new(Rule::Authentication)
        .field("client")
        .wanted("a declared resource that authenticates by its secret or key")
        .got("another")
}

//! Exchange of an own token for one with less access or another of the client's own resources.

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{CredentialIssued, Event, Refusal, Rule, Spent, Within};
use dayfly_store::{EntryRange, Spend, StoredEntry};

use super::authenticate::OwnToken;
use super::grant::Granted;
use super::refuse::{Refused, Trail, unavailable};
use super::renew::{Further, assertion_key};
use super::replay::{KeyProof, one_time};
use super::{App, Tenant};
use crate::record;

/// How many entries are read at a time.
const PAGE: u64 = 16;

/// A request to exchange an own token (RFC 8693).
#[derive(Clone, Debug)]
pub struct NarrowRequest<'a> {
    /// The own token.
    pub token: &'a str,
    /// A `private_key_jwt` of the client, where one came.
    pub assertion: Option<&'a str>,
    /// `client_id`, where the request names one.
    pub client_id: Option<&'a str>,
    /// What is asked for.
    pub access: AccessRequest,
    /// The DPoP proof, where one came.
    pub key_proof: Option<KeyProof<'a>>,
}

impl App {
    /// Exchanges an own token. A bound token's key must be proven; a bearer token gets nothing
    /// that it does not hold already, and no longer life.
    ///
    /// # Errors
    /// The refusal.
    pub async fn narrow(
        &self,
        tenant: &Tenant,
        request: &NarrowRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refused> {
        match self.try_narrow(tenant, request, trail).await {
            Ok(granted) => Ok(granted),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_narrow(
        &self,
        tenant: &Tenant,
        request: &NarrowRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refusal> {
        let now = self.now();
        let own = self.own_token(tenant, request.token)?;
        trail.task = Some(own.id.client.task);
        let open = self.check_live(tenant, &own, now)?;
        let mut keys = Vec::new();
        if let Some(assertion) = request.assertion {
            let (client, verified, _) =
                self.client_assertion(tenant, assertion, request.client_id, now, trail)?;
            if client != own.id.client {
                return Err(Refusal::new(Rule::OtherKey)
                    .field("client_assertion")
                    .wanted(own.id.client.to_string())
                    .got(client.to_string()));
            }
            keys.push(assertion_key(&verified));
        }
        let key_proof = self
            .own_key_proof(
                tenant,
                request.key_proof.as_ref(),
                &open,
                own.id.client,
                now,
            )
            .map_err(explain_other_key)?;
        keys.extend(key_proof.as_ref().map(one_time));
        if own.jkt.is_some() && keys.is_empty() {
            return Err(Refusal::new(Rule::KeyProofMissing)
                .field("DPoP")
                .wanted("a proof by the key that the subject token is bound to")
                .got("none")
                .hint(HAND_OVER));
        }
        trail.client = Some(own.id.client);
        trail.workload = Some(open.task.workload.clone());
        self.charge_client(tenant, own.id.client, &open.task.workload, now)?;
        let held = if own.jkt.is_none() {
            Some(self.recorded_access(tenant, &own, open.task.version)?)
        } else {
            None
        };
        let by = Spent {
            task: own.id.client.task,
            client: own.id.client.number,
        };
        let further = Further {
            client: own.id.client,
            request: &request.access,
            within: held.as_ref().map(|issued| Within {
                access: &issued.access,
                expires: issued.expires,
            }),
            by_assertion: request.assertion.is_some(),
            spends: keys.into_iter().map(|key| Spend { key, by }).collect(),
        };
        let granted = self.issue_further(tenant, &further, open, trail).await?;
        // One more look at what was shown: its key may have been given up meanwhile, and then what
        // was got for it stays here.
        self.own_token(tenant, request.token)?;
        Ok(granted)
    }

    /// What the record says a credential was issued for. A live one was issued a short while ago,
    /// so its entry is looked for from the end of its task's chain.
    pub(super) fn recorded_access(
        &self,
        tenant: &Tenant,
        own: &OwnToken,
        entries: u64,
    ) -> Result<CredentialIssued, Refusal> {
        let mut before = entries + 1;
        while before > 1 {
            let from = before.saturating_sub(PAGE).max(1);
            let limit = usize::try_from(before - from).unwrap_or(usize::MAX);
            let page = self
                .store
                .entries(
                    tenant.name(),
                    EntryRange::Of(own.id.client.task, from),
                    limit,
                )
                .map_err(|why| unavailable(&why))?;
            if let Some(issued) = page.iter().rev().find_map(|entry| issued_by(entry, own)) {
                return Ok(issued);
            }
            before = from;
        }
        Err(unavailable(&"a live credential has no entry"))
    }
}

const HAND_OVER: &str = "a helper with a key of its own needs a hand-over, not this token";

/// Somebody else's token does not become a helper's own by an exchange.
fn explain_other_key(refusal: Refusal) -> Refusal {
    if refusal.rule == Rule::OtherKey {
        return refusal.hint(HAND_OVER);
    }
    refusal
}

/// The event of an entry, where it is the one that issued this credential.
fn issued_by(entry: &StoredEntry, own: &OwnToken) -> Option<CredentialIssued> {
    match record::event_of(entry)? {
        Event::CredentialIssued(issued) if issued.id(own.id.client.task) == own.id => Some(issued),
        Event::CredentialIssued(_)
        | Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::TaskStarted(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_)
        | Event::TaskEnded(_) => None,
    }
}

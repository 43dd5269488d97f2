//! Renewal: a client authenticates by its own key and gets a further credential, up to the deadline.

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{
    BlockOn, Client, ClientId, Command, Digest, Epoch, Heard, Issue, Name, Refusal, Rule, Spent,
    Task, Time, Workload, check_epochs, check_unblocked, decide,
};
use dayfly_store::{Append, AppendError, Facts, FactsQuery, OneTimeKey, OpenTask, Spend, Touch};
use dayfly_token::alg::Alg;
use dayfly_token::assertion::{AssertionError, AssertionExpect, VerifiedAssertion};
use dayfly_token::dpop::VerifiedDpop;
use dayfly_token::jwk::PublicJwk;
use dayfly_token::verifying_key::VerifyingKey;

use super::authenticate::ended;
use super::grant::{Granted, too_large};
use super::permit::{Asking, granted, permit};
use super::refuse::{Refused, Trail, unavailable};
use super::replay::{KeyProof, one_time};
use super::subject::sealer;
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::mint::Sealer;
use crate::verify;

const ATTEMPTS: usize = 16;

/// A request for a further credential.
#[derive(Clone, Debug)]
pub struct RenewRequest<'a> {
    /// The `private_key_jwt` (RFC 7523, section 2.2).
    pub assertion: &'a str,
    /// `client_id`, where the request names one.
    pub client_id: Option<&'a str>,
    /// What is asked for.
    pub access: AccessRequest,
    /// The DPoP proof, where one came.
    pub key_proof: Option<KeyProof<'a>>,
}

/// What bounds a further credential beside the client's access.
pub(super) struct Further<'a> {
    pub(super) client: ClientId,
    pub(super) request: &'a AccessRequest,
    pub(super) within: Option<dayfly_domain::Within<'a>>,
    pub(super) spends: Vec<Spend>,
    /// Whether the first of these is an assertion rather than a DPoP proof.
    pub(super) by_assertion: bool,
}

impl App {
    /// Renews: issues a further credential to the client whose key made the assertion.
    ///
    /// # Errors
    /// The refusal.
    pub async fn renew(
        &self,
        tenant: &Tenant,
        request: &RenewRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refused> {
        match self.try_renew(tenant, request, trail).await {
            Ok(granted) => Ok(granted),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_renew(
        &self,
        tenant: &Tenant,
        request: &RenewRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refusal> {
        let now = self.now();
        let (client, assertion, open) =
            self.client_assertion(tenant, request.assertion, request.client_id, now, trail)?;
        let key_proof =
            self.own_key_proof(tenant, request.key_proof.as_ref(), &open, client, now)?;
        self.charge_client(tenant, client, &open.task.workload, now)?;
        let by = Spent {
            task: client.task,
            client: client.number,
        };
        let spends = std::iter::once(assertion_key(&assertion))
            .chain(key_proof.as_ref().map(one_time))
            .map(|key| Spend { key, by })
            .collect();
        let further = Further {
            client,
            request: &request.access,
            within: None,
            spends,
            by_assertion: true,
        };
        self.issue_further(tenant, &further, open, trail).await
    }

    /// Verifies a `private_key_jwt` by the key bound to the client it names.
    pub(super) fn client_assertion(
        &self,
        tenant: &Tenant,
        assertion: &str,
        client_id: Option<&str>,
        now: Time,
        trail: &mut Trail,
    ) -> Result<(ClientId, VerifiedAssertion, OpenTask), Refusal> {
        let refused = |field: &str, wanted: &str, got: String| {
            Refusal::new(Rule::Assertion)
                .field(field)
                .wanted(wanted)
                .got(got)
        };
        let jwt = dayfly_token::jwt::Jwt::parse(assertion, self.bounds.token_bytes)
            .map_err(|why| verify::assertion(&AssertionError::from(why)))?;
        let claimed = jwt.claimed_subject().unwrap_or_default().to_owned();
        if client_id.is_some_and(|named| named != claimed) {
            return Err(refused(
                "client_id",
                "the assertion's sub",
                "another".to_owned(),
            ));
        }
        let client: ClientId = claimed
            .parse()
            .map_err(|_| refused("sub", "the id of a client", claimed.clone()))?;
        trail.task = Some(client.task);
        let open = self
            .open_task(tenant, client.task)?
            .ok_or_else(|| ended("no open task by its id"))?;
        let jwk = open
            .task
            .client(client.number)
            .and_then(|client| client.jwk.as_deref())
            .ok_or_else(|| refused("sub", "a client with a key", claimed.clone()))?;
        let key = PublicJwk::from_json(jwk.as_bytes())
            .and_then(|jwk| VerifyingKey::new(&jwk, Alg::DEFAULT))
            .map_err(|why| unavailable(&why))?;
        let verified = VerifiedAssertion::verify_parsed(
            jwt,
            &key,
            &AssertionExpect {
                client_id: &claimed,
                issuer: tenant.issuer(),
                lenient_audience: false,
                now: now.seconds(),
            },
        )
        .map_err(|why| verify::assertion(&why))?;
        trail.client = Some(client);
        trail.workload = Some(open.task.workload.clone());
        Ok((client, verified, open))
    }

    /// Checks that a DPoP proof, where one came, is by the client's own key.
    pub(super) fn own_key_proof(
        &self,
        tenant: &Tenant,
        key_proof: Option<&KeyProof<'_>>,
        open: &OpenTask,
        client: ClientId,
        now: Time,
    ) -> Result<Option<VerifiedDpop>, Refusal> {
        let Some(key_proof) = key_proof else {
            return Ok(None);
        };
        let verified = self.key_proof_whatever_nonce(tenant, key_proof, None, now)?;
        let bound = open
            .task
            .client(client.number)
            .and_then(|client| client.jkt);
        if bound != Some(Digest(verified.jkt().0)) {
            return Err(Refusal::new(Rule::OtherKey)
                .field("DPoP jwk")
                .wanted(bound.map_or_else(|| "no key".to_owned(), |jkt| jkt.to_string()))
                .got(verified.jkt().to_string()));
        }
        self.check_nonce(tenant, &verified, now)?;
        Ok(Some(verified))
    }

    /// Issues a further credential to a client that has authenticated.
    pub(super) async fn issue_further(
        &self,
        tenant: &Tenant,
        further: &Further<'_>,
        mut open: OpenTask,
        trail: &mut Trail,
    ) -> Result<Granted, Refusal> {
        self.check_asked(further.request)?;
        let number = further.client.number;
        let claims = self.claims_of(tenant, proving(&open.task, number))?;
        let person = self.person_of(tenant, &open.task, number, trail)?;
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            check_epochs(open.stale_for(number))?;
            let loaded = tenant.loaded();
            let workload = declared_workload(&loaded, &open.task.workload)?;
            let others = others_of(&loaded, &open.task, number)?;
            let acting = declared_workload(&loaded, open.task.acts_as(number))?;
            let keyring = tenant.keyring();
            let sealer = sealer(&keyring, tenant, &loaded, person.as_ref())?;
            let now = self.now();
            let facts = self.facts_of(tenant, &acting.name)?;
            let events = decide(
                Some(&open.task),
                &Command::Issue(Issue {
                    now,
                    heard: open.heard,
                    stale: open.stale_for(number).cloned(),
                    client: number,
                    workload,
                    others: &others,
                    catalog: &loaded.declared.catalog,
                    bounds: &self.bounds.domain,
                    request: further.request,
                    within: further.within,
                    seal: &sealer,
                }),
            )?;
            check_unblocked(&facts.blocks, &open.task, number)?;
            self.check_length(&sealer)?;
            let asking = Asking {
                loaded: &loaded,
                workload: acting,
                claims: &claims,
                counts: facts.counts,
                now,
                person: person.as_ref(),
                approvals: 0,
                handed: None,
            };
            let permitted = permit(events, &asking, trail)?;
            let append = Append {
                now,
                changes: vec![granted(Some(&open.task), open.task.id, permitted, None)?],
                spends: further.spends.clone(),
                relies: relies_of(&open.task, number),
                revision: Some(loaded.revision),
                unblocked: BlockOn::of_client(&open.task, number),
                ..Append::default()
            };
            match self.store.append(tenant.name(), append).await {
                Ok(committed) => return self.answer(tenant, &committed, open.task.id, &sealer),
                Err(AppendError::SpentKey { which: 0, .. }) if further.by_assertion => {
                    return Err(assertion_spent());
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            if turn.is_none() {
                turn = self.turns.of(tenant.name(), &open.task).await;
            }
            open = self
                .open_task(tenant, open.task.id)?
                .ok_or_else(|| ended("it ended meanwhile"))?;
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// The counters of a workload, and the blocks that stand.
    pub(super) fn facts_of(&self, tenant: &Tenant, workload: &Name) -> Result<Facts, Refusal> {
        let query = FactsQuery {
            counts: Some(workload),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query);
        facts.map_err(|why| unavailable(&why))
    }

    /// Checks that what was drafted makes no token longer than one may be.
    pub(super) fn check_length(&self, sealer: &Sealer<'_>) -> Result<(), Refusal> {
        let most = self.bounds.token_bytes;
        if sealer.longest() <= most {
            return Ok(());
        }
        Err(too_large(most))
    }

    /// An authenticated call of a root client counts as a beat, once beats are watched.
    pub(super) fn heard(&self, tenant: &Tenant, task: &Task, heard: Heard, client: u32) {
        let root = task
            .client(client)
            .is_some_and(|client| client.parent.is_none());
        if root && heard.last_seen.is_some() {
            let at = self.now();
            let task = task.id;
            self.store.touch(tenant.name(), Touch::Beat { task, at });
        }
    }
}

/// A workload of an open task, as it is declared now.
pub(super) fn declared_workload<'a>(
    loaded: &'a Loaded,
    name: &Name,
) -> Result<&'a Workload, Refusal> {
    loaded
        .declared
        .workloads
        .get(name)
        .map(|found| &found.workload)
        .ok_or_else(|| {
            Refusal::new(Rule::WorkloadUnknown)
                .field("workload")
                .wanted("a workload that is still declared")
                .got(name.as_str())
        })
}

/// The workloads of a client's chain that are others than its task's.
pub(super) fn others_of<'a>(
    loaded: &'a Loaded,
    task: &Task,
    number: u32,
) -> Result<Vec<&'a Workload>, Refusal> {
    let own = task
        .chain(number)
        .filter_map(|(_, client)| client.own.as_ref());
    own.filter(|own| own.workload != task.workload)
        .map(|own| declared_workload(loaded, &own.workload))
        .collect()
}

/// The client by whose proof a client acts: itself or the nearest above it that brought one.
pub(super) fn proving(task: &Task, number: u32) -> ClientId {
    let proven = |client: &Client| client.own.is_some() || client.parent.is_none();
    let found = task.chain(number).find(|(_, client)| proven(client));
    task.client_id(found.map_or(number, |(number, _)| number))
}

/// The epochs that a client relies on: its task's, and those of its whole chain.
pub(super) fn relies_of(task: &Task, number: u32) -> Vec<Epoch> {
    let own = task
        .chain(number)
        .filter_map(|(_, client)| client.own.as_ref());
    let own = own.flat_map(|own| &own.epochs);
    task.epochs.iter().chain(own).cloned().collect()
}

fn assertion_spent() -> Refusal {
    Refusal::new(Rule::AssertionSpent)
        .field("client_assertion jti")
        .wanted("a fresh assertion for each request")
        .got("one that was used")
}

/// The one-time key of an assertion: an assertion may be used once.
pub(super) fn assertion_key(assertion: &VerifiedAssertion) -> OneTimeKey {
    let exp = Time::from_seconds(assertion.exp());
    OneTimeKey {
        digest: Digest(dayfly_token::hash::sha256_of_parts(&[
            b"assertion",
            &assertion.replay_key(),
        ])),
        // `jti` and `exp` stand in the same signed text, so the same assertion names the same time.
        at: exp,
        until: exp + dayfly_domain::Span::from_seconds(dayfly_token::times::SKEW_SECONDS + 1),
    }
}

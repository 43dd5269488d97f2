//! Delegation: a child shows a hand-over of its parent, proves its own key, and comes in below it.

use std::sync::Arc;

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{
    ActorProof, BlockOn, ClientId, Command, Counts, Delegate, Digest, Event, Handover, NewClient,
    Opening, Refusal, Rule, Spent, Task, TaskKey, Time, Workload, check_actor, check_epochs,
    decide,
};
use dayfly_store::{Append, AppendError, FactsQuery, OneTimeKey, OpenTask, Spend};
use dayfly_token::alg::Alg;
use dayfly_token::dpop::VerifiedDpop;
use dayfly_token::handover::{Given, HandoverError, HandoverExpect, VerifiedHandover};
use dayfly_token::hash::sha256_of_parts;
use dayfly_token::jwk::PublicJwk;
use dayfly_token::jwt::Jwt;
use dayfly_token::times::SKEW_SECONDS;
use dayfly_token::typ::TypRule;
use dayfly_token::verifying_key::VerifyingKey;

use super::authenticate::ended;
use super::grant::{Granted, too_large};
use super::permit::{Asking, ProofAnnex, granted, permit};
use super::plan::relied_on;
use super::refuse::{Refused, Trail, unavailable};
use super::renew::{declared_workload, others_of, proving, relies_of};
use super::replay::{KeyProof, one_time};
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::declared::IssuerKind;
use crate::mint::Sealer;
use crate::policy::{Handed, Permitted};
use crate::verify::{self, Entrance, VerifiedProof};

/// How often a decision is made anew when the state has moved under it.
const ATTEMPTS: usize = 16;

/// A request of a child to come in (RFC 8693).
#[derive(Clone, Debug)]
pub struct DelegateRequest<'a> {
    /// What its parent signed: the `subject_token`.
    pub handover: &'a str,
    /// The child's own platform token, where it brings one: the `actor_token`.
    pub actor: Option<&'a str>,
    /// The workload that the actor token is to match, where the request names one.
    pub workload: Option<&'a str>,
    /// What its first credential is asked for.
    pub access: AccessRequest,
    /// SHA-256 of what the request names.
    pub digest: Digest,
    /// The proof of the child's own key, where one came.
    pub key_proof: Option<KeyProof<'a>>,
}

/// Everything verified about a request, before it is decided.
struct Verified {
    parent: ClientId,
    handover: Handover,
    /// By which the hand-over counts once.
    once: OneTimeKey,
    key_proof: Option<VerifiedDpop>,
    client: NewClient,
    actor: Option<VerifiedActor>,
}

/// The child's own proof, and what it matched.
struct VerifiedActor {
    /// The revision of the declared state that it was verified and matched under.
    revision: u64,
    proof: VerifiedProof,
    workload: dayfly_domain::Name,
    key: TaskKey,
}

/// A decision that is ready to be recorded.
struct Plan {
    append: Append,
    /// The place of the actor's proof among the keys that are spent.
    actor_at: Option<usize>,
}

impl App {
    /// Takes in a child by a hand-over, or answers it again.
    ///
    /// # Errors
    /// The refusal.
    pub async fn delegate(
        &self,
        tenant: &Tenant,
        request: &DelegateRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refused> {
        match self.try_delegate(tenant, request, trail).await {
            Ok(granted) => Ok(granted),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_delegate(
        &self,
        tenant: &Tenant,
        request: &DelegateRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Granted, Refusal> {
        let (mut verified, mut open) = self.verify_delegation(tenant, request, trail).await?;
        let parent = verified.parent;
        self.charge_client(tenant, parent, &open.task.workload, self.now())?;
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            let loaded = tenant.loaded();
            let outdated = |actor: &VerifiedActor| actor.revision != loaded.revision;
            if verified.actor.as_ref().is_some_and(outdated) {
                // The declared state changed: issuer and match are judged by it anew.
                verified.actor = self.verify_actor(tenant, request, trail).await?;
                continue;
            }
            let keyring = tenant.keyring();
            let sealer = Sealer::new(&keyring, tenant.issuer(), &loaded.algs);
            let plan = self.plan_child(tenant, &loaded, &verified, &open, &sealer, trail)?;
            if sealer.longest() > self.bounds.token_bytes {
                return Err(too_large(self.bounds.token_bytes));
            }
            match self.store.append(tenant.name(), plan.append).await {
                Ok(committed) => return self.answer(tenant, &committed, parent.task, &sealer),
                // Another request used it meanwhile: the state says by whom, and so does `decide`.
                Err(AppendError::SpentKey { which: 0, by }) if by.task == parent.task => {}
                Err(AppendError::SpentKey { which, .. }) if Some(which) == plan.actor_at => {
                    return Err(actor_spent());
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            if turn.is_none() {
                let (issuer, series) = (&open.task.issuer, &open.task.series);
                turn = self.turns.take(tenant.name(), issuer, series).await;
            }
            open = self
                .open_task(tenant, parent.task)?
                .ok_or_else(|| ended("it ended meanwhile"))?;
        }
        Err(unavailable(&"the task did not stand still"))
    }

    async fn verify_delegation(
        &self,
        tenant: &Tenant,
        request: &DelegateRequest<'_>,
        trail: &mut Trail,
    ) -> Result<(Verified, OpenTask), Refusal> {
        let now = self.now();
        let (parent, handover, open) =
            self.verify_handover(tenant, request.handover, now, trail)?;
        let key_proof = request
            .key_proof
            .as_ref()
            .map(|proof| self.key_proof(tenant, proof, None, now))
            .transpose()?;
        trail.key = key_proof.as_ref().map(|proof| Digest(proof.jkt().0));
        self.check_asked(&request.access)?;
        let given = given(&handover)?;
        self.check_asked(&given)?;
        let actor = self.verify_actor(tenant, request, trail).await?;
        let client = NewClient {
            jkt: key_proof.as_ref().map(|proof| Digest(proof.jkt().0)),
            jwk: key_proof
                .as_ref()
                .map(|proof| proof.jwk().canonical_json().to_owned()),
            request: request.access.clone(),
            digest: request.digest,
        };
        let verified = Verified {
            parent,
            once: once(&handover),
            handover: Handover {
                digest: Digest(handover.signing_input_hash()),
                jkt: handover.jkt().map(|jkt| Digest(jkt.0)),
                given,
            },
            key_proof,
            client,
            actor,
        };
        Ok((verified, open))
    }

    /// Verifies a hand-over by the key of the client that it says it is from. Whether that client
    /// is active and may hand over, `decide` says.
    fn verify_handover(
        &self,
        tenant: &Tenant,
        token: &str,
        now: Time,
        trail: &mut Trail,
    ) -> Result<(ClientId, VerifiedHandover, OpenTask), Refusal> {
        let refused = |error: HandoverError| verify::handover(&error);
        let jwt = Jwt::parse(token, self.bounds.token_bytes).map_err(|why| refused(why.into()))?;
        // The type first: whatever else is shown here is told for what it is.
        TypRule::Exactly(dayfly_token::handover::TYP)
            .check(jwt.header().typ.as_deref())
            .map_err(|why| refused(why.into()))?;
        let claimed = jwt.claimed_issuer().unwrap_or_default().to_owned();
        let no_client = |wanted: &str| {
            Refusal::new(Rule::Handover)
                .field("iss")
                .wanted(wanted)
                .got(claimed.as_str())
        };
        let parent: ClientId = claimed
            .parse()
            .map_err(|_| no_client("the id of a client"))?;
        trail.task = Some(parent.task);
        let open = self
            .open_task(tenant, parent.task)?
            .ok_or_else(|| ended("no open task by its id"))?;
        let jwk = open
            .task
            .client(parent.number)
            .and_then(|client| client.jwk.as_deref())
            .ok_or_else(|| no_client("a client with a key"))?;
        let key = PublicJwk::from_json(jwk.as_bytes())
            .and_then(|jwk| VerifyingKey::new(&jwk, Alg::DEFAULT))
            .map_err(|why| unavailable(&why))?;
        let expect = HandoverExpect {
            parent: &claimed,
            issuer: tenant.issuer(),
            now: now.seconds(),
        };
        let verified = VerifiedHandover::verify(jwt, &key, &expect).map_err(refused)?;
        trail.client = Some(parent);
        trail.workload = Some(open.task.workload.clone());
        Ok((parent, verified, open))
    }

    async fn verify_actor(
        &self,
        tenant: &Tenant,
        request: &DelegateRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Option<VerifiedActor>, Refusal> {
        let Some(token) = request.actor else {
            return Ok(None);
        };
        let loaded = tenant.loaded();
        let mut proof = loaded
            .verifier
            .verify(token, Entrance::SubjectToken, self.now())
            .await?;
        trail.issuer = Some(proof.proof().issuer.clone());
        trail.claims = Some(Arc::clone(&proof.proof().claims));
        tenant.check_made(&proof)?;
        let found = loaded
            .index
            .find(&loaded.declared, proof.proof(), request.workload)?;
        let key = found.workload.key.read(&proof.proof().claims)?;
        if proof.kind() == IssuerKind::Oidc {
            proof = proof.of_instance(key.series.clone());
        }
        Ok(Some(VerifiedActor {
            revision: loaded.revision,
            workload: found.workload.name.clone(),
            proof,
            key,
        }))
    }

    fn plan_child(
        &self,
        tenant: &Tenant,
        loaded: &Loaded,
        verified: &Verified,
        open: &OpenTask,
        sealer: &Sealer<'_>,
        trail: &mut Trail,
    ) -> Result<Plan, Refusal> {
        let task = &open.task;
        let parent = verified.parent.number;
        let stale = open.stale_for(parent);
        check_epochs(stale)?;
        let others = others_of(loaded, task, parent)?;
        let actor = verified
            .actor
            .as_ref()
            .map(|actor| self.actor_proof(tenant, loaded, verified, actor))
            .transpose()?;
        let now = self.now();
        let events = decide(
            Some(task),
            &Command::Delegate(Delegate {
                now,
                heard: open.heard,
                stale: stale.cloned(),
                parent,
                handover: &verified.handover,
                client: &verified.client,
                actor,
                workload: declared_workload(loaded, &task.workload)?,
                others: &others,
                catalog: &loaded.declared.catalog,
                bounds: &self.bounds.domain,
                seal: sealer,
            }),
        )?;
        let comes_in = matches!(events.first(), Some(Event::ClientDelegated(_)));
        let permitted = self.ask_delegate(tenant, loaded, verified, task, events, trail)?;
        let annex = verified
            .actor
            .as_ref()
            .filter(|_| comes_in)
            .map(proof_annex);
        let change = granted(Some(task), task.id, permitted, annex)?;
        let child = u32::try_from(change.next.clients.len()).unwrap_or(u32::MAX);
        let (spends, actor_at) = spends(verified, task, comes_in, child);
        let series = verified.actor.as_ref().map(|actor| BlockOn::Series {
            issuer: actor.proof.proof().issuer.clone(),
            series: actor.key.series.clone(),
        });
        let append = Append {
            now,
            relies: relies_of(&change.next, if comes_in { child } else { parent }),
            changes: vec![change],
            spends,
            revision: Some(loaded.revision),
            unblocked: series.into_iter().collect(),
            ..Append::default()
        };
        Ok(Plan { append, actor_at })
    }

    /// The child's own proof with the epochs it will rely on, unless it was used before or a block
    /// stands in its way.
    fn actor_proof<'a>(
        &self,
        tenant: &Tenant,
        loaded: &'a Loaded,
        verified: &Verified,
        actor: &'a VerifiedActor,
    ) -> Result<ActorProof<'a>, Refusal> {
        let workload = declared_workload(loaded, &actor.workload)?;
        let query = FactsQuery {
            one_time: actor.proof.one_time_key(),
            epochs: &relied_on(workload),
            ..FactsQuery::default()
        };
        let facts = self
            .store
            .facts(tenant.name(), &query)
            .map_err(|why| unavailable(&why))?;
        // The very hand-over that it was used with is answered again, and nothing else is.
        let same = |spent: Spent| {
            let task = self.open_task(tenant, spent.task).ok().flatten();
            let client = task.and_then(|open| open.task.client(spent.client).cloned());
            client.is_some_and(|client| client.handover == Some(verified.handover.digest))
        };
        check_actor(&Opening {
            now: self.now(),
            workload,
            proof: actor.proof.proof(),
            key: &actor.key,
            client: &verified.client,
            claims: &[],
            task: None,
            spent: facts.spent.filter(|spent| !same(*spent)),
            blocks: &facts.blocks,
            counts: Counts::default(),
        })?;
        Ok(ActorProof {
            proof: actor.proof.proof(),
            workload,
            epochs: facts.epochs,
        })
    }

    /// Asks the policies about what was decided: `delegate` where a child comes in, and `issue`.
    fn ask_delegate(
        &self,
        tenant: &Tenant,
        loaded: &Loaded,
        verified: &Verified,
        task: &Task,
        events: Vec<Event>,
        trail: &mut Trail,
    ) -> Result<Permitted, Refusal> {
        let parent = verified.parent.number;
        let giver = declared_workload(loaded, task.acts_as(parent))?;
        let acting = match &verified.actor {
            Some(actor) => declared_workload(loaded, &actor.workload)?,
            None => giver,
        };
        let claims = match &verified.actor {
            Some(actor) => Arc::clone(&actor.proof.proof().claims),
            None => self.claims_of(tenant, proving(task, parent))?,
        };
        let mut chain: Vec<&Workload> = vec![acting];
        for (number, _) in task.chain(parent) {
            let workload = declared_workload(loaded, task.acts_as(number))?;
            if !chain.iter().any(|known| known.name == workload.name) {
                chain.push(workload);
            }
        }
        let asking = Asking {
            loaded,
            workload: acting,
            claims: &claims,
            counts: self.counts(tenant, &acting.name)?,
            now: self.now(),
            handed: Some(Handed {
                depth: u32::try_from(task.chain(parent).count()).unwrap_or(u32::MAX),
                parent: giver,
                chain,
            }),
        };
        permit(events, &asking, trail)
    }
}

/// What a hand-over gives, as the domain reads it.
fn given(handover: &VerifiedHandover) -> Result<AccessRequest, Refusal> {
    Ok(match handover.given() {
        Given::Scope(scope) => AccessRequest {
            scopes: verify::scopes(scope),
            ..AccessRequest::default()
        },
        Given::Details(details) => AccessRequest {
            details: verify::details(details.clone())?,
            ..AccessRequest::default()
        },
    })
}

/// The one-time key of a hand-over.
fn once(handover: &VerifiedHandover) -> OneTimeKey {
    OneTimeKey {
        digest: Digest(sha256_of_parts(&[b"handover", &handover.replay_key()])),
        at: Time::from_seconds(handover.iat()),
        until: Time::from_seconds(handover.exp() + SKEW_SECONDS + 1),
    }
}

/// The keys that are spent: of a child that comes in its hand-over first and its own proof, and in
/// any case its DPoP proof; and the place of its own proof.
fn spends(
    verified: &Verified,
    task: &Task,
    comes_in: bool,
    child: u32,
) -> (Vec<Spend>, Option<usize>) {
    let by = Spent {
        task: task.id,
        client: child,
    };
    let own = verified.actor.as_ref().filter(|_| comes_in);
    let own = own.and_then(|actor| actor.proof.one_time_key().copied());
    let actor_at = own.is_some().then_some(1);
    let keys = comes_in.then_some(verified.once).into_iter().chain(own);
    let keys = keys.chain(verified.key_proof.as_ref().map(one_time));
    (keys.map(|key| Spend { key, by }).collect(), actor_at)
}

fn proof_annex(actor: &VerifiedActor) -> ProofAnnex<'_> {
    ProofAnnex {
        claims: &actor.proof.proof().claims,
        entrance: "actor_token",
        run_url: actor.proof.run_url(),
    }
}

fn actor_spent() -> Refusal {
    Refusal::new(Rule::ProofSpent)
        .field("actor_token")
        .wanted("a token that was not used before")
        .got("one that was")
        .hint("ask the platform for a fresh token")
}

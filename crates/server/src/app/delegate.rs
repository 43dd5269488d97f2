//! Delegation: a child shows a hand-over of its parent, proves its own key, and comes in below it.

use std::sync::Arc;

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{ClientId, Digest, Handover, Name, NewClient, Refusal, Rule, TaskKey, Time};
use dayfly_store::{AppendError, OneTimeKey, OpenTask};
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
use super::child::Deciding;
use super::grant::Granted;
use super::pods::For;
use super::refuse::{Refused, Trail, unavailable};
use super::replay::KeyProof;
use super::subject::{check_handed_on, sealer};
use super::{App, Tenant};
use crate::declared::IssuerKind;
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
pub(super) struct Verified {
    pub(super) parent: ClientId,
    pub(super) handover: Handover,
    /// By which the hand-over counts once.
    pub(super) once: OneTimeKey,
    pub(super) key_proof: Option<VerifiedDpop>,
    pub(super) client: NewClient,
    pub(super) actor: Option<VerifiedActor>,
}

/// The child's own proof, and what it matched.
pub(super) struct VerifiedActor {
    /// The revision of the declared state that it was verified and matched under.
    revision: u64,
    pub(super) proof: VerifiedProof,
    pub(super) workload: Name,
    pub(super) key: TaskKey,
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
            let person = self.person_of(tenant, &open.task, parent.number, trail)?;
            if let (Some(person), Some(actor)) = (&person, &verified.actor)
                && actor.workload != *open.task.acts_as(parent.number)
            {
                let proof = Some(&actor.proof);
                check_handed_on(person, proof, &actor.workload, tenant.issuer())?;
            }
            let sealer = sealer(&keyring, tenant, &loaded, person.as_ref())?;
            let plan = Deciding {
                app: self,
                tenant,
                loaded: &loaded,
                verified: &verified,
                person: person.as_ref(),
                open: &open,
            }
            .plan(&sealer, trail)?;
            self.check_length(&sealer)?;
            match self.store.append(tenant.name(), plan.append).await {
                Ok(committed) => return self.answer(tenant, &committed, parent.task, &sealer),
                // Another request used it meanwhile: the state says which, and `decide` by whom.
                Err(AppendError::SpentKey { which: 0, .. }) if plan.comes_in => {
                    let again = self.open_task(tenant, parent.task)?;
                    let again = again.ok_or_else(|| ended("it ended meanwhile"))?;
                    let same = Some(verified.handover.digest);
                    if again
                        .task
                        .clients
                        .iter()
                        .all(|client| client.handover != same)
                    {
                        return Err(handover_spent());
                    }
                }
                Err(AppendError::SpentKey { which, .. }) if Some(which) == plan.actor_at => {
                    return Err(actor_spent());
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            if turn.is_none() {
                turn = self.turns.of(tenant.name(), &open.task).await;
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
        if request.actor.is_some() {
            // Nobody's cluster is asked for a child that its parent cannot take in.
            open.task.check_client(parent.number, now)?;
            self.check_client_rates(tenant, parent, &open.task.workload, now)?;
        }
        let actor = self.verify_actor(tenant, request, trail).await?;
        let client = NewClient {
            jkt: key_proof.as_ref().map(|proof| Digest(proof.jkt().0)),
            jwk: key_proof
                .as_ref()
                .map(|proof| proof.jwk().canonical_json().to_owned()),
            request: request.access.clone(),
            digest: request.digest,
            subject: None,
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
        let now = self.now();
        let shown = loaded
            .verifier
            .check(token, Entrance::ActorToken, now)
            .await?;
        trail.issuer = Some(shown.proof().issuer.clone());
        trail.claims = Some(Arc::clone(&shown.proof().claims));
        let found = loaded
            .index
            .find(&loaded.declared, shown.proof(), request.workload)?;
        let key = found.workload.key.read(&shown.proof().claims)?;
        let child = (&shown, For::Child);
        self.check_unasked(tenant, &loaded, child, &found.workload, &key)?;
        let mut proof = self.vouched(tenant, shown, &key).await?;
        tenant.check_made(&proof)?;
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

fn handover_spent() -> Refusal {
    Refusal::new(Rule::HandoverSpent)
        .field("jti")
        .wanted("a hand-over that was not used before")
        .got("one that was")
}

fn actor_spent() -> Refusal {
    Refusal::new(Rule::ProofSpent)
        .field("actor_token")
        .wanted("a token that was not used before")
        .got("one that was")
        .hint("ask the platform for a fresh token")
}

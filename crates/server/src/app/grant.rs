//! The way of a grant by platform proof: verify, match, admit, decide, append, mint.

use std::borrow::Cow;
use std::sync::Arc;

use dayfly_domain::access::{AccessRequest, Detail};
use dayfly_domain::{
    ClientId, Digest, Name, NewClient, Refusal, Rule, TaskId, TaskKey, Time, check_epochs,
    check_unblocked, rights_removed,
};
use dayfly_store::{AppendError, Committed, FactsQuery, OneTimeKey, Touch};
use dayfly_token::dpop::VerifiedDpop;

use super::authenticate::ended;
use super::deferral::Deferred;
use super::plan::{Planned, Planning, kept_by_proof};
use super::pods::For;
use super::refuse::{Refused, Trail, unavailable};
use super::replay::{KeyProof, replayed};
use super::subject::{Asks, Person, SubjectRequest, sealer};
use super::{App, Loaded, Tenant};
use crate::declared::IssuerKind;
use crate::mint::{Sealer, mint};
use crate::verify::{Entrance, Showing, VerifiedProof};

/// How often a decision is made anew when the state has moved under it.
const ATTEMPTS: usize = 16;

/// A request for a first credential, by a platform's token.
#[derive(Clone, Debug)]
pub struct GrantRequest<'a> {
    /// By which parameter the token came.
    pub entrance: Entrance,
    /// The platform's token.
    pub token: &'a str,
    /// The token of the person on whose behalf it is asked, where one came.
    pub subject: Option<SubjectRequest<'a>>,
    /// The workload, where the request names one.
    pub workload: Option<&'a str>,
    /// What is asked for.
    pub access: AccessRequest,
    /// SHA-256 of what the request names.
    pub digest: Digest,
    /// The DPoP proof, where one came.
    pub key_proof: Option<KeyProof<'a>>,
    /// Whether the answer may wait for people (`completion_mode=deferred`).
    pub deferrable: bool,
}

/// What a request for a first credential is answered with.
#[derive(Clone, Debug)]
pub enum Opened {
    /// The credential.
    Granted(Granted),
    /// A code to ask again with, once people have approved.
    Deferred(Deferred),
}

/// What a granted request is answered with.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The access token.
    pub token: String,
    /// Whether it is bound to a key.
    pub bound: bool,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// The scopes granted whole.
    pub scope: Vec<String>,
    /// What it allows.
    pub access: Vec<Detail>,
    /// The URL of the resource that is its audience.
    pub audience: String,
    /// The task.
    pub task: TaskId,
    /// The client.
    pub client: ClientId,
    /// When the task ends at the latest.
    pub task_expires: Time,
}

/// Everything verified about a request, before any state is read.
pub(super) struct Verified<'a> {
    /// The revision of the declared state that it was verified and matched under.
    revision: u64,
    pub(super) proof: VerifiedProof,
    pub(super) workload: Name,
    pub(super) key: TaskKey,
    pub(super) key_proof: Option<VerifiedDpop>,
    pub(super) client: NewClient,
    /// The person on whose behalf it is asked.
    pub(super) person: Option<Person>,
    /// Whether that is the person of the client who asks again, rather than one who was shown.
    pub(super) is_recalled: bool,
    pub(super) request: &'a GrantRequest<'a>,
    /// Until when a claim of its key must be kept.
    pub(super) keep_until: Time,
}

impl App {
    /// Grants a credential for a platform's proof: opens a task, joins it, or answers again.
    ///
    /// # Errors
    /// The refusal, remembered and where due recorded.
    pub async fn grant(
        &self,
        tenant: &Tenant,
        request: &GrantRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Opened, Refused> {
        match self.try_grant(tenant, request, trail).await {
            Ok(opened) => Ok(opened),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_grant(
        &self,
        tenant: &Tenant,
        request: &GrantRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Opened, Refusal> {
        let mut verified = self.verify_request(tenant, request, trail).await?;
        let mut turn = None;
        let mut charged = false;
        for _ in 0..ATTEMPTS {
            let loaded = tenant.loaded();
            let found = loaded.declared.workloads.get(&verified.workload);
            let Some(found) = found.filter(|_| loaded.revision == verified.revision) else {
                // The declared state changed: issuer, match and key are judged by it anew.
                verified = self.verify_request(tenant, request, trail).await?;
                continue;
            };
            let workload = &found.workload;
            let keyring = tenant.keyring();
            let sealer = sealer(&keyring, tenant, &loaded, verified.person.as_ref())?;
            let planned = Planning {
                app: self,
                tenant,
                loaded: &loaded,
                workload,
                verified: &verified,
                sealer: &sealer,
            }
            .plan(trail);
            let plan = match planned {
                Ok(Planned::Append(plan)) => *plan,
                Ok(Planned::Waits(deferred)) => return self.waits(tenant, &verified, deferred),
                Err(refusal) => {
                    if refusal.rule == Rule::Blocked && self.revised(tenant, &loaded)? {
                        // Who is blocked may have handed over what is asked for: it is decided anew.
                        self.after_failure(tenant, AppendError::Revised, false)
                            .await?;
                        continue;
                    }
                    let shown = (verified.proof.one_time_key().copied(), verified.client.jkt);
                    return Err(self.by_whose_key(tenant, refusal, shown).await);
                }
            };
            // Only what would be granted counts: whoever shows a spent proof takes nobody's place.
            if !charged {
                self.charge_proof(tenant, &loaded.declared, &workload.name, self.now())?;
                charged = true;
            }
            self.check_length(&sealer)?;
            match self.store.append(tenant.name(), plan.append).await {
                Ok(committed) => {
                    self.keep_pod(tenant, &verified, plan.task);
                    if let Some(deferred) = plan.defers {
                        return Ok(Opened::Deferred(deferred));
                    }
                    let granted = self.answer(tenant, &committed, plan.task, &sealer);
                    return granted.map(Opened::Granted);
                }
                Err(error) => {
                    let proof_first = plan.spends_proof;
                    self.after_failure(tenant, error, proof_first).await?;
                }
            }
            if turn.is_none() {
                let (issuer, series) = (&verified.proof.proof().issuer, &verified.key.series);
                turn = self.turns.take(tenant.name(), issuer, series).await;
            }
        }
        Err(Refusal::new(Rule::Busy)
            .field("task")
            .wanted("a state that stands still for a moment")
            .got(format!("{ATTEMPTS} changes under this request")))
    }

    /// Says again that a request waits: nothing is appended.
    fn waits(
        &self,
        tenant: &Tenant,
        verified: &Verified<'_>,
        deferred: Deferred,
    ) -> Result<Opened, Refusal> {
        if let Some(key_proof) = &verified.key_proof {
            self.accept_once(tenant, key_proof, self.now())?;
        }
        self.keep_pod(tenant, verified, deferred.task);
        Ok(Opened::Deferred(deferred))
    }

    /// Whether another declared state is in force than this one.
    pub(super) fn revised(&self, tenant: &Tenant, loaded: &Loaded) -> Result<bool, Refusal> {
        let facts = self.store.facts(tenant.name(), &FactsQuery::default());
        let facts = facts.map_err(|why| unavailable(&why))?;
        Ok(facts.revision != loaded.revision)
    }

    /// A spent proof that is shown by another key than it was spent by is told apart: somebody
    /// else holds it.
    async fn by_whose_key(
        &self,
        tenant: &Tenant,
        refusal: Refusal,
        shown: (Option<OneTimeKey>, Option<Digest>),
    ) -> Refusal {
        let (Rule::ProofSpent, (Some(proof), Some(shown))) = (refusal.rule, shown) else {
            return refusal;
        };
        let query = FactsQuery {
            one_time: Some(&proof),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query).ok();
        let Some(spent) = facts.and_then(|facts| facts.spent) else {
            return refusal;
        };
        let first = self.recorded_task(tenant, spent.task).await;
        let first = first.ok().flatten();
        let first = first.and_then(|task| task.client(spent.client)?.jkt);
        if first.is_none_or(|first| first == shown) {
            return refusal;
        }
        Refusal::new(Rule::RetryOtherKey)
            .field("DPoP")
            .wanted("the key that the token was first used with")
            .got(shown.to_string())
    }

    async fn verify_request<'a>(
        &self,
        tenant: &Tenant,
        request: &'a GrantRequest<'a>,
        trail: &mut Trail,
    ) -> Result<Verified<'a>, Refusal> {
        let now = self.now();
        let loaded = tenant.loaded();
        let shown = loaded
            .verifier
            .check(request.token, request.entrance, now)
            .await?;
        trail.issuer = Some(shown.proof().issuer.clone());
        trail.claims = Some(Arc::clone(&shown.proof().claims));
        let found = loaded
            .index
            .find(&loaded.declared, shown.proof(), request.workload)?;
        trail.workload = Some(found.workload.name.clone());
        let key = found.workload.key.read(&shown.proof().claims)?;
        // Whatever can be refused without its cluster is refused before it is asked.
        let task = (&shown, For::Task);
        self.check_unasked(tenant, &loaded, task, &found.workload, &key)?;
        let key_proof = request
            .key_proof
            .as_ref()
            .map(|key_proof| self.key_proof(tenant, key_proof, None, now))
            .transpose()?;
        let jkt = key_proof.as_ref().map(|proof| Digest(proof.jkt().0));
        trail.key = jkt;
        self.check_asked(&request.access)?;
        let mut proof = self.vouched(tenant, shown, &key).await?;
        tenant.check_made(&proof)?;
        if proof.kind() == IssuerKind::Oidc {
            // Which claims name an instance of any provider, only the workload's task key says.
            proof = proof.of_instance(key.series.clone());
        }
        let keep_until = now + proof.keep();
        if kept_by_proof(proof.kind()) {
            // Shown is shown, granted or not: the claim outlives the last proof by its keep.
            self.store.touch(
                tenant.name(),
                Touch::Claim {
                    issuer: proof.proof().issuer.clone(),
                    series: key.series.clone(),
                    until: keep_until,
                },
            );
        }
        let asks = Asks {
            by: Showing {
                proof: &proof,
                workload: &found.workload.name,
                jkt,
            },
            key: &key,
        };
        let person = self.verify_person(tenant, &loaded, request, &asks, trail);
        let (person, is_recalled) = person.await?;
        let client = client_of(request, key_proof.as_ref(), person.as_ref());
        Ok(Verified {
            revision: loaded.revision,
            workload: found.workload.name.clone(),
            proof,
            key,
            key_proof,
            client,
            person,
            is_recalled,
            request,
            keep_until,
        })
    }

    /// Verifies the token of the person on whose behalf is asked: it is shown by whoever acts, and
    /// is not spent, for a person may have several agents at work (docs/decisions/0048). Answers too
    /// whether it was not shown but is that of the client who renews.
    async fn verify_person(
        &self,
        tenant: &Tenant,
        loaded: &Loaded,
        request: &GrantRequest<'_>,
        asks: &Asks<'_>,
        trail: &mut Trail,
    ) -> Result<(Option<Person>, bool), Refusal> {
        let Some(SubjectRequest { token, kind }) = request.subject else {
            let recalled = self.person_renewed(tenant, loaded, asks, trail)?;
            let is_recalled = recalled.is_some();
            return Ok((recalled, is_recalled));
        };
        let now = self.now();
        let verified = loaded.verifier.verify_subject(token, kind, now).await?;
        let person = Person::of(&verified);
        trail.subject = person.names();
        tenant.check_subject_made(&verified)?;
        verified.check_shown_by(&asks.by, tenant.issuer())?;
        Ok((Some(person), false))
    }

    /// Checks that a request asks for no more than a client may hold, before it is decided.
    pub(super) fn check_asked(&self, access: &AccessRequest) -> Result<(), Refusal> {
        let most = self.bounds.domain.details;
        if access.details.len() <= most {
            return Ok(());
        }
        Err(Refusal::new(Rule::DetailsLimit)
            .field("authorization_details")
            .wanted(format!("at most {most} details"))
            .got(access.details.len().to_string()))
    }

    /// Judges a failed append: `Ok` means decide again.
    pub(super) async fn after_failure(
        &self,
        tenant: &Tenant,
        error: AppendError,
        spends_proof_first: bool,
    ) -> Result<(), Refusal> {
        match error {
            AppendError::Conflict | AppendError::Claimed { .. } => Ok(()),
            AppendError::Revised => tenant
                .reload(self.store.as_ref(), self.now())
                .await
                .map_err(|why| unavailable(&why)),
            // Another request spent the platform's proof meanwhile: the facts say so now, and the
            // decision explains it, or finds the answer that got lost.
            AppendError::SpentKey { which: 0, .. } if spends_proof_first => Ok(()),
            AppendError::SpentKey { .. } => Err(replayed()),
            AppendError::Stale(of) => Err(rights_removed(&of)),
            AppendError::TooLarge => Err(too_large(self.bounds.leaf_bytes)),
            AppendError::Unfit(why) | AppendError::Unavailable(why) | AppendError::Unknown(why) => {
                Err(unavailable(&why))
            }
        }
    }

    /// Signs what was committed, unless the task has ended meanwhile.
    pub(super) fn answer(
        &self,
        tenant: &Tenant,
        committed: &Committed,
        task: TaskId,
        sealer: &Sealer<'_>,
    ) -> Result<Granted, Refusal> {
        // One more look before the signature: an end that was acknowledged since then wins.
        let facts = self
            .store
            .facts(
                tenant.name(),
                &FactsQuery {
                    standings: &[task],
                    ..FactsQuery::default()
                },
            )
            .map_err(|why| unavailable(&why))?;
        let gone = || ended("it ended while the credential was on its way");
        let standing = facts.standings.iter().flatten().next();
        let standing = standing.ok_or_else(gone)?;
        check_epochs(standing.stale.as_ref())?;
        let written = committed
            .changes()
            .iter()
            .find(|change| change.task == task && change.next.version == standing.version);
        let (state, lost) = match written {
            Some(change) => (Cow::Borrowed(&change.next), standing.lost.clone()),
            // It has changed since: what was written is not how it stands now.
            None => {
                let open = self.open_task(tenant, task)?.ok_or_else(gone)?;
                check_epochs(open.stale.as_ref())?;
                (Cow::Owned(open.task), open.lost)
            }
        };
        let minted = mint(committed, task, sealer, &tenant.keyring())
            .ok_or_else(|| unavailable(&"the key that was to sign is gone"))?;
        // By the clock, for an entry may be stamped ahead of it.
        state.check_client(minted.issued.client, self.now())?;
        check_unblocked(&facts.blocks, &state, minted.issued.client)?;
        check_epochs(state.lost_by(minted.issued.client, &lost))?;
        let issued = minted.issued;
        self.heard(tenant, &state, standing.heard, issued.client);
        Ok(Granted {
            bound: issued.jkt.is_some(),
            expires_in: issued.expires.since(self.now()).seconds(),
            scope: issued.scope.clone(),
            access: issued.access.clone(),
            audience: issued.audience.clone(),
            task,
            client: issued.id(task).client,
            task_expires: state.deadline,
            token: minted.token,
        })
    }
}

/// Who asks: by which key, for what, on whose behalf.
fn client_of(
    request: &GrantRequest<'_>,
    key: Option<&VerifiedDpop>,
    person: Option<&Person>,
) -> NewClient {
    NewClient {
        jkt: key.map(|proof| Digest(proof.jkt().0)),
        jwk: key.map(|proof| proof.jwk().canonical_json().to_owned()),
        request: request.access.clone(),
        digest: request.digest,
        subject: person.map(|person| person.subject.clone()),
    }
}

pub(super) fn too_large(most: usize) -> Refusal {
    Refusal::new(Rule::TooLarge)
        .field("authorization_details")
        .wanted(format!("an entry and a token of at most {most} bytes"))
        .got("more")
        .hint("ask for fewer details or one resource at a time")
}

//! What a verified hand-over leads to: the decision about a child, ready to be recorded.

use std::sync::Arc;

use dayfly_domain::{
    ActorProof, BlockOn, Claims, Command, Counts, Delegate, Event, Opening, Refusal, Spent, Task,
    Workload, check_actor, check_epochs, check_unblocked, decide,
};
use dayfly_store::{Append, FactsQuery, OpenTask, RunAsked, Spend};

use super::delegate::{Verified, VerifiedActor};
use super::permit::{Asking, ProofAnnex, granted, permit};
use super::plan::relied_on;
use super::refuse::{Trail, unavailable};
use super::renew::{declared_workload, others_of, proving, relies_of};
use super::replay::one_time;
use super::subject::Person;
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::finding::handed_to_bearer;
use crate::mint::Sealer;
use crate::policy::{Handed, Permitted};

/// Everything that deciding about a child reads.
pub(super) struct Deciding<'a> {
    pub(super) app: &'a App,
    pub(super) tenant: &'a Tenant,
    pub(super) loaded: &'a Loaded,
    pub(super) verified: &'a Verified,
    /// The person on whose behalf the task runs.
    pub(super) person: Option<&'a Person>,
    pub(super) open: &'a OpenTask,
}

/// A decision that is ready to be recorded.
pub(super) struct Plan {
    pub(super) append: Append,
    /// Whether a child comes in, so that the hand-over is the first key that is spent.
    pub(super) comes_in: bool,
    /// The place of the actor's proof among the keys that are spent.
    pub(super) actor_at: Option<usize>,
}

impl<'a> Deciding<'a> {
    /// Decides, and asks the policies about what was decided.
    pub(super) fn plan(&self, sealer: &Sealer<'_>, trail: &mut Trail) -> Result<Plan, Refusal> {
        let (loaded, verified, open) = (self.loaded, self.verified, self.open);
        let task = &open.task;
        let parent = verified.parent.number;
        let known = self.known();
        let stale = open.stale_for(known.unwrap_or(parent));
        check_epochs(stale)?;
        let others = others_of(loaded, task, known.unwrap_or(parent))?;
        let actor = verified
            .actor
            .as_ref()
            .map(|actor| self.actor_proof(actor))
            .transpose()?;
        let (acting, claims) = self.acting()?;
        // Read once, before anything is decided by it.
        let facts = self.app.facts_of(self.tenant, &acting.name)?;
        let now = self.app.now();
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
                bounds: &self.app.bounds.domain,
                seal: sealer,
            }),
        )?;
        let comes_in = matches!(events.first(), Some(Event::ClientDelegated(_)));
        let permitted = self.ask(events, (acting, &claims, facts.counts), trail)?;
        let annex = verified
            .actor
            .as_ref()
            .filter(|_| comes_in)
            .map(proof_annex);
        let change = granted(Some(task), task.id, permitted, annex)?;
        let newest = u32::try_from(change.next.clients.len()).unwrap_or(u32::MAX);
        let child = known.unwrap_or(newest);
        check_unblocked(&facts.blocks, &change.next, child)?;
        let (spends, actor_at) = spends(verified, task, comes_in, child);
        let series = verified.actor.as_ref().map(|actor| BlockOn::Series {
            issuer: actor.proof.proof().issuer.clone(),
            series: actor.key.series.clone(),
        });
        // A helper without a key is a finding, which no end of this process may lose.
        let bearer = comes_in && verified.client.jkt.is_none();
        let bearer = bearer.then(|| handed_to_bearer(task.acts_as(parent), now));
        let append = Append {
            now,
            documents: bearer.into_iter().collect(),
            relies: relies_of(&change.next, child),
            unblocked: series
                .into_iter()
                .chain(BlockOn::of_client(&change.next, child))
                .collect(),
            changes: vec![change],
            spends,
            revision: Some(loaded.revision),
            asks: verified.actor.as_ref().map(run_of),
            ..Append::default()
        };
        Ok(Plan {
            append,
            comes_in,
            actor_at,
        })
    }

    /// The child that came in by this very hand-over before.
    fn known(&self) -> Option<u32> {
        let same = Some(self.verified.handover.digest);
        let mut clients = (1u32..).zip(&self.open.task.clients);
        clients
            .find(|(_, client)| client.handover == same)
            .map(|(number, _)| number)
    }

    /// The child's own proof with the epochs it will rely on, unless it was used before or a block
    /// stands in its way.
    fn actor_proof(&self, actor: &'a VerifiedActor) -> Result<ActorProof<'a>, Refusal> {
        let (app, tenant, verified) = (self.app, self.tenant, self.verified);
        let workload = declared_workload(self.loaded, &actor.workload)?;
        let query = FactsQuery {
            series: Some((&actor.proof.proof().issuer, &actor.key.series)),
            one_time: actor.proof.one_time_key(),
            epochs: &relied_on(workload, None),
            ..FactsQuery::default()
        };
        let mut facts = app
            .store
            .facts(tenant.name(), &query)
            .map_err(|why| unavailable(&why))?;
        facts.epochs.extend(actor.proof.proof().person.clone());
        // The very hand-over that it was used with is answered again, and nothing else is.
        let same = |spent: Spent| {
            let task = app.open_task(tenant, spent.task).ok().flatten();
            let client = task.and_then(|open| open.task.client(spent.client).cloned());
            client.is_some_and(|client| client.handover == Some(verified.handover.digest))
        };
        check_actor(&Opening {
            now: app.now(),
            workload,
            proof: actor.proof.proof(),
            key: &actor.key,
            client: &verified.client,
            claims: &[],
            closed: &facts.closed,
            task: None,
            spent: facts.spent.filter(|spent| !same(*spent)),
            blocks: &facts.blocks,
            counts: Counts::default(),
        })?;
        Ok(ActorProof {
            proof: actor.proof.proof(),
            workload,
            key: &actor.key.key,
            epochs: facts.epochs,
        })
    }

    /// The workload that the child acts as, and the claims of the proof that says so.
    fn acting(&self) -> Result<(&'a Workload, Arc<Claims>), Refusal> {
        let (loaded, verified, task) = (self.loaded, self.verified, &self.open.task);
        let parent = verified.parent.number;
        let recorded = |number| {
            let acting = declared_workload(loaded, task.acts_as(number))?;
            let claims = self.app.claims_of(self.tenant, proving(task, number))?;
            Ok::<_, Refusal>((acting, claims))
        };
        match (self.known(), &verified.actor) {
            (Some(child), _) => recorded(child),
            (None, None) => recorded(parent),
            (None, Some(actor)) => Ok((
                declared_workload(loaded, &actor.workload)?,
                Arc::clone(&actor.proof.proof().claims),
            )),
        }
    }

    /// Asks the policies about what was decided: `delegate` where a child comes in, and `issue`.
    fn ask(
        &self,
        events: Vec<Event>,
        (acting, claims, counts): (&Workload, &Claims, Counts),
        trail: &mut Trail,
    ) -> Result<Permitted, Refusal> {
        let (loaded, task) = (self.loaded, &self.open.task);
        let parent = self.verified.parent.number;
        let giver = declared_workload(loaded, task.acts_as(parent))?;
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
            claims,
            counts,
            now: self.app.now(),
            person: self.person,
            approvals: 0,
            handed: Some(Handed {
                depth: u32::try_from(task.chain(parent).count()).unwrap_or(u32::MAX),
                parent: giver,
                chain,
            }),
        };
        permit(events, &asking, trail)
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

/// The child's own run, which must not be closed when it comes in.
fn run_of(actor: &VerifiedActor) -> RunAsked {
    let proof = actor.proof.proof();
    RunAsked {
        issuer: proof.issuer.clone(),
        series: actor.key.series.clone(),
        attempt: actor.key.attempt,
        instance: proof.instance.clone(),
    }
}

fn proof_annex(actor: &VerifiedActor) -> ProofAnnex<'_> {
    ProofAnnex {
        claims: &actor.proof.proof().claims,
        entrance: "actor_token",
        run_url: actor.proof.run_url(),
        subject: None,
    }
}

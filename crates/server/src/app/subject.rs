//! The person of a task on its way: verified with a request, or read back from the annex of the client that came in.

use std::sync::Arc;

use dayfly_domain::{ClaimState, Claims, Name, Refusal, Rule, Subject, Task, TaskKey};
use dayfly_store::FactsQuery;
use serde::{Deserialize, Serialize};

use super::permit::erased;
use super::refuse::{SubjectNames, Trail, unavailable};
use super::{App, Loaded, Tenant};
use crate::mint::{Keyring, NamedPerson, Sealer};
use crate::policy::SubjectFact;
use crate::verify::{PersonToken, Showing, VerifiedProof, VerifiedSubject, lets_act};

/// A person's token as it came in.
#[derive(Clone, Copy, Debug)]
pub struct SubjectRequest<'a> {
    /// The token.
    pub token: &'a str,
    /// What the request says that it is.
    pub kind: PersonToken,
}

/// Who asks without a person's token, as far as it says which client renews.
pub(super) struct Asks<'a> {
    pub(super) by: Showing<'a>,
    pub(super) key: &'a TaskKey,
}

/// The person on whose behalf a task runs, and what the person's token claims.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) subject: Subject,
    pub(super) claims: Arc<Claims>,
}

/// A person in an annex: everything that names one, so that all of it can be erased.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SubjectAnnex<'a> {
    issuer: &'a Name,
    claims: &'a Claims,
}

/// The same, read back.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SubjectRead {
    pub(super) claims: Arc<Claims>,
}

impl Person {
    /// The person of a verified token.
    pub(super) fn of(verified: &VerifiedSubject) -> Self {
        Self {
            subject: verified.subject().clone(),
            claims: Arc::clone(verified.claims()),
        }
    }

    /// The person of a task, with what an annex still says; without that nobody can be named, and
    /// policies cannot be asked.
    pub(super) fn recalled(
        task: &Task,
        read: Option<&SubjectRead>,
    ) -> Result<Option<Self>, Refusal> {
        let Some(subject) = &task.subject else {
            return Ok(None);
        };
        let read = read.ok_or_else(erased)?;
        Ok(Some(Self {
            subject: subject.clone(),
            claims: Arc::clone(&read.claims),
        }))
    }

    /// As tokens may name the person, for as long as the issuer vouches for people.
    fn named<'a>(&'a self, loaded: &'a Loaded) -> Result<NamedPerson<'a>, Refusal> {
        let issuer = loaded.declared.issuers.get(&self.subject.issuer);
        if issuer.is_none_or(|issuer| issuer.people.is_none()) {
            return Err(Refusal::new(Rule::SubjectRefused)
                .field(format!("issuer.{}", self.subject.issuer))
                .wanted("an issuer that vouches for people")
                .got("one that does not any more"));
        }
        let claim = |name: &str| self.claims.get(name).map(String::as_str);
        let (iss, sub) = claim("iss").zip(claim("sub")).ok_or_else(erased)?;
        Ok(NamedPerson {
            iss,
            sub,
            person: &self.subject.person,
            pseudonyms: loaded.verifier.pseudonyms(),
        })
    }

    /// The person's names, for whoever may have to erase what a refusal says.
    pub(super) fn names(&self) -> Option<Arc<SubjectNames>> {
        let claim = |name: &str| self.claims.get(name).cloned();
        let (iss, sub) = claim("iss").zip(claim("sub"))?;
        Some(Arc::new(SubjectNames { iss, sub }))
    }

    /// As policies are told of the person.
    pub(super) fn fact(&self) -> SubjectFact<'_> {
        SubjectFact {
            subject: &self.subject,
            claims: &self.claims,
        }
    }

    /// As the person stands in an annex.
    pub(super) fn annex(&self) -> SubjectAnnex<'_> {
        SubjectAnnex {
            issuer: &self.subject.issuer,
            claims: &self.claims,
        }
    }
}

/// What seals the tokens of one request, which may act for a person.
///
/// # Errors
/// A refusal where nobody vouches for the person any more.
pub(super) fn sealer<'a>(
    keyring: &'a Keyring,
    tenant: &'a Tenant,
    loaded: &'a Loaded,
    person: Option<&'a Person>,
) -> Result<Sealer<'a>, Refusal> {
    let person = person.map(|person| person.named(loaded)).transpose()?;
    Ok(Sealer::new(keyring, tenant.issuer(), &loaded.algs).on_behalf_of(person))
}

/// Checks that a hand-over to another workload is to one that the person's token names, where it says
/// who may act (RFC 8693, section 4.4): whom the person let act, lets nobody else.
pub(super) fn check_handed_on(
    person: &Person,
    to: Option<&VerifiedProof>,
    workload: &Name,
    issuer: &str,
) -> Result<(), Refusal> {
    let proof = to.map(|to| to.proof().claims.as_ref());
    if lets_act(&person.claims, proof, workload, issuer) {
        return Ok(());
    }
    Err(Refusal::new(Rule::ActorRefused)
        .field("subject_token may_act")
        .wanted("a child of the workload that the person's token lets act")
        .got(format!("workload {workload}")))
}

impl App {
    /// The person on whose behalf a client acts: the one whose token its root client came in with.
    pub(super) fn person_of(
        &self,
        tenant: &Tenant,
        task: &Task,
        number: u32,
        trail: &mut Trail,
    ) -> Result<Option<Person>, Refusal> {
        if task.subject.is_none() {
            return Ok(None);
        }
        let root = task.chain(number).last();
        let root = root.map_or(number, |(number, _)| number);
        let kept = self.kept_of(tenant, task.client_id(root))?;
        let person = Person::recalled(task, kept.subject.as_ref())?;
        trail.subject = person.as_ref().and_then(Person::names);
        Ok(person)
    }

    /// The person of the client that asks again without a key, by a fresh proof of the same instance:
    /// it renews, and needs no token of the person any more than one that renews by its key.
    pub(super) fn person_renewed(
        &self,
        tenant: &Tenant,
        loaded: &Loaded,
        asks: &Asks<'_>,
        trail: &mut Trail,
    ) -> Result<Option<Person>, Refusal> {
        let workload = loaded.declared.workloads.get(asks.by.workload);
        let acts_for = workload.and_then(|found| found.workload.acts_for.as_ref());
        if asks.by.jkt.is_some() || acts_for.is_none() {
            return Ok(None);
        }
        let proof = asks.by.proof.proof();
        let query = FactsQuery {
            series: Some((&proof.issuer, &asks.key.series)),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query);
        let facts = facts.map_err(|why| unavailable(&why))?;
        let own = facts.claims.iter().find(|claim| {
            claim.workload == *asks.by.workload
                && claim.key == asks.key.key
                && claim.attempt == asks.key.attempt
                && claim.state == ClaimState::Open
        });
        let open = match own {
            Some(claim) => self.open_task(tenant, claim.task)?,
            None => None,
        };
        let Some(open) = open else {
            return Ok(None);
        };
        let same = open.task.roots().find(|(_, client)| {
            client.is_active() && client.jkt.is_none() && client.instance == proof.instance
        });
        match same {
            Some((number, _)) => self.person_of(tenant, &open.task, number, trail),
            None => Ok(None),
        }
    }
}

//! What an open task was granted by, read back from the annexes of its entries, and what a new set of policies says of it.

use std::collections::BTreeMap;

use dayfly_domain::access::{Catalog, Detail};
use dayfly_domain::{Claims, Event, Name, Task, TaskId, Time, Workload};
use dayfly_store::Store;
use serde_json::Value;

use crate::policy::{Action, Asked, Decision, Policies, Question, RecordedFacts, SubjectFact};
use crate::record::{self, RecordError};

/// The facts of a task's grants, without what was erased.
#[derive(Default)]
pub(super) struct Recalled {
    /// The claims of its root clients, by their numbers.
    pub(super) claims: BTreeMap<u32, Claims>,
    /// The claims of the person on whose behalf they came in, by their numbers.
    pub(super) people: BTreeMap<u32, Claims>,
    /// What its start was decided by.
    start: Option<RecordedFacts>,
    /// Its credentials that were not revoked, by client and number.
    credentials: BTreeMap<(u32, u32), Credential>,
}

struct Credential {
    resource: Name,
    access: Vec<Detail>,
    expires: Time,
    /// What it was decided by.
    facts: Option<RecordedFacts>,
}

impl Recalled {
    /// Reads all entries of a task.
    pub(super) fn of(store: &dyn Store, tenant: &Name, task: TaskId) -> Result<Self, RecordError> {
        let mut recalled = Self::default();
        record::each_event(store, tenant, task, |event, annex| {
            recalled.take(event, annex);
        })?;
        Ok(recalled)
    }

    fn take(&mut self, event: &Event, annex: Option<&Value>) {
        match event {
            Event::TaskStarted(_) => self.start = facts_in(annex),
            Event::ClientRegistered(registered) => {
                let claims = annex.and_then(|annex| annex.get("claims"));
                let claims = claims.and_then(|claims| serde_json::from_value(claims.clone()).ok());
                self.claims
                    .extend(claims.map(|claims| (registered.client, claims)));
                let person = annex.and_then(|annex| annex.get("subject")?.get("claims"));
                let person = person.and_then(|claims| serde_json::from_value(claims.clone()).ok());
                self.people
                    .extend(person.map(|claims| (registered.client, claims)));
            }
            Event::CredentialIssued(issued) => {
                let credential = Credential {
                    resource: issued.resource.clone(),
                    access: issued.access.clone(),
                    expires: issued.expires,
                    facts: facts_in(annex),
                };
                let of = (issued.client, issued.credential);
                self.credentials.insert(of, credential);
            }
            Event::CredentialRevoked(revoked) => {
                self.credentials
                    .remove(&(revoked.client, revoked.credential));
            }
            // Only what came in by proof is asked about again: what was handed over ends with it.
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::ClientDelegated(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => {}
        }
    }

    /// Why these policies would not have granted what the task holds: its start, and of each active
    /// root client the credentials that are still good or, where none is, the newest. None where
    /// they would. What was erased cannot be asked about, and what cannot be asked about is denied
    /// (docs/decisions/0020).
    pub(super) fn denied(
        &self,
        task: &Task,
        workload: &Workload,
        catalog: &Catalog,
        policies: &Policies,
        now: Time,
    ) -> Option<String> {
        let asking = Asking {
            workload,
            catalog,
            policies,
        };
        // The client that opened it is its first.
        let (first, opener) = task.roots().next()?;
        let mut at: Vec<&Name> = opener.access.iter().map(|held| &held.resource).collect();
        at.sort_unstable();
        at.dedup();
        for resource in at {
            let facts = self.start.as_ref();
            let who = self.who(task, first);
            if let Some(why) = asking.denies(Action::Start, resource, &opener.access, who, facts) {
                return Some(why);
            }
        }
        for (number, _) in task.roots().filter(|(_, client)| client.is_active()) {
            let who = self.who(task, number);
            for credential in self.held(number, now) {
                let (access, facts) = (&credential.access, credential.facts.as_ref());
                let at = &credential.resource;
                if let Some(why) = asking.denies(Action::Issue, at, access, who, facts) {
                    return Some(format!("client {number}: {why}"));
                }
            }
        }
        None
    }

    /// Who a root client of a task is, and on whose behalf it acts; none where that was erased.
    fn who<'a>(&'a self, task: &'a Task, client: u32) -> Option<Who<'a>> {
        let subject = match &task.subject {
            None => None,
            Some(subject) => Some(SubjectFact {
                subject,
                claims: self.people.get(&client)?,
            }),
        };
        Some(Who {
            claims: self.claims.get(&client)?,
            subject,
        })
    }

    fn held(&self, client: u32, now: Time) -> Vec<&Credential> {
        let of_client = || self.credentials.range((client, 0)..=(client, u32::MAX));
        let good: Vec<&Credential> = of_client()
            .map(|(_, credential)| credential)
            .filter(|credential| now < credential.expires)
            .collect();
        if good.is_empty() {
            let newest = of_client().next_back();
            newest
                .map(|(_, credential)| credential)
                .into_iter()
                .collect()
        } else {
            good
        }
    }
}

/// A client's proof, and the person on whose behalf it acts.
#[derive(Clone, Copy)]
struct Who<'a> {
    claims: &'a Claims,
    subject: Option<SubjectFact<'a>>,
}

struct Asking<'a> {
    workload: &'a Workload,
    catalog: &'a Catalog,
    policies: &'a Policies,
}

impl Asking<'_> {
    fn denies(
        &self,
        action: Action,
        resource: &Name,
        access: &[Detail],
        who: Option<Who<'_>>,
        facts: Option<&RecordedFacts>,
    ) -> Option<String> {
        let at = self.catalog.url_of(resource);
        let (Some(who), Some(facts)) = (who, facts) else {
            return Some(format!(
                "the policies have changed, and what its {action} at {at} was decided by is not on record"
            ));
        };
        let question = Question {
            action,
            workload: self.workload,
            resource,
            asked: Asked::of(access, resource),
            handed: None,
        };
        let verdict = self
            .policies
            .evaluate(&question, &facts.with(who.claims, who.subject));
        match verdict.decision {
            Decision::Allow => None,
            Decision::Deny => {
                let refusal = self.policies.refusal(&verdict, at);
                let why = refusal.hint;
                Some(format!("{action} at {at}: {why}"))
            }
        }
    }
}

fn facts_in(annex: Option<&Value>) -> Option<RecordedFacts> {
    let facts = annex?.get("policy")?.get("facts")?;
    serde_json::from_value(facts.clone()).ok()
}

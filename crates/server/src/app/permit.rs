//! Asking the policies: the facts of a request, and the one way from decided events to a change.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dayfly_domain::access::Detail;
use dayfly_domain::{
    Approval, Claims, ClientId, Counts, Event, Name, Refusal, Rule, Task, TaskId, Time, Workload,
};
use dayfly_store::{Annex, Change, EntryRange, FactsQuery, StoredEntry};
use dayfly_token::b64;
use serde::{Deserialize, Serialize};

use super::plan::drafted;
use super::refuse::{Trail, unavailable};
use super::subject::{Person, SubjectAnnex, SubjectRead};
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::policy::{Denied, Facts, Handed, Permitted, PermittedUse, Recorded};
use crate::random;
use crate::record;

/// Of how many clients the claims are kept in memory; those of others are read from the record.
const CLIENTS: usize = 4096;
/// How many entries are read at first: a task's first client stands among them.
const FIRST_PAGE: usize = 4;
/// How many entries are read at once, at most.
const LONGEST_PAGE: usize = 256;

/// What the policies are told of a request.
pub(super) struct Asking<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) workload: &'a Workload,
    pub(super) claims: &'a Claims,
    pub(super) counts: Counts,
    pub(super) now: Time,
    /// The person on whose behalf it is asked.
    pub(super) person: Option<&'a Person>,
    /// How many people have approved the request.
    pub(super) approvals: u32,
    /// Where the child stands, where one comes in.
    pub(super) handed: Option<Handed<'a>>,
}

/// What the policies say of a task that would open.
pub(super) enum Opens {
    /// It may.
    Permitted(Box<Permitted>),
    /// It may once people have approved it; where nobody can be asked it is refused by this.
    Asks(Approval, Arc<Recorded>, Box<Refusal>),
}

/// Asks the policies about what these events would grant.
///
/// # Errors
/// The refusal of stage `policy`; what was said then stands in the trail.
pub(super) fn permit(
    events: Vec<Event>,
    asking: &Asking<'_>,
    trail: &mut Trail,
) -> Result<Permitted, Refusal> {
    ask(events, asking, trail).map_err(|denied| {
        trail.policy = Some(Arc::clone(&denied.recorded));
        denied.refusal
    })
}

/// The same for a client that joins: nobody is asked about it, so what people would have to approve
/// is refused.
///
/// # Errors
/// The refusal of stage `policy`; what was said then stands in the trail.
pub(super) fn permit_join(
    events: Vec<Event>,
    asking: &Asking<'_>,
    trail: &mut Trail,
) -> Result<Permitted, Refusal> {
    match permit_start(events, asking, trail)? {
        Opens::Permitted(permitted) => Ok(*permitted),
        Opens::Asks(needed, recorded, refusal) => {
            trail.policy = Some(recorded);
            Err(Refusal::new(Rule::ApprovalNeeded)
                .field("task")
                .wanted("a task of its own, which people can be asked about")
                .got("a client that joins an open one")
                .hint(format!(
                    "a client that joins comes in without anybody being asked, and this one {} ({} people): start it as a task of its own, with repeat = \"refuse\"",
                    refusal.hint, needed.people
                )))
        }
    }
}

/// The same for what people have approved: where more are wanted by now, it is refused.
///
/// # Errors
/// The refusal; what was said then stands in the trail.
pub(super) fn permit_approved(
    events: Vec<Event>,
    asking: &Asking<'_>,
    trail: &mut Trail,
) -> Result<Permitted, Refusal> {
    match permit_start(events, asking, trail)? {
        Opens::Permitted(permitted) => Ok(*permitted),
        Opens::Asks(needed, recorded, refusal) => {
            trail.policy = Some(recorded);
            Err(Refusal::new(Rule::ApprovalShort)
                .field("approval")
                .wanted(format!("{} approvals", needed.people))
                .got(asking.approvals.to_string())
                .hint(format!("it {} by now", refusal.hint)))
        }
    }
}

/// The same for a task that would open, which may have to wait for people.
///
/// # Errors
/// The refusal of stage `policy`; what was said then stands in the trail.
pub(super) fn permit_start(
    events: Vec<Event>,
    asking: &Asking<'_>,
    trail: &mut Trail,
) -> Result<Opens, Refusal> {
    match ask(events, asking, trail) {
        Ok(permitted) => Ok(Opens::Permitted(Box::new(permitted))),
        Err(denied) => match denied.approval {
            Some(approval) => {
                let refusal = Box::new(denied.refusal);
                Ok(Opens::Asks(approval, denied.recorded, refusal))
            }
            None => {
                trail.policy = Some(Arc::clone(&denied.recorded));
                Err(denied.refusal)
            }
        },
    }
}

/// What the policies are told of a use.
pub(super) struct UseAsking<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) workload: &'a Workload,
    pub(super) claims: &'a Claims,
    pub(super) counts: Counts,
    pub(super) now: Time,
    /// The person on whose behalf the task runs.
    pub(super) person: Option<&'a Person>,
    /// What the resource says of the request.
    pub(super) said: &'a Claims,
}

/// Asks the policies about one use. Where the caller of the resource is they are told by nobody but
/// the resource, for it is the resource that calls here.
///
/// # Errors
/// The refusal of stage `policy`; what was said then stands in the trail.
pub(super) fn permit_use(
    used: &Detail,
    asking: &UseAsking<'_>,
    trail: &mut Trail,
) -> Result<PermittedUse, Refusal> {
    let facts = Facts {
        claims: asking.claims,
        now: asking.now,
        address: None,
        open_tasks: asking.counts.open,
        starts_last_hour: asking.counts.starts_last_hour,
        subject: asking.person.map(Person::fact),
        said: Some(asking.said),
        approvals: 0,
    };
    let Loaded {
        policies, declared, ..
    } = asking.loaded;
    let permitted = policies.permit_use(used, asking.workload, &declared.catalog, &facts);
    permitted.map_err(|denied| {
        trail.policy = Some(Arc::clone(&denied.recorded));
        denied.refusal
    })
}

fn ask(events: Vec<Event>, asking: &Asking<'_>, trail: &Trail) -> Result<Permitted, Box<Denied>> {
    let facts = Facts {
        claims: asking.claims,
        now: asking.now,
        address: trail.address,
        open_tasks: asking.counts.open,
        starts_last_hour: asking.counts.starts_last_hour,
        subject: asking.person.map(Person::fact),
        said: None,
        approvals: asking.approvals,
    };
    let Loaded {
        policies, declared, ..
    } = asking.loaded;
    policies.permit(
        events,
        asking.workload,
        &declared.catalog,
        &facts,
        asking.handed.as_ref(),
    )
}

/// What the annex of a client's registration says of its proof.
#[derive(Clone, Copy)]
pub(super) struct ProofAnnex<'a> {
    pub(super) claims: &'a Claims,
    pub(super) entrance: &'a str,
    pub(super) run_url: Option<&'a str>,
    pub(super) subject: Option<SubjectAnnex<'a>>,
}

/// The annex of a request: the proof, what policies said of the start, and the salt under which the
/// person who asks stands in its leaf.
pub(super) fn requested(
    proof: ProofAnnex<'_>,
    policy: Recorded,
    salt: [u8; 16],
) -> Result<Annex, Refusal> {
    written(&GrantAnnex {
        claims: Some(proof.claims),
        entrance: Some(proof.entrance),
        run_url: Some(proof.run_url),
        subject: proof.subject,
        policy: Some(policy),
        salt: Some(b64::encode(salt)),
    })
}

fn written(data: &GrantAnnex<'_>) -> Result<Annex, Refusal> {
    Ok(Annex {
        salt: random::bytes().map_err(|why| unavailable(&why))?,
        data: serde_json::to_string(data).map_err(|why| unavailable(&why))?,
    })
}

/// An annex of a grant, written without a tree of values in between.
#[derive(Default, Serialize)]
struct GrantAnnex<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a Claims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_url: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<SubjectAnnex<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Recorded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
}

/// The change that a permitted grant makes. What policies said goes into the annex of the entry it
/// belongs to; `proof` is the annex of the proof, which goes with the registration or, where a
/// client is known already, with its credential.
pub(super) fn granted(
    task: Option<&Task>,
    id: TaskId,
    permitted: Permitted,
    proof: Option<ProofAnnex<'_>>,
) -> Result<Change, Refusal> {
    let parts = permitted.into_parts();
    let (mut start, mut issue, mut proof) = (parts.start, Some(parts.issue), proof);
    let mut delegate = parts.delegate;
    drafted(task.cloned(), id, parts.events, |event| {
        let (proof, policy) = match event {
            Event::TaskStarted(_) => (None, start.take()),
            // Where it joins, what was said of its start stands with it.
            Event::ClientRegistered(_) => (proof.take(), start.take()),
            Event::ClientDelegated(_) => (proof.take(), delegate.take()),
            Event::CredentialIssued(_) => (proof.take(), issue.take()),
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => (None, None),
        };
        if proof.is_none() && policy.is_none() {
            return Ok(None);
        }
        let data = GrantAnnex {
            claims: proof.map(|proof| proof.claims),
            entrance: proof.map(|proof| proof.entrance),
            run_url: proof.map(|proof| proof.run_url),
            subject: proof.and_then(|proof| proof.subject),
            policy,
            salt: None,
        };
        written(&data).map(Some)
    })
}

/// What the annex of a client's registration says of who came in.
#[derive(Deserialize)]
pub(super) struct Kept {
    /// The claims of its proof.
    claims: Arc<Claims>,
    /// The person with whose token it came in.
    #[serde(default)]
    pub(super) subject: Option<SubjectRead>,
}

/// Claims of clients that renewed lately, the oldest forgotten first.
#[derive(Default)]
pub(super) struct KnownClaims(Mutex<Known>);

#[derive(Default)]
struct Known {
    claims: HashMap<(Name, ClientId), Arc<Kept>>,
    order: VecDeque<(Name, ClientId)>,
    /// How often some were erased: what was read before is not kept after.
    erasures: u64,
}

impl KnownClaims {
    fn get(&self, key: &(Name, ClientId)) -> Option<Arc<Kept>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.claims.get(key).cloned()
    }

    fn erasures(&self) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.erasures
    }

    /// Forgets those of a tenant, for some were erased from the record.
    pub(super) fn forget(&self, tenant: &Name) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.erasures += 1;
        known.claims.retain(|(of, _), _| of != tenant);
        known.order.retain(|(of, _)| of != tenant);
    }

    /// Keeps what was read when there had been so many erasures.
    fn keep(&self, key: (Name, ClientId), claims: &Arc<Kept>, erasures: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.erasures != erasures {
            return;
        }
        while known.order.len() >= CLIENTS {
            let oldest = known.order.pop_front();
            oldest.and_then(|oldest| known.claims.remove(&oldest));
        }
        if known
            .claims
            .insert(key.clone(), Arc::clone(claims))
            .is_none()
        {
            known.order.push_back(key);
        }
    }
}

impl App {
    /// How many tasks of a workload there are.
    ///
    /// # Errors
    /// [`dayfly_store::Unavailable`] when the store cannot answer.
    pub fn counts_of(
        &self,
        tenant: &Tenant,
        workload: &Name,
    ) -> Result<Counts, dayfly_store::Unavailable> {
        let query = FactsQuery {
            counts: Some(workload),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        Ok(facts.counts)
    }

    /// The claims of the proof that a client came in by, as the annex of its registration holds
    /// them. Where that was erased, nothing can be decided by them, and nothing is.
    pub(super) fn claims_of(
        &self,
        tenant: &Tenant,
        client: ClientId,
    ) -> Result<Arc<Claims>, Refusal> {
        Ok(Arc::clone(&self.kept_of(tenant, client)?.claims))
    }

    /// All that this annex holds.
    pub(super) fn kept_of(&self, tenant: &Tenant, client: ClientId) -> Result<Arc<Kept>, Refusal> {
        let key = (tenant.name().clone(), client);
        if let Some(known) = self.claims.get(&key) {
            return Ok(known);
        }
        let erasures = self.claims.erasures();
        let kept = Arc::new(self.recorded(tenant, client)?);
        self.claims.keep(key, &kept, erasures);
        Ok(kept)
    }

    fn recorded(&self, tenant: &Tenant, client: ClientId) -> Result<Kept, Refusal> {
        let mut from = 1;
        let mut page = FIRST_PAGE;
        loop {
            let entries = self
                .store
                .entries(tenant.name(), EntryRange::Of(client.task, from), page)
                .map_err(|why| unavailable(&why))?;
            if entries.is_empty() {
                return Err(unavailable(&"a client has no entry of its registration"));
            }
            from += entries.len() as u64;
            page = (page * 4).min(LONGEST_PAGE);
            for entry in entries {
                if came_in(&entry) == Some(client.number) {
                    return kept_in(entry.annex.as_ref()).ok_or_else(erased);
                }
            }
        }
    }
}

/// The number of the client that comes in by an entry.
fn came_in(entry: &StoredEntry) -> Option<u32> {
    match record::event_of(entry)? {
        Event::ClientRegistered(registered) => Some(registered.client),
        Event::ClientDelegated(delegated) => Some(delegated.client),
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::TaskStarted(_)
        | Event::CredentialIssued(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_)
        | Event::TaskEnded(_) => None,
    }
}

fn kept_in(annex: Option<&Annex>) -> Option<Kept> {
    serde_json::from_str(&annex?.data).ok()
}

pub(super) fn erased() -> Refusal {
    Refusal::new(Rule::PolicyFailed)
        .field("policy")
        .wanted("the claims of the client's proof, to ask the policies about")
        .got("they were erased from the record")
        .hint("the client can come in again by a fresh proof, where its platform gives one")
}

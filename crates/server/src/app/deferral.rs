//! Deferral: a request that waits for people, its code, and who may ask with it (docs/decisions/0041).

use std::sync::Arc;

use aws_lc_rs::hmac;
use dayfly_domain::{
    Approval, Command, Digest, Event, Pending, Refusal, Request, Rule, Span, Start, Task, TaskId,
    Time, decide,
};
use dayfly_store::{Annex, Change, EntryRange, OpenTask};
use dayfly_token::b64;
use dayfly_token::hash::{constant_time_eq, sha256};
use serde::Deserialize;

use super::actor::person_hash;
use super::permit::{Opens, requested};
use super::plan::{Planning, change};
use super::refuse::{Trail, unavailable};
use super::subject::SubjectRead;
use super::{App, Tenant};
use crate::policy::{Permitted, Recorded};
use crate::random;
use crate::record;

/// How a deferral code begins.
pub const CODE: &str = "dfr_";
/// How long a client waits between two polls.
pub const POLL: Span = Span::from_seconds(5);

/// The answer to a request that waits for people.
#[derive(Clone)]
pub struct Deferred {
    /// What to ask again with; it is of no use without the client's key.
    pub code: String,
    /// Seconds until the request expires.
    pub expires_in: u64,
    /// The task that waits.
    pub task: TaskId,
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deferred({})", self.task)
    }
}

/// Who approved, as the annex of the approval says.
pub(super) struct Approver {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) salt: [u8; 16],
}

/// Whether people must be asked before a task opens.
pub(super) enum Needed {
    Nothing(Box<Permitted>),
    Approval(Approval, Recorded),
}

/// A task whose client asks with its code and its key.
pub(super) enum Known {
    /// It waits, or was approved.
    Pending(Box<OpenTask>),
    /// It ended before it opened.
    Ended(Box<Task>),
}

/// What the annex of a request holds, as far as it is needed again.
#[derive(Deserialize)]
pub(super) struct RequestAnnex {
    pub(super) claims: dayfly_domain::Claims,
    pub(super) entrance: String,
    pub(super) run_url: Option<String>,
    #[serde(default)]
    pub(super) subject: Option<SubjectRead>,
    salt: String,
}

impl RequestAnnex {
    pub(super) fn read(annex: Option<&Annex>) -> Option<Self> {
        serde_json::from_str(&annex?.data).ok()
    }

    /// The salt under which the person who asks stands in the leaf of the request.
    pub(super) fn salt(&self) -> Option<[u8; 16]> {
        b64::decode_array(&self.salt).ok()
    }
}

impl Planning<'_> {
    /// What the workload and the policies together want.
    pub(super) fn approval_needed(&self, opens: Opens) -> Needed {
        match (self.workload.approval, opens) {
            (None, Opens::Permitted(permitted)) => Needed::Nothing(permitted),
            (Some(declared), Opens::Permitted(permitted)) => {
                let parts = permitted.into_parts();
                Needed::Approval(declared, parts.start.unwrap_or(parts.issue))
            }
            (declared, Opens::Asks(asked, recorded, _)) => {
                let approval = declared.map_or(asked, |declared| declared.and(asked));
                Needed::Approval(approval, Arc::unwrap_or_clone(recorded))
            }
        }
    }

    /// The change that asks for an approval, and its answer.
    pub(super) fn request(
        &self,
        start: Start<'_>,
        approval: Approval,
        recorded: Recorded,
        trail: &mut Trail,
    ) -> Result<(Change, Deferred), Refusal> {
        let id = start.id;
        if !self.verified.request.deferrable {
            trail.policy = Some(Arc::new(recorded));
            return Err(self.cannot_wait(&approval));
        }
        let salt: [u8; 16] = random::bytes().map_err(|why| unavailable(&why))?;
        let now = start.root.now;
        let code = self.app.code_of(self.tenant, id);
        let command = Command::Request(Request {
            start,
            approval,
            code: digest_of(&code),
            asked_by: self.asked_by(&salt),
        });
        let events = decide(None, &command)?;
        let annex = requested(self.proof_annex(), recorded, salt)?;
        let change = change(None, id, events, Some(annex))?;
        let expires_in = seconds_left(change.next.deadline, now);
        let deferred = Deferred {
            code,
            expires_in,
            task: id,
        };
        Ok((change, deferred))
    }

    /// The refusal of a request that did not say that it may wait.
    fn cannot_wait(&self, approval: &Approval) -> Refusal {
        Refusal::new(Rule::ApprovalNeeded)
            .field("completion_mode")
            .wanted("deferred")
            .got("a request that cannot wait")
            .hint(format!(
                "a request of workload {} needs the approval of {} within {}: send `completion_mode=deferred` with a DPoP proof and poll with the `deferral_code` of the answer, as `dayfly run` does; `dayfly task approve` approves it",
                self.workload.name,
                people(approval),
                approval.within
            ))
    }

    /// The person who asks, by an agent or where an issuer vouches for people: who asks may not
    /// approve.
    fn asked_by(&self, salt: &[u8; 16]) -> Option<Digest> {
        if let Some(person) = &self.verified.person {
            let claim = |name: &str| person.claims.get(name);
            return Some(person_hash(salt, claim("iss")?, claim("sub")?));
        }
        let proof = &self.verified.proof;
        let issuers = &self.loaded.declared.issuers;
        let issuer = issuers.get(&proof.proof().issuer)?;
        issuer.people?;
        Some(person_hash(salt, proof.issuer_url(), proof.subject()?))
    }

    /// The answer once more to a request that waits: the code is the same, for only the key file
    /// makes it.
    pub(super) fn wait(&self, held: &OpenTask) -> Result<Deferred, Refusal> {
        let pending = held.task.check_pending(self.app.now())?;
        dayfly_domain::check_epochs(held.stale.as_ref())?;
        if !self.verified.request.deferrable {
            return Err(self.cannot_wait(&Approval {
                within: held.task.deadline.since(self.app.now()),
                people: pending.people,
            }));
        }
        let code = self.app.code_of(self.tenant, held.task.id);
        if digest_of(&code) != pending.code {
            // Another key file since: the code that is out there is good for nothing any more, and
            // no other one is of this request.
            return Err(Refusal::new(Rule::ProofSpent)
                .field("token")
                .wanted("another token, once this request has expired")
                .got("the token again, after the key file was replaced"));
        }
        Ok(Deferred {
            code,
            expires_in: seconds_left(held.task.deadline, self.app.now()),
            task: held.task.id,
        })
    }
}

impl App {
    /// The code of a pending task: 256 bits that only the key file makes, beside the task's id.
    pub(super) fn code_of(&self, tenant: &Tenant, task: TaskId) -> String {
        let secret = tenant.master.derived("deferral", tenant.name());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice());
        let tag = hmac::sign(&key, &task.0);
        let id = task.to_string();
        let id = id.strip_prefix("task_").unwrap_or(&id);
        format!("{CODE}{id}_{}", b64::encode(tag.as_ref()))
    }

    /// The task of a deferral code, for whoever holds the key that asked. A code that is unknown, of
    /// another key, or redeemed is all the same. One that this server never made is refused before
    /// anything is read, so that how long the refusal takes tells nobody which tasks there are.
    pub(super) async fn known_deferral(
        &self,
        tenant: &Tenant,
        code: &str,
        jkt: Digest,
    ) -> Result<Known, Refusal> {
        let id = task_of(code).ok_or_else(unknown_code)?;
        let made = self.code_of(tenant, id);
        if !constant_time_eq(made.as_bytes(), code.as_bytes()) {
            return Err(unknown_code());
        }
        let asked = digest_of(code);
        let holds = |code: &Digest, key: &Digest| {
            let same_code = constant_time_eq(&code.0, &asked.0);
            let same_key = constant_time_eq(&key.0, &jkt.0);
            same_code & same_key
        };
        if let Some(open) = self.open_task(tenant, id)? {
            return match open.task.pending() {
                Some(pending) if holds(&pending.code, &pending.jkt) => {
                    Ok(Known::Pending(Box::new(open)))
                }
                Some(_) | None => Err(unknown_code()),
            };
        }
        // It is over: whether this code was of it, only its first entry says.
        let first = self.first_entry(tenant, id)?;
        let Some(Event::TaskRequested(requested)) = first.as_ref().and_then(record::event_of)
        else {
            return Err(unknown_code());
        };
        if !holds(&requested.code, &requested.jkt) {
            return Err(unknown_code());
        }
        match self.recorded_task(tenant, id).await? {
            Some(task) if task.clients.is_empty() => Ok(Known::Ended(Box::new(task))),
            Some(_) | None => Err(unknown_code()),
        }
    }

    /// The first entry of a task.
    pub(super) fn first_entry(
        &self,
        tenant: &Tenant,
        task: TaskId,
    ) -> Result<Option<dayfly_store::StoredEntry>, Refusal> {
        let entries = self
            .store
            .entries(tenant.name(), EntryRange::Of(task, 1), 1)
            .map_err(|why| unavailable(&why))?;
        Ok(entries.into_iter().next())
    }

    /// The salts of the approvals that a pending task has, in their order. Where one was erased nobody
    /// can be told apart from whoever gave it, and nobody approves.
    pub(super) fn approvals_salts(
        &self,
        tenant: &Tenant,
        open: &OpenTask,
    ) -> Result<Vec<[u8; 16]>, Refusal> {
        let approvers = self.approvers(tenant, open)?.into_iter();
        let salts = approvers.map(|who| who.map(|who| who.salt).ok_or_else(approver_erased));
        salts.collect()
    }

    /// Who approved a pending task, in their order; none for whoever was erased.
    pub(super) fn approvers(
        &self,
        tenant: &Tenant,
        open: &OpenTask,
    ) -> Result<Vec<Option<Approver>>, Refusal> {
        let given = open
            .task
            .pending()
            .map_or(0, |pending| pending.approvals.len());
        if given == 0 {
            return Ok(Vec::new());
        }
        // INVARIANT: what a pending task has behind its request is approvals alone.
        let entries = self
            .store
            .entries(tenant.name(), EntryRange::Of(open.task.id, 2), given)
            .map_err(|why| unavailable(&why))?;
        let approvers = entries.iter().map(|entry| match record::event_of(entry) {
            Some(Event::TaskApproved(_)) => Ok(Approver::read(entry.annex.as_ref())),
            Some(_) | None => Err(unavailable(&"an entry of a pending task is no approval")),
        });
        approvers.collect()
    }

    /// What the annex of the request of a pending task holds; none where it was erased.
    pub(super) fn request_annex(
        &self,
        tenant: &Tenant,
        task: TaskId,
    ) -> Result<Option<RequestAnnex>, Refusal> {
        let first = self.first_entry(tenant, task)?;
        Ok(first.and_then(|first| RequestAnnex::read(first.annex.as_ref())))
    }
}

/// How many people, for a person.
pub(super) fn people(approval: &Approval) -> &'static str {
    if approval.people > 1 {
        "two people of its owner"
    } else {
        "somebody of its owner"
    }
}

/// How many approvals are missing.
pub(super) fn missing(pending: &Pending) -> u64 {
    u64::from(pending.people).saturating_sub(pending.approvals.len() as u64)
}

impl Approver {
    fn read(annex: Option<&Annex>) -> Option<Self> {
        let data: serde_json::Value = serde_json::from_str(&annex?.data).ok()?;
        let by = data.get("by")?;
        let text = |name: &str| by.get(name).and_then(serde_json::Value::as_str);
        Some(Self {
            iss: text("iss")?.to_owned(),
            sub: text("sub")?.to_owned(),
            salt: b64::decode_array(text("salt")?).ok()?,
        })
    }
}

fn approver_erased() -> Refusal {
    Refusal::new(Rule::PolicyFailed)
        .field("approval")
        .wanted("to know who has approved, to tell the next person from them")
        .got("it was erased from the record")
        .hint("let the request expire, or deny it, and ask again")
}

pub(super) fn unknown_code() -> Refusal {
    Refusal::new(Rule::DeferralCode)
        .field("deferral_code")
        .wanted("a code of a pending request, and the key that asked")
        .got("another, or one that was redeemed")
}

fn digest_of(code: &str) -> Digest {
    Digest(sha256(code.as_bytes()))
}

fn task_of(code: &str) -> Option<TaskId> {
    let (id, _) = code.strip_prefix(CODE)?.split_once('_')?;
    format!("task_{id}").parse().ok()
}

/// Whole seconds, at least one: what has none left is not answered with.
fn seconds_left(until: Time, now: Time) -> u64 {
    until.since(now).seconds().max(1)
}

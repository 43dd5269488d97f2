//! Which open tasks a new declared state would not have granted, by the facts recorded of their grants.
//!
//! A task counts when its workload, owner or issuer is gone, or when one of its root clients would
//! not come in any more: by the claims of its proof, as its annex keeps them, and by the access it
//! was granted. Whatever else decides a grant is judged in [`Regrant::refuses`] too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dayfly_domain::access::detail_covers;
use dayfly_domain::{
    Binding, Claims, Client, EpochOf, Name, Needed, Span, Subject, Task, TaskId, Time, Workload,
    check_subject,
};
use dayfly_store::{EntryRange, FactsQuery, OpenFilter, OpenTask, Store};
use dayfly_token::times::SKEW_SECONDS;

use super::recall::Recalled;
use super::revisions::{CHANGED, gone};
use super::tenant::Loaded;
use crate::declared::{Declared, DeclaredWorkload, Issuer};
use crate::policy::Policies;
use crate::record::{self, RecordError};

/// How many tasks or entries are looked at at once.
const PAGE: usize = 1024;
/// Of how many tasks it is said why they would end; the others are counted.
const SHOWN: usize = 1000;

/// The declared state in force and the one that is to be.
pub(super) struct Regrant {
    pub(super) store: Arc<dyn Store>,
    pub(super) tenant: Name,
    /// The tenant's own URL.
    pub(super) url: String,
    /// The state before; none where it is not known any more, and everything counts as changed.
    pub(super) before: Option<Arc<Loaded>>,
    pub(super) after: Arc<Declared>,
    pub(super) policies: Arc<Policies>,
}

/// The open tasks that the new state would end, as of a size of the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    /// Those whose workload, owner or issuer is gone: a move of its epoch ends them.
    pub(super) removed: BTreeSet<TaskId>,
    /// Those that would not be granted: each is ended by itself.
    pub(super) refused: BTreeSet<TaskId>,
    /// What is said of some of them.
    pub(super) why: BTreeMap<TaskId, LostTask>,
    /// All entries before this position are counted in.
    upto: u64,
}

/// An open task that the new state would end.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LostTask {
    /// The task.
    pub task: TaskId,
    /// What runs.
    pub workload: Name,
    /// What the new state does not grant.
    pub why: String,
}

enum Verdict {
    Kept,
    Removed(EpochOf),
    Refused(String),
}

impl Lost {
    /// What is known of an activation that was cut short: which tasks it names, and up to which
    /// position entries were counted in.
    pub(super) fn begun(refused: BTreeSet<TaskId>, upto: u64) -> Self {
        Self {
            refused,
            upto,
            ..Self::default()
        }
    }

    /// All entries before this position are counted in.
    pub(super) const fn upto(&self) -> u64 {
        self.upto
    }

    pub(super) fn count(&self) -> u64 {
        (self.removed.len() + self.refused.len()) as u64
    }

    fn forget(&mut self, id: TaskId) {
        self.removed.remove(&id);
        self.refused.remove(&id);
        self.why.remove(&id);
    }

    fn note(&mut self, task: &Task, verdict: Verdict) {
        self.forget(task.id);
        let why = match verdict {
            Verdict::Kept => return,
            Verdict::Removed(of) => {
                self.removed.insert(task.id);
                format!("{of} is removed")
            }
            Verdict::Refused(why) => {
                self.refused.insert(task.id);
                why
            }
        };
        if self.why.len() < SHOWN {
            self.why.insert(
                task.id,
                LostTask {
                    task: task.id,
                    workload: task.workload.clone(),
                    why,
                },
            );
        }
    }
}

impl Regrant {
    /// Looks at every open task, a page at a time, and then at what has changed meanwhile. Grants
    /// go on beside it; it reads entries, so it belongs on a thread that may wait.
    pub(super) fn count(&self, now: Time) -> Result<Lost, RecordError> {
        let mut lost = Lost {
            upto: self.store.head(&self.tenant)?.size,
            ..Lost::default()
        };
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(&self.tenant, &OpenFilter::All, cursor, PAGE)?;
            let Some(last) = page.last() else { break };
            cursor = Some(last.task.id);
            for open in &page {
                lost.note(&open.task, self.judge(open, now)?);
            }
        }
        // Twice: what came while the first look was under way is much, while the second little.
        for _ in 0..2 {
            let size = self.store.head(&self.tenant)?.size;
            self.catch_up(&mut lost, size, now)?;
        }
        Ok(lost)
    }

    /// Takes in what has been recorded since, up to this size of the ledger. Gives the tasks that
    /// would not be granted and were not counted before.
    pub(super) fn catch_up(
        &self,
        lost: &mut Lost,
        size: u64,
        now: Time,
    ) -> Result<Vec<LostTask>, RecordError> {
        let mut late = Vec::new();
        while lost.upto < size {
            let from = EntryRange::From(lost.upto);
            let page = self.store.entries(&self.tenant, from, PAGE)?;
            let Some(last) = page.last() else { break };
            lost.upto = last.pos + 1;
            let mut changed: BTreeSet<TaskId> = BTreeSet::new();
            for stored in &page {
                changed.extend(record::task_of(stored)?);
            }
            let changed: Vec<TaskId> = changed.into_iter().collect();
            let query = FactsQuery {
                tasks: &changed,
                ..FactsQuery::default()
            };
            let facts = self.store.facts(&self.tenant, &query)?;
            for (id, open) in changed.iter().zip(facts.tasks) {
                let known = lost.refused.contains(id) || lost.removed.contains(id);
                match open {
                    None => lost.forget(*id),
                    Some(open) => lost.note(&open.task, self.judge(&open, now)?),
                }
                if !known && lost.refused.contains(id) {
                    late.extend(lost.why.get(id).cloned());
                }
            }
        }
        Ok(late)
    }

    /// The size of the ledger that the activation made which came after this position: what stands
    /// behind it was granted by the new state. All of the ledger where there is none.
    pub(super) fn activated(&self, mut from: u64) -> Result<u64, RecordError> {
        loop {
            let page = self
                .store
                .entries(&self.tenant, EntryRange::From(from), PAGE)?;
            let Some(last) = page.last() else {
                return Ok(from);
            };
            from = last.pos + 1;
            for stored in &page {
                if record::kind_of(stored)? == CHANGED {
                    return Ok(stored.pos + 1);
                }
            }
        }
    }

    /// The epochs of what the new state has no more.
    pub(super) fn moves(&self, before: &Declared) -> Vec<EpochOf> {
        let after = &self.after;
        let mut moves = gone(&before.issuers, &after.issuers, EpochOf::Issuer);
        moves.extend(gone(&before.owners, &after.owners, EpochOf::Owner));
        moves.extend(gone(&before.workloads, &after.workloads, EpochOf::Workload));
        moves
    }

    fn judge(&self, open: &OpenTask, now: Time) -> Result<Verdict, RecordError> {
        let task = &open.task;
        if open.stale.is_some() || task.lapsed(now, open.heard).is_some() {
            return Ok(Verdict::Kept);
        }
        let after = &self.after;
        let Some(issuer) = after.issuers.get(&task.issuer) else {
            return Ok(Verdict::Removed(EpochOf::Issuer(task.issuer.clone())));
        };
        let people = task.subject.as_ref().map(|subject| &subject.issuer);
        if let Some(gone) = people.filter(|issuer| !after.issuers.contains_key(*issuer)) {
            return Ok(Verdict::Removed(EpochOf::Issuer(gone.clone())));
        }
        if !after.owners.contains_key(&task.owner) {
            return Ok(Verdict::Removed(EpochOf::Owner(task.owner.clone())));
        }
        let Some(workload) = after.workloads.get(&task.workload) else {
            return Ok(Verdict::Removed(EpochOf::Workload(task.workload.clone())));
        };
        if self.is_unchanged(task, workload, issuer) {
            return Ok(Verdict::Kept);
        }
        let recalled = Recalled::of(self.store.as_ref(), &self.tenant, task.id)?;
        for (number, client) in task.roots().filter(|(_, client)| client.is_active()) {
            let known = recalled.claims.get(&number);
            let person = recalled.people.get(&number);
            if let Some(why) = self.refuses_person(task, person, &workload.workload, now) {
                return Ok(Verdict::Refused(format!("client {number}: {why}")));
            }
            if let Some(why) = self.refuses(task, client, known, workload, issuer) {
                return Ok(Verdict::Refused(format!("client {number}: {why}")));
            }
        }
        let workload = &workload.workload;
        let denied = recalled.denied(task, workload, &after.catalog, &self.policies, now);
        Ok(denied.map_or(Verdict::Kept, Verdict::Refused))
    }

    /// What is declared of the task and every policy is as it was: the former state granted it, and so
    /// does this one.
    fn is_unchanged(&self, task: &Task, workload: &DeclaredWorkload, issuer: &Issuer) -> bool {
        let Some(held) = &self.before else {
            return false;
        };
        let before = &held.declared;
        let same_issuer = before.issuers.get(&task.issuer).is_some_and(|held| {
            (held.kind, &held.url, &held.audience) == (issuer.kind, &issuer.url, &issuer.audience)
        });
        let same_people = task.subject.as_ref().is_none_or(|subject| {
            let of = |declared: &Declared| {
                let issuer = declared.issuers.get(&subject.issuer)?;
                let audience = issuer.audience.clone();
                Some((
                    issuer.url.clone(),
                    issuer.people,
                    audience,
                    issuer.auth_time,
                ))
            };
            of(before) == of(&self.after)
        });
        same_issuer
            && same_people
            && before.workloads.get(&task.workload) == Some(workload)
            && held.policies.hash() == self.policies.hash()
    }

    /// Why the new state would not have let a client in; none where it would.
    fn refuses(
        &self,
        task: &Task,
        client: &Client,
        claims: Option<&Claims>,
        declared: &DeclaredWorkload,
        issuer: &Issuer,
    ) -> Option<String> {
        let workload = &declared.workload;
        if let Some(claim) = &declared.unfinished {
            return Some(format!("`match` does not pin `{claim}` yet"));
        }
        if workload.issuer != task.issuer {
            return Some(format!(
                "the workload is proven by issuer {}",
                workload.issuer
            ));
        }
        if workload.binding == Binding::Required && client.jkt.is_none() {
            return Some("a key is required".to_owned());
        }
        let ceiling = match claims {
            Some(claims) => {
                if let Some(why) = proof_refused(claims, workload, issuer) {
                    return Some(why);
                }
                match workload.ceiling(claims) {
                    Ok(ceiling) => ceiling,
                    Err(refusal) => return Some(refusal.to_string()),
                }
            }
            // The claims were erased: what cannot be shown to match does not.
            None if self.matches_otherwise(task, declared) => {
                return Some("its claims were erased, and `match` has changed".to_owned());
            }
            None => workload.ceiling_kept(&client.filled),
        };
        let uncovered = client.access.iter().find(|held| {
            let covers = |allowed: &_| detail_covers(allowed, held);
            !ceiling.iter().any(covers)
        })?;
        Some(format!(
            "its access is not covered: {}",
            record::access_line(std::slice::from_ref(uncovered))
        ))
    }

    /// Why the new state would not have let it act for its person, or for nobody.
    fn refuses_person(
        &self,
        task: &Task,
        claims: Option<&Claims>,
        workload: &Workload,
        now: Time,
    ) -> Option<String> {
        let subject = task.subject.as_ref();
        if let Err(refusal) = check_subject(workload, subject) {
            return Some(format!("it acts for {}", refusal.got));
        }
        let subject = subject?;
        let session = workload.acts_for.as_ref().and_then(|of| of.session);
        if session.is_some_and(|session| now >= subject.authenticated + session) {
            return Some("the session of its person would be over".to_owned());
        }
        let issuer = self.after.issuers.get(&subject.issuer)?;
        person_refused(task, subject, claims, issuer, &self.url)
    }

    fn matches_otherwise(&self, task: &Task, declared: &DeclaredWorkload) -> bool {
        let before = self.before.as_ref();
        let held = before.and_then(|before| before.declared.workloads.get(&task.workload));
        held.is_none_or(|held| held.workload.matching != declared.workload.matching)
    }
}

/// Why a person's token with these claims, by which a task was opened or asked for, would not be taken
/// any more; none where it would, and as far as the claims were not erased.
pub(super) fn person_refused(
    task: &Task,
    subject: &Subject,
    claims: Option<&Claims>,
    issuer: &Issuer,
    url: &str,
) -> Option<String> {
    let Some(auth_age) = issuer.people else {
        return Some(format!("issuer {} does not vouch for people", issuer.name));
    };
    let skew = Span::from_seconds(SKEW_SECONDS);
    if task.id.made() > subject.authenticated + auth_age + skew {
        return Some(format!(
            "its person authenticated longer than {auth_age} before it"
        ));
    }
    let claims = claims?;
    let of = |name: &str| claims.get(name).map(String::as_str);
    if of("iss") != Some(issuer.url.as_str()) {
        return Some(format!("the issuer of its person is {}", issuer.url));
    }
    if issuer.auth_time == Needed::Required && of("auth_time").is_none() {
        return Some("the token of its person does not say `auth_time`".to_owned());
    }
    // An access token is made for this server, an ID token for a client; one of a list of one too.
    let aud = of("aud").or_else(|| of("/aud/0"));
    let listed = |client: Option<&str>| {
        let audience = issuer.audience.as_deref().unwrap_or_default();
        client.is_some_and(|client| audience.iter().any(|listed| listed == client))
    };
    let is_ours = aud == Some(url) || listed(aud) && (of("azp").is_none() || listed(of("azp")));
    (!is_ours).then(|| "the audience of its person's token is not accepted".to_owned())
}

/// Why a proof with these claims would not be accepted for the workload.
pub(super) fn proof_refused(
    claims: &Claims,
    workload: &Workload,
    issuer: &Issuer,
) -> Option<String> {
    if claims.get("iss").is_some_and(|iss| *iss != issuer.url) {
        return Some(format!("the issuer is {}", issuer.url));
    }
    if let (Some(audience), Some(aud)) = (&issuer.audience, claims.get("aud"))
        && !audience.contains(aud)
    {
        return Some("the audience of its proof is not accepted".to_owned());
    }
    if let Some(failure) = workload.matching.first_failure(claims) {
        return Some(format!(
            "`match` wants {} {}, it has {}",
            failure.claim,
            failure.wanted,
            failure.got.as_deref().unwrap_or("none")
        ));
    }
    workload.key.read(claims).err().map(|why| why.to_string())
}

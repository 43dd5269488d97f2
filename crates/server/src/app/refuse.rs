//! Refusals on their way to the caller, to the ring that `why` reads, and to the ledger.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use dayfly_domain::{Claims, ClientId, Digest, Name, Refusal, RefusalId, Rule, TaskId, Time};
use dayfly_store::{Annex, Append, Note};
use serde::Serialize;
use serde_json::json;

use super::{App, Tenant};
use crate::finding::{Bound, most};
use crate::policy::Recorded;
use crate::random;

/// How many refusals the ring remembers.
const RING: usize = 8192;
/// How many refusals of one workload or client become leaves within a minute.
const LEAVES_A_MINUTE: u32 = 10;
/// How many denied uses of one client become entries within a minute, and how many by whoever shows a
/// token of one workload without its key are explained.
const DENIALS_A_MINUTE: u32 = 60;
/// What the subjects of denied uses begin with.
const USES_OF: &str = "uses of ";
/// How much of a caller's own text a refusal keeps: enough to know it by, and no way to fill the
/// ring, the log or a leaf.
const KEPT_BYTES: usize = 512;
/// How many workloads and clients are told apart within a minute; beyond, they share one count.
const SUBJECTS: usize = 4096;

/// The rules that refuse because a bound is reached.
const REACHED: [(Rule, Bound); 4] = [
    (Rule::OpenLimit, Bound::Open),
    (Rule::StartsLimit, Bound::StartsPerHour),
    (Rule::ClientsLimit, Bound::Clients),
    (Rule::CredentialsLimit, Bound::Credentials),
];

/// A refusal that has an id: it is in the ring.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its id.
    pub id: RefusalId,
    /// What was refused and why.
    pub refusal: Refusal,
    /// Whether the caller is known: its proof matched a workload, or it is a live client.
    pub known: bool,
}

/// What is known of a request so far, gathered on its way for whoever explains it later.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trail {
    /// What was asked, like `token` or `end`.
    pub asked: &'static str,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whose proof was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Name>,
    /// The claims of the proof, once verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Arc<Claims>>,
    /// Who is acted for, so that an erasure finds what a refusal says of the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<SubjectNames>>,
    /// The key that the caller proved to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The workload that the proof matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Name>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The resource that asked about a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Name>,
    /// The live client that called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// What the policies were asked and said, where they refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<Recorded>>,
}

/// A person's names at the own issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubjectNames {
    /// The issuer.
    pub iss: String,
    /// The person.
    pub sub: String,
}

/// A refusal with everything that operator and owner may see.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Its id.
    pub refusal: RefusalId,
    /// The tenant it happened at.
    pub tenant: Name,
    /// When.
    pub at: Time,
    /// The stage.
    pub stage: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// What the rule says.
    pub says: &'static str,
    /// What it looked at.
    pub field: String,
    /// What would have passed.
    pub wanted: String,
    /// What came.
    pub got: String,
    /// What may be done.
    pub hint: String,
    /// What was known of the request.
    #[serde(flatten)]
    pub trail: Trail,
}

/// The ring and the counts of one server.
#[derive(Default)]
pub(super) struct Refusals {
    ring: Mutex<VecDeque<Arc<Explained>>>,
    minute: Mutex<Minute>,
}

#[derive(Default)]
struct Minute {
    number: u64,
    counts: HashMap<(Name, String), u32>,
}

impl App {
    /// Forgets the refusals of a tenant in which all of these texts stand.
    pub(super) fn forget_refusals<'a>(
        &self,
        tenant: &Name,
        texts: impl IntoIterator<Item = &'a String> + Clone,
    ) {
        let mut ring = self
            .refusals
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ring.retain(|explained| {
            let text = json!(explained.as_ref()).to_string();
            let named = texts
                .clone()
                .into_iter()
                .all(|wanted| text.contains(wanted.as_str()));
            explained.tenant != *tenant || !named
        });
    }

    /// Gives a refusal its id, remembers it, and records it where DESIGN section 9 says so.
    pub(super) fn refuse(&self, tenant: &Tenant, trail: &Trail, refusal: Refusal) -> Refused {
        let (refused, explained) = self.explain(tenant, trail, refusal);
        self.record(tenant, &explained, refused.refusal.rule);
        refused
    }

    /// The same for whoever records it in an entry of its own, or has no reason to.
    pub(super) fn explain(
        &self,
        tenant: &Tenant,
        trail: &Trail,
        refusal: Refusal,
    ) -> (Refused, Arc<Explained>) {
        let refusal = Refusal {
            field: kept(refusal.field),
            got: kept(refusal.got),
            ..refusal
        };
        let now = self.now();
        let id = random::refusal_id(now);
        let explained = Arc::new(Explained {
            refusal: id,
            tenant: tenant.name().clone(),
            at: now,
            stage: refusal.rule.stage().code(),
            rule: refusal.rule.code(),
            says: refusal.rule.says(),
            field: refusal.field.to_string(),
            wanted: refusal.wanted.to_string(),
            got: refusal.got.to_string(),
            hint: refusal.hint.to_string(),
            trail: trail.clone(),
        });
        tracing::info!(
            refusal = %id,
            tenant = %tenant.name(),
            asked = trail.asked,
            stage = explained.stage,
            rule = explained.rule,
            "refused"
        );
        {
            let mut ring = self
                .refusals
                .ring
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if ring.len() >= RING {
                ring.pop_front();
            }
            ring.push_back(Arc::clone(&explained));
        }
        let refused = Refused {
            id,
            refusal,
            known: trail.workload.is_some() || trail.client.is_some(),
        };
        (refused, explained)
    }

    /// Refuses what did not even reach a use case.
    #[must_use]
    pub fn refused(&self, tenant: &Tenant, trail: &Trail, refusal: Refusal) -> Refused {
        self.refuse(tenant, trail, refusal)
    }

    /// The refusal with this id, while the ring remembers it.
    #[must_use]
    pub fn why(&self, id: RefusalId) -> Option<Arc<Explained>> {
        self.refusals
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .rev()
            .find(|explained| explained.refusal == id)
            .cloned()
    }

    /// Makes a leaf of a refusal that came from a live client or whose proof matched a workload,
    /// ten a minute for each at most. A failure of the ledger itself is not recorded there.
    fn record(&self, tenant: &Tenant, explained: &Explained, rule: Rule) {
        let trail = &explained.trail;
        let subject = match (&trail.client, &trail.workload) {
            (Some(client), _) => client.to_string(),
            (None, Some(workload)) => workload.to_string(),
            (None, None) => return,
        };
        if matches!(rule, Rule::Unavailable | Rule::Busy) {
            return;
        }
        self.tally(tenant, explained, rule);
        let (count, summaries) = self.count(tenant.name(), &subject, explained.at);
        for (of, summary) in summaries {
            self.note(&of, explained.at, vec![summary]);
        }
        if count > LEAVES_A_MINUTE {
            return;
        }
        let note = Note {
            kind: "refused",
            data: json!({
                "refusal": explained.refusal, "asked": trail.asked, "stage": explained.stage,
                "rule": explained.rule, "field": field_of(explained), "workload": trail.workload,
                "about": trail.task, "client": trail.client,
            })
            .to_string(),
            annex: annex_of(explained),
        };
        self.note(tenant.name(), explained.at, vec![note]);
    }

    /// Counts what a refusal says of its workload for whoever looks for findings: a proof that two
    /// keys have, and bounds that are reached.
    fn tally(&self, tenant: &Tenant, explained: &Explained, rule: Rule) {
        let Some(workload) = &explained.trail.workload else {
            return;
        };
        if rule == Rule::RetryOtherKey && explained.trail.key.is_some() {
            let tally = self.held.tally();
            tally.two_keys(tenant.name(), workload, explained.refusal, explained.at);
        }
        let Some((_, bound)) = REACHED.iter().find(|(refuses, _)| *refuses == rule) else {
            return;
        };
        let loaded = tenant.loaded();
        let declared = loaded.declared.workloads.get(workload);
        let reached = declared.and_then(|found| most(*bound, &found.workload, &self.bounds.domain));
        if let Some(most) = reached {
            let tally = self.held.tally();
            tally.reached(tenant.name(), workload, *bound, most, explained.at);
        }
    }

    /// Appends notes without waiting: a refusal's answer does not depend on the ledger.
    fn note(&self, tenant: &Name, now: Time, notes: Vec<Note>) {
        let append = self.store.append(
            tenant,
            Append {
                now,
                notes,
                ..Append::default()
            },
        );
        tokio::spawn(async move {
            if let Err(why) = append.await {
                tracing::warn!(%why, "a refusal is not recorded in the ledger");
            }
        });
    }

    /// Whether one more denied use of this minute is explained and recorded. The rest are counted in
    /// one summary, like refusals.
    pub(super) fn is_recorded(&self, tenant: &Tenant, subject: impl Display, at: Time) -> bool {
        let (count, summaries) = self.count(tenant.name(), &format!("{USES_OF}{subject}"), at);
        for (of, summary) in summaries {
            self.note(&of, at, vec![summary]);
        }
        count <= DENIALS_A_MINUTE
    }

    /// Counts a refusal of this minute, and gives the summaries of a minute that has passed.
    fn count(&self, tenant: &Name, subject: &str, at: Time) -> (u32, Vec<(Name, Note)>) {
        let number = at.millis() / 60_000;
        let mut minute = self
            .refusals
            .minute
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let summaries = if minute.number == number {
            Vec::new()
        } else {
            minute.turn(number)
        };
        let known = minute.counts.len();
        let key = (tenant.clone(), subject.to_owned());
        let key = if known >= SUBJECTS && !minute.counts.contains_key(&key) {
            (tenant.clone(), "others".to_owned())
        } else {
            key
        };
        let count = minute.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        (*count, summaries)
    }

    /// Writes the summaries of refusals of a minute that has passed; the sweep calls it.
    pub(super) fn flush_refusals(&self, now: Time) {
        let summaries = {
            let mut minute = self
                .refusals
                .minute
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let number = now.millis() / 60_000;
            if minute.number == number {
                return;
            }
            minute.turn(number)
        };
        for (tenant, summary) in summaries {
            self.note(&tenant, now, vec![summary]);
        }
    }
}

impl Minute {
    fn turn(&mut self, number: u64) -> Vec<(Name, Note)> {
        let passed = std::mem::replace(&mut self.number, number);
        std::mem::take(&mut self.counts)
            .into_iter()
            .filter(|((_, subject), count)| *count > recorded_of(subject))
            .map(|((tenant, subject), count)| {
                let more = count - recorded_of(&subject);
                let data = json!({
                    "minute": passed * 60_000, "of": subject, "more": more,
                });
                let note = Note {
                    kind: "refused",
                    data: data.to_string(),
                    annex: None,
                };
                (tenant, note)
            })
            .collect()
    }
}

/// How many of a minute are recorded.
fn recorded_of(subject: &str) -> u32 {
    if subject.starts_with(USES_OF) {
        DENIALS_A_MINUTE
    } else {
        LEAVES_A_MINUTE
    }
}

/// The beginning of a text, where it is long.
fn kept(text: Box<str>) -> Box<str> {
    if text.len() <= KEPT_BYTES {
        return text;
    }
    let (beginning, _) = text.split_at(text.floor_char_boundary(KEPT_BYTES));
    format!("{beginning}…").into()
}

/// What a leaf says of the field: never the name that a caller gave to a field of its own.
fn field_of(explained: &Explained) -> &str {
    let own = "authorization_details";
    if explained.field.starts_with(own) {
        own
    } else {
        &explained.field
    }
}

fn annex_of(explained: &Explained) -> Option<Annex> {
    let data = json!({
        "field": explained.field, "wanted": explained.wanted, "got": explained.got, "hint": explained.hint,
        "address": explained.trail.address, "claims": explained.trail.claims,
        "subject": explained.trail.subject, "policy": explained.trail.policy,
    });
    // Without a salt there is no annex: the leaf alone still says what happened.
    Some(Annex {
        salt: random::bytes().ok()?,
        data: data.to_string(),
    })
}

/// The refusal for a store that cannot answer.
pub(super) fn unavailable(why: &dyn Display) -> Refusal {
    tracing::error!(%why, "the store cannot answer");
    Refusal::new(Rule::Unavailable)
        .field("ledger")
        .wanted("a store that answers")
        .got("it does not now")
        .hint("try again; the server's log says why")
}

//! The ways to read a text as something that tasks have in common.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::Detail;
use dayfly_domain::{Client, Digest, Event, Name, Own, Pending, Task, has_part, ids_in};
use dayfly_store::SearchKey;
use serde_json::Value;

use super::entry::{Annexed, Entry};
use super::key::{RunUrl, TraceKey};
use super::named::Whom;

/// How an instance names a job of GitHub.
const JOB: &str = "check_run_id";

/// The declared names of URLs, which the record holds no list of.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Resources and their URLs.
    pub resources: BTreeMap<Name, String>,
    /// Issuers and their URLs.
    pub issuers: BTreeMap<Name, String>,
    /// The resources that promise to ask for each use.
    pub reporting: BTreeSet<Name>,
}

/// One thing that tasks may have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Workload(Name),
    Owner(Name),
    Issuer(Name),
    Subject(Name, String),
    Resource(Name),
    Proof(Digest),
    Key(Digest),
    Instance(String),
    Run(String),
    RunUrl(RunUrl),
}

impl Known {
    /// The names of a tenant's declared state.
    #[must_use]
    pub fn of(declared: &crate::declared::Declared) -> Self {
        let named = |name: &Name, url: &str| (name.clone(), url.to_owned());
        let reporting = declared.resources.values().filter(|of| of.reports);
        Self {
            reporting: reporting.map(|of| of.name.clone()).collect(),
            resources: declared
                .resources
                .iter()
                .map(|(name, of)| named(name, &of.url))
                .collect(),
            issuers: declared
                .issuers
                .iter()
                .map(|(name, of)| named(name, &of.url))
                .collect(),
        }
    }

    /// Every way to read a key that is no single task, client or credential.
    pub(super) fn readings(&self, key: &TraceKey) -> Vec<Reading> {
        match key {
            TraceKey::Task(_)
            | TraceKey::Client(_)
            | TraceKey::Credential(_)
            | TraceKey::Token(_) => Vec::new(),
            TraceKey::Proof(hash) => vec![Reading::Proof(*hash)],
            TraceKey::Key(jkt) => vec![Reading::Key(*jkt)],
            TraceKey::Workload(name) => vec![Reading::Workload(name.clone())],
            TraceKey::Owner(name) => vec![Reading::Owner(name.clone())],
            TraceKey::Issuer(name) => vec![Reading::Issuer(name.clone())],
            TraceKey::Subject(issuer, sub) => vec![Reading::Subject(issuer.clone(), sub.clone())],
            TraceKey::Resource(name) => vec![Reading::Resource(name.clone())],
            TraceKey::Instance(text) => vec![Reading::Instance(text.clone())],
            TraceKey::Run(text) => vec![Reading::Run(text.clone())],
            TraceKey::RunUrl(run) => vec![Reading::RunUrl(run.clone())],
            TraceKey::Url(url) => self.by_url(url),
            TraceKey::Any(text) => any(text),
        }
    }

    fn by_url(&self, url: &str) -> Vec<Reading> {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        let named = |names: &BTreeMap<Name, String>| {
            names
                .iter()
                .filter(|(_, of)| plain(of) == plain(url))
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        let resources = named(&self.resources).into_iter().map(Reading::Resource);
        let issuers = named(&self.issuers).into_iter().map(Reading::Issuer);
        let instance = Reading::Instance(url.to_owned());
        resources.chain(issuers).chain([instance]).collect()
    }
}

fn any(text: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Ok(name) = text.parse::<Name>() {
        readings.extend([
            Reading::Workload(name.clone()),
            Reading::Owner(name.clone()),
            Reading::Resource(name),
        ]);
    }
    if let Ok(digest) = text.parse() {
        readings.extend([Reading::Key(digest), Reading::Proof(digest)]);
    }
    readings.push(Reading::Instance(text.to_owned()));
    readings.push(Reading::Run(text.to_owned()));
    // After all that it is looked for in place of.
    readings.extend(text.parse().map(Reading::Issuer));
    readings
}

impl Reading {
    /// Under which keys the index has it.
    pub(super) fn search_keys(&self) -> Vec<SearchKey> {
        let of_run = |run: &String| vec![SearchKey::Run(run.clone()), SearchKey::Part(run.clone())];
        match self {
            Self::Workload(name) => vec![SearchKey::Workload(name.clone())],
            Self::Owner(name) => vec![SearchKey::Owner(name.clone())],
            Self::Issuer(name) => vec![SearchKey::Issuer(name.clone())],
            Self::Subject(issuer, sub) => vec![SearchKey::Subject(issuer.clone(), sub.clone())],
            Self::Resource(name) => vec![SearchKey::Resource(name.clone())],
            Self::Proof(hash) => vec![SearchKey::Proof(*hash)],
            Self::Key(jkt) => vec![SearchKey::Key(*jkt)],
            Self::Instance(text) => vec![SearchKey::Instance(text.clone())],
            Self::Run(text) => of_run(text),
            Self::RunUrl(run) => of_run(&run.run),
        }
    }

    /// Whom of a task it names, as far as its state says so: the task, or clients of it, which may
    /// have come in by a proof of their own. What names a client says nothing of the others.
    pub(super) fn names(&self, task: &Task) -> Option<Whom> {
        let clients = |named: &dyn Fn(&Client) -> bool| Whom::clients(task, named);
        let own = |named: &dyn Fn(&Own) -> bool| clients(&|of| of.own.as_ref().is_some_and(named));
        let waits = |named: &dyn Fn(&Pending) -> bool| task.pending().is_some_and(named);
        let (whole, some) = match self {
            Self::Workload(name) => (task.workload == *name, own(&|own| own.workload == *name)),
            Self::Owner(name) => (task.owner == *name, own(&|own| own.owner == *name)),
            Self::Issuer(name) => {
                // Whoever vouches for the person it acts for ends the task too.
                let person = task.subject.as_ref().map(|subject| &subject.issuer);
                let whole = task.issuer == *name || person == Some(name);
                (whole, own(&|own| own.issuer == *name))
            }
            // The state holds no person: only the index knows.
            Self::Subject(..) => (false, None),
            Self::Resource(name) => (
                waits(&|of| is_there(&of.access, name)),
                clients(&|client| is_there(&client.access, name)),
            ),
            Self::Proof(hash) => (false, clients(&|client| client.proof == *hash)),
            Self::Key(jkt) => (
                waits(&|of| of.jkt == *jkt),
                clients(&|client| client.jkt == Some(*jkt)),
            ),
            Self::Instance(text) => (
                waits(&|of| of.instance == *text),
                clients(&|client| client.instance == *text),
            ),
            Self::Run(text) => (
                is_in_key(task, text) || waits(&|of| has_id(&of.instance, text)),
                clients(&|client| {
                    let own = client.own.as_ref();
                    has_id(&client.instance, text) || own.is_some_and(|own| is_key(&own.key, text))
                }),
            ),
            Self::RunUrl(run) => (
                is_run(task, run) || waits(&|of| is_of_run(&of.instance, run)),
                clients(&|client| is_of_run(&client.instance, run)),
            ),
        };
        if whole { Some(Whom::Task) } else { some }
    }

    /// Whom of its task an entry names that the index has under its key; none where the state of the
    /// task says it.
    pub(super) fn names_in(&self, entry: &Entry) -> Option<Whom> {
        let (issuer, sub) = match self {
            Self::Subject(issuer, sub) => (issuer, sub),
            // The state does not hold who asked for a task that was never opened.
            Self::RunUrl(run) => {
                return match entry.event()? {
                    Event::TaskRequested(asked) if is_of_run(&asked.instance, run) => {
                        Some(Whom::Clients(BTreeSet::from([1])))
                    }
                    Event::TaskRequested(_)
                    | Event::TaskApproved(_)
                    | Event::TaskDenied(_)
                    | Event::TaskStarted(_)
                    | Event::ClientRegistered(_)
                    | Event::ClientDelegated(_)
                    | Event::CredentialIssued(_)
                    | Event::CredentialRevoked(_)
                    | Event::ClientEnded(_)
                    | Event::TaskEnded(_) => None,
                };
            }
            Self::Workload(_)
            | Self::Owner(_)
            | Self::Issuer(_)
            | Self::Resource(_)
            | Self::Proof(_)
            | Self::Key(_)
            | Self::Instance(_)
            | Self::Run(_) => return None,
        };
        // Whoever is acted for is acted for by the whole task.
        if let Annexed::Here(annex) = &entry.annex
            && let Some(person) = annex.get("subject")
            && person.get("issuer").and_then(Value::as_str) == Some(issuer.as_str())
            && let Some(claims) = person.get("claims")
            && claims.get("sub").and_then(Value::as_str) == Some(sub)
        {
            return Some(Whom::Task);
        }
        let number = match entry.event()? {
            // With the first entry the first client came in, or asked to.
            Event::TaskRequested(_) | Event::TaskStarted(_) => 1,
            Event::ClientRegistered(registered) => registered.client,
            Event::ClientDelegated(delegated) => delegated.client,
            Event::CredentialIssued(issued) => issued.client,
            Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => return Some(Whom::Task),
        };
        Some(Whom::Clients(BTreeSet::from([number])))
    }

    /// Whether it is meant only where a text can be read as nothing else: an issuer vouches for so
    /// many tasks that they would hide what else has its name.
    pub(super) const fn is_last_resort(&self) -> bool {
        matches!(self, Self::Issuer(_))
    }

    /// Whether what the index gives under its key must still be looked at.
    pub(super) const fn narrows(&self) -> bool {
        matches!(self, Self::RunUrl(_))
    }

    /// The word for its kind.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Workload(_) => "workload",
            Self::Owner(_) => "owner",
            Self::Issuer(_) => "issuer",
            Self::Subject(..) => "subject",
            Self::Resource(_) => "resource",
            Self::Proof(_) => "proof",
            Self::Key(_) => "key",
            Self::Instance(_) => "instance",
            Self::Run(_) | Self::RunUrl(_) => "run",
        }
    }

    /// What it is, in words.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Workload(name) => format!("workload {name}"),
            Self::Owner(name) => format!("owner {name}"),
            Self::Issuer(name) => format!("issuer {name}"),
            Self::Subject(issuer, sub) => format!("subject {sub} of issuer {issuer}"),
            Self::Resource(name) => format!("resource {name}"),
            Self::Proof(hash) => format!("proof {hash}"),
            Self::Key(jkt) => format!("key {jkt}"),
            Self::Instance(text) => format!("instance {text}"),
            Self::Run(text) => format!("run {text}"),
            Self::RunUrl(run) => format!("run {run}"),
        }
    }
}

/// Whether a text is a task's key, its series, or one of the values of its key.
fn is_in_key(task: &Task, text: &str) -> bool {
    task.series == text || is_key(&task.key, text)
}

/// Whether a text is a key, or one of its values.
fn is_key(key: &str, text: &str) -> bool {
    key == text || parts(key).any(|part| part == text)
}

/// The values of a key, their escapes undone (RFC 6901, section 4).
fn parts(key: &str) -> impl Iterator<Item = String> {
    key.split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// Whether one of the ids that an instance is made of is this.
fn has_id(instance: &str, id: &str) -> bool {
    ids_in(instance).any(|own| own == id)
}

/// Whether all of a task is of a run, and of the job that is named. One of the run as a whole is of each
/// job, unless its instances tell which of them are in it.
fn is_run(task: &Task, run: &RunUrl) -> bool {
    let attempt = run.attempt.is_none() || task.attempt.is_none() || task.attempt == run.attempt;
    if !attempt || !is_in_key(task, &run.run) {
        return false;
    }
    // A key holds values without their names, and an instance says which is which. A child with a proof
    // of its own may be of another run.
    let of_task = task.clients.iter().filter(|client| client.own.is_none());
    let waits = task.pending().map(|pending| &pending.instance);
    let instances: Vec<&String> = of_task
        .map(|client| &client.instance)
        .chain(waits)
        .collect();
    let tell = |name: &str| instances.iter().any(|of| names(of, name));
    let have = |name: &str, id: &str| instances.iter().any(|of| has(of, name, id));
    let name = run.page.in_instance();
    if tell(name) && !have(name, &run.run) {
        return false;
    }
    run.job.as_ref().is_none_or(|job| {
        let last = parts(&task.key).last();
        let is_job = last.as_ref() == Some(job);
        if tell(JOB) {
            is_job && have(JOB, job)
        } else {
            is_job || last.as_ref() == Some(&run.run)
        }
    })
}

/// Whether an instance is of a run, and of the attempt and the job that it names.
fn is_of_run(instance: &str, run: &RunUrl) -> bool {
    let attempts = |part: &str| part.strip_prefix("run_attempt=")?.parse().ok();
    let attempt: Option<u64> = instance.split(',').find_map(attempts);
    has(instance, run.page.in_instance(), &run.run)
        && run.job.as_ref().is_none_or(|job| has(instance, JOB, job))
        && (run.attempt.is_none() || attempt.is_none() || attempt == run.attempt)
}

/// Whether an instance has this id by this name.
fn has(instance: &str, name: &str, id: &str) -> bool {
    has_part(instance, &format!("{name}={id}"))
}

/// Whether an instance has an id by this name.
fn names(instance: &str, name: &str) -> bool {
    let mut pairs = instance.split(',').filter_map(|pair| pair.split_once('='));
    pairs.any(|(own, _)| own == name)
}

fn is_there(access: &[Detail], resource: &Name) -> bool {
    access.iter().any(|detail| detail.resource == *resource)
}

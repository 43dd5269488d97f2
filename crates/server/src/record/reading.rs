//! The ways to read a text as something that tasks have in common.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Digest, Name, Task};
use dayfly_store::SearchKey;

use super::key::{RunUrl, TraceKey};

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
    /// Under which key the index has it.
    pub(super) fn search_key(&self) -> SearchKey {
        match self {
            Self::Workload(name) => SearchKey::Workload(name.clone()),
            Self::Owner(name) => SearchKey::Owner(name.clone()),
            Self::Issuer(name) => SearchKey::Issuer(name.clone()),
            Self::Subject(issuer, sub) => SearchKey::Subject(issuer.clone(), sub.clone()),
            Self::Resource(name) => SearchKey::Resource(name.clone()),
            Self::Proof(hash) => SearchKey::Proof(*hash),
            Self::Key(jkt) => SearchKey::Key(*jkt),
            Self::Instance(text) => SearchKey::Instance(text.clone()),
            Self::Run(text) => SearchKey::Run(text.clone()),
            Self::RunUrl(run) => SearchKey::Run(run.run.clone()),
        }
    }

    /// Whether a task has it, as far as its state says so.
    pub(super) fn holds(&self, task: &Task) -> bool {
        let clients = || task.clients.iter();
        match self {
            Self::Workload(name) => task.workload == *name,
            Self::Owner(name) => task.owner == *name,
            Self::Issuer(name) => task.issuer == *name,
            // The state holds no person: only the index knows.
            Self::Subject(..) => false,
            Self::Resource(name) => {
                clients().any(|client| client.access.iter().any(|detail| detail.resource == *name))
            }
            Self::Proof(hash) => clients().any(|client| client.proof == *hash),
            Self::Key(jkt) => clients().any(|client| client.jkt == Some(*jkt)),
            Self::Instance(text) => clients().any(|client| client.instance == *text),
            Self::Run(text) => has_part(task, text),
            Self::RunUrl(run) => {
                let attempt =
                    run.attempt.is_none() || task.attempt.is_none() || task.attempt == run.attempt;
                has_part(task, &run.run)
                    && attempt
                    && run.job.as_ref().is_none_or(|job| of_job(task, run, job))
            }
        }
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
fn has_part(task: &Task, text: &str) -> bool {
    task.key == text || task.series == text || parts(&task.key).any(|part| part == text)
}

/// The values of a key, their escapes undone (RFC 6901, section 4).
fn parts(key: &str) -> impl Iterator<Item = String> {
    key.split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// Whether a task is of that job of its run. One that is of the run as a whole is of each job.
fn of_job(task: &Task, run: &RunUrl, job: &str) -> bool {
    let last = parts(&task.key).last();
    last.as_deref() == Some(job) || last.as_deref() == Some(run.run.as_str())
}

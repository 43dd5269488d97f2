//! What a trace may be asked for: ids, names, instances, run URLs, resources, keys and tokens.

use std::fmt;
use std::str::FromStr;

use dayfly_domain::{ClientId, CredentialId, Digest, Name, TaskId};
use serde::{Deserialize, Serialize};

/// What to trace. As text it is an id or a URL, anything after the word for its kind and a colon
/// (`workload:release`), or anything at all, which is then read in every way that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceKey {
    /// A task.
    Task(TaskId),
    /// A client.
    Client(ClientId),
    /// A credential, by its `jti`.
    Credential(CredentialId),
    /// A token, by the SHA-256 of its signing input.
    Token(Digest),
    /// A platform's token, by the SHA-256 of its signing input.
    Proof(Digest),
    /// A key, by its thumbprint.
    Key(Digest),
    /// A workload.
    Workload(Name),
    /// An owner.
    Owner(Name),
    /// An issuer.
    Issuer(Name),
    /// What an issuer's token said of itself: the issuer and the `sub`.
    Subject(Name, String),
    /// A resource.
    Resource(Name),
    /// An instance.
    Instance(String),
    /// A task key, its series, or one of the values that make it.
    Run(String),
    /// A run of a platform, by the address of its page.
    RunUrl(RunUrl),
    /// Another URL: of a resource or an issuer.
    Url(String),
    /// A text of no kind.
    Any(String),
}

/// What the address of a run's page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunUrl {
    /// Of what it is the page.
    pub page: Page,
    /// The number of that.
    pub run: String,
    /// The attempt, where it is named.
    pub attempt: Option<u64>,
    /// The job within the run, where it is named.
    pub job: Option<String>,
}

/// What a platform has a page of. Each is counted by itself: a job may have the number of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// A run of GitHub, or one of its jobs.
    Run,
    /// A pipeline of GitLab.
    Pipeline,
    /// A job of GitLab.
    Job,
}

/// Why a text cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum KeyError {
    /// Nothing was asked for.
    #[error("nothing to trace was named")]
    Empty,
    /// A token itself: it must not travel.
    #[error(
        "this is a token: give it on standard input with `dayfly trace -`, which sends only its hash"
    )]
    Token,
    /// The text after the colon is not of its kind.
    #[error("`{text}` is no {kind}: {why}")]
    Kind {
        /// The kind.
        kind: String,
        /// The text.
        text: String,
        /// What is wrong.
        why: String,
    },
}

impl FromStr for TraceKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if looks_like_a_token(text) {
            return Err(KeyError::Token);
        }
        if let Some(id) = read_id(text)? {
            return Ok(id);
        }
        if let Some(kind) = read_kind(text)? {
            return Ok(kind);
        }
        if let Some(run) = RunUrl::parse(text) {
            return Ok(Self::RunUrl(run));
        }
        if text.contains("://") {
            return Ok(Self::Url(text.to_owned()));
        }
        Ok(Self::Any(text.to_owned()))
    }
}

impl fmt::Display for TraceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "{id}"),
            Self::Client(id) => write!(f, "{id}"),
            Self::Credential(id) => write!(f, "{id}"),
            Self::Token(hash) => write!(f, "token:{hash}"),
            Self::Proof(hash) => write!(f, "proof:{hash}"),
            Self::Key(jkt) => write!(f, "key:{jkt}"),
            Self::Workload(name) => write!(f, "workload:{name}"),
            Self::Owner(name) => write!(f, "owner:{name}"),
            Self::Issuer(name) => write!(f, "issuer:{name}"),
            Self::Subject(issuer, sub) => write!(f, "subject:{issuer}:{sub}"),
            Self::Resource(name) => write!(f, "resource:{name}"),
            Self::Instance(text) => write!(f, "instance:{text}"),
            Self::Run(text) => write!(f, "run:{text}"),
            Self::RunUrl(run) => write!(f, "run {run}"),
            Self::Url(text) | Self::Any(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for RunUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.run)?;
        if let Some(attempt) = self.attempt {
            write!(f, ", attempt {attempt}")?;
        }
        if let Some(job) = &self.job {
            write!(f, ", job {job}")?;
        }
        Ok(())
    }
}

/// Three parts of base64url, the first of which is the beginning of a JSON object.
fn looks_like_a_token(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let base64url = |part: &&str| {
        part.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    parts.len() >= 3 && text.starts_with("ey") && parts.iter().all(base64url)
}

/// An id; a text that begins like one and is none is a mistake and nothing else.
fn read_id(text: &str) -> Result<Option<TraceKey>, KeyError> {
    fn id<T: FromStr<Err = dayfly_domain::IdError>>(
        kind: &str,
        text: &str,
        key: impl FnOnce(T) -> TraceKey,
    ) -> Result<Option<TraceKey>, KeyError> {
        match text.parse() {
            Ok(id) => Ok(Some(key(id))),
            Err(why) => Err(wrong(kind, text, &why)),
        }
    }
    let rest = |prefix| text.strip_prefix(prefix).map_or(0, str::len);
    // 26 characters of base32 follow; a workload may well be called `task_force`.
    if rest("task_") >= 26 {
        id("task", text, TraceKey::Task)
    } else if rest("client_") >= 26 {
        id("client", text, TraceKey::Client)
    } else if rest("cred_") >= 26 {
        id("credential", text, TraceKey::Credential)
    } else {
        Ok(None)
    }
}

fn read_kind(text: &str) -> Result<Option<TraceKey>, KeyError> {
    let Some((kind, rest)) = text.split_once(':') else {
        return Ok(None);
    };
    let name = || rest.parse::<Name>().map_err(|why| wrong(kind, rest, &why));
    let digest = || {
        rest.parse::<Digest>()
            .map_err(|why| wrong(kind, rest, &why))
    };
    Ok(Some(match kind {
        "task" | "client" | "credential" => {
            return match read_id(rest)? {
                Some(id) => Ok(Some(id)),
                None => Err(wrong(kind, rest, &dayfly_domain::IdError::Base32)),
            };
        }
        "token" => TraceKey::Token(digest()?),
        "proof" => TraceKey::Proof(digest()?),
        "key" => TraceKey::Key(digest()?),
        "workload" => TraceKey::Workload(name()?),
        "owner" => TraceKey::Owner(name()?),
        "issuer" => TraceKey::Issuer(name()?),
        "resource" => TraceKey::Resource(name()?),
        "instance" => TraceKey::Instance(rest.to_owned()),
        "run" => TraceKey::Run(rest.to_owned()),
        "subject" => {
            let (issuer, sub) = rest
                .split_once(':')
                .ok_or_else(|| wrong(kind, rest, &"it is written subject:<issuer>:<sub>"))?;
            let issuer = issuer.parse().map_err(|why| wrong(kind, rest, &why))?;
            TraceKey::Subject(issuer, sub.to_owned())
        }
        _ => return Ok(None),
    }))
}

fn wrong(kind: &str, text: &str, why: &dyn fmt::Display) -> KeyError {
    KeyError::Kind {
        kind: kind.to_owned(),
        text: text.to_owned(),
        why: why.to_string(),
    }
}

impl Page {
    /// How an instance names the number of it.
    pub(super) const fn in_instance(self) -> &'static str {
        match self {
            Self::Run => "run_id",
            Self::Pipeline => "pipeline_id",
            Self::Job => "job_id",
        }
    }
}

impl RunUrl {
    /// Reads the address of a run's page, as GitHub (`/actions/runs/1/attempts/2/job/3`) and
    /// GitLab (`/-/jobs/1`, `/-/pipelines/1`) show it, on their own hosts or another.
    fn parse(text: &str) -> Option<Self> {
        let address = text.split(['?', '#']).next()?;
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (host, path) = address.split_once('/')?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return None;
        }
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Self::of_github(&segments).or_else(|| Self::of_gitlab(&segments))
    }

    fn of_github(segments: &[&str]) -> Option<Self> {
        let [_owner, _repository, "actions", "runs", run, rest @ ..] = segments else {
            return None;
        };
        let mut url = Self {
            page: Page::Run,
            run: number(run)?,
            attempt: None,
            job: None,
        };
        let mut rest = rest;
        while let [word, value, more @ ..] = rest {
            match *word {
                "attempts" => url.attempt = Some(number(value)?.parse().ok()?),
                "job" | "jobs" => url.job = Some(number(value)?),
                _ => break,
            }
            rest = more;
        }
        Some(url)
    }

    fn of_gitlab(segments: &[&str]) -> Option<Self> {
        let dash = segments.iter().position(|segment| *segment == "-")?;
        let (_, [_, word, run, ..]) = segments.split_at_checked(dash)? else {
            return None;
        };
        let page = match *word {
            "jobs" => Page::Job,
            "pipelines" => Page::Pipeline,
            _ => return None,
        };
        Some(Self {
            page,
            run: number(run)?,
            attempt: None,
            job: None,
        })
    }
}

fn number(text: &str) -> Option<String> {
    let digits = !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.to_owned())
}

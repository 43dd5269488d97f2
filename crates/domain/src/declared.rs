//! What may run: the declared side of a task, as far as the domain's rules read it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::access::{Detail, Field, Pattern};
use crate::cause::Cause;
use crate::matching::{Claims, Match};
use crate::refusal::{Refusal, Rule};
use crate::subject::ActsFor;
use crate::text::Name;
use crate::time::{Span, Time};

/// What may run: declared, long-lived, holds no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Name,
    /// Who answers for it.
    pub owner: Name,
    /// The issuer whose tokens prove it.
    pub issuer: Name,
    /// What it is.
    pub kind: Kind,
    /// What it is for, in the owner's words.
    pub purpose: String,
    /// Which proofs match it.
    pub matching: Match,
    /// How a proof names its task.
    pub key: KeyRule,
    /// Whether further clients of the same attempt may join.
    pub repeat: Repeat,
    /// How long a task may live.
    pub window: Span,
    /// When silence ends a task.
    pub heartbeat: Heartbeat,
    /// How long one credential lives, at most.
    pub ttl: Span,
    /// Whether a credential must be bound to a key.
    pub binding: Binding,
    /// The ceiling of access. Paths may hold `{claim}`.
    pub access: Vec<Detail>,
    /// How long a task without an active root client stays open.
    pub linger: Span,
    /// After which ends a task may start again, up to its first deadline.
    pub reopen: Reopen,
    /// How many tasks may be open or start.
    pub limits: Limits,
    /// The approval that each of its tasks needs.
    pub approval: Option<Approval>,
    /// What its clients may hand over; none hands nothing over.
    pub delegation: Option<Delegation>,
    /// Whom its tasks act for; none acts for nobody.
    pub acts_for: Option<ActsFor>,
}

/// The approval that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// How long it is waited for.
    pub within: Span,
    /// How many people must approve.
    pub people: u32,
}

impl Approval {
    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            within: if other.within < self.within {
                other.within
            } else {
                self.within
            },
            people: self.people.max(other.people),
        }
    }
}

/// What the clients of a workload may hand over, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// How many clients may stand below one that came in by the workload's proof.
    pub depth: u32,
    /// How often may be handed over below it, whatever became of those clients.
    pub clients: u32,
    /// The workloads that may become a child; its own name stands for helpers of its own.
    pub to: Vec<Name>,
    /// Whether a child must bring a platform's proof where it is one of its own.
    pub actor: Actor,
}

/// Whether a child of the same workload must bring a platform's proof of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Actor {
    /// The hand-over is enough.
    #[default]
    Optional,
    /// It must.
    Required,
}

impl Workload {
    /// The ceiling with each `{claim}` filled in from the proof.
    ///
    /// # Errors
    /// A refusal of stage `access` when a claim is absent or could widen the path.
    pub fn ceiling(&self, claims: &Claims) -> Result<Vec<Detail>, Refusal> {
        self.access
            .iter()
            .map(|detail| fill(detail, claims))
            .collect()
    }

    /// The present ceiling for a client that came in before, filled in from the claims kept of it.
    /// A detail that needs another claim is left out: the client cannot have been granted it.
    #[must_use]
    pub fn ceiling_kept(&self, kept: &Claims) -> Vec<Detail> {
        self.access
            .iter()
            .filter_map(|detail| fill(detail, kept).ok())
            .collect()
    }

    /// Those claims of a proof that fill the ceiling.
    #[must_use]
    pub fn filling(&self, claims: &Claims) -> Claims {
        self.access
            .iter()
            .flat_map(|detail| detail.fields.values())
            .filter_map(|field| match field {
                Field::Path(patterns) => Some(patterns),
                Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) => None,
            })
            .flatten()
            .flat_map(Pattern::claims)
            .filter_map(|name| Some((name.to_string(), claims.get(name)?.clone())))
            .collect()
    }
}

fn fill(detail: &Detail, claims: &Claims) -> Result<Detail, Refusal> {
    let mut filled = detail.clone();
    for field in filled.fields.values_mut() {
        let Field::Path(patterns) = field else {
            continue;
        };
        for pattern in patterns {
            *pattern = pattern.fill(claims).map_err(|why| {
                Refusal::new(Rule::CeilingClaim)
                    .field("access")
                    .wanted(format!("a claim that is a plain path, for `{pattern}`"))
                    .got(why)
            })?;
        }
    }
    Ok(filled)
}

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A job of a CI system.
    Ci,
    /// An AI agent.
    Agent,
    /// A batch job.
    Batch,
    /// A federated service.
    Service,
    /// A person at work, for one task.
    Operator,
}

/// What happens when an open task's proof is shown again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// It is refused.
    #[default]
    Refuse,
    /// It joins as a further root client.
    Join,
}

/// After which ends the same key may start again, up to the deadline of its first task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reopen {
    /// After none.
    #[default]
    Never,
    /// After it fell silent.
    Silent,
    /// After it fell silent or failed: a container that crashes starts again in the same pod.
    SilentOrFailed,
}

impl Reopen {
    /// Whether a task that ended so may start again.
    #[must_use]
    pub const fn allows(self, cause: Cause) -> bool {
        match self {
            Self::Never => false,
            Self::Silent => matches!(cause, Cause::Heartbeat),
            Self::SilentOrFailed => matches!(cause, Cause::Heartbeat | Cause::Failed),
        }
    }
}

/// Whether credentials must be bound to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// Bound, always.
    #[default]
    Required,
    /// Bound when a key is shown, else a bearer credential, marked in the ledger.
    Optional,
}

/// When silence ends a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whether silence is watched.
    pub mode: HeartbeatMode,
    /// How often a root client should beat.
    pub every: Span,
    /// How long silence is borne.
    pub grace: Span,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            mode: HeartbeatMode::Auto,
            every: Span::from_seconds(30),
            grace: Span::from_seconds(300),
        }
    }
}

/// Whether silence is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeartbeatMode {
    /// Never.
    Off,
    /// From the first beat on.
    #[default]
    Auto,
    /// From the start on.
    Required,
}

/// How many tasks of a workload may be open, and may start within one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most open tasks; none declared means no bound.
    pub open: Option<u64>,
    /// Most starts in a sliding hour; none declared means no bound.
    pub starts_per_hour: Option<u64>,
}

/// The bounds that hold for every task of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most clients of a task.
    pub clients: usize,
    /// Most live credentials of a client.
    pub live_credentials: usize,
    /// Most details of an access.
    pub details: usize,
    /// How deep a delegated client may stand; a root has depth 0.
    pub depth: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            clients: 256,
            live_credentials: 16,
            details: 32,
            depth: 4,
        }
    }
}

/// How a proof names its task: claims whose values make the key, those that make the series, and
/// the one that counts attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    /// The claims that make the key.
    pub key: Vec<String>,
    /// The claims that make the series; a prefix of `key`, or all of it.
    pub series: Vec<String>,
    /// The claim that counts attempts.
    pub attempt: Option<String>,
    /// What to say when a claim of the key is absent.
    pub hint: String,
}

/// The key of one task, its series, and the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskKey {
    /// The values of the key's claims, joined by `/`.
    pub key: String,
    /// The names of the series' claims, joined by `,`, a colon, and their values, joined by `/`.
    pub series: String,
    /// Which attempt of the series it is, where the platform counts them.
    pub attempt: Option<u64>,
}

/// A series and an attempt of it, whatever the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// As [`TaskKey::series`].
    pub series: String,
    /// As [`TaskKey::attempt`].
    pub attempt: Option<u64>,
}

impl KeyRule {
    /// Reads key, series and attempt off a proof.
    ///
    /// # Errors
    /// A refusal of stage `task` naming the claim that is absent or unusable.
    pub fn read(&self, claims: &Claims) -> Result<TaskKey, Refusal> {
        let Run { series, attempt } = self.read_run(claims)?;
        Ok(TaskKey {
            key: self.join(claims, &self.key)?,
            series,
            attempt,
        })
    }

    /// Reads series and attempt off claims that need not make a key.
    ///
    /// # Errors
    /// A refusal of stage `task` naming the claim that is absent or unusable.
    pub fn read_run(&self, claims: &Claims) -> Result<Run, Refusal> {
        let attempt = match &self.attempt {
            None => None,
            Some(claim) => {
                let text = self.claim(claims, claim)?;
                let plain = text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
                let number = text.parse().ok().filter(|_| plain).ok_or_else(|| {
                    Refusal::new(Rule::TaskKey)
                        .field(claim.as_str())
                        .wanted("a whole number")
                        .got(text)
                })?;
                Some(number)
            }
        };
        Ok(Run {
            // The names stand before the values, so that two rules of one issuer whose values
            // happen to be the same never share a series.
            series: format!(
                "{}:{}",
                self.series.join(","),
                self.join(claims, &self.series)?
            ),
            attempt,
        })
    }

    fn join(&self, claims: &Claims, names: &[String]) -> Result<String, Refusal> {
        let mut joined = String::new();
        for name in names {
            if !joined.is_empty() {
                joined.push('/');
            }
            // The escapes of RFC 6901, so that two lists of values never join to one text.
            joined.push_str(
                &self
                    .claim(claims, name)?
                    .replace('~', "~0")
                    .replace('/', "~1"),
            );
        }
        Ok(joined)
    }

    fn claim<'a>(&self, claims: &'a Claims, name: &str) -> Result<&'a str, Refusal> {
        let missing = |got: &str| {
            Refusal::new(Rule::TaskKey)
                .field(name)
                .wanted("a value of 1 to 256 bytes without control characters")
                .got(got)
                .hint(self.hint.as_str())
        };
        match claims.get(name) {
            None => Err(missing("no such claim")),
            Some(value)
                if value.is_empty() || value.len() > 256 || value.chars().any(char::is_control) =>
            {
                Err(missing(&value.len().to_string()))
            }
            Some(value) => Ok(value),
        }
    }
}

/// The deadline of a task that starts now.
pub(crate) fn deadline(now: Time, window: Span, until: Option<Time>) -> Time {
    let deadline = now + window;
    until.map_or(deadline, |until| deadline.min(until))
}

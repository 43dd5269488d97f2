//! The task: one run of a workload and the unit of everything.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::access::Detail;
use crate::cause::Cause;
use crate::declared::{Heartbeat, HeartbeatMode};
use crate::epoch::{Epoch, EpochOf, Moved};
use crate::event::Own;
use crate::id::{ClientId, CredentialId, TaskId};
use crate::matching::Claims;
use crate::refusal::{Refusal, Rule};
use crate::subject::Subject;
use crate::text::{Digest, Name};
use crate::time::{Span, Time};

/// One run of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// How many entries the ledger holds of it; the next one has this plus one as `seq`.
    pub version: u64,
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Who vouched for it.
    pub issuer: Name,
    /// Which run it is.
    pub key: String,
    /// Which series of attempts the key belongs to.
    pub series: String,
    /// Which attempt it is, where the platform counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The person on whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// When it opened; while it is pending, when it was asked for.
    pub opened: Time,
    /// When it ends at the latest; while it is pending, when the request expires.
    pub deadline: Time,
    /// When silence ends it; off while it is pending, for there is nobody to be heard.
    pub heartbeat: Heartbeat,
    /// How long it stays open without an active root client.
    pub linger: Span,
    /// The epochs it relies on.
    pub epochs: Vec<Epoch>,
    /// Its clients, none while it is pending; the client with number `n` stands at `n - 1`.
    pub clients: Vec<Client>,
    /// Whether it is open.
    pub state: TaskState,
}

/// For how long an approved request may be fetched.
pub const FETCH: Span = Span::from_seconds(300);

/// Whether a task is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for an approval, or for its client to fetch what was approved. Nothing of it is
    /// live.
    Pending(Box<Pending>),
    /// It is open.
    Open,
    /// It has ended, and so have all its clients and credentials.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
    },
}

/// What a task that waits for approval holds: who approved, and what will be granted to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// How many people must approve.
    pub people: u32,
    /// The person who asks, hashed with the salt of the request; none where no person does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Digest>,
    /// Who has approved, each hashed with a salt of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Digest>,
    /// When the last of them did; none while approvals are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Time>,
    /// SHA-256 of the code by which the client asks.
    pub code: Digest,
    /// The thumbprint of the key by which the client asks, and to which it will be bound.
    pub jkt: Digest,
    /// The key itself, as canonical JWK JSON.
    pub jwk: String,
    /// Which job, pod or process asks.
    pub instance: String,
    /// SHA-256 of the proof.
    pub proof: Digest,
    /// SHA-256 of the request.
    pub request: Digest,
    /// The claims of the proof that filled the ceiling.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub filled: Claims,
    /// What its client will have: what people were asked about.
    pub access: Vec<Detail>,
    /// The audience of its first credential.
    pub resource: Name,
    /// The deadline of the silent task that opens again by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Pending {
    /// How many people have approved.
    #[must_use]
    pub fn given(&self) -> u32 {
        u32::try_from(self.approvals.len()).unwrap_or(u32::MAX)
    }
}

/// One ephemeral identity inside a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The number of the client it was delegated from; a root client came in by proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// The SHA-256 thumbprint (RFC 7638) of the key it is bound to; none is a bearer client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// The public key itself, as canonical JWK JSON, by which the client authenticates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<String>,
    /// Which job, pod or process it is.
    pub instance: String,
    /// SHA-256 of the proof it came in by: a platform's, or the hand-over where it brought none.
    pub proof: Digest,
    /// SHA-256 of the hand-over it was delegated by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Digest>,
    /// Whose a delegated client is by its own proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
    /// SHA-256 of the request that was granted, for the answer that got lost.
    pub request: Digest,
    /// The claims of its proof that filled the ceiling: the present ceiling is filled from them too.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub filled: Claims,
    /// What it may have credentials for.
    pub access: Vec<Detail>,
    /// When it ends at the latest.
    pub expires: Time,
    /// How many credentials it was issued, ever.
    pub issued: u32,
    /// When the last of them expires for those who verify offline, revoked or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_expiry: Option<Time>,
    /// Those that have neither expired nor been revoked.
    pub credentials: Vec<Credential>,
    /// Whether it is active.
    pub state: ClientState,
}

/// Whether a client is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// It is active.
    Active,
    /// It has ended.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
    },
}

/// One live credential of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its number within the client.
    pub number: u32,
    /// When it expires.
    pub expires: Time,
    /// SHA-256 of the signing input of its token (RFC 7515, section 2).
    pub hash: Digest,
}

/// Verified evidence of what the caller is, as facts; made by the crate that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who vouches.
    pub issuer: Name,
    /// What is claimed; shared, because whoever explains a refusal keeps it.
    pub claims: Arc<Claims>,
    /// SHA-256 of the proof as shown.
    pub digest: Digest,
    /// Which job, pod or process shows it.
    pub instance: String,
    /// Whether the proof may be used once only.
    pub one_time: bool,
    /// Of a person's token, the epoch of that person's authentication: whatever comes of the proof
    /// relies on it.
    pub person: Option<Epoch>,
}

/// What has been heard of a task's root clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The last beat or call that counts; none when silence is not watched yet.
    pub last_seen: Option<Time>,
    /// How much of the time since then Dayfly could not hear.
    pub deaf: Span,
}

/// A credential that was found live.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// The client it belongs to.
    pub client: &'a Client,
    /// Its listing.
    pub credential: &'a Credential,
}

impl Client {
    /// Whether it has not ended by itself; its ancestors and its expiry are not looked at.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self.state, ClientState::Active)
    }
}

impl Task {
    /// Whether the task is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, TaskState::Open)
    }

    /// Whether it has ended, as recorded.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, TaskState::Ended { .. })
    }

    /// What it holds while it waits for approval.
    #[must_use]
    pub fn pending(&self) -> Option<&Pending> {
        match &self.state {
            TaskState::Pending(pending) => Some(pending),
            TaskState::Open | TaskState::Ended { .. } => None,
        }
    }

    /// The client with this number.
    #[must_use]
    pub fn client(&self, number: u32) -> Option<&Client> {
        self.clients.get((number as usize).checked_sub(1)?)
    }

    pub(crate) fn client_mut(&mut self, number: u32) -> Option<&mut Client> {
        self.clients.get_mut((number as usize).checked_sub(1)?)
    }

    /// Root clients with their numbers.
    pub fn roots(&self) -> impl Iterator<Item = (u32, &Client)> {
        (1u32..)
            .zip(&self.clients)
            .filter(|(_, client)| client.parent.is_none())
    }

    /// Whether silence is watched from the start.
    #[must_use]
    pub const fn hears_from_start(&self) -> bool {
        matches!(self.heartbeat.mode, HeartbeatMode::Required)
    }

    /// The last moment at which the task is not silent: `last_seen + grace`, and what Dayfly could
    /// not hear on top. None while nobody is there to be heard: without an active root client, it
    /// is `linger` that ends the task.
    #[must_use]
    pub fn silent_after(&self, heard: Heard) -> Option<Time> {
        let seen = match self.heartbeat.mode {
            HeartbeatMode::Off => return None,
            HeartbeatMode::Auto => heard.last_seen?,
            HeartbeatMode::Required => heard.last_seen.unwrap_or_default().max(self.opened),
        };
        self.roots()
            .any(|(_, client)| client.is_active())
            .then(|| seen + self.heartbeat.grace + heard.deaf)
    }

    /// When the last root client ended and `linger` runs out; none while a root client is active.
    #[must_use]
    pub fn lingers_until(&self) -> Option<(Time, Cause)> {
        let mut last = None;
        let mut gravest: Option<Cause> = None;
        for (_, client) in self.roots() {
            let ClientState::Ended { cause, at } = client.state else {
                return None;
            };
            last = last.max(Some(at));
            if gravest.is_none_or(|worst| cause.gravity() > worst.gravity()) {
                gravest = Some(cause);
            }
        }
        Some((last? + self.linger, gravest?))
    }

    /// Why the task is over although no end is recorded yet: deadline, silence or a linger run out,
    /// whichever came first.
    #[must_use]
    pub fn lapsed(&self, now: Time, heard: Heard) -> Option<Cause> {
        let (due, cause) = self.due(heard);
        (now >= due).then_some(cause)
    }

    /// Why the task is over although no end is recorded yet, rights that were taken away included:
    /// what came first names the end.
    #[must_use]
    pub fn over(&self, now: Time, heard: Heard, moved: Option<Moved>) -> Option<Cause> {
        let (due, cause) = self.due(heard);
        match moved {
            Some(moved) if moved.at <= due => Some(moved.cause),
            Some(_) => Some(cause),
            None => (now >= due).then_some(cause),
        }
    }

    /// When the sweep should look at the task next.
    #[must_use]
    pub fn next_due(&self, heard: Heard) -> Time {
        self.due(heard).0
    }

    /// When the task is over by itself, and why.
    fn due(&self, heard: Heard) -> (Time, Cause) {
        if self.pending().is_some() {
            return (self.deadline, Cause::Expired);
        }
        let mut due = (self.deadline, Cause::Deadline);
        if let Some(until) = self.silent_after(heard) {
            let silent = until + Span::from_millis(1);
            if silent < due.0 {
                due = (silent, Cause::Heartbeat);
            }
        }
        if let Some((until, cause)) = self.lingers_until()
            && until < due.0
        {
            due = (until, cause);
        }
        due
    }

    /// Checks that the task is open and not over, whatever its clients.
    ///
    /// # Errors
    /// A refusal of stage `task`.
    pub fn check_open(&self, now: Time, heard: Heard) -> Result<(), Refusal> {
        match &self.state {
            TaskState::Open => {}
            TaskState::Pending(_) => {
                return Err(Refusal::new(Rule::ApprovalPending)
                    .field("task")
                    .wanted("an open task")
                    .got("one that waits for approval"));
            }
            TaskState::Ended { cause, at } => {
                return Err(Refusal::new(Rule::TaskEnded)
                    .field("task")
                    .wanted("an open task")
                    .got(alloc::format!("ended {at}: {}", cause.word())));
            }
        }
        match self.lapsed(now, heard) {
            None => Ok(()),
            Some(Cause::Deadline) => Err(Refusal::new(Rule::Deadline)
                .field("deadline")
                .wanted(alloc::format!("before {}", self.deadline))
                .got(alloc::format!("{now}"))),
            Some(Cause::Heartbeat) => Err(Refusal::new(Rule::Silent)
                .field("heartbeat.grace")
                .wanted(alloc::format!("a beat within {}", self.heartbeat.grace))
                .got(alloc::format!("{now}"))),
            Some(cause) => Err(Refusal::new(Rule::TaskEnded)
                .field("task")
                .wanted("an open task")
                .got(cause.word())),
        }
    }

    /// Checks that the task waits for approval, or was approved, and has not expired.
    ///
    /// # Errors
    /// A refusal of stage `task`.
    pub fn check_pending(&self, now: Time) -> Result<&Pending, Refusal> {
        let refuse = |got: String| {
            Refusal::new(Rule::NotPending)
                .field("task")
                .wanted("a task that waits for approval")
                .got(got)
        };
        match &self.state {
            TaskState::Open => Err(refuse("an open one".into())),
            TaskState::Ended { cause, at } => {
                Err(refuse(alloc::format!("ended {at}: {}", cause.word())))
            }
            TaskState::Pending(_) if now >= self.deadline => {
                Err(Refusal::new(Rule::ApprovalExpired)
                    .field("approval")
                    .wanted(alloc::format!("before {}", self.deadline))
                    .got(alloc::format!("{now}")))
            }
            TaskState::Pending(pending) => Ok(pending),
        }
    }

    /// Checks that a client and all its ancestors are active and not expired.
    ///
    /// # Errors
    /// A refusal of stage `task`.
    pub fn check_client(&self, number: u32, now: Time) -> Result<&Client, Refusal> {
        let refuse = |got: String| {
            Refusal::new(Rule::ClientEnded)
                .field("client")
                .wanted("an active client")
                .got(got)
        };
        let found = self
            .client(number)
            .ok_or_else(|| refuse("no such client".into()))?;
        let mut next = Some(number);
        // INVARIANT: the walk goes on only to a lower number, so it ends.
        while let Some(at) = next {
            let client = self
                .client(at)
                .ok_or_else(|| refuse("no such client".into()))?;
            if let ClientState::Ended { cause, at } = client.state {
                return Err(refuse(alloc::format!("ended {at}: {}", cause.word())));
            }
            if now >= client.expires {
                return Err(refuse(alloc::format!("expired {}", client.expires)));
            }
            next = match client.parent {
                None => None,
                Some(parent) if parent < at => Some(parent),
                Some(_) => return Err(refuse("a client without a parent before it".into())),
            };
        }
        Ok(found)
    }

    /// A client and its ancestors with their numbers, up to the root that it comes from.
    pub fn chain(&self, number: u32) -> impl Iterator<Item = (u32, &Client)> {
        let at = |number: u32| self.client(number).map(|client| (number, client));
        // INVARIANT: the walk goes on only to a lower number, so it ends.
        core::iter::successors(at(number), move |(number, client)| {
            client.parent.filter(|parent| parent < number).and_then(at)
        })
    }

    /// The workload that a client acts as: by the nearest proof on its chain.
    #[must_use]
    pub fn acts_as(&self, number: u32) -> &Name {
        self.chain(number)
            .find_map(|(_, client)| client.own.as_ref().map(|own| &own.workload))
            .unwrap_or(&self.workload)
    }

    /// Who vouches for the instance of a client: whoever proved it, or the nearest one above it that
    /// was proven. An instance is nobody else's, however alike it is written.
    #[must_use]
    pub fn vouched_by(&self, number: u32) -> &Name {
        self.chain(number)
            .find_map(|(_, client)| client.own.as_ref().map(|own| &own.issuer))
            .unwrap_or(&self.issuer)
    }

    /// The epochs that active delegated clients rely on beside those of the task.
    pub fn relied_below(&self) -> impl Iterator<Item = &Epoch> {
        let active = self.clients.iter().filter(|client| client.is_active());
        active
            .filter_map(|client| client.own.as_ref())
            .flat_map(|own| &own.epochs)
    }

    /// The epoch that took rights from a client or from one it was delegated from, where `lost` are
    /// those of [`relied_below`](Self::relied_below) that have moved.
    pub fn lost_by<'a>(&'a self, number: u32, lost: &[Epoch]) -> Option<&'a EpochOf> {
        let own = self
            .chain(number)
            .filter_map(|(_, client)| client.own.as_ref());
        own.flat_map(|own| &own.epochs)
            .find(|epoch| lost.contains(epoch))
            .map(|epoch| &epoch.of)
    }

    /// `valid(credential)` of DESIGN section 3, but for the epochs, which the store knows.
    ///
    /// # Errors
    /// A refusal of stage `task` or `proof`.
    pub fn check_credential(
        &self,
        id: CredentialId,
        now: Time,
        heard: Heard,
    ) -> Result<Live<'_>, Refusal> {
        self.check_open(now, heard)?;
        let client = self.check_client(id.client.number, now)?;
        let credential = client
            .credentials
            .iter()
            .find(|credential| credential.number == id.number && now < credential.expires)
            .ok_or_else(|| {
                Refusal::new(Rule::Credential)
                    .field("jti")
                    .wanted("a live credential of the client")
                    .got(alloc::format!("{id}"))
            })?;
        Ok(Live { client, credential })
    }

    /// The public id of one of its clients.
    #[must_use]
    pub const fn client_id(&self, number: u32) -> ClientId {
        ClientId {
            task: self.id,
            number,
        }
    }

    /// The latest expiry among all credentials ever issued, those of ended clients and revoked ones
    /// included: nothing that verifies offline is accepted after it.
    #[must_use]
    pub fn last_expiry(&self) -> Option<Time> {
        self.clients
            .iter()
            .filter_map(|client| client.last_expiry)
            .max()
    }

    /// The same for one client and everything that was delegated from it.
    #[must_use]
    pub fn last_expiry_under(&self, number: u32) -> Option<Time> {
        let mut under: Vec<u32> = Vec::new();
        let mut last = None;
        for (at, client) in (1u32..).zip(&self.clients) {
            // INVARIANT: a parent's number is lower than its child's, so one pass finds the subtree.
            if at == number || client.parent.is_some_and(|parent| under.contains(&parent)) {
                under.push(at);
                last = last.max(client.last_expiry);
            }
        }
        last
    }
}

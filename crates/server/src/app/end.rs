//! Ends by a client itself: of the client and its subtree, or of the whole task by a root client.

use dayfly_domain::{
    Cause, ClientId, ClientState, Command, Digest, EndClient, EndTask, Outcome, Refusal, Rule,
    Span, TaskId, TaskState, Time, decide,
};
use dayfly_store::{Append, OpenTask};

use super::authenticate::{OwnToken, Presented, ended, same_task};
use super::plan::change;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// For how long after an end the same key may ask for it again.
pub(super) const REPEAT: Span = Span::from_seconds(600);
/// How often an end is decided anew. It must not give up before those who keep its task moving:
/// each of them goes before it once a commit at most.
pub(super) const ATTEMPTS: usize = 4096;

/// What is to end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// A client and its subtree.
    Client(ClientId),
    /// The task.
    Task(TaskId),
}

impl End {
    const fn task(self) -> TaskId {
        match self {
            Self::Client(client) => client.task,
            Self::Task(task) => task,
        }
    }
}

/// The answer to an end, the same however often it is asked for, but for a later head.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The task.
    pub task: TaskId,
    /// The client that ended; none when the whole task was asked to end.
    pub client: Option<ClientId>,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Time,
    /// When the last credential that could be accepted without asking expires.
    pub last_possible_acceptance: Time,
    /// Whether the whole task has ended.
    pub task_ended: bool,
    /// A signed head of the ledger that holds the end.
    pub head: String,
}

impl App {
    /// Ends a client or a task for its own client, which proves its key.
    ///
    /// # Errors
    /// The refusal.
    pub async fn end(
        &self,
        tenant: &Tenant,
        end: End,
        outcome: Outcome,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<Ended, Refused> {
        match self.try_end(tenant, end, outcome, presented, trail).await {
            Ok(ended) => Ok(ended),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_end(
        &self,
        tenant: &Tenant,
        end: End,
        outcome: Outcome,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<Ended, Refusal> {
        let own = self.own_token(tenant, presented.token)?;
        trail.task = Some(own.id.client.task);
        same_task(end.task(), own.id.client)?;
        if own.jkt.is_none() {
            return Err(Refusal::new(Rule::KeyProofMissing)
                .field("DPoP")
                .wanted(
                    "a proof by the client's key: a bearer credential may read and beat, not end",
                )
                .got("a bearer credential")
                .hint("revoke the credential instead"));
        }
        let now = self.now();
        let open = self.open_task(tenant, own.id.client.task)?;
        if let Some(open) = open.filter(|open| client_active(open, own.id.client)) {
            self.check_live(tenant, &own, now)?;
            self.prove_key(tenant, presented, own.jkt, now)?;
            trail.client = Some(own.id.client);
            trail.workload = Some(open.task.workload.clone());
            check_may_end(&open, end, own.id.client)?;
            self.commit_end(tenant, end, outcome.into(), open).await?;
            self.ended_answer(tenant, end)
        } else {
            self.repeated_end(tenant, end, presented, &own, now)
        }
    }

    /// Commits the end, deciding anew while the task moves under it. Whoever ended it meanwhile,
    /// it has ended.
    pub(super) async fn commit_end(
        &self,
        tenant: &Tenant,
        end: End,
        cause: Cause,
        mut open: OpenTask,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let heard = open.heard;
            let events = match end {
                End::Client(client) => decide(
                    Some(&open.task),
                    &Command::EndClient(EndClient {
                        now,
                        heard,
                        client: client.number,
                        cause,
                    }),
                ),
                End::Task(_) => decide(
                    Some(&open.task),
                    &Command::EndTask(EndTask { now, heard, cause }),
                ),
            }?;
            let change = change(Some(&open.task), open.task.id, events, None)?;
            let append = Append {
                now,
                changes: vec![change],
                ..Append::default()
            };
            match self.store.append(tenant.name(), append).await {
                Ok(_) => return Ok(()),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            match self.open_task(tenant, open.task.id)? {
                Some(again) => open = again,
                None => return Ok(()),
            }
            if let End::Client(client) = end
                && !client_active(&open, client)
            {
                return Ok(());
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// The answer to an end that is committed, read from the record.
    pub(super) fn ended_answer(&self, tenant: &Tenant, end: End) -> Result<Ended, Refusal> {
        let task = self
            .recorded_task(tenant, end.task())?
            .ok_or_else(|| ended("no such task"))?;
        let of_task = match task.state {
            TaskState::Ended { cause, at } => Some((cause, at)),
            TaskState::Open => None,
        };
        let (client, (cause, at)) = match end {
            End::Task(_) => (None, of_task.ok_or_else(|| ended("it is open"))?),
            End::Client(client) => {
                let own = task.client(client.number).and_then(|c| match c.state {
                    ClientState::Ended { cause, at } => Some((cause, at)),
                    ClientState::Active => None,
                });
                let found = own
                    .or(of_task)
                    .ok_or_else(|| ended("the client is active"))?;
                (Some(client), found)
            }
        };
        let acceptable_until = match end {
            End::Task(_) => task.last_expiry(),
            End::Client(client) => task.last_expiry_under(client.number),
        };
        Ok(Ended {
            task: task.id,
            client,
            cause,
            at,
            last_possible_acceptance: acceptable_until.unwrap_or(at).max(at),
            task_ended: of_task.is_some(),
            head: self.head_note(tenant).map_err(|why| unavailable(&why))?,
        })
    }

    /// Answers the same key again for ten minutes after the end, whatever has expired meanwhile.
    fn repeated_end(
        &self,
        tenant: &Tenant,
        end: End,
        presented: &Presented<'_>,
        own: &OwnToken,
        now: Time,
    ) -> Result<Ended, Refusal> {
        self.check_ended_caller(tenant, presented, own, now)?;
        let answer = self.ended_answer(tenant, end)?;
        if now > answer.at + REPEAT {
            return Err(ended("longer ago than ten minutes"));
        }
        Ok(answer)
    }

    /// Checks the caller of an ended task or client: one of its tokens, and the key it was bound to.
    pub(super) fn check_ended_caller(
        &self,
        tenant: &Tenant,
        presented: &Presented<'_>,
        own: &OwnToken,
        now: Time,
    ) -> Result<(), Refusal> {
        if own.jkt.is_none() {
            return Err(ended("over"));
        }
        // The key first: replaying a task costs, and whoever holds but its token is not worth it.
        self.prove_key(tenant, presented, own.jkt, now)?;
        let task = self
            .recorded_task(tenant, own.id.client.task)?
            .ok_or_else(|| ended("no such task"))?;
        let bound: Option<Digest> = task
            .client(own.id.client.number)
            .and_then(|client| client.jkt);
        if bound != own.jkt {
            return Err(ended("over"));
        }
        Ok(())
    }
}

pub(super) fn client_active(open: &OpenTask, client: ClientId) -> bool {
    open.task
        .client(client.number)
        .is_some_and(|client| matches!(client.state, ClientState::Active))
}

/// A root client may end its task and any client of it; any client itself and its subtree.
fn check_may_end(open: &OpenTask, end: End, caller: ClientId) -> Result<(), Refusal> {
    let root = open
        .task
        .client(caller.number)
        .is_some_and(|client| client.parent.is_none());
    let refused = |wanted: &str| {
        Err(Refusal::new(Rule::RootOnly)
            .field("client")
            .wanted(wanted)
            .got(caller.to_string()))
    };
    match end {
        End::Task(_) if root => Ok(()),
        End::Task(_) => refused("a root client of the task"),
        End::Client(client) => {
            let mut at = Some(client.number);
            // INVARIANT: a parent's number is lower than its child's, so the walk ends.
            while let Some(number) = at {
                if number == caller.number {
                    return Ok(());
                }
                at = open
                    .task
                    .client(number)
                    .and_then(|client| client.parent)
                    .filter(|parent| *parent < number);
            }
            refused("the client itself or one it was delegated from")
        }
    }
}

//! Ends by a client itself: of the client and its subtree, or of the whole task by a root client.

use dayfly_domain::{
    Cause, ClientId, ClientState, Command, EndClient, EndTask, Event, Moved, Outcome, Refusal,
    Rule, Span, Sweep, Task, TaskId, TaskState, Time, decide,
};
use dayfly_store::{Append, OpenTask};

use super::authenticate::{OwnToken, Presented, ended, same_task};
use super::cut::Blocking;
use super::ending::recorded;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// For how long after an end the same key may ask for it again.
const REPEAT: Span = Span::from_seconds(600);
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
    pub(super) const fn task(self) -> TaskId {
        match self {
            Self::Client(client) => client.task,
            Self::Task(task) => task,
        }
    }
}

/// The answer to an end, the same however often it is asked for, but for a head that may be later
/// (docs/decisions/0017).
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
    /// When the last credential that could be accepted without asking expires, or the end where
    /// none outlives it: computed from the expiry of every credential that was ever issued below
    /// it. In this build nobody who checks publishes a bound of its own; one who caches an answer
    /// adds its own time.
    pub last_possible_acceptance: Time,
    /// Whether the whole task has ended.
    pub task_ended: bool,
    /// What the end of a task by hand keeps from starting again: its series.
    pub block: Blocking,
    /// A signed head of the ledger: of one that holds the end, or the last one before it while the
    /// ledger is stalled; none where no head can be handed out.
    pub head: Option<String>,
    /// Whether the end outlives this process; it is obeyed in any case.
    pub recorded: bool,
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
        let Some(open) = open.filter(|open| client_active(open, own.id.client)) else {
            return self.repeated_end(tenant, end, presented, &own, now).await;
        };
        // A task whose end is due is over, recorded or not: this very call records it, and its
        // client is answered now as it would be after the next sweep.
        if open.stale.is_some() || open.task.lapsed(now, open.heard).is_some() {
            check_bound(&open.task, &own)?;
        } else {
            self.check_live(tenant, &own, now)?;
        }
        self.prove_key(tenant, presented, own.jkt, now)?;
        trail.client = Some(own.id.client);
        trail.workload = Some(open.task.workload.clone());
        check_may_end(&open.task, end, own.id.client)?;
        if let Some(answer) = self.ended_before(tenant, end, &open.task, now)? {
            return Ok(self.with_durability(tenant, answer).await);
        }
        let (recorded, answer) = self.commit_end(tenant, end, outcome.into(), open).await?;
        let answer = match answer {
            Some(answer) => self.with_head(tenant, answer),
            None => self.ended_answer(tenant, end).await?,
        };
        Ok(Ended { recorded, ..answer })
    }

    /// The first answer again for a caller that lives on, when what it asks to end ended before.
    fn ended_before(
        &self,
        tenant: &Tenant,
        end: End,
        task: &Task,
        now: Time,
    ) -> Result<Option<Ended>, Refusal> {
        match ended_of(task, end) {
            None => Ok(None),
            Some((_, at)) => {
                check_lately(at, now)?;
                self.answer_of(tenant, task, end).map(Some)
            }
        }
    }

    /// Commits the end, deciding anew while the task moves under it. Whoever ended it meanwhile,
    /// it has ended. Whether that is durable, and the answer but for its head where it was this end.
    async fn commit_end(
        &self,
        tenant: &Tenant,
        end: End,
        cause: Cause,
        mut open: OpenTask,
    ) -> Result<(bool, Option<Ended>), Refusal> {
        for _ in 0..ATTEMPTS {
            let append = self.append_of_end(tenant, end, cause, open)?;
            let change = append.changes.first();
            let answer = change.map(|change| answer(&change.next, end)).transpose()?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => return Ok((done.is_durable(), answer)),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            match self.open_task(tenant, end.task())? {
                Some(again) => open = again,
                None => return Ok((self.held.keeps_all(tenant.name()).await, None)),
            }
            if let End::Client(client) = end
                && !client_active(&open, client)
            {
                return Ok((self.held.keeps_all(tenant.name()).await, None));
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// What records an end as it is decided now, with who and why where rights were taken before.
    pub(super) fn append_of_end(
        &self,
        tenant: &Tenant,
        end: End,
        cause: Cause,
        open: OpenTask,
    ) -> Result<Append, Refusal> {
        let now = self.now();
        let moves = self.moves_of_one(tenant, &open)?;
        let events = decide_end(&open, end, cause, now, moves.first(&open, now))?;
        let whys = moves.whys(&open, &events);
        recorded(open, events, now, whys)
    }

    /// The answer to an end that is committed, read from the record.
    async fn ended_answer(&self, tenant: &Tenant, end: End) -> Result<Ended, Refusal> {
        let task = self
            .recorded_task(tenant, end.task())
            .await?
            .ok_or_else(|| ended("no such task"))?;
        self.answer_of(tenant, &task, end)
    }

    /// The answer to an end, from the task as the record has it, with the last head.
    pub(super) fn answer_of(
        &self,
        tenant: &Tenant,
        task: &Task,
        end: End,
    ) -> Result<Ended, Refusal> {
        Ok(self.with_head(tenant, answer(task, end)?))
    }

    /// An answer with the last head: asked for only when the end is recorded or held.
    pub(super) fn with_head(&self, tenant: &Tenant, answer: Ended) -> Ended {
        Ended {
            head: self.last_head_note(tenant),
            ..answer
        }
    }

    /// Answers the same key again for ten minutes after the end, whatever has expired meanwhile:
    /// after its own end, and after the end of what it asks about, which it must have been allowed
    /// to end.
    async fn repeated_end(
        &self,
        tenant: &Tenant,
        end: End,
        presented: &Presented<'_>,
        own: &OwnToken,
        now: Time,
    ) -> Result<Ended, Refusal> {
        let task = self.check_ended_caller(tenant, presented, own, now).await?;
        // Who may not end it learns nothing more than that its own credential is over: neither
        // whether the other is open nor when it ended.
        check_may_end(&task, end, own.id.client).map_err(|_| ended("over"))?;
        let (_, at) = ended_of(&task, end).ok_or_else(|| ended("it is open"))?;
        check_lately(at, now)?;
        let answer = self.answer_of(tenant, &task, end)?;
        Ok(self.with_durability(tenant, answer).await)
    }

    /// An answer that is given again, with whether what it says outlives this process by now.
    async fn with_durability(&self, tenant: &Tenant, answer: Ended) -> Ended {
        Ended {
            recorded: self.held.keeps_all(tenant.name()).await,
            ..answer
        }
    }

    /// Checks the caller of a task or client that ended within the last ten minutes: one of its
    /// tokens, and the key it was bound to. Gives the task as the record has it.
    pub(super) async fn check_ended_caller(
        &self,
        tenant: &Tenant,
        presented: &Presented<'_>,
        own: &OwnToken,
        now: Time,
    ) -> Result<Task, Refusal> {
        if own.jkt.is_none() {
            return Err(ended("over"));
        }
        // The key first: replaying a task costs, and whoever holds but its token is not worth it.
        self.prove_key(tenant, presented, own.jkt, now)?;
        let task = self
            .recorded_task(tenant, own.id.client.task)
            .await?
            .ok_or_else(|| ended("no such task"))?;
        check_bound(&task, own)?;
        let (_, at) =
            ended_of(&task, End::Client(own.id.client)).ok_or_else(|| ended("it is open"))?;
        check_lately(at, now)?;
        Ok(task)
    }
}

/// What ends a task or a client of it; `moved` is what took its rights away.
fn decide_end(
    open: &OpenTask,
    end: End,
    cause: Cause,
    now: Time,
    moved: Option<Moved>,
) -> Result<Vec<Event>, Refusal> {
    let heard = open.heard;
    let command = match (moved, end) {
        // What took its rights away has ended it already: this call records it.
        (moved @ Some(_), _) => Command::Sweep(Sweep {
            now,
            heard,
            moved,
            fallen: &[],
        }),
        (None, End::Client(client)) => Command::EndClient(EndClient {
            now,
            heard,
            client: client.number,
            cause,
            by: None,
        }),
        (None, End::Task(_)) => Command::EndTask(EndTask {
            now,
            heard,
            cause,
            by: None,
        }),
    };
    decide(Some(&open.task), &command)
}

/// The answer to an end but for its head. All of it follows from the state that the end left, so it
/// is the same whenever it is asked for.
pub(super) fn answer(task: &Task, end: End) -> Result<Ended, Refusal> {
    let (cause, at) = ended_of(task, end).ok_or_else(|| ended("it is open"))?;
    let (client, acceptable_until) = match end {
        End::Task(_) => (None, task.last_expiry()),
        End::Client(client) => (Some(client), task.last_expiry_under(client.number)),
    };
    let task_ended = match &task.state {
        // What ended the task later is no part of the first answer.
        TaskState::Ended { at: of_task, .. } => *of_task <= at,
        TaskState::Open | TaskState::Pending(_) => false,
    };
    Ok(Ended {
        task: task.id,
        client,
        cause,
        at,
        last_possible_acceptance: acceptable_until.unwrap_or(at).max(at),
        task_ended,
        block: Blocking::Nothing,
        head: None,
        recorded: true,
    })
}

/// Cause and time of an end as the record has it: a client ends with its task at the latest.
fn ended_of(task: &Task, end: End) -> Option<(Cause, Time)> {
    let of_task = match &task.state {
        TaskState::Ended { cause, at } => Some((*cause, *at)),
        TaskState::Open | TaskState::Pending(_) => None,
    };
    match end {
        End::Task(_) => of_task,
        End::Client(client) => match task.client(client.number)?.state {
            ClientState::Ended { cause, at } => Some((cause, at)),
            ClientState::Active => of_task,
        },
    }
}

fn check_lately(at: Time, now: Time) -> Result<(), Refusal> {
    if now <= at + REPEAT {
        return Ok(());
    }
    Err(Refusal::new(Rule::TaskEnded)
        .field("task")
        .wanted("an end within the last ten minutes")
        .got(at.to_string()))
}

/// Checks that a token is bound to the key that the record has for its client.
fn check_bound(task: &Task, own: &OwnToken) -> Result<(), Refusal> {
    let bound = task
        .client(own.id.client.number)
        .and_then(|client| client.jkt);
    if bound.is_some() && bound == own.jkt {
        return Ok(());
    }
    Err(ended("over"))
}

pub(super) fn client_active(open: &OpenTask, client: ClientId) -> bool {
    open.task
        .client(client.number)
        .is_some_and(|client| matches!(client.state, ClientState::Active))
}

/// A root client may end its task; any client itself and its subtree.
fn check_may_end(task: &Task, end: End, caller: ClientId) -> Result<(), Refusal> {
    let root = task
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
                at = task
                    .client(number)
                    .and_then(|client| client.parent)
                    .filter(|parent| *parent < number);
            }
            refused("the client itself or one it was delegated from")
        }
    }
}

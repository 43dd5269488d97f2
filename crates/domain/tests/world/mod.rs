//! A small world for the fixtures: what is declared, what runs, and the store's part of a grant.

mod declare;
mod render;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use dayfly_domain::access::{AccessRequest, Catalog, Detail};
use dayfly_domain::*;

pub(crate) use script::cases;

/// The time of `0s`.
pub(crate) const ZERO: Time = Time::from_seconds(1_767_225_600);

/// Everything that a case declares and everything that its steps left.
pub(crate) struct World {
    catalog: Catalog,
    bounds: Bounds,
    workloads: Vec<Workload>,
    starts: u64,
    blocks: Blocks,
    closed: Vec<Closed>,
    tasks: Vec<Running>,
    claims: Vec<(Name, String, Claim)>,
    spent: BTreeMap<Digest, Spent>,
    /// The rules that refused.
    pub(crate) refused: BTreeSet<Rule>,
}

/// A task and what the store knows beside its state.
struct Running {
    task: Task,
    heard: Heard,
    stale: Option<EpochOf>,
    issued: Vec<CredentialIssued>,
}

/// What a step brings along.
#[derive(Clone)]
pub(crate) struct Step {
    now: Time,
    verb: String,
    args: Vec<String>,
    claims: Claims,
    request: AccessRequest,
    within: Option<String>,
    given: AccessRequest,
}

/// A seal that signs nothing.
struct NoSeal;

impl Seal for NoSeal {
    fn seal(&self, _: TaskId, _: &Workload, draft: &mut CredentialIssued) {
        draft.alg = "none".into();
    }
}

/// The digest that a label such as `p1` or `k1` stands for.
pub(crate) fn digest(label: &str) -> Digest {
    let mut bytes = [0; 32];
    for (slot, byte) in bytes.iter_mut().zip(label.bytes()) {
        *slot = byte;
    }
    Digest(bytes)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl World {
    /// Runs a step and says what came of it.
    pub(crate) fn run(&mut self, step: &Step) -> String {
        let done = match step.verb.as_str() {
            "show" => self.show(step),
            "join" => self.join(step),
            "retry" => self.retry(step),
            "delegate" => self.hand_over(step),
            "issue" => self.issue(step),
            "end" => self.end(step),
            "revoke" => self.revoke(step),
            "sweep" => self.sweep(step),
            "check" => self.check(step),
            "beat" => self.beat(step),
            "approve" => self.approve(step),
            "deny" => self.deny(step),
            "redeem" => self.redeem(step),
            other => panic!("no step is called `{other}`"),
        };
        let text = match done {
            Ok(text) => text,
            Err(refusal) => {
                self.refused.insert(refusal.rule);
                render::refusal(&refusal)
            }
        };
        self.tasks
            .iter()
            .enumerate()
            .fold(text, |text, (index, running)| {
                text.replace(&running.task.id.to_string(), &format!("t{}", index + 1))
            })
    }

    /// `show PROOF [by KEY] [workload NAME] [instance NAME] [reusable] [person NAME] [for PERSON [of
    /// ISSUER] [auth TIME]]`: the whole way of a proof.
    fn show(&mut self, step: &Step) -> Result<String, Refusal> {
        let workload = self.workload(step.after("workload")).clone();
        let proof = self.proof(step, &workload);
        let key = workload.key.read(&proof.claims)?;
        let client = step.client();
        let root = Root {
            now: step.now,
            workload: &workload,
            catalog: &self.catalog.clone(),
            bounds: &self.bounds.clone(),
            proof: &proof,
            client: &client,
            seal: &NoSeal,
        };
        let (admission, task) = self.admit(&root, &key)?;
        let (index, mut text) = match &admission {
            Admission::Start { .. } if workload.approval.is_some() => {
                (self.tasks.len(), "ask".to_string())
            }
            Admission::Start { .. } => (self.tasks.len(), "start".to_string()),
            Admission::Wait => return Ok("waits".into()),
            Admission::Join => (task.unwrap(), "join".to_string()),
            Admission::Retry { client } => (task.unwrap(), format!("retry {client}")),
            Admission::Renew { client } => (task.unwrap(), format!("renew {client}")),
        };
        let command = match &admission {
            Admission::Start {
                supersedes, until, ..
            } => {
                let start = Start {
                    root,
                    id: TaskId([index as u8 + 1; 16]),
                    key: &key,
                    epochs: Vec::new(),
                    until: *until,
                    supersedes: supersedes.clone(),
                };
                start_of(step, &workload, start)
            }
            Admission::Wait => return Ok("waits".into()),
            Admission::Join => Command::Join(self.join_of(root, index)),
            Admission::Retry { client } => Command::Retry(self.retry_of(root, index, *client)),
            Admission::Renew { client } => {
                Command::Issue(self.issue_of(step, (&workload, &[]), index, *client, &[]))
            }
        };
        let state = self.tasks.get(index).map(|running| &running.task);
        let events = decide(state, &command)?;
        if let Admission::Start {
            supersedes,
            replaces,
            ..
        } = &admission
        {
            text += &self.supersede(step.now, supersedes)?;
            self.claims
                .retain(|(_, _, claim)| Some(claim.task) != *replaces);
            self.claim(&workload, &key, index);
        }
        text += &self.take(index, &events);
        if proof.one_time {
            let spent = Spent {
                task: self.tasks[index].task.id,
                client: self.tasks[index].task.clients.len().max(1) as u32,
            };
            self.spent.entry(proof.digest).or_insert(spent);
        }
        Ok(text)
    }

    /// Admits a proof by the facts that a store would read, and says which task is open for it.
    fn admit(&self, root: &Root<'_>, key: &TaskKey) -> Result<(Admission, Option<usize>), Refusal> {
        let (workload, proof) = (root.workload, root.proof);
        let claims: Vec<Claim> = self
            .claims
            .iter()
            .filter(|(issuer, series, _)| *issuer == proof.issuer && *series == key.series)
            .map(|(_, _, claim)| claim.clone())
            .collect();
        let own = claims.iter().find(|claim| {
            claim.workload == workload.name
                && claim.key == key.key
                && claim.state == ClaimState::Open
        });
        let task = own.map(|claim| self.index(claim.task));
        let open = self
            .tasks
            .iter()
            .filter(|running| running.task.workload == workload.name && !running.task.has_ended())
            .count();
        let admission = admit(&Opening {
            now: root.now,
            workload,
            proof,
            key,
            client: root.client,
            claims: &claims,
            closed: &self.closed,
            task: task.map(|index| &self.tasks[index].task),
            spent: self.spent.get(&proof.digest).copied(),
            blocks: &self.blocks,
            counts: Counts {
                open: open as u64,
                starts_last_hour: self.starts,
            },
        })?;
        Ok((admission, task))
    }

    /// `approve TASK by PERSON`.
    fn approve(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        let (running, who) = (&self.tasks[index], step.after("by").unwrap());
        // Each approval has a salt of its own: here, how many there were before it.
        let salted = |salt: usize| digest(&format!("{who}+{salt}"));
        let before = running.task.pending();
        let before = before.map_or(0, |pending| pending.approvals.len());
        let command = Command::Approve(Approve {
            now: step.now,
            stale: running.stale.clone(),
            by: salted(before),
            as_asking: digest(who),
            as_approving: (0..before).map(salted).collect(),
        });
        self.commit(index, &command)
    }

    /// `deny TASK`.
    fn deny(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        let command = Command::Deny(Deny {
            now: step.now,
            by: None,
        });
        self.commit(index, &command)
    }

    /// `redeem TASK`: what was approved is fetched.
    fn redeem(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        let open = self
            .tasks
            .iter()
            .filter(|running| !running.task.has_ended());
        let counts = Counts {
            open: open.count() as u64,
            starts_last_hour: self.starts,
        };
        let running = &self.tasks[index];
        let command = Command::Redeem(Redeem {
            now: step.now,
            stale: running.stale.clone(),
            workload: self.workload(Some(running.task.workload.as_str())),
            catalog: &self.catalog,
            bounds: &self.bounds,
            claims: &step.claims,
            blocks: &self.blocks,
            closed: &self.closed,
            counts,
            seal: &NoSeal,
        });
        let events = decide(Some(&running.task), &command)?;
        Ok(self.take(index, &events))
    }

    fn supersede(&mut self, now: Time, tasks: &[TaskId]) -> Result<String, Refusal> {
        let mut text = String::new();
        for old in tasks {
            let index = self.index(*old);
            let end = Command::EndTask(EndTask {
                now,
                heard: self.tasks[index].heard,
                cause: Cause::Superseded,
                by: None,
            });
            text += &self.commit(index, &end)?;
        }
        Ok(text)
    }

    fn claim(&mut self, workload: &Workload, key: &TaskKey, index: usize) {
        let claim = Claim {
            workload: workload.name.clone(),
            key: key.key.clone(),
            attempt: key.attempt,
            task: TaskId([index as u8 + 1; 16]),
            state: ClaimState::Open,
        };
        self.claims
            .push((workload.issuer.clone(), key.series.clone(), claim));
    }

    /// `join TASK PROOF [by KEY]`: joins without being admitted first.
    fn join(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        self.as_root(step, index, |world, root| {
            Command::Join(world.join_of(root, index))
        })
    }

    /// `retry CLIENT PROOF [by KEY]`: asks again without being admitted first.
    fn retry(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, client, _) = step.place(0);
        self.as_root(step, index, |world, root| {
            Command::Retry(world.retry_of(root, index, client))
        })
    }

    fn as_root(
        &mut self,
        step: &Step,
        index: usize,
        command: impl for<'a> Fn(&Self, Root<'a>) -> Command<'a>,
    ) -> Result<String, Refusal> {
        let workload = self.workload(step.after("workload"));
        let root = Root {
            now: step.now,
            workload,
            catalog: &self.catalog,
            bounds: &self.bounds,
            proof: &self.proof(step, workload),
            client: &step.client(),
            seal: &NoSeal,
        };
        let command = command(self, root);
        let events = decide(Some(&self.tasks[index].task), &command)?;
        Ok(self.take(index, &events))
    }

    /// `issue CLIENT`, below it `within CREDENTIAL` for a token that is narrowed.
    fn issue(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, client, _) = step.place(0);
        let of = self.tasks[index].task.workload.clone();
        let workload = self.workload(Some(of.as_str()));
        let others: Vec<&Workload> = self.workloads.iter().collect();
        let presented: Vec<&CredentialIssued> = step
            .within
            .iter()
            .map(|text| {
                let (index, client, number) = place(text);
                self.tasks[index]
                    .issued
                    .iter()
                    .find(|issued| issued.client == client && issued.credential == number)
                    .unwrap()
            })
            .collect();
        let command =
            Command::Issue(self.issue_of(step, (workload, &others), index, client, &presented));
        let events = decide(Some(&self.tasks[index].task), &command)?;
        Ok(self.take(index, &events))
    }

    /// `delegate PARENT HANDOVER [for KEY] [by KEY] [proof PROOF workload NAME]`, below it what the
    /// hand-over gives (`gives SCOPE`, `gives DETAIL`) and what the first credential is for.
    fn hand_over(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, parent, _) = step.place(0);
        let task = &self.tasks[index].task;
        let handover = Handover {
            digest: digest(&step.args[1]),
            jkt: step.after("for").or(step.after("by")).map(digest),
            given: step.given.clone(),
        };
        let own = self.workload(step.after("workload"));
        let proof = step.after("proof").map(|label| Proof {
            digest: digest(label),
            ..self.proof(step, own)
        });
        let epochs = vec![Epoch {
            of: EpochOf::Workload(own.name.clone()),
            at: 1,
        }];
        let client = step.client();
        let others: Vec<&Workload> = self.workloads.iter().collect();
        let command = Command::Delegate(Delegate {
            now: step.now,
            heard: self.tasks[index].heard,
            stale: self.tasks[index].stale.clone(),
            parent,
            handover: &handover,
            client: &client,
            actor: proof.as_ref().map(|proof| ActorProof {
                proof,
                workload: own,
                key: step.after("key").unwrap_or("1/7/c9"),
                epochs,
            }),
            workload: self.workload(Some(task.workload.as_str())),
            others: &others,
            catalog: &self.catalog,
            bounds: &self.bounds,
            seal: &NoSeal,
        });
        let events = decide(Some(task), &command)?;
        Ok(self.take(index, &events))
    }

    /// `end TASK CAUSE` or `end CLIENT CAUSE`.
    fn end(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, client, _) = step.place(0);
        let cause = serde_json::from_value(step.args[1].clone().into()).unwrap();
        let (now, heard) = (step.now, self.tasks[index].heard);
        let command = if client == 0 {
            Command::EndTask(EndTask {
                now,
                heard,
                cause,
                by: None,
            })
        } else {
            Command::EndClient(EndClient {
                now,
                heard,
                client,
                cause,
                by: None,
            })
        };
        self.commit(index, &command)
    }

    /// `revoke CREDENTIAL`.
    fn revoke(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, client, credential) = step.place(0);
        let command = Command::Revoke(Revoke {
            now: step.now,
            heard: self.tasks[index].heard,
            client,
            credential,
        });
        self.commit(index, &command)
    }

    /// `sweep TASK`, or `sweep TASK CAUSE AT` where rights were taken away.
    fn sweep(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        let fallen: Vec<(u32, Moved)> = step
            .after("fallen")
            .map(|client| {
                let cause = Cause::WorkloadDisabled;
                (
                    place(client).1,
                    Moved {
                        cause,
                        at: step.now,
                    },
                )
            })
            .into_iter()
            .collect();
        let command = Command::Sweep(Sweep {
            now: step.now,
            heard: self.tasks[index].heard,
            moved: step
                .args
                .get(1)
                .filter(|arg| *arg != "fallen")
                .map(|cause| Moved {
                    cause: serde_json::from_value(cause.as_str().into()).unwrap(),
                    at: ZERO + script::span(&step.args[2]),
                }),
            fallen: &fallen,
        });
        self.commit(index, &command)
    }

    /// `check CREDENTIAL`: whether it is live.
    fn check(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, client, number) = step.place(0);
        let running = &self.tasks[index];
        let id = CredentialId {
            client: running.task.client_id(client),
            number,
        };
        running
            .task
            .check_credential(id, step.now, running.heard)
            .map(|live| format!("live until {}", render::time(live.credential.expires)))
    }

    /// `beat TASK`: a root client is heard.
    fn beat(&mut self, step: &Step) -> Result<String, Refusal> {
        let (index, _, _) = step.place(0);
        let running = &mut self.tasks[index];
        running.task.check_open(step.now, running.heard)?;
        running.heard = Heard {
            last_seen: Some(step.now),
            deaf: Span::ZERO,
        };
        Ok("heard".into())
    }

    fn join_of<'a>(&self, root: Root<'a>, index: usize) -> Join<'a> {
        Join {
            root,
            heard: self.tasks[index].heard,
            stale: self.tasks[index].stale.clone(),
        }
    }

    fn retry_of<'a>(&self, root: Root<'a>, index: usize, client: u32) -> Retry<'a> {
        Retry {
            root,
            heard: self.tasks[index].heard,
            stale: self.tasks[index].stale.clone(),
            client,
        }
    }

    fn issue_of<'a>(
        &'a self,
        step: &'a Step,
        (workload, others): (&'a Workload, &'a [&'a Workload]),
        index: usize,
        client: u32,
        presented: &[&'a CredentialIssued],
    ) -> Issue<'a> {
        Issue {
            now: step.now,
            heard: self.tasks[index].heard,
            stale: self.tasks[index].stale.clone(),
            client,
            workload,
            others,
            catalog: &self.catalog,
            bounds: &self.bounds,
            request: &step.request,
            within: presented.first().map(|issued| Within {
                access: &issued.access,
                expires: issued.expires,
            }),
            seal: &NoSeal,
        }
    }

    fn commit(&mut self, index: usize, command: &Command<'_>) -> Result<String, Refusal> {
        let events = decide(Some(&self.tasks[index].task), command)?;
        Ok(self.take(index, &events))
    }

    /// Makes events the state, as the store does, and says what they are.
    fn take(&mut self, index: usize, events: &[Event]) -> String {
        let id = TaskId([index as u8 + 1; 16]);
        let mut task = self.tasks.get(index).map(|running| running.task.clone());
        let mut text = String::new();
        for event in events {
            let ceiling = match (event, &task) {
                (Event::TaskRequested(requested), _) => self
                    .workload(Some(requested.workload.as_str()))
                    .access
                    .clone(),
                (Event::TaskStarted(_), _) | (_, None) => Vec::new(),
                (_, Some(task)) => self.workload(Some(task.workload.as_str())).access.clone(),
            };
            task = apply(task, id, event);
            assert!(task.is_some(), "{event:?} does not apply");
            text += &format!("\n{}", render::event(id, event, &ceiling));
        }
        if events.is_empty() {
            return "nothing".into();
        }
        let task = task.unwrap();
        if let TaskState::Ended { cause, .. } = task.state {
            let deadline = task.deadline;
            for (_, _, claim) in self.claims.iter_mut().filter(|claim| claim.2.task == id) {
                claim.state = ClaimState::Ended { cause, deadline };
            }
        }
        if index == self.tasks.len() {
            let last_seen = task.hears_from_start().then_some(task.opened);
            self.tasks.push(Running {
                task,
                heard: Heard {
                    last_seen,
                    deaf: Span::ZERO,
                },
                stale: None,
                issued: Vec::new(),
            });
        } else {
            self.tasks[index].task = task;
        }
        for event in events {
            if let Event::CredentialIssued(issued) = event {
                self.tasks[index].issued.push(issued.clone());
            }
        }
        text
    }

    fn proof(&self, step: &Step, workload: &Workload) -> Proof {
        let at = usize::from(matches!(step.verb.as_str(), "join" | "retry"));
        Proof {
            issuer: workload.issuer.clone(),
            claims: step.claims.clone().into(),
            digest: digest(&step.args[at]),
            instance: step.after("instance").unwrap_or("job-1").into(),
            one_time: !step.args.iter().any(|arg| arg == "reusable"),
            person: None,
        }
    }

    fn workload(&self, named: Option<&str>) -> &Workload {
        let named = named.unwrap_or("release");
        self.workloads
            .iter()
            .find(|workload| workload.name.as_str() == named)
            .unwrap()
    }

    fn index(&self, id: TaskId) -> usize {
        self.tasks
            .iter()
            .position(|running| running.task.id == id)
            .unwrap()
    }
}

impl Step {
    /// The argument after a word.
    fn after(&self, word: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == word)?;
        self.args.get(at + 1).map(String::as_str)
    }

    fn client(&self) -> NewClient {
        NewClient {
            jkt: self.after("by").map(digest),
            jwk: self.after("by").map(ToString::to_string),
            digest: self.request_digest(),
            subject: self.after("for").map(|person| Subject {
                issuer: name(self.after("of").unwrap_or("staff")),
                person: digest(person),
                authenticated: ZERO + self.after("auth").map_or(Span::ZERO, script::span),
            }),
            request: self.request.clone(),
        }
    }

    fn request_digest(&self) -> Digest {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.request).hash(&mut hasher);
        digest(&hasher.finish().to_string())
    }

    fn place(&self, arg: usize) -> (usize, u32, u32) {
        place(&self.args[arg])
    }
}

/// Starts a task, or asks for the approval that its workload wants.
fn start_of<'a>(step: &Step, workload: &Workload, start: Start<'a>) -> Command<'a> {
    match workload.approval {
        None => Command::Start(start),
        Some(approval) => Command::Request(Request {
            start,
            approval,
            code: digest("code"),
            asked_by: step.after("person").map(digest),
        }),
    }
}

/// Reads `t1`, `t1/2` or `t1/2/3` as the place of a task, client or credential; 0 where none.
fn place(text: &str) -> (usize, u32, u32) {
    let mut parts = text.strip_prefix('t').unwrap().split('/');
    let mut number = || parts.next().map_or(0, |part| part.parse::<u32>().unwrap());
    (number() as usize - 1, number(), number())
}

/// A client delegated from another one, put in by hand where a case is about something else.
fn delegated(parent: u32, of: &Client, expires: Time, access: Vec<Detail>) -> Client {
    Client {
        parent: Some(parent),
        jkt: Some(digest("child")),
        expires,
        access,
        issued: 1,
        last_expiry: Some(expires),
        credentials: vec![Credential {
            number: 1,
            expires,
            hash: digest("child"),
        }],
        ..of.clone()
    }
}

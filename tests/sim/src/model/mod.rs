//! The reference model: in a few plain rules, which credentials must be live.
//!
//! It knows nothing of stores, epochs, versions or journals. An end takes effect in it in the moment
//! in which it is acknowledged, whatever became of its record.

mod approval;
mod findings;
mod people;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Span, TaskId, Time};

use crate::world::Run;

pub(crate) use approval::Pending;
pub(crate) use findings::{Counted, Ends, KINDS};
pub(crate) use people::{Login, Words};
pub(crate) use workloads::{CHILDREN, DEPTH, OWNERS, Proof, WITHIN, WORKLOADS, Workload};

/// What every workload here has.
pub(crate) const WINDOW: Span = Span::from_seconds(3600);
pub(crate) const TTL: Span = Span::from_seconds(300);
pub(crate) const GRACE: Span = Span::from_seconds(300);
/// A pause of the server longer than this is time in which it could not hear.
const PAUSE: Span = Span::from_seconds(5);
/// How many live credentials a client may have.
const LIVE_CREDENTIALS: usize = 16;

/// What is known of the whole.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) now: Time,
    /// The latest that it ever was: what was over then may be recorded as over, though a clock that
    /// was set back says that it is not.
    latest: Time,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) declared: BTreeSet<usize>,
    /// What is stopped, and since when.
    pub(crate) offboarded: BTreeMap<&'static str, Time>,
    pub(crate) disabled: BTreeMap<usize, Time>,
    pub(crate) frozen: Option<Time>,
    /// Runs of which nothing starts again, and since when.
    pub(crate) blocked: BTreeMap<(usize, u64), Time>,
    /// Keys of tasks of which nothing starts, and to which nothing further is given, and since when.
    pub(crate) barred: BTreeMap<(usize, Run), Time>,
    /// What was said of people.
    pub(crate) words: Words,
    /// How tasks ended.
    pub(crate) ends: Ends,
    /// The highest attempt of each run that ever started.
    highest: BTreeMap<(usize, u64), u64>,
    /// Attempts of runs that the platform said are over.
    pub(crate) closed: BTreeSet<(usize, u64, u64)>,
    /// Which task claimed a key.
    claims: BTreeMap<(usize, Run), TaskId>,
    /// When the server last said that it hears, and when it did not.
    alive: Time,
    deaf: Vec<(Time, Time)>,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) workload: usize,
    pub(crate) run: Run,
    /// For whom it runs, and when they had logged in.
    pub(crate) person: Option<Login>,
    /// What it waits for before it opens.
    pub(crate) pending: Option<Pending>,
    pub(crate) deadline: Time,
    pub(crate) clients: Vec<Client>,
    /// The last beat or call that counts, once there was one.
    pub(crate) seen: Option<Time>,
    /// Whether it is not known what of its beats was heard: a crash may have lost some, and an
    /// outage or a jump of the clock gives grace.
    pub(crate) vague: bool,
    /// When its last root client ended.
    left: Option<Time>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Who handed over to it; none came in by a proof.
    pub(crate) parent: Option<usize>,
    /// Which of the callers' keys it holds.
    pub(crate) key: Option<usize>,
    pub(crate) ended: bool,
    pub(crate) credentials: Vec<Credential>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Credential {
    expires: Time,
    revoked: bool,
}

/// What a proof must be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Refused,
    /// It opens a task.
    Starts,
    /// It joins this one.
    Joins(TaskId),
    /// It is the same client again, by its number.
    Again(TaskId, usize),
}

impl Task {
    /// One that opens.
    const fn new(workload: usize, run: Run, person: Option<Login>, now: Time) -> Self {
        Self {
            workload,
            run,
            person,
            pending: None,
            deadline: now,
            clients: Vec::new(),
            seen: None,
            vague: false,
            left: None,
            ended: false,
        }
    }

    /// Whether it is a task and not a request that waits, or waited.
    pub(crate) const fn is_opened(&self) -> bool {
        self.pending.is_none()
    }

    /// A client and those above it, up to its root.
    fn line(&self, client: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(client), |number| self.clients[number - 1].parent)
    }

    /// Whether neither a client nor one above it has ended.
    fn is_alive(&self, client: usize) -> bool {
        self.line(client)
            .all(|number| !self.clients[number - 1].ended)
    }
}

impl Model {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            now,
            latest: now,
            tasks: BTreeMap::new(),
            declared: (0..WORKLOADS.len()).collect(),
            offboarded: BTreeMap::new(),
            disabled: BTreeMap::new(),
            frozen: None,
            blocked: BTreeMap::new(),
            barred: BTreeMap::new(),
            words: Words::default(),
            ends: Ends::default(),
            highest: BTreeMap::new(),
            closed: BTreeSet::new(),
            claims: BTreeMap::new(),
            alive: now,
            deaf: Vec::new(),
        }
    }

    /// Which task a key names: the run where jobs join, else the job. The attempt is no part of it.
    pub(crate) const fn key(workload: usize, run: Run) -> (usize, Run) {
        let job = if WORKLOADS[workload].joins {
            0
        } else {
            run.job
        };
        (
            workload,
            Run {
                attempt: 0,
                job,
                ..run
            },
        )
    }

    /// The clock stands there now.
    pub(crate) fn at(&mut self, now: Time) {
        self.now = now;
        self.latest = self.latest.max(now);
    }

    /// Whether a task is over, recorded or not.
    pub(crate) fn is_over(&self, task: &Task) -> bool {
        Self::is_over_at(task, self.now) || (!task.vague && self.is_silent(task))
    }

    fn is_over_at(task: &Task, at: Time) -> bool {
        let linger = WORKLOADS[task.workload].linger;
        let lingered = task.left.is_some_and(|left| at >= left + linger);
        task.ended || at >= task.deadline || lingered
    }

    /// Whether it fell silent, by what is known.
    fn is_silent(&self, task: &Task) -> bool {
        let Some(seen) = task.seen.filter(|_| task.left.is_none()) else {
            return false;
        };
        let deaf = self
            .deaf
            .iter()
            .map(|(from, to)| to.since((*from).max(seen)));
        self.now > deaf.fold(seen + GRACE, |until, span| until + span)
    }

    /// Whether nobody can say if a task is over: it was not heard for a grace, and grace may have
    /// been given since.
    pub(crate) fn is_doubtful(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|task| {
            let unheard = task.seen.is_some_and(|seen| self.now > seen + GRACE);
            let was_over = Self::is_over_at(task, self.latest);
            ((task.vague && unheard) || was_over) && !self.is_over(task)
        })
    }

    /// Whether a credential may have been struck off the record before the clock was set back.
    pub(crate) fn is_struck(&self, task: TaskId, client: usize, credential: usize) -> bool {
        self.expiry(task, client, credential) <= self.latest
    }

    /// Whether the clock was set back and has not made up for it.
    pub(crate) fn is_behind(&self) -> bool {
        self.now < self.latest
    }

    /// Whether a credential of a client is live; numbers count from 1.
    pub(crate) fn is_live(&self, task: TaskId, client: usize, credential: usize) -> bool {
        let Some(task) = self.tasks.get(&task) else {
            return false;
        };
        let credential = task.clients[client - 1].credentials[credential - 1];
        let alive = !self.is_over(task) && task.is_alive(client);
        alive && !credential.revoked && self.now < credential.expires
    }

    /// Whether a client may have something further: for whoever is out, and where the key is blocked,
    /// there is no more.
    pub(crate) fn may_act(&self, task: TaskId, client: usize) -> bool {
        let of = &self.tasks[&task];
        let barred = self.barred.contains_key(&Self::key(of.workload, of.run));
        self.is_client_alive(task, client) && !barred && !self.is_for_nobody(of.person)
    }

    /// Whether a client is there still.
    pub(crate) fn is_client_alive(&self, task: TaskId, client: usize) -> bool {
        let found = self.tasks.get(&task);
        found.is_some_and(|task| !self.is_over(task) && task.is_alive(client))
    }

    /// Whether a client may hand over once more, to whoever holds this key.
    pub(crate) fn may_hand_over(&self, task: TaskId, client: usize, key: usize) -> bool {
        let task = &self.tasks[&task];
        if task.clients.iter().any(|client| client.key == Some(key)) {
            return false;
        }
        let depth = task.line(client).count() - 1;
        let children = task.clients.iter().filter(|client| client.parent.is_some());
        WORKLOADS[task.workload].delegates && depth < DEPTH && children.count() < CHILDREN
    }

    /// Whether a client may have one more credential.
    pub(crate) fn has_room(&self, task: TaskId, client: usize) -> bool {
        let credentials = &self.tasks[&task].clients[client - 1].credentials;
        let live = credentials
            .iter()
            .filter(|credential| !credential.revoked && self.now < credential.expires);
        live.count() < LIVE_CREDENTIALS
    }

    fn is_stopped(&self, workload: usize, run: Run) -> bool {
        self.frozen.is_some()
            || !self.declared.contains(&workload)
            || self.disabled.contains_key(&workload)
            || self.offboarded.contains_key(WORKLOADS[workload].owner)
            || self.blocked.contains_key(&(workload, run.id))
            || self.barred.contains_key(&Self::key(workload, run))
            || self.closed.contains(&(workload, run.id, run.attempt))
    }

    /// What a fresh proof of a run must be answered with, on behalf of this person.
    pub(crate) fn admit(&self, workload: usize, run: Run, person: Option<Login>) -> Admission {
        let highest = self.highest.get(&(workload, run.id)).copied();
        let stopped = self.is_stopped(workload, run) || self.is_for_nobody(person);
        if stopped || highest > Some(run.attempt) {
            return Admission::Refused;
        }
        let claim = self.claims.get(&Self::key(workload, run));
        let Some((id, task)) = claim
            .and_then(|id| self.tasks.get_key_value(id))
            .filter(|(_, task)| task.run.attempt == run.attempt)
        else {
            return Admission::Starts;
        };
        let of = WORKLOADS[workload];
        if of.joins && !self.is_over(task) {
            Admission::Joins(*id)
        } else if of.bearer && self.is_client_alive(*id, 1) && self.has_room(*id, 1) {
            // Without a key a client renews by a fresh proof of the same job.
            Admission::Again(*id, 1)
        } else {
            Admission::Refused
        }
    }

    /// What the same proof must be answered with that a client came in by.
    pub(crate) fn admit_again(&self, workload: usize, task: TaskId, client: usize) -> Admission {
        let found = &self.tasks[&task];
        let highest = self.highest.get(&(workload, found.run.id)).copied();
        let may = !self.is_stopped(workload, found.run)
            && !self.is_for_nobody(found.person)
            && highest <= Some(found.run.attempt)
            && self.is_client_alive(task, client)
            && self.has_room(task, client)
            && !WORKLOADS[workload].bearer;
        if may {
            Admission::Again(task, client)
        } else {
            Admission::Refused
        }
    }

    /// A task opens with its first client.
    pub(crate) fn start(
        &mut self,
        id: TaskId,
        workload: usize,
        run: Run,
        person: Option<Login>,
        key: Option<usize>,
    ) {
        let task = Task {
            deadline: self.now + WINDOW,
            ..Task::new(workload, run, person, self.now)
        };
        self.open(id, task);
        self.join(id, key);
    }

    /// A task takes its place: every open one of a lower attempt of its run ends.
    fn open(&mut self, id: TaskId, task: Task) {
        let (workload, run) = (task.workload, task.run);
        for task in self.tasks.values_mut() {
            let older = task.run.attempt < run.attempt;
            task.ended |= task.workload == workload && task.run.id == run.id && older;
        }
        self.highest.insert((workload, run.id), run.attempt);
        self.claims.insert(Self::key(workload, run), id);
        self.tasks.insert(id, task);
    }

    /// A client joins; gives its number.
    pub(crate) fn join(&mut self, id: TaskId, key: Option<usize>) -> usize {
        self.add(id, None, key)
    }

    /// A client is handed something over by another; gives its number.
    pub(crate) fn hand_over(&mut self, id: TaskId, parent: usize, key: usize) -> usize {
        self.add(id, Some(parent), Some(key))
    }

    fn add(&mut self, id: TaskId, parent: Option<usize>, key: Option<usize>) -> usize {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else {
            panic!("a client of nothing");
        };
        if parent.is_none() {
            task.left = None;
        }
        task.clients.push(Client {
            parent,
            key,
            ended: false,
            credentials: Vec::new(),
        });
        let number = task.clients.len();
        self.issue(id, number, now + TTL);
        number
    }

    /// A credential is issued, which lives until then at the latest, and its answer is heard; gives
    /// its number and its expiry.
    pub(crate) fn issue(&mut self, id: TaskId, client: usize, until: Time) -> (usize, Time) {
        let now = self.now;
        if let Some(task) = self.tasks.get_mut(&id)
            && task.clients[client - 1].parent.is_none()
        {
            // A call of a root client counts as a beat, once beats are watched.
            task.seen = task.seen.map(|_| now);
        }
        self.issue_unheard(id, client, until)
    }

    /// The same, of which nobody was told.
    pub(crate) fn issue_unheard(
        &mut self,
        id: TaskId,
        client: usize,
        until: Time,
    ) -> (usize, Time) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else {
            panic!("a credential of nothing");
        };
        let expires = (now + TTL).min(task.deadline).min(until);
        let credentials = &mut task.clients[client - 1].credentials;
        credentials.push(Credential {
            expires,
            revoked: false,
        });
        (credentials.len(), expires)
    }

    /// When a credential expires.
    pub(crate) fn expiry(&self, task: TaskId, client: usize, credential: usize) -> Time {
        self.tasks[&task].clients[client - 1].credentials[credential - 1].expires
    }

    /// A beat is heard. While the clock jumps or the ledger stalls nobody can say what it is worth.
    pub(crate) fn beat(&mut self, id: TaskId, is_clear: bool) {
        let now = self.now;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.vague = !is_clear;
            task.seen = Some(now);
        }
    }

    /// How many open tasks are watched for silence.
    pub(crate) fn watched(&self) -> usize {
        let watched = |task: &&Task| task.seen.is_some() && !task.ended;
        self.tasks.values().filter(watched).count()
    }

    /// Nobody can say any more how long what was watched has been silent.
    pub(crate) fn blur(&mut self) {
        for task in self.tasks.values_mut() {
            task.vague |= task.seen.is_some();
        }
    }

    pub(crate) fn end_client(&mut self, id: TaskId, client: usize) {
        let now = self.now;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.clients[client - 1].ended = true;
            let mut roots = task.clients.iter().filter(|client| client.parent.is_none());
            if roots.all(|root| root.ended) {
                task.left = Some(now);
                // Without a linger the end of the last client is the end of the task.
                task.ended |= WORKLOADS[task.workload].linger == Span::ZERO;
            }
        }
    }

    /// A credential is given back: the newest ends its client, another one only itself.
    pub(crate) fn revoke(&mut self, id: TaskId, client: usize, credential: usize) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let credentials = &mut task.clients[client - 1].credentials;
        if credential == credentials.len() {
            self.end_client(id, client);
        } else {
            credentials[credential - 1].revoked = true;
        }
    }

    /// Ends every task for which this holds; gives those that were not over.
    pub(crate) fn end_where(&mut self, ends: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        let open = self.tasks.iter().filter(|(_, task)| !self.is_over(task));
        let ended: Vec<TaskId> = open
            .filter(|(_, task)| ends(task))
            .map(|(id, _)| *id)
            .collect();
        for task in self.tasks.values_mut() {
            task.ended |= ends(task);
        }
        ended
    }

    pub(crate) fn end_task(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.ended = true;
        }
    }

    /// The server says that it hears, as it does with each sweep.
    pub(crate) fn hear(&mut self) {
        if self.now.since(self.alive) > PAUSE {
            self.deaf.push((self.alive, self.now));
        }
        self.alive = self.alive.max(self.now);
    }

    /// The same, which whoever asks for a task makes it say after a pause.
    pub(crate) fn wake(&mut self) {
        if self.now.since(self.alive) > PAUSE {
            self.hear();
        }
    }
}

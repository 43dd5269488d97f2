//! A task as the record has it: from the hot tables while it is open, replayed from its entries after.

use std::collections::BTreeMap;

use dayfly_domain::{
    Cause, Client, ClientState, Epoch, EpochOf, Event, Heard, Name, Task, TaskId, TaskState, apply,
};
use dayfly_store::{EntryRange, FactsQuery, OpenTask, Store};

use super::end::EndNote;
use super::entry::{Annexed, Entry, each_of};
use super::error::RecordError;
use super::view::{ClientStanding, ClientView, CredentialView, Standing, SubjectView, TaskView};

/// A task, open or ended, without the reason of its end and without names: what its own clients may
/// see.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn task_view(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
) -> Result<Option<TaskView>, RecordError> {
    Ok(load(store, tenant, task)?.map(|found| {
        let mut view = found.view();
        if let Standing::Ended { note, .. } = &mut view.standing {
            *note = EndNote::default();
        }
        for client in &mut view.clients {
            if let ClientStanding::Ended { note, .. } = &mut client.standing {
                *note = EndNote::default();
            }
        }
        view
    }))
}

/// A task, open or ended, with who ended it and why, and on whose behalf it runs.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn task_record(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
) -> Result<Option<TaskView>, RecordError> {
    let Some(found) = load(store, tenant, task)? else {
        return Ok(None);
    };
    let mut view = found.view();
    name_person(store, tenant, &mut view)?;
    Ok(Some(view))
}

/// How many entries are looked at for the person of a task: who opened it stands among them.
const FIRST: usize = 4;

/// Puts the name of the person into a view, as the annexes of the task still say it.
pub(super) fn name_person(
    store: &dyn Store,
    tenant: &Name,
    view: &mut TaskView,
) -> Result<(), RecordError> {
    let Some(subject) = &mut view.subject else {
        return Ok(());
    };
    for stored in store.entries(tenant, EntryRange::Of(view.task, 1), FIRST)? {
        let entry = Entry::read(&stored)?;
        let Annexed::Here(annex) = &entry.annex else {
            continue;
        };
        let claims = annex.get("subject").and_then(|person| person.get("claims"));
        let claim = |name: &str| Some(claims?.get(name)?.as_str()?.to_owned());
        if let (Some(iss), Some(sub)) = (claim("iss"), claim("sub")) {
            subject.iss = Some(iss);
            subject.sub = Some(sub);
            break;
        }
    }
    Ok(())
}

/// The state of a task, open or ended.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn task_state(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
) -> Result<Option<Task>, RecordError> {
    Ok(load(store, tenant, task)?.map(|found| found.task))
}

/// A task that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) task: Task,
    heard: Heard,
    stale: Option<EpochOf>,
    /// The epochs that active delegated clients rely on beside it and that have moved since.
    lost: Vec<Epoch>,
    /// What the last of its entries that were read says.
    note: EndNote,
    /// Who ended clients of it and why, as far as entries were read.
    clients: BTreeMap<u32, EndNote>,
}

impl From<OpenTask> for Found {
    fn from(open: OpenTask) -> Self {
        Self {
            task: open.task,
            heard: open.heard,
            stale: open.stale,
            lost: open.lost,
            note: EndNote::default(),
            clients: BTreeMap::new(),
        }
    }
}

/// Finds a task.
pub(super) fn load(
    store: &dyn Store,
    tenant: &Name,
    id: TaskId,
) -> Result<Option<Found>, RecordError> {
    let query = FactsQuery {
        tasks: &[id],
        ..FactsQuery::default()
    };
    let facts = store.facts(tenant, &query)?;
    match facts.tasks.into_iter().flatten().next() {
        Some(open) => Ok(Some(open.into())),
        None => replay(store, tenant, id),
    }
}

/// Builds the state of a task from its entries alone; none where there are none.
pub(super) fn replay(
    store: &dyn Store,
    tenant: &Name,
    id: TaskId,
) -> Result<Option<Found>, RecordError> {
    let mut found: Option<Found> = None;
    each_of(store, tenant, id, |stored| {
        let entry = Entry::read(stored)?;
        let note = EndNote::of(store, tenant, &entry)?;
        found = Some(step(found.take(), id, &entry, note)?);
        Ok(())
    })?;
    Ok(found)
}

fn step(
    before: Option<Found>,
    id: TaskId,
    entry: &Entry,
    note: EndNote,
) -> Result<Found, RecordError> {
    let (before, mut clients) = match before {
        Some(found) => (Some(found.task), found.clients),
        None => (None, BTreeMap::new()),
    };
    if let Some(Event::ClientEnded(ended)) = entry.event()
        && !note.is_silent()
    {
        clients.insert(ended.client, note.clone());
    }
    let task = entry
        .event()
        .and_then(|event| apply(before, id, event))
        .ok_or_else(|| RecordError::Damaged {
            pos: entry.pos,
            why: "it does not fit the state of its task".to_owned(),
        })?;
    Ok(Found {
        task,
        heard: Heard::default(),
        stale: None,
        lost: Vec::new(),
        note,
        clients,
    })
}

impl Found {
    /// Reads who ended its clients and why; a task that was replayed has that already.
    pub(super) fn with_ends(
        mut self,
        store: &dyn Store,
        tenant: &Name,
    ) -> Result<Self, RecordError> {
        let has_ended = |client: &Client| !client.is_active();
        if self.task.has_ended() || !self.task.clients.iter().any(has_ended) {
            return Ok(self);
        }
        each_of(store, tenant, self.task.id, |stored| {
            let entry = Entry::read(stored)?;
            if let Some(Event::ClientEnded(ended)) = entry.event() {
                let note = EndNote::of(store, tenant, &entry)?;
                self.clients.insert(ended.client, note);
            }
            Ok(())
        })?;
        Ok(self)
    }

    /// Who ended a client and why: what was delegated ends with what it was delegated from.
    fn note_of(&self, number: u32, cause: Cause) -> EndNote {
        let mut at = number;
        let mut cause = cause;
        // INVARIANT: a parent's number is lower than its child's, so the walk goes up and ends.
        while cause == Cause::Parent
            && !self.clients.contains_key(&at)
            && let Some(client) = self.task.client(at)
            && let Some(parent) = client.parent.filter(|parent| *parent < at)
            && let Some(above) = self.task.client(parent)
            && let ClientState::Ended { cause: of, .. } = above.state
        {
            (at, cause) = (parent, of);
        }
        self.clients.get(&at).cloned().unwrap_or_default()
    }

    /// Whether it is open, as recorded.
    pub(super) fn standing(&self) -> Standing {
        match &self.task.state {
            TaskState::Ended { cause, at } => Standing::Ended {
                cause: *cause,
                at: *at,
                note: self.note.clone(),
            },
            TaskState::Pending(pending) => Standing::Pending {
                due: self.task.deadline,
                people: pending.people,
                approvals: pending.approvals.len() as u64,
                approved: pending.approved,
                instance: pending.instance.clone(),
                jkt: pending.jkt,
                access: pending.access.clone(),
                rights_removed: self.stale.as_ref().map(ToString::to_string),
            },
            TaskState::Open => {
                let due = self.task.next_due(self.heard);
                Standing::Open {
                    due,
                    // INVARIANT: at `due` the task has lapsed, so there is a cause.
                    due_cause: self.task.lapsed(due, self.heard).unwrap_or(Cause::Deadline),
                    rights_removed: self.stale.as_ref().map(ToString::to_string),
                }
            }
        }
    }

    /// How it is shown.
    pub(super) fn view(&self) -> TaskView {
        let task = &self.task;
        let last_expiry = task.last_expiry();
        let last_possible_acceptance = match &task.state {
            TaskState::Open | TaskState::Pending(_) => last_expiry,
            TaskState::Ended { at, .. } => last_expiry.max(Some(*at)),
        };
        TaskView {
            task: task.id,
            standing: self.standing(),
            workload: task.workload.clone(),
            owner: task.owner.clone(),
            issuer: task.issuer.clone(),
            key: task.key.clone(),
            series: task.series.clone(),
            attempt: task.attempt,
            subject: task.subject.as_ref().map(|subject| SubjectView {
                issuer: subject.issuer.clone(),
                person: subject.person,
                authenticated: subject.authenticated,
                iss: None,
                sub: None,
            }),
            opened: task.opened,
            deadline: task.deadline,
            heartbeat: task.heartbeat,
            last_seen: self.heard.last_seen,
            issued: task
                .clients
                .iter()
                .map(|client| u64::from(client.issued))
                .sum(),
            last_possible_acceptance,
            entries: task.version,
            clients: self.clients(),
        }
    }

    fn clients(&self) -> Vec<ClientView> {
        let mut views = Vec::with_capacity(self.task.clients.len());
        self.clients_below(None, 0, &mut views);
        views
    }

    /// Adds the clients delegated from `parent`, each followed by its own.
    fn clients_below(&self, parent: Option<u32>, depth: u32, views: &mut Vec<ClientView>) {
        for (number, client) in (1u32..).zip(&self.task.clients) {
            // INVARIANT: a parent's number is lower than its child's, so the walk goes up and ends.
            if client.parent == parent && parent.is_none_or(|parent| parent < number) {
                views.push(self.client(number, client, depth));
                self.clients_below(Some(number), depth + 1, views);
            }
        }
    }

    fn client(&self, number: u32, client: &Client, depth: u32) -> ClientView {
        let id = self.task.client_id(number);
        ClientView {
            client: id,
            parent: client.parent,
            depth,
            workload: client.own.as_ref().map(|own| own.workload.clone()),
            standing: self.client_standing(number, client),
            rights_removed: self
                .task
                .lost_by(number, &self.lost)
                .filter(|_| client.is_active())
                .map(ToString::to_string),
            instance: client.instance.clone(),
            jkt: client.jkt,
            access: client.access.clone(),
            expires: client.expires,
            issued: client.issued,
            credentials: client
                .credentials
                .iter()
                .map(|credential| CredentialView {
                    credential: dayfly_domain::CredentialId {
                        client: id,
                        number: credential.number,
                    },
                    expires: credential.expires,
                    hash: credential.hash,
                })
                .collect(),
        }
    }

    /// Whether a client is active: it ends with its task at the latest.
    fn client_standing(&self, number: u32, client: &Client) -> ClientStanding {
        match (client.state, &self.task.state) {
            (ClientState::Ended { cause, at }, _) => ClientStanding::Ended {
                cause,
                at,
                note: self.note_of(number, cause),
            },
            (ClientState::Active, TaskState::Ended { cause, at }) => ClientStanding::Ended {
                cause: *cause,
                at: *at,
                note: self.note.clone(),
            },
            (ClientState::Active, TaskState::Open | TaskState::Pending(_)) => {
                ClientStanding::Active
            }
        }
    }
}

//! One answer to "who had access, and is it gone?", for whatever a person has at hand.

use std::collections::BTreeSet;

use dayfly_domain::{ClientId, CredentialId, CredentialIssued, Digest, Event, Name, TaskId, Time};
use dayfly_store::{SearchKey, Store};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, each_of, entry_at};
use super::error::RecordError;
use super::gather::{Gathered, Search};
use super::key::TraceKey;
use super::keys::keys;
use super::named::{Named, Whom};
use super::reading::{Known, Reading};
use super::related::{self, Related};
use super::standing::{self, Stands};
use super::task::{Found, load, name_person};
use super::timeline::{self, EntryLine};
use super::uses::{Reports, Uses, Whose};
use super::verdict::{self, Beside, Verdict};
use super::view::{IssuedView, TaskView};

/// What to trace.
#[derive(Clone, Debug)]
pub struct TraceQuery {
    /// By what.
    pub key: TraceKey,
    /// Only what was open or happened at this time or later.
    pub since: Option<Time>,
    /// Only what was open or happened at this time or earlier.
    pub until: Option<Time>,
    /// Now.
    pub now: Time,
}

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The verdict.
    pub verdict: Verdict,
    /// What the key was read as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_as: Vec<String>,
    /// The credential asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<IssuedView>,
    /// The client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// How many tasks there are, each counted as whom of it the key names stands.
    pub counts: Counts,
    /// The tasks: the newest of many, the open ones first.
    pub tasks: Vec<TaskView>,
    /// The tasks that those shown superseded or opened again, and that did so to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// What happened in the tasks shown, in order.
    pub timeline: Vec<EntryLine>,
    /// What the reader should know of the answer itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How many tasks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Live.
    pub live: u64,
    /// Waiting for approval.
    #[serde(default, skip_serializing_if = "none_waits")]
    pub pending: u64,
    /// Over, their end not yet recorded.
    pub over: u64,
    /// Ended.
    pub ended: u64,
    /// Whether there are more that were not looked at.
    pub more: bool,
}

/// Left out where it is none, as it was before there was any.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
const fn none_waits(pending: &u64) -> bool {
    *pending == 0
}

/// How many lines of a timeline are shown.
const LINES: usize = 200;

/// Traces a task, a client, a credential, a token, or whatever tasks have in common.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn trace(
    store: &dyn Store,
    tenant: &Name,
    known: &Known,
    query: &TraceQuery,
) -> Result<Trace, RecordError> {
    let tracing = Tracing {
        store,
        tenant,
        query,
        reports: Reports::of(store, tenant, known)?,
    };
    match &query.key {
        TraceKey::Task(id) => tracing.task(*id),
        TraceKey::Client(id) => tracing.client(*id),
        TraceKey::Credential(id) => tracing.credential(*id),
        TraceKey::Token(hash) => tracing.token(*hash),
        TraceKey::Any(text) => match text.parse() {
            Ok(hash) if tracing.issued_as(hash)?.is_some() => tracing.token(hash),
            Ok(_) | Err(_) => tracing.common(&known.readings(&query.key)),
        },
        TraceKey::Proof(_)
        | TraceKey::Key(_)
        | TraceKey::Workload(_)
        | TraceKey::Owner(_)
        | TraceKey::Issuer(_)
        | TraceKey::Subject(..)
        | TraceKey::Resource(_)
        | TraceKey::Instance(_)
        | TraceKey::Run(_)
        | TraceKey::RunUrl(_)
        | TraceKey::Url(_) => tracing.common(&known.readings(&query.key)),
    }
}

struct Tracing<'a> {
    store: &'a dyn Store,
    tenant: &'a Name,
    query: &'a TraceQuery,
    reports: Reports,
}

impl Tracing<'_> {
    fn task(&self, id: TaskId) -> Result<Trace, RecordError> {
        match load(self.store, self.tenant, id)? {
            None => Ok(self.unknown("no entry of this ledger names it")),
            Some(found) => {
                let view = found.view();
                let uses = self.uses(id, Whose::Task)?;
                let said = self.said_of(&view, &uses);
                let verdict = verdict::on_task(&view, self.beside(&said));
                let stands = standing::of_task(&view, self.query.now);
                self.one((view, &stands), verdict, uses)
            }
        }
    }

    fn client(&self, id: ClientId) -> Result<Trace, RecordError> {
        let Some(found) = load(self.store, self.tenant, id.task)? else {
            return Ok(self.unknown("no entry of this ledger names its task"));
        };
        if found.task.client(id.number).is_none() {
            return Ok(self.unknown("its task has no such client"));
        }
        let found = found.with_ends(self.store, self.tenant)?;
        let whom = Whom::Clients(BTreeSet::from([id.number]));
        let named = Named::of(&found, &whom);
        let (verdict, uses) = self.on_named(&named)?;
        let stands = named.stands(self.query.now);
        let mut trace = self.one((named.task, &stands), verdict, uses)?;
        trace.client = Some(id);
        Ok(trace)
    }

    /// The verdict on whom of a task a key names, and what they used.
    fn on_named(&self, named: &Named) -> Result<(Verdict, Uses), RecordError> {
        let uses = self.uses_of(named)?;
        let access = named.clients().flat_map(|client| &client.access);
        let resources = access.map(|detail| &detail.resource);
        let said = self.reports.say(&uses, resources, named.task.opened);
        Ok((verdict::on_named(named, self.beside(&said)), uses))
    }

    fn uses_of(&self, named: &Named) -> Result<Uses, RecordError> {
        let whose = if named.is_task() {
            Whose::Task
        } else {
            Whose::Clients(named.below())
        };
        self.uses(named.task.task, whose)
    }

    fn credential(&self, id: CredentialId) -> Result<Trace, RecordError> {
        match load(self.store, self.tenant, id.client.task)? {
            None => Ok(self.unknown("no entry of this ledger names its task")),
            Some(found) => {
                let found = found.with_ends(self.store, self.tenant)?;
                self.credential_of(&found, id)
            }
        }
    }

    fn credential_of(&self, found: &Found, id: CredentialId) -> Result<Trace, RecordError> {
        let Some(issued) = self.issued(id)? else {
            return Ok(self.unknown("its client was never issued such a credential"));
        };
        let view = found.view();
        let uses = self.uses(id.client.task, Whose::Credential(id))?;
        let at = std::iter::once(&issued.resource);
        let said = self.reports.say(&uses, at, view.opened);
        let verdict = verdict::on_credential(&view, &issued, self.beside(&said));
        let stands = standing::of_credential(&view, &issued, self.query.now);
        let mut trace = self.one((view, &stands), verdict, uses)?;
        trace.client = Some(id.client);
        trace.credential = Some(issued);
        Ok(trace)
    }

    fn token(&self, hash: Digest) -> Result<Trace, RecordError> {
        match self.issued_as(hash)? {
            Some(id) => self.credential(id),
            None => {
                // A platform's token: what came in by it is what is asked about.
                let shown = self.common(&[Reading::Proof(hash)])?;
                if !shown.tasks.is_empty() {
                    return Ok(shown);
                }
                Ok(self.unknown(&format!(
                    "tenant {} issued no token with this hash, and none came in by it",
                    self.tenant
                )))
            }
        }
    }

    /// The credential whose token has this hash.
    fn issued_as(&self, hash: Digest) -> Result<Option<CredentialId>, RecordError> {
        for pos in self
            .store
            .find(self.tenant, &SearchKey::Token(hash), None, 8)?
        {
            let entry = entry_at(self.store, self.tenant, pos)?;
            if let Some((task, issued)) = entry.as_ref().and_then(issuance)
                && issued.hash == hash
            {
                return Ok(Some(issued.id(task)));
            }
        }
        Ok(None)
    }

    /// A credential as its task's entries tell it.
    fn issued(&self, id: CredentialId) -> Result<Option<IssuedView>, RecordError> {
        let mut view: Option<IssuedView> = None;
        each_of(self.store, self.tenant, id.client.task, |stored| {
            let entry = Entry::read(stored)?;
            if let Some((task, issued)) = issuance(&entry)
                && issued.id(task) == id
            {
                view = Some(issued_view(id, &entry, issued));
            }
            if let (Some(Event::CredentialRevoked(revoked)), Some(view)) =
                (entry.event(), &mut view)
                && (revoked.client, revoked.credential) == (id.client.number, id.number)
            {
                view.revoked = Some(entry.at);
            }
            Ok(())
        })?;
        if let Some(view) = &mut view {
            let keys = keys(self.store, self.tenant)?;
            let key = keys.iter().find(|key| key.kid == view.kid);
            view.key_compromised = key.and_then(|key| key.life.compromised());
        }
        Ok(view)
    }

    fn common(&self, readings: &[Reading]) -> Result<Trace, RecordError> {
        let gathered = Search {
            store: self.store,
            tenant: self.tenant,
            readings,
            since: self.query.since,
            until: self.query.until,
            now: self.query.now,
        }
        .run()?;
        let mut uses = Uses::default();
        let verdict = match (gathered.all(), gathered.shown.as_slice()) {
            (0, _) => self.unknown(&nothing(readings, gathered.more)).verdict,
            (1, [only]) if !gathered.more => {
                let (verdict, of_them) = self.on_named(only)?;
                uses = of_them;
                verdict
            }
            _ => verdict::on_many(&gathered, self.beside(&self.said_of_many(&gathered)?)),
        };
        let shown = gathered.shown.into_iter().map(|named| named.task);
        let mut trace = self.shown(shown.collect(), verdict, uses)?;
        trace.counts = Counts {
            live: gathered.live,
            pending: gathered.pending,
            over: gathered.over,
            ended: gathered.ended,
            more: gathered.more,
        };
        trace.read_as = gathered.read_as;
        Ok(trace)
    }

    const fn beside<'a>(&self, uses: &'a str) -> Beside<'a> {
        Beside {
            now: self.query.now,
            uses,
        }
    }

    fn uses(&self, task: TaskId, whose: Whose<'_>) -> Result<Uses, RecordError> {
        Uses::of(self.store, self.tenant, task, whose, self.query.now)
    }

    /// What may be said of the uses of a task.
    fn said_of(&self, task: &TaskView, uses: &Uses) -> String {
        let access = task.clients.iter().flat_map(|client| &client.access);
        let resources = access.map(|detail| &detail.resource);
        self.reports.say(uses, resources, task.opened)
    }

    /// What may be said of the uses of many tasks: of those that are shown.
    fn said_of_many(&self, gathered: &Gathered) -> Result<String, RecordError> {
        let mut uses = Uses::default();
        if !self.reports.is_empty() {
            for named in &gathered.shown {
                uses = uses.and(&self.uses_of(named)?);
            }
        }
        let clients = gathered.shown.iter().flat_map(Named::clients);
        let access = clients.flat_map(|client| &client.access);
        let resources = access.map(|detail| &detail.resource);
        let first = gathered.shown.iter().map(|named| named.task.opened).min();
        let mut said = self
            .reports
            .say(&uses, resources, first.unwrap_or_default());
        if uses.allowed > 0 && (gathered.more || gathered.all() > gathered.shown.len() as u64) {
            said.push_str(" for the tasks shown");
        }
        Ok(said)
    }

    fn one(
        &self,
        (task, stands): (TaskView, &Stands),
        verdict: Verdict,
        uses: Uses,
    ) -> Result<Trace, RecordError> {
        let mut counts = Counts::default();
        match stands {
            Stands::Live { .. } => counts.live = 1,
            Stands::Pending { .. } => counts.pending = 1,
            Stands::Over { .. } => counts.over = 1,
            Stands::Expired { .. } | Stands::Ended { .. } => counts.ended = 1,
        }
        let mut trace = self.shown(vec![task], verdict, uses)?;
        trace.counts = counts;
        Ok(trace)
    }

    /// An answer that shows tasks and what happened in them.
    fn shown(
        &self,
        mut tasks: Vec<TaskView>,
        verdict: Verdict,
        uses: Uses,
    ) -> Result<Trace, RecordError> {
        let mut lines = uses.lines;
        let mut notes = Vec::new();
        if uses.hidden > 0 || uses.more {
            notes.push(format!(
                "only the newest {} uses are shown of {}{}",
                lines.len(),
                lines.len() + uses.hidden,
                if uses.more { " or more" } else { "" }
            ));
        }
        for task in &mut tasks {
            name_person(self.store, self.tenant, task)?;
        }
        for task in &tasks {
            lines.extend(timeline::of_task(
                self.store,
                self.tenant,
                task.task,
                self.query.now,
            )?);
        }
        if let [only] = tasks.as_slice() {
            let (about, more) =
                timeline::about(self.store, self.tenant, only.task, self.query.now)?;
            if more {
                notes.push(format!(
                    "only the newest {} of the other entries about the task were read",
                    about.len()
                ));
            }
            lines.extend(about);
        }
        self.add_causes(&mut lines)?;
        lines.retain(|line| {
            self.query.since.is_none_or(|since| line.at >= since)
                && self.query.until.is_none_or(|until| line.at <= until)
        });
        lines.sort_by_key(|line| line.pos);
        let earlier = lines.len().saturating_sub(LINES);
        if earlier > 0 {
            lines.drain(..earlier);
            notes.push(format!("{earlier} earlier entries are not shown"));
        }
        let (related, all) = related::of(self.store, self.tenant, &tasks)?;
        if !all {
            notes.push("there are more tasks of the same runs than were looked at".to_owned());
        }
        Ok(Trace {
            verdict,
            read_as: Vec::new(),
            credential: None,
            client: None,
            counts: Counts::default(),
            related,
            tasks,
            timeline: lines,
            notes,
        })
    }

    /// Adds the entries that lines name as those that say who and why.
    fn add_causes(&self, lines: &mut Vec<EntryLine>) -> Result<(), RecordError> {
        let here: BTreeSet<u64> = lines.iter().map(|line| line.pos).collect();
        let named: BTreeSet<u64> = lines.iter().filter_map(|line| line.said_in).collect();
        for pos in named.difference(&here) {
            if let Some(entry) = entry_at(self.store, self.tenant, *pos)? {
                let line = timeline::line(self.store, self.tenant, &entry, self.query.now)?;
                lines.push(line);
            }
        }
        Ok(())
    }

    fn unknown(&self, why: &str) -> Trace {
        Trace {
            verdict: verdict::unknown(&self.query.key.to_string(), why),
            read_as: Vec::new(),
            credential: None,
            client: None,
            counts: Counts::default(),
            tasks: Vec::new(),
            related: Vec::new(),
            timeline: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn issuance(entry: &Entry) -> Option<(TaskId, &CredentialIssued)> {
    match (entry.task, entry.event()) {
        (Some(task), Some(Event::CredentialIssued(issued))) => Some((task, issued)),
        _ => None,
    }
}

fn issued_view(id: CredentialId, entry: &Entry, issued: &CredentialIssued) -> IssuedView {
    IssuedView {
        credential: id,
        pos: entry.pos,
        resource: issued.resource.clone(),
        audience: issued.audience.clone(),
        access: issued.access.clone(),
        scope: issued.scope.clone(),
        issued: issued.issued,
        expires: issued.expires,
        revoked: None,
        jkt: issued.jkt,
        alg: issued.alg.clone(),
        kid: issued.kid.clone(),
        key_compromised: None,
        hash: issued.hash,
    }
}

/// Why nothing was found.
fn nothing(readings: &[Reading], more: bool) -> String {
    let mut kinds: Vec<&str> = readings.iter().map(Reading::kind).collect();
    let what = match kinds.pop() {
        None => return "it is no declared resource or issuer".to_owned(),
        Some(only) if kinds.is_empty() => format!("no task of that {only}"),
        Some(last) => format!("no task of that {} or {last}", kinds.join(", ")),
    };
    if more {
        what + "; for an issuer only the latest entries were looked through"
    } else {
        what
    }
}

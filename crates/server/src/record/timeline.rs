//! What happened, a line an entry.

use dayfly_domain::access::Detail;
use dayfly_domain::{ClientDelegated, Event, Name, Subject, TaskId, TaskRequested, Time};
use dayfly_store::{Annex, EntryRange, SearchKey, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::end::{EndNote, said_in};
use super::entry::{Annexed, Entry, Said, each_of, entry_at};
use super::error::RecordError;
use super::moment::moment;
use super::standing::waits_for;

/// One entry, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryLine {
    /// Its position.
    pub pos: u64,
    /// When.
    pub at: Time,
    /// Its kind.
    pub kind: String,
    /// The task that it belongs to or is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What happened, for a person.
    pub what: String,
    /// Who did it, and the reason given.
    #[serde(flatten)]
    pub note: EndNote,
    /// The position of the entry that says who and why, where this one does not say it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_in: Option<u64>,
    /// Whether it had an annex that was erased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
}

/// One entry, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// In a line.
    #[serde(flatten)]
    pub line: EntryLine,
    /// Its leaf bytes, as in a receipt.
    pub leaf: String,
    /// Its annex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annex: Option<String>,
}

/// Entries from a position on, in order; `now` is today for the times in their lines.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn entries(
    store: &dyn Store,
    tenant: &Name,
    from: u64,
    limit: usize,
    now: Time,
) -> Result<Vec<LedgerEntry>, RecordError> {
    store
        .entries(tenant, EntryRange::From(from), limit)?
        .into_iter()
        .map(|stored| {
            Ok(LedgerEntry {
                line: line(store, tenant, &Entry::read(&stored)?, now)?,
                leaf: stored.leaf,
                annex: stored.annex.map(|Annex { data, .. }| data),
            })
        })
        .collect()
}

/// The entries of a task, in order.
pub(super) fn of_task(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
    now: Time,
) -> Result<Vec<EntryLine>, RecordError> {
    let mut lines = Vec::new();
    each_of(store, tenant, task, |stored| {
        lines.push(line(store, tenant, &Entry::read(stored)?, now)?);
        Ok(())
    })?;
    Ok(lines)
}

/// How many entries about a task that are not of its chain are read: the newest.
const ABOUT: usize = 1000;

/// The entries about a task that are not of its chain, the newest first, and whether there are
/// older ones that were not read.
pub(super) fn about(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
    now: Time,
) -> Result<(Vec<EntryLine>, bool), RecordError> {
    let mut positions = store.find(tenant, &SearchKey::About(task), None, ABOUT + 1)?;
    let more = positions.len() > ABOUT;
    positions.truncate(ABOUT);
    let mut lines = Vec::with_capacity(positions.len());
    for pos in positions {
        if let Some(entry) = entry_at(store, tenant, pos)? {
            lines.push(line(store, tenant, &entry, now)?);
        }
    }
    Ok((lines, more))
}

/// An entry in a line.
pub(super) fn line(
    store: &dyn Store,
    tenant: &Name,
    entry: &Entry,
    now: Time,
) -> Result<EntryLine, RecordError> {
    let what = match &entry.said {
        Said::Event(event) => event_line(event, entry.task, now),
        Said::Note(data) => note_line(data),
    };
    Ok(EntryLine {
        pos: entry.pos,
        at: entry.at,
        kind: entry.kind.clone(),
        task: entry.about(),
        what,
        note: EndNote::of(store, tenant, entry)?,
        said_in: said_in(entry),
        erased: matches!(entry.annex, Annexed::Erased),
    })
}

fn event_line(event: &Event, task: Option<TaskId>, now: Time) -> String {
    let client = |number: u32| match task {
        Some(task) => dayfly_domain::ClientId { task, number }.to_string(),
        None => format!("client {number}"),
    };
    match event {
        Event::TaskRequested(requested) => requested_line(requested, now),
        Event::TaskApproved(approved) => match approved.fetch_by {
            Some(fetch_by) => format!("approved, to be fetched until {}", moment(fetch_by, now)),
            None => "approved, another approval is missing".to_owned(),
        },
        Event::TaskDenied(_) => "denied".to_owned(),
        Event::TaskStarted(started) => format!(
            "workload {}, owner {}, issuer {}, key {}{}{}, until {}",
            started.workload,
            started.owner,
            started.issuer,
            started.key,
            started
                .attempt
                .map(|attempt| format!(", attempt {attempt}"))
                .unwrap_or_default(),
            behalf(started.subject.as_ref()),
            moment(started.deadline, now)
        ),
        Event::ClientRegistered(registered) => format!(
            "{} by {}, {}, for {}",
            client(registered.client),
            registered.instance,
            match registered.jkt {
                Some(jkt) => format!("key {jkt}"),
                None => "without a key".to_owned(),
            },
            access_line(&registered.access)
        ),
        Event::ClientDelegated(child) => {
            let (number, parent) = (client(child.client), client(child.parent));
            format!("{number} from {parent}{}", delegated_line(child))
        }
        Event::CredentialIssued(issued) => format!(
            "{} at {} until {}, {}, hash {}",
            match task {
                Some(task) => issued.id(task).to_string(),
                None => format!(
                    "credential {} of client {}",
                    issued.credential, issued.client
                ),
            },
            issued.resource,
            moment(issued.expires, now),
            if issued.jkt.is_some() {
                "key-bound"
            } else {
                "bearer"
            },
            issued.hash
        ),
        Event::CredentialRevoked(revoked) => {
            format!(
                "credential {} of {}",
                revoked.credential,
                client(revoked.client)
            )
        }
        Event::ClientEnded(ended) => format!("{}: {}", client(ended.client), ended.cause.word()),
        Event::TaskEnded(ended) => format!("{}, {} entries", ended.cause.word(), ended.count),
    }
}

fn delegated_line(child: &ClientDelegated) -> String {
    format!(
        "{} by {}, {}, for {}",
        match &child.own {
            Some(own) => format!(" as workload {}", own.workload),
            None => String::new(),
        },
        child.instance,
        match child.jkt {
            Some(jkt) => format!("key {jkt}"),
            None => "without a key".to_owned(),
        },
        access_line(&child.access)
    )
}

fn requested_line(requested: &TaskRequested, now: Time) -> String {
    format!(
        "workload {}, owner {}, issuer {}, key {}{}, by {}, key {}, for {}; {} until {}",
        requested.workload,
        requested.owner,
        requested.issuer,
        requested.key,
        behalf(requested.subject.as_ref()),
        requested.instance,
        requested.jkt,
        access_line(&requested.access),
        waits_for(requested.people, 0, None),
        moment(requested.expires, now)
    )
}

fn behalf(subject: Option<&Subject>) -> String {
    subject
        .map(|of| format!(", on behalf of {} of {}", of.person, of.issuer))
        .unwrap_or_default()
}

/// The members of a note's data, but for the task it is about.
fn note_line(data: &Value) -> String {
    let Value::Object(members) = data else {
        return data.to_string();
    };
    let said: Vec<String> = members
        .iter()
        .filter(|(name, value)| *name != "about" && !value.is_null())
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        })
        .collect();
    said.join(", ")
}

/// Access in a line: `artifacts artifact(actions: publish, read; identifier: octo-repo/*)`.
#[must_use]
pub fn access_line(access: &[Detail]) -> String {
    let details: Vec<String> = access
        .iter()
        .map(|detail| {
            let fields: Vec<String> = detail
                .fields
                .iter()
                .map(|(name, field)| format!("{name}: {field}"))
                .collect();
            format!("{} {}({})", detail.resource, detail.kind, fields.join("; "))
        })
        .collect();
    if details.is_empty() {
        "nothing".to_owned()
    } else {
        details.join(", ")
    }
}

//! Whether a client may do one thing now, by what is recorded of it and what is declared now.

use alloc::string::ToString;

use crate::access::{AskedUse, Catalog, Detail, RequestDetail};
use crate::decide::check_binding;
use crate::declared::Workload;
use crate::delegate::{check_still_declared, links_of};
use crate::refusal::{Refusal, Rule};
use crate::subject::check_subject;
use crate::task::Task;
use crate::text::Name;

/// A use that a resource asks about, of a credential that was found to be live.
#[derive(Clone, Copy, Debug)]
pub struct UseAsked<'a> {
    /// The client's number.
    pub client: u32,
    /// What was recorded that the credential grants.
    pub held: &'a [Detail],
    /// What is to be done.
    pub request: &'a RequestDetail,
    /// At which resource: the one that asks.
    pub resource: &'a Name,
    /// What the task runs.
    pub workload: &'a Workload,
    /// The other declared workloads that the client's chain acts as.
    pub others: &'a [&'a Workload],
    /// Resources and types.
    pub catalog: &'a Catalog,
}

/// Checks that a use lies within what the credential grants, what its client has, and the present
/// ceiling of every workload of its chain. What would keep the client from a further credential
/// keeps it from a use too.
///
/// # Errors
/// The refusal.
pub fn check_use(task: &Task, asked: &UseAsked<'_>) -> Result<AskedUse, Refusal> {
    let client = task.client(asked.client).ok_or_else(|| {
        Refusal::new(Rule::Credential)
            .field("client")
            .wanted("a client of the task")
            .got(asked.client.to_string())
    })?;
    let links = links_of(task, asked.client, asked.workload, asked.others)?;
    for link in &links {
        check_binding(link.workload, client.jkt)?;
        check_subject(link.workload, task.subject.as_ref())?;
    }
    check_still_declared(asked.client, &links, client.parent.is_some())?;
    let wanted = AskedUse::read(asked.request, asked.resource, asked.held, asked.catalog)?;
    wanted.check_within(asked.held, asked.catalog)?;
    wanted.check_within(&client.access, asked.catalog)?;
    for link in &links {
        wanted
            .check_within(&link.ceiling, asked.catalog)
            .map_err(lowered)?;
    }
    Ok(wanted)
}

/// It was granted once, so the ceiling has been lowered since.
fn lowered(refusal: Refusal) -> Refusal {
    Refusal {
        rule: Rule::CeilingLowered,
        ..refusal
    }
}

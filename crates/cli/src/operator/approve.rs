//! What people say to a task that waits for them.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::{Cause, TaskId, Time};
use dayfly_server::record::{moment, one_line};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::change::{is_recorded, recorded, says_something, unrecorded};
use super::ends::head_lines;
use super::place::{At, PlaceArgs};
use super::record::now;
use super::{print, print_json};

/// Options of `dayfly task approve` and `dayfly task deny`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecideArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The task
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer to an approval.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Approved {
    pub(super) task: TaskId,
    pub(super) people: u64,
    pub(super) approvals: u64,
    /// When its client must have fetched it; none while another approval is missing.
    pub(super) fetch_by: Option<Time>,
}

/// The answer to a denial.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Denied {
    pub(super) task: TaskId,
    pub(super) cause: Cause,
    pub(super) at: Time,
    pub(super) last_possible_acceptance: Time,
    /// None where the server could hand out none.
    pub(super) head: Option<String>,
    /// Whether it outlives a fall of the server.
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    pub(super) recorded: bool,
}

pub(super) async fn approve(args: &DecideArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let body = json!({ "reason": args.reason });
    let path = format!("tasks/{}/approve", args.task);
    let approved: Approved = served.post(&path, &body).await?;
    if args.json {
        return print_json(&approved);
    }
    print(&approved_line(&approved, now()))
}

/// What an approval leaves, in a line.
pub(super) fn approved_line(approved: &Approved, now: Time) -> String {
    match approved.fetch_by {
        Some(fetch_by) => format!(
            "approved {}; its client has until {} to fetch it\n",
            approved.task,
            moment(fetch_by, now)
        ),
        None => format!(
            "approved {} by {} of {}: another person is needed\n",
            approved.task, approved.approvals, approved.people
        ),
    }
}

pub(super) async fn deny(args: &DecideArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let body = json!({ "reason": args.reason });
    let path = format!("tasks/{}/deny", args.task);
    let denied: Denied = served.post(&path, &body).await?;
    if args.json {
        return print_json(&denied);
    }
    print(&format!(
        "GONE {} ({}: {}); no credential was issued\n{}{}",
        moment(denied.at, now()),
        denied.cause.word(),
        one_line(args.reason.trim()),
        unrecorded(denied.recorded),
        head_lines(denied.head.as_ref())
    ))
}

//! Containment: owners, workloads and the tenant, listed, stopped at once, and lifted again.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::{Name, Time};
use dayfly_server::record::{OwnerView, WorkloadView, moment};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::change::{is_recorded, recorded, says_something, unrecorded};
use super::ends::{counted, head_lines, tasks_of};
use super::list::ListArgs;
use super::place::{At, PlaceArgs};
use super::record::now;
use super::table::Table;
use super::{print, print_json};

/// Options of a command that stops an owner or a workload.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainArgs {
    /// Its name, as it is declared
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    how: HowArgs,
}

/// Options of `dayfly owner offboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct OffboardArgs {
    /// Its name, as it is declared
    #[arg(value_name = "NAME")]
    name: Name,
    /// Who answers for its workloads from then on
    #[arg(long, value_name = "OWNER")]
    to: Option<Name>,
    #[command(flatten)]
    how: HowArgs,
}

/// Options of `dayfly freeze`, and of what stops something else.
#[derive(Debug, clap::Args)]
pub(crate) struct HowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only print how many open tasks it would end
    #[arg(long)]
    dry_run: bool,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of a command that lifts what stopped an owner or a workload.
#[derive(Debug, clap::Args)]
pub(crate) struct LiftArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    why: WhyArgs,
}

/// Options of `dayfly unfreeze`, and of what lifts something else.
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer to a containment: since when it stands, or how many open tasks it would end.
#[derive(Debug, Serialize, Deserialize)]
struct Contained {
    on: String,
    applied: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<u64>,
    /// Of how many tasks, beside these, it would end some clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partly: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clients: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<u64>,
    /// The block that it would set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<String>,
    /// How many open tasks it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    /// A time that no credential of it outlives, once it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_possible_acceptance: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// Who answers for its workloads since, or would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Name>,
    /// How many workloads would be handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handed_over: Option<u64>,
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    recorded: bool,
}

pub(super) async fn offboard(args: &OffboardArgs, at: At<'_>) -> Result<ExitCode> {
    let path = format!("owners/{}/offboard", args.name);
    let body = match &args.to {
        Some(to) => json!({ "to": to }),
        None => json!({}),
    };
    contain(&path, body, "offboarded", &args.how, at).await
}

pub(super) async fn disable(args: &ContainArgs, at: At<'_>) -> Result<ExitCode> {
    let path = format!("workloads/{}/disable", args.name);
    contain(&path, json!({}), "disabled", &args.how, at).await
}

pub(super) async fn freeze(args: &HowArgs, at: At<'_>) -> Result<ExitCode> {
    contain("freeze", json!({}), "frozen", args, at).await
}

pub(super) async fn restore(args: &LiftArgs, at: At<'_>) -> Result<ExitCode> {
    let path = format!("owners/{}/restore", args.name);
    lift(&path, "restored", &args.why, at).await
}

pub(super) async fn enable(args: &LiftArgs, at: At<'_>) -> Result<ExitCode> {
    let path = format!("workloads/{}/enable", args.name);
    lift(&path, "enabled", &args.why, at).await
}

pub(super) async fn unfreeze(args: &WhyArgs, at: At<'_>) -> Result<ExitCode> {
    lift("unfreeze", "lifted", args, at).await
}

async fn contain(
    path: &str,
    mut body: Value,
    word: &str,
    args: &HowArgs,
    at: At<'_>,
) -> Result<ExitCode> {
    let reason = args.reason.as_deref().unwrap_or_default();
    if !args.dry_run {
        says_something(reason)?;
    }
    let served = args.place.served(at).await?;
    if let Some(members) = body.as_object_mut() {
        members.insert("dry_run".to_owned(), args.dry_run.into());
        members.insert("reason".to_owned(), reason.into());
    }
    let done: Contained = served.post(path, &body).await?;
    if args.json {
        return print_json(&done);
    }
    print(&contained_line(&done, word, now()))
}

fn contained_line(done: &Contained, word: &str, now: Time) -> String {
    let on = &done.on;
    match (done.open, done.since) {
        (_, Some(since)) if !done.applied => {
            format!("{on} is {word} already, since {}\n", moment(since, now))
        }
        (Some(open), _) => format!(
            "{on} is not {word} yet: {} would end{}\n",
            tasks_of(open, done.partly.unwrap_or_default()),
            match &done.to {
                Some(to) => {
                    let workloads = counted(done.handed_over.unwrap_or_default(), "workload");
                    format!(", and {workloads} would be {to}'s")
                }
                None => String::new(),
            }
        ),
        (None, _) => {
            let open = done.ended.map_or_else(
                || "its open tasks".to_owned(),
                |open| counted(open, "open task"),
            );
            let last = done
                .last_possible_acceptance
                .map_or_else(String::new, |last| {
                    format!("; last possible acceptance {}", moment(last, now))
                });
            format!(
                "{on} {word}: nothing of it is accepted any more; the ends of {open} are being recorded{last}\n{}{}{}",
                match &done.to {
                    Some(to) => format!("its workloads are {to}'s from now on and may start\n"),
                    None => String::new(),
                },
                unrecorded(done.recorded),
                head_lines(done.head.as_ref())
            )
        }
    }
}

async fn lift(path: &str, word: &str, args: &WhyArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let done: Value = served.post(path, &json!({ "reason": args.reason })).await?;
    if args.json {
        return print_json(&done);
    }
    let on = done.get("on").and_then(Value::as_str).unwrap_or_default();
    print(&format!("{on} {word}: what ended stays ended\n"))
}

pub(super) async fn owners(args: &ListArgs, at: At<'_>) -> Result<ExitCode> {
    let owners = args.place.record(at).await?.owners().await?;
    if args.json {
        return print_json(&owners);
    }
    print(&owners_table(&owners, now()))
}

fn owners_table(owners: &[OwnerView], now: Time) -> String {
    if owners.is_empty() {
        return "no owner\n".to_owned();
    }
    let mut table = Table::new(&["OWNER", "STATE", "WORKLOADS", "OPEN", "NAME", "CONTACT"]);
    for owner in owners {
        table.row([
            owner.owner.to_string(),
            match (owner.offboarded, &owner.handed_to) {
                (Some(since), Some(to)) => {
                    format!("offboarded {}, handed over to {to}", moment(since, now))
                }
                (Some(since), None) => format!("offboarded {}", moment(since, now)),
                (None, _) => "active".to_owned(),
            },
            owner.workloads.len().to_string(),
            owner.open.to_string(),
            or_undeclared(owner.name.as_ref()),
            owner.contact.clone().unwrap_or_default(),
        ]);
    }
    table.lines()
}

pub(super) async fn workloads(args: &ListArgs, at: At<'_>) -> Result<ExitCode> {
    let workloads = args.place.record(at).await?.workloads().await?;
    if args.json {
        return print_json(&workloads);
    }
    print(&workloads_table(&workloads, now()))
}

fn workloads_table(workloads: &[WorkloadView], now: Time) -> String {
    if workloads.is_empty() {
        return "no workload\n".to_owned();
    }
    let mut table = Table::new(&["WORKLOAD", "STATE", "OWNER", "OPEN", "PURPOSE"]);
    for workload in workloads {
        let stopped: Vec<String> = workload
            .stopped_by
            .iter()
            .map(|(on, since)| format!("stopped by {on} {}", moment(*since, now)))
            .collect();
        table.row([
            workload.workload.to_string(),
            if stopped.is_empty() {
                "enabled".to_owned()
            } else {
                stopped.join(", ")
            },
            match (&workload.owner, &workload.handed_from) {
                (Some(owner), Some(from)) => format!("{owner}, handed over by {from}"),
                (Some(owner), None) => owner.to_string(),
                (None, _) => String::new(),
            },
            workload.open.to_string(),
            or_undeclared(workload.purpose.as_ref()),
        ]);
    }
    table.lines()
}

fn or_undeclared(text: Option<&String>) -> String {
    text.map_or_else(|| "not declared any more".to_owned(), Clone::clone)
}

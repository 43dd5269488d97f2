//! What an operator changes, by a running server, each time with a reason.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use dayfly_domain::{BlockOn, Cause, TaskId, Time};
use dayfly_server::record::{moment, one_line};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ends::{WouldEnd, block_line, head_lines, is_not, print_would, why};
use super::place::{At, PlaceArgs};
use super::record::now;
use super::{print, print_json};

/// Options of `dayfly task end`.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskEndArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The task
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// Only print how much it would end
    #[arg(long)]
    dry_run: bool,
    /// Keep its series from starting again until that is lifted: what is done in any case
    #[arg(long)]
    block: bool,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly unblock`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnblockArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What may start again, as `dayfly block list` shows it
    #[arg(value_name = "BLOCK", value_parser = block_on)]
    on: BlockOn,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only print what would change, and which open tasks would end
    #[arg(long)]
    dry_run: bool,
    /// End the open tasks that the new state would not have granted: as many as --dry-run prints
    #[arg(long, value_name = "N")]
    ends: Option<u64>,
    /// Go back to the former revision, whatever the folder says
    #[arg(long)]
    undo: bool,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn block_on(text: &str) -> Result<BlockOn, String> {
    text.parse().map_err(|why: &str| why.to_owned())
}

/// The answer to an end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) task: TaskId,
    pub(super) cause: Cause,
    pub(super) at: Time,
    pub(super) last_possible_acceptance: Time,
    /// What keeps its series from starting again.
    pub(super) block: Option<String>,
    /// Whether its series is blocked when it is found, because nothing could be read.
    #[serde(default, skip_serializing_if = "is_not")]
    pub(super) block_when_found: bool,
    /// None where the server could hand out none.
    pub(super) head: Option<String>,
    /// Whether it outlives a fall of the server.
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    pub(super) recorded: bool,
}

/// What an answer means that says nothing of it.
pub(super) const fn recorded() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub(super) const fn is_recorded(recorded: &bool) -> bool {
    *recorded
}

/// What is said of an end that nothing but the server's memory holds.
pub(super) const fn unrecorded(recorded: bool) -> &'static str {
    if recorded {
        ""
    } else {
        "not recorded: neither the ledger nor the containment journal takes it; it is obeyed until the server stops, so give the command again when the disk is mended\n"
    }
}

pub(super) async fn end(args: &TaskEndArgs, at: At<'_>) -> Result<ExitCode> {
    let reason = args.reason.as_deref().unwrap_or_default();
    if !args.dry_run {
        says_something(reason)?;
    }
    let served = args.place.served(at).await?;
    let body = json!({ "dry_run": args.dry_run, "block": args.block, "reason": reason });
    let path = format!("tasks/{}/end", args.task);
    if args.dry_run {
        let would: WouldEnd = served.post(&path, &body).await?;
        return print_would(&would, args.json);
    }
    let ended: Ended = served.post(&path, &body).await?;
    if args.json {
        return print_json(&ended);
    }
    print(&ended_line(&ended, reason, now()))
}

/// The end of a task in a line, as a trace of it begins, and what keeps it from starting again.
pub(super) fn ended_line(ended: &Ended, reason: &str, now: Time) -> String {
    format!(
        "GONE {} ({}); last possible acceptance {}\n{}{}{}",
        moment(ended.at, now),
        why(ended.cause, reason.trim()),
        moment(ended.last_possible_acceptance, now),
        block_line(ended.block.as_ref(), ended.block_when_found),
        unrecorded(ended.recorded),
        head_lines(ended.head.as_ref())
    )
}

pub(super) async fn unblock(args: &UnblockArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let body = json!({ "on": args.on.to_string(), "reason": args.reason });
    let lifted: Value = served.post("unblock", &body).await?;
    if args.json {
        return print_json(&lifted);
    }
    let beside = lifted.get("stands").and_then(Value::as_str);
    let beside = beside.map(|on| {
        format!(
            "the person stays out: {} stands, which `dayfly unblock` lifts\n",
            one_line(on)
        )
    });
    print(&format!(
        "lifted {}\n{}",
        one_line(&args.on.to_string()),
        beside.unwrap_or_default()
    ))
}

/// The answer to an apply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub(super) changes: Vec<String>,
    pub(super) revision: u64,
    pub(super) warnings: Vec<String>,
    pub(super) applied: bool,
    /// How many open tasks it ended or would end.
    #[serde(default)]
    pub(super) ends: u64,
    /// Which, the first of them.
    #[serde(default)]
    pub(super) tasks: Vec<LostTask>,
}

/// An open task that the new state would not have granted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LostTask {
    pub(super) task: TaskId,
    pub(super) workload: String,
    pub(super) why: String,
}

pub(super) async fn apply(args: &ApplyArgs, at: At<'_>) -> Result<ExitCode> {
    let reason = args.reason.as_deref().unwrap_or_default();
    if !args.dry_run {
        says_something(reason)?;
    }
    let served = args.place.served(at).await?;
    let body = json!({
        "dry_run": args.dry_run, "ends": args.ends, "undo": args.undo, "reason": reason,
    });
    let applied: Applied = served.post("apply", &body).await?;
    if args.json {
        return print_json(&applied);
    }
    print(&applied_lines(&applied, args.dry_run))
}

/// The difference, and what became of it.
pub(super) fn applied_lines(applied: &Applied, dry_run: bool) -> String {
    let mut text = String::new();
    for change in &applied.changes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", one_line(change));
    }
    for warning in &applied.warnings {
        let _ = writeln!(text, "warning: {}", one_line(warning));
    }
    let word = if applied.applied {
        "ended"
    } else {
        "would end"
    };
    for lost in &applied.tasks {
        let line = format!("{word}: {} of {}: {}", lost.task, lost.workload, lost.why);
        let _ = writeln!(text, "{}", one_line(&line));
    }
    let tasks = match applied.ends {
        1 => "1 open task".to_owned(),
        ends => format!("{ends} open tasks"),
    };
    let _ = match (applied.ends, applied.applied) {
        (0, _) => Ok(()),
        (_, true) => writeln!(text, "{tasks} {word}"),
        (ends, false) => writeln!(text, "{tasks} {word}: agree with --ends {ends}"),
    };
    let _ = match (applied.applied, dry_run) {
        (true, _) => writeln!(text, "applied as revision {}", applied.revision),
        (false, true) if applied.changes.is_empty() => {
            writeln!(text, "nothing would change, revision {}", applied.revision)
        }
        (false, true) => writeln!(
            text,
            "nothing is applied yet, revision {}",
            applied.revision
        ),
        (false, false) => writeln!(text, "nothing to apply, revision {}", applied.revision),
    };
    text
}

pub(super) fn says_something(reason: &str) -> Result<()> {
    ensure!(!reason.trim().is_empty(), "`--reason` says nothing");
    Ok(())
}

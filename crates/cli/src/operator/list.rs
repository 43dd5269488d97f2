//! Lists: of tasks and blocks.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::Name;
use dayfly_server::record::{Filter, Standing, TaskLine, TaskPage, moment, waits_for};

use super::place::{At, PlaceArgs};
use super::record::now;
use super::table::Table;
use super::{print, print_json};

/// Options of `dayfly task list`.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only tasks of this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<Name>,
    /// Only tasks of this owner
    #[arg(long, value_name = "NAME")]
    owner: Option<Name>,
    /// Ended tasks too, the newest first
    #[arg(long)]
    all: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Go on where the former page ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of a list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
impl TaskListArgs {
    pub(super) const fn place(&self) -> &PlaceArgs {
        &self.place
    }
}

#[cfg(test)]
impl ListArgs {
    pub(super) const fn place(&self) -> &PlaceArgs {
        &self.place
    }
}

/// How many tasks are asked for at once.
const PAGE: usize = 500;

pub(super) async fn tasks(args: &TaskListArgs, at: At<'_>) -> Result<ExitCode> {
    let record = args.place.record(at).await?;
    let filter = Filter {
        workload: args.workload.clone(),
        owner: args.owner.clone(),
        ended: args.all,
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut listed = TaskPage {
        tasks: Vec::new(),
        next: args.after.clone(),
    };
    loop {
        let left = limit - listed.tasks.len();
        let page = record
            .tasks(&filter, listed.next.as_deref(), left.min(PAGE))
            .await?;
        listed.tasks.extend(page.tasks);
        listed.next = page.next;
        if listed.next.is_none() || listed.tasks.len() >= limit {
            break;
        }
    }
    if args.json {
        return print_json(&listed);
    }
    let mut text = table(&listed.tasks);
    if let Some(next) = &listed.next {
        text.push_str(&format!("there are more: --after {next}\n"));
    }
    print(&text)
}

/// Tasks as a table.
pub(super) fn table(tasks: &[TaskLine]) -> String {
    if tasks.is_empty() {
        return "no task\n".to_owned();
    }
    let now = now();
    let mut table = Table::new(&[
        "TASK", "STATE", "WORKLOAD", "OWNER", "KEY", "OPENED", "CLIENTS", "LIVE",
    ]);
    for task in tasks {
        let attempt = task
            .attempt
            .map(|attempt| format!(" #{attempt}"))
            .unwrap_or_default();
        table.row([
            task.task.to_string(),
            state(&task.standing, now),
            task.workload.to_string(),
            task.owner.to_string(),
            format!("{}{attempt}", task.key),
            moment(task.opened, now),
            task.clients.to_string(),
            task.live.to_string(),
        ]);
    }
    table.lines()
}

/// How a task stands, in a few words.
pub(super) fn state(standing: &Standing, now: dayfly_domain::Time) -> String {
    match standing {
        Standing::Ended { cause, at, .. } => format!("{} {}", cause.word(), moment(*at, now)),
        Standing::Open {
            rights_removed: Some(whose),
            ..
        } => format!("over: rights of {whose} removed"),
        Standing::Open { due, due_cause, .. } if now >= *due => {
            format!("over: {} {}", due_cause.word(), moment(*due, now))
        }
        Standing::Open { due, .. } => format!("open until {}", moment(*due, now)),
        Standing::Pending {
            rights_removed: Some(whose),
            ..
        } => format!("over: rights of {whose} removed"),
        Standing::Pending { due, .. } if now >= *due => {
            format!("over: expired {}", moment(*due, now))
        }
        Standing::Pending {
            due,
            people,
            approvals,
            approved,
            ..
        } => format!(
            "{} for {} more",
            waits_for(*people, *approvals, *approved),
            due.since(now)
        ),
    }
}

pub(super) async fn blocks(args: &ListArgs, at: At<'_>) -> Result<ExitCode> {
    let blocks = args.place.record(at).await?.blocks().await?;
    if args.json {
        return print_json(&blocks);
    }
    if blocks.is_empty() {
        return print("no block\n");
    }
    let now = now();
    let mut table = Table::new(&["BLOCK", "SINCE", "TASK"]);
    for block in blocks {
        let task = block.task.map(|task| task.to_string()).unwrap_or_default();
        table.row([block.on, moment(block.since, now), task]);
    }
    print(&table.lines())
}

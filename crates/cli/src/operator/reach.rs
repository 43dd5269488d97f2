//! `dayfly reach`: who may reach a resource, and who now can.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::{TaskId, Time};
use dayfly_server::record::{ReachView, access_line, moment, one_line};

use super::place::{At, PlaceArgs};
use super::record::now;
use super::table::Table;
use super::{print, print_json};

/// Options of `dayfly reach`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReachArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The resource, by its name or URL
    #[arg(value_name = "RESOURCE")]
    resource: String,
    /// How many tasks at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after this task
    #[arg(long, value_name = "TASK")]
    after: Option<TaskId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn reach(args: &ReachArgs, at: At<'_>) -> Result<ExitCode> {
    let record = args.place.record(at).await?;
    let view = record
        .reach(&args.resource, args.after, args.limit.into())
        .await?;
    if args.json {
        return print_json(&view);
    }
    print(&written(&view, now()))
}

fn written(view: &ReachView, now: Time) -> String {
    let live: usize = view
        .tasks
        .iter()
        .flat_map(|task| &task.clients)
        .map(|client| client.credentials.len())
        .sum();
    let shown = if view.next.is_some() || view.tasks.len() as u64 != view.open {
        " among those shown"
    } else {
        ""
    };
    let mut text = format!(
        "{} at {}: {} may reach it; {} with {} can now, {}{shown}\n",
        view.resource,
        one_line(&view.url),
        counted(view.workloads.len() as u64, "workload"),
        counted(view.open, "open task"),
        counted(view.clients, "client"),
        counted(live as u64, "live credential"),
    );
    if !view.workloads.is_empty() {
        text.push('\n');
        text.push_str(&workloads(view, now));
    }
    if !view.tasks.is_empty() {
        text.push('\n');
        text.push_str(&tasks(view, now));
    }
    if let Some(next) = view.next {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "there are more: --after {next}");
    }
    text
}

fn workloads(view: &ReachView, now: Time) -> String {
    let mut table = Table::new(&["WORKLOAD", "OWNER", "STATE", "SCOPES", "MAY"]);
    for may in &view.workloads {
        let stopped: Vec<String> = may
            .stopped_by
            .iter()
            .map(|(on, since)| format!("stopped by {on} {}", moment(*since, now)))
            .collect();
        table.row([
            may.workload.to_string(),
            may.owner.to_string(),
            if stopped.is_empty() {
                "enabled".to_owned()
            } else {
                stopped.join(", ")
            },
            may.scopes.join(" "),
            access_line(&may.access),
        ]);
    }
    table.lines()
}

fn tasks(view: &ReachView, now: Time) -> String {
    let mut table = Table::new(&[
        "CLIENT", "WORKLOAD", "OWNER", "LIVE", "UNTIL", "INSTANCE", "MAY",
    ]);
    for task in &view.tasks {
        for client in &task.clients {
            table.row([
                client.client.to_string(),
                task.workload.to_string(),
                task.owner.to_string(),
                client.credentials.len().to_string(),
                moment(task.until, now),
                client.instance.clone(),
                access_line(&client.access),
            ]);
        }
    }
    table.lines()
}

/// A number of things.
fn counted(number: u64, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    }
}

//! `dayfly task show`: one task with its clients.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::TaskId;

use super::place::{At, PlaceArgs};
use super::record::now;
use super::{print, print_json, tree};

/// Options of `dayfly task show`.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The task
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn task(args: &TaskShowArgs, at: At<'_>) -> Result<ExitCode> {
    let task = args.place.record(at).await?.task(args.task).await?;
    if args.json {
        return print_json(&task);
    }
    print(&tree::task(&task, now()))
}

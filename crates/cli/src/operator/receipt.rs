//! `dayfly receipt`: all entries of a task with their proofs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use dayfly_domain::TaskId;

use super::place::{At, PlaceArgs};
use super::print;

/// Options of `dayfly receipt`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The task
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// With the annexes: claims, people and reasons
    #[arg(long)]
    annex: bool,
    /// Write it to this file, which must not be there yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn receipt(args: &ReceiptArgs, at: At<'_>) -> Result<ExitCode> {
    let record = args.place.record(at).await?;
    let receipt = record.receipt(args.task, args.annex).await?;
    let mut text = serde_json::to_string(&receipt)?;
    text.push('\n');
    let Some(path) = &args.output else {
        return print(&text);
    };
    std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

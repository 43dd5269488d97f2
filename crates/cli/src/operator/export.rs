//! `dayfly ledger export`: entries as bundle files that prove themselves by a signed head.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use dayfly_domain::Time;
use dayfly_ledger::VerifierKey;
use dayfly_server::record::HeadView;
use dayfly_store::{BUNDLE_ENTRIES, Exported, bundle};
use serde::Serialize;

use super::bundles::check_proof;
use super::place::{At, PlaceArgs};
use super::record::{Record, now};
use super::{print, print_json, when};

/// Options of `dayfly ledger export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The folder to write to; the bundles go into a folder in it that is called as the tenant, and
    /// none is written over what is there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// From this position on; a bundle begins at a multiple of 256, so a few before it may come along
    #[arg(long, value_name = "POS", conflicts_with = "since")]
    from: Option<u64>,
    /// Up to and with this position; the rest of its bundle comes along
    #[arg(long, value_name = "POS", conflicts_with = "until")]
    to: Option<u64>,
    /// From this time on: 2026-11-21, 2026-11-21T03:12:07Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With the annexes: claims, people and reasons
    #[arg(long)]
    annex: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    folder: PathBuf,
    tenant: String,
    /// The first position and the last.
    from: u64,
    to: u64,
    bundles: u64,
    annexes: bool,
    head: HeadView,
}

pub(super) async fn export(args: &ExportArgs, at: At<'_>) -> Result<ExitCode> {
    let record = args.place.record(at).await?;
    let head = record.head().await?;
    let range = range(args, &record, head.size).await?;
    let folder = args.folder.join(record.tenant().as_str());
    make(&folder)?;
    let files: Vec<(u64, PathBuf)> = firsts(range)
        .map(|first| (first, folder.join(file_name(first, head.size))))
        .collect();
    // All of them before the first is written: half an export helps nobody.
    for (_, path) in &files {
        ensure!(
            path.symlink_metadata().is_err(),
            "`{}` is there already, and an export is written over nothing",
            path.display()
        );
    }
    let key: VerifierKey = head.verifier_key.parse().context("the server's key")?;
    for (first, path) in &files {
        let bundle = record.bundle(&head, *first, args.annex).await?;
        let bundle = bundle.part_of(range);
        // What would not hold elsewhere is not written.
        check_proof(&bundle, std::slice::from_ref(&key))
            .map_err(|why| why.said(path))
            .and_then(|proven| {
                let same = proven.is_some_and(|proven| proven.head.root == head.root);
                ensure!(same, "the server proves another head than it gave");
                Ok(())
            })?;
        bundle.write_new(path)?;
    }
    let written = Written {
        folder,
        tenant: record.tenant().to_string(),
        from: range.from,
        to: range.to - 1,
        bundles: files.len() as u64,
        annexes: args.annex,
        head,
    };
    if args.json {
        return print_json(&written);
    }
    print(&lines(&written))
}

/// The whole tiles, and the last one as far as it goes, that hold what was asked for.
async fn range(args: &ExportArgs, record: &Record, size: u64) -> Result<Exported> {
    ensure!(size > 0, "there is nothing in the ledger yet");
    let now = now();
    let from = match (&args.since, args.from) {
        (Some(since), _) => first_at(record, size, when::parse(since, now)?).await?,
        (None, from) => from.unwrap_or(0),
    };
    let end = match (&args.until, args.to) {
        (Some(until), _) => {
            let until = when::parse(until, now)?;
            first_at(record, size, Time::from_millis(until.millis() + 1)).await?
        }
        (None, to) => to.map_or(size, |to| to.saturating_add(1)).min(size),
    };
    ensure!(
        from < end,
        "there is no entry in that range: the ledger has the positions 0 to {}",
        size - 1
    );
    let to = end.div_ceil(BUNDLE_ENTRIES) * BUNDLE_ENTRIES;
    Ok(Exported {
        from: from - from % BUNDLE_ENTRIES,
        to: to.min(size),
    })
}

/// The first position whose entry is of this time or later. Time never runs back in a ledger.
async fn first_at(record: &Record, size: u64, time: Time) -> Result<u64> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let entries = record.entries(middle, 1).await?;
        let entry = entries.first().context("the ledger became shorter")?;
        if entry.line.at < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn firsts(range: Exported) -> impl Iterator<Item = u64> {
    (range.from / BUNDLE_ENTRIES..range.to.div_ceil(BUNDLE_ENTRIES))
        .map(|tile| tile * BUNDLE_ENTRIES)
}

fn file_name(first: u64, size: u64) -> String {
    bundle::name(first, (size - first).min(BUNDLE_ENTRIES))
}

/// Makes the folder, for nobody else to read, and syncs that it is there.
fn make(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
    for above in folder.ancestors().skip(1).take(2) {
        let above = if above == Path::new("") {
            Path::new(".")
        } else {
            above
        };
        File::open(above)
            .and_then(|above| above.sync_all())
            .with_context(|| format!("the folder `{}` cannot be synced", above.display()))?;
    }
    Ok(())
}

fn lines(written: &Written) -> String {
    let Written {
        folder,
        tenant,
        from,
        to,
        bundles,
        annexes,
        head,
    } = written;
    let files = if *bundles == 1 { "file" } else { "files" };
    let annexes = if *annexes {
        "with their annexes"
    } else {
        "without annexes"
    };
    format!(
        "{tenant}: positions {from} to {to} of {} entries, {annexes}, in {bundles} {files} in {}\n\
         verifier key {}\n\n{}",
        head.size,
        folder.display(),
        head.verifier_key,
        head.note
    )
}

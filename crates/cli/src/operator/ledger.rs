//! `dayfly ledger`: its head, an earlier head against it, its latest entries, and the check of all of it.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dayfly_ledger::{FsckError, VerifierKey};
use dayfly_server::mint::ledger_keys;
use dayfly_server::record::{LedgerEntry, moment, one_line};
use dayfly_store::{FsckFailure, FsckReport, TenantReport};
use serde_json::{Value, json};

use super::place::{At, PlaceArgs};
use super::record::{Record, now};
use super::{bundles, database, failed, print, print_json, read_file};
use crate::output::say;

/// Options of `dayfly ledger fsck`.
#[derive(Debug, clap::Args)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON, a line for each tenant that holds, or one for the first thing that differs
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly ledger head`.
#[derive(Debug, clap::Args)]
pub(crate) struct HeadArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON: origin, size, root, verifier_key, note
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly ledger verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// An earlier head: the note itself, or JSON that holds it, as `ledger head --json`, a receipt
    /// or a line of a head sink; `-` for standard input. Or a bundle of entries, or a folder of them,
    /// exported or moved out of the database
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key of the ledger as it was trusted then, and again the present one where it was
    /// replaced since; without it, those that the server names. Bundles are verified offline by it
    #[arg(long, value_name = "VERIFIER_KEY")]
    key: Vec<String>,
    /// The head that the bundles must be of, in a form as above; without it, those that they hold
    #[arg(long, value_name = "HEAD")]
    head: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly ledger tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How many entries
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u64,
    /// Go on as entries come
    #[arg(short, long)]
    follow: bool,
    /// Print JSON, a line for each entry
    #[arg(long)]
    json: bool,
}

pub(super) fn fsck(args: &FsckArgs, at: At<'_>) -> ExitCode {
    match fsck_all(args, at) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => failed(&why),
    }
}

/// Checks the database, served or not; false when it differs.
fn fsck_all(args: &FsckArgs, at: At<'_>) -> Result<bool> {
    let place = args.place.read()?;
    // A name that is mistyped must not look like a ledger that holds.
    let wanted = place.tenants(at.tenant)?;
    let checked = dayfly_store::fsck(&database::path(&place.config)?);
    print(&match &checked {
        Ok(report) => {
            let tenants = report.tenants.iter();
            let lines = tenants
                .filter(|of| wanted.contains(&of.name))
                .map(|of| holds(of, args.json));
            lines.collect::<String>()
        }
        Err(why) => differs(why, args.json),
    })?;
    let lost = |report: FsckReport| {
        let mut tenants = report.tenants.iter();
        tenants.any(|of| wanted.contains(&of.name) && !of.lost.is_empty())
    };
    Ok(checked.is_ok_and(|report| !lost(report)))
}

fn holds(ledger: &TenantReport, json: bool) -> String {
    let TenantReport {
        name,
        size,
        root,
        open,
        lost,
    } = ledger;
    if json {
        let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
        let line = json!({
            "tenant": name, "holds": lost.is_empty(), "size": size, "root": root, "open": open,
            "lost": lost,
        });
        return format!("{line}\n");
    }
    let but = match lost.as_slice() {
        [] => "",
        [_, ..] => " as far as they can be read",
    };
    let mut text = format!("{name}: {size} entries hold{but}, root {root}, {open} open tasks\n");
    for why in lost {
        text.push_str(&format!("{name}: {}\n", one_line(&why.to_string())));
    }
    text
}

/// The first thing that differs, and where.
pub(super) fn differs(why: &FsckFailure, json: bool) -> String {
    let (tenant, position) = match why {
        FsckFailure::Open(_) | FsckFailure::Database(_) | FsckFailure::Integrity(_) => (None, None),
        FsckFailure::Ledger { tenant, source } => (Some(tenant), first_position(source)),
        FsckFailure::Beside { tenant, pos, .. } => (Some(tenant), Some(*pos)),
        FsckFailure::Tile { tenant, .. } | FsckFailure::Hot { tenant, .. } => (Some(tenant), None),
    };
    let said = said(why);
    if json {
        let line = json!({
            "tenant": tenant, "holds": false, "position": position, "why": said,
        });
        return format!("{line}\n");
    }
    match position {
        Some(position) => format!("differs at position {position}: {said}\n"),
        None => format!("differs: {said}\n"),
    }
}

fn first_position(why: &FsckError) -> Option<u64> {
    match why {
        FsckError::Entry { pos, .. } => Some(*pos),
        FsckError::Size { wanted, got } => Some(*wanted.min(got)),
        FsckError::Root { .. } => None,
    }
}

/// What differs, with all its causes.
fn said(why: &FsckFailure) -> String {
    let mut text = why.to_string();
    let mut source = std::error::Error::source(why);
    while let Some(why) = source {
        text.push_str(&format!(": {why}"));
        source = why.source();
    }
    one_line(&text)
}

pub(super) async fn head(args: &HeadArgs, at: At<'_>) -> Result<ExitCode> {
    let head = args.place.record(at).await?.head().await?;
    if args.json {
        return print_json(&head);
    }
    let printed = print(&head.note);
    if std::io::stdout().is_terminal() {
        say(format_args!("verifier key {}", head.verifier_key));
    }
    printed
}

/// Wrong use, or what keeps it from being told whether it holds.
const USAGE: u8 = 2;

pub(super) async fn verify(args: &VerifyArgs, at: At<'_>) -> Result<ExitCode> {
    match verified(args, at).await {
        Ok(code) => Ok(code),
        Err(why) => {
            say(one_line(&format!("{why:#}")));
            Ok(USAGE.into())
        }
    }
}

async fn verified(args: &VerifyArgs, at: At<'_>) -> Result<ExitCode> {
    let given = args.key.iter().map(|key| key.parse());
    let given: Vec<VerifierKey> = given
        .collect::<Result<_, _>>()
        .context("`--key` is no verifier key")?;
    if let Some(files) = bundles::find(&args.file, at.tenant)? {
        return verify_bundles(args, &files, given, at).await;
    }
    ensure!(
        args.head.is_none(),
        "--head goes with bundles, and this is a head"
    );
    let file = read_file(&args.file)?;
    let held = note_in(&file).context("there is no signed head in the file")?;
    let record = args.place.record(at).await?;
    let mut compared = record.compare(&held).await?;
    let keys = if given.is_empty() {
        ledger_keys(&record.keys().await?)
    } else {
        given
    };
    // What the server says of itself is checked here once more.
    compared.why = compared.check(&held, &keys).err();
    compared.holds = compared.why.is_none();
    let code = if compared.holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if args.json {
        print_json(&compared)?;
        return Ok(code);
    }
    let text = match (&compared.why, compared.held) {
        (None, held) => format!(
            "holds: the ledger of {} entries begins with the {} of the earlier head\n",
            compared.present.size,
            held.map_or(0, |held| held.size)
        ),
        (Some(why), _) => format!("does not hold: {}\n", one_line(why)),
    };
    print(&text)?;
    Ok(code)
}

/// Verifies entries in files: by a key that is given with nothing else, or else by the keys that
/// the server names, and then against its present head too.
async fn verify_bundles(
    args: &VerifyArgs,
    files: &[PathBuf],
    given: Vec<VerifierKey>,
    at: At<'_>,
) -> Result<ExitCode> {
    ensure!(
        given.is_empty() || !at.named,
        "--key verifies bundles offline, so no server is asked: leave one of --key and --server away"
    );
    let held = match &args.head {
        Some(file) => Some(
            note_in(&read_file(file)?)
                .with_context(|| format!("there is no signed head in {}", file.display()))?,
        ),
        None => None,
    };
    let (record, keys) = if given.is_empty() {
        let record = args.place.record(at).await?;
        let keys = ledger_keys(&record.keys().await?);
        (Some(record), keys)
    } else {
        (None, given)
    };
    let alone = !args.file.is_dir();
    let mut judged = bundles::judge(files, alone, &keys, held.as_deref())?;
    if let (Some(record), Ok(proven)) = (record, &judged) {
        let compared = record.compare(&proven.note).await?;
        if let Err(why) = compared.check(&proven.note, &keys) {
            judged = Err(bundles::Fault::Foreign(why));
        }
    }
    let (code, line) = match &judged {
        Ok(proven) => (ExitCode::SUCCESS, proven.line()),
        Err(why) => (
            ExitCode::FAILURE,
            format!("does not hold: {}", one_line(&why.to_string())),
        ),
    };
    if args.json {
        print_json(&bundles::json(&judged))?;
    } else {
        print(&format!("{line}\n"))?;
    }
    Ok(code)
}

/// The signed head in a file: the note itself, or the last JSON line that holds one.
pub(super) fn note_in(file: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(file).ok()?;
    let of_json = |text: &str| {
        let value: Value = serde_json::from_str(text).ok()?;
        let note = value.get("note").or_else(|| value.get("head"))?;
        note.as_str().map(str::to_owned)
    };
    if !text.trim_start().starts_with('{') {
        return text.contains("\n\n\u{2014} ").then(|| text.to_owned());
    }
    of_json(text).or_else(|| text.lines().rev().find_map(of_json))
}

/// How often is looked for new entries.
const ROUND: Duration = Duration::from_millis(500);
/// How many entries are asked for at once.
const PAGE: usize = 500;

pub(super) async fn tail(args: &TailArgs, at: At<'_>) -> Result<ExitCode> {
    let record = args.place.record(at).await?;
    let size = record.size().await?;
    let mut next = print_from(&record, size.saturating_sub(args.lines), args.json).await?;
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
        next = print_from(&record, next, args.json).await?;
    }
}

/// Prints what there is from a position on, and gives the position after it.
async fn print_from(record: &Record, mut from: u64, json: bool) -> Result<u64> {
    loop {
        let entries = record.entries(from, PAGE).await?;
        let Some(last) = entries.last() else {
            return Ok(from);
        };
        from = last.line.pos + 1;
        for entry in &entries {
            if json {
                print_json(entry)?;
            } else {
                print(&entry_line(entry))?;
            }
        }
    }
}

fn entry_line(entry: &LedgerEntry) -> String {
    let line = &entry.line;
    let task = line.task.map(|task| format!("{task} ")).unwrap_or_default();
    let note = match (&line.note.by, &line.note.reason) {
        (Some(by), Some(reason)) => format!(" ({by}: {reason})"),
        (Some(by), None) => format!(" ({by})"),
        (None, Some(reason)) => format!(" ({reason})"),
        (None, None) => String::new(),
    };
    format!(
        "{:>8}  {}  {:<18}  {task}{}\n",
        line.pos,
        moment(line.at, now()),
        line.kind,
        one_line(&format!("{}{note}", line.what))
    )
}

//! `dayfly ledger`: its head, an earlier head against it, its latest entries, and the check of all of it.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use dayfly_ledger::VerifierKey;
use dayfly_server::record::{CheckError, LedgerEntry, check, moment, one_line};
use serde_json::{Value, json};

use super::place::PlaceArgs;
use super::record::{Record, now};
use super::{database, failed, print, print_json, read_file};
use crate::output::say;

/// Options of `dayfly ledger fsck`.
#[derive(Debug, clap::Args)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON, a line for each tenant
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
    /// or a line of a head sink; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key of the ledger as it was trusted then; without it, the one that the server names
    #[arg(long, value_name = "VERIFIER_KEY")]
    key: Option<String>,
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

pub(super) fn fsck(args: &FsckArgs, tenant: Option<&str>) -> ExitCode {
    match fsck_all(args, tenant) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => failed(&why),
    }
}

/// Checks the ledger of each tenant; false when one differs.
fn fsck_all(args: &FsckArgs, tenant: Option<&str>) -> Result<bool> {
    let place = args.place.read()?;
    let store = database::open(&place.config)?;
    let mut all_hold = true;
    for tenant in place.tenants(tenant)? {
        let checked = check(&store, &tenant);
        all_hold &= checked.is_ok();
        let text = match (&checked, args.json) {
            (Ok(ledger), true) => {
                let line = json!({
                    "tenant": tenant, "holds": true, "size": ledger.size, "root": ledger.root,
                    "open": ledger.open, "erased": ledger.erased,
                });
                format!("{line}\n")
            }
            (Ok(ledger), false) => format!(
                "{tenant}: {} entries hold, root {}, {} open tasks, {} annexes erased\n",
                ledger.size, ledger.root, ledger.open, ledger.erased
            ),
            (Err(why), true) => {
                let line = json!({
                    "tenant": tenant, "holds": false, "position": why.position(), "why": said(why),
                });
                format!("{line}\n")
            }
            (Err(why), false) => match why.position() {
                Some(pos) => format!("{tenant}: differs at position {pos}: {}\n", said(why)),
                None => format!("{tenant}: differs: {}\n", said(why)),
            },
        };
        print(&text)?;
    }
    Ok(all_hold)
}

/// What differs, with all its causes.
fn said(why: &CheckError) -> String {
    let mut text = why.to_string();
    let mut source = std::error::Error::source(why);
    while let Some(why) = source {
        text.push_str(&format!(": {why}"));
        source = why.source();
    }
    one_line(&text)
}

pub(super) async fn head(args: &HeadArgs, tenant: Option<&str>) -> Result<ExitCode> {
    let head = args.place.record(tenant).await?.head().await?;
    if args.json {
        return print_json(&head);
    }
    let printed = print(&head.note);
    if std::io::stdout().is_terminal() {
        say(format_args!("verifier key {}", head.verifier_key));
    }
    printed
}

pub(super) async fn verify(args: &VerifyArgs, tenant: Option<&str>) -> Result<ExitCode> {
    let file = read_file(&args.file)?;
    let held = note_in(&file).context("there is no signed head in the file")?;
    let given: Option<VerifierKey> = args
        .key
        .as_deref()
        .map(|key| key.parse().context("`--key` is no verifier key"))
        .transpose()?;
    let mut compared = args.place.record(tenant).await?.compare(&held).await?;
    let key = match given {
        Some(key) => key,
        None => compared.present.verifier_key.parse()?,
    };
    // What the server says of itself is checked here once more.
    compared.why = compared.check(&held, &key).err();
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

pub(super) async fn tail(args: &TailArgs, tenant: Option<&str>) -> Result<ExitCode> {
    let record = args.place.record(tenant).await?;
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
    format!(
        "{:>8}  {}  {:<18}  {task}{}\n",
        line.pos,
        moment(line.at, now()),
        line.kind,
        one_line(&line.what)
    )
}

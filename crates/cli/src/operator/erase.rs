//! `dayfly ledger erase`: what the record says of a person goes, and the ledger stays whole.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::change::says_something;
use super::place::{At, PlaceArgs};
use super::{print, print_json};

/// Options of `dayfly ledger erase`.
#[derive(Debug, clap::Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Every annex in which this person of this issuer is named, as a claim or as who did something
    #[arg(long, num_args = 2, value_names = ["ISS", "SUB"], conflicts_with = "entry")]
    subject: Vec<String>,
    /// Every annex that holds this claim, as in actor_id=583231; may stand more than once, and then
    /// all of them must be in one place
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim, conflicts_with = "entry")]
    claim: Vec<(String, String)>,
    /// The annex of this entry; may stand more than once
    #[arg(long, value_name = "POS", required_unless_present_any = ["subject", "claim"])]
    entry: Vec<u64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Why, without naming the person; it stands in the record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("a claim is named as NAME=VALUE".to_owned()),
    }
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
struct Erased {
    entries: u64,
    open_tasks: u64,
    erased: bool,
}

pub(super) async fn erase(args: &EraseArgs, at: At<'_>) -> Result<ExitCode> {
    if let Some(reason) = &args.reason {
        says_something(reason)?;
    }
    let mut saying: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in ["iss", "sub"].into_iter().zip(&args.subject) {
        saying.insert(name, value);
    }
    for (name, value) in &args.claim {
        saying.insert(name, value);
    }
    let served = args.place.served(at).await?;
    let body = json!({
        "entries": args.entry, "saying": saying, "dry_run": args.dry_run,
        "reason": args.reason.as_deref().unwrap_or_default(),
    });
    let erased: Erased = served.post("ledger/erase", &body).await?;
    if args.json {
        return print_json(&erased);
    }
    print(&told(&erased))
}

fn told(erased: &Erased) -> String {
    let annexes = match erased.entries {
        1 => "1 annex".to_owned(),
        many => format!("{many} annexes"),
    };
    let done = if erased.erased {
        "erased; every leaf and every proof stays"
    } else {
        "would be erased"
    };
    let mut text = format!("{annexes} {done}\n");
    let cannot = match (erased.open_tasks, erased.erased) {
        (0, _) => return text,
        (1, true) => "1 open task cannot".to_owned(),
        (1, false) => "1 open task could not".to_owned(),
        (many, true) => format!("{many} open tasks cannot"),
        (many, false) => format!("{many} open tasks could not"),
    };
    text.push_str(&cannot);
    text.push_str(" renew any more, for policies are asked about its claims\n");
    text
}

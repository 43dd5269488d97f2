//! `dayfly verify`: whether a receipt holds, with nothing but the receipt and a key.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use dayfly_domain::Time;
use dayfly_ledger::receipt::{VerifiedAnnex, VerifiedEntry};
use dayfly_ledger::{Receipt, ReceiptError, Verified, VerifierKey};
use dayfly_server::record::one_line;

use super::{print, read_file};
use crate::output::say;

/// Options of `dayfly verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The receipt, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key of the ledger, from `dayfly ledger head --json` of a time when it was trusted
    #[arg(long, value_name = "VERIFIER_KEY")]
    key: String,
    /// Accept the receipt of a task that had not ended: it cannot prove that nothing was left out
    #[arg(long)]
    open: bool,
}

/// What verification found.
pub(super) enum Found {
    Holds(String),
    Not(String),
}

/// Wrong use, as in every Unix tool.
const USAGE: u8 = 2;

pub(super) fn main(args: &VerifyArgs) -> ExitCode {
    match verify(args) {
        Ok(Found::Holds(text)) => print(&text).unwrap_or(ExitCode::FAILURE),
        Ok(Found::Not(why)) => {
            say(format_args!("does not hold: {why}"));
            ExitCode::FAILURE
        }
        Err(why) => {
            say(format_args!("{why:#}"));
            USAGE.into()
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<Found> {
    let key: VerifierKey = args.key.parse().context("`--key` is no verifier key")?;
    Ok(judge(&read_file(&args.file)?, &key, args.open))
}

/// Verifies the bytes of a receipt. One that its task's end does not close holds only where that
/// is asked for: whoever cuts the last entries off makes just such a one.
pub(super) fn judge(json: &[u8], key: &VerifierKey, open: bool) -> Found {
    let receipt = match Receipt::parse(json) {
        Ok(receipt) => receipt,
        Err(why) => return Found::Not(said(&why)),
    };
    match receipt.verify(key) {
        Ok(verified) if verified.complete() || open => Found::Holds(written(&verified)),
        Ok(verified) => Found::Not(format!(
            "the chain of {} is not closed: after its {} entries nothing says that the task has ended, so entries may have been cut off (--open accepts the receipt of a task that was open)",
            verified.task(),
            verified.entries().len()
        )),
        Err(why) => Found::Not(said(&why)),
    }
}

fn written(verified: &Verified<'_>) -> String {
    let head = verified.head();
    let entries = verified.entries();
    let mut text = format!(
        "holds: {}, {} entries, {}\nledger {} of {} entries, root {}\n",
        verified.task(),
        entries.len(),
        if verified.complete() {
            "complete: the task has ended and nothing is left out"
        } else {
            "the task was open after the last of them"
        },
        one_line(&head.origin),
        head.size,
        head.root
    );
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line(entry));
    }
    text
}

fn line(entry: &VerifiedEntry<'_>) -> String {
    let annex = match entry.annex {
        VerifiedAnnex::None => String::new(),
        VerifiedAnnex::Withheld => "  (annex not shown)".to_owned(),
        VerifiedAnnex::Shown(annex) => format!("  {}", one_line(annex)),
    };
    format!(
        "{:>8}  {}  {}{annex}",
        entry.pos,
        Time::from_millis(entry.leaf.at),
        one_line(&entry.leaf.kind)
    )
}

/// An error of verification with all its causes.
fn said(why: &ReceiptError) -> String {
    let mut text = why.to_string();
    let mut source = std::error::Error::source(why);
    while let Some(why) = source {
        let _ = write!(text, ": {why}");
        source = why.source();
    }
    one_line(&text)
}

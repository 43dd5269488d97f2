//! `dayfly findings`: what a person should look at, and what to do about it.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::Time;
use dayfly_server::record::{FindingView, Findings, moment, one_line};

use super::place::{At, PlaceArgs};
use super::record::now;
use super::{print, print_json};

/// Options of `dayfly findings`.
#[derive(Debug, clap::Args)]
pub(crate) struct FindingsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Those that closed lately too
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn findings(args: &FindingsArgs, at: At<'_>) -> Result<ExitCode> {
    let found = args.place.record(at).await?.findings(args.all).await?;
    if args.json {
        return print_json(&found);
    }
    print(&text(&found, now()))
}

fn text(found: &Findings, now: Time) -> String {
    if found.findings.is_empty() {
        return "no finding\n".to_owned();
    }
    let mut text = String::new();
    for view in &found.findings {
        text.push_str(&lines(view, now));
    }
    if found.waiting > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} more wait for others to close before they open",
            found.waiting
        );
    }
    text
}

/// A finding in a heading, a sentence and what to do.
pub(super) fn lines(view: &FindingView, now: Time) -> String {
    let owner = view.what.owner();
    let owner = owner.map_or_else(String::new, |owner| format!(", owner {owner}"));
    let since = moment(view.opened, now);
    let since = match view.closed {
        None => format!("since {since}"),
        Some(closed) => format!("from {since}, closed {}", moment(closed, now)),
    };
    let mut lines = format!(
        "{} {}{owner}, {since}\n  {}\n",
        view.what.kind(),
        one_line(&view.what.about()),
        one_line(&view.says)
    );
    if view.closed.is_none() {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "  do: {}", one_line(&view.remedy));
    }
    lines
}

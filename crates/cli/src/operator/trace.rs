//! `dayfly trace`: the verdict, then tasks and what happened.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use dayfly_domain::{Digest, Time};
use dayfly_server::record::{
    EntryLine, IssuedView, TaskLine, TaskView, Trace, TraceKey, access_line, moment, one_line,
};
use dayfly_token::access_token::hash_of_token;
use zeroize::Zeroizing;

use super::place::{At, PlaceArgs};
use super::record::now;
use super::table::pairs;
use super::{list, print, print_json, tree, when};

/// Options of `dayfly trace`.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A task, client, jti, owner, workload, instance, run URL, resource, issuer, key thumbprint,
    /// token or proof hash, also as workload:NAME and so on; or `-` for a token on standard input, of
    /// which only a hash is used
    // A thumbprint may begin with a hyphen.
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    key: String,
    /// Only what was open or happened then or later: 2026-11-21, 2026-11-21T03:12:07Z, or 2h ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was open or happened then or earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The most bytes that are read of a token.
const TOKEN: u64 = 64 * 1024;
/// How many tasks are shown as trees.
const TREES: usize = 3;

pub(super) async fn trace(args: &TraceArgs, at: At<'_>) -> Result<ExitCode> {
    let now = now();
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(|text| when::parse(text, now))
            .transpose()
    };
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let key = match args.key.as_str() {
        "-" => TraceKey::Token(read_hash(std::io::stdin().lock())?),
        text => text.parse()?,
    };
    let trace = args
        .place
        .record(at)
        .await?
        .trace(&key, since, until)
        .await?;
    if args.json {
        return print_json(&trace);
    }
    print(&written(&trace, now))
}

/// Reads a token and keeps nothing of it but its hash.
pub(super) fn read_hash(from: impl std::io::Read) -> Result<Digest> {
    let mut text = Zeroizing::new(String::new());
    from.take(TOKEN)
        .read_to_string(&mut text)
        .context("standard input cannot be read as a token")?;
    let mut token = text.trim();
    // As it stands in a log, with its header and scheme before it.
    for before in ["authorization:", "bearer ", "dpop "] {
        if token
            .get(..before.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(before))
        {
            token = token.get(before.len()..).unwrap_or_default().trim();
        }
    }
    let hash = hash_of_token(token).context("standard input holds no token of three parts")?;
    Ok(Digest(hash))
}

/// A trace for a person.
pub(super) fn written(trace: &Trace, now: Time) -> String {
    let mut text = format!("{}\n", trace.verdict.line);
    if let Some(issued) = &trace.credential {
        text.push('\n');
        text.push_str(&credential(issued, now));
    }
    if !trace.tasks.is_empty() {
        text.push('\n');
        text.push_str(&tasks(trace, now));
    }
    for related in &trace.related {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} of {} {} {} ({})",
            related.task,
            related.workload,
            related.how.words(),
            related.of,
            list::state(&related.standing, now)
        );
    }
    if !trace.timeline.is_empty() {
        text.push('\n');
        let several = trace.tasks.len() > 1;
        for line in &trace.timeline {
            timeline(&mut text, line, several, now);
        }
    }
    for note in &trace.notes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "note: {}", one_line(note));
    }
    text
}

fn credential(issued: &IssuedView, now: Time) -> String {
    let time = |at: Option<Time>| at.map(|at| moment(at, now)).unwrap_or_default();
    pairs([
        ("credential", issued.credential.to_string()),
        ("issued", moment(issued.issued, now)),
        ("to", issued.credential.client.to_string()),
        ("for", format!("{} at {}", issued.resource, issued.audience)),
        ("may", access_line(&issued.access)),
        ("expires", moment(issued.expires, now)),
        ("revoked", time(issued.revoked)),
        (
            "bound to",
            issued
                .jkt
                .map_or("nothing: whoever has it may use it".to_owned(), |jkt| {
                    jkt.to_string()
                }),
        ),
        ("hash", issued.hash.to_string()),
    ])
}

fn tasks(trace: &Trace, now: Time) -> String {
    if trace.tasks.len() <= TREES {
        let trees: Vec<String> = trace
            .tasks
            .iter()
            .map(|task| tree::task(task, now))
            .collect();
        return trees.join("\n");
    }
    let counts = trace.counts;
    let mut text = format!(
        "{} live, {} over, {} ended",
        counts.live, counts.over, counts.ended
    );
    if counts.pending > 0 {
        let _ = write!(text, ", {} waiting for approval", counts.pending);
    }
    if counts.more {
        text.push_str(", and more that were not looked at");
    }
    let all = counts.live + counts.pending + counts.over + counts.ended;
    if all > trace.tasks.len() as u64 {
        let _ = write!(text, "; the newest {}:", trace.tasks.len());
    }
    text.push('\n');
    let lines: Vec<TaskLine> = trace.tasks.iter().map(TaskView::line).collect();
    text.push_str(&list::table(&lines));
    text
}

fn timeline(text: &mut String, line: &EntryLine, several: bool, now: Time) {
    let task = line.task.filter(|_| several);
    let task = task.map(|task| format!("{task} ")).unwrap_or_default();
    let _ = write!(
        text,
        "{}  {:>6}  {:<18}  {task}{}",
        moment(line.at, now),
        line.pos,
        line.kind,
        one_line(&line.what)
    );
    for (word, said) in [("by", &line.note.by), ("reason", &line.note.reason)] {
        if let Some(said) = said {
            let _ = write!(text, "; {word} {}", one_line(said));
        }
    }
    if line.erased {
        text.push_str("; annex erased");
    }
    text.push('\n');
}

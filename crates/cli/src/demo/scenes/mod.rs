//! The scenes, each of which does something real and fails where it does not go as promised.

pub(super) mod again;
pub(super) mod approved;
pub(super) mod batch;
pub(super) mod cancelled;
pub(super) mod ceiling;
pub(super) mod delegated;
pub(super) mod ended;
pub(super) mod killed;
pub(super) mod leaked;
pub(super) mod offboarded;
pub(super) mod publish;
pub(super) mod receipt;
pub(super) mod rerun;
pub(super) mod restart;
pub(super) mod session;
pub(super) mod shared;
pub(super) mod stolen;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::issuer::Repository;
use super::paint::Paint;
use super::process::Finished;
use super::stage::Stage;

/// Whose jobs are the workload `release`.
pub(super) const APP: Repository = Repository {
    name: "app",
    id: "1296269",
    workflow: "release",
    event: "push",
};
/// Whose jobs are the workload `preview`.
const PREVIEW: Repository = Repository {
    name: "preview",
    id: "1296270",
    workflow: "preview",
    event: "push",
};
/// Whose jobs are the workload `nightly`.
const REPORTS: Repository = Repository {
    name: "reports",
    id: "1296271",
    workflow: "nightly",
    event: "schedule",
};

/// Whose jobs are the workload `agent`.
const AGENT: Repository = Repository {
    name: "agent",
    id: "1296273",
    workflow: "notes",
    event: "schedule",
};
/// Whose jobs are the workload `assistant`.
const ASSISTANT: Repository = Repository {
    name: "assistant",
    id: "1296274",
    workflow: "assist",
    event: "workflow_dispatch",
};
/// Whose jobs are the workload `pipeline`.
const PIPELINE: Repository = Repository {
    name: "pipeline",
    id: "1296272",
    workflow: "deliver",
    event: "push",
};

/// What a scene plays with.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) stage: &'a Stage,
    pub(super) paint: Paint,
}

impl Scene<'_> {
    /// Runs a command of an operator, which must end with this code, and shows it.
    async fn operate(&self, arguments: &[&str], code: i32) -> Result<Finished> {
        self.paint.does(&format!("dayfly {}", typed(arguments)));
        self.stage.operate(arguments).await?.with_code(code)
    }

    /// Asks why a request was refused, and shows those lines of the answer that say it.
    async fn why(&self, refused: &Finished) -> Result<()> {
        let id = refusal_of(refused)?;
        let why = self.operate(&["why", id], 0).await?.out();
        let said = |line: &&str| SAY_WHY.iter().any(|word| line.starts_with(word));
        let lines: Vec<&str> = why.lines().filter(said).collect();
        ensure!(!lines.is_empty(), "`dayfly why` does not say why:\n{why}");
        for line in lines {
            self.paint.says(line);
        }
        Ok(())
    }
}

/// A command's words as they are typed into a shell.
fn typed(arguments: &[&str]) -> String {
    let words = arguments.iter().map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first words of the lines of `dayfly why` that a scene shows.
const SAY_WHY: [&str; 3] = ["field", "wanted", "got"];

/// The task that a run opened.
fn task_of(run: &Finished) -> Result<&str> {
    named(run, "task_")
}

/// The refusal that a command met.
fn refusal_of(run: &Finished) -> Result<&str> {
    named(run, "ref_")
}

fn named<'a>(run: &'a Finished, prefix: &str) -> Result<&'a str> {
    named_in(&run.line(prefix)?.text, prefix)
}

/// The first id of its kind in a line.
fn named_in<'a>(text: &'a str, prefix: &str) -> Result<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .find(|word| word.starts_with(prefix))
        .with_context(|| format!("no id begins with `{prefix}`"))
}

/// The exit code of a run that was ended elsewhere.
const ENDED_ELSEWHERE: i32 = 124;

/// What a run says at its end, without the head, which is for machines.
fn end_of(run: &Finished) -> Result<&str> {
    end_said(run, " ended ")
}

/// The same of one of several ends, by a text that only its line has.
fn end_said<'a>(run: &'a Finished, mark: &str) -> Result<&'a str> {
    let line = &run.line(mark)?.text;
    let line = line.strip_prefix("dayfly: ").unwrap_or(line);
    Ok(line.split("; head ").next().unwrap_or(line))
}

/// The head of the ledger that a run leaves in its log, a signed note.
fn head_of(run: &Finished) -> Result<String> {
    let line = &run.line(" ended ")?.text;
    let (_, head) = line
        .split_once("; head ")
        .context("the run printed no head")?;
    serde_json::from_str(head).context("the head in the run's log is no text")
}

/// A span as people read it: milliseconds, or seconds where there are many.
fn shown(span: Duration) -> String {
    match span.as_millis() {
        0..10 => format!("{:.1} ms", span.as_secs_f64() * 1_000.0),
        millis @ 10..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

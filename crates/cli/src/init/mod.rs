//! `dayfly init`: writes a commented configuration with one tenant, and never over anything.

mod files;
mod github;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::environment;
use crate::http::Clients;
use crate::output::{answer, say};
pub(crate) use files::BASELINE;
use files::{File, Folder};
use github::{Pinned, Repository};

/// Options of `dayfly init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// The folder to write to; made where it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The repository whose jobs are to run; its id is asked of GitHub
    #[arg(long, value_name = "OWNER/REPO")]
    github: Option<Repository>,
}

/// Where GitHub's API is, unless the environment says otherwise.
const GITHUB_API: &str = "https://api.github.com";
const GITHUB_API_URL: &str = "GITHUB_API_URL";
/// How long GitHub may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the files and says what to do next.
pub(crate) fn main(args: &InitArgs) -> ExitCode {
    match init(args) {
        Ok(text) => answer(text),
        Err(why) => {
            say(format_args!("{why:#}"));
            ExitCode::FAILURE
        }
    }
}

fn init(args: &InitArgs) -> Result<String> {
    let folder = Folder::new(&args.folder);
    folder.refuse_existing()?;
    let pinned = match &args.github {
        Some(repository) => ask_github(repository)?,
        None => Asked::Nothing,
    };
    let files = files::all(args.github.as_ref(), pinned.known())?;
    let written = folder.write(&files)?;
    Ok(report(args, &written, &pinned))
}

/// What was learnt of a repository.
enum Asked {
    /// None was named.
    Nothing,
    /// What GitHub says.
    Known(Pinned),
    /// Why GitHub says nothing, which is no reason to fail.
    Unknown(String),
}

impl Asked {
    fn known(&self) -> Option<&Pinned> {
        match self {
            Self::Known(pinned) => Some(pinned),
            Self::Nothing | Self::Unknown(_) => None,
        }
    }
}

fn ask_github(repository: &Repository) -> Result<Asked> {
    let base = environment::variable(GITHUB_API_URL).unwrap_or_else(|| GITHUB_API.to_owned());
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let answer = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(github::ask(&clients, &base, repository, PATIENCE));
    Ok(match answer {
        Ok(pinned) => Asked::Known(pinned),
        Err(why) => Asked::Unknown(format!("{why:#}")),
    })
}

fn report(args: &InitArgs, written: &[&File], asked: &Asked) -> String {
    let shown = |path: &str| args.folder.join(path).display().to_string();
    let width = written.iter().map(|file| shown(file.path).len()).max();
    let width = width.unwrap_or_default();
    let mut lines: Vec<String> = written
        .iter()
        .map(|file| format!("wrote {:width$}  {}", shown(file.path), file.what))
        .collect();
    if !written.iter().any(|file| file.path == files::IGNORE) {
        lines.push(format!(
            "left  {:width$}  see that it names dayfly.key, data/ and *.secret",
            shown(files::IGNORE)
        ));
    }
    lines.push(String::new());
    lines.extend(match_lines(args, asked));
    lines.push(String::new());
    lines.extend(next_lines(args));
    lines.join("\n")
}

fn match_lines(args: &InitArgs, asked: &Asked) -> Vec<String> {
    let repository = args.github.as_ref().map(ToString::to_string);
    let repository = repository.unwrap_or_default();
    let why = match asked {
        Asked::Known(Pinned { id, branch }) => {
            return vec![format!(
                "{repository} has the id {id} and the default branch {branch}: jobs on that branch match."
            )];
        }
        Asked::Nothing => "no repository was named with --github".to_owned(),
        Asked::Unknown(why) => format!("the id of {repository} is not known: {why}"),
    };
    let tenant = args.folder.join(files::TENANT);
    vec![
        format!("The workload `release` is unfinished, {why}."),
        "It refuses every proof until its `match` pins a repository. To find the id, let a job run".to_owned(),
        "`dayfly proof` (the job needs `permissions: id-token: write`), take `repository_id` from what".to_owned(),
        format!("it prints, and put it into {} where its comment says.", tenant.display()),
    ]
}

fn next_lines(args: &InitArgs) -> Vec<String> {
    let config = args.folder.join(files::CONFIG);
    let tenant = args.folder.join(files::TENANT);
    let config = config.display();
    vec![
        "Next:".to_owned(),
        format!("  1. Read {} and change what says \"change it\".", tenant.display()),
        format!("  2. Give artifacts.secret to the resource, and start: dayfly serve --config {config}"),
        "  3. Let a job do its work as a task, with `permissions: id-token: write`:".to_owned(),
        "       dayfly run --server URL/main --workload release --proxy artifacts -- ./publish.sh".to_owned(),
        "     where URL is `public_url`, and publish.sh sends its requests to $DAYFLY_ARTIFACTS_URL.".to_owned(),
        "     GitHub's own runners reach it only at an https URL; a runner of yours on this machine".to_owned(),
        "     does with http://127.0.0.1:8440.".to_owned(),
        format!("  4. See what ran, or why it did not: dayfly task list --config {config}"),
        "To see all of it at work first, without any of this: dayfly demo".to_owned(),
    ]
}

//! `dayfly demo`: scenes with a server, an issuer and services of its own, each of which fails if a promise does.

mod fetch;
mod guard;
mod issuer;
mod paint;
mod people;
mod present;
mod process;
mod scenes;
mod services;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::output::say;
use paint::Paint;
use scenes::{
    APP, Scene, again, approved, batch, cancelled, ceiling, delegated, ended, killed, leaked,
    offboarded, publish, receipt, rerun, restart, session, shared, stolen,
};
use stage::{LOG_LINES, OFFLINE_SECONDS, Stage};

/// Options of `dayfly demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Leave everything running until Ctrl-C, and print what to try next
    #[arg(long)]
    keep: bool,
    /// Send one request, as the jobs of the demo do where there is no curl
    #[arg(long, hide = true, conflicts_with = "keep")]
    fetch: bool,
    /// The words of a curl command
    #[arg(last = true, hide = true, requires = "fetch")]
    words: Vec<String>,
}

/// How long the whole story may take.
const DEADLINE: Duration = Duration::from_secs(90);
/// What a program that Ctrl-C ended is said to have ended with.
const INTERRUPTED: u8 = 130;

/// Plays the demo.
pub(crate) fn main(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime");
    let played = runtime.and_then(|runtime| match args.fetch {
        true => runtime.block_on(fetch::fetch(&args.words)),
        false => runtime.block_on(demo(args.keep)),
    });
    match played {
        Ok(code) => code,
        Err(why) => {
            say(format_args!("{why:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn demo(keep: bool) -> Result<ExitCode> {
    let began = clock::instant();
    let paint = Paint::of_stdout();
    let mut stop = Stop::catch()?;
    paint.title("dayfly demo: an identity for one task, and nothing after it");
    paint.busy("starting a server, an issuer and three services");
    let stage = tokio::select! {
        stage = Stage::set() => stage?,
        () = stop.comes() => return Ok(INTERRUPTED.into()),
    };
    introduce(&stage, paint).await;
    let scene = Scene {
        stage: &stage,
        paint,
    };
    let told = tokio::select! {
        told = tokio::time::timeout(DEADLINE, story(scene)) => {
            told.unwrap_or_else(|_| Err(anyhow!("it was not over within {} s", DEADLINE.as_secs())))
        }
        () = stop.comes() => {
            stage.clear().await;
            return Ok(INTERRUPTED.into());
        }
    };
    let code = match told {
        Ok((scenes, last)) => {
            paint.text("");
            let took = (clock::instant() - began).as_secs_f64();
            paint.title(&format!("All {scenes} went as promised, in {took:.1} s."));
            if keep {
                invite(&stage, paint, &last)?;
                stop.comes().await;
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            paint.fails(&format!("{why:#}"));
            say(format_args!(
                "the server's log ends:\n{}",
                stage.log_tail(LOG_LINES)
            ));
            ExitCode::FAILURE
        }
    };
    paint.busy("ending what still runs");
    stage.clear().await;
    paint.text("");
    Ok(code)
}

async fn introduce(stage: &Stage, paint: Paint) {
    let id = stage.server_id().await.unwrap_or_default();
    let services = &stage.services;
    paint.fact(
        "folder",
        &format!("{} (removed at the end)", stage.folder().display()),
    );
    paint.fact(
        "server",
        &format!("{} (process {id}, an empty ledger)", stage.tenant_url()),
    );
    paint.fact(
        "issuer",
        &format!(
            "{} (tokens and endpoint as GitHub Actions has them)",
            stage.issuer.url()
        ),
    );
    paint.fact(
        "people",
        &format!(
            "{} (an OpenID provider, for whoever operates, and for whom an agent works)",
            stage.people.url()
        ),
    );
    for service in [&services.artifacts, &services.queue] {
        let text = format!("{} (asks the server at every request)", service.url());
        paint.fact(service.name(), &text);
    }
    paint.fact(
        services.results.name(),
        &format!(
            "{} (offline: accepts until exp, at most {OFFLINE_SECONDS} s after the end)",
            services.results.url()
        ),
    );
    if !stage.has_curl {
        paint.text("    There is no curl on the PATH: the jobs call a small stand-in by its name.");
    }
}

/// The scenes in their order; gives how many there were, and the task that one of them was about.
async fn story(scene: Scene<'_>) -> Result<(usize, String)> {
    let mut number = 0;
    let mut begin = |title: &str| {
        number += 1;
        scene.paint.scene(number, title);
    };
    begin("A shell script publishes with plain curl");
    publish::play(scene).await?;
    begin("One token, before the end of its task and after it");
    let over = ended::play(scene).await?;
    begin("The ended run proves itself again");
    again::play(scene, &over.job).await?;
    begin("A job is killed with SIGKILL");
    killed::play(scene).await?;
    begin("A token is stolen from a running job");
    let token = stolen::play(scene).await?;
    begin("A job asks for more than it may have");
    ceiling::play(scene).await?;
    begin("A batch job reads a queue and writes one result set");
    batch::play(scene).await?;
    begin("The server is killed with SIGKILL while a job is at work");
    let head = restart::play(scene).await?;
    begin("A leaked token is found");
    leaked::play(scene, &token).await?;
    begin("A run is cancelled, and its webhook ends it");
    cancelled::play(scene).await?;
    begin("A receipt is verified offline, tampered with, and the ledger is cut off");
    receipt::play(scene, &over.task, &head).await?;
    begin("A person asks, and another approves");
    approved::play(scene).await?;
    begin("An agent hands work to helpers, and one of them is ended");
    delegated::play(scene).await?;
    begin("An agent works for a person, whose session ends");
    session::play(scene).await?;
    begin("Three jobs of one run share a task");
    let shared = shared::play(scene).await?;
    begin("A re-run supersedes the attempt before");
    let running = rerun::play(scene, shared).await?;
    begin("An offboarding ends the rest");
    offboarded::play(scene, running).await?;
    Ok((number, over.task))
}

/// What to try while everything is left running.
fn invite(stage: &Stage, paint: Paint, task: &str) -> Result<()> {
    let job = stage.issuer.any_job(APP)?;
    paint.text("");
    paint.text("Everything runs on until Ctrl-C. In another terminal:");
    for line in [
        format!("cd {}; PATH=$PWD/bin:$PATH", stage.folder().display()),
        "dayfly task list --all".to_owned(),
        format!("dayfly trace {task}"),
        "dayfly trace workload:release".to_owned(),
        "dayfly ledger fsck".to_owned(),
    ] {
        paint.text(&format!("    {line}"));
    }
    paint.text("or as a person, who may approve what waits; `dayfly login` says where to be whom:");
    paint.text(&format!(
        "    XDG_STATE_HOME=$PWD/logins/me dayfly login --server {}",
        stage.admin_url
    ));
    paint.text("or as a job of octo-org/app, of another run each time:");
    for line in [
        format!("export DAYFLY_SERVER={}", stage.tenant_url()),
        format!("export ACTIONS_ID_TOKEN_REQUEST_URL='{}'", job.url),
        format!("export ACTIONS_ID_TOKEN_REQUEST_TOKEN={}", job.token),
        "dayfly proof".to_owned(),
        "dayfly run --workload release --proxy artifacts -- sh publish.sh".to_owned(),
    ] {
        paint.text(&format!("    {line}"));
    }
    Ok(())
}

/// Ctrl-C and its like.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot catch signals")?,
            terminate: signal(SignalKind::terminate()).context("cannot catch signals")?,
        })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

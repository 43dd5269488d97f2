//! `dayfly run`: one command as one task, from the platform's proof to the end in the ledger.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use dayfly_token::handover::Given;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use crate::clock;
use crate::environment;
use crate::http::Clients;
use crate::output::{self, say};
use crate::random;
use crate::runner::address::ServerArgs;
use crate::runner::block_on;
use crate::runner::child::Program;
use crate::runner::end::{Outcome, end};
use crate::runner::heartbeat;
use crate::runner::listener::Listener;
use crate::runner::loopback::Loopback;
use crate::runner::patience::patiently;
use crate::runner::person::PersonSource;
use crate::runner::plan::Plan;
use crate::runner::proof_source::ProofSource;
use crate::runner::proxy::Seat;
use crate::runner::request::{Binding, Origin};
use crate::runner::server::Server;
use crate::runner::session::{Begun, Opening, Session};
use crate::runner::signals::Signals;
use crate::runner::span;
use crate::runner::supervise::{Rules, Verdict, supervise};
use crate::runner::surrounding::Surrounding;
use crate::runner::waiting::{TakenBack, Waiting};
use crate::runner::wire::{Failure, Refusal};
use crate::secret::Secret;

pub(crate) use crate::runner::plan::RunArgs;

/// Runs the command and gives its exit code, or one of our own.
pub(crate) fn main(args: RunArgs, server: ServerArgs) -> ExitCode {
    start(&args, &server, None)
}

/// The same as a helper of the surrounding run, with what that one hands over.
pub(crate) fn handed(args: RunArgs, server: ServerArgs, given: Given) -> ExitCode {
    start(&args, &server, Some(&given))
}

fn start(args: &RunArgs, server: &ServerArgs, given: Option<&Given>) -> ExitCode {
    let program = match Program::find(&args.command) {
        Ok(program) => program,
        Err(unusable) => {
            say(&unusable);
            return unusable.exit_code().into();
        }
    };
    keep_memory_private();
    match block_on(run(args, server, &program, given)).flatten() {
        Ok(code) => code.into(),
        Err(fault) => {
            say(format_args!("{fault:#}"));
            output::FAILED.into()
        }
    }
}

/// Takes this process's memory and environment, where key, tokens and proof are, out of reach of the command.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say(format_args!(
            "cannot keep the memory of this process private: {error}"
        ));
    }
}

async fn run(
    args: &RunArgs,
    server: &ServerArgs,
    program: &Program,
    given: Option<&Given>,
) -> Result<u8> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let opened = tokio::select! {
        opened = open(args, server, given) => opened,
        signal = signals.next() => return Ok(stopped_by(signal)),
    };
    let (begun, plan) = match opened {
        Ok(opened) => opened,
        Err(failure) => return Ok(not_opened(args, &failure)),
    };
    let session = match begun {
        Begun::Open(session) => session,
        Begun::Waits(waiting) => match approved(args, waiting, &mut signals).await {
            Ok(session) => session,
            Err(code) => return Ok(code),
        },
    };
    let session = Arc::new(session);
    say(format_args!(
        "{} is open until {} at the latest, as {}",
        session.task(),
        clock::utc(session.expires_at()),
        session.client()
    ));
    let verdict = within(args, &plan, &session, program, &mut signals).await;
    tokio::select! {
        () = end(&session, verdict.outcome) => {}
        signal = signals.next() => say(format_args!(
            "{signal}: not waiting for the end of {} to be taken",
            session.task()
        )),
    }
    Ok(verdict.code)
}

fn not_opened(args: &RunArgs, failure: &Failure) -> u8 {
    failure.say();
    if let Failure::Refused(refusal) = failure {
        explain_binding(args, refusal);
    }
    failure.exit_code()
}

/// Says who may approve and how, and waits. A run that stops waiting takes its request back.
async fn approved(args: &RunArgs, waiting: Waiting, signals: &mut Signals) -> Result<Session, u8> {
    let task = waiting.task().to_owned();
    let limit = args.wait_approval.min(waiting.expires_in());
    say(format_args!(
        "{task} waits for an approval, up to {}; a member of its owner gives it with: {}",
        span::show(limit),
        waiting.approving()
    ));
    let decided = tokio::select! {
        decided = waiting.decided(limit) => decided,
        signal = signals.next() => {
            let code = stopped_by(signal);
            take_back(waiting, signals).await;
            return Err(code);
        }
    };
    match decided {
        Ok(granting) => Ok(waiting.session(granting)),
        Err(Failure::Refused(refusal)) if refusal.error == "authorization_pending" => {
            say(format_args!(
                "nobody has approved {task} within {}",
                span::show(limit)
            ));
            take_back(waiting, signals).await;
            Err(output::REFUSED)
        }
        Err(failure) => {
            let code = not_opened(args, &failure);
            if !is_over(&failure) {
                take_back(waiting, signals).await;
            }
            Err(code)
        }
    }
}

/// Cancels a request that nobody waits for any more, unless somebody cannot wait for that either.
async fn take_back(waiting: Waiting, signals: &mut Signals) {
    let task = waiting.task().to_owned();
    let taken = tokio::select! {
        taken = waiting.take_back() => taken,
        signal = signals.next() => {
            say(format_args!("{signal}: {task} is left to expire"));
            return;
        }
    };
    match taken {
        Ok(TakenBack::Over) => say(format_args!("{task} is cancelled")),
        Ok(TakenBack::Fetched(session)) => tokio::select! {
            () = end(&session, Outcome::Cancelled) => {}
            signal = signals.next() => say(format_args!(
                "{signal}: not waiting for the end of {task} to be taken"
            )),
        },
        Err(failure) => say(format_args!("{task} is left to expire: {failure}")),
    }
}

/// Whether the server has said that nothing waits any more. What it refuses otherwise goes on waiting there.
fn is_over(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => {
            matches!(refusal.error.as_str(), "expired_token" | "invalid_grant")
                || refusal.rule() == Some("approval_denied")
        }
        Failure::Away(_) | Failure::Fault(_) => false,
    }
}

/// Everything up to the open task.
async fn open(
    args: &RunArgs,
    server: &ServerArgs,
    given: Option<&Given>,
) -> Result<(Begun, Plan), Failure> {
    args.check()?;
    let address = server.address()?;
    let address = address.context("name the server with --server or DAYFLY_SERVER")?;
    let origin = match given {
        None => {
            let person = PersonSource::find(args.on_behalf_of.as_deref());
            Origin::Platform(ProofSource::find()?, person)
        }
        Some(given) => Origin::Surrounding(Surrounding::find()?, given.clone()),
    };
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let server = Server::new(address, clients);
    let resources = patiently(args.wait, "the server", async || server.resources().await).await?;
    let plan = args.plan(&resources)?;
    let binding = match args.exports_tokens() {
        true => Binding::Bearer,
        false => Binding::key()?,
    };
    let begun = Session::open(Opening {
        server,
        origin,
        ask: plan.ask.clone(),
        binding,
        resources,
        wait: args.wait,
    })
    .await?;
    Ok((begun, plan))
}

/// What happens while the task is open.
async fn within(
    args: &RunArgs,
    plan: &Plan,
    session: &Arc<Session>,
    program: &Program,
    signals: &mut Signals,
) -> Verdict {
    let prepared = tokio::select! {
        prepared = prepare(plan, session) => prepared,
        signal = signals.next() => return Verdict {
            code: stopped_by(signal),
            outcome: Outcome::Cancelled,
        },
    };
    let inside = match prepared {
        Ok(inside) => inside,
        Err(failure) => {
            failure.say();
            return failed(failure.exit_code());
        }
    };
    let group = match program.start(&inside.variables) {
        Ok(group) => group,
        Err(error) => {
            let unusable = program.unusable(&error);
            say(&unusable);
            return failed(unusable.exit_code());
        }
    };
    let rules = Rules {
        limit: args.limit,
        on_end: args.on_end,
    };
    match supervise(group, signals, ended_elsewhere(session), rules).await {
        Ok(verdict) => verdict,
        Err(error) => {
            say(format_args!("cannot watch the command: {error}"));
            failed(output::FAILED)
        }
    }
}

/// Beats, unless the run could not go on beating: a task that never began is not missed.
async fn ended_elsewhere(session: &Session) -> Refusal {
    if session.renews() {
        heartbeat::keep(session).await
    } else {
        std::future::pending().await
    }
}

/// What a command needs to be inside the run; gone when this is dropped.
struct Inside {
    variables: Vec<(String, String)>,
    serving: JoinHandle<()>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn prepare(plan: &Plan, session: &Arc<Session>) -> Result<Inside, Failure> {
    let mut variables = exported(plan, session).await?;
    // A resource that is refused is refused now, and not in the middle of the command.
    if session.key().is_some() {
        for target in &plan.targets {
            session.token(target).await?;
        }
    }
    let listener = Listener::bind()
        .await
        .context("cannot listen on loopback")?;
    let port = listener.port();
    let mut seats = Vec::new();
    for (variable, resource) in &plan.proxies {
        let seat = Seat::new(Secret::new(random::name()?), resource)?;
        variables.push((variable.clone(), seat.url(port)));
        seats.push(seat);
    }
    let secret = Secret::new(random::name()?);
    let loopback = Loopback::new(Arc::clone(session), secret.clone(), port, seats);
    let address = session.server().address();
    for (name, value) in [
        ("DAYFLY_TASK", session.task()),
        ("DAYFLY_CLIENT", session.client()),
        ("DAYFLY_SERVER", address.public_url()),
        ("DAYFLY_TENANT", address.tenant()),
        (environment::TOKEN_URL, &loopback.token_url()),
        (environment::TOKEN_SECRET, secret.expose()),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    let serving = tokio::spawn(listener.serve(Arc::new(loopback)));
    Ok(Inside { variables, serving })
}

async fn exported(plan: &Plan, session: &Session) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for (variable, resource) in &plan.exports {
        let token = session.token(&Some(resource.clone())).await?;
        if token.is_bound() {
            return Err(Failure::Fault(anyhow!(
                "the server bound a token that {variable} should have held"
            )));
        }
        say(format_args!(
            "warning: {variable} holds a bearer token, which serves whoever reads it"
        ));
        variables.push((variable.clone(), token.secret().expose().to_owned()));
    }
    if !plan.exports.is_empty() && !session.renews() {
        say("warning: the platform gives one proof a job, so the exported tokens are not renewed");
    }
    Ok(variables)
}

fn explain_binding(args: &RunArgs, refusal: &Refusal) {
    let about_the_key =
        refusal.rule() == Some("binding_required") || refusal.error == "invalid_dpop_proof";
    if args.exports_tokens() && about_the_key {
        say(
            "--env exports a bearer token, which the workload allows only with `token = { binding = \"optional\" }`; --proxy needs no such leave",
        );
    }
}

fn stopped_by(signal: Signal) -> u8 {
    say(format_args!("{signal} came before the command was started"));
    output::killed_by(signal as i32)
}

fn failed(code: u8) -> Verdict {
    Verdict {
        code,
        outcome: Outcome::Failed,
    }
}

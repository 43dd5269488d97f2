//! Watches over a running command: passes signals on, beats, and stops it when its time or its task is over.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::output::{self, say};
use crate::runner::child::{Group, exit_code};
use crate::runner::end::Outcome;
use crate::runner::plan::OnEnd;
use crate::runner::signals::{Deaths, Signals, Stops};
use crate::runner::span;
use crate::runner::wire::Refusal;

/// How long a command that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// What decides over a command besides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limit: Option<Duration>,
    pub(crate) on_end: OnEnd,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: u8,
    pub(crate) outcome: Outcome,
}

/// Why a command was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Not,
    BySignal,
    TaskEnded,
    OutOfTime,
}

impl Told {
    /// The first reason is the one that counts.
    fn or(self, reason: Self) -> Self {
        match self {
            Self::Not => reason,
            Self::BySignal | Self::TaskEnded | Self::OutOfTime => self,
        }
    }
}

/// Waits until the command has ended; `ended` returns when the task was ended elsewhere.
pub(crate) async fn supervise(
    mut group: Group,
    signals: &mut Signals,
    ended: impl Future<Output = Refusal>,
    rules: Rules,
) -> io::Result<Verdict> {
    let mut deaths = Deaths::watch()?;
    // Whoever died before the watch began is buried now.
    if deaths.are_ours() {
        group.bury_orphans();
    }
    let mut stops = Stops::watch(group.has_terminal())?;
    // Of a stop before that there is no notice.
    group.follow();
    let mut ended = pin!(ended);
    let mut watching = true;
    let mut limit = rules.limit.map(clock::after);
    let mut kill_at = None;
    let mut told = Told::Not;
    let mut passed = Vec::new();
    let status = loop {
        tokio::select! {
            status = group.wait() => break status?,
            signal = signals.next() => {
                pass_on(&group, signal, &mut passed);
                told = told.or(Told::BySignal);
            }
            refusal = &mut ended, if watching => {
                watching = false;
                say(format_args!("the task was ended elsewhere: {refusal}"));
                if rules.on_end == OnEnd::Stop {
                    kill_at = stop(&group, &mut passed);
                    told = told.or(Told::TaskEnded);
                }
            }
            () = at(limit) => {
                limit = None;
                let span = rules.limit.unwrap_or_default();
                say(format_args!("the {} of --for are over", span::show(span)));
                kill_at = stop(&group, &mut passed);
                told = told.or(Told::OutOfTime);
            }
            () = at(kill_at) => {
                kill_at = None;
                say("the command did not end, killing it");
                group.signal(Signal::SIGKILL);
            }
            () = stops.next() => group.follow(),
            () = deaths.next() => group.bury_orphans(),
        }
    };
    Ok(verdict(status, told))
}

/// A signal goes on as it is, so that whoever escalates from one to another is understood; whoever repeats one, or
/// sends a third, wants the command gone.
fn pass_on(group: &Group, signal: Signal, passed: &mut Vec<Signal>) {
    if passed.contains(&signal) || passed.len() >= 2 {
        say(format_args!(
            "{signal} while it is ending, killing the command"
        ));
        group.signal(Signal::SIGKILL);
        return;
    }
    say(format_args!("passing {signal} on to the command"));
    group.signal(signal);
    group.signal(Signal::SIGCONT);
    passed.push(signal);
}

/// Asks the command to end, and gives the moment at which it is killed.
fn stop(group: &Group, passed: &mut Vec<Signal>) -> Option<Instant> {
    group.terminate();
    passed.push(Signal::SIGTERM);
    Some(clock::after(GRACE))
}

fn verdict(status: ExitStatus, told: Told) -> Verdict {
    let own = exit_code(status);
    let (code, outcome) = match told {
        // From a terminal the signal comes to the command alone.
        Told::Not if status.signal() == Some(Signal::SIGINT as i32) => (own, Outcome::Cancelled),
        Told::Not if own == 0 => (own, Outcome::Completed),
        Told::Not => (own, Outcome::Failed),
        Told::BySignal => (own, Outcome::Cancelled),
        Told::TaskEnded | Told::OutOfTime => (output::ENDED, Outcome::Cancelled),
    };
    Verdict { code, outcome }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::child::Program;

    /// A shell that ends by neither TERM nor INT, once it has got that far.
    fn stubborn() -> Group {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let script = "trap '' TERM INT; : > \"$READY\"; while :; do sleep 1; done";
        let command = ["sh", "-c", script].map(Into::into);
        let variables = [("READY".to_owned(), ready.to_str().unwrap().to_owned())];
        let group = Program::find(&command).unwrap().start(&variables).unwrap();
        while !ready.exists() {
            std::thread::yield_now();
        }
        group
    }

    /// With the clock paused, ten seconds pass as soon as nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_in_time_is_killed() {
        let rules = Rules {
            limit: Some(Duration::from_secs(1_200)),
            on_end: OnEnd::Stop,
        };
        let mut signals = Signals::catch().unwrap();
        let started = clock::instant();
        let ended = std::future::pending();
        let verdict = supervise(stubborn(), &mut signals, ended, rules).await;
        let wanted = Verdict {
            code: 124,
            outcome: Outcome::Cancelled,
        };
        assert_eq!(verdict.unwrap(), wanted);
        assert!(clock::instant() - started >= Duration::from_secs(1_210));
    }
}

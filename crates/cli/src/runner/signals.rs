//! The signals that reach a run: those it passes on, stops on a terminal, and as process 1 the deaths of orphans.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// INT, TERM and HUP, caught from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// `None` under `nohup`, which must keep its meaning for the command.
    hangup: Option<unix::Signal>,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let hangup = match is_ignored(Signal::SIGHUP) {
            true => None,
            false => Some(unix::signal(SignalKind::hangup())?),
        };
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            () = next_of(self.hangup.as_mut()) => Signal::SIGHUP,
        }
    }
}

/// Deaths of processes that this one may have to bury, as process 1 alone.
#[derive(Debug)]
pub(crate) struct Deaths(Option<unix::Signal>);

impl Deaths {
    pub(crate) fn watch() -> io::Result<Self> {
        match std::process::id() {
            1 => unix::signal(SignalKind::child()).map(|signal| Self(Some(signal))),
            _ => Ok(Self(None)),
        }
    }

    /// Whether orphans fall to this process.
    pub(crate) fn are_ours(&self) -> bool {
        self.0.is_some()
    }

    /// Returns when at least one more process has died; never where that is not ours to see to.
    pub(crate) async fn next(&mut self) {
        next_of(self.0.as_mut()).await;
    }
}

/// Stops of a command that shares a terminal with the run.
#[derive(Debug)]
pub(crate) struct Stops(Option<unix::Signal>);

impl Stops {
    pub(crate) fn watch(on_terminal: bool) -> io::Result<Self> {
        match on_terminal {
            true => unix::signal(SignalKind::child()).map(|signal| Self(Some(signal))),
            false => Ok(Self(None)),
        }
    }

    /// Returns when the command may have been stopped; never where it has no terminal.
    pub(crate) async fn next(&mut self) {
        next_of(self.0.as_mut()).await;
    }
}

async fn next_of(signal: Option<&mut unix::Signal>) {
    match signal {
        Some(signal) => {
            let _more = signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether whoever started this process had the signal ignored.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal as i32 - 1).ok();
    let bit = bit.and_then(|bit| 1_u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

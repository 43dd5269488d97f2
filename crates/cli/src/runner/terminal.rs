//! The terminal of a run: lent to the command while it runs, so that it reads and is interrupted as without a run.

use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal on standard input, for one command in a process group of its own; taken back when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    command: Pid,
    lent: bool,
}

impl Terminal {
    /// The terminal for the group `command`, lent to it at once where it is this process's to lend; `None` where
    /// standard input is no terminal.
    pub(crate) fn of(command: Pid) -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let mut terminal = Self {
            command,
            lent: false,
        };
        terminal.lend();
        Some(terminal)
    }

    /// Follows a command that was stopped: it gets the terminal where it only lacked that, and else this process stops
    /// as well, for the shell that waits for both, and continues the command when it is continued itself.
    pub(crate) fn follow(&mut self) {
        let Some(signal) = self.stopped_by() else {
            return;
        };
        let lacked = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if lacked && self.lend() {
            return;
        }
        self.take_back();
        // Nobody would wake a group that no shell controls: there the kernel lets this signal fall.
        let _stopped = killpg(getpgrp(), Signal::SIGTSTP);
        if !self.lend() {
            let _gone = killpg(self.command, Signal::SIGCONT);
        }
    }

    /// What stopped the command, if something has since this was asked last.
    fn stopped_by(&self) -> Option<Signal> {
        let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(self.command), look) {
            Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether the command has the terminal now; one that was stopped for want of it goes on.
    fn lend(&mut self) -> bool {
        let ours = tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp());
        if !ours || bring_forward(self.command).is_err() {
            return false;
        }
        self.lent = true;
        let _gone = killpg(self.command, Signal::SIGCONT);
        true
    }

    fn take_back(&mut self) {
        if self.lent {
            // A terminal that is gone has nothing left to take.
            let _gone = bring_forward(getpgrp());
            self.lent = false;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Makes `group` the terminal's foreground group.
fn bring_forward(group: Pid) -> nix::Result<()> {
    // A background process that changes the foreground is stopped, unless this signal cannot reach it.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTTOU);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let brought = tcsetpgrp(io::stdin(), group);
    before.thread_set_mask()?;
    brought
}

//! The command of a run as a process: found, started in a group of its own, signalled and buried.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{AccessFlags, Pid, access};
use tokio::process::{Child, Command};

use crate::environment;
use crate::output;
use crate::runner::terminal::Terminal;

/// A command that can be started.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

/// Why a command cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// No file by that name.
    #[error("command not found: `{0}`")]
    NotFound(String),
    /// A file that nobody, or not this user, can execute.
    #[error("cannot execute `{0}`")]
    NotExecutable(String),
}

impl Unusable {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => output::NOT_FOUND,
            Self::NotExecutable(_) => output::REFUSED,
        }
    }
}

impl Program {
    /// Finds the program of a command line, the way a shell would.
    pub(crate) fn find(command: &[OsString]) -> Result<Self, Unusable> {
        let (name, arguments) = command
            .split_first()
            .ok_or_else(|| Unusable::NotFound(String::new()))?;
        Ok(Self {
            path: find(name)?,
            name: name.clone(),
            arguments: arguments.to_vec(),
        })
    }

    /// Starts it with `variables` set, without what would let it prove to be the run.
    pub(crate) fn start(&self, variables: &[(String, String)]) -> io::Result<Group> {
        let mut command = Command::new(&self.path);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .process_group(0);
        for name in environment::PROOFS {
            command.env_remove(name);
        }
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| io::Error::other("the command has no process id"))?;
        let id = Pid::from_raw(id);
        Ok(Group {
            child,
            id,
            terminal: Terminal::of(id),
        })
    }

    /// What a failed start means.
    pub(crate) fn unusable(&self, error: &io::Error) -> Unusable {
        let name = self.name.to_string_lossy().into_owned();
        // The file was there a moment ago; what is missing is its interpreter.
        match error.kind() == io::ErrorKind::NotFound {
            true => Unusable::NotFound(name),
            false => Unusable::NotExecutable(format!("{name}: {error}")),
        }
    }
}

/// A running command and everything it started that did not leave its process group.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Pid,
    terminal: Option<Terminal>,
}

impl Group {
    /// Sends a signal to all of them.
    pub(crate) fn signal(&self, signal: Signal) {
        // An empty group has nobody who could miss it.
        let _gone = killpg(self.id, signal);
    }

    /// Asks all of them to end, stopped ones included.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
    }

    /// Whether the command shares a terminal with whoever started this process.
    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Follows the command where it was stopped on its terminal.
    pub(crate) fn follow(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.follow();
        }
    }

    /// Waits for the command itself.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Buries dead processes that are not the command, whose death [`Group::wait`] has to see.
    pub(crate) fn bury_orphans(&self) {
        // INVARIANT: looking at a dead process leaves it there, and only those that are not ours are taken.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(dead) = waitid(Id::All, look) {
            match dead.pid() {
                Some(pid) if pid != self.id => {
                    if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                        return;
                    }
                }
                Some(_) | None => return,
            }
        }
    }
}

/// The exit code that says how a command ended.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(output::FAILED),
        (None, Some(signal)) => output::killed_by(signal),
        (None, None) => output::FAILED,
    }
}

fn find(name: &OsStr) -> Result<PathBuf, Unusable> {
    let shown = || name.to_string_lossy().into_owned();
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![name.into()]
    } else if name.is_empty() {
        Vec::new()
    } else {
        let path = environment::path();
        std::env::split_paths(&path)
            .map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new(".").join(name),
                false => folder.join(name),
            })
            .collect()
    };
    if let Some(found) = candidates.iter().find(|path| is_program(path)) {
        return Ok(found.clone());
    }
    match candidates.iter().any(|path| path.exists()) {
        true => Err(Unusable::NotExecutable(shown())),
        false => Err(Unusable::NotFound(shown())),
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

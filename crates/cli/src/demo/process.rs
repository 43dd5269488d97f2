//! Child processes of the demo: what they print and when, how they end, and that none is left behind.

use std::collections::BTreeSet;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;

/// How long processes that were asked to end may take.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// A line that a process printed.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// When it was read.
    pub(super) at: Instant,
    /// Without its newline.
    pub(super) text: String,
    /// Whether it came on standard output.
    pub(super) out: bool,
}

/// The process groups that are running, each led by a child of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<BTreeSet<i32>>>);

impl Running {
    /// Ends all of them: asks first, so that a run can end its command, and kills what is left.
    pub(super) async fn end_all(&self) {
        self.signal_all(Signal::SIGTERM);
        let deadline = clock::after(GRACE);
        while !self.groups().is_empty() && clock::instant() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.signal_all(Signal::SIGKILL);
    }

    fn signal_all(&self, signal: Signal) {
        for group in self.groups().iter() {
            let _gone = killpg(Pid::from_raw(*group), signal);
        }
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running process, the first of its own group, so that Ctrl-C reaches the demo alone.
#[derive(Debug)]
pub(super) struct Process {
    id: Pid,
    lines: UnboundedReceiver<Line>,
    seen: Vec<Line>,
    ended: JoinHandle<io::Result<ExitStatus>>,
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its exit code; none where a signal killed it.
    pub(super) code: Option<i32>,
    /// All it printed.
    pub(super) lines: Vec<Line>,
}

impl Process {
    /// Starts it with nothing on its standard input.
    pub(super) fn start(command: &mut Command, running: &Running) -> Result<Self> {
        Self::watch(spawn(command.stdin(Stdio::null()))?, running)
    }

    /// Starts it with `input` on its standard input.
    pub(super) async fn start_with(
        command: &mut Command,
        input: &str,
        running: &Running,
    ) -> Result<Self> {
        let mut child = spawn(command.stdin(Stdio::piped()))?;
        let stdin = child.stdin.take();
        let process = Self::watch(child, running)?;
        if let Some(mut stdin) = stdin {
            // A program that has seen enough may close it; what it says of that is heard all the same.
            let _closed = stdin.write_all(input.as_bytes()).await;
        }
        Ok(process)
    }

    fn watch(mut child: Child, running: &Running) -> Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.context("a started process has no id")?;
        running.groups().insert(id);
        let (sender, lines) = unbounded_channel();
        if let Some(out) = child.stdout.take() {
            tokio::spawn(read(out, true, sender.clone()));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(read(err, false, sender));
        }
        let running = running.clone();
        let ended = tokio::spawn(async move {
            let status = child.wait().await;
            // INVARIANT: the id is forgotten before another process can have it.
            running.groups().remove(&id);
            status
        });
        Ok(Self {
            id: Pid::from_raw(id),
            lines,
            seen: Vec::new(),
            ended,
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// The next line that holds `mark`.
    pub(super) async fn until(&mut self, mark: &str) -> Result<Line> {
        while let Some(line) = self.lines.recv().await {
            self.seen.push(line.clone());
            if line.text.contains(mark) {
                return Ok(line);
            }
        }
        bail!(
            "a process ended without saying `{mark}`:\n{}",
            texts(&self.seen)
        )
    }

    /// Kills it with SIGKILL, and nothing of its group besides.
    pub(super) fn kill(&self) -> Result<()> {
        nix::sys::signal::kill(self.id, Signal::SIGKILL).context("cannot kill a process")
    }

    /// Waits for its end and for all it printed.
    pub(super) async fn end(mut self) -> Result<Finished> {
        while let Some(line) = self.lines.recv().await {
            self.seen.push(line);
        }
        let status = self.ended.await.map_err(|why| anyhow!(why))?;
        Ok(Finished {
            code: status.context("cannot wait for a process")?.code(),
            lines: self.seen,
        })
    }
}

impl Finished {
    /// Itself, if it ended with this code.
    pub(super) fn with_code(self, wanted: i32) -> Result<Self> {
        match self.code {
            Some(code) if code == wanted => Ok(self),
            Some(code) => bail!(
                "exit code {code} instead of {wanted}:\n{}",
                texts(&self.lines)
            ),
            None => bail!(
                "killed instead of exit code {wanted}:\n{}",
                texts(&self.lines)
            ),
        }
    }

    /// The first line that holds `mark`.
    pub(super) fn line(&self, mark: &str) -> Result<&Line> {
        let found = self.lines.iter().find(|line| line.text.contains(mark));
        found.with_context(|| format!("no line says `{mark}`:\n{}", texts(&self.lines)))
    }

    /// What it wrote to standard output.
    pub(super) fn out(&self) -> String {
        let lines = self.lines.iter().filter(|line| line.out);
        let lines: Vec<&str> = lines.map(|line| line.text.as_str()).collect();
        lines.join("\n")
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.as_std().get_program().to_owned();
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

fn texts(lines: &[Line]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("  {}", line.text))
        .collect();
    lines.join("\n")
}

async fn read(pipe: impl AsyncRead + Unpin, out: bool, sender: UnboundedSender<Line>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let at = clock::instant();
        if sender.send(Line { at, text, out }).is_err() {
            return;
        }
    }
}

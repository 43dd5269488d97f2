//! A `dayfly serve` as a process of its own, from its start until it has stopped.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::{Watch, wait};
use super::failure::{Context, Failure};
use super::load;
use super::machine::{self, Memory};
use super::world::{TENANT, World};

/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often to look whether it is ready, and how long to let it come to rest after that.
const LOOK: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_secs(2);

/// A server that is ready.
pub(super) struct Server {
    child: Child,
    pub(super) world: World,
    /// From its start until it answered.
    pub(super) ready_after: Duration,
}

impl Server {
    /// Starts the server and waits until it answers.
    pub(super) fn start(binary: &Path, world: World) -> Result<Self, Failure> {
        let log = world.folder.join("serve.log");
        let out = File::create(&log).context("no log file")?;
        let watch = Watch::start();
        let mut child = Command::new(binary)
            .arg("serve")
            .arg("--config")
            .arg(world.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .context("the server does not start")?;
        let gone = |what: &str| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(5).collect();
            Failure::new(format!(
                "{what}: {}",
                tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
            ))
        };
        while !is_ready(&world) {
            if child
                .try_wait()
                .context("the server cannot be watched")?
                .is_some()
            {
                return Err(gone("the server ended"));
            }
            if watch.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(gone("the server was not ready in time"));
            }
            wait(LOOK);
        }
        Ok(Self {
            child,
            world,
            ready_after: watch.elapsed(),
        })
    }

    /// What the server holds in memory once it has come to rest.
    pub(super) fn memory_at_rest(&self) -> Result<Memory, Failure> {
        wait(REST);
        machine::memory(self.pid())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The body of a GET, which must succeed.
    pub(super) fn get(&self, path: &str) -> Result<String, Failure> {
        let path = format!("/{TENANT}{path}");
        match load::ask(self.world.address, &load::get(&path))? {
            (200, body) => Ok(body),
            (status, body) => Err(Failure::new(format!("GET {path} answered {status} {body}"))),
        }
    }

    /// Asks the local admin face; gives status and body.
    pub(super) fn admin(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String), Failure> {
        let socket = self.world.data().join("admin.sock");
        let mut socket = UnixStream::connect(socket).context("no admin socket")?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket
            .write_all(request.as_bytes())
            .context("the admin face does not listen")?;
        let mut answer = String::new();
        socket
            .read_to_string(&mut answer)
            .context("the admin face does not answer")?;
        let status = answer.get(9..12).and_then(|status| status.parse().ok());
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer without a body")?;
        Ok((status.context("an odd answer")?, body.to_owned()))
    }

    /// How many tasks are open, by its own count.
    pub(super) fn open_tasks(&self) -> Result<u64, Failure> {
        let (_, metrics) = self.admin("GET", "/metrics", "")?;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("dayfly_open_tasks{"));
        let number = line.and_then(|line| line.rsplit_once(' '));
        let (_, number) = number.context("no count of open tasks")?;
        number.parse().context("an odd count of open tasks")
    }

    /// How many entries the tenant's ledger has, by the head it hands out.
    pub(super) fn ledger_size(&self) -> Result<u64, Failure> {
        let note = self.get("/ledger/checkpoint")?;
        let size = note.lines().nth(1).and_then(|line| line.parse().ok());
        size.context("an odd checkpoint")
    }

    /// Stops it as an operator would, and waits until it has.
    pub(super) fn stop(mut self) -> Result<World, Failure> {
        let pid = i32::try_from(self.child.id()).context("an odd process id")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("the server cannot be stopped")?;
        let status = self
            .child
            .wait()
            .context("the server cannot be waited for")?;
        if !status.success() {
            return Err(Failure::new(format!("the server ended with {status}")));
        }
        Ok(self.world.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Neither fails but when it has stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the server says that it is ready, and answers callers too.
fn is_ready(world: &World) -> bool {
    let says = UnixStream::connect(world.data().join("admin.sock")).is_ok_and(|mut socket| {
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut answer = [0; 12];
        let asked = socket
            .write_all(request)
            .and_then(|()| socket.read_exact(&mut answer));
        asked.is_ok() && answer.ends_with(b"200")
    });
    says && load::ask(world.address, &load::get(&format!("/{TENANT}/jwks")))
        .is_ok_and(|(status, _)| status == 200)
}

//! Where the demo plays: a temporary folder, a server of its own, and everything that runs around it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::issuer::{Issuer, Job};
use super::people::People;
use super::process::{Finished, Process, Running};
use super::services::{Ports, Service, Services};
use crate::clock;
use crate::environment;

/// The only tenant.
pub(super) const TENANT: &str = "demo";
/// The server's configuration, in the folder where every command of the demo runs.
const CONFIG: &str = "dayfly.toml";
/// The folder of an older copy of the data, with a configuration of its own.
pub(super) const OLD: &str = "old";
/// How long the tokens of the batch job live, which is how long an offline check may err.
pub(super) const OFFLINE_SECONDS: u64 = 6;

const LOG: &str = "server.log";
/// How much of its log a failure shows.
pub(super) const LOG_LINES: usize = 30;
/// How long the server may take to be ready.
const READY: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// The scripts that jobs run, as anybody could have written them.
const SCRIPTS: [(&str, &str); 12] = [
    ("publish.sh", include_str!("scripts/publish.sh")),
    ("sign.sh", include_str!("scripts/sign.sh")),
    ("wait.sh", include_str!("scripts/wait.sh")),
    ("hold.sh", include_str!("scripts/hold.sh")),
    ("leak.sh", include_str!("scripts/leak.sh")),
    ("nightly.sh", include_str!("scripts/nightly.sh")),
    ("parts.sh", include_str!("scripts/parts.sh")),
    ("repair.sh", include_str!("scripts/repair.sh")),
    ("agent.sh", include_str!("scripts/agent.sh")),
    ("editor.sh", include_str!("scripts/editor.sh")),
    ("assistant.sh", include_str!("scripts/assistant.sh")),
    ("searcher.sh", include_str!("scripts/searcher.sh")),
];

/// The stage while it stands.
pub(super) struct Stage {
    /// Speaks as GitHub does.
    pub(super) issuer: Issuer,
    /// Where people log in.
    pub(super) people: People,
    /// What tokens are for.
    pub(super) services: Services,
    /// The server's public URL.
    pub(super) public_url: String,
    /// The URL of its admin listener, where people come in.
    pub(super) admin_url: String,
    /// Whether curl was found; else the demo's own stand-in is called by its name.
    pub(super) has_curl: bool,
    folder: TempDir,
    program: PathBuf,
    server: Mutex<Option<Child>>,
    running: Running,
}

impl Stage {
    /// Sets everything up and waits until the server is ready.
    pub(super) async fn set() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("dayfly-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let issuer = Issuer::start().await?;
        let people = People::start().await?;
        let ports = Ports::take().await?;
        let [listen, admin] = free_addresses().await?;
        let public_url = format!("http://{listen}");
        let services = ports.serve(&format!("{public_url}/{TENANT}"))?;
        let stage = Self {
            has_curl: has_program("curl"),
            issuer,
            people,
            services,
            public_url,
            admin_url: format!("http://{admin}"),
            folder,
            program,
            server: Mutex::default(),
            running: Running::default(),
        };
        stage.write_files(listen, admin)?;
        let started = stage.start_server().await;
        started
            .with_context(|| format!("the server's log ends:\n{}", stage.log_tail(LOG_LINES)))?;
        Ok(stage)
    }

    /// The tenant's issuer identifier.
    pub(super) fn tenant_url(&self) -> String {
        format!("{}/{TENANT}", self.public_url)
    }

    /// The folder, where every command of the demo runs.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A place in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process id of the server, while it runs.
    pub(super) async fn server_id(&self) -> Option<u32> {
        self.server.lock().await.as_ref().and_then(Child::id)
    }

    /// Starts the server on the data that is there, and waits until it is ready.
    pub(super) async fn start_server(&self) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(LOG))
            .context("cannot write the server's log")?;
        let mut command = self.command(&self.program);
        command
            .args(["serve", "--config", CONFIG])
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the server")?;
        let deadline = clock::after(READY);
        while !self.is_ready().await {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status} instead of getting ready");
            }
            if clock::instant() > deadline {
                bail!("the server was not ready within {} s", READY.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        *self.server.lock().await = Some(child);
        Ok(())
    }

    /// Kills the server with SIGKILL, so that it can finish nothing.
    pub(super) async fn kill_server(&self) -> Result<()> {
        match self.server.lock().await.take() {
            Some(mut child) => child.kill().await.context("cannot kill the server"),
            None => bail!("there is no server to kill"),
        }
    }

    /// Writes the configuration of a server whose data is the older copy.
    pub(super) fn configure_old(&self) -> Result<()> {
        fs::create_dir_all(self.path(OLD).join("data"))?;
        let config = fs::read_to_string(self.path(CONFIG))?
            .replace("\"tenants\"", "\"../tenants\"")
            + "key_file   = \"../dayfly.key\"\n";
        self.write(&format!("{OLD}/{CONFIG}"), &config, 0o644)
    }

    /// Runs a script as a job of the platform, within `dayfly run` with these options.
    pub(super) fn run(&self, job: &Job, options: &[&str], command: &[&str]) -> Result<Process> {
        let mut run = self.run_command(options, command);
        run.env("ACTIONS_ID_TOKEN_REQUEST_URL", &job.url)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &job.token);
        Process::start(&mut run, &self.running)
    }

    /// The same for a person, by their ID token.
    pub(super) fn run_as_person(
        &self,
        id_token: &str,
        options: &[&str],
        command: &[&str],
    ) -> Result<Process> {
        let mut run = self.run_command(options, command);
        run.env("DAYFLY_ID_TOKEN", id_token);
        Process::start(&mut run, &self.running)
    }

    fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut run = self.command(&self.program);
        run.arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .env("DAYFLY_SERVER", self.tenant_url());
        run
    }

    /// Starts a command at the admin listener, with this person's login.
    pub(super) fn operate_as(&self, person: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.command(&self.program);
        command
            .args(arguments)
            .args(["--server", &self.admin_url])
            .env("XDG_STATE_HOME", self.path("logins").join(person));
        Process::start(&mut command, &self.running)
    }

    /// Runs a command of an operator to its end.
    pub(super) async fn operate(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.command(&self.program);
        command.args(arguments);
        Process::start(&mut command, &self.running)?.end().await
    }

    /// As [`Self::operate`], with a text on its standard input.
    pub(super) async fn operate_with(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        let mut command = self.command(&self.program);
        command.args(arguments);
        let process = Process::start_with(&mut command, input, &self.running).await?;
        process.end().await
    }

    /// Runs a line of shell, which must succeed, and gives what it printed.
    pub(super) async fn shell(&self, line: &str) -> Result<String> {
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", line]);
        let finished = Process::start(&mut command, &self.running)?.end().await?;
        Ok(finished.with_code(0)?.out())
    }

    /// Sends a request with curl and gives the status of the answer and its first line.
    pub(super) async fn curl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(Path::new("sh"));
        command
            .args([
                "-c",
                r#"exec curl "$@""#,
                "sh",
                "-sS",
                "-w",
                r"\n%{http_code}",
            ])
            .args(arguments);
        let process = Process::start(&mut command, &self.running)?;
        let said = process.end().await?.with_code(0)?.out();
        let (text, status) = said.rsplit_once('\n').unwrap_or(("", &said));
        Ok(format!(
            "{status} {}",
            text.lines().next().unwrap_or_default()
        ))
    }

    /// Ends everything that runs. The folder goes when the stage is dropped.
    pub(super) async fn clear(&self) {
        self.running.end_all().await;
        if let Some(mut child) = self.server.lock().await.take() {
            let group = child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(group) = group {
                let _gone =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
            }
            let _buried = child.wait().await;
        }
    }

    /// The last lines of the server's log, for whoever wonders why something failed.
    pub(super) fn log_tail(&self, lines: usize) -> String {
        let log = fs::read_to_string(self.path(LOG)).unwrap_or_default();
        let mut last: Vec<&str> = log.lines().rev().take(lines).collect();
        last.reverse();
        last.join("\n")
    }

    /// A command in the folder, with nothing of the demo's own environment but where programs are.
    fn command(&self, program: &Path) -> Command {
        let mut path = self.path("bin").into_os_string();
        path.push(":");
        path.push(environment::path());
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path);
        command
    }

    fn write_files(&self, listen: SocketAddr, admin: SocketAddr) -> Result<()> {
        let tenant = format!("tenants/{TENANT}");
        let policies = format!("{tenant}/policies");
        for folder in ["bin", &policies] {
            fs::create_dir_all(self.path(folder))?;
        }
        let services = &self.services;
        let config = include_str!("dayfly.toml")
            .replace("@SERVER@", &self.public_url)
            .replace("@LISTEN@", &listen.to_string())
            .replace("@ADMIN@", &admin.to_string())
            .replace("@PEOPLE@", self.people.url());
        let declared = include_str!("tenant.toml")
            .replace("@ISSUER@", self.issuer.url())
            .replace("@PEOPLE@", self.people.url())
            .replace("@ARTIFACTS@", services.artifacts.url())
            .replace("@QUEUE@", services.queue.url())
            .replace("@RESULTS@", services.results.url())
            .replace("@TTL@", &OFFLINE_SECONDS.to_string());
        self.write(CONFIG, &config, 0o644)?;
        self.write(&format!("{tenant}/tenant.toml"), &declared, 0o644)?;
        let baseline = crate::init::BASELINE;
        self.write(&format!("{policies}/baseline.cedar"), baseline, 0o644)?;
        for service in [&services.artifacts, &services.queue] {
            self.write_secret(&tenant, service)?;
        }
        let webhooks = self.issuer.webhook_secret();
        self.write(&format!("{tenant}/github.secret"), webhooks, 0o600)?;
        let events = self.people.events_secret();
        self.write(&format!("{tenant}/people.secret"), events, 0o600)?;
        for (name, text) in SCRIPTS {
            self.write(name, text, 0o755)?;
        }
        symlink(&self.program, self.path("bin/dayfly"))?;
        if !self.has_curl {
            self.write(
                "bin/curl",
                "#!/bin/sh\nexec dayfly demo --fetch -- \"$@\"\n",
                0o755,
            )?;
        }
        Ok(())
    }

    fn write_secret(&self, tenant: &str, service: &Service) -> Result<()> {
        let name = format!("{tenant}/{}.secret", service.name());
        self.write(&name, service.secret().unwrap_or_default(), 0o600)
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.path(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .with_context(|| format!("cannot make `{}`", path.display()))?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Whether the server says by its socket that it is ready.
    async fn is_ready(&self) -> bool {
        let Ok(mut socket) = UnixStream::connect(self.path("data/admin.sock")).await else {
            return false;
        };
        let ask = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = Vec::new();
        if socket.write_all(ask).await.is_err() {
            return false;
        }
        let read = tokio::time::timeout(READY, socket.read_to_end(&mut answer)).await;
        matches!(read, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 200")
    }
}

/// Addresses that nobody listens on. Somebody else could take one before the server does; then the server says so.
async fn free_addresses() -> Result<[SocketAddr; 2]> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let listeners = (TcpListener::bind(any).await?, TcpListener::bind(any).await?);
    Ok([listeners.0.local_addr()?, listeners.1.local_addr()?])
}

fn has_program(name: &str) -> bool {
    std::env::split_paths(&environment::path()).any(|folder| {
        let path = folder.join(name);
        path.is_file() && nix::unistd::access(&path, nix::unistd::AccessFlags::X_OK).is_ok()
    })
}

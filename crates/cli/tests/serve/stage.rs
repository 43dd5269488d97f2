//! A server of the built binary in a folder of its own, started and killed by its process id.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

/// What every worker needs.
pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    pub(crate) issuer: String,
    pub(crate) platform: SigningKey,
}

pub(crate) struct Stage {
    folder: TempDir,
    server: Option<Child>,
    shared: Arc<Shared>,
    /// What the log lets through.
    pub(crate) filter: &'static str,
    variables: Vec<(&'static str, String)>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with("", TENANT)
    }

    /// A server whose `dayfly.toml` ends with `lines` and whose tenant declares `declared`.
    pub(crate) fn with(lines: &str, declared: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is its own client")]
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self::configured("http", lines, declared, http)
    }

    /// The same, at a URL of this scheme, and a client that can talk to it.
    pub(crate) fn configured(
        scheme: &str,
        lines: &str,
        declared: &str,
        http: reqwest::Client,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let platform = SigningKey::generate(Alg::Rs256).unwrap();
        let tenant = folder.path().join("tenants/acme");
        fs::create_dir_all(tenant.join("policies")).unwrap();
        fs::write(
            folder.path().join("dayfly.toml"),
            format!(
                "public_url = \"{scheme}://127.0.0.1:{port}\"\nlisten = \"127.0.0.1:{port}\"\n\
                 data = \"data\"\nstore = \"sqlite\"\ntenants = \"tenants\"\n{lines}"
            ),
        )
        .unwrap();
        let jwk = platform.public_jwk().published("k1", Alg::Rs256);
        fs::write(tenant.join("jwks.json"), json!({"keys": [jwk]}).to_string()).unwrap();
        fs::write(tenant.join("artifacts.secret"), "a secret of the test\n").unwrap();
        fs::write(tenant.join("queue.secret"), "another secret\n").unwrap();
        fs::write(tenant.join("tenant.toml"), declared).unwrap();
        let baseline = "permit (principal, action, resource);\n";
        fs::write(tenant.join("policies/baseline.cedar"), baseline).unwrap();
        Self {
            shared: Arc::new(Shared {
                http,
                issuer: format!("{scheme}://127.0.0.1:{port}/acme"),
                platform,
            }),
            folder,
            server: None,
            filter: "info",
            variables: Vec::new(),
        }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Sets a variable of the server's environment.
    #[cfg(feature = "otel")]
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.variables.push((name, value));
    }

    /// Starts the server and waits until it answers. One that gives up because a busy disk took
    /// longer for its first commit than it waits is started again, as whoever runs it would.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        let mut again = 3;
        let jwks = format!("{}/jwks", self.shared.issuer);
        loop {
            if let Ok(answer) = self.shared.http.get(&jwks).send().await
                && answer.status().is_success()
            {
                return;
            }
            let gone = self.server.as_mut().unwrap().try_wait().unwrap();
            if gone.is_some() {
                let log = self.log();
                let last = log.lines().last().unwrap_or_default();
                let stalled = last.contains("no commit within");
                assert!(stalled && again > 0, "the server does not start:\n{log}");
                again -= 1;
                self.spawn();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Starts the server and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let server = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["serve", "--log", "json", "--config"])
            .arg(self.config())
            .env("DAYFLY_LOG", self.filter)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
    }

    /// Waits until the port takes a connection, whoever answers it later.
    pub(crate) fn wait_for_port(&mut self) {
        let address = self.shared.issuer.strip_prefix("http://").unwrap();
        let address = address.strip_suffix("/acme").unwrap().to_owned();
        while std::net::TcpStream::connect(&address).is_err() {
            let gone = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(gone.is_none(), "the server does not start:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.server.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Sends a signal to the server and waits until it is gone.
    pub(crate) fn stop_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.gone()
    }

    /// Waits for the end of the server, one that does not start included.
    pub(crate) fn gone(&mut self) -> ExitStatus {
        self.server.take().unwrap().wait().unwrap()
    }

    /// Waits for the end of the server while other tasks of the test go on.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().unwrap();
        tokio::task::spawn_blocking(move || server.wait().unwrap())
            .await
            .unwrap()
    }

    /// Has a task traced until the trace says this: what it lists is found behind the commit.
    #[track_caller]
    pub(crate) fn traced(&self, task: &str, says: &str) {
        for _ in 0..50 {
            let (done, trace) = self.operate(&["trace", task, "--config", "dayfly.toml"]);
            if done && trace.contains(says) {
                return;
            }
        }
        panic!("the trace of {task} does not say `{says}`");
    }

    /// Runs a command of an operator: its exit code and everything it printed.
    pub(crate) fn operate(&self, arguments: &[&str]) -> (bool, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(arguments)
            .current_dir(self.folder())
            .output()
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    }

    /// Runs a line in a shell, in the server's folder, where `dayfly` is the binary under test.
    pub(crate) fn shell(&self, line: &str) -> (bool, String) {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_dayfly"));
        let folder = binary.parent().unwrap().display();
        let done = Command::new("sh")
            .args(["-c", &format!("PATH='{folder}':$PATH\n{line}")])
            .current_dir(self.folder())
            .output()
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.kill();
    }

    /// SIGKILL, where it runs.
    pub(crate) fn stop_if_running(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }

    /// Lets the running server write no file beyond this size.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let id = self.server.as_ref().unwrap().id().to_string();
        let limited = Command::new("prlimit")
            .args(["--pid", &id, &format!("--fsize={bytes}:")])
            .status()
            .unwrap();
        assert!(limited.success());
    }

    /// Checks every entry and every hash of the ledger.
    pub(crate) fn fsck(&self) {
        let checked = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["ledger", "fsck", "--config"])
            .arg(self.config())
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("dayfly.toml")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A client that trusts these certificates and no others, one connection a request.
pub(crate) fn client<'a>(trusted: impl IntoIterator<Item = &'a str>) -> reqwest::Client {
    let trusted = trusted
        .into_iter()
        .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    #[expect(clippy::disallowed_methods, reason = "the test is its own client")]
    let builder = reqwest::Client::builder();
    builder
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_certs_only(trusted)
        .build()
        .unwrap()
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.kill();
            let _gone = server.wait();
        }
    }
}

pub(crate) const TENANT: &str = r#"
[issuer.github]
kind = "github"
jwks = { file = "jwks.json" }

[owner.team-platform]
name    = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]

[owner.team-heirs]
name    = "Those who take over"
contact = "heirs@example.com"
members = ["group:heirs"]

[resource.artifacts]
url = "https://artifacts.example"
secret_file = "artifacts.secret"

[workload.release]
owner   = "team-platform"
kind    = "ci"
purpose = "publish release artifacts"
match   = { issuer = "github", repository_id = "1296269" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*" },
]
"#;

//! A server of the built binary in a folder of its own, started and killed by its process id.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
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
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let platform = SigningKey::generate(Alg::Rs256).unwrap();
        let tenant = folder.path().join("tenants/acme");
        fs::create_dir_all(tenant.join("policies")).unwrap();
        fs::write(
            folder.path().join("dayfly.toml"),
            format!(
                "public_url = \"http://127.0.0.1:{port}\"\nlisten = \"127.0.0.1:{port}\"\n\
                 data = \"data\"\nstore = \"sqlite\"\ntenants = \"tenants\"\n"
            ),
        )
        .unwrap();
        let jwk = platform.public_jwk().published("k1", Alg::Rs256);
        fs::write(tenant.join("jwks.json"), json!({"keys": [jwk]}).to_string()).unwrap();
        fs::write(tenant.join("artifacts.secret"), "a secret of the test\n").unwrap();
        fs::write(tenant.join("tenant.toml"), TENANT).unwrap();
        let baseline = "permit (principal, action, resource);\n";
        fs::write(tenant.join("policies/baseline.cedar"), baseline).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test is its own client")]
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            shared: Arc::new(Shared {
                http,
                issuer: format!("http://127.0.0.1:{port}/acme"),
                platform,
            }),
            folder,
            server: None,
        }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let server = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["serve", "--config"])
            .arg(self.folder.path().join("dayfly.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        let jwks = format!("{}/jwks", self.shared.issuer);
        loop {
            if let Ok(answer) = self.shared.http.get(&jwks).send().await
                && answer.status().is_success()
            {
                return;
            }
            let gone = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(gone.is_none(), "the server does not start:\n{}", self.log());
            tokio::task::yield_now().await;
        }
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

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.kill();
            let _gone = server.wait();
        }
    }
}

const TENANT: &str = r#"
[issuer.github]
kind = "github"
jwks = { file = "jwks.json" }

[owner.team-platform]
name    = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]

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

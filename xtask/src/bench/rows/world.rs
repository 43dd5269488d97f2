//! The folder that a server is started from: one tenant, a thousand workloads, one resource.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::failure::{Context, Failure};
use super::mill::Platform;
use super::policy;

/// The tenant.
pub(super) const TENANT: &str = "acme";
/// How many workloads are declared.
pub(super) const WORKLOADS: u64 = 1_000;
/// The one resource, and how it authenticates.
pub(super) const RESOURCE: &str = "artifacts";
pub(super) const RESOURCE_URL: &str = "https://artifacts.example";
pub(super) const SECRET: &str = "7Yh2qVtWn4cLx9RkPzEd0sGmJbAf3UoQ";
/// Who answers for every workload.
pub(super) const OWNER: &str = "team-platform";

/// A folder with a configuration, and where the server that it configures listens.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) folder: PathBuf,
    pub(super) address: SocketAddr,
}

impl World {
    /// Writes the folder. Tokens of `platform` are the proofs that its workloads match.
    pub(super) fn write(
        folder: PathBuf,
        platform: &Platform,
        policies: usize,
    ) -> Result<Self, Failure> {
        Self::write_with(folder, platform, policies, "")
    }

    /// The same with more lines in each workload.
    pub(super) fn write_with(
        folder: PathBuf,
        platform: &Platform,
        policies: usize,
        more: &str,
    ) -> Result<Self, Failure> {
        let failed = || format!("{} cannot be written", folder.display());
        let tenant = folder.join("tenants").join(TENANT);
        fs::create_dir_all(tenant.join("policies")).with_context(failed)?;
        let address = free_address()?;
        let config = format!(
            "public_url = \"http://{address}\"\nlisten = \"{address}\"\ndata = \"data\"\n\
             store = \"sqlite\"\ntenants = \"tenants\"\n"
        );
        fs::write(folder.join("dayfly.toml"), config).with_context(failed)?;
        fs::write(tenant.join("tenant.toml"), declared(more)).with_context(failed)?;
        policy::write(&tenant, policies)?;
        fs::write(tenant.join("github-jwks.json"), platform.jwks()).with_context(failed)?;
        let secret = tenant.join("artifacts.secret");
        fs::write(&secret, SECRET).with_context(failed)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).with_context(failed)?;
        Ok(Self { folder, address })
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("dayfly.toml")
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.data().join("dayfly.db")
    }

    /// The folder of the database.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The tenant's issuer identifier.
    pub(super) fn issuer(&self) -> String {
        format!("http://{}/{TENANT}", self.address)
    }

    /// Removes the folder: what a row leaves behind is large.
    pub(super) fn remove(self) -> Result<(), Failure> {
        let folder: &Path = &self.folder;
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))
    }
}

/// The repository that a workload is pinned to.
pub(super) fn repository_id(workload: u64) -> u64 {
    100_000_000 + workload
}

/// The name of a workload.
pub(super) fn workload_name(workload: u64) -> String {
    format!("release-{workload:04}")
}

/// The declared state without what its keys and secrets name.
pub(super) fn declared_without_files() -> String {
    declared("")
        .replace("jwks = { file = \"github-jwks.json\" }\n", "")
        .replace("secret_file = \"artifacts.secret\"\n", "")
}

fn declared(more: &str) -> String {
    let mut text = format!(
        r#"[issuer.github]
kind = "github"
jwks = {{ file = "github-jwks.json" }}

[owner.{OWNER}]
name = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]

[resource.{RESOURCE}]
url = "{RESOURCE_URL}"
secret_file = "artifacts.secret"
signing = "ES256"
"#
    );
    for workload in 0..WORKLOADS {
        let (name, repository) = (workload_name(workload), repository_id(workload));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            r#"
[workload.{name}]
owner = "{OWNER}"
kind = "ci"
purpose = "publish release artifacts"
match = {{ issuer = "github", repository_id = "{repository}", ref = ["refs/heads/main", "refs/tags/v*"] }}
token = {{ ttl = "30m" }}
access = [
  {{ resource = "{RESOURCE}", type = "artifact", actions = ["read"], identifier = "octo-repo/*", scope = "artifacts:read" }},
  {{ resource = "{RESOURCE}", type = "artifact", actions = ["read", "publish"], identifier = "octo-repo/*", scope = "artifacts:publish" }},
]
{more}"#
        );
    }
    text
}

/// A port that nobody listens on. Between here and the server's start another could take it; the
/// server then says so.
fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("no free port")
}

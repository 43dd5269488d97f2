//! A control plane without its wire: one tenant over any store, its clock set by hand.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dayfly_domain::{Bounds, Name, Span, Time};
use dayfly_server::app::{
    App, HeadSinks, Journal, ObeyingStore, ServerBounds, Tenant, TenantSetup,
};
use dayfly_server::config;
use dayfly_server::declared::TenantContext;
use dayfly_server::mint::MasterKey;
use dayfly_server::verify::{KeyCache, ProofBounds};
use dayfly_store::Store;
use dayfly_store::clock::{Clock as _, ManualClock};
use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::persons::{EVENTS, TASKS, provider};

/// When every world begins: a multiple of every bucket of time that the server counts in.
pub(crate) const BEGIN: Time = Time::from_seconds(1_800_000_000);
/// The issuer of the one tenant.
pub(crate) const ISSUER: &str = "https://dayfly.example/acme";
/// The one resource, its name and its URL.
pub(crate) const RESOURCE: &str = "artifacts";
pub(crate) const RESOURCE_URL: &str = "https://artifacts.example/api";
/// What proves that a webhook is the platform's.
pub(crate) const HOOK_SECRET: &str = "the secret of the platform's hook";
/// The platform's key is known by this.
const KID: &str = "k1";

/// What is declared unless something is added or taken away: a workload a repository, all of them
/// for one resource.
pub(crate) const DECLARED: &str = r#"
[issuer.github]
kind = "github"
jwks = { file = "jwks.json" }
webhook_secret_file = "hook.secret"

[owner.team]
name    = "Team"
contact = "team@example.com"
members = ["sub:ada", "sub:bob", "sub:cyd"]

[owner.others]
name    = "Others"
contact = "others@example.com"
members = ["sub:cyd", "sub:dan"]

[resource.artifacts]
url = "https://artifacts.example/api"
secret_file = "artifacts.secret"
"#;

/// The declaration of whose people are believed, and of who says that they are gone.
pub(crate) fn people() -> String {
    let provider = provider();
    format!(
        r#"
[issuer.staff]
kind = "oidc"
url = "{provider}"
jwks = {{ file = "jwks.json" }}
audience = "{TASKS}"
people = true
allow_private = true

[signals.idp]
issuer = "{EVENTS}"
jwks = {{ file = "jwks.json" }}
people = "staff"
operators = "{provider}"
push = {{ secret_file = "events.secret" }}
"#
    )
}

/// The declaration of a workload of jobs.
pub(crate) fn workload(name: &str, owner: &str, repository: u64, more: &str) -> String {
    let of_jobs = format!("match = {{ issuer = \"github\", repository_id = \"{repository}\" }}");
    workload_of("ci", name, owner, &format!("{of_jobs}\n{more}"))
}

/// The declaration of a workload of this kind.
pub(crate) fn workload_of(kind: &str, name: &str, owner: &str, more: &str) -> String {
    format!(
        r#"
[workload.{name}]
owner   = "{owner}"
kind    = "{kind}"
purpose = "simulated"
access  = [
  {{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "read" }},
  {{ resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*", scope = "publish" }},
]
{more}
"#
    )
}

/// A server in this process.
pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: Arc<TempDir>,
    /// The tenant.
    pub(crate) tenant: Arc<Tenant>,
}

impl World {
    /// A server over this store, from the files of this folder.
    pub(crate) async fn open(
        folder: Arc<TempDir>,
        clock: Arc<ManualClock>,
        store: Arc<dyn Store>,
    ) -> Self {
        let master = MasterKey::load(&folder.path().join("master.key"), false).unwrap();
        let setup = TenantSetup {
            name: acme(),
            folder: tenant_folder(folder.path()),
            context: TenantContext {
                issuer: ISSUER.to_owned(),
                bounds: config::Bounds::default(),
                operators: Some(provider().to_owned()),
            },
            proofs: ProofBounds::default(),
            keys: Arc::new(KeyCache::new()),
        };
        let tenant = Tenant::open(store.as_ref(), setup, Arc::new(master), clock.now())
            .await
            .unwrap();
        let bounds = ServerBounds {
            domain: Bounds::default(),
            token_bytes: 4096,
            leaf_bytes: 8192,
            request_bytes: 65_536,
        };
        let journal = Journal::open(folder.path()).unwrap();
        let obeying = ObeyingStore::new(store, clock.clone(), Some(journal));
        let app = App::new(
            Arc::new(obeying),
            clock.clone(),
            bounds,
            vec![tenant],
            HeadSinks::new(Vec::new()),
        );
        let app = Arc::new(app.unwrap());
        let tenant = Arc::clone(app.tenant("acme").unwrap());
        Self {
            app,
            clock,
            folder,
            tenant,
        }
    }

    /// Makes this the declared state's file; it comes into force with an apply.
    pub(crate) fn declare(&self, declared: &str) {
        let file = tenant_folder(self.folder.path()).join("tenant.toml");
        std::fs::write(file, declared).unwrap();
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.advance(Span::from_seconds(seconds));
    }
}

/// A folder for a server whose tenant declares this.
pub(crate) fn folder(declared: &str) -> Arc<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let tenant = tenant_folder(folder.path());
    let policies = tenant.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    let write = |name: &str, text: &str| std::fs::write(tenant.join(name), text).unwrap();
    write("jwks.json", &key_set());
    write("artifacts.secret", "secret of artifacts\n");
    write("hook.secret", HOOK_SECRET);
    write("events.secret", "the-secret-of-the-providers-events\n");
    write("tenant.toml", declared);
    std::fs::write(
        policies.join("baseline.cedar"),
        "@id(\"baseline\")\npermit (principal, action, resource);\n",
    )
    .unwrap();
    Arc::new(folder)
}

/// The keys of the platform, of the people's provider and of its events.
pub(crate) fn key_set() -> String {
    let jwk = platform().public_jwk().published(KID, Alg::Es256);
    json!({ "keys": [jwk] }).to_string()
}

fn tenant_folder(folder: &Path) -> std::path::PathBuf {
    folder.join("tenants").join("acme")
}

pub(crate) fn acme() -> Name {
    "acme".parse().unwrap()
}

/// The key of the platform that every world trusts: a cheap one.
fn platform() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate(Alg::Es256).unwrap())
}

/// A token of the platform for a job.
pub(crate) fn platform_token(now: Time, repository: u64, run: &Run, jti: &str) -> String {
    let iat = now.seconds();
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": ISSUER,
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
        "repository": "octo-org/octo-repo", "repository_id": repository.to_string(),
        "repository_owner": "octo-org", "repository_owner_id": "583231",
        "run_id": run.id.to_string(), "run_attempt": run.attempt.to_string(),
        "check_run_id": run.job.to_string(), "ref": "refs/heads/main", "event_name": "push",
        "jti": jti, "iat": iat, "nbf": iat, "exp": iat + 300,
    });
    signed("JWT", &claims)
}

/// A token of this type with these claims, by the one key that all issuers have here.
pub(crate) fn signed(typ: &str, claims: &Value) -> String {
    let header = json!({ "typ": typ, "kid": KID }).as_object().cloned();
    platform()
        .encode_jws(header.unwrap(), claims.to_string().as_bytes())
        .unwrap()
}

/// A run of a repository, and which job of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) attempt: u64,
    pub(crate) job: u64,
}

//! A local issuer that gives jobs tokens the way GitHub Actions does: same endpoint, same claims, its own key.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

use crate::clock;
use crate::random;

const KID: &str = "demo-1";
const OWNER: &str = "octo-org";
const OWNER_ID: &str = "65";
/// How long GitHub's tokens live, and how far back they count, in seconds.
const LIFE_SECONDS: u64 = 300;
const BACKDATED_SECONDS: u64 = 600;

/// A repository, whose jobs ask for tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository {
    pub(super) name: &'static str,
    /// Its number at this issuer.
    pub(super) id: &'static str,
    /// Its workflow.
    pub(super) workflow: &'static str,
    /// What starts it.
    pub(super) event: &'static str,
}

/// What GitHub sends when a run was cancelled.
pub(super) struct Webhook {
    pub(super) body: String,
    /// `X-Hub-Signature-256`.
    pub(super) signature: String,
    /// A signature of the same form by somebody else.
    pub(super) forged: String,
}

/// The issuer, which answers until it is dropped.
pub(super) struct Issuer {
    book: Arc<Book>,
    serving: tokio::task::JoinHandle<()>,
}

/// A job, by what the platform put into its environment.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`.
    pub(super) url: String,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub(super) token: String,
    /// The run's number, which names it to people.
    pub(super) run_id: u64,
}

struct Book {
    url: String,
    key: SigningKey,
    /// The secret of its webhooks.
    webhooks: String,
    jobs: Mutex<BTreeMap<String, Listed>>,
    next: AtomicU64,
}

#[derive(Clone, Copy)]
struct Listed {
    repository: Repository,
    run: Run,
}

/// A job of an attempt of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) run_id: u64,
    pub(super) number: u64,
    /// The job's own number, its `check_run_id`.
    pub(super) job: u64,
}

impl Attempt {
    /// The only job of the first attempt.
    const fn first(run_id: u64) -> Self {
        Self {
            run_id,
            number: 1,
            job: run_id + 9_000_000,
        }
    }
}

/// Which run a token is for.
#[derive(Clone, Copy)]
enum Run {
    /// Always this one.
    Of(Attempt),
    /// Each time the next, for somebody who tries things out.
    Fresh,
}

impl Issuer {
    /// Makes a key and answers on a free port.
    pub(super) async fn start() -> Result<Self> {
        let key = SigningKey::generate(Alg::Rs256).context("cannot make the issuer's key")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let book = Arc::new(Book {
            url: format!("http://{}", listener.local_addr()?),
            key,
            webhooks: random::name()?,
            jobs: Mutex::default(),
            next: AtomicU64::new(1),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/.well-known/jwks", get(jwks))
            .route("/_apis/idtoken", get(id_token))
            .with_state(Arc::clone(&book));
        let serving = tokio::spawn(async move {
            let _stopped = axum::serve(listener, routes).await;
        });
        Ok(Self { book, serving })
    }

    /// Its `iss`.
    pub(super) fn url(&self) -> &str {
        &self.book.url
    }

    /// A job of a run that nobody has seen.
    pub(super) fn job(&self, repository: Repository) -> Result<Job> {
        self.job_of(repository, Attempt::first(self.book.fresh_run()))
    }

    /// The number of a run that nobody has seen.
    pub(super) fn fresh_run(&self) -> u64 {
        self.book.fresh_run()
    }

    /// A job of this run and attempt.
    pub(super) fn job_of(&self, repository: Repository, attempt: Attempt) -> Result<Job> {
        self.list(repository, Run::Of(attempt), attempt.run_id)
    }

    /// The environment of a job that is of another run each time it asks.
    pub(super) fn any_job(&self, repository: Repository) -> Result<Job> {
        self.list(repository, Run::Fresh, 0)
    }

    /// The secret that its webhooks are signed with.
    pub(super) fn webhook_secret(&self) -> &str {
        &self.book.webhooks
    }

    /// The webhook for the run of a job that somebody cancelled.
    pub(super) fn cancelled(&self, repository: Repository, job: &Job) -> Webhook {
        let body = json!({
            "action": "completed",
            "workflow_run": {"id": job.run_id, "run_attempt": 1, "conclusion": "cancelled"},
            "repository": {
                "id": repository.id.parse::<u64>().unwrap_or_default(),
                "full_name": format!("{OWNER}/{}", repository.name),
            },
        });
        let body = body.to_string();
        Webhook {
            signature: hub_signature(self.webhook_secret(), &body),
            forged: hub_signature("somebody else's secret", &body),
            body,
        }
    }

    fn list(&self, repository: Repository, run: Run, run_id: u64) -> Result<Job> {
        let token = random::name()?;
        let listed = Listed { repository, run };
        self.book.jobs().insert(token.clone(), listed);
        Ok(Job {
            url: format!("{}/_apis/idtoken?api-version=2.0", self.book.url),
            token,
            run_id,
        })
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Book {
    fn jobs(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Listed>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_run(&self) -> u64 {
        const FIRST: u64 = 30_433_640;
        FIRST + self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn token(&self, listed: Listed, audience: &str) -> Result<String> {
        let attempt = match listed.run {
            Run::Of(attempt) => attempt,
            Run::Fresh => Attempt::first(self.fresh_run()),
        };
        let claims = self.claims(listed.repository, attempt, audience)?;
        let mut header = Map::new();
        header.insert("typ".to_owned(), "JWT".into());
        header.insert("kid".to_owned(), KID.into());
        self.key
            .encode_jws(header, claims.to_string().as_bytes())
            .context("cannot sign")
    }

    /// The claims of GitHub's documentation, ids as texts, with the `sub` that names owner and repository by both
    /// name and number.
    fn claims(&self, repository: Repository, attempt: Attempt, audience: &str) -> Result<Value> {
        let now = clock::now_seconds();
        let Repository {
            name,
            id,
            workflow,
            event,
        } = repository;
        let file = format!("{OWNER}/{name}/.github/workflows/{workflow}.yml@refs/heads/main");
        Ok(json!({
            "jti": random::name()?,
            "sub": format!("repo:{OWNER}@{OWNER_ID}/{name}@{id}:ref:refs/heads/main"),
            "aud": audience,
            "ref": "refs/heads/main",
            "sha": "b8ba1d3f7d5e0a3c9a6f4d2e1c0b9a8f7e6d5c4b",
            "repository": format!("{OWNER}/{name}"),
            "repository_owner": OWNER,
            "repository_owner_id": OWNER_ID,
            "repository_id": id,
            "repository_visibility": "private",
            "run_id": attempt.run_id.to_string(),
            "run_number": "10",
            "run_attempt": attempt.number.to_string(),
            "check_run_id": attempt.job.to_string(),
            "runner_environment": "github-hosted",
            "actor": "octo-bot",
            "actor_id": "12",
            "workflow": workflow,
            "workflow_ref": &file,
            "workflow_sha": "b8ba1d3f7d5e0a3c9a6f4d2e1c0b9a8f7e6d5c4b",
            "job_workflow_ref": &file,
            "job_workflow_sha": "b8ba1d3f7d5e0a3c9a6f4d2e1c0b9a8f7e6d5c4b",
            "head_ref": "",
            "base_ref": "",
            "event_name": event,
            "ref_protected": "true",
            "ref_type": "branch",
            "iss": self.url,
            "iat": now,
            "nbf": now.saturating_sub(BACKDATED_SECONDS),
            "exp": now + LIFE_SECONDS,
        }))
    }
}

/// `sha256=` and the HMAC-SHA256 of a body in hexadecimal, as GitHub signs its webhooks.
fn hub_signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let bytes = tag.as_ref().iter();
    bytes.fold("sha256=".to_owned(), |text, byte| {
        format!("{text}{byte:02x}")
    })
}

async fn discovery(State(book): State<Arc<Book>>) -> Response {
    let issuer = &book.url;
    answer(&json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
    }))
}

async fn jwks(State(book): State<Arc<Book>>) -> Response {
    let key = book.key.public_jwk().published(KID, Alg::Rs256);
    answer(&json!({"keys": [key]}))
}

/// A token for the audience that the job asks for, as `core.getIDToken(audience)` gets it.
async fn id_token(State(book): State<Arc<Book>>, headers: HeaderMap, uri: Uri) -> Response {
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let listed = shown
        .and_then(|shown| shown.strip_prefix("Bearer "))
        .and_then(|token| book.jobs().get(token).copied());
    let Some(listed) = listed else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let query = uri.query().unwrap_or_default();
    let audience = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "audience");
    let audience = audience.map_or_else(
        || format!("https://github.com/{OWNER}"),
        |(_, audience)| audience.into_owned(),
    );
    match book.token(listed, &audience) {
        Ok(token) => answer(&json!({"value": token})),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

//! A server that answers as Dayfly does, checks what it is shown, and remembers every call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use dayfly_token::alg::Alg;
use dayfly_token::assertion::{AssertionExpect, VerifiedAssertion};
use dayfly_token::b64;
use dayfly_token::dpop::{DpopExpect, VerifiedDpop};
use dayfly_token::htu::Htu;
use dayfly_token::verifying_key::VerifyingKey;
use serde_json::{Value, json};

use crate::resource;

pub(crate) const TASK: &str = "task_01jbqz5x3k8r9m2n4p6q7s8t9v";
pub(crate) const CLIENT: &str = "client_01jbqz5x3k8r9m2n4p6q7s8t9v_1";
pub(crate) const HEAD: &str = "127.0.0.1/acme\n12\nAAAA\n\n\u{2014} 127.0.0.1/acme c2ln\n";
/// The only scope that is declared.
const SCOPE: &str = "artifacts:read";
pub(crate) const ACTIONS_SECRET: &str = "the-actions-secret";

/// One request, after its proof was checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) form: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) authorization: Option<String>,
    pub(crate) jkt: Option<String>,
    pub(crate) proof: Option<[u8; 32]>,
    pub(crate) nonce: Option<String>,
}

/// What to answer instead of the usual.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This error.
    Error(u16, Value),
    /// 503 that wants to be asked again after so many seconds.
    Busy(u64),
    /// The usual, but the connection breaks in the middle of it.
    Lost,
    /// This in place of the usual.
    Good(Value),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) calls: Vec<Call>,
    /// The nonce that proofs must carry.
    pub(crate) nonce: Option<String>,
    /// The nonce that the resource demands.
    pub(crate) resource_nonce: Option<String>,
    pub(crate) grants: VecDeque<Reply>,
    /// What grants are answered with after a revocation, in place of what was left.
    pub(crate) after_revocation: Option<VecDeque<Reply>>,
    pub(crate) beats: VecDeque<Reply>,
    pub(crate) ends: VecDeque<Reply>,
    /// Seconds between beats.
    pub(crate) every: u64,
    /// Seconds from now at which platform tokens expire.
    pub(crate) proof_seconds: i64,
    /// Wrong issuer in the metadata.
    pub(crate) other_issuer: bool,
    /// What the resource may go on sending after.
    pub(crate) released: bool,
    /// Key thumbprint by token; none for a bearer token.
    pub(crate) tokens: BTreeMap<String, Option<String>>,
}

/// The running server.
pub(crate) struct Fake {
    pub(crate) port: u16,
    shared: Arc<Inner>,
}

pub(crate) struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    pub(crate) origin: String,
}

impl Fake {
    pub(crate) fn start() -> Self {
        Self::on(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn on(listener: std::net::TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Inner {
            state: Mutex::new(State {
                proof_seconds: 300,
                every: 3_600,
                ..State::default()
            }),
            changed: Condvar::new(),
            origin: format!("http://127.0.0.1:{port}"),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { port, shared }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/acme", self.shared.origin)
    }

    pub(crate) fn resource(&self) -> String {
        format!("{}/res", self.shared.origin)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Waits until the calls are so.
    pub(crate) fn wait_for(&self, what: &str, so: impl Fn(&State) -> bool) {
        let guard = self.state();
        let limit = Duration::from_secs(60);
        let (_guard, timeout) = self
            .shared
            .changed
            .wait_timeout_while(guard, limit, |state| !so(state))
            .unwrap();
        assert!(!timeout.timed_out(), "never came: {what}");
    }

    pub(crate) fn calls(&self, path: &str) -> Vec<Call> {
        let state = self.state();
        let calls = state.calls.iter();
        calls.filter(|call| call.path == path).cloned().collect()
    }

    pub(crate) fn grants(&self) -> Vec<Call> {
        self.calls("/acme/token")
    }

    pub(crate) fn beats(&self) -> Vec<Call> {
        self.calls(&format!("/acme/tasks/{TASK}/heartbeat"))
    }

    /// The outcomes that were reported.
    pub(crate) fn ends(&self) -> Vec<String> {
        let calls = self.calls(&format!("/acme/clients/{CLIENT}/end"));
        let outcome = |call: &Call| {
            let body: Value = serde_json::from_str(&call.body).unwrap();
            body["outcome"].as_str().unwrap().to_owned()
        };
        calls.iter().map(outcome).collect()
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn is_released(&self) -> bool {
        self.state().released
    }
}

async fn answer(Shared(inner): Shared<Arc<Inner>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path.starts_with("/res") {
        return resource::answer(&inner, parts, body).await;
    }
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let checked = check(&inner, &parts.method, &path, &parts.headers, &body);
    let (mut call, nonce) = match checked {
        Ok(checked) => checked,
        Err(why) => {
            return error(
                400,
                &json!({"error": "invalid_dpop_proof", "error_description": why}),
            );
        }
    };
    call.query = parts.uri.query().unwrap_or_default().to_owned();
    let response = respond(&inner, &call);
    inner.state().calls.push(call);
    inner.changed.notify_all();
    match nonce {
        Some(nonce) => demand(&path, &nonce),
        None => response,
    }
}

/// The call, and the nonce it lacks.
fn check(
    inner: &Inner,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Call, Option<String>), String> {
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
    let mut call = Call {
        path: path.to_owned(),
        body: String::from_utf8(body.to_vec()).unwrap(),
        authorization: text("authorization"),
        ..Call::default()
    };
    if text("content-type").as_deref() == Some("application/x-www-form-urlencoded") {
        let fields = url::form_urlencoded::parse(body).into_owned();
        call.form = fields.collect();
    }
    let Some(proof) = text("dpop") else {
        return Ok((call, None));
    };
    let authorization = call.authorization.clone().unwrap_or_default();
    let token = authorization.strip_prefix("DPoP ");
    let verified = verify(&inner.origin, method, path, &proof, token)?;
    call.jkt = Some(verified.jkt().to_string());
    call.proof = Some(verified.replay_key());
    call.nonce = verified.nonce().map(str::to_owned);
    if let Some(assertion) = call.form.get("client_assertion") {
        let key = VerifyingKey::new(verified.jwk(), &[Alg::Es256]).unwrap();
        let issuer = format!("{}/acme", inner.origin);
        let expect = AssertionExpect {
            client_id: CLIENT,
            issuer: &issuer,
            lenient_audience: false,
            now: now(),
        };
        VerifiedAssertion::verify(assertion, &key, &expect).map_err(|e| e.to_string())?;
    }
    if let Some(token) = token {
        let bound = inner.state().tokens.get(token).cloned().flatten();
        if bound != call.jkt {
            return Err("the token is bound to another key".to_owned());
        }
    }
    let wanted = inner.state().nonce.clone();
    let lacks = wanted.filter(|wanted| call.nonce.as_ref() != Some(wanted));
    Ok((call, lacks))
}

pub(crate) fn verify(
    origin: &str,
    method: &Method,
    path: &str,
    proof: &str,
    token: Option<&str>,
) -> Result<VerifiedDpop, String> {
    let htu = Htu::parse(&format!("{origin}{path}")).unwrap();
    let expect = DpopExpect {
        method: method.as_str(),
        htu: &htu,
        now: now(),
        max_age_seconds: 300,
        max_ahead_seconds: 60,
        access_token: token,
        algs: &[Alg::Es256],
    };
    VerifiedDpop::verify(proof, &expect).map_err(|error| error.to_string())
}

fn respond(inner: &Inner, call: &Call) -> Response<Body> {
    let mut state = inner.state();
    match call.path.as_str() {
        "/.well-known/oauth-authorization-server/acme" => metadata(inner, &state),
        "/actions" => platform_token(&state, call),
        "/acme/token" => {
            if let Some(refused) = unknown_scope(call) {
                return error(400, &refused);
            }
            let usual = grant(&mut state, call);
            answer_as(state.grants.pop_front(), usual)
        }
        "/acme/revoke" => {
            if let Some(replies) = state.after_revocation.take() {
                state.grants = replies;
            }
            Response::new(Body::empty())
        }
        "/acme/ledger/checkpoint" => Response::new(Body::from(HEAD)),
        path if path.ends_with("/heartbeat") => {
            let usual = json!({"every": state.every, "grace": 7_200});
            answer_as(state.beats.pop_front(), usual)
        }
        path if path.ends_with("/end") => {
            let outcome: Value = serde_json::from_str(&call.body).unwrap();
            let usual = json!({
                "task": TASK, "client": CLIENT, "cause": outcome["outcome"], "at": 1_793_534_400,
                "last_possible_acceptance": 1_793_534_700, "head": HEAD,
            });
            answer_as(state.ends.pop_front(), usual)
        }
        _ => error(404, &json!({"error": "not_found"})),
    }
}

fn metadata(inner: &Inner, state: &State) -> Response<Body> {
    let name = if state.other_issuer { "other" } else { "acme" };
    good(&json!({
        "issuer": format!("{}/{name}", inner.origin),
        "token_endpoint": format!("{}/acme/token", inner.origin),
        "dayfly_resources": {
            "artifacts": format!("{}/res", inner.origin),
            "other": "https://other.example",
        },
    }))
}

/// As GitHub gives them: another one each time, for the audience asked for.
fn platform_token(state: &State, call: &Call) -> Response<Body> {
    if call.authorization.as_deref() != Some(&format!("Bearer {ACTIONS_SECRET}")) {
        return error(401, &json!({}));
    }
    let query = url::form_urlencoded::parse(call.query.as_bytes());
    let audience = query.into_owned().find(|(name, _)| name == "audience");
    let number = state.calls.iter().filter(|call| call.path == "/actions");
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com",
        "aud": audience.map(|(_, audience)| audience),
        "jti": format!("jti-{}", number.count()),
        "ref": "refs/heads/main",
        "repository_id": "1296269",
        "run_attempt": 1,
        "exp": now().saturating_add_signed(state.proof_seconds),
    });
    good(&json!({"count": 1, "value": platform_jwt(&claims)}))
}

pub(crate) fn platform_jwt(claims: &Value) -> String {
    let header = b64::encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    format!("{header}.{}.c2lnbmF0dXJl", b64::encode(claims.to_string()))
}

/// What the server says to a scope that no resource declares.
fn unknown_scope(call: &Call) -> Option<Value> {
    let mut asked = call.form.get("scope")?.split(' ');
    let unknown = asked.find(|scope| *scope != SCOPE)?;
    Some(json!({
        "error": "invalid_scope",
        "error_description": "the scope is not declared for the workload",
        "refused": {"stage": "access", "rule": "scope_unknown", "got": unknown},
    }))
}

fn grant(state: &mut State, call: &Call) -> Value {
    let token = format!("issued-token-{}", state.tokens.len() + 1);
    state.tokens.insert(token.clone(), call.jkt.clone());
    json!({
        "access_token": token,
        "token_type": if call.jkt.is_some() { "DPoP" } else { "Bearer" },
        "expires_in": 300,
        "scope": SCOPE,
        "authorization_details": [],
        "task": TASK,
        "client_id": CLIENT,
        "task_expires_at": 1_793_538_000,
    })
}

fn answer_as(reply: Option<Reply>, usual: Value) -> Response<Body> {
    match reply {
        None => good(&usual),
        Some(Reply::Good(value)) => good(&value),
        Some(Reply::Error(status, body)) => error(status, &body),
        Some(Reply::Busy(seconds)) => {
            let mut response = error(503, &json!({"error": "temporarily_unavailable"}));
            response
                .headers_mut()
                .insert("retry-after", seconds.to_string().parse().unwrap());
            response
        }
        Some(Reply::Lost) => {
            let mut response = Response::new(Body::new(Broken));
            response
                .headers_mut()
                .insert("content-length", "100".parse().unwrap());
            response
        }
    }
}

fn demand(path: &str, nonce: &str) -> Response<Body> {
    let body = json!({"error": "use_dpop_nonce"});
    let mut response = error(if path.ends_with("/token") { 400 } else { 401 }, &body);
    let headers = response.headers_mut();
    headers.insert("dpop-nonce", nonce.parse().unwrap());
    headers.insert(
        "www-authenticate",
        r#"DPoP error="use_dpop_nonce""#.parse().unwrap(),
    );
    response
}

fn good(value: &Value) -> Response<Body> {
    error(200, value)
}

pub(crate) fn error(status: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(crate) fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the fake checks real proofs by the real clock"
    )]
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A body that fails before its first byte.
struct Broken;

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("broken"))))
    }
}

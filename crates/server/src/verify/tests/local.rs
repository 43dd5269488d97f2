//! A local issuer: metadata and keys over HTTP on this machine, with everything that can go wrong.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;

/// A key made once for all tests: number 0 is RS256, the others ES256.
pub(crate) fn key(number: usize) -> &'static SigningKey {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let algs = [Alg::Rs256, Alg::Es256, Alg::Es256];
    &KEYS.get_or_init(|| algs.map(|alg| SigningKey::generate(alg).unwrap()).into())[number]
}

/// A key as it stands in a key set.
pub(crate) fn published(kid: &str, key: &SigningKey) -> Value {
    Value::Object(key.public_jwk().published(kid, key.alg()))
}

/// A token signed by a key.
pub(crate) fn mint(key: &SigningKey, kid: &str, claims: &Value) -> String {
    mint_as(
        key,
        json!({"kid": kid, "typ": "JWT"}),
        claims.to_string().as_bytes(),
    )
}

pub(crate) fn mint_as(key: &SigningKey, header: Value, payload: &[u8]) -> String {
    key.encode_jws(header.as_object().unwrap().clone(), payload)
        .unwrap()
}

pub(crate) struct LocalIssuer {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    url: String,
    keys: Mutex<Vec<Value>>,
    metadata: Mutex<Option<Value>>,
    answer: Mutex<Option<(StatusCode, String)>>,
    gate: Semaphore,
    metadata_hits: AtomicUsize,
    key_hits: AtomicUsize,
    other_hits: AtomicUsize,
    authorization: Mutex<Option<String>>,
}

impl LocalIssuer {
    /// An issuer with the keys `rsa` and `ec`.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            url: url.clone(),
            keys: Mutex::new(vec![published("rsa", key(0)), published("ec", key(1))]),
            metadata: Mutex::default(),
            answer: Mutex::default(),
            gate: Semaphore::new(1_000_000),
            metadata_hits: AtomicUsize::default(),
            key_hits: AtomicUsize::default(),
            other_hits: AtomicUsize::default(),
            authorization: Mutex::default(),
        });
        let handler = {
            let state = Arc::clone(&state);
            move |request: Request| Arc::clone(&state).answer(request)
        };
        let router = Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    /// A token of this issuer by its RSA key.
    pub(crate) fn token(&self, claims: &Value) -> String {
        mint(key(0), "rsa", claims)
    }

    pub(crate) fn jwks_url(&self) -> String {
        format!("{}/keys", self.url)
    }

    /// How often keys were asked for.
    pub(crate) fn key_hits(&self) -> usize {
        self.state.key_hits.load(SeqCst)
    }

    /// How often anything was asked for.
    pub(crate) fn hits(&self) -> usize {
        self.key_hits() + self.state.metadata_hits.load(SeqCst) + self.other_hits()
    }

    /// How often something else than metadata and keys was asked for.
    pub(crate) fn other_hits(&self) -> usize {
        self.state.other_hits.load(SeqCst)
    }

    /// The `Authorization` header of the last request for keys.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.state.authorization.lock().unwrap().clone()
    }

    pub(crate) fn serve_keys(&self, keys: Vec<Value>) {
        *self.state.keys.lock().unwrap() = keys;
    }

    pub(crate) fn serve_metadata(&self, metadata: Value) {
        *self.state.metadata.lock().unwrap() = Some(metadata);
    }

    /// Answers requests for keys so, until told otherwise; a redirect names a body as its place.
    pub(crate) fn answer_keys(&self, answer: Option<(StatusCode, &str)>) {
        *self.state.answer.lock().unwrap() = answer.map(|(status, body)| (status, body.to_owned()));
    }

    /// Lets no answer out until [`Self::open_gate`].
    pub(crate) fn close_gate(&self) {
        self.state.gate.forget_permits(usize::MAX);
    }

    pub(crate) fn open_gate(&self) {
        self.state.gate.add_permits(1_000_000);
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let hits = match request.uri().path() {
            "/.well-known/openid-configuration" => &self.metadata_hits,
            "/keys" => &self.key_hits,
            _ => &self.other_hits,
        };
        hits.fetch_add(1, SeqCst);
        let _open = self.gate.acquire().await;
        match request.uri().path() {
            "/.well-known/openid-configuration" => {
                let usual = json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
                let metadata = self.metadata.lock().unwrap().clone();
                metadata.unwrap_or(usual).to_string().into_response()
            }
            "/keys" => {
                let shown = request.headers().get(header::AUTHORIZATION);
                *self.authorization.lock().unwrap() =
                    shown.map(|value| value.to_str().unwrap().to_owned());
                match self.answer.lock().unwrap().clone() {
                    Some((status, place)) if status.is_redirection() => {
                        let place: Uri = place.parse().unwrap();
                        (status, [(header::LOCATION, place.to_string())]).into_response()
                    }
                    Some(answer) => answer.into_response(),
                    None => self.key_set().into_response(),
                }
            }
            _ => self.key_set().into_response(),
        }
    }

    fn key_set(&self) -> String {
        json!({"keys": *self.keys.lock().unwrap()}).to_string()
    }
}

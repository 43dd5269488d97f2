//! A small OpenID provider, where the people of the demo log in: by device code, as `dayfly login` does it (RFC 8628); it says whose session is over.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

use crate::clock;
use crate::random;

/// Who can log in; all are of the group that owns what they work on.
pub(super) const PEOPLE: [&str; 2] = ["mona", "hugo"];
const GROUP: &str = "platform";
/// The client of those who operate the server.
pub(super) const OPERATORS: &str = "dayfly";
/// The client of those who start tasks.
pub(super) const TASKS: &str = "dayfly-tasks";

const KID: &str = "people-1";
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const LIFE_SECONDS: u64 = 3600;
const INTERVAL_SECONDS: u64 = 1;
const MAX_FORM_BYTES: usize = 4096;
/// How many logins may be under way: nobody fills the memory of the demo.
const MAX_LOGINS: usize = 64;
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The provider, which answers until it is dropped.
pub(super) struct People {
    desk: Arc<Desk>,
    serving: tokio::task::JoinHandle<()>,
}

struct Desk {
    url: String,
    key: SigningKey,
    /// The bearer token of its events.
    events: String,
    logins: Mutex<BTreeMap<String, Login>>,
}

/// A login that was begun, under the code that its program holds.
struct Login {
    user_code: String,
    client: String,
    person: Option<&'static str>,
}

/// What came in a form, each name once.
type Form = BTreeMap<String, String>;

impl People {
    /// Makes a key and answers on a free port.
    pub(super) async fn start() -> Result<Self> {
        let key = SigningKey::generate(Alg::Rs256).context("cannot make the provider's key")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let desk = Arc::new(Desk {
            url: format!("http://{}", listener.local_addr()?),
            key,
            events: random::name()?,
            logins: Mutex::default(),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/device", post(device))
            .route("/activate", get(page).post(activate))
            .route("/token", post(token))
            .with_state(Arc::clone(&desk));
        let serving = tokio::spawn(async move {
            let _stopped = axum::serve(listener, routes).await;
        });
        Ok(Self { desk, serving })
    }

    /// Its `iss`.
    pub(super) fn url(&self) -> &str {
        &self.desk.url
    }

    /// What a program of this person gets for a client, once they have logged in.
    pub(super) fn id_token(&self, person: &str, client: &str) -> Result<String> {
        self.desk.id_token(person, client)
    }

    /// The event that says that a person's session is over (CAEP, session-revoked).
    pub(super) fn session_revoked(&self, person: &str, audience: &str) -> Result<String> {
        let now = clock::now_seconds();
        let claims = json!({
            "iss": self.url(),
            "aud": audience,
            "iat": now,
            "jti": random::name()?,
            "sub_id": {"format": "iss_sub", "iss": self.url(), "sub": person},
            "events": {SESSION_REVOKED: {"event_timestamp": now}},
        });
        self.desk.signed("secevent+jwt", &claims)
    }

    /// What it shows where it sends its events.
    pub(super) fn events_secret(&self) -> &str {
        &self.desk.events
    }
}

impl Drop for People {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Desk {
    fn logins(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Login>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id_token(&self, person: &str, client: &str) -> Result<String> {
        let now = clock::now_seconds();
        let claims = json!({
            "iss": self.url,
            "sub": person,
            "aud": client,
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "auth_time": now,
            "jti": random::name()?,
            "groups": [GROUP],
        });
        self.signed("JWT", &claims)
    }

    fn signed(&self, typ: &str, claims: &Value) -> Result<String> {
        let mut header = Map::new();
        header.insert("typ".to_owned(), typ.into());
        header.insert("kid".to_owned(), KID.into());
        self.key
            .encode_jws(header, claims.to_string().as_bytes())
            .context("cannot sign")
    }

    fn begin(&self, client: &str) -> Result<Response> {
        let device_code = random::name()?;
        let user_code: String = letters(&random::name()?).take(8).collect();
        let mut logins = self.logins();
        if logins.len() >= MAX_LOGINS {
            return Ok(refused("slow_down"));
        }
        let place = format!("{}/activate", self.url);
        let answer = json!({
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": place,
            "verification_uri_complete": format!("{place}?user_code={user_code}"),
            "expires_in": LIFE_SECONDS,
            "interval": INTERVAL_SECONDS,
        });
        let login = Login {
            user_code,
            client: client.to_owned(),
            person: None,
        };
        logins.insert(device_code, login);
        Ok(answered(&answer))
    }

    /// Notes who said yes to a code.
    fn accept(&self, user_code: &str, person: &str) -> Option<&'static str> {
        let person = PEOPLE.into_iter().find(|known| *known == person)?;
        let mut logins = self.logins();
        let login = logins
            .values_mut()
            .find(|login| login.user_code == user_code)?;
        login.person = Some(person);
        Some(person)
    }

    fn redeem(&self, device_code: &str, client: &str) -> Result<Response> {
        let mut logins = self.logins();
        let known = logins
            .get(device_code)
            .filter(|login| login.client == client);
        let Some(login) = known else {
            return Ok(refused("invalid_grant"));
        };
        let Some(person) = login.person else {
            return Ok(refused("authorization_pending"));
        };
        logins.remove(device_code);
        drop(logins);
        Ok(answered(&json!({
            "id_token": self.id_token(person, client)?,
            "access_token": random::name()?,
            "token_type": "Bearer",
            "expires_in": LIFE_SECONDS,
        })))
    }
}

async fn discovery(State(desk): State<Arc<Desk>>) -> Response {
    let issuer = &desk.url;
    answered(&json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks"),
        "token_endpoint": format!("{issuer}/token"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "grant_types_supported": [DEVICE_GRANT],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "groups"],
    }))
}

async fn jwks(State(desk): State<Arc<Desk>>) -> Response {
    let key = desk.key.public_jwk().published(KID, Alg::Rs256);
    answered(&json!({"keys": [key]}))
}

async fn device(State(desk): State<Arc<Desk>>, body: Body) -> Response {
    let form = form(body).await;
    match form.get("client_id").map(String::as_str) {
        Some(client @ (OPERATORS | TASKS)) => or_broken(desk.begin(client)),
        Some(_) | None => refused("invalid_client"),
    }
}

async fn token(State(desk): State<Arc<Desk>>, body: Body) -> Response {
    let form = form(body).await;
    let named = |name| form.get(name).map(String::as_str).unwrap_or_default();
    match named("grant_type") {
        DEVICE_GRANT => or_broken(desk.redeem(named("device_code"), named("client_id"))),
        _ => refused("unsupported_grant_type"),
    }
}

/// The page on which somebody says who they are: a real provider would ask them to prove it.
async fn page(uri: Uri) -> Html<String> {
    let query = uri.query().unwrap_or_default();
    let code = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "user_code");
    let code = code.map(|(_, code)| code.into_owned()).unwrap_or_default();
    // INVARIANT: nothing that is not a letter or a digit gets into the page.
    let code: String = letters(&code).collect();
    let buttons =
        PEOPLE.map(|person| format!("<button name=person value={person}>{person}</button>"));
    Html(format!(
        "<!doctype html><title>Who are you?</title><form method=post>Code <input name=user_code value=\"{code}\"> as {}</form>",
        buttons.join(" ")
    ))
}

async fn activate(State(desk): State<Arc<Desk>>, body: Body) -> Response {
    let form = form(body).await;
    let named = |name| form.get(name).map(String::as_str).unwrap_or_default();
    match desk.accept(named("user_code"), named("person")) {
        Some(person) => format!("logged in as {person}\n").into_response(),
        None => (
            StatusCode::NOT_FOUND,
            "no such code, or nobody by that name\n",
        )
            .into_response(),
    }
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(char::is_ascii_alphanumeric)
}

/// A form of at most a few kilobytes; what is longer is none.
async fn form(body: Body) -> Form {
    let bytes = to_bytes(body, MAX_FORM_BYTES).await.unwrap_or_default();
    form_urlencoded::parse(&bytes).into_owned().collect()
}

fn or_broken(answer: Result<Response>) -> Response {
    answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn refused(error: &str) -> Response {
    let body = json!({ "error": error });
    (StatusCode::BAD_REQUEST, answered(&body)).into_response()
}

fn answered(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> Desk {
        Desk {
            url: "http://127.0.0.1:1".to_owned(),
            key: SigningKey::generate(Alg::Rs256).unwrap(),
            events: "a secret of the events".to_owned(),
            logins: Mutex::default(),
        }
    }

    #[test]
    fn a_login_is_given_once_to_the_client_that_began_it_and_to_nobody_before_a_person_said_yes() {
        let desk = desk();
        desk.begin(OPERATORS).unwrap();
        let (device_code, user_code) = {
            let logins = desk.logins();
            let (code, login) = logins.iter().next().unwrap();
            (code.clone(), login.user_code.clone())
        };
        let redeem = |client| desk.redeem(&device_code, client).unwrap().status();
        assert_eq!(redeem(OPERATORS), StatusCode::BAD_REQUEST);
        assert_eq!(desk.accept(&user_code, "nobody"), None);
        assert_eq!(desk.accept("another", "mona"), None);
        assert_eq!(desk.accept(&user_code, "mona"), Some("mona"));
        assert_eq!(redeem(TASKS), StatusCode::BAD_REQUEST);
        assert_eq!(redeem(OPERATORS), StatusCode::OK);
        assert_eq!(redeem(OPERATORS), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn the_page_has_the_code_and_a_button_for_everybody_and_nothing_that_was_slipped_in() {
        let uri = "/activate?user_code=ab%22%3E%3Cscript%3E1".parse().unwrap();
        let Html(html) = page(uri).await;
        assert!(html.contains("value=\"abscript1\""), "{html}");
        for person in PEOPLE {
            let button = format!("<button name=person value={person}>");
            assert!(html.contains(&button), "{html}");
        }
    }

    #[test]
    fn logins_under_way_are_bounded() {
        let desk = desk();
        for _ in 0..MAX_LOGINS {
            assert_eq!(desk.begin(OPERATORS).unwrap().status(), StatusCode::OK);
        }
        let more = desk.begin(OPERATORS).unwrap();
        assert_eq!(more.status(), StatusCode::BAD_REQUEST);
        assert_eq!(desk.logins().len(), MAX_LOGINS);
    }
}

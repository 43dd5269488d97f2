//! People, as their provider speaks of them: tokens of a login, and words that a session is over or an account gone.

use std::sync::OnceLock;

use axum::Router;
use axum::routing::get;
use dayfly_domain::{BlockOn, Time};
use dayfly_server::app::{Refused, Signalled};
use serde_json::json;

use crate::caller::{trail, unique};
use crate::model::Login;
use crate::world::{ISSUER, World, key_set, signed};

/// Everybody there is; numbers name them by their place.
pub(crate) const PEOPLE: [&str; 6] = ["ada", "bob", "cyd", "dan", "eve", "fay"];
/// For whom the provider makes tokens that start tasks, and those that operate.
pub(crate) const TASKS: &str = "dayfly-tasks";
pub(crate) const OPERATE: &str = "dayfly";
/// Who says that somebody is gone.
pub(crate) const EVENTS: &str = "https://idp.example/events";

/// A word of the provider about a person, made at a time.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) who: usize,
    pub(crate) made: Time,
    /// Up to when what the person authenticated for is over.
    pub(crate) upto: Time,
    /// Whether the account is gone rather than a session over.
    pub(crate) gone: bool,
    set: String,
}

/// The URL of the provider of all people: it serves its keys on this machine for as long as this
/// process lives, for those of operators can be had in no other way.
pub(crate) fn provider() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string();
        std::thread::spawn(move || serve(listener, metadata));
        url
    })
}

fn serve(listener: std::net::TcpListener, metadata: String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || metadata.clone()),
            )
            .route("/keys", get(async || key_set()));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
}

/// A token that the provider made at this time for whoever logged in then, for this audience.
pub(crate) fn id_token(now: Time, login: Login, audience: &str) -> String {
    let now = now.seconds();
    let claims = json!({
        "iss": provider(), "aud": audience, "sub": PEOPLE[login.who], "jti": unique(),
        "email_verified": true, "auth_time": login.at.seconds(), "iat": now, "exp": now + 300,
    });
    signed("JWT", &claims)
}

impl Word {
    /// What is said so many seconds late of what happened so many seconds before.
    pub(crate) fn new(now: Time, who: usize, late: u64, before: u64, gone: bool) -> Self {
        const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
        const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
        let made = now.seconds() - late;
        let happened = made - before;
        let claims = json!({
            "iss": EVENTS, "aud": ISSUER, "jti": unique(), "iat": made,
            "sub_id": {"format": "iss_sub", "iss": provider(), "sub": PEOPLE[who]},
            "events": {if gone { RISC } else { CAEP }: {"event_timestamp": happened}},
        });
        // An account that is gone was so for all that came before it was said.
        let upto = if gone { made } else { happened };
        Self {
            who,
            made: Time::from_seconds(made),
            upto: Time::from_seconds(upto),
            gone,
            set: signed("secevent+jwt", &claims),
        }
    }

    /// Tells the server.
    pub(crate) async fn say(&self, world: &World) -> Result<Signalled, Refused> {
        let loaded = world.tenant.loaded();
        let receiver = &loaded.receivers[&"idp".parse().unwrap()];
        let signal = receiver.verify(&self.set, world.now()).await.unwrap();
        let app = &world.app;
        app.signal(&world.tenant, &signal, &trail("signal")).await
    }

    /// What keeps the person out that it is about.
    pub(crate) async fn block(&self, world: &World) -> BlockOn {
        let loaded = world.tenant.loaded();
        let receiver = &loaded.receivers[&"idp".parse().unwrap()];
        let signal = receiver.verify(&self.set, world.now()).await.unwrap();
        BlockOn::Barred(signal.over().unwrap().person)
    }
}

//! The binary asks a transmitter of Shared Signals for events over HTTP, and the runbook's page on one that is away or whose events are refused.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};

use crate::client::{Client, Outcome, grant_form, new_key, post_token, signed, unique};
use crate::page::{RUNBOOK, step, until};
use crate::signals::{SECRET, SESSION, declared, event_of, login, push};
use crate::stage::{Shared, Stage};

/// A transmitter that keeps each event until it is told what became of it.
#[derive(Debug, Default)]
struct Transmitter(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    down: bool,
    waiting: BTreeMap<String, String>,
    acknowledged: Vec<String>,
    unfit: BTreeMap<String, Value>,
}

async fn poll(
    State(transmitter): State<Arc<Transmitter>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let mut told = transmitter.0.lock().unwrap();
    let bearer = headers["authorization"].to_str().unwrap();
    if told.down || bearer != format!("Bearer {SECRET}") {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let request: Value = serde_json::from_str(&body).unwrap();
    for jti in request["ack"].as_array().into_iter().flatten() {
        let jti = jti.as_str().unwrap().to_owned();
        told.waiting.remove(&jti);
        told.acknowledged.push(jti);
    }
    for (jti, why) in request["setErrs"].as_object().into_iter().flatten() {
        told.waiting.remove(jti);
        told.unfit.insert(jti.clone(), why.clone());
    }
    let answer = json!({"sets": told.waiting, "moreAvailable": false});
    (StatusCode::OK, answer.to_string())
}

impl Transmitter {
    async fn start() -> (Arc<Self>, String) {
        let transmitter = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let router = Router::new().route("/events", post(poll));
        let router = router.with_state(Arc::clone(&transmitter));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (transmitter, url)
    }

    fn is_down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    fn tell(&self, jti: &str, set: String) {
        self.0.lock().unwrap().waiting.insert(jti.to_owned(), set);
    }

    /// Looks until all that waited was acknowledged or refused.
    fn told(&self, stage: &Stage) -> (Vec<String>, Vec<String>) {
        until(stage, "true", |_| self.0.lock().unwrap().waiting.is_empty());
        let told = self.0.lock().unwrap();
        let unfit = told.unfit.keys().cloned().collect();
        (told.acknowledged.clone(), unfit)
    }
}

fn polled(url: &str) -> String {
    let push = "push = { secret_file = \"events.secret\" }";
    let poll = format!(
        "allow_private = true\npoll = {{ url = \"{url}\", token_file = \"events.secret\", every = \"1s\" }}"
    );
    declared().replace(push, &poll)
}

async fn started(shared: &Shared, sub: &str, ago: u64) -> Client {
    let proof = signed(shared, &login(sub, ago));
    match Client::grant_by(shared, proof).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("a grant got lost"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_transmitter_away_is_walked() {
    assert!(RUNBOOK.contains("\n## Transmitter away\n"));
    let (transmitter, url) = Transmitter::start().await;
    transmitter.is_down(true);
    let mut stage = Stage::with("", &polled(&url));
    stage.filter = "info";
    let secret = stage.folder().join("tenants/acme/events.secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    stage.start().await;
    let shared = stage.shared();
    let task = started(&shared, "mona", 60).await;

    // It is away: that is seen, and ends nothing.
    let readyz = step(
        "curl -s --unix-socket data/admin.sock http://local/readyz",
        &[],
    );
    let said = until(&stage, &readyz, |said| said.contains("gives no events"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["ready"], true, "{said}");
    let warning = said["warnings"][0].as_str().unwrap().to_owned();
    assert!(
        warning.contains("the transmitter idp of acme gives no events since"),
        "{warning}"
    );
    assert!(task.introspect(&shared).await);

    // It is back, and says something that cannot be judged beside what can.
    let foreign = event_of(
        &shared,
        SESSION,
        "mona",
        json!({"aud": "https://other.example", "jti": "foreign"}),
    );
    transmitter.tell("foreign", foreign);
    let good = event_of(&shared, SESSION, "mona", json!({"jti": "good"}));
    transmitter.tell("good", good);
    transmitter.is_down(false);
    let (acknowledged, unfit) = transmitter.told(&stage);
    assert_eq!(
        (acknowledged, unfit),
        (vec!["good".to_owned()], vec!["foreign".to_owned()])
    );
    assert!(!task.introspect(&shared).await);
    stage.traced(&task.task, "upstream: signals.idp: session-revoked");
    until(&stage, &readyz, |said| said.contains("\"warnings\":[]"));

    why_it_was_refused(&stage);
    ended_by_hand(&stage, &shared).await;

    // What was acknowledged holds over a kill.
    stage.kill();
    stage.start().await;
    assert!(!task.introspect(&shared).await);
    let late = signed(&shared, &login("mona", 59));
    let answer = post_token(&shared, &new_key(), &grant_form(&late)).await;
    assert_eq!(answer.unwrap().1["refused"]["rule"], "rights_removed");
    stage.kill();
    stage.fsck();
}

/// Which events, and why.
fn why_it_was_refused(stage: &Stage) {
    let counted = step(
        "curl -s --unix-socket data/admin.sock http://local/metrics | grep dayfly_signals_total",
        &[],
    );
    until(stage, &counted, |said| {
        ["over", "malformed"]
            .iter()
            .all(|outcome| said.contains(&format!("outcome=\"{outcome}\"")))
    });
    let log = stage.log();
    let refused = log
        .lines()
        .find(|line| line.contains("\"asked\":\"signal\""));
    let refused = refused.unwrap_or_else(|| panic!("{log}"));
    let refusal = refused
        .find("ref_")
        .map(|at| &refused[at..at + 30])
        .unwrap();
    let (done, why) = stage.shell(&step("dayfly why REFUSAL", &[("REFUSAL", refusal)]));
    assert!(done && why.contains("audience"), "{why}");
}

/// Nobody waits for a provider: what its people have open ends by hand, and may start anew.
async fn ended_by_hand(stage: &Stage, shared: &Shared) {
    let open = started(shared, "mona", 3).await;
    let by_hand = step(
        "dayfly workload end WORKLOAD --reason \"their provider is away\"",
        &[("WORKLOAD", "repair")],
    );
    let (done, said) = stage.shell(&by_hand);
    assert!(done, "{said}");
    assert!(!open.introspect(shared).await);
    let again = started(shared, "mona", 2).await;
    assert!(again.introspect(shared).await);
}

/// A transmitter that sends its events has two secrets while one replaces the other, and each of
/// them does; the page's last case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transmitters_secret_is_replaced_without_a_gap() {
    let one = "push = { secret_file = \"events.secret\" }";
    let both = "push = { secret_file = [\"events.secret\", \"events-next.secret\"] }";
    let next = "push = { secret_file = \"events-next.secret\" }";
    assert!(RUNBOOK.contains("push = { secret_file = [\"old.secret\", \"new.secret\"] }"));
    let mut stage = Stage::with("", &declared());
    let folder = stage.folder().join("tenants/acme");
    let later = "the-next-secret-of-the-events";
    fs::write(folder.join("events.secret"), format!("{SECRET}\n")).unwrap();
    fs::write(folder.join("events-next.secret"), format!("{later}\n")).unwrap();
    stage.start().await;
    let shared = stage.shared();
    let tenant = folder.join("tenant.toml");
    let apply = |to: &str| {
        fs::write(&tenant, declared().replace(one, to)).unwrap();
        let apply = step(
            "dayfly apply --reason \"the transmitter's secret is replaced\"",
            &[],
        );
        let (done, said) = stage.shell(&apply);
        assert!(done, "{said}");
    };
    // What becomes of a word that comes with each of both, and of what the person started.
    let heard = async || {
        let mut heard = Vec::new();
        for secret in [SECRET, later] {
            let sub = unique();
            let task = started(&shared, &sub, 60).await;
            let word = event_of(&shared, SESSION, &sub, json!({}));
            let status = push(&shared, secret, &word).await.0;
            heard.push((status, task.introspect(&shared).await));
        }
        heard
    };
    let (taken, refused) = ((202, false), (400, true));
    assert_eq!(heard().await, [taken, refused]);
    apply(both);
    assert_eq!(heard().await, [taken, taken]);
    apply(next);
    assert_eq!(heard().await, [refused, taken]);
    stage.kill();
    stage.fsck();
}

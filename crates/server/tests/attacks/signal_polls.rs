//! Events that are fetched: from a transmitter over HTTP, which keeps each until it is acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use dayfly_server::telemetry::Metrics;
use dayfly_server::transmitters::fetch_events;
use dayfly_store::Fault;
use dayfly_store::clock::Clock as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::signals::{CREDENTIAL, DISABLED, SESSION, declared, event, set};
use super::world::World;

/// A transmitter, and what it was told.
#[derive(Debug)]
struct Transmitter {
    state: Mutex<Told>,
    /// How many requests it has answered.
    answered: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    waiting: BTreeMap<String, String>,
    acknowledged: Vec<String>,
    unfit: BTreeMap<String, Value>,
    down: bool,
    answer: Option<String>,
}

async fn poll(
    State(transmitter): State<Arc<Transmitter>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let request = serde_json::from_str(&body).unwrap();
    let answer = transmitter.answer(&headers, &request);
    transmitter.answered.send_modify(|answered| *answered += 1);
    answer
}

impl Transmitter {
    async fn start() -> (Arc<Self>, String) {
        let transmitter = Arc::new(Self {
            state: Mutex::default(),
            answered: watch::channel(0).0,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/TENANT", listener.local_addr().unwrap());
        let nothing = async || r#"{"sets":{}}"#;
        let router = Router::new().route("/acme", post(poll));
        let router = router.route("/other", post(nothing));
        let router = router.with_state(Arc::clone(&transmitter));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (transmitter, url)
    }

    fn answer(&self, headers: &HeaderMap, request: &Value) -> (StatusCode, String) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(headers["authorization"], "Bearer the-secret-of-events");
        assert_eq!(request["returnImmediately"], true);
        if state.down {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        for jti in request["ack"].as_array().into_iter().flatten() {
            let jti = jti.as_str().unwrap().to_owned();
            state.waiting.remove(&jti);
            state.acknowledged.push(jti);
        }
        for (jti, why) in request["setErrs"].as_object().into_iter().flatten() {
            state.waiting.remove(jti);
            state.unfit.insert(jti.clone(), why.clone());
        }
        if let Some(answer) = &state.answer {
            return (StatusCode::OK, answer.clone());
        }
        let most = usize::try_from(request["maxEvents"].as_u64().unwrap()).unwrap();
        let sets: BTreeMap<_, _> = state.waiting.iter().take(most).collect();
        let more = state.waiting.len() > sets.len();
        let answer = json!({"sets": sets, "moreAvailable": more});
        (StatusCode::OK, answer.to_string())
    }

    /// Is up, and answers this whatever it is asked.
    fn answers(&self, answer: &str) {
        let mut state = self.state.lock().unwrap();
        (state.down, state.answer) = (false, Some(answer.to_owned()));
    }

    fn tell(&self, claims: &Value) -> String {
        let jti = claims["jti"].as_str().unwrap().to_owned();
        self.tell_as(&jti, set(claims));
        jti
    }

    fn tell_as(&self, jti: &str, set: String) {
        let mut state = self.state.lock().unwrap();
        state.waiting.insert(jti.to_owned(), set);
    }

    /// Waits until what it was told is so.
    async fn until(&self, wanted: impl Fn(&Told) -> bool) {
        let mut answered = self.answered.subscribe();
        let within = Duration::from_secs(30);
        let seen = answered.wait_for(|_| wanted(&self.state.lock().unwrap()));
        let seen = tokio::time::timeout(within, seen).await;
        assert!(seen.is_ok(), "{:?}", self.state.lock().unwrap());
    }

    /// Waits for so many more requests.
    async fn asked(&self, more: u64) {
        let before = *self.answered.borrow();
        let mut answered = self.answered.subscribe();
        let seen = answered.wait_for(|now| *now >= before + more);
        let within = Duration::from_secs(30);
        tokio::time::timeout(within, seen).await.unwrap().unwrap();
    }
}

fn polling(url: &str) -> String {
    let push = "push = { secret_file = \"events.secret\" }";
    let poll = format!(
        "allow_private = true\npoll = {{ url = \"{url}\", token_file = \"events.secret\", every = \"1s\" }}"
    );
    declared().replace(push, &poll)
}

/// Asks until it is dropped or told to stop.
fn fetch(world: &World) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let (stop, stopping) = watch::channel(false);
    let fetching = fetch_events(
        Arc::clone(&world.app),
        Arc::new(Metrics::default()),
        stopping,
    );
    (stop, tokio::spawn(fetching))
}

#[tokio::test]
async fn events_are_fetched_obeyed_and_acknowledged_each() {
    let (transmitter, url) = Transmitter::start().await;
    let world = World::declared(&polling(&url)).await;
    let mut jobs = Vec::new();
    let mut said = Vec::new();
    // More than come at once.
    for n in 0..70 {
        let sub = format!("mona-{n}");
        jobs.push(world.logged_in(&sub, 60).await);
        let kind = if n % 2 == 0 { SESSION } else { CREDENTIAL };
        said.push(transmitter.tell(&event(&world, kind, &sub)));
    }
    let newer = world.logged_in("mona-1", 5).await;
    let (stop, fetching) = fetch(&world);
    transmitter
        .until(|told| told.acknowledged.len() == 70)
        .await;
    for job in &jobs {
        assert!(!world.is_active(&job.token).await);
    }
    assert!(world.is_active(&newer.token).await);
    // One that comes later, and the push that is not declared.
    transmitter.tell(&event(&world, DISABLED, "dora"));
    transmitter
        .until(|told| told.acknowledged.len() == 71)
        .await;
    assert_eq!(world.login_refused("dora", 1).await, "blocked");
    assert_eq!(
        world
            .push(&set(&event(&world, SESSION, "dora")))
            .await
            .status,
        404
    );
    assert_eq!(world.app.warnings(), Vec::<String>::new());
    stop.send_replace(true);
    fetching.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_judged_is_told_so_and_what_means_nothing_is_acknowledged() {
    let (transmitter, url) = Transmitter::start().await;
    let world = World::declared(&polling(&url)).await;
    let job = world.logged_in("mona", 60).await;
    let good = event(&world, SESSION, "mona");
    transmitter.tell_as("other-name", set(&good));
    transmitter.tell_as("no-set", "x".to_owned());
    let foreign = super::job::with(
        good.clone(),
        json!({"jti": "foreign", "aud": "https://x.example"}),
    );
    transmitter.tell(&foreign);
    let ignored = transmitter.tell(&event(&world, "urn:other", "mona"));
    let (_stop, _fetching) = fetch(&world);
    transmitter.until(|told| told.waiting.is_empty()).await;
    {
        let told = transmitter.state.lock().unwrap();
        assert_eq!(told.acknowledged, [ignored]);
        let err = |jti: &str| told.unfit[jti]["err"].as_str().unwrap().to_owned();
        assert_eq!(err("other-name"), "invalid_request");
        assert_eq!(err("no-set"), "invalid_request");
        assert_eq!(err("foreign"), "invalid_audience");
    }
    assert!(world.is_active(&job.token).await);
}

#[tokio::test]
async fn an_outage_ends_nothing_is_seen_and_is_over_when_it_is() {
    let (transmitter, url) = Transmitter::start().await;
    let world = World::declared(&polling(&url)).await;
    let job = world.logged_in("mona", 60).await;
    transmitter.state.lock().unwrap().down = true;
    let (_stop, _fetching) = fetch(&world);
    transmitter.asked(2).await;
    let warnings = world.app.warnings();
    assert!(
        warnings[0].contains("the transmitter idp of acme gives no events"),
        "{warnings:?}"
    );
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert!(world.is_active(&job.token).await);
    // An answer that is none is an outage like any other.
    for answer in ["[]", &"x".repeat(300 * 1024)] {
        transmitter.answers(answer);
        transmitter.asked(1).await;
        assert_eq!(world.app.warnings().len(), 1, "{} bytes", answer.len());
    }
    transmitter.state.lock().unwrap().answer = None;
    transmitter.tell(&event(&world, SESSION, "mona"));
    transmitter.until(|told| told.acknowledged.len() == 1).await;
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.app.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let (transmitter, url) = Transmitter::start().await;
    let (world, store) = World::in_memory_declared(&polling(&url)).await;
    let job = world.logged_in("mona", 60).await;
    // Neither ledger nor journal: it is obeyed, and told once more.
    let world = world.restarted_without_journal().await;
    store.fail([Fault::BeforeWrite; 5000]);
    transmitter.tell(&event(&world, SESSION, "mona"));
    let (_stop, _fetching) = fetch(&world);
    transmitter.asked(3).await;
    assert!(transmitter.state.lock().unwrap().acknowledged.is_empty());
    assert!(!world.is_active(&job.token).await);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    transmitter.until(|told| told.acknowledged.len() == 1).await;
    assert_eq!(world.login_refused("mona", 50).await, "rights_removed");
}

#[tokio::test]
async fn what_the_journal_has_is_acknowledged() {
    let (transmitter, url) = Transmitter::start().await;
    let (world, store) = World::in_memory_declared(&polling(&url)).await;
    let job = world.logged_in("mona", 60).await;
    store.fail([Fault::BeforeWrite; 5000]);
    transmitter.tell(&event(&world, DISABLED, "mona"));
    let (_stop, _fetching) = fetch(&world);
    transmitter.until(|told| told.acknowledged.len() == 1).await;
    let again = world.restarted().await;
    assert!(!again.is_active(&job.token).await);
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.login_refused("mona", 1).await, "blocked");
}

#[tokio::test]
async fn events_that_do_not_fit_into_one_answer_come_in_smaller_ones() {
    let (transmitter, url) = Transmitter::start().await;
    let world = World::declared(&polling(&url)).await;
    let job = world.logged_in("mona", 60).await;
    // What no event can be named by is told to be none, and keeps nobody away.
    for n in 0..40 {
        let name = format!("{n}-{}", "n".repeat(300));
        transmitter.tell_as(&name, "x".repeat(12_000));
    }
    transmitter.tell(&event(&world, SESSION, "mona"));
    let (_stop, _fetching) = fetch(&world);
    transmitter.until(|told| told.waiting.is_empty()).await;
    {
        let told = transmitter.state.lock().unwrap();
        assert_eq!((told.acknowledged.len(), told.unfit.len()), (1, 40));
    }
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.app.warnings(), Vec::<String>::new());
}

/// What is fetched while the clock has jumped is obeyed and not acknowledged, and nothing is refused
/// for good by a time that may be wrong; once the clock has settled it is judged for good.
#[tokio::test]
async fn what_is_fetched_while_the_clock_has_jumped_is_obeyed_and_told_once_more() {
    let (transmitter, url) = Transmitter::start().await;
    let world = World::declared(&polling(&url)).await;
    let (mona, dora) = (
        world.logged_in("mona", 60).await,
        world.logged_in("dora", 60).await,
    );
    world.app.sweep().await;
    // The clock goes ahead: what was said before it seems to be older than anything may be.
    let old = event(&world, SESSION, "dora");
    let right = world.clock.now();
    world
        .clock
        .jump(right + dayfly_domain::Span::from_seconds(40 * 86_400));
    let now = transmitter.tell(&event(&world, SESSION, "mona"));
    let old = transmitter.tell(&old);
    let (_stop, _fetching) = fetch(&world);
    transmitter.asked(3).await;
    {
        let told = transmitter.state.lock().unwrap();
        assert!(
            told.acknowledged.is_empty() && told.unfit.is_empty(),
            "{told:?}"
        );
    }
    assert!(!world.is_active(&mona.token).await);
    // It is set right, and settles.
    world.clock.jump(right);
    world.app.sweep().await;
    world.wait(11);
    world.app.sweep().await;
    // What was said by the wrong clock is not yet, and is left to come again.
    transmitter.until(|told| told.acknowledged.len() == 1).await;
    {
        let told = transmitter.state.lock().unwrap();
        assert_eq!(told.acknowledged, [old]);
        assert!(told.unfit.is_empty() && told.waiting.contains_key(&now));
    }
    assert!(!world.is_active(&dora.token).await);
}

//! Pods that are gone: their cluster says so when it is asked, and what they have open ends; what it does not say ends nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dayfly_server::telemetry::Metrics;
use dayfly_store::clock::Clock as _;
use dayfly_store::{EntryRange, Fault, Store};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::approval::Asked;
use super::job::{Job, new_key, signed, with};
use super::world::{ARTIFACTS, ISSUER, Reply, TENANT, World, acme, unique};

/// An API server: it knows which pods are gone, and may be in trouble.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    gone: BTreeSet<String>,
    trouble: Option<(StatusCode, String)>,
    /// What it vouches for in the place of the token's own claims.
    instead: Value,
    asked: Vec<Value>,
    /// What each answer waits for.
    gate: Option<Arc<Semaphore>>,
}

impl Cluster {
    /// An API server and its URL.
    pub(crate) async fn start() -> (Self, String) {
        let cluster = Self::default();
        cluster.vouches(json!({}), json!({}));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handler = {
            let cluster = cluster.clone();
            move |request: Request| cluster.answer(request)
        };
        let router = Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (cluster, url)
    }

    /// Has it answer nothing until there is a permit.
    pub(crate) fn waits_for(&self, gate: &Arc<Semaphore>) {
        self.0.lock().unwrap().gate = Some(Arc::clone(gate));
    }

    /// How many questions it has had since they were last told.
    pub(crate) fn heard(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }

    async fn answer(self, request: Request) -> Response {
        let shown = request.headers().get(header::AUTHORIZATION).cloned();
        let body = to_bytes(request.into_body(), 65_536).await.unwrap();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        let gate = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(review["spec"].clone());
            state.gate.clone()
        };
        if let Some(gate) = gate {
            drop(gate.acquire().await);
        }
        let state = self.0.lock().unwrap();
        if let Some((status, body)) = state.trouble.clone() {
            return (status, [(header::LOCATION, body.clone())], body).into_response();
        }
        if shown.is_none_or(|shown| shown != "Bearer the token of the reviewer") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let token = review["spec"]["token"].as_str().unwrap();
        let payload = token.split('.').nth(1).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        let pod = claims["kubernetes.io"]["pod"]["uid"].clone();
        review["status"] = if state.gone.contains(pod.as_str().unwrap()) {
            json!({ "user": {}, "error": "[invalid bearer token, service account token has been invalidated]" })
        } else {
            let own = json!({
                "username": claims["sub"],
                "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
                "extra": { "authentication.kubernetes.io/pod-uid": [pod] },
            });
            let user = with(own, state.instead["user"].clone());
            let status = json!({
                "authenticated": true, "user": user, "audiences": review["spec"]["audiences"],
            });
            with(status, state.instead["status"].clone())
        };
        (StatusCode::CREATED, review.to_string()).into_response()
    }

    pub(crate) fn delete(&self, pod: &str) {
        self.0.lock().unwrap().gone.insert(pod.to_owned());
    }

    pub(crate) fn restore(&self, pod: &str) {
        self.0.lock().unwrap().gone.remove(pod);
    }

    pub(crate) fn is_in_trouble(&self, trouble: Option<(StatusCode, &str)>) {
        self.0.lock().unwrap().trouble = trouble.map(|(status, body)| (status, body.to_owned()));
    }

    fn vouches(&self, user: Value, status: Value) {
        self.0.lock().unwrap().instead = json!({ "user": user, "status": status });
    }

    /// What it was asked since this was asked last.
    pub(crate) fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

pub(crate) fn declared(url: &str) -> String {
    format!(
        r#"{TENANT}
[issuer.cluster]
kind   = "kubernetes"
url    = "https://cluster.example"
jwks   = {{ file = "jwks.json" }}
review = {{ url = "{url}", token_file = "reviewer.token", every = "30s" }}
allow_private = true

[workload.settler]
owner   = "team"
kind    = "batch"
purpose = "settle payments"
match   = {{ issuer = "cluster", serviceaccount_uid = "14ee3fa4" }}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]

[workload.crew]
owner   = "team"
kind    = "batch"
purpose = "many clients of one pod"
match   = {{ issuer = "cluster", serviceaccount_uid = "crew" }}
repeat  = "join"
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]

[workload.asker]
owner   = "team"
kind    = "batch"
purpose = "settle what somebody has looked at"
match   = {{ issuer = "cluster", serviceaccount_uid = "asker" }}
approval = {{ by = "owner", within = "30m" }}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]
"#
    )
}

pub(crate) async fn world() -> (World, Cluster) {
    let (cluster, url) = Cluster::start().await;
    (World::declared(&declared(&url)).await, cluster)
}

/// The claims of a pod's token, valid for an hour.
pub(crate) fn claims(world: &World, account: &str, pod: &str) -> Value {
    let now = world.now();
    json!({
        "iss": "https://cluster.example", "aud": [ISSUER], "jti": unique(),
        "sub": "system:serviceaccount:payments:settler",
        "iat": now, "nbf": now, "exp": now + 3600,
        "kubernetes.io": {
            "namespace": "payments",
            "node": { "name": "worker-1", "uid": "646e7c5e" },
            "pod": { "name": "settler-7d9", "uid": pod },
            "serviceaccount": { "name": "settler", "uid": account },
        },
    })
}

impl World {
    pub(crate) async fn pod(&self, account: &str, pod: &str) -> Reply {
        let proof = signed(&claims(self, account, pod));
        self.ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    }

    pub(crate) async fn pod_job(&self, account: &str, pod: &str) -> Job {
        self.pod_job_by(&claims(self, account, pod)).await
    }

    async fn pod_job_by(&self, claims: &Value) -> Job {
        let (key, proof) = (new_key(), signed(claims));
        let reply = self
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    /// Asks the clusters about the pods whose turn it is, and says how many were gone.
    async fn review(&self) -> u64 {
        let mut gone = 0;
        for asking in self.app.review_pods() {
            gone += asking.await.unwrap();
        }
        gone
    }

    /// The same twice, for one no ends nothing.
    pub(crate) async fn gone(&self) -> u64 {
        assert_eq!(self.review().await, 0);
        self.wait(5);
        self.review().await
    }

    /// How many pods are asked about.
    fn watched(&self) -> u64 {
        self.measured("dayfly_watched_pods").unwrap_or(0)
    }

    /// What a metric of the issuer says.
    fn measured(&self, name: &str) -> Option<u64> {
        let text = Metrics::default().render(&self.app).unwrap();
        let mut lines = text.lines();
        let line = lines.find(|line| {
            line.starts_with(&format!("{name}{{"))
                && line.contains("tenant=\"acme\"")
                && line.contains("issuer=\"cluster\"")
        });
        line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The annex of the end of a task.
    fn why_ended(&self, task: &str) -> String {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let entries = entries.unwrap().into_iter();
        let mut ends = entries.filter(|entry| {
            let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
            leaf["kind"] == "task.ended" && leaf["task"] == task
        });
        let annex = ends.next().unwrap().annex.unwrap();
        annex.data
    }
}

#[tokio::test]
async fn a_deleted_pod_ends_within_one_period_and_does_not_start_again() {
    let (world, cluster) = world().await;
    let (job, other) = (
        world.pod_job("14ee3fa4", "one").await,
        world.pod_job("14ee3fa4", "two").await,
    );
    assert_eq!(cluster.asked().len(), 2);
    assert_eq!(world.watched(), 2);
    // Not before its turn.
    world.wait(29);
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
    world.wait(1);
    assert_eq!(world.review().await, 0);
    let asked = cluster.asked();
    let wanted = json!({ "token": job.proof, "audiences": [ISSUER] });
    assert_eq!((asked.len(), &asked[0]), (2, &wanted));
    cluster.delete("one");
    world.wait(30);
    assert_eq!(world.review().await, 0);
    assert!(world.is_active(&job.token).await, "one no is none");
    world.wait(4);
    assert_eq!(world.review().await, 0, "nor is a second one at once");
    world.wait(1);
    assert_eq!(world.review().await, 1);
    assert!(!world.is_open(&job.task) && !world.is_active(&job.token).await);
    assert_eq!(world.ended_by(&job.task), "upstream");
    let why = world.why_ended(&job.task);
    let says = "cluster: TokenReview of pod settler-7d9: status.authenticated is false";
    assert!(why.contains(says), "{why}");
    assert_eq!(world.renew(&job, &[]).await.status, 400);
    assert!(world.is_active(&other.token).await);
    assert_eq!(world.watched(), 1);
    // It comes back neither by what the cluster says now, nor were the cluster to change its mind.
    cluster.asked();
    for _ in ["while it is gone", "restored"] {
        let refusal = world.pod("14ee3fa4", "one").await;
        assert_eq!(refusal.refusal(), (400, "invalid_grant", "already_ended"));
        cluster.restore("one");
    }
    assert_eq!(cluster.asked().len(), 0, "nobody is asked in vain");
    // One that never started is refused by its cluster, and that is explained by what it showed.
    cluster.delete("new");
    let refusal = world.pod("14ee3fa4", "new").await;
    assert_eq!(refusal.refusal(), (400, "invalid_grant", "token_review"));
    assert_eq!(refusal.body["refused"]["field"], "status.authenticated");
    let why = world.app.why(refusal.str("refusal").parse().unwrap());
    let trail = why.unwrap().trail.clone();
    assert_eq!(trail.workload.unwrap().as_str(), "settler");
    assert_eq!(trail.claims.unwrap()["pod_uid"], "new");
    let refusal = world.pod("14ee3fa4", "one").await;
    assert_eq!(refusal.refusal(), (400, "invalid_grant", "already_ended"));
    // No operator has anything to lift.
    let leaves = world.leaves();
    assert!(leaves.iter().all(|leaf| leaf["kind"] != "block.set"));
}

#[tokio::test]
async fn every_client_of_a_pod_ends_with_it_and_what_waits_for_people_too() {
    let (world, cluster) = world().await;
    let (one, two) = (
        world.pod_job("crew", "three").await,
        world.pod_job("crew", "three").await,
    );
    assert_eq!((&one.task, world.watched()), (&two.task, 1));
    let (key, proof) = (new_key(), signed(&claims(&world, "asker", "four")));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked: Asked = super::approval::asked_of(key, proof, &reply);
    assert_eq!(world.watched(), 2);
    cluster.delete("three");
    cluster.delete("four");
    world.wait(30);
    assert_eq!(world.gone().await, 2);
    for token in [&one.token, &two.token] {
        assert!(!world.is_active(token).await);
    }
    assert_eq!(world.ended_by(&one.task), "upstream");
    assert!(!world.is_open(&asked.task));
    assert_eq!(world.ended_by(&asked.task), "upstream");
}

/// Whatever a cluster vouches for that is not this pod with this audience ends it, at a proof and after.
#[tokio::test]
async fn what_is_vouched_for_must_be_the_pod_itself() {
    let (world, cluster) = world().await;
    for (pod, user, status, field) in [
        (
            "a",
            json!({ "extra": { "authentication.kubernetes.io/pod-uid": ["another"] } }),
            json!({}),
            "status.user.extra.pod-uid",
        ),
        (
            "b",
            json!({ "uid": "another" }),
            json!({}),
            "status.user.uid",
        ),
        (
            "c",
            json!({ "username": "system:serviceaccount:payments:admin" }),
            json!({}),
            "status.user.username",
        ),
        (
            "d",
            json!({}),
            json!({ "audiences": ["https://other.example"] }),
            "status.audiences",
        ),
        (
            "e",
            json!({}),
            json!({ "audiences": null }),
            "status.audiences",
        ),
    ] {
        let job = world.pod_job("14ee3fa4", pod).await;
        cluster.vouches(user, status);
        let refusal = world.pod("14ee3fa4", "new").await;
        assert_eq!(refusal.refusal(), (400, "invalid_grant", "token_review"));
        assert_eq!(refusal.body["refused"]["field"], field);
        world.wait(30);
        assert_eq!(world.gone().await, 1, "{field}");
        assert_eq!(world.ended_by(&job.task), "upstream");
        cluster.vouches(json!({}), json!({}));
    }
}

#[tokio::test]
async fn an_outage_refuses_proofs_ends_nothing_and_is_seen() {
    let (world, cluster) = world().await;
    let job = world.pod_job("14ee3fa4", "one").await;
    world.pod_job("14ee3fa4", "two").await;
    cluster.delete("one");
    let fat = "x".repeat(300 * 1024);
    let mut first = true;
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "{}"),
        (StatusCode::UNAUTHORIZED, "{}"),
        (StatusCode::FORBIDDEN, "{}"),
        (StatusCode::FOUND, "/elsewhere"),
        (
            StatusCode::CREATED,
            "{\"status\":{\"authenticated\":false}}",
        ),
        (StatusCode::CREATED, "no"),
        (StatusCode::CREATED, &fat),
    ] {
        cluster.is_in_trouble(Some((status, body)));
        let refusal = world.pod("14ee3fa4", "new").await;
        let (code, error, rule) = refusal.refusal();
        assert_eq!((code, error), (503, "temporarily_unavailable"));
        assert_eq!(rule, "token_review_unavailable");
        assert_ne!(refusal.header("retry-after"), "");
        world.wait(30);
        cluster.asked();
        assert_eq!(world.review().await, 0, "{status} {body:.40}");
        assert!(world.is_active(&job.token).await);
        // A few questions in a row that are not answered are enough for a while.
        assert_eq!(cluster.asked().len(), if first { 2 } else { 1 });
        first = false;
        world.wait(4);
        assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
        let warnings = world.app.warnings();
        assert!(
            warnings[0].contains("cannot be asked about tokens"),
            "{warnings:?}"
        );
        assert_eq!(world.app.unready(), Vec::<String>::new());
        let metrics = Metrics::default().render(&world.app).unwrap();
        let failing = metrics
            .lines()
            .find(|line| line.starts_with("dayfly_token_reviews_failing{"));
        assert!(failing.unwrap().ends_with(" 1"), "{metrics}");
    }
    cluster.is_in_trouble(None);
    world.wait(30);
    assert_eq!(world.gone().await, 1);
    assert_eq!(world.ended_by(&job.task), "upstream");
    assert_eq!(world.app.warnings(), Vec::<String>::new());
    assert_eq!(world.pod("14ee3fa4", "new").await.status, 200);
}

/// A cluster does not vouch for an expired token either: that is no word about its pod.
#[tokio::test]
async fn a_token_that_may_have_expired_by_itself_ends_nothing() {
    let (world, cluster) = world().await;
    let now = world.now();
    let short = with(
        claims(&world, "14ee3fa4", "one"),
        json!({ "exp": now + 600 }),
    );
    let job = world.pod_job_by(&short).await;
    cluster.delete("one");
    // The clocks of both may differ by a minute.
    world.wait(540);
    cluster.asked();
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
    assert!(world.is_active(&job.token).await || world.renew(&job, &[]).await.status == 200);
    assert_eq!(world.watched(), 0);
    assert_eq!(world.measured("dayfly_unasked_tasks"), Some(1));
}

#[tokio::test]
async fn the_newest_token_of_a_pod_is_asked_about_and_dropped_with_its_task() {
    let (world, cluster) = world().await;
    let old = claims(&world, "crew", "one");
    world.pod_job_by(&old).await;
    world.wait(20);
    let job = world.pod_job("crew", "one").await;
    // Shown later and made earlier: the newer one stays.
    world.pod_job_by(&old).await;
    world.wait(30);
    cluster.asked();
    assert_eq!(world.review().await, 0);
    let asked = cluster.asked();
    assert_eq!((asked.len(), &asked[0]["token"]), (1, &json!(job.proof)));
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    assert_eq!(world.watched(), 0);
    world.wait(30);
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
    // What ended while nobody was told is dropped when its turn comes.
    let late = world.pod_job("14ee3fa4", "two").await;
    world.wait(3601);
    cluster.asked();
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
    assert!(!world.is_active(&late.token).await);
    assert_eq!(world.watched(), 0);
}

#[tokio::test]
async fn after_a_restart_nothing_is_known_until_a_proof_comes() {
    let (world, cluster) = world().await;
    let job = world.pod_job("14ee3fa4", "one").await;
    let world = world.restarted().await;
    cluster.asked();
    world.wait(30);
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
    assert!(world.is_active(&job.token).await);
    // That is told, and nobody is less ready for it.
    assert_eq!(world.measured("dayfly_unasked_tasks"), Some(1));
    let warnings = world.app.warnings();
    let told = "nobody can ask about 1 of the open tasks of issuer cluster of tenant acme";
    assert!(warnings[0].starts_with(told), "{warnings:?}");
    assert_eq!(world.app.unready(), Vec::<String>::new());
    // The lost answer, asked for again.
    let again = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(world.watched(), 1);
    assert_eq!(world.measured("dayfly_unasked_tasks"), Some(0));
    assert_eq!(world.app.warnings(), Vec::<String>::new());
    cluster.delete("one");
    world.wait(30);
    assert_eq!(world.gone().await, 1);
    assert_eq!(world.ended_by(&job.task), "upstream");
}

/// The review of a proof is not the last word: what a pod asks for while it is found gone is not
/// granted.
#[tokio::test]
async fn a_pod_that_is_found_gone_while_it_is_granted_is_granted_nothing() {
    let (world, cluster) = world().await;
    let (world, cluster) = (Arc::new(world), cluster);
    let first = world.pod_job("crew", "one").await;
    world.wait(30);
    let meanwhile = |pod: &'static str| {
        let (world, cluster) = (Arc::clone(&world), cluster.clone());
        async move {
            cluster.delete(pod);
            assert_eq!(world.gone().await, 1);
        }
    };
    // Decided before it was found, recorded after it.
    world.store.before_next(meanwhile("one"));
    assert_eq!(world.pod("crew", "one").await.rule(), "already_ended");
    assert!(!world.is_active(&first.token).await);
    assert_eq!(world.count("client.registered", &first.task), 1);
    // Recorded before it, signed after it.
    let second = world.pod_job("crew", "two").await;
    world.wait(30);
    world.store.after_next(meanwhile("two"));
    assert_eq!(world.pod("crew", "two").await.rule(), "task_ended");
    assert!(!world.is_active(&second.token).await);
    assert_eq!(world.ended_by(&second.task), "upstream");
}

#[tokio::test]
async fn a_pod_that_is_gone_while_the_ledger_stalls_is_obeyed_and_recorded_later() {
    let (cluster, url) = Cluster::start().await;
    let (world, store) = World::in_memory_declared(&declared(&url)).await;
    let (one, two) = (
        world.pod_job("14ee3fa4", "one").await,
        world.pod_job("14ee3fa4", "two").await,
    );
    world.wait(30);
    store.fail([Fault::BeforeWrite; 5000]);
    cluster.delete("one");
    assert_eq!(world.gone().await, 1);
    assert!(!world.is_active(&one.token).await);
    assert!(world.is_active(&two.token).await);
    // Where not even a look is possible.
    world.store.fail_reads(true);
    cluster.delete("two");
    world.wait(30);
    assert_eq!(world.gone().await, 1);
    world.store.fail_reads(false);
    assert!(!world.is_active(&two.token).await);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    for job in [&one, &two] {
        assert_eq!(world.ended_by(&job.task), "upstream");
    }
    cluster.restore("one");
    assert_eq!(world.pod("14ee3fa4", "one").await.rule(), "already_ended");
}

/// What nothing keeps is lost with the process: the pod is asked about until the ledger has it.
#[tokio::test]
async fn a_pod_whose_end_nothing_keeps_is_asked_about_until_it_is_recorded() {
    let (cluster, url) = Cluster::start().await;
    let (first, store) = World::in_memory_declared(&declared(&url)).await;
    let world = first.restarted_without_journal().await;
    let job = world.pod_job("14ee3fa4", "one").await;
    world.wait(30);
    store.fail([Fault::BeforeWrite; 5000]);
    cluster.delete("one");
    assert_eq!(world.gone().await, 1);
    assert!(!world.is_active(&job.token).await);
    cluster.asked();
    world.wait(30);
    world.review().await;
    assert!(cluster.heard() > 0, "its token is kept");
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.ended_by(&job.task), "upstream");
    world.wait(30);
    world.review().await;
    cluster.asked();
    world.wait(30);
    world.review().await;
    assert_eq!(cluster.heard(), 0);
}

/// Whoever asks when the clock goes ahead finds every token expired and every turn come.
#[tokio::test]
async fn a_clock_that_goes_ahead_while_pods_are_asked_about_drops_no_token() {
    let (world, cluster) = world().await;
    let mut jobs = Vec::new();
    for pod in ["one", "two", "three", "four", "five", "six"] {
        jobs.push(world.pod_job("14ee3fa4", pod).await);
    }
    world.app.sweep().await;
    world.wait(30);
    world.app.sweep().await;
    let gate = Arc::new(Semaphore::new(0));
    cluster.asked();
    cluster.waits_for(&gate);
    let asking = world.app.review_pods();
    while cluster.heard() < 4 {
        tokio::task::yield_now().await;
    }
    let before = world.clock.now();
    world
        .clock
        .jump(before + dayfly_domain::Span::from_seconds(7200));
    gate.add_permits(1000);
    for one in asking {
        one.await.unwrap();
    }
    world
        .clock
        .jump(before + dayfly_domain::Span::from_seconds(1));
    for _ in 0..8 {
        world.wait(2);
        world.app.sweep().await;
    }
    cluster.delete("six");
    cluster.delete("one");
    cluster.asked();
    assert_eq!(world.gone().await, 2);
    for job in [&jobs[0], &jobs[5]] {
        assert!(!world.is_open(&job.task));
    }
    assert!(world.is_open(&jobs[1].task));
}

/// A few questions at a time and none twice, however many rounds begin meanwhile.
#[tokio::test]
async fn a_few_questions_at_a_time_are_open_for_each_issuer() {
    let (world, cluster) = world().await;
    for pod in 0..7 {
        world.pod_job("14ee3fa4", &format!("pod-{pod}")).await;
    }
    world.wait(30);
    cluster.asked();
    let first = world.app.review_pods();
    assert_eq!((first.len(), world.app.review_pods().len()), (4, 0));
    for asking in first {
        assert_eq!(asking.await.unwrap(), 0);
    }
    let asked = cluster.asked();
    let tokens: BTreeSet<&str> = asked.iter().filter_map(|of| of["token"].as_str()).collect();
    assert_eq!((asked.len(), tokens.len()), (7, 7));
    assert_eq!((world.review().await, cluster.asked().len()), (0, 0));
}

/// An API server answers 201 also where it could not check, and may change its mind.
#[tokio::test]
async fn what_a_cluster_could_not_check_and_what_it_takes_back_end_nothing() {
    let (world, cluster) = world().await;
    let job = world.pod_job("14ee3fa4", "one").await;
    for status in [
        json!({ "authenticated": null }),
        json!({ "authenticated": false, "error": "etcdserver: request timed out" }),
    ] {
        cluster.vouches(json!({}), status);
        let refusal = world.pod("14ee3fa4", "new").await;
        assert_eq!(refusal.rule(), "token_review_unavailable");
        world.wait(30);
        assert_eq!(world.gone().await, 0);
    }
    cluster.vouches(json!({}), json!({}));
    for _ in 0..2 {
        cluster.delete("one");
        world.wait(30);
        assert_eq!(world.review().await, 0);
        cluster.restore("one");
        world.wait(5);
        assert_eq!(world.review().await, 0);
    }
    assert!(world.is_open(&job.task));
}

/// Another cluster than the tokens are of knows none of them.
#[tokio::test]
async fn a_cluster_that_never_vouched_for_a_token_ends_nothing() {
    let (world, cluster) = world().await;
    let job = world.pod_job("14ee3fa4", "one").await;
    world.rewrite("every = \"30s\"", "every = \"20s\"");
    world.applied().await;
    cluster.delete("one");
    world.wait(30);
    assert_eq!(world.gone().await, 0);
    world.wait(20);
    assert_eq!(world.gone().await, 0);
    assert!(world.is_open(&job.task));
    let warnings = world.app.warnings();
    assert!(
        warnings[0].contains("has vouched for no token"),
        "{warnings:?}"
    );
    assert_eq!(world.pod("14ee3fa4", "two").await.status, 200);
    world.wait(20);
    assert_eq!(world.gone().await, 1);
    assert_eq!(world.ended_by(&job.task), "upstream");
}

/// Many at once may be the cluster's trouble: they end a while later, where it still says so.
#[tokio::test]
async fn pods_that_fall_together_are_held_for_a_while() {
    let (world, cluster) = world().await;
    let pods: Vec<String> = (0..12).map(|number| format!("pod-{number}")).collect();
    for pod in &pods {
        world.pod_job("14ee3fa4", pod).await;
        cluster.delete(pod);
    }
    world.wait(30);
    assert_eq!(world.gone().await, 0);
    let warnings = world.app.warnings();
    assert!(warnings[0].contains("fell at once"), "{warnings:?}");
    for _ in 0..9 {
        world.wait(30);
        assert_eq!(world.review().await, 0);
    }
    for pod in &pods[1..] {
        cluster.restore(pod);
    }
    world.wait(35);
    assert_eq!(world.review().await, 1);
    assert_eq!(world.watched(), 11);
}

/// `review` was added to an issuer that had tasks open: of those nobody can ask, which is told.
#[tokio::test]
async fn tasks_from_before_there_was_a_review_are_told() {
    let (cluster, url) = Cluster::start().await;
    let asked = declared(&url);
    let line = asked
        .lines()
        .find(|line| line.starts_with("review = "))
        .unwrap();
    let world = World::declared(&asked.replace(line, "")).await;
    let job = world.pod_job("crew", "one").await;
    assert_eq!(
        world.measured("dayfly_unasked_tasks"),
        None,
        "nobody is to be asked"
    );
    world.rewrite(
        "[workload.settler]",
        &format!("{line}\n\n[workload.settler]"),
    );
    world.applied().await;
    assert_eq!(world.measured("dayfly_unasked_tasks"), Some(1));
    assert_eq!(
        (world.measured("dayfly_watched_pods"), cluster.asked().len()),
        (Some(0), 0)
    );
    // Its pod shows a token: it is asked about from now on.
    let again = world.pod_job("crew", "one").await;
    assert_eq!(again.task, job.task);
    assert_eq!(world.measured("dayfly_unasked_tasks"), Some(0));
    assert_eq!(world.measured("dayfly_pods_turned_away_total"), Some(0));
}

//! Sinks of a real server: what they are told, signed and in order, and what becomes of those that
//! are killed beside, away, slow or wrong.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::Notify;

use crate::client::{Client, Outcome, grant_form, new_key, platform_token_of, post_token};
use crate::stage::{Stage, TENANT, free_port};

const SECRET: &str = "thirty-two bytes that are secret";

/// How a sink answers.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Take,
    Status(u16),
    /// Not at all.
    Hang,
}

pub(crate) struct Request {
    path: String,
    headers: HeaderMap,
    body: String,
    taken: bool,
}

/// A sink of this process.
pub(crate) struct Sink {
    mode: Mutex<Mode>,
    requests: Mutex<Vec<Request>>,
    came: Notify,
    port: u16,
}

impl Sink {
    pub(crate) async fn open() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Arc::new(Self {
            mode: Mutex::new(Mode::Take),
            requests: Mutex::default(),
            came: Notify::new(),
            port: listener.local_addr().unwrap().port(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&sink));
        tokio::spawn(async move { axum::serve(listener, router).await });
        sink
    }

    fn mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Waits until this holds of the requests that came.
    pub(crate) async fn until<T>(&self, found: impl Fn(&[Request]) -> Option<T>) -> T {
        loop {
            let came = self.came.notified();
            if let Some(found) = found(&self.requests.lock().unwrap()) {
                return found;
            }
            came.await;
        }
    }

    async fn until_count(&self, count: usize) {
        self.until(|all| (all.len() >= count).then_some(())).await;
    }

    /// What was taken, with every signature checked.
    fn taken(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        let taken = requests.iter().filter(|request| request.taken);
        taken.map(checked).collect()
    }

    /// The configuration that names it, by a URL that lets one in.
    pub(crate) fn notify(&self, rest: &str) -> String {
        format!(
            "notify = [{{ url = \"http://127.0.0.1:{}/let-me-in\", secret_file = \"notify.secret\", {rest} }}]\n",
            self.port
        )
    }
}

async fn answer(
    State(sink): State<Arc<Sink>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mode = *sink.mode.lock().unwrap();
    sink.requests.lock().unwrap().push(Request {
        path: uri.path().to_owned(),
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
        taken: mode == Mode::Take,
    });
    sink.came.notify_waiters();
    match mode {
        Mode::Take => "x".repeat(100_000).into_response(),
        Mode::Status(status) => {
            let elsewhere = [(header::LOCATION, "/elsewhere")];
            (StatusCode::from_u16(status).unwrap(), elsewhere).into_response()
        }
        Mode::Hang => std::future::pending().await,
    }
}

/// The body of a delivery whose signature holds.
pub(crate) fn checked(request: &Request) -> Value {
    let head = |name: &str| request.headers[name].to_str().unwrap();
    let id = head("webhook-id");
    let signed = format!("{id}.{}.{}", head("webhook-timestamp"), request.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    assert_eq!(head("webhook-signature"), format!("v1,{tag}"));
    assert_eq!(head("content-type"), "application/json");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["id"], id);
    assert_eq!(body["tenant"], "acme");
    body
}

pub(crate) fn stage(lines: &str) -> Stage {
    let stage = Stage::with(lines, TENANT);
    fs::write(stage.folder().join("notify.secret"), format!("{SECRET}\n")).unwrap();
    stage
}

/// Opens and ends tasks, and gives their ids.
async fn tasks(stage: &Stage, from: u64, count: u64) -> Vec<String> {
    let shared = stage.shared();
    let mut ids = Vec::new();
    for run in from..from + count {
        let Outcome::Answered(client) = Client::grant(&shared, run).await else {
            panic!("a grant got lost");
        };
        assert!(matches!(client.end(&shared).await, Outcome::Answered(())));
        ids.push(client.task);
    }
    ids
}

const STARTS_AND_ENDS: &str = "on = [\"task.started\", \"task.ended\"]";

/// What is told of each task, once each, in the order in which it first came.
fn told(taken: &[Value]) -> Vec<(u64, String, String)> {
    let mut seen = BTreeSet::new();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    taken
        .iter()
        .filter(|body| seen.insert(text(&body["id"])))
        .map(|body| {
            (
                body["pos"].as_u64().unwrap(),
                text(&body["task"]),
                text(&body["kind"]),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_come_signed_in_order_and_at_least_once_over_a_kill() {
    let sink = Sink::open().await;
    let mut stage = stage(&sink.notify(STARTS_AND_ENDS));
    stage.filter = "trace";
    stage.start().await;
    let mut ids = tasks(&stage, 0, 15).await;
    sink.until_count(5).await;
    stage.kill();
    stage.start().await;
    ids.extend(tasks(&stage, 100, 5).await);
    let all = |all: &[Request]| {
        let bodies: Vec<_> = all.iter().map(checked).collect();
        (told(&bodies).len() == 40).then_some(())
    };
    sink.until(all).await;

    let taken = sink.taken();
    let once = told(&taken);
    assert!(once.is_sorted(), "{once:?}");
    let wanted: Vec<_> = ids
        .iter()
        .flat_map(|id| {
            [
                (id.clone(), "task.started".to_owned()),
                (id.clone(), "task.ended".to_owned()),
            ]
        })
        .collect();
    let got: Vec<_> = once
        .into_iter()
        .map(|(_, task, kind)| (task, kind))
        .collect();
    assert_eq!(got, wanted);
    // What comes again is the same, byte by byte.
    for body in &taken {
        let same = taken.iter().filter(|other| other["id"] == body["id"]);
        assert!(same.into_iter().all(|other| other == body));
    }
    let started = taken
        .iter()
        .find(|body| body["kind"] == "task.started")
        .unwrap();
    let mut members: Vec<_> = started["data"].as_object().unwrap().keys().collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "contact", "deadline", "issuer", "opened", "owner", "workload"
        ]
    );
    let ended = taken
        .iter()
        .find(|body| body["kind"] == "task.ended")
        .unwrap();
    assert_eq!(ended["data"]["cause"], "completed");
    // The repository's id is a claim.
    assert!(!format!("{taken:?}").contains("1296269"));

    // After a stop in order nothing comes again.
    assert!(stage.stop_by(Signal::SIGTERM).success());
    let before = sink.taken().len();
    stage.start().await;
    let more = tasks(&stage, 200, 1).await;
    sink.until_count(before + 2).await;
    let new: Vec<_> = told(&sink.taken()[before..])
        .into_iter()
        .map(|(_, task, _)| task)
        .collect();
    assert_eq!(new, [more[0].clone(), more[0].clone()]);

    stage.stop();
    let log = stage.log();
    assert!(!log.contains(SECRET) && !log.contains("let-me-in"));
    stage.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_fails_is_tried_again_and_leaves_the_server_ready() {
    let sink = Sink::open().await;
    sink.mode(Mode::Status(500));
    let admin = free_port();
    let lines = format!(
        "{}admin = \"127.0.0.1:{admin}\"\n",
        sink.notify(STARTS_AND_ENDS)
    );
    let mut stage = stage(&lines);
    stage.start().await;
    tasks(&stage, 0, 1).await;
    sink.until_count(1).await;
    sink.mode(Mode::Status(307));
    sink.until_count(3).await;
    let http = &stage.shared().http;
    let get = async |path: &str| {
        let url = format!("http://127.0.0.1:{admin}{path}");
        let answer = http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/readyz").await.0, 200);
    sink.mode(Mode::Take);
    sink.until(|all| (all.iter().filter(|request| request.taken).count() == 2).then_some(()))
        .await;
    while !stage.log().contains("takes again") {
        tokio::task::yield_now().await;
    }

    {
        let requests = sink.requests.lock().unwrap();
        let (tries, last) = requests.split_at(requests.len() - 2);
        assert!(tries.len() >= 3);
        assert!(
            tries
                .iter()
                .all(|request| request.path == "/let-me-in" && !request.taken)
        );
        assert!(
            tries
                .iter()
                .all(|request| checked(request) == checked(&last[0]))
        );
    }
    // It is counted when the answer has come, which is after the sink has it.
    let delivered = "sink=\"notify[0]\",outcome=\"delivered\"} 2\n";
    let metrics = loop {
        let (_, metrics) = get("/metrics").await;
        if metrics.contains(delivered) {
            break metrics;
        }
        tokio::task::yield_now().await;
    };
    let counted = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        let line = metrics.lines().find(|line| {
            line.starts_with("dayfly_sink_requests_total{")
                && line.contains("sink=\"notify[0]\"")
                && line.contains(&outcome)
        });
        let count = line.unwrap().rsplit(' ').next().unwrap();
        count.parse::<usize>().unwrap()
    };
    assert!(counted("failed") >= 3, "{metrics}");
    let log = stage.log();
    assert_eq!(
        log.matches("does not take what is sent to it").count(),
        1,
        "{log}"
    );
    assert!(!log.contains(SECRET) && !log.contains("let-me-in"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_never_answers_holds_up_neither_grants_nor_ends() {
    let sink = Sink::open().await;
    sink.mode(Mode::Hang);
    let heads = format!("heads = [\"http://127.0.0.1:{}/heads\"]\n", sink.port);
    let mut stage = stage(&format!("{heads}{}", sink.notify(STARTS_AND_ENDS)));
    stage.start().await;
    tasks(&stage, 0, 1).await;
    // Both sinks are in the middle of a request, which they are given ten seconds for.
    sink.until_count(2).await;
    tasks(&stage, 1, 10).await;
    assert_eq!(sink.requests.lock().unwrap().len(), 2);
    assert!(stage.stop_by(Signal::SIGTERM).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_beyond_the_bound_is_told_as_one_gap() {
    let sink = Sink::open().await;
    sink.mode(Mode::Status(503));
    let mut stage = stage(&sink.notify(&format!("{STARTS_AND_ENDS}, behind = 10")));
    stage.start().await;
    tasks(&stage, 0, 10).await;
    sink.until_count(1).await;
    sink.mode(Mode::Take);
    let last = tasks(&stage, 50, 1).await;
    let arrived = |all: &[Request]| {
        let last = last[0].as_str();
        let is_last = |body: Value| body["kind"] == "task.ended" && body["task"] == last;
        all.iter()
            .any(|request| request.taken && is_last(checked(request)))
            .then_some(())
    };
    sink.until(arrived).await;
    let taken = sink.taken();
    let gaps: Vec<_> = taken
        .iter()
        .filter(|body| body["kind"] == "notify.skipped")
        .collect();
    assert_eq!(gaps.len(), 1, "{taken:?}");
    let (from, to) = (
        gaps[0]["data"]["from"].as_u64().unwrap(),
        gaps[0]["data"]["to"].as_u64().unwrap(),
    );
    // Every entry of the kinds is told or within the gap.
    assert!(to - from > 10, "{taken:?}");
    let told: Vec<u64> = taken
        .iter()
        .filter(|body| body["kind"] != "notify.skipped")
        .map(|body| body["pos"].as_u64().unwrap())
        .collect();
    assert!(
        told.iter().all(|pos| !(from..to).contains(pos)),
        "{taken:?}"
    );
    assert!(told.is_sorted() && told.iter().any(|pos| *pos >= to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_posted_as_notes_that_hold() {
    let sink = Sink::open().await;
    sink.mode(Mode::Status(302));
    let mut stage = stage(&format!(
        "heads = [\"http://127.0.0.1:{}/heads?key=let-me-in\"]\n",
        sink.port
    ));
    stage.start().await;
    sink.until_count(2).await;
    sink.mode(Mode::Take);
    let note = sink
        .until(|all| {
            all.iter().find(|request| request.taken).map(|request| {
                assert_eq!(request.path, "/heads");
                assert!(
                    request.headers["content-type"]
                        .to_str()
                        .unwrap()
                        .starts_with("text/plain")
                );
                request.body.clone()
            })
        })
        .await;
    let origin = stage.shared().issuer.replace("http://", "");
    assert_eq!(note.lines().next(), Some(origin.as_str()));
    fs::write(stage.folder().join("head"), &note).unwrap();
    let (holds, said) = stage.operate(&["ledger", "verify", "head", "--config", "dayfly.toml"]);
    assert!(holds, "{said}");
    assert!(!stage.log().contains("let-me-in"));
}

#[tokio::test]
async fn a_secret_that_cannot_sign_is_found_before_a_start() {
    let sink = Sink::open().await;
    let mut stage = stage(&sink.notify(STARTS_AND_ENDS));
    for (text, why) in [
        ("short\n", "holds a secret of 5 bytes, wanted 24 to 64"),
        (
            "whsec_***\n",
            "begins with `whsec_` and does not go on in base64",
        ),
        ("", "is empty"),
    ] {
        fs::write(stage.folder().join("notify.secret"), text).unwrap();
        let (ok, said) = stage.operate(&["config", "check"]);
        assert!(!ok && said.contains(why), "{said}");
        stage.spawn();
        assert!(!stage.gone().success());
    }
}

/// What waits for people names where these sit: to whoever waits, and to whoever is told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_approval_says_where_it_is_answered() {
    let sink = Sink::open().await;
    let admin = free_port();
    let lines = format!(
        "{}admin = \"127.0.0.1:{admin}\"\nadmin_url = \"https://ops.example\"\n\
         [operators]\nissuer = \"https://idp.example\"\nclient_id = \"dayfly\"\n",
        sink.notify("on = [\"task.requested\"]")
    );
    let mut stage = stage(&lines);
    let file = stage.folder().join("tenants/acme/tenant.toml");
    let waits = format!("{TENANT}\napproval = {{ by = \"owner\", within = \"30m\" }}\n");
    fs::write(file, waits).unwrap();
    stage.start().await;
    let shared = stage.shared();
    let proof = platform_token_of(&shared, 7, "1296269");
    let [grant, assertion] = grant_form(&proof);
    let form = [grant, assertion, ("completion_mode", "deferred")];
    let (status, body) = post_token(&shared, &new_key(), &form).await.unwrap();
    assert_eq!(
        (status, &body["error"]),
        (400, &"authorization_pending".into())
    );
    assert_eq!(body["admin_url"], "https://ops.example");
    sink.until_count(1).await;
    let told = sink.taken().remove(0);
    assert_eq!(told["data"]["contact"], "platform@example.com");
    let task = body["task"].as_str().unwrap();
    let text = told["data"]["text"].as_str().unwrap();
    let approve = format!(
        "`dayfly task approve {task} --tenant acme --server https://ops.example --reason …`"
    );
    assert!(text.contains(&approve), "{text}");
    stage.stop();
    stage.fsck();
}

//! What a cluster may answer about a token, and what becomes of each answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request as Asked;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rcgen::generate_simple_self_signed;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::*;
use crate::declared::IssuerKind;
use crate::verify::tests::local::LocalIssuer;
use crate::verify::tests::{NOW, TENANT, at, claims, issuer, show, verifier, without};
use crate::verify::{KeyCache, VerifiedProof, Verifier};

/// An API server on this machine over TLS that vouches for everybody, and how many connections it has had.
struct Secured {
    url: String,
    ca_file: PathBuf,
    connections: Arc<AtomicUsize>,
}

/// Connections that are secured and counted.
struct Door {
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
    connections: Arc<AtomicUsize>,
}

impl axum::serve::Listener for Door {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.connections.fetch_add(1, SeqCst);
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Secured {
    async fn start(folder: &TempDir) -> Self {
        let certified = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        let key = certified.signing_key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let door = Door {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            connections: Arc::clone(&connections),
        };
        let body = vouched().to_string();
        let router = Router::new().fallback(move || async move { (StatusCode::CREATED, body) });
        tokio::spawn(async move { axum::serve(door, router).await });
        Self {
            url: format!("https://localhost:{port}"),
            ca_file,
            connections,
        }
    }
}

/// An API server on this machine, and what it was asked.
struct Cluster {
    url: String,
    state: Arc<State>,
}

struct State {
    answer: Mutex<(StatusCode, String)>,
    asked: Mutex<Vec<(Option<String>, String, Value)>>,
    open: AtomicUsize,
    gate: Semaphore,
}

/// What a cluster says that vouches for the pod of the test.
fn vouched() -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
        "spec": { "token": "repeated", "audiences": [TENANT] },
        "status": {
            "authenticated": true,
            "user": {
                "username": "system:serviceaccount:payments:settler", "uid": "14ee3fa4",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["settler-7d9"],
                    "authentication.kubernetes.io/pod-uid": ["5e0bd49b"],
                },
            },
            "audiences": [TENANT],
        },
    })
}

/// The same with one member replaced.
fn but(path: &str, value: Value) -> Value {
    let mut answer = vouched();
    *answer.pointer_mut(path).unwrap() = value;
    answer
}

impl Cluster {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            answer: Mutex::new((StatusCode::CREATED, vouched().to_string())),
            asked: Mutex::default(),
            open: AtomicUsize::default(),
            gate: Semaphore::new(1000),
        });
        let handler = {
            let state = Arc::clone(&state);
            move |asked: Asked| Arc::clone(&state).answer(asked)
        };
        let router = Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    fn answers(&self, status: StatusCode, body: impl ToString) {
        *self.state.answer.lock().unwrap() = (status, body.to_string());
    }

    fn asked(&self) -> Vec<(Option<String>, String, Value)> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl State {
    async fn answer(self: Arc<Self>, asked: Asked) -> Response {
        self.open.fetch_add(1, SeqCst);
        let shown = asked.headers().get(header::AUTHORIZATION);
        let shown = shown.map(|value| value.to_str().unwrap().to_owned());
        let path = format!("{} {}", asked.method(), asked.uri().path());
        let body = to_bytes(asked.into_body(), 65_536).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        self.asked.lock().unwrap().push((shown, path, body));
        let _open = self.gate.acquire().await;
        let (status, body) = self.answer.lock().unwrap().clone();
        if status.is_redirection() {
            return (status, [(header::LOCATION, body)]).into_response();
        }
        (status, body).into_response()
    }
}

/// An issuer whose cluster is asked there.
fn reviewed(local: &LocalIssuer, folder: &TempDir, url: &str, ca_file: Option<PathBuf>) -> Issuer {
    let token_file = folder.path().join("reviewer.token");
    if !token_file.exists() {
        std::fs::write(&token_file, "the server's own\n").unwrap();
    }
    let mut declared = issuer(IssuerKind::Kubernetes, &local.url);
    declared.review = Some(TokenReview {
        url: url.to_owned(),
        token_file,
        ca_file,
        every: Span::from_seconds(30),
    });
    declared
}

fn token(local: &LocalIssuer) -> String {
    local.token(&claims(IssuerKind::Kubernetes, &local.url))
}

async fn refused(verifier: &Verifier, token: &str) -> Refusal {
    show(verifier, token).await.unwrap_err()
}

#[tokio::test]
async fn a_proof_is_vouched_for_by_its_cluster_before_it_counts() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let declared = reviewed(&local, &folder, &format!("{}/", cluster.url), None);
    let cache = KeyCache::new();
    let verifier = crate::verify::tests::verifier_with(&declared, &cache);
    let token = token(&local);
    let verified: VerifiedProof = show(&verifier, &token).await.unwrap();
    let pod = verified.pod().unwrap();
    assert_eq!((pod.pod(), pod.made()), ("settler-7d9", at(NOW)));
    assert_eq!(format!("{pod:?}"), "PodToken(settler-7d9, redacted)");
    // It is asked by our own token, which is read anew, and for the one audience.
    std::fs::write(folder.path().join("reviewer.token"), "renewed").unwrap();
    assert!(show(&verifier, &token).await.is_ok());
    let question = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": token, "audiences": [TENANT] },
    });
    let path = "POST /apis/authentication.k8s.io/v1/tokenreviews";
    let asked = |own: &str| {
        (
            Some(format!("Bearer {own}")),
            path.to_owned(),
            question.clone(),
        )
    };
    assert_eq!(
        cluster.asked(),
        [asked("the server's own"), asked("renewed")]
    );
    let status = &cache.reviews()[0];
    assert_eq!((status.stands, status.fell, status.unanswered), (2, 0, 0));
    // A plain 200 does as well, and nobody is asked about what is refused without it.
    cluster.answers(StatusCode::OK, vouched());
    assert!(show(&verifier, &token).await.is_ok());
    let mut legacy = claims(IssuerKind::Kubernetes, &local.url);
    legacy["kubernetes.io"]
        .as_object_mut()
        .unwrap()
        .remove("pod");
    for bad in [
        format!("{token}x"),
        local.token(&legacy),
        local.token(&without(claims(IssuerKind::Kubernetes, &local.url), "exp")),
    ] {
        assert_ne!(refused(&verifier, &bad).await.rule, Rule::TokenReview);
    }
    assert_eq!(cluster.asked().len(), 3);
    // Where nobody is asked, nothing is kept.
    let unasked = self::verifier(&issuer(IssuerKind::Kubernetes, &local.url));
    assert!(show(&unasked, &token).await.unwrap().pod().is_none());
}

#[tokio::test]
async fn a_token_of_a_deleted_pod_is_refused() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let verifier = verifier(&reviewed(&local, &folder, &cluster.url, None));
    let gone = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "status": { "user": {}, "error": "[invalid bearer token, service account token has been invalidated]" },
    });
    cluster.answers(StatusCode::CREATED, gone);
    let refusal = refused(&verifier, &token(&local)).await;
    assert_eq!(
        (
            refusal.rule,
            &*refusal.field,
            &*refusal.wanted,
            &*refusal.got
        ),
        (Rule::TokenReview, "status.authenticated", "true", "false")
    );
    assert!(
        refusal.hint.contains("has been invalidated"),
        "{}",
        refusal.hint
    );
}

/// The words of Kubernetes for what is gone, and words like them that say nothing of this pod.
#[tokio::test]
async fn the_words_for_what_is_gone_are_about_this_pod_and_its_account() {
    let local = LocalIssuer::start().await;
    let pod = a_pod(&local).await;
    let mut answer = but("/status/authenticated", json!(false));
    let mut rule = |error: &str| {
        answer["status"]["error"] = json!(format!("[invalid bearer token, {error}]"));
        wire::judge(answer.to_string().as_bytes(), &pod)
            .unwrap_err()
            .rule
    };
    for gone in [
        "service account token has been invalidated",
        "service account payments/settler has been deleted",
        "service account UID (77) does not match claim (14ee3fa4)",
        "pod UID (77) does not match service account pod ref claim (5e0bd49b)",
        "serviceaccounts \"settler\" not found",
        // Older words.
        "Token has been invalidated",
        "ServiceAccount payments/settler has been deleted",
        "ServiceAccount UID (77) does not match claim (14ee3fa4)",
        "Pod UID (77) does not match claim (5e0bd49b)",
    ] {
        assert_eq!(rule(gone), Rule::TokenReview, "{gone}");
    }
    for unsaid in [
        "service account token has expired",
        "service account token is not valid yet",
        "service account token claims could not be validated due to unexpected validation error",
        "invalid signature, no keys found",
        "token audiences [\"a\"] is invalid for the target audiences [\"b\"]",
        "node UID (77) does not match service account node ref claim (646e7c5e)",
        // Another authenticator's, about something else.
        "the session has been deleted",
        "service account payments/other has been deleted",
        "service account othpayments/settler has been deleted",
        "service account UID (77) does not match claim (88)",
        "pod UID (5e0bd49b) does not match service account pod ref claim (77)",
        "serviceaccounts \"other\" not found",
        "the key was not found",
        "etcdserver: request timed out",
    ] {
        assert_eq!(rule(unsaid), Rule::TokenReviewUnavailable, "{unsaid}");
    }
}

/// Answers that vouch for something else, each with what is wrong about it.
fn other_answers() -> Vec<(Value, &'static str, &'static str)> {
    let extra = "/status/user/extra";
    let pod = "authentication.kubernetes.io/pod-uid";
    vec![
        (
            but("/status/audiences", json!(["https://other.example"])),
            "status.audiences",
            "https://other.example",
        ),
        (
            but("/status/audiences", json!([])),
            "status.audiences",
            "none",
        ),
        (
            but(
                "/status/user/username",
                json!("system:serviceaccount:payments:admin"),
            ),
            "status.user.username",
            "system:serviceaccount:payments:admin",
        ),
        (
            but("/status/user/uid", json!("other")),
            "status.user.uid",
            "other",
        ),
        (
            but("/status/user/uid", json!("")),
            "status.user.uid",
            "nothing",
        ),
        (
            but(extra, json!({ pod: ["other"] })),
            "status.user.extra.pod-uid",
            "other",
        ),
        (
            but(extra, json!({ pod: ["5e0bd49b", "other"] })),
            "status.user.extra.pod-uid",
            "nothing",
        ),
        (
            but(extra, json!({ pod: [] })),
            "status.user.extra.pod-uid",
            "nothing",
        ),
        (
            but(extra, json!({})),
            "status.user.extra.pod-uid",
            "nothing",
        ),
        (
            but("/status/user", json!({})),
            "status.user.username",
            "nothing",
        ),
    ]
}

#[tokio::test]
async fn what_a_cluster_vouches_for_must_be_what_the_token_says() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let verifier = verifier(&reviewed(&local, &folder, &cluster.url, None));
    let token = token(&local);
    for (answer, field, got) in other_answers() {
        cluster.answers(StatusCode::CREATED, &answer);
        let refusal = refused(&verifier, &token).await;
        assert_eq!(refusal.rule, Rule::TokenReview, "{answer}");
        assert_eq!(
            (&*refusal.field, refusal.got.contains(got)),
            (field, true),
            "{answer}"
        );
    }
}

/// Answers that say nothing about a token, each with what the operator is told.
fn no_answers(elsewhere: &str) -> Vec<(StatusCode, String, &'static str)> {
    let twice = vouched().to_string().replace(
        "\"authenticated\":true",
        "\"authenticated\":false,\"authenticated\":true",
    );
    // It answers 201 also where it could not check.
    let mut not = but("/status/authenticated", json!(false));
    let unsaid = not.to_string();
    not["status"]["error"] = json!("etcdserver: request timed out");
    let unchecked = not.to_string();
    let fat = but("/metadata", json!({ "x": "x".repeat(300 * 1024) })).to_string();
    [
        (StatusCode::INTERNAL_SERVER_ERROR, "{}", "status 500"),
        (StatusCode::UNAUTHORIZED, "{}", "status 401"),
        (StatusCode::FORBIDDEN, "{}", "status 403"),
        (StatusCode::NOT_FOUND, "{}", "status 404"),
        (StatusCode::ACCEPTED, "{}", "status 202"),
        (StatusCode::FOUND, elsewhere, "redirects are not followed"),
        (
            StatusCode::TEMPORARY_REDIRECT,
            elsewhere,
            "redirects are not followed",
        ),
        (StatusCode::CREATED, "", "is no TokenReview"),
        (StatusCode::CREATED, "<html>", "is no TokenReview"),
        (StatusCode::CREATED, "{}", "is no TokenReview"),
        (StatusCode::CREATED, &twice, "is no TokenReview"),
        (
            StatusCode::CREATED,
            &but("/status", json!("yes")).to_string(),
            "is no TokenReview",
        ),
        (
            StatusCode::CREATED,
            &but("/status/authenticated", json!("true")).to_string(),
            "is no TokenReview",
        ),
        (
            StatusCode::CREATED,
            &but("/kind", json!("SubjectAccessReview")).to_string(),
            "is no TokenReview of",
        ),
        (
            StatusCode::CREATED,
            &but("/apiVersion", json!("authentication.k8s.io/v2")).to_string(),
            "is no TokenReview of",
        ),
        (StatusCode::CREATED, &fat, "has more than 262144 bytes"),
        (StatusCode::CREATED, &unsaid, "the cluster says no more"),
        (StatusCode::CREATED, &unchecked, "the cluster says: etcd"),
    ]
    .map(|(status, body, hint)| (status, body.to_owned(), hint))
    .into()
}

#[tokio::test]
async fn a_cluster_that_gives_no_answer_refuses_for_now() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let cache = KeyCache::new();
    let declared = reviewed(&local, &folder, &cluster.url, None);
    let verifier = crate::verify::tests::verifier_with(&declared, &cache);
    let token = token(&local);
    let elsewhere = format!("{}/elsewhere", cluster.url);
    for (status, body, hint) in no_answers(&elsewhere) {
        cluster.answers(status, body);
        let refusal = refused(&verifier, &token).await;
        assert_eq!(refusal.rule, Rule::TokenReviewUnavailable, "{hint}");
        assert!(refusal.hint.contains(hint), "{hint}: {}", refusal.hint);
        // Why is for the operator alone.
        assert_eq!(&*refusal.got, "none");
        let failure = cache.reviews()[0].failure.clone().unwrap();
        assert!(failure.contains(hint), "{failure}");
    }
    // It contradicts itself.
    let mut both = vouched();
    both["status"]["error"] = json!("who knows");
    cluster.answers(StatusCode::CREATED, both);
    assert_eq!(
        refused(&verifier, &token).await.rule,
        Rule::TokenReviewUnavailable
    );
    // Nobody was sent elsewhere, with our own token or without.
    assert!(
        cluster
            .asked()
            .iter()
            .all(|(_, path, _)| path.ends_with("/tokenreviews"))
    );
    cluster.answers(StatusCode::CREATED, vouched());
    assert!(show(&verifier, &token).await.is_ok());
    assert_eq!(cache.reviews()[0].failure, None);
    // Nor without a token of our own.
    std::fs::write(folder.path().join("reviewer.token"), "\n").unwrap();
    let refusal = refused(&verifier, &token).await;
    assert!(
        refusal.hint.contains("holds no bearer token"),
        "{}",
        refusal.hint
    );
}

#[tokio::test]
async fn clusters_at_private_addresses_are_asked_where_that_is_allowed() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let port = cluster.url.rsplit(':').next().unwrap().to_owned();
    for (url, hint) in [
        (
            format!("https://127.0.0.1:{port}"),
            "which is no public address",
        ),
        (
            format!("https://localhost:{port}"),
            "which is no public address",
        ),
        ("https://10.0.0.1".to_owned(), "which is no public address"),
        (cluster.url.clone(), "is http"),
    ] {
        let declared = reviewed(&local, &folder, &url, None);
        let asks = declared.review.unwrap();
        let pod = a_pod(&local).await;
        let refusal = Reviewer::new(asks, false).ask(&pod, at(NOW)).await;
        let refusal = refusal.unwrap_err();
        assert!(refusal.hint.contains(hint), "{url}: {}", refusal.hint);
    }
    assert!(cluster.asked().is_empty());
}

/// A token that a cluster vouched for.
async fn a_pod(local: &LocalIssuer) -> Arc<PodToken> {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().unwrap());
    let verifier = verifier(&reviewed(local, &folder, &cluster.url, None));
    let verified = show(&verifier, &token(local)).await.unwrap();
    Arc::clone(verified.pod().unwrap())
}

#[tokio::test]
async fn a_slow_cluster_is_waited_for_a_while_and_asked_a_few_things_at_a_time() {
    let (local, cluster) = (LocalIssuer::start().await, Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let asks = reviewed(&local, &folder, &cluster.url, None)
        .review
        .unwrap();
    let pod = a_pod(&local).await;
    cluster.state.gate.forget_permits(1000);
    let mut hasty = Reviewer::new(asks.clone(), true);
    hasty.patience = Duration::from_millis(50);
    let refusal = hasty.ask(&pod, at(NOW)).await.unwrap_err();
    assert_eq!(refusal.rule, Rule::TokenReviewUnavailable);
    assert!(!is_placeless(&refusal));
    assert!(
        refusal.hint.contains("no answer within"),
        "{}",
        refusal.hint
    );
    // Who found no place has not asked: nothing is said of the cluster by it.
    let held = hasty.places.try_acquire_many(AT_ONCE as u32).unwrap();
    let told = hasty.told().clone();
    let refusal = hasty.ask(&pod, at(NOW)).await.unwrap_err();
    assert!(is_placeless(&refusal), "{refusal:?}");
    assert_eq!(refusal.rule, Rule::TokenReviewUnavailable);
    assert_eq!(*hasty.told(), told);
    drop(held);
    let before = cluster.state.open.load(SeqCst);
    let reviewer = Arc::new(Reviewer::new(asks, true));
    let questions: Vec<_> = (0..3 * AT_ONCE)
        .map(|_| {
            let (reviewer, pod) = (Arc::clone(&reviewer), Arc::clone(&pod));
            tokio::spawn(async move { reviewer.ask(&pod, at(NOW)).await })
        })
        .collect();
    while cluster.state.open.load(SeqCst) < before + AT_ONCE {
        tokio::task::yield_now().await;
    }
    assert_eq!(reviewer.places.available_permits(), 0);
    // Whoever shows proof after proof takes no place from what is open.
    let again = reviewer.places_again.available_permits();
    assert_eq!(again, AGAIN_AT_ONCE);
    assert_eq!(cluster.state.open.load(SeqCst), before + AT_ONCE);
    cluster.state.gate.add_permits(1000);
    for question in questions {
        assert_eq!(question.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn what_a_cluster_says_is_told_without_the_token() {
    let local = LocalIssuer::start().await;
    let pod = a_pod(&local).await;
    let text = str::from_utf8(pod.text.expose()).unwrap().to_owned();
    let mut gone = but("/status/authenticated", json!(false));
    for (error, told) in [
        (format!("cannot parse {text}"), "says no more"),
        (
            format!("cannot parse {}", text.split('.').nth(1).unwrap()),
            "says no more",
        ),
        ("pod\nis gone".to_owned(), "the cluster says: podis gone"),
        ("x".repeat(10_000), "the cluster says: xxx"),
    ] {
        gone["status"]["error"] = json!(error);
        let refusal = wire::judge(gone.to_string().as_bytes(), &pod).unwrap_err();
        assert!(
            refusal.hint.contains(told) && refusal.hint.len() < 300,
            "{}",
            refusal.hint
        );
    }
    // What does not parse is told by its place alone.
    let broken = json!({ "apiVersion": 7, "spec": { "token": text } }).to_string();
    let refusal = wire::judge(broken.as_bytes(), &pod).unwrap_err();
    assert_eq!(
        &*refusal.hint,
        "the answer is no TokenReview: line 1, column 15"
    );
}

#[tokio::test]
async fn a_cluster_is_asked_over_https_by_the_declared_roots() {
    let local = LocalIssuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let certified = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certified.cert.pem()).unwrap();
    let key = certified.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let body = vouched().to_string();
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_question(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _closed = stream.shutdown().await;
            }
        }
    });
    let token = token(&local);
    let trusting = verifier(&reviewed(&local, &folder, &url, Some(ca_file)));
    assert!(show(&trusting, &token).await.is_ok());
    let other = verifier(&reviewed(&local, &folder, &url, None));
    let refusal = refused(&other, &token).await;
    assert!(refusal.hint.contains("certificate"), "{}", refusal.hint);
}

/// What `docs/performance.md` says of questions a second is this test's duration, and that of one with
/// other numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_questions_share_a_few_connections() {
    const QUESTIONS: usize = 400;
    let (local, folder) = (LocalIssuer::start().await, tempfile::tempdir().unwrap());
    let secured = Secured::start(&folder).await;
    let declared = reviewed(&local, &folder, &secured.url, Some(secured.ca_file.clone()));
    let reviewer = Arc::new(Reviewer::new(declared.review.unwrap(), true));
    let pod = a_pod(&local).await;
    let askers = (0..AGAIN_AT_ONCE).map(|_| {
        let (reviewer, pod) = (Arc::clone(&reviewer), Arc::clone(&pod));
        tokio::spawn(async move {
            for _ in 0..QUESTIONS / AGAIN_AT_ONCE {
                assert_eq!(reviewer.ask_again(&pod, at(NOW)).await, Ok(()));
            }
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
    let connections = secured.connections.load(SeqCst);
    assert!(connections <= AGAIN_AT_ONCE, "{connections} connections");
    assert_eq!(reviewer.told().stands, QUESTIONS as u64);
}

/// A connection is given up with its minute, with other roots, and where a server closed it.
#[tokio::test]
async fn a_connection_is_kept_for_a_minute_by_the_same_roots() {
    let (local, folder) = (LocalIssuer::start().await, tempfile::tempdir().unwrap());
    let secured = Secured::start(&folder).await;
    let declared = reviewed(&local, &folder, &secured.url, Some(secured.ca_file.clone()));
    let reviewer = Reviewer::new(declared.review.unwrap(), true);
    let pod = a_pod(&local).await;
    let ask = async |seconds: u64| {
        let now = at(NOW + seconds);
        let asked = reviewer.ask(&pod, now).await;
        (asked.is_ok(), secured.connections.load(SeqCst))
    };
    assert_eq!(ask(0).await, (true, 1));
    assert_eq!(ask(59).await, (true, 1));
    assert_eq!(ask(60).await, (true, 2));
    // The clock was set back.
    assert_eq!(ask(0).await, (true, 3));
    // Roots that lead elsewhere count at once.
    let honest = std::fs::read_to_string(&secured.ca_file).unwrap();
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&secured.ca_file, other.cert.pem()).unwrap();
    assert_eq!(ask(1).await, (false, 3));
    std::fs::write(&secured.ca_file, honest).unwrap();
    assert_eq!(ask(2).await, (true, 4));
}

/// A server that closes each connection after it has let one question in, and answers the next on
/// another one.
#[tokio::test]
async fn a_question_on_a_connection_that_closes_is_asked_once_more() {
    let (local, folder) = (LocalIssuer::start().await, tempfile::tempdir().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let body = vouched().to_string();
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                read_question(&mut stream).await;
                counted.fetch_add(1, SeqCst);
                stream.write_all(answer.as_bytes()).await.unwrap();
                // It takes one more, and hangs up.
                read_question(&mut stream).await;
                counted.fetch_add(1, SeqCst);
            });
        }
    });
    let declared = reviewed(&local, &folder, &url, None);
    let reviewer = Reviewer::new(declared.review.unwrap(), true);
    let pod = a_pod(&local).await;
    for wanted in [1, 3, 5] {
        assert_eq!(reviewer.ask(&pod, at(NOW)).await, Ok(()));
        assert_eq!(asked.load(SeqCst), wanted);
    }
    assert_eq!(reviewer.told().unanswered, 0);
}

/// Reads a question, which ends with its one closing of spec and itself.
async fn read_question(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut question = Vec::new();
    while !question.ends_with(b"}}") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        question.extend_from_slice(&part[..read]);
        if read == 0 {
            return;
        }
    }
}

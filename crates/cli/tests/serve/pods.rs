//! The binary as a server that asks a cluster about its pods: a deleted one ends while the server runs, and nobody reads its token.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{
    Client, Outcome, grant_form, new_key, platform_claims, post_token, signed, unique,
};
use crate::stage::{Shared, Stage, TENANT};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A pod, as its API server knows it.
#[derive(Default)]
struct Pod {
    is_deleted: bool,
    /// How often the server was told so.
    told: u32,
}

/// An API server that vouches for the pod until it is deleted; its URL.
async fn cluster(pod: &Arc<watch::Sender<Pod>>) -> String {
    let pod = Arc::clone(pod);
    let review = move |headers: HeaderMap, body: Bytes| async move {
        if headers["authorization"] != "Bearer the token of the reviewer" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let mut is_deleted = false;
        pod.send_modify(|pod| {
            is_deleted = pod.is_deleted;
            pod.told += u32::from(is_deleted);
        });
        answer(&body, is_deleted)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route(REVIEWS, post(review));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn answer(body: &[u8], deleted: bool) -> Response {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    review["status"] = if deleted {
        json!({ "user": {}, "error": "[invalid bearer token, service account token has been invalidated]" })
    } else {
        json!({
            "authenticated": true, "audiences": review["spec"]["audiences"],
            "user": {
                "username": "system:serviceaccount:payments:settler", "uid": "14ee3fa4",
                "extra": { "authentication.kubernetes.io/pod-uid": ["5e0bd49b"] },
            },
        })
    };
    (StatusCode::CREATED, review.to_string()).into_response()
}

fn declared(url: &str, every: &str) -> String {
    format!(
        r#"{TENANT}
[issuer.cluster]
kind   = "kubernetes"
url    = "https://cluster.example"
jwks   = {{ file = "jwks.json" }}
review = {{ url = "{url}", token_file = "reviewer.token", every = "{every}" }}
allow_private = true

[workload.settler]
owner   = "team-platform"
kind    = "batch"
purpose = "settle payments"
match   = {{ issuer = "cluster", serviceaccount_uid = "14ee3fa4" }}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]
"#
    )
}

fn pod_token(shared: &Shared) -> String {
    let mut claims = platform_claims(shared, 7, "1");
    for (name, value) in [
        ("iss", json!("https://cluster.example")),
        ("sub", json!("system:serviceaccount:payments:settler")),
        ("jti", json!(unique())),
        ("exp", json!(claims["iat"].as_u64().unwrap() + 3600)),
        (
            "kubernetes.io",
            json!({
                "namespace": "payments", "pod": { "name": "settler-7d9", "uid": "5e0bd49b" },
                "serviceaccount": { "name": "settler", "uid": "14ee3fa4" },
            }),
        ),
    ] {
        claims[name] = value;
    }
    signed(shared, &claims)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_ends_while_the_server_runs_and_its_token_is_nowhere() {
    let pod = Arc::new(watch::Sender::new(Pod::default()));
    let url = cluster(&pod).await;
    let mut stage = Stage::with("", &declared(&url, "1s"));
    let reviewer = stage.folder().join("tenants/acme/reviewer.token");
    fs::write(&reviewer, "the token of the reviewer\n").unwrap();
    fs::set_permissions(&reviewer, fs::Permissions::from_mode(0o600)).unwrap();
    // What is wrong is named with its place.
    let (done, said) = stage.operate(&["config", "check"]);
    let wrong = "`issuer.cluster.review.every` is 1s, wanted 5s to 4m";
    assert!(!done && said.contains(wrong), "{said}");
    let tenant = stage.folder().join("tenants/acme/tenant.toml");
    fs::write(tenant, declared(&url, "5s")).unwrap();
    let (done, said) = stage.operate(&["config", "check"]);
    assert!(done, "{said}");
    stage.filter = "trace";
    stage.start().await;
    let shared = stage.shared();
    let proof = pod_token(&shared);
    let Outcome::Answered(job) = Client::grant_by(&shared, proof.clone()).await else {
        panic!("no answer");
    };
    assert!(job.introspect(&shared).await);
    pod.send_modify(|pod| pod.is_deleted = true);
    // It is asked about within five seconds and once more five seconds later, with nothing that anybody
    // does, and the second answer ends the task.
    let mut looks = pod.subscribe();
    looks.wait_for(|pod| pod.told == 2).await.unwrap();
    let says = "upstream: cluster: TokenReview of pod settler-7d9: status.authenticated is false";
    stage.traced(&job.task, says);
    assert!(!job.introspect(&shared).await);
    let again = post_token(&shared, &new_key(), &grant_form(&proof)).await;
    let (status, body) = again.unwrap();
    assert_eq!(
        (status, &body["refused"]["rule"]),
        (400, &json!("already_ended"))
    );
    let (_, why) = stage.operate(&[
        "why",
        body["refusal"].as_str().unwrap(),
        "--config",
        "dayfly.toml",
    ]);
    assert!(why.contains("settler") && why.contains("5e0bd49b"), "{why}");
    stage.stop();
    stage.fsck();
    let secret = proof.rsplit('.').next().unwrap();
    assert!(!stage.log().contains(secret), "a token stands in the log");
    let mut read = Vec::new();
    for file in fs::read_dir(stage.folder().join("data")).unwrap() {
        let file = file.unwrap();
        if !file.file_type().unwrap().is_file() {
            continue;
        }
        let bytes = fs::read(file.path()).unwrap();
        let found = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "a token stands in {:?}", file.file_name());
        read.push(file.file_name());
    }
    for name in ["dayfly.db", "containment.journal"] {
        assert!(
            read.iter().any(|file| file == name),
            "{name} is not among {read:?}"
        );
    }
}

//! Every key of `[bounds]`, lowered in a real server's configuration, is enforced and says so.

use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use crate::client::{grant_form, new_key, platform_claims, platform_token_of, post_token, signed};
use crate::stage::{Shared, Stage};

const BOUNDS: &str = r#"
[bounds]
window_max       = "10m"
proof_age        = "1m"
clients          = 2
live_credentials = 2
details          = 2
request_bytes    = 6000
token_bytes      = 2000
leaf_bytes       = 1600
"#;

const TENANT: &str = r#"
[issuer.github]
jwks = { file = "jwks.json" }

[owner.team]
name    = "Team"
contact = "team@example.com"
members = ["group:team"]

[resource.artifacts]
url = "https://artifacts.example"
secret_file = "artifacts.secret"

[resource.queue]
url = "https://queue.example"
secret_file = "queue.secret"

[workload.release]
owner   = "team"
kind    = "ci"
purpose = "publish"
match   = { issuer = "github", repository_id = "1296269" }
task    = "run"
repeat  = "join"
window  = "10m"
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "octo/*" },
]
"#;

/// A detail of this length at a resource.
fn detail(resource: &str, length: usize) -> Value {
    let kind = if resource == "queue" {
        "message"
    } else {
        "artifact"
    };
    json!({
        "type": kind, "locations": [format!("https://{resource}.example")],
        "actions": ["read"], "identifier": format!("octo/{}", "a".repeat(length)),
    })
}

/// Asks by a platform's token for details, for a token at the artifacts.
async fn ask(stage: &Shared, key: &SigningKey, proof: &str, details: &[Value]) -> (u16, Value) {
    let details = Value::from(details.to_vec()).to_string();
    let mut form = grant_form(proof).to_vec();
    form.push(("resource", "https://artifacts.example"));
    form.push(("authorization_details", &details));
    post_token(stage, key, &form).await.unwrap()
}

fn rule(answer: &(u16, Value)) -> (u16, &str) {
    let (status, body) = answer;
    (*status, body["refused"]["rule"].as_str().unwrap_or("none"))
}

/// What the operator is told would have passed.
fn wanted(stage: &Stage, answer: &(u16, Value)) -> String {
    let refusal = answer.1["refusal"].as_str().unwrap();
    let (ok, said) = stage.operate(&["why", refusal, "--config", "dayfly.toml"]);
    assert!(ok, "{said}");
    said
}

#[test]
fn a_window_beyond_the_bound_does_not_load() {
    let longer = TENANT.replace("window  = \"10m\"", "window  = \"11m\"");
    let mut stage = Stage::with(BOUNDS, &longer);
    stage.spawn();
    assert!(!stage.gone().success());
    let log = stage.log();
    assert!(log.contains("window") && log.contains("10m"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bound_of_a_server_is_enforced() {
    let mut stage = Stage::with(BOUNDS, TENANT);
    stage.start().await;
    let shared = stage.shared();
    let key = new_key();

    let mut old = platform_claims(&shared, 1, "1296269");
    let made = old["iat"].as_u64().unwrap() - 125;
    old["iat"] = made.into();
    let old = signed(&shared, &old);
    let answer = post_token(&shared, &key, &grant_form(&old)).await.unwrap();
    assert_eq!(rule(&answer), (400, "proof_age"));

    let proof = platform_token_of(&shared, 1, "1296269");
    let long = "x".repeat(6000);
    let mut form = grant_form(&proof).to_vec();
    form.push(("scope", &long));
    let answer = post_token(&shared, &key, &form).await.unwrap();
    assert_eq!(rule(&answer), (413, "body_size"));
    let three = ["a", "b", "c"].map(|_| detail("artifacts", 1));
    let answer = ask(&shared, &key, &proof, &three).await;
    assert_eq!(rule(&answer), (400, "details_limit"));

    // The token holds one of them, the client's entry both.
    let entry = [detail("artifacts", 600), detail("queue", 600)];
    let answer = ask(&shared, &key, &proof, &entry).await;
    assert_eq!(rule(&answer), (400, "too_large"));
    assert!(wanted(&stage, &answer).contains("at most 1600 bytes"));
    let token = [detail("artifacts", 900)];
    let answer = ask(&shared, &key, &proof, &token).await;
    assert_eq!(rule(&answer), (400, "too_large"));
    assert!(wanted(&stage, &answer).contains("at most 2000 bytes"));
    // Nothing of what did not fit was decided: the very proof opens its task with less.
    let fits = [detail("artifacts", 250), detail("queue", 250)];
    let answer = ask(&shared, &key, &proof, &fits).await;
    assert_eq!(rule(&answer), (200, "none"), "{}", answer.1);
    let task = answer.1["task"].as_str().unwrap().to_owned();

    let job = async |number: u64| {
        let mut claims = platform_claims(&shared, 1, "1296269");
        claims["check_run_id"] = number.to_string().into();
        let proof = signed(&shared, &claims);
        let mut form = grant_form(&proof).to_vec();
        form.push(("resource", "https://artifacts.example"));
        let key = new_key();
        let answer = post_token(&shared, &key, &form).await.unwrap();
        (key, proof, answer)
    };
    let (second, proof, answer) = job(2).await;
    assert_eq!(rule(&answer), (200, "none"), "{}", answer.1);
    assert_eq!(answer.1["task"].as_str(), Some(task.as_str()));
    let (_, _, answer) = job(3).await;
    assert_eq!(rule(&answer), (400, "clients_limit"));

    // The same request again is answered by another credential, and that is as many as there may be.
    let mut form = grant_form(&proof).to_vec();
    form.push(("resource", "https://artifacts.example"));
    let answer = post_token(&shared, &second, &form).await.unwrap();
    assert_eq!(rule(&answer), (200, "none"), "{}", answer.1);
    let answer = post_token(&shared, &second, &form).await.unwrap();
    assert_eq!(rule(&answer), (400, "credentials_limit"));
}

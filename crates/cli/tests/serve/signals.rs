//! The binary as a receiver of Shared Signals: what a person started ends by the provider's word, over a kill, and an account that is gone stays out until an operator lets it in.

use std::fs;

use serde_json::{Value, json};

use crate::client::{Client, Outcome, grant_form, new_key, now, post_token, signed, unique};
use crate::stage::{Shared, Stage, TENANT};

pub(crate) const SECRET: &str = "a-secret-of-the-events";
const IDP: &str = "https://idp.example";
pub(crate) const SESSION: &str =
    "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type";

pub(crate) fn declared() -> String {
    format!(
        r#"{TENANT}
[issuer.staff]
kind = "oidc"
url = "{IDP}"
jwks = {{ file = "jwks.json" }}
audience = "dayfly-tasks"
people = true

[workload.repair]
owner   = "team-platform"
kind    = "operator"
purpose = "repair by hand"
match   = {{ issuer = "staff", email_verified = true }}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]

[signals.idp]
issuer = "{IDP}"
jwks = {{ file = "jwks.json" }}
people = "staff"
push = {{ secret_file = "events.secret" }}
"#
    )
}

pub(crate) fn login(sub: &str, ago: u64) -> Value {
    let now = now();
    json!({
        "iss": IDP, "aud": "dayfly-tasks", "sub": sub, "email_verified": true, "jti": unique(),
        "auth_time": now - ago, "iat": now, "exp": now + 300,
    })
}

fn event(shared: &Shared, kind: &str) -> String {
    event_of(shared, kind, "mona", json!({}))
}

/// An event about somebody, with other claims.
pub(crate) fn event_of(shared: &Shared, kind: &str, sub: &str, other: Value) -> String {
    let now = now();
    let mut claims = json!({
        "iss": IDP, "aud": shared.issuer, "jti": unique(), "iat": now - 10,
        "sub_id": {"format": "iss_sub", "iss": IDP, "sub": sub},
        "events": {kind: {"event_timestamp": now - 10}},
    });
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = serde_json::Map::new();
    header.insert("typ".into(), "secevent+jwt".into());
    header.insert("kid".into(), "k1".into());
    let signed = shared
        .platform
        .encode_jws(header, claims.to_string().as_bytes());
    signed.unwrap()
}

pub(crate) async fn push(shared: &Shared, bearer: &str, set: &str) -> (u16, String) {
    let request = shared
        .http
        .post(format!("{}/signals/idp", shared.issuer))
        .header("content-type", "application/secevent+jwt")
        .header("authorization", format!("Bearer {bearer}"))
        .body(set.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn rule(shared: &Shared, claims: &Value) -> String {
    let answer = post_token(shared, &new_key(), &grant_form(&signed(shared, claims))).await;
    let (_, body) = answer.unwrap();
    let rule = body["refused"]["rule"].as_str();
    rule.unwrap_or("granted").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_started_ends_by_their_providers_word() {
    let mut stage = Stage::with("", &declared());
    let secret = SECRET;
    fs::write(
        stage.folder().join("tenants/acme/events.secret"),
        format!("{secret}\n"),
    )
    .unwrap();
    stage.start().await;
    let shared = stage.shared();
    let proof = signed(&shared, &login("mona", 60));
    let Outcome::Answered(task) = Client::grant_by(&shared, proof).await else {
        panic!("no answer");
    };
    assert!(task.introspect(&shared).await);
    let session = event(&shared, SESSION);
    let (status, said) = push(&shared, "another-secret-of-events", &session).await;
    assert_eq!(status, 400, "{said}");
    assert!(task.introspect(&shared).await);
    let (status, said) = push(&shared, secret, &session).await;
    assert_eq!((status, said.as_str()), (202, ""));
    assert!(!task.introspect(&shared).await);
    stage.kill();
    stage.start().await;
    assert!(!task.introspect(&shared).await);
    assert_eq!(rule(&shared, &login("mona", 59)).await, "rights_removed");
    stage.traced(&task.task, "upstream: signals.idp: session-revoked");

    // An account that is gone.
    let gone = event(&shared, &format!("{RISC}/account-disabled"));
    assert_eq!(push(&shared, secret, &gone).await.0, 202);
    assert_eq!(
        push(&shared, "another-secret-of-events", &gone).await.0,
        400
    );
    assert_eq!(rule(&shared, &login("mona", 3)).await, "blocked");
    let (done, blocks) = stage.operate(&["block", "list", "--config", "dayfly.toml"]);
    let block = blocks
        .split_whitespace()
        .find(|word| word.starts_with("barred:"));
    assert!(done, "{blocks}");
    let block = block.unwrap_or_else(|| panic!("{blocks}")).to_owned();
    let lift = [
        "unblock",
        &block,
        "--reason",
        "back",
        "--config",
        "dayfly.toml",
    ];
    let (done, said) = stage.operate(&lift);
    assert!(done, "{said}");
    assert_eq!(push(&shared, secret, &gone).await.0, 202);
    assert_eq!(rule(&shared, &login("mona", 2)).await, "granted");
    told_apart_and_counted(&stage, secret).await;
    stage.kill();
    stage.fsck();
}

/// What cannot be judged is said to be wrong, what says something else is taken, and each is counted
/// once by what became of it.
async fn told_apart_and_counted(stage: &Stage, secret: &str) {
    let shared = stage.shared();
    let day = 86_400;
    let other = event_of(
        &shared,
        &format!("{CAEP}/session-revoked"),
        "mona",
        json!({"iss": "https://other.example"}),
    );
    let old = json!({"iat": now() - 31 * day});
    let old = event_of(&shared, &format!("{CAEP}/session-revoked"), "mona", old);
    for (set, err) in [
        ("no.event.at-all", "invalid_request"),
        (other.as_str(), "invalid_issuer"),
        (old.as_str(), "invalid_request"),
    ] {
        let (status, said) = push(&shared, secret, set).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &said["err"]), (400, &json!(err)), "{said}");
    }
    let else_said = event(&shared, &format!("{CAEP}/token-claims-change"));
    assert_eq!(push(&shared, secret, &else_said).await.0, 202);
    let (_, counted) = stage.shell("curl -s --unix-socket data/admin.sock http://local/metrics");
    for (outcome, times) in [
        ("over", 1),
        ("nothing", 1),
        ("unproven", 1),
        ("malformed", 3),
        ("ignored", 1),
    ] {
        let row = format!(
            "dayfly_signals_total{{tenant=\"acme\",transmitter=\"idp\",outcome=\"{outcome}\"}} {times}"
        );
        assert!(counted.lines().any(|line| line == row), "{row}\n{counted}");
    }
}

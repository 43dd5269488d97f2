//! The binary as a receiver of Shared Signals: what a person started ends by the provider's word, over a kill, and an account that is gone stays out until an operator lets it in.

use std::collections::BTreeMap;
use std::fs;

use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
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
    set_by(&shared.platform, "k1", &claims_of(shared, kind, sub, other))
}

fn claims_of(shared: &Shared, kind: &str, sub: &str, other: Value) -> Value {
    let now = now();
    let mut claims = json!({
        "iss": IDP, "aud": shared.issuer, "jti": unique(), "iat": now - 10,
        "sub_id": {"format": "iss_sub", "iss": IDP, "sub": sub},
        "events": {kind: {"event_timestamp": now - 10}},
    });
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// The same as somebody signs it who says that this is the key.
fn set_by(key: &SigningKey, kid: &str, claims: &Value) -> String {
    let mut header = serde_json::Map::new();
    header.insert("typ".into(), "secevent+jwt".into());
    header.insert("kid".into(), kid.into());
    let signed = key.encode_jws(header, claims.to_string().as_bytes());
    signed.unwrap()
}

pub(crate) async fn push(shared: &Shared, bearer: &str, set: &str) -> (u16, String) {
    push_as(shared, Some(&format!("Bearer {bearer}")), set).await
}

async fn push_as(shared: &Shared, authorization: Option<&str>, set: &str) -> (u16, String) {
    let mut request = shared
        .http
        .post(format!("{}/signals/idp", shared.issuer))
        .header("content-type", "application/secevent+jwt")
        .body(set.to_owned());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
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

/// What cannot be judged is said to be wrong, what may be judged later is asked for once more, what says
/// something else is taken, and each is counted once by what became of it.
async fn told_apart_and_counted(stage: &Stage, secret: &str) {
    let shared = stage.shared();
    let day = 86_400;
    let claims = |other| claims_of(&shared, SESSION, "mona", other);
    let set = |other| set_by(&shared.platform, "k1", &claims(other));
    let other = set(json!({"iss": "https://other.example"}));
    let old = set(json!({"iat": now() - 31 * day}));
    let good = set(json!({}));
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    let stranger = SigningKey::generate(Alg::Rs256).unwrap();
    let forged = set_by(&stranger, "k1", &claims(json!({})));
    let unknown = set_by(&stranger, "k9", &claims(json!({})));
    let kind = SESSION.replace("session-revoked", "token-claims-change");
    let else_said = event(&shared, &kind);
    let right = format!("Bearer {secret}");
    let right = Some(right.as_str());
    for (bearer, set, status, err, outcome) in [
        (None, &good, 400, "authentication_failed", "unproven"),
        (
            Some("Bearer another-secret-of-events"),
            &good,
            400,
            "authentication_failed",
            "unproven",
        ),
        (
            Some("Basic another-secret-of-events"),
            &good,
            400,
            "authentication_failed",
            "unproven",
        ),
        (
            right,
            &"no.event.at-all".to_owned(),
            400,
            "invalid_request",
            "malformed",
        ),
        (right, &other, 400, "invalid_issuer", "malformed"),
        (right, &old, 400, "invalid_request", "malformed"),
        (right, &unsigned, 400, "invalid_key", "malformed"),
        (right, &forged, 400, "invalid_key", "malformed"),
        (right, &unknown, 503, "", "refused"),
        (right, &else_said, 202, "", "ignored"),
    ] {
        let mut more = counts(stage);
        let (answered, said) = push_as(&shared, bearer, set).await;
        let told: Value = serde_json::from_str(&said).unwrap_or_default();
        let told = told["err"].as_str().unwrap_or_default();
        assert_eq!((answered, told), (status, err), "{outcome}: {said}");
        *more.entry(outcome.to_owned()).or_default() += 1;
        assert_eq!(counts(stage), more, "{status} {err}");
    }
    // What came before, since the server was started again.
    let counts = counts(stage);
    assert_eq!(
        (counts["over"], counts["nothing"], counts["unproven"]),
        (1, 1, 4)
    );
}

/// How many events of the transmitter there were with each outcome.
fn counts(stage: &Stage) -> BTreeMap<String, u64> {
    let (_, metrics) = stage.shell("curl -s --unix-socket data/admin.sock http://local/metrics");
    let of = "dayfly_signals_total{tenant=\"acme\",transmitter=\"idp\",outcome=\"";
    let rows = metrics.lines().filter_map(|line| {
        let (outcome, times) = line.strip_prefix(of)?.split_once("\"} ")?;
        Some((outcome.to_owned(), times.parse().unwrap()))
    });
    rows.collect()
}

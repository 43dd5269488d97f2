//! One job: its platform token, its key, and what it was answered.

use std::time::SystemTime;

use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, ProofRequest, client_assertion, dpop_proof};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use crate::stage::Shared;

/// Whether an answer arrived. One that did not proves nothing.
pub(crate) enum Outcome<T> {
    Answered(T),
    Lost,
}

pub(crate) struct Client {
    pub(crate) key: SigningKey,
    pub(crate) proof: String,
    pub(crate) task: String,
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Client {
    /// Proves a fresh run and opens its task.
    pub(crate) async fn grant(stage: &Shared, run: u64) -> Outcome<Self> {
        Self::grant_by(stage, platform_token_of(stage, run, "1296269")).await
    }

    /// Opens the task of this proof.
    pub(crate) async fn grant_by(stage: &Shared, proof: String) -> Outcome<Self> {
        let key = SigningKey::generate(Alg::Es256).unwrap();
        let Some((status, body)) = post_token(stage, &key, &grant_form(&proof)).await else {
            return Outcome::Lost;
        };
        if status == 503 {
            // The disk is slow: nothing is granted in a stall, and nothing is promised.
            return Outcome::Lost;
        }
        assert_eq!(status, 200, "{body}");
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        Outcome::Answered(Self {
            task: text("task"),
            id: text("client_id"),
            token: text("access_token"),
            key,
            proof,
        })
    }

    /// Ends the client, and with it its task.
    pub(crate) async fn end(&self, stage: &Shared) -> Outcome<()> {
        let url = format!("{}/clients/{}/end", stage.issuer, self.id);
        let mut nonce = None;
        // Soon after a start the server wants its nonce in proofs of calls that append nothing.
        for _ in 0..2 {
            let proof = self.dpop(&url, nonce.as_deref(), Some(&self.token));
            let sent = stage
                .http
                .post(&url)
                .header("authorization", format!("DPoP {}", self.token))
                .header("dpop", proof)
                .json(&json!({"outcome": "completed"}))
                .send()
                .await;
            let Ok(answer) = sent else {
                return Outcome::Lost;
            };
            nonce = answer
                .headers()
                .get("dpop-nonce")
                .map(|value| value.to_str().unwrap().to_owned());
            if answer.status() == 200 {
                return match answer.json::<Value>().await {
                    Ok(_) => Outcome::Answered(()),
                    Err(_) => Outcome::Lost,
                };
            }
            assert_eq!(answer.status(), 401, "{:?}", answer.text().await);
        }
        panic!("the server's own nonce is refused");
    }

    /// Whether the resource is told that the token is active.
    pub(crate) async fn introspect(&self, stage: &Shared) -> bool {
        let answer: Value = stage
            .http
            .post(format!("{}/introspect", stage.issuer))
            .basic_auth("artifacts", Some("a+secret+of+the+test"))
            .header("content-type", FORM)
            .body(encoded(&[("token", self.token.as_str())]))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        answer["active"].as_bool().unwrap()
    }

    /// The rule that refuses the same proof again.
    pub(crate) async fn replay(&self, stage: &Shared) -> String {
        refusal(post_token(stage, &self.key, &grant_form(&self.proof)).await)
    }

    /// The rule that refuses the same proof by another key.
    pub(crate) async fn replay_with_another_key(&self, stage: &Shared) -> String {
        let thief = SigningKey::generate(Alg::Es256).unwrap();
        refusal(post_token(stage, &thief, &grant_form(&self.proof)).await)
    }

    /// The rule that refuses renewal.
    pub(crate) async fn renew(&self, stage: &Shared) -> String {
        let assertion = client_assertion(
            &self.key,
            &AssertionRequest {
                client_id: &self.id,
                issuer: &stage.issuer,
                now: now(),
                jti: &unique(),
                lifetime_seconds: 60,
            },
        )
        .unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion.as_str()),
        ];
        refusal(post_token(stage, &self.key, &form).await)
    }

    fn dpop(&self, url: &str, nonce: Option<&str>, token: Option<&str>) -> String {
        dpop(&self.key, url, nonce, token)
    }
}

pub(crate) fn new_key() -> SigningKey {
    SigningKey::generate(Alg::Es256).unwrap()
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

pub(crate) fn grant_form(proof: &str) -> [(&str, &str); 2] {
    [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", proof),
    ]
}

pub(crate) async fn post_token(
    stage: &Shared,
    key: &SigningKey,
    form: &[(&str, &str)],
) -> Option<(u16, Value)> {
    let url = format!("{}/token", stage.issuer);
    let answer = stage
        .http
        .post(&url)
        .header("dpop", dpop(key, &url, None, None))
        .header("content-type", FORM)
        .body(encoded(form))
        .send()
        .await
        .ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}

fn refusal(answer: Option<(u16, Value)>) -> String {
    let (_, body) = answer.expect("the server is up");
    body["refused"]["rule"]
        .as_str()
        .unwrap_or_else(|| panic!("not refused: {body}"))
        .to_owned()
}

fn dpop(key: &SigningKey, url: &str, nonce: Option<&str>, token: Option<&str>) -> String {
    dpop_proof(
        key,
        &ProofRequest {
            method: "POST",
            url,
            now: now(),
            jti: &unique(),
            nonce,
            access_token: token,
        },
    )
    .unwrap()
}

/// What GitHub would give a job of this repository.
pub(crate) fn platform_token_of(stage: &Shared, run: u64, repository_id: &str) -> String {
    signed(stage, &platform_claims(stage, run, repository_id))
}

/// What GitHub would say of it.
pub(crate) fn platform_claims(stage: &Shared, run: u64, repository_id: &str) -> Value {
    let now = now();
    json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": stage.issuer,
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
        "repository": "octo-org/octo-repo", "repository_id": repository_id,
        "repository_owner": "octo-org", "repository_owner_id": "583231",
        "run_id": run.to_string(), "run_attempt": "1", "check_run_id": run.to_string(),
        "ref": "refs/heads/main", "event_name": "push", "jti": unique(),
        "iat": now, "nbf": now, "exp": now + 300,
    })
}

/// These claims as a token of the platform.
pub(crate) fn signed(stage: &Shared, claims: &Value) -> String {
    let mut header = serde_json::Map::new();
    header.insert("typ".into(), "JWT".into());
    header.insert("kid".into(), "k1".into());
    stage
        .platform
        .encode_jws(header, claims.to_string().as_bytes())
        .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "proofs carry the present time, and the test is its own client"
)]
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A name that no other proof of this run of the test has.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("proof-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

//! What an attacker or an honest job holds: a platform's token, a key, and what it was answered.

use std::sync::Arc;

use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, ProofRequest, client_assertion, dpop_proof};
use dayfly_token::sign::SigningKey;
use serde_json::{Map, Value, json};

use super::world::{ISSUER, Reply, World, platform, unique};

pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
pub(crate) const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub(crate) const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A client that was granted a credential.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) key: Arc<SigningKey>,
    pub(crate) proof: String,
    pub(crate) task: String,
    pub(crate) client: String,
    pub(crate) token: String,
}

pub(crate) fn new_key() -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Alg::Es256).unwrap())
}

/// The claims that the platform makes of a job; the run's number is also the job's.
pub(crate) fn claims(world: &World, repository: u64, run: u64) -> Value {
    let now = world.now();
    json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": ISSUER,
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
        "repository": "octo-org/octo-repo", "repository_id": repository.to_string(),
        "repository_owner": "octo-org", "repository_owner_id": "583231",
        "run_id": run.to_string(), "run_attempt": "1", "check_run_id": run.to_string(),
        "ref": "refs/heads/main", "event_name": "push", "jti": unique(),
        "iat": now, "nbf": now, "exp": now + 300,
    })
}

/// The same claims with some replaced.
pub(crate) fn with(mut claims: Value, other: Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    for (name, value) in other.as_object().unwrap().clone() {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    claims
}

pub(crate) fn signed(claims: &Value) -> String {
    signed_as(platform(), Some("JWT"), Some("k1"), claims)
}

pub(crate) fn signed_as(
    key: &SigningKey,
    typ: Option<&str>,
    kid: Option<&str>,
    claims: &Value,
) -> String {
    let mut header = Map::new();
    if let Some(typ) = typ {
        header.insert("typ".into(), typ.into());
    }
    if let Some(kid) = kid {
        header.insert("kid".into(), kid.into());
    }
    key.encode_jws(header, claims.to_string().as_bytes())
        .unwrap()
}

/// A DPoP proof for a request to `acme`.
pub(crate) fn dpop(world: &World, key: &SigningKey, method: &str, path: &str) -> String {
    proof(world, key, method, path, Some(&world.app.nonce()), None)
}

pub(crate) fn proof(
    world: &World,
    key: &SigningKey,
    method: &str,
    path: &str,
    nonce: Option<&str>,
    access_token: Option<&str>,
) -> String {
    dpop_proof(
        key,
        &ProofRequest {
            method,
            url: &format!("{ISSUER}{path}"),
            now: world.now(),
            jti: &unique(),
            nonce,
            access_token,
        },
    )
    .unwrap()
}

pub(crate) fn assertion(world: &World, key: &SigningKey, client: &str) -> String {
    client_assertion(
        key,
        &AssertionRequest {
            client_id: client,
            issuer: ISSUER,
            now: world.now(),
            jti: &unique(),
            lifetime_seconds: 60,
        },
    )
    .unwrap()
}

impl World {
    /// Asks for a credential by a platform's token, with what else the request names.
    pub(crate) async fn ask(
        &self,
        proof: &str,
        key: Option<&SigningKey>,
        more: &[(&str, &str)],
    ) -> Reply {
        let mut form = vec![("grant_type", JWT_BEARER), ("assertion", proof)];
        form.extend_from_slice(more);
        let header = key.map(|key| dpop(self, key, "POST", "/token"));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("dpop", h.as_str())).collect();
        self.form("/token", &form, &headers).await
    }

    /// Opens a task of the workload `release` over the artifacts.
    pub(crate) async fn job(&self, run: u64) -> Job {
        self.job_of(1, run, &[("resource", super::world::ARTIFACTS)])
            .await
    }

    pub(crate) async fn job_of(&self, repository: u64, run: u64, more: &[(&str, &str)]) -> Job {
        let key = new_key();
        let proof = signed(&claims(self, repository, run));
        let reply = self.ask(&proof, Some(&key), more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    /// Renews by the client's own key.
    pub(crate) async fn renew(&self, job: &Job, more: &[(&str, &str)]) -> Reply {
        let assertion = assertion(self, &job.key, &job.client);
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
            ("resource", super::world::ARTIFACTS),
        ];
        form.extend_from_slice(more);
        self.form("/token", &form, &[]).await
    }

    /// Exchanges an own token, proving the key by DPoP.
    pub(crate) async fn narrow(
        &self,
        token: &str,
        key: Option<&SigningKey>,
        more: &[(&str, &str)],
    ) -> Reply {
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", TYPE_ACCESS_TOKEN),
        ];
        form.extend_from_slice(more);
        let header = key.map(|key| dpop(self, key, "POST", "/token"));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("dpop", h.as_str())).collect();
        self.form("/token", &form, &headers).await
    }

    /// A call at a task endpoint with the job's credential and key.
    pub(crate) async fn call(&self, job: &Job, method: &str, path: &str, body: &str) -> Reply {
        let nonce = self.app.nonce();
        let proof = proof(self, &job.key, method, path, Some(&nonce), Some(&job.token));
        self.call_with(
            &format!("DPoP {}", job.token),
            Some(&proof),
            method,
            path,
            body,
        )
        .await
    }

    pub(crate) async fn call_with(
        &self,
        authorization: &str,
        dpop: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> Reply {
        let mut headers = vec![("authorization", authorization)];
        headers.extend(dpop.map(|dpop| ("dpop", dpop)));
        self.send(method, path, &headers, body).await
    }

    /// Ends the job's client.
    pub(crate) async fn end(&self, job: &Job) -> Reply {
        let path = format!("/clients/{}/end", job.client);
        self.call(job, "POST", &path, r#"{"outcome":"completed"}"#)
            .await
    }

    pub(crate) async fn end_task(&self, job: &Job, outcome: &str) -> Reply {
        let path = format!("/tasks/{}/end", job.task);
        let body = json!({ "outcome": outcome }).to_string();
        self.call(job, "POST", &path, &body).await
    }

    pub(crate) async fn beat(&self, job: &Job) -> Reply {
        let path = format!("/tasks/{}/heartbeat", job.task);
        self.call(job, "POST", &path, "").await
    }

    /// What a resource is told of a token.
    pub(crate) async fn introspect(&self, resource: &str, token: &str) -> Value {
        use base64::Engine;
        let basic = base64::engine::general_purpose::STANDARD
            .encode(format!("{resource}:secret+of+{resource}"));
        let authorization = format!("Basic {basic}");
        let reply = self
            .form(
                "/introspect",
                &[("token", token)],
                &[("authorization", &authorization)],
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body
    }

    pub(crate) async fn is_active(&self, token: &str) -> bool {
        self.introspect("artifacts", token).await["active"] == true
    }
}

impl Job {
    pub(crate) fn of(key: Arc<SigningKey>, proof: String, reply: &Reply) -> Self {
        Self {
            key,
            proof,
            task: reply.str("task").to_owned(),
            client: reply.str("client_id").to_owned(),
            token: reply.str("access_token").to_owned(),
        }
    }
}

/// The claims of a token, unverified.
pub(crate) fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&dayfly_token::b64::decode(part).unwrap()).unwrap()
}

//! No secret in the log: a whole task against a server that logs everything, and a search for what it was sent.

use std::fs;

use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, ProofRequest, client_assertion, dpop_proof};
use dayfly_token::sign::SigningKey;
use serde_json::Value;

use crate::client::{FORM, encoded, now, platform_token_of, unique};
use crate::stage::{Shared, Stage};

/// Every text that must not be found.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn keep(&mut self, text: impl Into<String>) -> String {
        let text = text.into();
        self.0.push(text.clone());
        text
    }

    fn dpop(
        &mut self,
        key: &SigningKey,
        method: &str,
        url: &str,
        nonce: &str,
        token: Option<&str>,
    ) -> String {
        let proof = dpop_proof(
            key,
            &ProofRequest {
                method,
                url,
                now: now(),
                jti: &unique(),
                nonce: Some(nonce).filter(|nonce| !nonce.is_empty()),
                access_token: token,
            },
        );
        self.keep(proof.unwrap())
    }
}

struct Answer {
    status: u16,
    nonce: String,
    body: Value,
}

async fn post(shared: &Shared, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let url = format!("{}{path}", shared.issuer);
    let mut request = shared.http.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let nonce = answer.headers().get("dpop-nonce");
    let nonce = nonce.map_or("", |value| value.to_str().unwrap()).to_owned();
    Answer {
        status: answer.status().as_u16(),
        nonce,
        body: serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default(),
    }
}

/// Opens a task, renews, beats, is introspected, ends, and does each wrongly as well.
async fn whole_task(shared: &Shared, secrets: &mut Secrets) {
    let key = SigningKey::generate(Alg::Es256).unwrap();
    let token_url = format!("{}/token", shared.issuer);
    let platform = secrets.keep(platform_token_of(shared, 1, "1296269"));
    let stranger = secrets.keep(platform_token_of(shared, 2, "5"));
    let broken = secrets.keep(format!("{}x", &platform[..platform.len() - 4]));
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let mut granted = Value::Null;
    let mut nonce = String::new();
    for (assertion, status) in [
        (&broken, 400),
        (&stranger, 400),
        (&platform, 200),
        (&platform, 200),
    ] {
        let proof = secrets.dpop(&key, "POST", &token_url, &nonce, None);
        let form = encoded(&[("grant_type", grant), ("assertion", assertion)]);
        let headers = [("content-type", FORM), ("dpop", proof.as_str())];
        let answer = post(shared, "/token", &headers, form).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        (nonce, granted) = (answer.nonce, answer.body);
    }
    let token = secrets.keep(granted["access_token"].as_str().unwrap());
    let client = granted["client_id"].as_str().unwrap().to_owned();
    let task = granted["task"].as_str().unwrap().to_owned();

    let assertion = client_assertion(
        &key,
        &AssertionRequest {
            client_id: &client,
            issuer: &shared.issuer,
            now: now(),
            jti: &unique(),
            lifetime_seconds: 60,
        },
    );
    let assertion = secrets.keep(assertion.unwrap());
    let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    // The second time it is spent.
    for status in [200, 400] {
        let form = encoded(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", assertion_type),
            ("client_assertion", &assertion),
        ]);
        let answer = post(shared, "/token", &[("content-type", FORM)], form).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == 200 {
            secrets.keep(answer.body["access_token"].as_str().unwrap());
        }
    }
    introspected(shared, secrets, &token).await;

    let authorization = format!("DPoP {token}");
    let ends = format!("/clients/{client}/end");
    for path in [format!("/tasks/{task}/heartbeat"), ends.clone(), ends] {
        let url = format!("{}{path}", shared.issuer);
        let proof = secrets.dpop(&key, "POST", &url, &nonce, Some(&token));
        let headers = [
            ("authorization", authorization.as_str()),
            ("dpop", proof.as_str()),
        ];
        let answer = post(shared, &path, &headers, r#"{"outcome":"completed"}"#.into()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        nonce = answer.nonce;
    }
}

/// A resource asks with its secret, and with one that is not its own.
async fn introspected(shared: &Shared, secrets: &mut Secrets, token: &str) {
    secrets.keep("a secret of the test");
    secrets.keep("a+secret+of+the+test");
    // `artifacts:a+secret+of+the+test` and `artifacts:another-secret-altogether` in Base64.
    for (secret, encoded_secret, status) in [
        (
            "a+secret+of+the+test",
            "YXJ0aWZhY3RzOmErc2VjcmV0K29mK3RoZSt0ZXN0",
            200,
        ),
        (
            "another-secret-altogether",
            "YXJ0aWZhY3RzOmFub3RoZXItc2VjcmV0LWFsdG9nZXRoZXI=",
            401,
        ),
    ] {
        secrets.keep(secret);
        let basic = format!("Basic {}", secrets.keep(encoded_secret));
        let headers = [("content-type", FORM), ("authorization", basic.as_str())];
        let form = encoded(&[("token", token)]);
        let answer = post(shared, "/introspect", &headers, form).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_log_of_everything_holds_no_secret() {
    let mut stage = Stage::new();
    stage.filter = "trace";
    stage.start().await;
    let mut secrets = Secrets::default();
    whole_task(&stage.shared(), &mut secrets).await;
    let master = fs::read_to_string(stage.folder().join("dayfly.key")).unwrap();
    secrets.keep(master.trim());
    stage.stop();

    let log = stage.log();
    // The log is not silent: it tells of the refusals, in JSON.
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    assert!(
        log.contains("\"request\"") && log.contains("\"refused\""),
        "{log}"
    );
    assert!(secrets.0.len() > 15, "{}", secrets.0.len());
    for secret in &secrets.0 {
        assert!(!log.contains(secret.as_str()), "the log holds {secret}");
        // Neither the whole of a token nor the signature that would complete it.
        if let Some((_, signature)) = secret.rsplit_once('.') {
            assert!(
                !log.contains(signature),
                "the log holds the signature {signature}"
            );
        }
    }
}

//! Requests that wait for people, on the wire: who may ask, how often, with which key, and once.

use std::sync::Arc;

use dayfly_server::app::{Actor, ApplyRequest, Approved};
use dayfly_store::{EntryRange, Store};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{
    ASSERTION_TYPE, EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, new_key, signed,
};
use super::world::{ARTIFACTS, Reply, TENANT, World, acme};

pub(crate) const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";
const TYPE_DEFERRAL_CODE: &str = "urn:ietf:params:oauth:token-type:deferral-code";

/// Workloads that need an approval: repositories 7 (one person), 8 (two people), 9 (no key needed),
/// and a person's.
pub(crate) const APPROVALS: &str = r#"
[issuer.staff]
kind = "oidc"
url = "https://idp.example"
jwks = { file = "jwks.json" }
audience = "dayfly-tasks"
people = true

[workload.deploy]
owner   = "team"
kind    = "ci"
purpose = "deploy what was released"
match   = { issuer = "github", repository_id = "7" }
approval = { by = "owner", within = "30m" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*", scope = "artifacts:publish" },
]

[workload.vault]
owner   = "team"
kind    = "ci"
purpose = "open the vault"
match   = { issuer = "github", repository_id = "8" }
approval = { by = "owner", within = "30m", people = 2 }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]

[workload.keyless]
owner   = "team"
kind    = "ci"
purpose = "a client that may have no key"
match   = { issuer = "github", repository_id = "9" }
token   = { ttl = "5m", binding = "optional" }
approval = { by = "owner", within = "30m" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]

[workload.repair]
owner   = "team"
kind    = "operator"
purpose = "repair what is broken by hand"
match   = { issuer = "staff", sub = ["mona", "hugo"] }
approval = { by = "owner", within = "30m" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]
"#;

/// A request that waits.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) key: Arc<SigningKey>,
    pub(crate) proof: String,
    pub(crate) code: String,
    pub(crate) task: String,
}

pub(crate) async fn world() -> World {
    World::declared(&format!("{TENANT}{APPROVALS}")).await
}

pub(crate) fn person(sub: &str) -> Actor {
    Actor::Person {
        iss: "https://idp.example".to_owned(),
        sub: sub.to_owned(),
    }
}

impl World {
    /// Asks by a platform's token, and may be deferred.
    pub(crate) async fn defer(&self, proof: &str, key: Option<&SigningKey>) -> Reply {
        let more = [
            ("resource", ARTIFACTS),
            ("completion_mode", "immediate deferred x"),
        ];
        self.ask(proof, key, &more).await
    }

    /// A run of a repository that waits.
    pub(crate) async fn asked(&self, repository: u64, run: u64) -> Asked {
        let (key, proof) = (new_key(), signed(&claims(self, repository, run)));
        let reply = self.defer(&proof, Some(&key)).await;
        asked_of(key, proof, &reply)
    }

    pub(crate) async fn poll(&self, asked: &Asked) -> Reply {
        self.poll_with(&asked.code, Some(&asked.key), &[]).await
    }

    pub(crate) async fn poll_with(
        &self,
        code: &str,
        key: Option<&SigningKey>,
        more: &[(&str, &str)],
    ) -> Reply {
        let mut form = vec![("grant_type", DEFERRED), ("deferral_code", code)];
        form.extend_from_slice(more);
        let header = key.map(|key| dpop(self, key, "POST", "/token"));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("dpop", h.as_str())).collect();
        self.form("/token", &form, &headers).await
    }

    pub(crate) async fn approve(&self, asked: &Asked, by: &str) -> Result<Approved, String> {
        let task = asked.task.parse().unwrap();
        let (tenant, by) = (self.tenant(), person(by));
        let approved = self.app.approve(&tenant, task, &by, "seen");
        let refused = |refused: dayfly_server::app::Refused| refused.refusal.rule.code().to_owned();
        approved.await.map_err(refused)
    }

    pub(crate) async fn deny(&self, asked: &Asked) -> Result<(), String> {
        let task = asked.task.parse().unwrap();
        let (tenant, by) = (self.tenant(), person("otto"));
        let denied = self.app.deny(&tenant, task, &by, "no");
        let denied = denied.await.map(|_| ());
        denied.map_err(|refused| refused.refusal.rule.code().to_owned())
    }

    pub(crate) async fn cancel(&self, code: &str, key: Option<&SigningKey>) -> Reply {
        let form = [("token", code), ("token_type_hint", TYPE_DEFERRAL_CODE)];
        let header = key.map(|key| dpop(self, key, "POST", "/revoke"));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("dpop", h.as_str())).collect();
        self.form("/revoke", &form, &headers).await
    }

    pub(crate) fn grants(&self) -> usize {
        let grants = ["task.started", "client.registered", "credential.issued"];
        let of = |leaf: &&Value| grants.contains(&leaf["kind"].as_str().unwrap());
        self.leaves().iter().filter(of).count()
    }

    pub(crate) fn annex_of(&self, kind: &str, task: &str) -> Value {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let of = |leaf: &str| {
            let leaf: Value = serde_json::from_str(leaf).unwrap();
            leaf["kind"] == kind && leaf["task"] == task
        };
        let entry = entries.unwrap().into_iter().find(|entry| of(&entry.leaf));
        serde_json::from_str(&entry.unwrap().annex.unwrap().data).unwrap()
    }

    pub(crate) async fn applied(&self) {
        // Two tenants that accept one proof are refused once one of them changes.
        let file = self.folder.path().join("acme/tenant.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"dayfly-tasks\"", "\"acme-tasks\"")).unwrap();
        let by = Actor::Local { uid: 7 };
        let applied = self
            .app
            .apply(&self.tenant(), ApplyRequest::default(), &by, "a test")
            .await;
        assert!(applied.unwrap().applied);
    }

    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let file = self.folder.path().join("acme/tenant.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }
}

pub(crate) fn asked_of(key: Arc<SigningKey>, proof: String, reply: &Reply) -> Asked {
    assert_eq!(waits(reply), (400, "authorization_pending"));
    Asked {
        key,
        proof,
        code: reply.str("deferral_code").to_owned(),
        task: reply.str("task").to_owned(),
    }
}

pub(crate) fn waits(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.body["error"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn the_wire_form_is_that_of_the_draft() {
    let world = world().await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    let reply = world.defer(&proof, Some(&key)).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.body["expires_in"], 1800);
    assert_eq!(reply.body["interval"], 5);
    assert!(reply.body.get("access_token").is_none());
    let asked = asked_of(key, proof, &reply);
    let secret = asked.code.splitn(3, '_').nth(2).unwrap();
    assert_eq!(dayfly_token::b64::decode(secret).unwrap().len(), 32);
    for leaf in world.leaves() {
        assert!(!leaf.to_string().contains(secret), "{leaf}");
    }
    assert!(
        !world
            .annex_of("task.requested", &asked.task)
            .to_string()
            .contains(secret)
    );
    world.wait(5);
    let pending = world.poll(&asked).await;
    assert_eq!(waits(&pending), (400, "authorization_pending"));
    assert_eq!(pending.header("cache-control"), "no-store");
    assert!(pending.body.get("deferral_code").is_none(), "{pending:?}");
    assert_eq!(world.grants(), 0);
    world.wait(595);
    let approved = world.approve(&asked, "mona").await.unwrap();
    let at = world.now();
    assert_eq!(approved.fetch_by.unwrap().seconds(), at + 300);
    assert_eq!(world.grants(), 0, "an approval grants nothing by itself");
    world.wait(60);
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(granted.str("token_type"), "DPoP");
    assert_eq!(granted.str("scope"), "artifacts:publish");
    assert!(granted.body.get("issued_token_type").is_none());
    assert_eq!(granted.str("task"), asked.task);
    // The window begins at the approval.
    assert_eq!(granted.body["task_expires_at"], at + 3600);
    assert!(world.is_active(granted.str("access_token")).await);
    let job = Job::of(asked.key.clone(), asked.proof.clone(), &granted);
    assert_eq!(world.renew(&job, &[]).await.status, 200);
    assert_eq!(world.end(&job).await.status, 200);
}

#[tokio::test]
async fn an_exchange_that_waited_is_answered_as_an_exchange() {
    let world = world().await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    let header = dpop(&world, &key, "POST", "/token");
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", proof.as_str()),
        ("subject_token_type", TYPE_JWT),
        ("completion_mode", "deferred"),
    ];
    let reply = world.form("/token", &form, &[("dpop", &header)]).await;
    let asked = asked_of(key, proof, &reply);
    world.approve(&asked, "mona").await.unwrap();
    let granted = world.poll(&asked).await;
    assert_eq!(granted.str("issued_token_type"), TYPE_ACCESS_TOKEN);
}

/// A platform's token that authenticates a client speaks for itself once: what waits is asked for by
/// the key, and no assertion goes along.
#[tokio::test]
async fn a_client_that_waited_polls_by_its_key() {
    let world = world().await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    let header = dpop(&world, &key, "POST", "/token");
    let shown = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", proof.as_str()),
    ];
    let form = [
        ("grant_type", "client_credentials"),
        shown[0],
        shown[1],
        ("resource", ARTIFACTS),
        ("completion_mode", "deferred"),
    ];
    let reply = world.form("/token", &form, &[("dpop", &header)]).await;
    assert_eq!(reply.body["expires_in"], 1800);
    let asked = asked_of(key, proof.clone(), &reply);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    world.approve(&asked, "mona").await.unwrap();
    world.wait(5);
    let other = world.poll_with(&asked.code, Some(&new_key()), &[]).await;
    assert_eq!(other.rule(), "deferral_code");
    let again = world.poll_with(&asked.code, Some(&asked.key), &shown).await;
    assert_eq!(again.rule(), "authentication", "{}", again.text);
    assert_eq!(world.grants(), 0);
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert!(granted.body.get("issued_token_type").is_none());
    assert_eq!(granted.str("task"), asked.task);
    assert!(world.is_active(granted.str("access_token")).await);
}

#[tokio::test]
async fn without_the_opt_in_the_request_is_refused_and_nothing_is_spent() {
    let world = world().await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    for mode in [None, Some("immediate"), Some("Deferred"), Some("")] {
        let mut more = vec![("resource", ARTIFACTS)];
        more.extend(mode.map(|mode| ("completion_mode", mode)));
        let reply = world.ask(&proof, Some(&key), &more).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "approval_needed"));
        assert_eq!(reply.body["refused"]["field"], "completion_mode");
        let why = world
            .app
            .why(reply.str("refusal").parse().unwrap())
            .unwrap();
        assert!(
            why.hint.contains("completion_mode=deferred"),
            "{}",
            why.hint
        );
    }
    let recorded = |leaf: &Value| leaf["kind"].as_str().unwrap().starts_with("task.");
    assert!(!world.leaves().iter().any(recorded));
    let reply = world.defer(&proof, Some(&key)).await;
    asked_of(key, proof, &reply);
    // Who needs no approval is not kept waiting, and unknown modes harm nobody.
    let other = signed(&claims(&world, 1, 1));
    assert_eq!(world.defer(&other, Some(&new_key())).await.status, 200);
}

#[tokio::test]
async fn who_waits_has_a_key() {
    let world = world().await;
    let proof = signed(&claims(&world, 9, 1));
    let reply = world.defer(&proof, None).await;
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop_missing"));
    assert_eq!(world.grants(), 0);
}

#[tokio::test]
async fn a_code_that_is_unknown_foreign_or_redeemed_is_all_the_same() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let other = world.asked(7, 2).await;
    world.approve(&asked, "mona").await.unwrap();
    let mut flipped = asked.code.clone();
    let last = flipped.pop().unwrap();
    flipped.push(if last == 'A' { 'Q' } else { 'A' });
    let unknown = asked.code.replace(
        asked.task.strip_prefix("task_").unwrap(),
        "00000000000000000000000000",
    );
    let foreign = [
        world.poll_with(&asked.code, Some(&new_key()), &[]).await,
        world.poll_with(&asked.code, Some(&other.key), &[]).await,
        world.poll_with(&flipped, Some(&asked.key), &[]).await,
        world.poll_with(&unknown, Some(&asked.key), &[]).await,
        world.poll_with("dfr_", Some(&asked.key), &[]).await,
        world.poll_with("x", Some(&asked.key), &[]).await,
        world
            .poll_with(&asked.code, Some(&asked.key), &[("client_id", "release")])
            .await,
    ];
    assert_eq!(world.grants(), 0);
    assert_eq!(world.poll(&asked).await.status, 200);
    let redeemed = world.poll(&asked).await;
    for reply in foreign.iter().chain([&redeemed]) {
        assert_eq!(reply.refusal(), (400, "invalid_grant", "deferral_code"));
        for member in ["error_description", "refused"] {
            assert_eq!(reply.body[member], redeemed.body[member]);
        }
    }
    assert_eq!(world.grants(), 3, "one redemption");
    // So it is when the task is over, and after a restart.
    world
        .app
        .operator_end(
            &world.tenant(),
            asked.task.parse().unwrap(),
            &person("otto"),
            "x",
        )
        .await
        .unwrap();
    assert_eq!(world.poll(&asked).await.rule(), "deferral_code");
}

#[tokio::test]
async fn a_poll_says_nothing_but_its_code_and_proves_its_key() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    for more in [
        ("completion_mode", "deferred"),
        ("scope", "artifacts:publish"),
        ("resource", ARTIFACTS),
        ("audience", "artifacts"),
        ("authorization_details", "[]"),
        ("assertion", "x"),
    ] {
        let reply = world
            .poll_with(&asked.code, Some(&asked.key), &[more])
            .await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "invalid_parameter")
        );
        assert_eq!(reply.body["refused"]["field"], more.0);
    }
    let bare = world.poll_with(&asked.code, None, &[]).await;
    assert_eq!(bare.refusal(), (400, "invalid_dpop_proof", "dpop_missing"));
    let header = dpop(&world, &asked.key, "POST", "/token");
    let form = [("grant_type", DEFERRED), ("deferral_code", &asked.code)];
    // A proof that was shown at a poll redeems nothing later.
    let waiting = world.asked(7, 2).await;
    let shown = dpop(&world, &waiting.key, "POST", "/token");
    let poll = [("grant_type", DEFERRED), ("deferral_code", &waiting.code)];
    let reply = world.form("/token", &poll, &[("dpop", &shown)]).await;
    assert_eq!(waits(&reply), (400, "authorization_pending"));
    world.approve(&waiting, "mona").await.unwrap();
    let replayed = world.form("/token", &poll, &[("dpop", &shown)]).await;
    assert_eq!(replayed.rule(), "dpop_replayed");
    assert_eq!(
        world
            .form("/token", &form, &[("dpop", &header)])
            .await
            .status,
        200
    );
    let replayed = world.form("/token", &form, &[("dpop", &header)]).await;
    assert_ne!(replayed.status, 200);
}

#[tokio::test]
async fn who_asks_too_often_is_slowed_down_and_then_refused() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let size = world.size();
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    assert_eq!(waits(&world.poll(&asked).await), (400, "slow_down"));
    world.wait(6);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "slow_down"),
        "ten by now"
    );
    world.wait(15);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    assert_eq!(world.size(), size, "polls leave no entries");
    for _ in 0..12 {
        assert_eq!(waits(&world.poll(&asked).await), (400, "slow_down"));
    }
    let flood = world.poll(&asked).await;
    assert_eq!(flood.refusal(), (400, "invalid_request", "poll_flood"));
    // Whoever holds another key does not slow down the one who waits.
    world.wait(600);
    world.poll_with(&asked.code, Some(&new_key()), &[]).await;
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
}

#[tokio::test]
async fn a_request_is_cancelled_by_its_key_alone_before_and_after_the_approval() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    assert_eq!(
        world.cancel(&asked.code, Some(&new_key())).await.status,
        200
    );
    let bare = world.cancel(&asked.code, None).await;
    assert_eq!(bare.refusal(), (401, "invalid_client", "authentication"));
    assert_eq!(world.cancel("dfr_x", Some(&asked.key)).await.status, 200);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    assert_eq!(
        world.cancel(&asked.code, Some(&asked.key)).await.status,
        200
    );
    assert_eq!(
        world.cancel(&asked.code, Some(&asked.key)).await.status,
        200
    );
    let denied = world.poll(&asked).await;
    assert_eq!(denied.refusal(), (400, "access_denied", "approval_denied"));
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "not_pending"
    );
    let approved = world.asked(7, 2).await;
    world.approve(&approved, "mona").await.unwrap();
    assert_eq!(
        world
            .cancel(&approved.code, Some(&approved.key))
            .await
            .status,
        200
    );
    assert_eq!(world.poll(&approved).await.rule(), "approval_denied");
    assert_eq!(world.grants(), 0);
    // What was fetched is revoked by its own token and not by the code.
    let fetched = world.asked(7, 3).await;
    world.approve(&fetched, "mona").await.unwrap();
    let reply = world.poll(&fetched).await;
    assert_eq!(
        world.cancel(&fetched.code, Some(&fetched.key)).await.status,
        200
    );
    assert!(world.is_active(reply.str("access_token")).await);
}

#[tokio::test]
async fn the_metadata_says_what_is_served() {
    let world = world().await;
    let path = "/.well-known/oauth-authorization-server/acme";
    let served = world.send_to("GET", path, &[], "").await.body;
    assert_eq!(served["deferred_token_response_supported"], true);
    let holds =
        |member: &str, value: &str| served[member].as_array().unwrap().contains(&json!(value));
    assert!(holds("grant_types_supported", DEFERRED));
    assert!(holds(
        "revocation_endpoint_token_type_values_supported",
        TYPE_DEFERRAL_CODE
    ));
}

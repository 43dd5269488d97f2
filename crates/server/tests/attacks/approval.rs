//! Requests that wait for people: who may approve, who may ask, once, in time, and by what holds then.

use std::sync::Arc;

use dayfly_server::app::{Actor, ApplyRequest, Approved, Contained};
use dayfly_store::{EntryRange, Store};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, new_key, signed, with};
use super::world::{ARTIFACTS, Reply, TENANT, World, acme, unique};

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

    fn granted(&self) -> usize {
        let grants = ["task.started", "client.registered", "credential.issued"];
        let of = |leaf: &&Value| grants.contains(&leaf["kind"].as_str().unwrap());
        self.leaves().iter().filter(of).count()
    }

    fn annex_of(&self, kind: &str, task: &str) -> Value {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let of = |leaf: &str| {
            let leaf: Value = serde_json::from_str(leaf).unwrap();
            leaf["kind"] == kind && leaf["task"] == task
        };
        let entry = entries.unwrap().into_iter().find(|entry| of(&entry.leaf));
        serde_json::from_str(&entry.unwrap().annex.unwrap().data).unwrap()
    }

    async fn applied(&self) {
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

    fn rewrite(&self, from: &str, to: &str) {
        let file = self.folder.path().join("acme/tenant.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }
}

fn asked_of(key: Arc<SigningKey>, proof: String, reply: &Reply) -> Asked {
    assert_eq!(waits(reply), (400, "authorization_pending"));
    Asked {
        key,
        proof,
        code: reply.str("deferral_code").to_owned(),
        task: reply.str("task").to_owned(),
    }
}

fn waits(reply: &Reply) -> (u16, &str) {
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
    let secret = asked.code.rsplit('_').next().unwrap();
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
    assert_eq!(world.granted(), 0);
    world.wait(595);
    let approved = world.approve(&asked, "mona").await.unwrap();
    let at = world.now();
    assert_eq!(approved.fetch_by.unwrap().seconds(), at + 300);
    assert_eq!(world.granted(), 0, "an approval grants nothing by itself");
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
    assert_eq!(world.granted(), 0);
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
    assert_eq!(world.granted(), 0);
    assert_eq!(world.poll(&asked).await.status, 200);
    let redeemed = world.poll(&asked).await;
    for reply in foreign.iter().chain([&redeemed]) {
        assert_eq!(reply.refusal(), (400, "invalid_grant", "deferral_code"));
        for member in ["error_description", "refused"] {
            assert_eq!(reply.body[member], redeemed.body[member]);
        }
    }
    assert_eq!(world.granted(), 3, "one redemption");
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
    assert_eq!(world.granted(), 0);
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
async fn strangers_to_an_approval_are_refused_and_told_why() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let task = asked.task.parse().unwrap();
    let local = Actor::Local { uid: 0 };
    let refused = world
        .app
        .approve(&world.tenant(), task, &local, "root")
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.refusal.rule.code(), "not_allowed");
    assert!(refused.refusal.hint.contains("dayfly login"));
    let unknown = "task_00000000000000000000000000".parse().unwrap();
    let refused = world
        .app
        .approve(&world.tenant(), unknown, &person("mona"), "x")
        .await;
    assert_eq!(refused.unwrap_err().refusal.rule.code(), "not_found");
    let job = world.job(1).await;
    let refused = world
        .app
        .approve(
            &world.tenant(),
            job.task.parse().unwrap(),
            &person("mona"),
            "x",
        )
        .await;
    assert_eq!(refused.unwrap_err().refusal.rule.code(), "not_pending");
    world.wait(1790);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    world.wait(10);
    // Over at once, swept or not.
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "approval_expired"
    );
    assert_eq!(world.deny(&asked).await.unwrap_err(), "approval_expired");
    let late = world.poll(&asked).await;
    assert_eq!(late.refusal(), (400, "expired_token", "approval_expired"));
    assert_eq!(world.app.sweep().await, 1);
    let late = world.poll(&asked).await;
    assert_eq!(late.refusal(), (400, "expired_token", "approval_expired"));
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "not_pending"
    );
    let ended = world.leaves().pop().unwrap();
    assert_eq!(
        (&ended["kind"], &ended["data"]["cause"]),
        (&json!("task.ended"), &json!("expired"))
    );
}

#[tokio::test]
async fn what_nobody_fetches_within_five_minutes_expires() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    world.wait(300);
    assert_eq!(world.poll(&asked).await.rule(), "approval_expired");
    assert_eq!(world.app.sweep().await, 1);
    assert_eq!(world.granted(), 0);
}

#[tokio::test]
async fn two_people_are_two_and_stand_in_the_record() {
    let world = world().await;
    let asked = world.asked(8, 1).await;
    let first = world.approve(&asked, "mona").await.unwrap();
    assert_eq!(
        (first.people, first.approvals, first.fetch_by),
        (2, 1, None)
    );
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "approved_twice"
    );
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    let second = world.approve(&asked, "hugo").await.unwrap();
    assert_eq!((second.approvals, second.fetch_by.is_some()), (2, true));
    assert_eq!(
        world.approve(&asked, "anna").await.unwrap_err(),
        "approval_complete"
    );
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
    for leaf in world.leaves() {
        let leaf = leaf.to_string();
        assert!(!leaf.contains("mona") && !leaf.contains("hugo"), "{leaf}");
    }
    let annex = world.annex_of("task.approved", &asked.task);
    assert_eq!(
        (&annex["by"]["sub"], &annex["reason"]),
        (&json!("mona"), &json!("seen"))
    );
}

#[tokio::test]
async fn who_asks_may_not_approve() {
    let world = world().await;
    let now = world.now();
    let claims = json!({
        "iss": "https://idp.example", "aud": "dayfly-tasks", "sub": "mona", "jti": unique(),
        "auth_time": now - 60, "iat": now, "exp": now + 300,
    });
    let (key, proof) = (new_key(), signed(&claims));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked = asked_of(key, proof, &reply);
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "own_request"
    );
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    world.approve(&asked, "hugo").await.unwrap();
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
    for leaf in world.leaves() {
        assert!(!leaf.to_string().contains("mona"), "{leaf}");
    }
}

#[tokio::test]
async fn where_the_annex_was_erased_nobody_can_be_told_apart_and_nobody_approves() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let approved = world.asked(7, 2).await;
    world.approve(&approved, "mona").await.unwrap();
    let saying = [("run_id".to_owned(), "1".to_owned())].into();
    let all = dayfly_server::app::Erasure::Saying(saying);
    world
        .app
        .erase(&world.tenant(), all, false, &person("otto"), "asked")
        .await
        .unwrap();
    let saying = [("run_id".to_owned(), "2".to_owned())].into();
    let all = dayfly_server::app::Erasure::Saying(saying);
    world
        .app
        .erase(&world.tenant(), all, false, &person("otto"), "asked")
        .await
        .unwrap();
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "policy_failed"
    );
    assert_eq!(
        world.poll(&approved).await.refusal(),
        (400, "access_denied", "policy_failed")
    );
    assert_eq!(world.granted(), 0);
}

#[tokio::test]
async fn a_denial_is_final_and_every_other_end_too() {
    let world = world().await;
    let denied = world.asked(7, 1).await;
    world.deny(&denied).await.unwrap();
    assert_eq!(world.deny(&denied).await.unwrap_err(), "not_pending");
    let ended = world.asked(7, 2).await;
    world.approve(&ended, "mona").await.unwrap();
    let by = Actor::Local { uid: 7 };
    let task = ended.task.parse().unwrap();
    world
        .app
        .operator_end(&world.tenant(), task, &by, "leaked")
        .await
        .unwrap();
    let superseded = world.asked(7, 3).await;
    let newer = with(claims(&world, 7, 3), json!({"run_attempt": "2"}));
    world.defer(&signed(&newer), Some(&new_key())).await;
    let disabled = world.asked(7, 4).await;
    world.approve(&disabled, "mona").await.unwrap();
    let workload = Contained::Workload("deploy".parse().unwrap());
    world
        .app
        .contain(&world.tenant(), &workload, &by, "no")
        .await
        .unwrap();
    assert_eq!(
        world.approve(&disabled, "anna").await.unwrap_err(),
        "rights_removed"
    );
    for (asked, rule) in [
        (&denied, "approval_denied"),
        (&ended, "approval_denied"),
        (&superseded, "approval_denied"),
        (&disabled, "rights_removed"),
    ] {
        let reply = world.poll(asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", rule));
        assert_eq!(
            world.cancel(&asked.code, Some(&asked.key)).await.status,
            200
        );
    }
    world.app.sweep().await;
    assert_eq!(world.poll(&disabled).await.rule(), "approval_denied");
    assert_eq!(world.granted(), 0);
    assert!(
        world
            .leaves()
            .iter()
            .any(|leaf| leaf["kind"] == "task.denied")
    );
}

#[tokio::test]
async fn at_redemption_everything_is_judged_again() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    let lapsed = async |rule: &str| {
        world.wait(5);
        let reply = world.poll(&asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", rule));
        assert_eq!(world.granted(), 0);
    };
    let octo = "identifier = \"octo/*\", scope";
    world.rewrite(octo, "identifier = \"other/*\", scope");
    world.applied().await;
    lapsed("ceiling_lowered").await;
    world.rewrite("identifier = \"other/*\", scope", octo);
    world.rewrite("repository_id = \"7\"", "repository_id = \"70\"");
    world.applied().await;
    lapsed("approval_lapsed").await;
    world.rewrite("repository_id = \"70\"", "repository_id = \"7\"");
    world.write_policy(
        "no.cedar",
        "@id(\"no\") forbid (principal == Dayfly::Workload::\"deploy\", action, resource);",
    );
    world.applied().await;
    lapsed("policy_denied").await;
    world.write_policy("no.cedar", "");
    world.applied().await;
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
}

#[tokio::test]
async fn an_answer_that_got_lost_costs_nothing() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let size = world.size();
    let again = world.defer(&asked.proof, Some(&asked.key)).await;
    assert_eq!(again.str("deferral_code"), asked.code);
    assert_eq!(world.size(), size);
    let thief = world.defer(&asked.proof, Some(&new_key())).await;
    assert_eq!(thief.rule(), "retry_other_key");
    let restarted = world.restarted().await;
    // Who shows a proof soon after a start shows a nonce, as `defer` does.
    let again = restarted.defer(&asked.proof, Some(&asked.key)).await;
    assert_eq!(again.str("deferral_code"), asked.code);
    restarted.approve(&asked, "mona").await.unwrap();
    assert_eq!(restarted.poll(&asked).await.status, 200);
    // The grant was not heard: its client asks by its key, or by the proof that it asked with.
    let client = asked.task.replace("task_", "client_") + "_1";
    let job = Job {
        key: asked.key.clone(),
        proof: asked.proof.clone(),
        task: asked.task.clone(),
        client,
        token: String::new(),
    };
    assert_eq!(restarted.renew(&job, &[]).await.status, 200);
    let retried = restarted
        .ask(&asked.proof, Some(&asked.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(retried.status, 200, "{}", retried.text);
}

#[tokio::test]
async fn a_policy_asks_for_an_approval_of_this_request_alone() {
    let world = world().await;
    world.write_policy(
        "ask.cedar",
        "@id(\"main-only\") @approval(\"10m\") @people(\"2\")\nforbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"start\", resource)\nunless { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"refs/heads/main\" };",
    );
    world.applied().await;
    world.job(1).await;
    let hotfix = with(claims(&world, 1, 2), json!({"ref": "refs/heads/hotfix"}));
    let (key, proof) = (new_key(), signed(&hotfix));
    let refused = world
        .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(refused.rule(), "approval_needed");
    let reply = world.defer(&proof, Some(&key)).await;
    assert_eq!(reply.body["expires_in"], 600);
    let asked = asked_of(key, proof, &reply);
    let decision = &world.annex_of("task.requested", &asked.task)["policy"]["decisions"][0];
    assert_eq!(decision["decision"], "deny");
    assert_eq!(decision["approval"]["policies"], json!(["main-only"]));
    assert_eq!(decision["approval"]["given"], false);
    world.approve(&asked, "mona").await.unwrap();
    world.approve(&asked, "hugo").await.unwrap();
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let start = world.annex_of("task.started", &asked.task);
    assert_eq!(start["policy"]["decisions"][0]["decision"], "allow");
    assert_eq!(start["policy"]["decisions"][0]["approval"]["given"], true);
    assert_eq!(start["policy"]["facts"]["approved"], true);
    let job = Job::of(asked.key.clone(), asked.proof.clone(), &granted);
    assert_eq!(world.renew(&job, &[]).await.status, 200);
    // It stays permitted by a changed set too: what was approved then is approved now.
    world.write_policy(
        "other.cedar",
        "forbid (principal == Dayfly::Workload::\"matrix\", action, resource);",
    );
    world.applied().await;
    assert!(world.is_active(&job.token).await);
    // And where it errs, it forbids, whoever would approve.
    world.write_policy(
        "ask.cedar",
        "@approval(\"10m\") forbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"start\", resource) when { context.open_tasks + 9223372036854775807 > 0 };",
    );
    let by = Actor::Local { uid: 7 };
    let ends = ApplyRequest {
        dry_run: true,
        ..ApplyRequest::default()
    };
    let dry = world
        .app
        .apply(&world.tenant(), ends, &by, "")
        .await
        .unwrap();
    let ends = ApplyRequest {
        ends: Some(dry.ends),
        ..ApplyRequest::default()
    };
    world
        .app
        .apply(&world.tenant(), ends, &by, "err")
        .await
        .unwrap();
    let proof = signed(&claims(&world, 1, 3));
    let failed = world.defer(&proof, Some(&new_key())).await;
    assert_eq!(failed.rule(), "policy_failed", "{}", failed.text);
}

#[tokio::test]
async fn what_waits_counts_as_open_and_outlives_a_restart() {
    let world = world().await;
    world.rewrite("approval = { by = \"owner\", within = \"30m\" }\naccess  = [\n  { resource = \"artifacts\", type = \"artifact\", actions = [\"read\", \"publish\"]", "approval = { by = \"owner\", within = \"30m\" }\nlimits = { open = 1 }\naccess  = [\n  { resource = \"artifacts\", type = \"artifact\", actions = [\"read\", \"publish\"]");
    world.applied().await;
    let asked = world.asked(7, 1).await;
    let second = signed(&claims(&world, 7, 2));
    let refused = world.defer(&second, Some(&new_key())).await;
    assert_eq!(refused.rule(), "open_limit");
    let world = world.restarted().await;
    world.approve(&asked, "mona").await.unwrap();
    assert_eq!(world.poll(&asked).await.status, 200);
    assert_eq!(world.count("task.started", &asked.task), 1);
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

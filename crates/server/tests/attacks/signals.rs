//! A person's provider says that a session is over or an account gone: what came of it ends, and nobody else can say it.

use dayfly_server::app::{Actor, Contained};
use dayfly_store::clock::Clock;
use dayfly_store::{EntryRange, Store};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{Job, new_key, signed, signed_as, with};
use super::world::{ARTIFACTS, ISSUER, Reply, TENANT, World, acme, platform, unique};

pub(crate) const SESSION: &str =
    "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
pub(crate) const CREDENTIAL: &str =
    "https://schemas.openid.net/secevent/caep/event-type/credential-change";
pub(crate) const DISABLED: &str =
    "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
const PURGED: &str = "https://schemas.openid.net/secevent/risc/event-type/account-purged";
const BEARER: &str = "Bearer the-secret-of-events";
const IDP: &str = "https://idp.example";

/// A provider whose people start tasks, and its transmitter.
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
owner   = "team"
kind    = "operator"
purpose = "repair what is broken by hand"
match   = {{ issuer = "staff", email_verified = true }}
repeat  = "join"
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]

[signals.idp]
issuer = "{IDP}/events"
jwks = {{ file = "jwks.json" }}
people = "staff"
push = {{ secret_file = "events.secret" }}
"#
    )
}

/// A transmitter that speaks of those who operate.
pub(crate) const OPERATORS: &str = r#"
[signals.idp]
issuer = "https://idp.example/events"
jwks = { file = "jwks.json" }
operators = "https://idp.example"
push = { secret_file = "events.secret" }
"#;

/// An event about a person, of now.
pub(crate) fn event(world: &World, kind: &str, sub: &str) -> Value {
    let now = world.now();
    json!({
        "iss": format!("{IDP}/events"), "aud": ISSUER, "jti": unique(), "iat": now,
        "sub_id": {"format": "iss_sub", "iss": IDP, "sub": sub},
        "events": {kind: {"event_timestamp": now - 30}},
    })
}

pub(crate) fn set(claims: &Value) -> String {
    signed_as(platform(), Some("secevent+jwt"), Some("k1"), claims)
}

/// What the provider says of somebody who authenticated so many seconds ago.
pub(crate) fn login(world: &World, sub: &str, ago: u64) -> Value {
    let now = world.now();
    json!({
        "iss": IDP, "aud": "dayfly-tasks", "sub": sub, "email_verified": true, "jti": unique(),
        "auth_time": now - ago, "iat": now, "exp": now + 300,
    })
}

impl World {
    pub(crate) async fn push(&self, set: &str) -> Reply {
        self.push_as(Some(BEARER), "application/secevent+jwt", set)
            .await
    }

    async fn push_as(&self, bearer: Option<&str>, media: &str, set: &str) -> Reply {
        let mut headers = vec![("content-type", media)];
        headers.extend(bearer.map(|bearer| ("authorization", bearer)));
        self.send("POST", "/signals/idp", &headers, set).await
    }

    pub(crate) async fn hears(&self, kind: &str, sub: &str) {
        let reply = self.push(&set(&event(self, kind, sub))).await;
        assert_eq!((reply.status, reply.text.as_str()), (202, ""));
    }

    pub(crate) async fn try_login(&self, sub: &str, ago: u64) -> Result<Job, Reply> {
        let (key, token) = (new_key(), signed(&login(self, sub, ago)));
        let reply = self
            .ask(&token, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        if reply.status == 200 {
            Ok(Job::of(key, token, &reply))
        } else {
            Err(reply)
        }
    }

    pub(crate) async fn logged_in(&self, sub: &str, ago: u64) -> Job {
        let job = self.try_login(sub, ago).await;
        job.unwrap_or_else(|refused| panic!("{}", refused.text))
    }

    pub(crate) async fn login_refused(&self, sub: &str, ago: u64) -> String {
        let refused = self.try_login(sub, ago).await.err().unwrap();
        refused.rule().to_owned()
    }
}

#[tokio::test]
async fn a_session_that_is_over_ends_what_came_of_it_and_a_newer_one_starts() {
    for kind in [SESSION, CREDENTIAL] {
        let world = World::declared(&declared()).await;
        let (older, newer) = (
            world.logged_in("mona", 60).await,
            world.logged_in("mona", 10).await,
        );
        let dora = world.logged_in("dora", 60).await;
        let size = world.size();
        world.hears(kind, "mona").await;
        assert_eq!(world.size(), size, "one append, and no entry of it");
        assert!(!world.is_active(&older.token).await);
        assert_eq!(world.renew(&older, &[]).await.rule(), "rights_removed");
        assert!(world.is_active(&newer.token).await && world.is_active(&dora.token).await);
        assert_eq!(world.login_refused("mona", 31).await, "rights_removed");
        assert!(
            world
                .is_active(&world.logged_in("mona", 5).await.token)
                .await
        );
        // The entries follow, with the word that ended it.
        world.app.sweep().await;
        assert!(!world.is_open(&older.task) && world.is_open(&newer.task));
        assert_eq!(world.count("task.ended", &older.task), 1);
        let ended = world.leaves().into_iter();
        let mut ended = ended.filter(|leaf| leaf["kind"] == "task.ended");
        assert_eq!(ended.next().unwrap()["data"]["cause"], "upstream");
        let mut leaves = world.leaves().into_iter();
        assert!(leaves.all(|leaf| leaf["kind"] != "block.set"));
    }
}

#[tokio::test]
async fn an_account_that_is_gone_stays_out_until_an_operator_lets_it_in() {
    for kind in [DISABLED, PURGED] {
        let world = World::declared(&declared()).await;
        let job = world.logged_in("mona", 60).await;
        let gone = event(&world, kind, "mona");
        assert_eq!(world.push(&set(&gone)).await.status, 202);
        assert!(!world.is_active(&job.token).await);
        assert_eq!(world.login_refused("mona", 5).await, "blocked");
        world.logged_in("dora", 5).await;
        let tenant = world.tenant();
        let blocks = world.app.blocks(&tenant).unwrap();
        let [block] = blocks.as_slice() else {
            panic!("{blocks:?}")
        };
        assert!(block.on.to_string().starts_with("barred:"), "{}", block.on);
        let by = Actor::Local { uid: 7 };
        let lifted = world.app.unblock(&tenant, block.on.clone(), &by, "back");
        lifted.await.unwrap();
        assert_eq!(world.login_refused("mona", 5).await, "rights_removed");
        world.wait(10);
        world.logged_in("mona", 5).await;
        // Said again it sets no block again, and neither does what reaches less far.
        for again in [&gone, &event(&world, SESSION, "mona")] {
            assert_eq!(world.push(&set(again)).await.status, 202);
        }
        world.logged_in("mona", 4).await;
        world.wait(60);
        world.hears(kind, "mona").await;
        assert_eq!(world.login_refused("mona", 5).await, "blocked");
    }
}

#[tokio::test]
async fn late_repeated_and_reordered_words_come_to_the_same() {
    let world = World::declared(&declared()).await;
    let now = world.now();
    let said = |ago: u64| {
        let claims = event(&world, SESSION, "mona");
        with(
            claims,
            json!({"events": {SESSION: {"event_timestamp": now - ago}}}),
        )
    };
    let (job, first) = (world.logged_in("mona", 60).await, said(61));
    let (reaches, less) = (said(40), said(50));
    // One that comes late ends nothing that was authenticated after it.
    assert_eq!(world.push(&set(&first)).await.status, 202);
    assert!(world.is_active(&job.token).await);
    for word in [&reaches, &less, &reaches, &first] {
        assert_eq!(world.push(&set(word)).await.status, 202);
        assert!(!world.is_active(&job.token).await);
    }
    assert_eq!(world.login_refused("mona", 40).await, "rights_removed");
    world.logged_in("mona", 39).await;
    // Where nobody says when, it is when the event was made, and never later than that.
    for (sub, other) in [
        ("a", json!({"events": {SESSION: {}}})),
        (
            "b",
            json!({"events": {SESSION: {"event_timestamp": "now"}}}),
        ),
        (
            "c",
            json!({"events": {SESSION: {"event_timestamp": (now + 9) * 1000}}}),
        ),
        ("f", json!({"events": {SESSION: {"event_timestamp": 0}}})),
        (
            "g",
            json!({"events": {SESSION: {"event_timestamp": now / 1000}}}),
        ),
        (
            "h",
            json!({"events": {SESSION: {"event_timestamp": 1.5e16}}}),
        ),
        ("i", json!({"events": {SESSION: {"event_timestamp": 1.5}}})),
        ("j", json!({"events": {SESSION: {}}, "toe": -1})),
        ("d", json!({"events": {SESSION: {}}, "toe": now + 3600})),
    ] {
        let word = with(event(&world, SESSION, sub), other.clone());
        let made = with(word, json!({"iat": now - 20}));
        assert_eq!(world.push(&set(&made)).await.status, 202, "{other}");
        assert_eq!(world.login_refused(sub, 20).await, "rights_removed");
        world.logged_in(sub, 19).await;
    }
    let word = with(event(&world, SESSION, "e"), json!({"toe": now - 50}));
    let word = with(word, json!({"events": {SESSION: {}}}));
    assert_eq!(world.push(&set(&word)).await.status, 202);
    world.logged_in("e", 49).await;
}

#[tokio::test]
async fn a_subject_is_understood_in_every_form_that_names_a_person() {
    let world = World::declared(&declared()).await;
    let person = json!({"format": "iss_sub", "iss": IDP, "sub": "mona"});
    for (number, subject) in [
        json!({"sub_id": {"format": "complex", "user": person, "session": {"format": "opaque", "id": "s"}}}),
        json!({"sub_id": {"format": "aliases", "identifiers": [{"format": "email", "email": "m@example.com"}, person]}}),
        json!({"sub_id": null, "events": {SESSION: {"subject": person}}}),
        json!({"sub_id": null, "events": {SESSION: {"subject": {"subject_type": "iss-sub", "iss": IDP, "sub": "mona"}}}}),
        json!({"sub_id": null, "events": {SESSION: {"subject": {"user": person}}}}),
        json!({"events": {SESSION: {"subject": person}}}),
    ]
    .into_iter()
    .enumerate()
    {
        world.wait(60);
        let job = world.logged_in("mona", 31).await;
        let word = with(event(&world, SESSION, "mona"), subject.clone());
        let reply = world.push(&set(&word)).await;
        assert_eq!(reply.status, 202, "{number} {subject}: {}", reply.text);
        assert!(!world.is_active(&job.token).await, "{subject}");
    }
}

/// STANDARDS section 14, item 10.
#[tokio::test]
async fn a_set_without_typ_is_no_set() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    let claims = event(&world, SESSION, "mona");
    for typ in [
        None,
        Some("JWT"),
        Some("at+jwt"),
        Some("logout+jwt"),
        Some("secevent"),
    ] {
        let token = signed_as(platform(), typ, Some("k1"), &claims);
        let reply = world.push(&token).await;
        assert_eq!(
            (reply.status, reply.str("err")),
            (400, "invalid_request"),
            "{typ:?}"
        );
    }
    assert!(world.is_active(&job.token).await);
    // And an event is no credential and no proof.
    let reply = world.ask(&set(&claims), Some(&new_key()), &[]).await;
    assert_eq!(reply.rule(), "token_type");
    assert_eq!(
        world.introspect("artifacts", &set(&claims)).await,
        json!({"active": false})
    );
    let full = signed_as(
        platform(),
        Some("application/secevent+jwt"),
        Some("k1"),
        &claims,
    );
    assert_eq!(world.push(&full).await.status, 202);
    assert!(!world.is_active(&job.token).await);
}

#[tokio::test]
async fn what_is_malformed_foreign_or_old_changes_nothing_and_is_told_so() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    let now = world.now();
    let (size, day) = (world.size(), 86_400);
    for (other, err) in [
        (json!({"iss": "https://evil.example"}), "invalid_issuer"),
        (json!({"iss": IDP}), "invalid_issuer"),
        (json!({"iss": null}), "invalid_issuer"),
        (json!({"aud": "https://other.example"}), "invalid_audience"),
        (
            json!({"aud": [ISSUER, "https://other.example"]}),
            "invalid_audience",
        ),
        (json!({"aud": []}), "invalid_audience"),
        (json!({"aud": null}), "invalid_audience"),
        (json!({"jti": null}), "invalid_request"),
        (json!({"jti": ""}), "invalid_request"),
        (json!({"iat": null}), "invalid_request"),
        (json!({"iat": "now"}), "invalid_request"),
        (json!({"iat": now - 30 * day - 1}), "invalid_request"),
        (json!({"sub": "mona"}), "invalid_request"),
        (json!({"exp": now + 300}), "invalid_request"),
        (json!({"events": null}), "invalid_request"),
        (json!({"events": {}}), "invalid_request"),
        (json!({"events": [SESSION]}), "invalid_request"),
        (json!({"events": {SESSION: "now"}}), "invalid_request"),
        (
            json!({"events": {SESSION: {}, DISABLED: {}}}),
            "invalid_request",
        ),
        (json!({"sub_id": null}), "invalid_request"),
        (json!({"sub_id": "mona"}), "invalid_request"),
        (
            json!({"sub_id": {"format": "email", "email": "mona@example.com"}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"format": "opaque", "id": "mona"}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"format": "iss_sub", "iss": IDP}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"format": "iss_sub", "iss": IDP, "sub": ""}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"iss": IDP, "sub": "mona"}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"format": "complex", "session": {"format": "opaque", "id": "s"}}}),
            "invalid_request",
        ),
        (
            json!({"sub_id": {"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "mona"}}),
            "access_denied",
        ),
        (
            json!({"events": {SESSION: {"subject": {"format": "iss_sub", "iss": IDP, "sub": "dora"}}}}),
            "invalid_request",
        ),
    ] {
        let reply = world
            .push(&set(&with(event(&world, SESSION, "mona"), other.clone())))
            .await;
        assert_eq!((reply.status, reply.str("err")), (400, err), "{other}");
        assert_eq!(reply.header("content-language"), "en");
        assert!(!reply.str("description").is_empty());
    }
    let claims = event(&world, SESSION, "mona");
    let stranger = SigningKey::generate(dayfly_token::alg::Alg::Es256).unwrap();
    let good = set(&claims);
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let other = set(&event(&world, SESSION, "dora"));
    let other_body = other.split('.').nth(1).unwrap();
    for (token, err) in [
        (
            signed_as(&stranger, Some("secevent+jwt"), Some("k1"), &claims),
            "invalid_key",
        ),
        (
            signed_as(platform(), Some("secevent+jwt"), Some("k9"), &claims),
            "invalid_key",
        ),
        (format!("{head}.{other_body}.{signature}"), "invalid_key"),
        (format!("{head}.{body}."), "invalid_key"),
        (
            format!("eyJhbGciOiJub25lIiwidHlwIjoic2VjZXZlbnQrand0In0.{body}."),
            "invalid_request",
        ),
        (String::new(), "invalid_request"),
        ("{}".to_owned(), "invalid_request"),
    ] {
        let reply = world.push(&token).await;
        assert_eq!(reply.status, 400, "{token}");
        assert_eq!(reply.str("err"), err, "{token}: {}", reply.text);
    }
    assert!(world.is_active(&job.token).await);
    assert_eq!(world.size(), size, "nobody fills the ledger from outside");
    world.logged_in("mona", 59).await;
}

#[tokio::test]
async fn who_does_not_show_the_transmitters_token_is_not_heard() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    let good = set(&event(&world, SESSION, "mona"));
    for bearer in [
        None,
        Some("Bearer another-secret-of-events"),
        Some("Bearer the-secret-of-event"),
        Some("Bearer "),
        Some("Basic the-secret-of-events"),
        Some("the-secret-of-events"),
    ] {
        let reply = world
            .push_as(bearer, "application/secevent+jwt", &good)
            .await;
        assert_eq!(reply.status, 400, "{bearer:?}");
        assert_eq!(reply.str("err"), "authentication_failed", "{bearer:?}");
    }
    let reply = world.push_as(Some(BEARER), "application/json", &good).await;
    assert_eq!(reply.str("err"), "invalid_request");
    let reply = world.push(&"x".repeat(20_000)).await;
    assert_eq!(reply.status, 413);
    let path = world.send(
        "POST",
        "/signals/nobody",
        &[("authorization", BEARER)],
        good.as_str(),
    );
    assert_eq!(path.await.status, 404);
    assert!(world.is_active(&job.token).await);
    assert_eq!(world.push(&good).await.status, 202);
}

#[tokio::test]
async fn what_means_nothing_here_is_acknowledged_and_ends_nothing() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    let size = world.size();
    for kind in [
        "https://schemas.openid.net/secevent/ssf/event-type/verification",
        "https://schemas.openid.net/secevent/ssf/event-type/stream-updated",
        "https://schemas.openid.net/secevent/caep/event-type/session-established",
        "https://schemas.openid.net/secevent/caep/event-type/risk-level-change",
        "https://schemas.openid.net/secevent/risc/event-type/account-enabled",
        "https://schemas.openid.net/secevent/caep/event-type/session-revoked/x",
        "session-revoked",
    ] {
        world.hears(kind, "mona").await;
    }
    // The subject of a verification is the stream.
    let stream = json!({"sub_id": {"format": "opaque", "id": "stream"}});
    let kind = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    let claims = with(event(&world, kind, "mona"), stream);
    assert_eq!(world.push(&set(&claims)).await.status, 202);
    assert!(world.is_active(&job.token).await);
    assert_eq!(world.size(), size);
}

#[tokio::test]
async fn an_account_that_is_gone_is_gone_up_to_when_it_was_said() {
    for kind in [DISABLED, PURGED] {
        let world = World::declared(&declared()).await;
        let job = world.logged_in("mona", 60).await;
        // The provider let somebody in between the time of the event and its word.
        let happened = json!({"events": {kind: {"event_timestamp": world.now() - 90}}});
        let word = set(&with(event(&world, kind, "mona"), happened.clone()));
        assert_eq!(world.push(&word).await.status, 202);
        assert!(!world.is_active(&job.token).await);
        let tenant = world.tenant();
        let on = world.app.blocks(&tenant).unwrap()[0].on.clone();
        let by = Actor::Local { uid: 7 };
        world.app.unblock(&tenant, on, &by, "back").await.unwrap();
        assert_eq!(world.login_refused("mona", 60).await, "rights_removed");
        // A later word bars again, however long ago it says that it happened.
        world.wait(60);
        world.logged_in("mona", 5).await;
        let word = set(&with(event(&world, kind, "mona"), happened));
        assert_eq!(world.push(&word).await.status, 202);
        assert_eq!(world.login_refused("mona", 5).await, "blocked");
    }
}

#[tokio::test]
async fn a_key_that_may_have_come_since_is_not_refused_for_good() {
    let world = World::declared(&declared()).await;
    world.logged_in("mona", 60).await;
    world.wait(5);
    let claims = event(&world, SESSION, "mona");
    for kid in [Some("k9"), None] {
        let stranger = SigningKey::generate(dayfly_token::alg::Alg::Es256).unwrap();
        let word = signed_as(&stranger, Some("secevent+jwt"), kid, &claims);
        let reply = world.push(&word).await;
        assert_eq!((reply.status, reply.text.as_str()), (503, ""), "{kid:?}");
        assert!(!reply.header("retry-after").is_empty());
    }
    // Keys that were read after it came do not hold it either.
    world.wait(10);
    let word = signed_as(platform(), Some("secevent+jwt"), Some("k9"), &claims);
    let reply = world.push(&word).await;
    assert_eq!((reply.status, reply.str("err")), (400, "invalid_key"));
}

#[tokio::test]
async fn nothing_is_refused_for_good_by_a_clock_that_may_be_wrong() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    let early = with(
        event(&world, SESSION, "mona"),
        json!({"iat": world.now() + 61}),
    );
    assert_eq!(world.push(&set(&early)).await.status, 503);
    assert!(world.is_active(&job.token).await);
    world.wait(1);
    assert_eq!(world.push(&set(&early)).await.status, 202);
    // The clock goes ahead: what was said just now seems to be too old.
    let word = set(&event(&world, SESSION, "dora"));
    let right = world.clock.now();
    world.app.sweep().await;
    world
        .clock
        .jump(right + dayfly_domain::Span::from_seconds(40 * 86_400));
    assert_eq!(world.push(&word).await.status, 503);
    // What is said now is obeyed, and is to be said again.
    let word = set(&event(&world, SESSION, "mona"));
    assert_eq!(world.push(&word).await.status, 503);
}

impl World {
    /// The causes of the ends of this task, each with whether it says by whose word.
    fn told_ends(&self, job: &Job) -> Vec<(String, bool)> {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let told = entries.unwrap().into_iter().filter_map(|entry| {
            let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
            let ours = leaf["kind"] == "task.ended" && leaf["task"] == job.task.as_str();
            let said = entry
                .annex
                .is_some_and(|annex| annex.data.contains("signals.idp"));
            ours.then(|| (leaf["data"]["cause"].as_str().unwrap().to_owned(), said))
        });
        told.collect()
    }
}

#[tokio::test]
async fn an_end_says_by_whose_word_it_came_if_that_word_is_its_cause() {
    let by_word = [("upstream".to_owned(), true)];
    let by_hand = [("workload_disabled".to_owned(), false)];
    for own in [false, true] {
        let world = World::declared(&declared()).await;
        let (first, second) = (
            world.logged_in("mona", 60).await,
            world.logged_in("dora", 60).await,
        );
        let record = async |job: &Job| {
            if own {
                // What ends it at its own call is what was first.
                world.end_task(job, "completed").await;
            }
            world.wait(1);
        };
        world.hears(SESSION, "mona").await;
        world.wait(1);
        record(&first).await;
        let what = Contained::Workload("repair".parse().unwrap());
        let by = Actor::Local { uid: 7 };
        let tenant = world.tenant();
        world
            .app
            .contain(&tenant, &what, &by, "left")
            .await
            .unwrap();
        world.wait(1);
        world.hears(SESSION, "dora").await;
        record(&second).await;
        world.app.sweep().await;
        assert_eq!(world.told_ends(&first), by_word, "{own}");
        assert_eq!(world.told_ends(&second), by_hand, "{own}");
    }
}

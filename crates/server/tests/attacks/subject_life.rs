//! What becomes of a task that runs on behalf of a person: who sees the person, who joins, who is asked, and what ends it.

use dayfly_domain::{Digest, Span, Time};
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Erasure, Stop};
use dayfly_server::record::{self, TaskView};
use dayfly_store::{Append, PersonOver, PersonWrite, SearchKey, Store};
use serde_json::{Value, json};

use super::approval::{asked_of, person};
use super::delegation::scope;
use super::job::{Job, claims, new_key, payload, signed, with};
use super::signals::{DISABLED, SESSION};
use super::subjects::{Asking, MAIL, PEOPLE, STAFF, TYPE_ID_TOKEN, declared, mona, untold};
use super::world::{ARTIFACTS, Reply, TENANT, World, acme, unique, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };

const CLERK: &str = r#"
[workload.clerk]
owner   = "team"
kind    = "agent"
purpose = "signs for people once somebody agreed"
match   = { issuer = "github", repository_id = "7" }
approval = { by = "owner", within = "30m" }
subject = { from = ["staff"], person = "required" }
access  = [
  { resource = "mail", type = "message", actions = ["send"], identifier = "inbox/*" },
]
"#;

async fn world() -> World {
    World::declared(&declared()).await
}

impl World {
    /// A job of the concierge's run for this person.
    pub(crate) async fn concierge(
        &self,
        run: u64,
        job: &str,
        person: Option<&Value>,
    ) -> (Reply, Job) {
        let (key, own) = (new_key(), json!({ "check_run_id": job }));
        let proof = signed(&with(claims(self, 6, run), own));
        let reply = match person {
            None => self.ask(&proof, Some(&key), &[]).await,
            Some(person) => {
                let asking = Asking {
                    person: &signed(person),
                    kind: TYPE_ID_TOKEN,
                    proof: &proof,
                    key: &key,
                };
                self.on_behalf(&asking, &[]).await
            }
        };
        let job = Job {
            key,
            proof,
            task: reply.body["task"].as_str().unwrap_or_default().to_owned(),
            client: reply.body["client_id"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            token: reply.body["access_token"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        (reply, job)
    }

    fn recorded(&self, job: &Job) -> TaskView {
        let task = job.task.parse().unwrap();
        let view = record::task_record(self.store.as_ref(), &acme(), task);
        view.unwrap().unwrap()
    }

    /// The provider says that what a person authenticated for up to then is over.
    async fn session_over(&self, person: Digest, upto: u64) {
        let now = Time::from_seconds(self.now());
        let append = Append {
            now,
            people: vec![PersonWrite {
                person,
                over: PersonOver {
                    upto: Time::from_seconds(upto),
                    at: now,
                    said: String::new(),
                },
                until: now + Span::from_seconds(86_400),
            }],
            ..Append::default()
        };
        self.app.store().append(&acme(), append).await.unwrap();
    }
}

#[tokio::test]
async fn renewal_narrowing_and_delegation_keep_the_person() {
    let world = world().await;
    let job = world.assist(1, &mona(&world)).await;
    let renewed = world.renew_at(&job, MAIL).await;
    assert_eq!(payload(renewed.str("access_token"))["sub"], "mona-4711");
    let renewed = world.renew(&job, &[]).await;
    let at_artifacts = payload(renewed.str("access_token"))["on_behalf_of"].clone();
    assert!(at_artifacts["sub"].is_string());
    let child = world.child(&job, &scope("mail")).await;
    let said = payload(&child.token);
    assert_eq!(said["sub"], "mona-4711");
    assert_eq!(
        said["on_behalf_of"],
        json!({"iss": STAFF, "sub": "mona-4711"})
    );
    assert_eq!(said["act"]["client_id"], child.client.as_str());
    assert_eq!(said["act"]["act"]["client_id"], job.client.as_str());
    assert!(said["act"]["act"]["act"].is_null());
    let reader = world.child(&job, &scope("artifacts")).await;
    let said = payload(&reader.token);
    assert_eq!(
        said["on_behalf_of"], at_artifacts,
        "one resource knows one person"
    );
    assert_eq!(said["sub"], "workload:assistant");
    // The agent knows for whom it works by pseudonym, its helpers are not told.
    let path = format!("/tasks/{}", job.task);
    let own = world.call(&job, "GET", &path, "").await;
    assert_eq!(own.body["subject"]["issuer"], "staff");
    assert!(own.body["subject"]["sub"].is_null() && !own.text.contains("mona"));
    let helpers = world.call(&child, "GET", &path, "").await;
    assert!(helpers.body["subject"].is_null(), "{}", helpers.text);
    let receipt = world
        .call(&job, "GET", &format!("{path}/receipt"), "")
        .await;
    assert_eq!(receipt.status, 200);
    assert!(!receipt.text.contains("mona"), "{}", receipt.text);
}

#[tokio::test]
async fn who_joins_joins_the_same_person() {
    let world = world().await;
    let her = mona(&world);
    let (first, job) = world.concierge(1, "1", Some(&her)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let (second, _) = world.concierge(1, "2", Some(&her)).await;
    assert_eq!(second.str("task"), job.task);
    let guest = json!({"iss": "https://guests.example"});
    let earlier = json!({"auth_time": world.now() - 600});
    for other in [json!({"sub": "dora"}), guest, earlier] {
        let other_person = with(her.clone(), other.clone());
        let (reply, _) = world.concierge(1, "3", Some(&other_person)).await;
        assert_eq!(reply.rule(), "subject_other", "{other}: {}", reply.text);
    }
    let (alone, _) = world.concierge(1, "4", None).await;
    assert_eq!(alone.rule(), "subject_other");
    let (fresh, _) = world.concierge(2, "5", None).await;
    assert_eq!(fresh.rule(), "subject_missing");
}

#[tokio::test]
async fn a_task_ends_with_the_session_that_it_was_declared_for() {
    let world = world().await;
    let began = world.now() - 1500;
    let her = with(mona(&world), json!({"auth_time": began}));
    let (reply, _) = world.concierge(1, "1", Some(&her)).await;
    assert_eq!(reply.body["task_expires_at"], began + 3600);
}

/// The same by the provider's own word over the wire; and whose account is gone nobody acts for any
/// more, however new the authentication.
#[tokio::test]
async fn a_word_about_a_person_ends_what_agents_do_for_that_person() {
    let signals = r#"
[signals.idp]
issuer = "https://idp.example/events"
jwks = { file = "jwks.json" }
people = "staff"
push = { secret_file = "events.secret" }
"#;
    let world = World::declared(&format!("{}{signals}", untold())).await;
    let her = mona(&world);
    let dora = with(her.clone(), json!({"sub": "dora", "jti": unique()}));
    let job = world.assist(1, &her).await;
    let child = world.child(&job, &scope("artifacts")).await;
    let other = world.assist(2, &dora).await;
    let alone = world.job_of(5, 3, &[("resource", ARTIFACTS)]).await;
    world.hears(SESSION, "mona-4711").await;
    for over in [&job, &child] {
        assert_eq!(world.renew(over, &[]).await.rule(), "rights_removed");
    }
    assert!(!world.is_active(&child.token).await);
    assert_eq!(world.introspect("mail", &job.token).await["active"], false);
    assert!(world.is_active(&alone.token).await);
    assert_eq!(world.renew(&other, &[]).await.status, 200);
    let anew = with(
        her.clone(),
        json!({"auth_time": world.now() - 20, "jti": unique()}),
    );
    let judged = world.judged(5, &signed(&anew), TYPE_ID_TOKEN).await;
    assert_eq!(judged, "granted");

    world.hears(DISABLED, "dora").await;
    assert_eq!(world.renew(&other, &[]).await.rule(), "rights_removed");
    world.wait(60);
    let now = world.now();
    let anew = with(
        dora,
        json!({"auth_time": now - 5, "iat": now, "exp": now + 300, "jti": unique()}),
    );
    let judged = world.judged(5, &signed(&anew), TYPE_ID_TOKEN).await;
    assert_eq!(judged, "blocked");
    assert_eq!(world.app.sweep().await, 2);
    let leaves = world.leaves();
    let ended = leaves.iter().filter(|leaf| leaf["kind"] == "task.ended");
    let causes: Vec<&Value> = ended.map(|leaf| &leaf["data"]["cause"]).collect();
    assert_eq!(causes, ["upstream", "upstream"]);
}

#[tokio::test]
async fn the_end_of_a_session_ends_the_task_and_all_that_it_handed_on() {
    let world = World::declared(&untold()).await;
    let her = mona(&world);
    let job = world.assist(1, &her).await;
    let child = world.child(&job, &scope("artifacts")).await;
    let dora = with(her.clone(), json!({"sub": "dora", "jti": unique()}));
    let other = world.assist(2, &dora).await;
    let alone = world.job_of(5, 3, &[("resource", ARTIFACTS)]).await;
    assert!(world.is_active(&child.token).await);
    let subject = world.recorded(&job).subject.unwrap();
    world.session_over(subject.person, world.now() - 30).await;
    assert!(!world.is_active(&child.token).await);
    assert_eq!(world.introspect("queue", &job.token).await["active"], false);
    assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
    assert_eq!(world.renew(&child, &[]).await.rule(), "rights_removed");
    let late = world.handover(&job, Some(&new_key()), &scope("artifacts"));
    assert_eq!(world.come_in(&late, None, &[]).await.status, 400);
    assert!(world.is_active(&alone.token).await);
    let others = world.renew(&other, &[]).await;
    assert_eq!(others.status, 200, "{}", others.text);
    // What was authenticated before opens nothing any more, whatever agent shows it.
    let judged = world.judged(5, &signed(&her), TYPE_ID_TOKEN).await;
    assert_eq!(judged, "rights_removed");
    let untold = with(
        her.clone(),
        json!({"auth_time": null, "iat": world.now() - 40}),
    );
    let judged = world.judged(5, &signed(&untold), TYPE_ID_TOKEN).await;
    assert_eq!(
        judged, "rights_removed",
        "without `auth_time`, it is `iat` that counts"
    );
    let anew = with(her, json!({"auth_time": world.now() - 20}));
    assert_eq!(
        world.judged(5, &signed(&anew), TYPE_ID_TOKEN).await,
        "granted"
    );
    assert_eq!(world.app.sweep().await, 1);
    let leaves = world.leaves();
    let ended = leaves.iter().find(|leaf| leaf["kind"] == "task.ended");
    let ended = ended.unwrap();
    assert_eq!(ended["task"], job.task.as_str());
    assert_eq!(ended["data"]["cause"], "upstream");
}

#[tokio::test]
async fn who_stops_the_issuer_of_people_stops_what_runs_on_their_behalf() {
    for stop in [Stop::End, Stop::Block] {
        let world = world().await;
        let job = world.assist(1, &mona(&world)).await;
        let alone = world.job_of(5, 2, &[("resource", MAIL)]).await;
        let staff = Contained::Issuer("staff".parse().unwrap());
        let tenant = world.tenant();
        let done = world.app.stop(&tenant, &staff, &stop, &BY, "breach");
        done.await.unwrap();
        assert_eq!(world.introspect("mail", &job.token).await["active"], false);
        assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
        let other = world.renew(&alone, &[]).await;
        assert_eq!(other.status, 200, "{}", other.text);
        let again = world.judged(5, &signed(&mona(&world)), TYPE_ID_TOKEN).await;
        let wanted = if stop == Stop::End {
            "granted"
        } else {
            "blocked"
        };
        assert_eq!(again, wanted);
    }
}

/// The declared state of `acme` once it is no neighbour's: two tenants that accept one token are
/// refused when one of them changes.
fn of_acme(text: &str) -> String {
    text.replace("\"assistant\"", "\"acme-assistant\"")
        .replace("\"assistant-mobile\"", "\"acme-mobile\"")
}

fn of_acmes_client(person: Value) -> Value {
    with(person, json!({"aud": "acme-assistant", "azp": null}))
}

impl World {
    async fn redeclared(&self, text: &str) -> Result<u64, u64> {
        write_tenant(&self.folder.path().join("acme"), &of_acme(text));
        self.reapplied().await
    }

    async fn reapplied(&self) -> Result<u64, u64> {
        let tenant = self.tenant();
        let applied = self
            .app
            .apply(&tenant, ApplyRequest::default(), &BY, "a test");
        match applied.await {
            Ok(applied) => Ok(applied.revision),
            Err(ApplyError::Ends { open, .. }) => Err(open),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn policies_are_told_of_the_person_and_of_what_the_token_says() {
    let world = world().await;
    write_tenant(&world.folder.path().join("acme"), &of_acme(&declared()));
    world.write_policy(
        "people.cedar",
        r#"@id("support-only")
forbid (principal == Dayfly::Workload::"assistant", action, resource == Dayfly::Resource::"mail")
unless {
  context has subject && context.subject.issuer == "staff"
    && context.subject.hasTag("/groups/0") && context.subject.getTag("/groups/0") == "support"
    && context.subject.authenticated <= context.now
};
"#,
    );
    assert!(world.reapplied().await.is_ok());
    let her = of_acmes_client(mona(&world));
    let job = world.assist(1, &her).await;
    assert_eq!(
        world.renew_at(&job, MAIL).await.status,
        200,
        "by what is recorded of her"
    );
    let ask = async |person: &Value, run: u64| {
        let (key, proof) = (new_key(), signed(&claims(&world, 5, run)));
        let asking = Asking {
            person: &signed(person),
            kind: TYPE_ID_TOKEN,
            proof: &proof,
            key: &key,
        };
        world
            .on_behalf(&asking, &[("resource", MAIL)])
            .await
            .rule()
            .to_owned()
    };
    let elsewhere = with(her.clone(), json!({"groups": ["sales"]}));
    assert_eq!(ask(&elsewhere, 2).await, "policy_denied");
    // What the proof says is not taken for the person's.
    let own = signed(&with(
        claims(&world, 5, 3),
        json!({"groups": ["support"], "/groups/0": "support"}),
    ));
    let alone = world
        .ask(&own, Some(&new_key()), &[("resource", MAIL)])
        .await;
    assert_eq!(alone.rule(), "policy_denied");
    let child = world.child(&job, &scope("mail")).await;
    assert_eq!(payload(&child.token)["sub"], "mona-4711");
}

#[tokio::test]
async fn an_erased_person_is_named_by_nobody_any_more() {
    let (world, _) = World::in_memory_declared(&declared()).await;
    let job = world.assist(1, &mona(&world)).await;
    let child = world.child(&job, &scope("artifacts")).await;
    let find = || {
        let key = SearchKey::Subject("staff".parse().unwrap(), "mona-4711".to_owned());
        world.store.find(&acme(), &key, None, 10).unwrap().len()
    };
    assert!(
        find() > 0,
        "a trace by the person finds what ran on her behalf"
    );
    let leaves = world.leaves();
    let her = Erasure::Saying(
        [("iss", STAFF), ("sub", "mona-4711")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    );
    let tenant = world.tenant();
    let erase = async |dry| {
        let erased = world.app.erase(&tenant, her.clone(), dry, &BY, "asked");
        erased.await.unwrap()
    };
    let would = erase(true).await;
    assert_eq!((would.open_tasks, would.erased), (1, false));
    assert!(world.renew(&child, &[]).await.status == 200);
    let erased = erase(false).await;
    assert_eq!(erased.entries, would.entries);
    assert_eq!(find(), 0);
    assert_eq!(world.leaves()[..leaves.len()], leaves[..]);
    let subject = world.recorded(&job).subject.unwrap();
    assert_eq!((subject.iss, subject.sub), (None, None));
    // Nobody can be named and no policy asked: what is out runs out, and nothing follows it.
    for client in [&job, &child] {
        assert_eq!(world.renew(client, &[]).await.rule(), "policy_failed");
    }
    assert!(world.is_active(&child.token).await);
    assert_eq!(world.end(&job).await.status, 200);
}

#[tokio::test]
async fn the_person_asks_and_so_may_not_approve() {
    let world = World::declared(&format!("{TENANT}{PEOPLE}{CLERK}")).await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    let her = signed(&mona(&world));
    let asking = Asking {
        person: &her,
        kind: TYPE_ID_TOKEN,
        proof: &proof,
        key: &key,
    };
    let waits = world.on_behalf(&asking, &[("resource", MAIL)]).await;
    assert_eq!(waits.rule(), "approval_needed");
    let more = [("resource", MAIL), ("completion_mode", "deferred")];
    let asked = asked_of(
        key.clone(),
        proof.clone(),
        &world.on_behalf(&asking, &more).await,
    );
    let again = world.on_behalf(&asking, &more).await;
    assert_eq!(
        again.str("deferral_code"),
        asked.code,
        "the answer got lost"
    );
    let dora = signed(&with(mona(&world), json!({"sub": "dora"})));
    let other = Asking {
        person: &dora,
        ..asking
    };
    assert_eq!(world.on_behalf(&other, &more).await.rule(), "subject_other");
    let task = asked.task.parse().unwrap();
    let waiting = record::task_record(world.store.as_ref(), &acme(), task)
        .unwrap()
        .unwrap();
    assert_eq!(waiting.subject.unwrap().sub.as_deref(), Some("mona-4711"));
    assert_eq!(
        world.approve(&asked, "mona-4711").await.unwrap_err(),
        "own_request"
    );
    world.approve(&asked, "hugo").await.unwrap();
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert!(granted.body["issued_token_type"].is_string());
    let said = payload(granted.str("access_token"));
    assert_eq!(said["sub"], "mona-4711");
    assert_eq!(said["act"]["sub"], "workload:clerk");
    let job = Job::of(key, proof, &granted);
    assert_eq!(world.renew_at(&job, MAIL).await.status, 200);
    assert_eq!(
        person("mona-4711"),
        Actor::Person {
            iss: STAFF.to_owned(),
            sub: "mona-4711".to_owned()
        }
    );
}

#[tokio::test]
async fn what_people_approved_is_not_granted_once_the_session_is_over() {
    let world = World::declared(&format!("{TENANT}{PEOPLE}{CLERK}")).await;
    let (key, proof) = (new_key(), signed(&claims(&world, 7, 1)));
    let her = signed(&mona(&world));
    let asking = Asking {
        person: &her,
        kind: TYPE_ID_TOKEN,
        proof: &proof,
        key: &key,
    };
    let more = [("resource", MAIL), ("completion_mode", "deferred")];
    let asked = asked_of(
        key.clone(),
        proof.clone(),
        &world.on_behalf(&asking, &more).await,
    );
    world.approve(&asked, "hugo").await.unwrap();
    let task = asked.task.parse().unwrap();
    let waiting = record::task_record(world.store.as_ref(), &acme(), task)
        .unwrap()
        .unwrap();
    world
        .session_over(waiting.subject.unwrap().person, world.now())
        .await;
    assert_eq!(world.poll(&asked).await.rule(), "rights_removed");
}

#[tokio::test]
async fn a_new_state_is_judged_with_the_person_that_was_recorded() {
    let changes = [
        ("", "", Ok(())),
        ("\"acme-assistant\", ", "", Err(1)),
        ("\"acme-mobile\"", "\"acme-tablet\"", Ok(())),
        ("https://idp.example", "https://idp.example/", Err(1)),
        ("auth_age = \"30m\"", "auth_age = \"1m\"", Err(1)),
        ("auth_age = \"30m\"", "auth_age = \"3h\"", Ok(())),
        (
            "subject = { from = [\"staff\"] }",
            "subject = { from = [\"staff\"], session = \"1m\" }",
            Err(1),
        ),
        (
            "subject = { from = [\"staff\"] }",
            "subject = \"none\"",
            Err(1),
        ),
        (
            "subject = { from = [\"staff\"] }",
            "subject = { from = [\"guests\"] }",
            Err(1),
        ),
        (
            "subject = { from = [\"staff\"] }",
            "subject = { from = [\"staff\"], person = \"required\" }",
            Err(1),
        ),
        (
            "subject = { from = [\"staff\"] }",
            "subject = { from = [\"staff\", \"guests\"] }",
            Ok(()),
        ),
    ];
    for (from, to, wanted) in changes {
        let world = world().await;
        assert!(world.redeclared(&declared()).await.is_ok());
        let her = json!({"auth_time": world.now() - 130});
        let her = with(of_acmes_client(mona(&world)), her);
        world.assist(1, &her).await;
        world.job_of(5, 2, &[("resource", MAIL)]).await;
        let before = of_acme(&declared());
        assert!(before.contains(from));
        let done = world.redeclared(&before.replacen(from, to, 1)).await;
        assert_eq!(done.map(|_| ()), wanted, "{to}");
    }
    // The issuer is gone: what it vouched for goes with it.
    let world = world().await;
    world.assist(1, &mona(&world)).await;
    let (head, rest) = PEOPLE.split_once("[issuer.staff]").unwrap();
    let (_, rest) = rest.split_once("[issuer.guests]").unwrap();
    let without = format!("{TENANT}{head}[issuer.guests]{rest}")
        .replace("[\"staff\", \"guests\"]", "[\"guests\"]");
    let without = without.replace("[\"staff\"]", "[\"guests\"]");
    assert_eq!(world.redeclared(&without).await, Err(1));
}

#[tokio::test]
async fn a_workload_that_acts_for_nobody_any_more_renews_for_nobody() {
    let world = world().await;
    let job = world.assist(1, &mona(&world)).await;
    let alone = world.job_of(5, 2, &[("resource", MAIL)]).await;
    let text = declared().replacen("subject = { from = [\"staff\"] }", "subject = \"none\"", 1);
    write_tenant(&world.folder.path().join("acme"), &of_acme(&text));
    // One is agreed to; it would be ended by the sweep, but asks before that.
    let tenant = world.tenant();
    let agreed = ApplyRequest {
        ends: Some(1),
        ..ApplyRequest::default()
    };
    let applied = world.app.apply(&tenant, agreed, &BY, "nobody any more");
    assert!(applied.await.unwrap().applied);
    assert_ne!(world.renew(&job, &[]).await.status, 200);
    assert_eq!(world.renew(&alone, &[]).await.status, 200);
}

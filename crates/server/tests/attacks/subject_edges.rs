//! Where acting for a person could reach further than the person's token did: to other workloads, past its erasure, or without it.

use dayfly_server::app::{Actor, Erasure};
use serde_json::json;

use super::delegation::scope;
use super::job::{EXCHANGE, Job, TYPE_JWT, claims, new_key, payload, signed, with};
use super::subjects::{Asking, MAIL, STAFF, TYPE_ID_TOKEN, declared, mona};
use super::world::{ISSUER, World};

const BY: Actor = Actor::Local { uid: 7 };

const MORE: &str = r#"
[workload.lead]
owner   = "team"
kind    = "agent"
purpose = "hands work on to others"
match   = { issuer = "github", repository_id = "31" }
subject = { from = ["staff"] }
access  = [{ resource = "mail", type = "message", actions = ["read"], identifier = "inbox/*", scope = "mail" }]
delegation = { depth = 2, clients = 8, to = ["self", "reader"] }

[workload.reader]
owner   = "team"
kind    = "agent"
purpose = "reads what it is handed"
match   = { issuer = "github", repository_id = "32" }
subject = { from = ["staff"] }
access  = [{ resource = "mail", type = "message", actions = ["read"], identifier = "inbox/*", scope = "mail" }]

[workload.keyless]
owner   = "team"
kind    = "agent"
purpose = "acts for people without a key"
match   = { issuer = "github", repository_id = "33" }
task    = "run"
repeat  = "join"
subject = { from = ["staff"] }
token   = { binding = "optional" }
access  = [{ resource = "mail", type = "message", actions = ["read"], identifier = "inbox/*", scope = "mail" }]
"#;

async fn world() -> World {
    World::declared(&format!("{}{MORE}", declared())).await
}

impl World {
    async fn forget(&self, sub: &str) -> u64 {
        let her = [("iss", STAFF), ("sub", sub)];
        let her = her.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let tenant = self.tenant();
        let what = Erasure::Saying(her.into());
        let erased = self.app.erase(&tenant, what, false, &BY, "asked").await;
        erased.unwrap().entries
    }
}

#[tokio::test]
async fn whom_a_person_lets_act_hands_on_to_nobody_else() {
    let world = world().await;
    let lead = json!({"iss": ISSUER, "sub": "workload:lead"});
    for (run, may_act, wanted) in [(1, lead, "actor"), (2, json!(null), "")] {
        let (key, proof) = (new_key(), signed(&claims(&world, 31, run)));
        let her = signed(&with(mona(&world), json!({ "may_act": may_act })));
        let asking = Asking {
            person: &her,
            kind: TYPE_ID_TOKEN,
            proof: &proof,
            key: &key,
        };
        let reply = world.on_behalf(&asking, &[("resource", MAIL)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let job = Job::of(key, proof, &reply);
        // Its own helpers are itself.
        world.child(&job, &scope("mail")).await;
        let child = new_key();
        let handover = world.handover(&job, Some(&child), &scope("mail"));
        let actor = signed(&claims(&world, 32, run));
        let more = [
            ("actor_token", actor.as_str()),
            ("actor_token_type", TYPE_JWT),
        ];
        let reply = world.come_in(&handover, Some(&child), &more).await;
        assert_eq!(reply.rule(), wanted, "{}", reply.text);
        assert_eq!(world.end(&job).await.status, 200);
    }
}

#[tokio::test]
async fn who_renews_without_a_key_acts_on_for_the_same_person_and_shows_no_token_of_it() {
    let world = world().await;
    let her = signed(&mona(&world));
    let proof = |job: &str| {
        let own = json!({ "check_run_id": job });
        signed(&with(claims(&world, 33, 1), own))
    };
    let first = proof("1");
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", her.as_str()),
        ("subject_token_type", TYPE_ID_TOKEN),
        ("actor_token", first.as_str()),
        ("actor_token_type", TYPE_JWT),
        ("resource", MAIL),
    ];
    let opened = world.form("/token", &form, &[]).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let at_mail = [("resource", MAIL)];
    let renewed = world.ask(&proof("1"), None, &at_mail).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    assert_eq!(renewed.str("client_id"), opened.str("client_id"));
    assert_eq!(payload(renewed.str("access_token"))["sub"], "mona-4711");
    // Whoever is not that very client shows the person, or is nobody.
    for (job, key) in [("2", None), ("1", Some(new_key()))] {
        let reply = world.ask(&proof(job), key.as_deref(), &at_mail).await;
        assert_eq!(reply.rule(), "subject_other", "{}", reply.text);
    }
    assert!(world.forget("mona-4711").await > 0);
    let late = world.ask(&proof("1"), None, &at_mail).await;
    assert_eq!(late.rule(), "policy_failed", "{}", late.text);
}

#[tokio::test]
async fn an_erased_person_comes_back_into_no_task_by_a_token_that_is_still_good() {
    let world = world().await;
    let her = mona(&world);
    let job = world.assist(1, &her).await;
    let (joined, _) = world.concierge(1, "1", Some(&her)).await;
    assert_eq!(joined.status, 200, "{}", joined.text);
    let person = signed(&her);
    let asking = Asking {
        person: &person,
        kind: TYPE_ID_TOKEN,
        proof: &job.proof,
        key: &job.key,
    };
    let again = world.on_behalf(&asking, &[("resource", MAIL)]).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert!(world.forget("mona-4711").await > 0);
    let retried = world.on_behalf(&asking, &[("resource", MAIL)]).await;
    assert_eq!(retried.rule(), "policy_failed", "{}", retried.text);
    let (joins, _) = world.concierge(1, "2", Some(&her)).await;
    assert_eq!(joins.rule(), "policy_failed", "{}", joins.text);
}

#[tokio::test]
async fn an_erasure_finds_what_refusals_say_of_a_person() {
    let world = world().await;
    let (first, _) = world.concierge(1, "1", Some(&mona(&world))).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let dora = with(mona(&world), json!({"sub": "dora"}));
    let (refused, _) = world.concierge(1, "2", Some(&dora)).await;
    assert_eq!(refused.rule(), "subject_other");
    let id = refused.str("refusal").parse().unwrap();
    let named = world.app.why(id).unwrap().trail.subject.clone().unwrap();
    assert_eq!((named.iss.as_str(), named.sub.as_str()), (STAFF, "dora"));
    // The leaf of a refusal is written without waiting for it; this append stands behind it.
    world.concierge(2, "3", Some(&mona(&world))).await;
    assert_eq!(world.forget("dora").await, 1);
    assert!(world.app.why(id).is_none());
}

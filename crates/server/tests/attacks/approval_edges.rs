//! Around an approval: who joins, who asks again, who is asked for later, what a denial tells, and what an erasure leaves.

use dayfly_server::app::Erasure;
use dayfly_server::record::{Standing, task_record};
use dayfly_store::{EntryRange, Fault, Store};
use dayfly_token::b64;
use dayfly_token::hash::sha256_of_parts;
use serde_json::{Value, json};

use super::approval::{APPROVALS, Asked, asked_of, person, waits, world};
use super::job::{claims, new_key, signed, with};
use super::signals::{DISABLED, OPERATORS};
use super::world::{ARTIFACTS, QUEUE, TENANT, World, acme};

const HOTFIX: &str = "@id(\"hotfix\") @approval(\"10m\")\nforbid (principal == Dayfly::Workload::\"matrix\", action == Dayfly::Action::\"start\", resource)\nunless { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"refs/heads/main\" };";
const TWO: &str = "@id(\"two\") @approval(\"10m\") @people(\"2\")\nforbid (principal == Dayfly::Workload::\"deploy\", action == Dayfly::Action::\"start\", resource);";

/// Another job of the first run of the workload that admits further ones.
async fn joins(world: &World, job: u64, of_ref: &str) -> super::world::Reply {
    let named = json!({"check_run_id": job.to_string(), "ref": of_ref});
    let proof = signed(&with(claims(world, 2, 1), named));
    world.defer(&proof, Some(&new_key())).await
}

#[tokio::test]
async fn who_joins_is_asked_about_as_who_starts_is() {
    let world = world().await;
    world.write_policy("ask.cedar", HOTFIX);
    world.applied().await;
    let first = world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
    let refused = joins(&world, 2, "refs/heads/hotfix").await;
    assert_eq!(refused.refusal(), (400, "access_denied", "approval_needed"));
    assert_eq!(refused.body["refused"]["field"], "task");
    let why = refused.str("refusal").parse().unwrap();
    let why = world.app.why(why).unwrap();
    assert!(why.hint.contains("`hotfix`"), "{}", why.hint);
    let joined = joins(&world, 3, "refs/heads/main").await;
    assert_eq!(joined.status, 200, "{}", joined.text);
    assert_eq!(joined.str("task"), first.task);
    let entries = world.store.entries(&acme(), EntryRange::From(0), 1000);
    let entries = entries.unwrap();
    let joiner = entries
        .iter()
        .rfind(|entry| entry.leaf.contains("client.registered"));
    let annex = &joiner.unwrap().annex.as_ref().unwrap().data;
    let annex: Value = serde_json::from_str(annex).unwrap();
    assert_eq!(annex["claims"]["check_run_id"], "3");
    assert_eq!(annex["policy"]["decisions"][0]["action"], "start");
    world.write_policy("ask.cedar", &HOTFIX.replace(" @approval(\"10m\")", ""));
    world.applied().await;
    let denied = joins(&world, 4, "refs/heads/hotfix").await;
    assert_eq!(denied.rule(), "policy_denied", "{}", denied.text);
    assert_eq!(world.count("client.registered", &first.task), 2);
}

#[tokio::test]
async fn where_more_people_are_wanted_by_now_what_was_approved_is_not_granted() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    let short = async || {
        world.wait(5);
        let reply = world.poll(&asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "approval_short"));
        assert_eq!(world.grants(), 0);
        let why = world.app.why(reply.str("refusal").parse().unwrap());
        why.unwrap().hint.clone()
    };
    let one = "repository_id = \"7\" }\napproval = { by = \"owner\", within = \"30m\" }";
    let two = one.replace("\"30m\"", "\"30m\", people = 2");
    world.rewrite(one, &two);
    world.applied().await;
    short().await;
    world.rewrite(&two, one);
    world.write_policy("two.cedar", TWO);
    world.applied().await;
    let hint = short().await;
    assert!(hint.contains("`two`"), "{hint}");
    // One is enough where one is wanted, whoever else wants it.
    world.write_policy("two.cedar", &TWO.replace(" @people(\"2\")", ""));
    world.applied().await;
    world.wait(5);
    let reply = world.poll(&asked).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let start = world.annex_of("task.started", &asked.task);
    assert_eq!(start["policy"]["facts"]["approvals"], 1);
}

#[tokio::test]
async fn who_asks_again_and_cannot_wait_gets_no_code() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    for approved in [false, true] {
        if approved {
            world.approve(&asked, "mona").await.unwrap();
        }
        let again = [("resource", ARTIFACTS)];
        let reply = world.ask(&asked.proof, Some(&asked.key), &again).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "approval_needed"));
        assert!(reply.body.get("deferral_code").is_none(), "{}", reply.text);
        let why = world.app.why(reply.str("refusal").parse().unwrap());
        let hint = why.unwrap().hint.clone();
        assert!(hint.contains("completion_mode=deferred"), "{hint}");
        let reply = world.defer(&asked.proof, Some(&asked.key)).await;
        assert_eq!(reply.str("deferral_code"), asked.code);
    }
}

#[tokio::test]
async fn a_cancellation_that_cannot_be_looked_up_is_not_said_to_be_done() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.store.fail_facts(true);
    let reply = world.cancel(&asked.code, Some(&asked.key)).await;
    assert_eq!(
        reply.refusal(),
        (503, "temporarily_unavailable", "unavailable")
    );
    world.store.fail_facts(false);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    let reply = world.cancel(&asked.code, Some(&asked.key)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(world.poll(&asked).await.rule(), "approval_denied");
}

#[tokio::test]
async fn a_code_that_was_never_made_is_refused_before_anything_is_read() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let other = world.asked(7, 2).await;
    world.deny(&other).await.unwrap();
    let reads = || world.store.facts_read() + world.store.reads();
    for real in [&asked, &other] {
        // `dfr_`, the task and an underscore; the secret may hold more of these.
        let (head, secret) = real.code.split_at("dfr_".len() + 26);
        let secret = secret.strip_prefix('_').unwrap();
        let turned: String = secret.chars().rev().collect();
        let before = reads();
        let made_up = format!("{head}_{turned}");
        let reply = world.poll_with(&made_up, Some(&real.key), &[]).await;
        assert_eq!(reply.refusal(), (400, "invalid_grant", "deferral_code"));
        assert_eq!(reads(), before, "the task was looked for");
        world.poll(real).await;
        assert!(reads() > before);
    }
}

/// Who and why, as `dayfly trace` and `dayfly task show` tell it.
fn told(world: &World, asked: &Asked) -> (Option<String>, Option<String>) {
    let task = asked.task.parse().unwrap();
    let view = task_record(world.store.as_ref(), &acme(), task);
    let Standing::Ended { note, .. } = view.unwrap().unwrap().standing else {
        panic!("it has ended");
    };
    (note.by, note.reason)
}

#[tokio::test]
async fn a_denial_says_who_and_why_wherever_its_end_is_shown() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.deny(&asked).await.unwrap();
    let (by, reason) = told(&world, &asked);
    assert!(by.unwrap().contains("otto"));
    assert_eq!(reason.as_deref(), Some("no"));
    for kind in ["task.denied", "task.ended"] {
        let annex = world.annex_of(kind, &asked.task);
        assert_eq!(
            (&annex["by"]["sub"], &annex["reason"]),
            (&json!("otto"), &json!("no"))
        );
    }
}

#[tokio::test]
async fn a_denial_that_waits_for_the_ledger_keeps_its_reason() {
    let (world, store) = World::in_memory_declared(&format!("{TENANT}{APPROVALS}")).await;
    let asked = world.asked(7, 1).await;
    store.fail([Fault::BeforeWrite]);
    world.deny(&asked).await.unwrap();
    assert_eq!(world.poll(&asked).await.rule(), "approval_denied");
    assert_eq!(world.count("task.ended", &asked.task), 0);
    world.app.sweep().await;
    assert_eq!(world.count("task.ended", &asked.task), 1);
    let (by, reason) = told(&world, &asked);
    assert!(by.unwrap().contains("otto"));
    assert_eq!(reason.as_deref(), Some("no"));
}

/// The persons of the approvals of a task, as the leaves have them.
fn approvers(world: &World, asked: &Asked) -> Vec<String> {
    let of = |leaf: &Value| leaf["kind"] == "task.approved" && leaf["task"] == asked.task;
    let leaves = world.leaves().into_iter().filter(of);
    leaves
        .map(|leaf| leaf["data"]["by"].as_str().unwrap().to_owned())
        .collect()
}

/// Everything in an annex that may be a salt.
fn salts(value: &Value, found: &mut Vec<[u8; 16]>) {
    match value {
        Value::String(text) => found.extend(b64::decode_array::<16>(text).ok()),
        Value::Array(items) => items.iter().for_each(|item| salts(item, found)),
        Value::Object(members) => members.values().for_each(|item| salts(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Which of these people stand under these hashes, for whoever has every annex that is left.
fn guessed(world: &World, hashes: &[String]) -> Vec<&'static str> {
    let mut known = Vec::new();
    let entries = world.store.entries(&acme(), EntryRange::From(0), 1000);
    let entries = entries.unwrap();
    for annex in entries.iter().filter_map(|entry| entry.annex.as_ref()) {
        salts(&serde_json::from_str(&annex.data).unwrap(), &mut known);
        known.push(annex.salt);
    }
    let iss = "https://idp.example";
    let length = (iss.len() as u64).to_be_bytes();
    let stands = |sub: &&str| {
        known.iter().any(|salt| {
            let hash = sha256_of_parts(&[salt, &length, iss.as_bytes(), sub.as_bytes()]);
            hashes.contains(&b64::encode(hash))
        })
    };
    ["mona", "hugo", "anna"]
        .into_iter()
        .filter(stands)
        .collect()
}

async fn erase(world: &World, sub: &str) {
    let all = Erasure::Saying([("sub".to_owned(), sub.to_owned())].into());
    let by = person("otto");
    let tenant = world.tenant();
    let erased = world.app.erase(&tenant, all, false, &by, "asked");
    assert!(erased.await.unwrap().entries > 0);
}

#[tokio::test]
async fn whoever_approved_and_is_erased_cannot_be_guessed_by_what_is_left() {
    let world = world().await;
    let asked = world.asked(8, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    world.approve(&asked, "hugo").await.unwrap();
    let hashes = approvers(&world, &asked);
    assert_eq!(hashes.len(), 2);
    assert_eq!(guessed(&world, &hashes), ["mona", "hugo"]);
    erase(&world, "mona").await;
    assert_eq!(guessed(&world, &hashes), ["hugo"]);
    erase(&world, "hugo").await;
    assert!(guessed(&world, &hashes).is_empty());
    // What they approved is not theirs: it is granted.
    assert_eq!(world.poll(&asked).await.status, 200);
}

#[tokio::test]
async fn where_an_approver_was_erased_nobody_can_be_told_apart_from_them() {
    let world = world().await;
    let asked = world.asked(8, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    erase(&world, "mona").await;
    for who in ["mona", "hugo"] {
        let refused = world.approve(&asked, who).await.unwrap_err();
        assert_eq!(refused, "policy_failed");
    }
    world.deny(&asked).await.unwrap();
    assert_eq!(world.grants(), 0);
}

#[tokio::test]
async fn an_approver_who_was_erased_cannot_be_found_to_be_gone() {
    let world = World::declared(&format!("{TENANT}{APPROVALS}{OPERATORS}")).await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    erase(&world, "mona").await;
    world.hears(DISABLED, "mona").await;
    assert_eq!(world.poll(&asked).await.status, 200);
}

/// A workload whose whole access fits into an entry and not into a token.
fn bulky() -> String {
    let detail = |n: u32| {
        let long = "x".repeat(150);
        format!(
            "  {{ resource = \"artifacts\", type = \"artifact\", actions = [\"read\"], identifier = \"octo/{long}{n}/*\" }},\n"
        )
    };
    let details: String = (0..18).map(detail).collect();
    format!(
        "\n[workload.bulky]\nowner = \"team\"\nkind = \"ci\"\npurpose = \"much at once\"\nmatch = {{ issuer = \"github\", repository_id = \"10\" }}\napproval = {{ by = \"owner\", within = \"30m\" }}\naccess = [\n{details}]\n"
    )
}

#[tokio::test]
async fn what_would_be_too_large_is_refused_before_people_are_asked() {
    let world = World::declared(&format!("{TENANT}{APPROVALS}{}", bulky())).await;
    let size = world.size();
    let proof = signed(&claims(&world, 10, 1));
    let reply = world.defer(&proof, Some(&new_key())).await;
    assert_eq!(reply.rule(), "too_large", "{}", reply.text);
    assert!(
        world
            .leaves()
            .iter()
            .all(|leaf| leaf["kind"] != "task.requested")
    );
    assert!(world.size() <= size + 1, "at most the refusal");
}

/// Workloads of repositories 100 and on, each with a little more access, around what a leaf holds.
fn growing() -> (String, u64) {
    let detail = |long: usize| {
        let long = "x".repeat(long);
        format!(
            "  {{ resource = \"artifacts\", type = \"artifact\", actions = [\"read\"], identifier = \"octo/{long}/*\" }},\n"
        )
    };
    let workload = |n: u64| {
        let base: String = (0..24).map(|k| detail(150 + k)).collect();
        let more = detail(usize::try_from(n * 25 + 1).unwrap());
        format!(
            "\n[workload.grows-{n}]\nowner = \"team\"\nkind = \"ci\"\npurpose = \"much at once\"\nmatch = {{ issuer = \"github\", repository_id = \"{}\" }}\napproval = {{ by = \"owner\", within = \"30m\" }}\naccess = [\n{base}{more}  {{ resource = \"queue\", type = \"message\", actions = [\"read\"], identifier = \"jobs/*\" }},\n]\n",
            100 + n
        )
    };
    const STEPS: u64 = 40;
    ((0..STEPS).map(workload).collect(), STEPS)
}

/// The first credential is small and what the client may have is not: a leaf is what is too small.
/// Whatever is asked about is granted once it is approved.
#[tokio::test]
async fn what_fits_when_it_is_asked_for_fits_when_it_is_granted() {
    let (workloads, steps) = growing();
    let world = World::declared(&format!("{TENANT}{APPROVALS}{workloads}")).await;
    let (mut granted, mut refused) = (0, 0);
    for n in 0..steps {
        let (key, proof) = (new_key(), signed(&claims(&world, 100 + n, 1)));
        let more = [("resource", QUEUE), ("completion_mode", "deferred")];
        let reply = world.ask(&proof, Some(&key), &more).await;
        if reply.rule() == "too_large" {
            refused += 1;
            continue;
        }
        let asked = asked_of(key, proof, &reply);
        world.approve(&asked, "mona").await.unwrap();
        let reply = world.poll(&asked).await;
        assert_eq!(reply.status, 200, "{n}: {}", reply.text);
        granted += 1;
    }
    assert!(
        granted > 0 && refused > 0,
        "{granted} granted, {refused} refused"
    );
    let sizes = world
        .leaves()
        .into_iter()
        .map(|leaf| leaf.to_string().len());
    assert!(sizes.max() > Some(8000), "none came near the bound");
}

/// How much of a workload may be open is judged again when what was approved is fetched; how many
/// may start within an hour is not, for it was a start when it asked.
#[tokio::test]
async fn lowered_limits_keep_what_was_approved_waiting_until_there_is_room() {
    let purpose = "purpose = \"deploy what was released\"";
    let limited = |limits: &str| format!("{purpose}\nlimits = {{ {limits} }}");
    let world = world().await;
    let (first, second) = (world.asked(7, 1).await, world.asked(7, 2).await);
    for asked in [&first, &second] {
        world.approve(asked, "mona").await.unwrap();
    }
    world.rewrite(purpose, &limited("open = 1, starts_per_hour = 1"));
    world.applied().await;
    for asked in [&first, &second] {
        let reply = world.poll(asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "open_limit"));
    }
    assert_eq!(world.grants(), 0);
    // The other one gives way: then there is room for this one, and no start is counted again.
    world.cancel(&second.code, Some(&second.key)).await;
    world.wait(5);
    let reply = world.poll(&first).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // A third would be one start too many.
    let end = super::job::Job::of(first.key.clone(), first.proof.clone(), &reply);
    assert_eq!(world.end(&end).await.status, 200);
    let proof = signed(&claims(&world, 7, 3));
    let reply = world.defer(&proof, Some(&new_key())).await;
    assert_eq!(reply.rule(), "starts_limit", "{}", reply.text);
}

/// An issuer that is declared no more vouches for nothing, whatever people have approved.
#[tokio::test]
async fn what_an_issuer_vouched_for_that_was_removed_is_not_granted() {
    let elsewhere = r#"
[issuer.enterprise]
kind = "github"
url  = "https://git.example/_services/token"
jwks = { file = "jwks.json" }

[workload.abroad]
owner   = "team"
kind    = "ci"
purpose = "deploys from elsewhere"
match   = { issuer = "enterprise", repository_id = "7" }
approval = { by = "owner", within = "30m" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]
"#;
    let declared = format!("{TENANT}{APPROVALS}{elsewhere}");
    let world = World::declared(&declared).await;
    let vouched = json!({"iss": "https://git.example/_services/token"});
    let (key, proof) = (new_key(), signed(&with(claims(&world, 7, 1), vouched)));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked = asked_of(key, proof, &reply);
    world.approve(&asked, "mona").await.unwrap();
    world.rewrite(elsewhere, "");
    let by = dayfly_server::app::Actor::Local { uid: 7 };
    let request = dayfly_server::app::ApplyRequest {
        ends: Some(1),
        ..dayfly_server::app::ApplyRequest::default()
    };
    world.rewrite("\"dayfly-tasks\"", "\"acme-tasks\"");
    let applied = world.app.apply(&world.tenant(), request, &by, "gone").await;
    assert!(applied.unwrap().applied);
    let reply = world.poll(&asked).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert_eq!(reply.body["error"], "access_denied", "{}", reply.text);
    assert_eq!(world.grants(), 0);
    world.app.sweep().await;
    assert_eq!(world.poll(&asked).await.status, 400);
    assert_eq!(world.grants(), 0);
}

/// Who waits has a key, whoever it is that people are asked by: the workload or a policy.
#[tokio::test]
async fn who_waits_by_a_policy_has_a_key() {
    let world = world().await;
    let asks = HOTFIX.replace("\"matrix\"", "\"legacy\"");
    world.write_policy("ask.cedar", &asks);
    world.applied().await;
    let hotfix = json!({"ref": "refs/heads/hotfix"});
    let proof = signed(&with(claims(&world, 3, 1), hotfix));
    let size = world.size();
    let reply = world.defer(&proof, None).await;
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop_missing"));
    let recorded = |leaf: &Value| leaf["kind"].as_str().unwrap().starts_with("task.");
    let mut new = world.leaves().into_iter().skip(size as usize);
    assert!(!new.any(|leaf| recorded(&leaf)));
    // Nothing was spent: with a key it waits, and who is not asked about needs none.
    let key = new_key();
    let reply = world.defer(&proof, Some(&key)).await;
    asked_of(key, proof, &reply);
    let proof = signed(&with(
        claims(&world, 3, 2),
        json!({"ref": "refs/heads/main"}),
    ));
    assert_eq!(world.defer(&proof, None).await.status, 200);
}

//! What a trace follows from its key: to older and newer attempts, to what was opened again, and from a platform's token to what came in by it.

use dayfly_server::record::{Relation, Trace, Word};
use dayfly_token::hash::sha256;
use serde_json::json;

use super::approval::{APPROVALS, asked_of};
use super::delegation::scope;
use super::job::{Job, TYPE_JWT, claims, new_key, signed, with};
use super::silence::sweep_for;
use super::webhooks::HELPERS;
use super::world::{ARTIFACTS, TENANT, World};

/// What a trace says of other tasks, by their ids.
fn related(trace: &Trace) -> Vec<(String, Relation)> {
    let found = trace.related.iter();
    found
        .map(|other| (other.task.to_string(), other.how))
        .collect()
}

/// A platform's token as `dayfly trace -` names it.
pub(crate) fn by_token(token: &str) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    let hash = dayfly_domain::Digest(sha256(signed.as_bytes()));
    format!("token:{hash}")
}

#[tokio::test]
async fn an_attempt_is_followed_to_those_before_and_after_it() {
    let (world, _store) = World::in_memory().await;
    let (one, two) = (
        world.granted_at(7, 1, 70).await,
        world.granted_at(7, 1, 71).await,
    );
    let other = world.granted_at(8, 1, 70).await;
    let newer = world.granted_at(7, 2, 70).await;
    let newest = world.granted_at(7, 3, 70).await;
    let trace = world.traced(&newer.task);
    assert_eq!(trace.verdict.word, Word::Gone);
    let found = related(&trace);
    let wanted = [
        (one.task.clone(), Relation::SupersededBy),
        (two.task.clone(), Relation::SupersededBy),
        (newest.task.clone(), Relation::Superseded),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(
        wanted.iter().all(|other| found.contains(other)),
        "{found:?}"
    );
    // The verdict is on the key alone: that a newer attempt lives says nothing of this one.
    let trace = world.traced(&one.task);
    assert_eq!(trace.verdict.word, Word::Gone);
    assert_eq!(
        related(&trace),
        [(newer.task.clone(), Relation::Superseded)]
    );
    assert_eq!(world.traced(&newest.task).verdict.word, Word::Live);
    assert!(world.traced(&other.task).related.is_empty());
}

/// Whoever waits for people has ended the older attempt when it asked, and not when it started.
#[tokio::test]
async fn an_attempt_that_waited_for_people_is_followed_too() {
    let (world, _store) = World::in_memory_declared(&format!("{TENANT}{APPROVALS}")).await;
    let ask = async |attempt: u64| {
        let named = json!({"run_attempt": attempt.to_string()});
        let (key, proof) = (new_key(), signed(&with(claims(&world, 7, 1), named)));
        let reply = world.defer(&proof, Some(&key)).await;
        asked_of(key, proof, &reply)
    };
    let first = ask(1).await;
    world.approve(&first, "mona").await.unwrap();
    assert_eq!(world.poll(&first).await.status, 200);
    let second = ask(2).await;
    let superseded = [(second.task.clone(), Relation::Superseded)];
    assert_eq!(related(&world.traced(&first.task)), superseded);
    assert_eq!(world.traced(&second.task).verdict.word, Word::Pending);
    let by = [(first.task.clone(), Relation::SupersededBy)];
    assert_eq!(related(&world.traced(&second.task)), by);
    // The same, and said once, when it has started.
    world.approve(&second, "mona").await.unwrap();
    assert_eq!(world.poll(&second).await.status, 200);
    assert_eq!(related(&world.traced(&first.task)), superseded);
    assert_eq!(related(&world.traced(&second.task)), by);
}

#[tokio::test]
async fn a_run_that_opened_again_is_followed_both_ways() {
    let reopens = TENANT.replacen(
        "purpose = \"publish\"",
        "purpose = \"publish\"\nreopen = true",
        1,
    );
    let (world, _store) = World::in_memory_declared(&reopens).await;
    let first = world.job(7).await;
    assert_eq!(world.beat(&first).await.status, 200);
    world.app.sweep().await;
    sweep_for(&world, 310).await;
    let again = world.job(7).await;
    assert_ne!(first.task, again.task);
    let trace = world.traced(&first.task);
    assert_eq!(world.why_gone(&first.task), "heartbeat");
    assert_eq!(related(&trace), [(again.task.clone(), Relation::Reopened)]);
    let trace = world.traced(&again.task);
    assert_eq!(
        related(&trace),
        [(first.task.clone(), Relation::ReopenedBy)]
    );
}

/// A run of very many attempts is looked at so far and no further, and that is said.
#[tokio::test]
async fn of_many_attempts_the_newest_are_looked_at() {
    let (world, _store) = World::in_memory().await;
    let first = world.granted_at(7, 1, 70).await;
    let second = world.granted_at(7, 2, 70).await;
    for attempt in 3..=64 {
        world.granted_at(7, attempt, 70).await;
    }
    let said = "there are more tasks of the same runs than were looked at";
    let trace = world.traced(&first.task);
    assert_eq!(
        related(&trace),
        [(second.task.clone(), Relation::Superseded)]
    );
    assert!(!trace.notes.iter().any(|note| note == said));
    world.granted_at(7, 65, 70).await;
    world.granted_at(7, 66, 70).await;
    let trace = world.traced(&first.task);
    assert!(trace.related.is_empty(), "it lies behind the bound");
    assert!(trace.notes.iter().any(|note| note == said));
}

#[tokio::test]
async fn a_platforms_token_leads_to_what_came_in_by_it() {
    let (world, _store) = World::in_memory_declared(&(super::webhooks::declared() + HELPERS)).await;
    let job = world.job(1).await;
    let key = by_token(&job.proof);
    let trace = world.traced(&key);
    assert_eq!(trace.verdict.word, Word::Live);
    assert_eq!(trace.tasks[0].task.to_string(), job.task);
    assert!(
        trace.read_as[0].starts_with("proof "),
        "{:?}",
        trace.read_as
    );
    // A token that nobody came in by, and the own token that was issued for it, are told apart.
    let unused = by_token(&signed(&claims(&world, 1, 2)));
    let unknown = world.traced(&unused).verdict;
    assert_eq!(unknown.word, Word::Unknown);
    assert!(
        unknown.line.contains("none came in by it"),
        "{}",
        unknown.line
    );
    let own = world.traced(&by_token(&job.token));
    assert_eq!(
        own.credential.unwrap().hash.to_string(),
        by_token(&job.token)[6..]
    );
    // It leads there after the end as well.
    world.end(&job).await;
    let gone = world.traced(&key);
    assert_eq!((gone.verdict.word, gone.tasks.len()), (Word::Gone, 1));
    assert_eq!(world.why_gone(&key), "completed");
    // The token of a job that was handed a part leads to the task that it came into.
    let root = world.handing_job().await;
    let handover = world.handover(&root, Some(&root.key), &scope("artifacts:read"));
    let child_key = new_key();
    let given = world.handover(&root, Some(&child_key), &scope("artifacts:read"));
    let actor = signed(&with(
        claims(&world, 11, 7),
        json!({ "check_run_id": "71" }),
    ));
    let more = [
        ("actor_token", actor.as_str()),
        ("actor_token_type", TYPE_JWT),
        ("client_id", "scan"),
    ];
    let reply = world.come_in(&given, Some(&child_key), &more).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let child = world.traced(&by_token(&actor));
    assert_eq!(child.tasks[0].task.to_string(), root.task);
    assert_eq!(
        world.traced(&by_token(&handover)).verdict.word,
        Word::Unknown
    );
}

/// One that waits for people is found by the token that asked, before it has any client.
#[tokio::test]
async fn a_token_leads_to_what_waits_for_people() {
    let (world, _store) = World::in_memory_declared(&format!("{TENANT}{APPROVALS}")).await;
    let asked = world.asked(7, 1).await;
    let key = by_token(&asked.proof);
    let trace = world.traced(&key);
    assert_eq!(trace.verdict.word, Word::Pending, "{}", trace.verdict.line);
    assert_eq!(trace.tasks[0].task.to_string(), asked.task);
    world.deny(&asked).await.unwrap();
    assert_eq!(world.why_gone(&key), "denied: no");
}

impl World {
    async fn granted_at(&self, run: u64, attempt: u64, job: u64) -> Job {
        let named = json!({
            "run_attempt": attempt.to_string(), "check_run_id": job.to_string(),
        });
        let (key, proof) = (new_key(), signed(&with(claims(self, 1, run), named)));
        let reply = self
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }
}

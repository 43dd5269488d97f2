//! Jobs of one run that share its task: joining, handing off, superseding, lingering and opening again.

use std::sync::Arc;

use dayfly_server::app::{Actor, ApplyRequest, Contained, Stop};
use serde_json::{Value, json};

use super::job::{Job, claims, new_key, signed, with};
use super::world::{ARTIFACTS, Reply, TENANT, World, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };

/// A run whose jobs join, with two minutes between one job and the next, and one that may open again.
fn declared() -> String {
    let run = |name: &str, repository: u64, more: &str| {
        format!(
            r#"
[workload.{name}]
owner   = "team"
kind    = "ci"
purpose = "jobs of one run"
match   = {{ issuer = "github", repository_id = "{repository}" }}
task    = "run"
repeat  = "join"
window  = "1h"
{more}
access  = [ {{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }} ]
"#
        )
    };
    let pipeline = run("pipeline", 7, "linger  = \"2m\"");
    let again = run(
        "again",
        8,
        "reopen = true\nheartbeat = { mode = \"required\", every = \"30s\", grace = \"5m\" }",
    );
    format!("{TENANT}{pipeline}{again}")
}

/// A job of a run and attempt.
#[derive(Clone, Copy)]
struct At {
    repository: u64,
    run: u64,
    attempt: u64,
    job: u64,
}

impl At {
    const fn job(self, job: u64) -> Self {
        Self { job, ..self }
    }

    const fn attempt(self, attempt: u64) -> Self {
        Self { attempt, ..self }
    }
}

const RUN: At = At {
    repository: 7,
    run: 70,
    attempt: 1,
    job: 1,
};

impl World {
    async fn ask_at(&self, at: At) -> (Job, Reply) {
        let of_job = json!({
            "run_attempt": at.attempt.to_string(), "check_run_id": at.job.to_string(),
        });
        let proof = signed(&with(claims(self, at.repository, at.run), of_job));
        let key = new_key();
        let resource = [("resource", ARTIFACTS)];
        let reply = self.ask(&proof, Some(&key), &resource).await;
        let job = if reply.status == 200 {
            Job::of(key, proof, &reply)
        } else {
            Job {
                key,
                proof,
                task: String::new(),
                client: String::new(),
                token: String::new(),
            }
        };
        (job, reply)
    }

    async fn comes_in(&self, at: At) -> (Job, u64) {
        let (job, reply) = self.ask_at(at).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        (job, reply.body["task_expires_at"].as_u64().unwrap())
    }

    async fn refused_at(&self, at: At) -> String {
        self.ask_at(at).await.1.rule().to_owned()
    }

    fn of_task(&self, kind: &str, task: &str) -> Vec<Value> {
        let leaves = self.leaves().into_iter();
        let of = leaves.filter(|leaf| leaf["kind"] == kind && leaf["task"] == task);
        of.collect()
    }
}

/// Three jobs that come at once open one task, each as a root client of its own instance and key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_come_at_once_share_one_task() {
    for round in 0..8 {
        let world = World::declared(&declared()).await;
        let run = At {
            run: 100 + round,
            ..RUN
        };
        let (a, b, c) = tokio::join!(
            world.comes_in(run.job(1)),
            world.comes_in(run.job(2)),
            world.comes_in(run.job(3)),
        );
        let jobs = [a, b, c];
        let (first, deadline) = &jobs[0];
        for (job, until) in &jobs {
            assert_eq!((&job.task, until), (&first.task, deadline));
            assert!(world.is_active(&job.token).await);
        }
        assert_eq!(world.count("task.started", &first.task), 1);
        let registered = world.of_task("client.registered", &first.task);
        let of = |member: &str| {
            let values = registered
                .iter()
                .map(|leaf| leaf["data"][member].to_string());
            values.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((of("client"), of("instance"), of("jkt")), (3, 3, 3));
    }
}

/// One job hands off to the next: no moment without a live task, and no second window.
#[tokio::test]
async fn a_hand_off_has_no_gap_and_opens_no_second_window() {
    let world = World::declared(&declared()).await;
    let (build, deadline) = world.comes_in(RUN.job(1)).await;
    world.wait(600);
    // Side by side: the next is there before the former ends.
    let (test, until) = world.comes_in(RUN.job(2)).await;
    assert_eq!((&test.task, until), (&build.task, deadline));
    let build = world.renewed(&build).await;
    assert_eq!(world.end(&build).await.status, 200);
    assert!(world.is_active(&test.token).await && !world.is_active(&build.token).await);
    // One after the other: within linger the task waits, with nobody in it.
    world.wait(200);
    let test = world.renewed(&test).await;
    assert_eq!(world.end(&test).await.status, 200);
    assert!(world.is_open(&test.task));
    world.wait(119);
    world.app.sweep().await;
    let (deploy, until) = world.comes_in(RUN.job(3)).await;
    assert_eq!((&deploy.task, until), (&build.task, deadline));
    assert!(world.is_active(&deploy.token).await);
    // A job that failed names the end, although the last one has completed.
    let path = format!("/clients/{}/end", deploy.client);
    let failed = world.call(&deploy, "POST", &path, r#"{"outcome":"failed"}"#);
    assert_eq!(failed.await.status, 200);
    let (last, _) = world.comes_in(RUN.job(4)).await;
    assert_eq!(world.end(&last).await.status, 200);
    world.wait(121);
    // Over at once when linger is, swept or not, and the run does not come back.
    assert_eq!(world.refused_at(RUN.job(5)).await, "task_ended");
    world.app.sweep().await;
    let ended = world.of_task("task.ended", &build.task);
    assert_eq!(ended[0]["data"]["cause"], "failed");
    assert_eq!(world.refused_at(RUN.job(5)).await, "already_ended");
    assert_eq!(world.refused_at(RUN.job(1)).await, "already_ended");
}

/// A re-run ends the attempt before it, with all its jobs, in the append that opens its own task.
#[tokio::test]
async fn a_rerun_supersedes_every_job_of_the_attempt_before_in_one_append() {
    let world = World::declared(&declared()).await;
    let mut before = Vec::new();
    for job in 1..=3 {
        before.push(world.comes_in(RUN.job(job)).await.0);
    }
    let (appends, size) = (world.store.appends(), world.size());
    let (rerun, _) = world.comes_in(RUN.attempt(2).job(11)).await;
    assert_eq!(world.store.appends(), appends + 1);
    let kinds: Vec<String> = world.leaves()[usize::try_from(size).unwrap()..]
        .iter()
        .map(|leaf| leaf["kind"].as_str().unwrap().to_owned())
        .collect();
    let wanted = [
        "task.ended",
        "task.started",
        "client.registered",
        "credential.issued",
    ];
    assert_eq!(kinds, wanted);
    let ended = world.of_task("task.ended", &before[0].task);
    assert_eq!(ended[0]["data"]["cause"], "superseded");
    let started = world.of_task("task.started", &rerun.task);
    assert_eq!(started[0]["data"]["supersedes"][0], before[0].task.as_str());
    for job in &before {
        assert!(!world.is_active(&job.token).await);
        assert_eq!(world.renew(job, &[]).await.rule(), "task_ended");
    }
    // A late job of the older attempt, and the lost answer of an early one.
    assert_eq!(world.refused_at(RUN.job(4)).await, "older_attempt");
    let lost = &before[0];
    let lost = world.ask(&lost.proof, Some(&lost.key), &[("resource", ARTIFACTS)]);
    assert_eq!(lost.await.rule(), "older_attempt");
    // The jobs of the re-run join it.
    let (second, _) = world.comes_in(RUN.attempt(2).job(12)).await;
    assert_eq!(second.task, rerun.task);
}

/// What is over by the end of its workload ended by that, also where a newer attempt is the first to
/// record it.
#[tokio::test]
async fn a_rerun_records_the_end_that_came_before_it() {
    let world = World::declared(&declared()).await;
    let (first, _) = world.comes_in(RUN).await;
    let (tenant, what) = (
        world.tenant(),
        Contained::Workload("pipeline".parse().unwrap()),
    );
    let done = world.app.stop(&tenant, &what, &Stop::End, &BY, "leaked");
    done.await.unwrap();
    let (rerun, _) = world.comes_in(RUN.attempt(2).job(11)).await;
    let ended = world.of_task("task.ended", &first.task);
    assert_eq!(ended[0]["data"]["cause"], "operator");
    assert!(world.is_active(&rerun.token).await && !world.is_active(&first.token).await);
    // One that lapsed before it lapsed.
    world.wait(3600);
    let (third, _) = world.comes_in(RUN.attempt(3).job(21)).await;
    let ended = world.of_task("task.ended", &rerun.task);
    assert_eq!(ended[0]["data"]["cause"], "deadline");
    assert!(world.is_active(&third.token).await);
}

/// After an end by policy nothing of the series starts, also where a newer attempt comes before its
/// record and the block that goes with it.
#[tokio::test]
async fn a_rerun_does_not_come_before_the_block_of_an_end_by_policy() {
    let pipeline = "[workload.pipeline]";
    let twin = declared().replace(pipeline, "[workload.twin]");
    let twin = twin.split_once("[workload.twin]").unwrap().1;
    let twin = format!(
        "[workload.twin]{}",
        twin.split("[workload.").next().unwrap()
    );
    let world = World::declared(&format!("{}{twin}", declared())).await;
    let ask = async |workload: &str, attempt: u64| {
        let of_attempt = json!({ "run_attempt": attempt.to_string(), "check_run_id": "1" });
        let proof = signed(&with(claims(&world, 7, 70), of_attempt));
        let more = [("resource", ARTIFACTS), ("client_id", workload)];
        world.ask(&proof, Some(&new_key()), &more).await
    };
    let first = ask("pipeline", 1).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let without = format!("{TENANT}{twin}");
    write_tenant(&world.folder.path().join("acme"), &without);
    let request = ApplyRequest {
        dry_run: false,
        ends: Some(1),
        undo: false,
    };
    let applied = world.app.apply(&world.tenant(), request, &BY, "gone").await;
    assert_eq!(applied.unwrap().ends, 1);
    assert!(world.is_open(first.str("task")), "not recorded yet");
    assert_eq!(ask("twin", 2).await.rule(), "blocked");
    world.app.sweep().await;
    let ended = world.of_task("task.ended", first.str("task"));
    assert_eq!(ended[0]["data"]["cause"], "policy");
    assert_eq!(ask("twin", 2).await.rule(), "blocked");
}

/// Two attempts that come at once: whichever is first, only the newest is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_newer_attempts_at_once_the_newest_stays() {
    for round in 0..12 {
        let world = Arc::new(World::declared(&declared()).await);
        let run = At {
            run: 200 + round,
            ..RUN
        };
        let (first, _) = world.comes_in(run).await;
        let ((_, second), (third, reply)) = tokio::join!(
            world.ask_at(run.attempt(2).job(21)),
            world.ask_at(run.attempt(3).job(31)),
        );
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(world.is_active(&third.token).await);
        assert!(!world.is_active(&first.token).await);
        if second.status == 200 {
            assert!(!world.is_active(second.str("access_token")).await);
        } else {
            assert_eq!(second.rule(), "older_attempt", "{}", second.text);
        }
        assert_eq!(
            world.refused_at(run.attempt(2).job(22)).await,
            "older_attempt"
        );
    }
}

/// What fell silent opens again for a further job, up to the deadline of its first task.
#[tokio::test]
async fn a_run_that_fell_silent_opens_again_up_to_its_first_deadline() {
    let world = World::declared(&declared()).await;
    let run = At {
        repository: 8,
        run: 80,
        ..RUN
    };
    let (first, deadline) = world.comes_in(run).await;
    let (second, _) = world.comes_in(run.job(2)).await;
    world.app.sweep().await;
    for _ in 0..64 {
        // Somebody is there to hear, and nobody beats.
        world.wait(5);
        world.app.sweep().await;
    }
    let ended = world.of_task("task.ended", &first.task);
    assert_eq!(ended[0]["data"]["cause"], "heartbeat");
    assert!(!world.is_active(&second.token).await);
    let (again, until) = world.comes_in(run.job(3)).await;
    assert_ne!(again.task, first.task);
    assert_eq!(until, deadline, "no second window");
    let (joined, until) = world.comes_in(run.job(4)).await;
    assert_eq!((&joined.task, until), (&again.task, deadline));
    // What ended by itself does not open again.
    let path = format!("/tasks/{}/end", again.task);
    let ended = world.call(&again, "POST", &path, r#"{"outcome":"completed"}"#);
    assert_eq!(ended.await.status, 200);
    assert_eq!(world.refused_at(run.job(5)).await, "already_ended");
}

impl World {
    /// The same job with a fresh token.
    async fn renewed(&self, job: &Job) -> Job {
        let reply = self.renew(job, &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job {
            token: reply.str("access_token").to_owned(),
            ..job.clone()
        }
    }
}

//! Many at once, over SQLite: whoever loses decides again, and nobody gets what the end forbids.

use std::collections::BTreeSet;
use std::sync::Arc;

use dayfly_server::app::Actor;
use tokio::task::JoinSet;

use super::job::{Job, claims, new_key, signed, with};
use super::world::{ARTIFACTS, World};
use serde_json::json;

/// Runs one future of each number side by side.
async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: u64,
    make: impl Fn(u64) -> F,
) -> Vec<T> {
    let mut set = JoinSet::new();
    for n in 0..count {
        set.spawn(make(n));
    }
    set.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proof_shown_many_times_at_once_opens_one_task_for_one_key() {
    let world = Arc::new(World::new().await);
    for round in 0..20 {
        let proof = signed(&claims(&world, 1, 100 + round));
        let key = new_key();
        let answers = together(8, |n| {
            let (world, proof) = (Arc::clone(&world), proof.clone());
            let key = if n < 4 { Arc::clone(&key) } else { new_key() };
            async move {
                let reply = world
                    .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
                    .await;
                (key.thumbprint(), reply)
            }
        })
        .await;
        let winners: BTreeSet<_> = answers
            .iter()
            .filter(|(_, reply)| reply.status == 200)
            .map(|(key, reply)| (key.to_string(), reply.str("client_id").to_owned()))
            .collect();
        assert_eq!(winners.len(), 1, "one key, one client: {answers:?}");
        for (_, reply) in answers.iter().filter(|(_, reply)| reply.status != 200) {
            assert_eq!(reply.refusal().2, "retry_other_key", "{}", reply.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_or_renewal_that_races_an_end_leaves_nothing_that_is_accepted() {
    let world = Arc::new(World::new().await);
    for round in 0..40 {
        let job = world.job(1000 + round).await;
        let answers = together(6, |n| {
            let (world, job) = (Arc::clone(&world), job.clone());
            async move {
                match n {
                    0 if round % 2 == 0 => world.end(&job).await,
                    0 => world.end_task(&job, "failed").await,
                    1 | 2 => world.renew(&job, &[]).await,
                    3 => {
                        world
                            .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
                            .await
                    }
                    4 => {
                        world
                            .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
                            .await
                    }
                    _ => world.beat(&job).await,
                }
            }
        })
        .await;
        let tokens: Vec<&str> = answers
            .iter()
            .filter_map(|reply| reply.body["access_token"].as_str())
            .chain([job.token.as_str()])
            .collect();
        assert!(
            answers.iter().any(|reply| reply.body["cause"].is_string()),
            "{answers:?}"
        );
        assert!(!world.is_open(&job.task));
        for token in tokens {
            assert!(
                !world.is_active(token).await,
                "accepted after the end was acknowledged"
            );
        }
        assert_eq!(world.count("task.ended", &job.task), 1);
        for reply in &answers {
            assert!(reply.status < 500, "{}", reply.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_newer_attempts_at_once_leave_one_series_with_its_highest_attempt_open() {
    let world = Arc::new(World::new().await);
    for round in 0..20_u64 {
        let run = 5000 + round;
        let ask = |attempt: u64, job: u64| {
            let world = Arc::clone(&world);
            async move {
                let of =
                    json!({"run_attempt": attempt.to_string(), "check_run_id": job.to_string()});
                let proof = signed(&with(claims(&world, 1, run), of));
                (
                    attempt,
                    world
                        .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
                        .await,
                )
            }
        };
        let (_, first) = ask(1, 1).await;
        assert_eq!(first.status, 200);
        let answers = together(6, |n| ask(2 + n % 3, 10 + n)).await;
        let highest = 4;
        for (attempt, reply) in &answers {
            if reply.status == 200 {
                let open = world.is_open(reply.str("task"));
                assert_eq!(open, *attempt == highest, "attempt {attempt}");
            } else {
                // Refused, or superseded while its answer was on the way.
                let rule = reply.rule();
                assert!(
                    ["older_attempt", "task_ended"].contains(&rule),
                    "{}",
                    reply.text
                );
                assert!(*attempt < highest);
            }
        }
        assert!(!world.is_open(first.str("task")));
        let open = answers
            .iter()
            .filter(|(_, reply)| reply.status == 200 && world.is_open(reply.str("task")))
            .count();
        assert_eq!(open, 2, "both jobs of the highest attempt");
    }
}

async fn join(world: &World, run: u64, job: u64) -> super::world::Reply {
    let proof = signed(&with(
        claims(world, 2, run),
        json!({"check_run_id": job.to_string()}),
    ));
    world.ask(&proof, Some(&new_key()), &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_jobs_of_a_large_run_join_at_once() {
    let world = Arc::new(World::new().await);
    let answers = together(96, |n| {
        let world = Arc::clone(&world);
        async move { join(&world, 1, 1 + n).await }
    })
    .await;
    let mut clients = BTreeSet::new();
    let mut tasks = BTreeSet::new();
    for reply in &answers {
        assert_eq!(reply.status, 200, "{}", reply.text);
        clients.insert(reply.str("client_id"));
        tasks.insert(reply.str("task"));
    }
    assert_eq!((clients.len(), tasks.len()), (96, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_races_the_end_is_refused_or_ends_with_it() {
    let world = Arc::new(World::new().await);
    for round in 0..25 {
        let run = 100 + round;
        let key = new_key();
        let proof = signed(&claims(&world, 2, run));
        let reply = world.ask(&proof, Some(&key), &[]).await;
        let first = Job::of(key, proof, &reply);
        let answers = together(5, |n| {
            let (world, first) = (Arc::clone(&world), first.clone());
            async move {
                match n {
                    2 => world.end_task(&first, "cancelled").await,
                    n => join(&world, run, 900 + n).await,
                }
            }
        })
        .await;
        assert!(!world.is_open(&first.task));
        for reply in &answers {
            assert!(reply.status < 500, "{}", reply.text);
            if let Some(token) = reply.body["access_token"].as_str() {
                assert_eq!(reply.str("task"), first.task, "no second task of the run");
                assert!(!world.is_active(token).await);
            }
        }
    }
}

/// Somebody who holds a client of the task keeps it moving, each time just before the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_not_starved_by_a_client_that_keeps_its_task_moving() {
    let world = Arc::new(World::new().await);
    for (run, by_operator) in [(1, false), (2, true)] {
        let key = new_key();
        let proof = signed(&claims(&world, 2, run));
        let reply = world.ask(&proof, Some(&key), &[]).await;
        let first = Job::of(key, proof, &reply);
        for n in 0..60 {
            let world_then = Arc::clone(&world);
            world.store.before_end(async move {
                join(&world_then, run, 900 + n).await;
            });
        }
        if by_operator {
            let task = first.task.parse().unwrap();
            let by = Actor::Local { uid: 0 };
            let ended = world
                .app
                .operator_end(&world.tenant(), task, &by, "leaked")
                .await;
            assert!(ended.is_ok(), "{ended:?}");
        } else {
            let ended = world.end_task(&first, "failed").await;
            assert_eq!(ended.status, 200, "{}", ended.text);
        }
        assert!(!world.is_open(&first.task));
    }
}

//! Silence ends a task, once or many at a time, and nobody keeps a task alive but its own clients.

use std::sync::Arc;

use dayfly_domain::{CredentialRevoked, Event, TaskId, apply};
use dayfly_store::{Append, Change, Drafted, FactsQuery, Store};

use super::job::proof;
use super::world::{World, acme};

async fn sweep_for(world: &World, seconds: u64) {
    for _ in 0..seconds / 5 {
        world.wait(5);
        world.app.sweep().await;
    }
}

#[tokio::test]
async fn a_silent_task_ends_and_a_beat_after_the_miss_is_refused() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    assert_eq!(world.beat(&job).await.status, 200);
    sweep_for(&world, 200).await;
    let renewed = world.renew(&job, &[]).await;
    let job = super::job::Job {
        token: renewed.str("access_token").to_owned(),
        ..job
    };
    sweep_for(&world, 295).await;
    let renewed = world.renew(&job, &[]).await;
    assert_eq!(renewed.status, 200, "the renewal counted as a beat");
    let job = super::job::Job {
        token: renewed.str("access_token").to_owned(),
        ..job
    };
    sweep_for(&world, 300).await;
    assert!(world.is_open(&job.task));
    // Silent by a moment, and nobody has swept yet.
    world.wait(1);
    assert_eq!(world.beat(&job).await.rule(), "silent");
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.renew(&job, &[]).await.rule(), "silent");
    world.app.sweep().await;
    assert!(!world.is_open(&job.task));
}

/// A machine with many jobs dies for good: one more grace, and not one after another.
#[tokio::test]
async fn many_that_vanish_together_wait_one_more_grace_and_no_more() {
    let world = World::new().await;
    world.app.sweep().await;
    let mut jobs = Vec::new();
    for run in 1..=14 {
        let job = world.job(run).await;
        assert_eq!(world.beat(&job).await.status, 200);
        jobs.push(job);
    }
    sweep_for(&world, 310).await;
    assert!(
        jobs.iter().all(|job| world.is_open(&job.task)),
        "one more grace"
    );
    assert!(!world.app.unready().is_empty());
    sweep_for(&world, 310).await;
    let open = jobs.iter().filter(|job| world.is_open(&job.task)).count();
    assert_eq!(open, 0, "{open} tasks wait for another grace");
}

#[tokio::test]
async fn nobody_beats_for_another_task() {
    let world = World::new().await;
    let (job, other) = (world.job(1).await, world.job(2).await);
    let path = format!("/tasks/{}/heartbeat", job.task);
    let nonce = world.app.nonce();
    let by_other = proof(
        &world,
        &other.key,
        "POST",
        &path,
        Some(&nonce),
        Some(&other.token),
    );
    let reply = world
        .call_with(
            &format!("DPoP {}", other.token),
            Some(&by_other),
            "POST",
            &path,
            "",
        )
        .await;
    assert_eq!((reply.status, reply.rule()), (404, "not_found"));
    let stolen = proof(
        &world,
        &other.key,
        "POST",
        &path,
        Some(&nonce),
        Some(&job.token),
    );
    let reply = world
        .call_with(
            &format!("DPoP {}", job.token),
            Some(&stolen),
            "POST",
            &path,
            "",
        )
        .await;
    assert_eq!((reply.status, reply.rule()), (401, "other_key"));
}

#[tokio::test]
async fn a_pause_of_the_server_is_no_silence_even_before_it_sweeps() {
    let world = World::new().await;
    world.app.sweep().await;
    let job = world.job(1).await;
    assert_eq!(world.beat(&job).await.status, 200);
    // Stopped for longer than the grace: nothing was heard, and nobody has swept since.
    world.wait(301);
    assert_eq!(world.renew(&job, &[]).await.status, 200);
}

#[tokio::test]
async fn heads_go_to_their_file_every_minute_and_with_every_end() {
    let world = World::new().await;
    let lines = || {
        std::fs::read_to_string(world.folder.path().join("heads.log"))
            .map_or(0, |text| text.lines().count())
    };
    world.app.sweep().await;
    let at_start = lines();
    assert!(at_start > 0, "one for each tenant");
    world.wait(1);
    world.app.sweep().await;
    assert_eq!(lines(), at_start, "nothing ended and no minute passed");
    world.wait(60);
    world.app.sweep().await;
    assert_eq!(lines(), 2 * at_start);

    let _job = world.job(1).await;
    // A minute has passed and the task is over: one round says both at once.
    world.wait(3601);
    world.app.sweep().await;
    assert_eq!(lines(), 3 * at_start);
    let text = std::fs::read_to_string(world.folder.path().join("heads.log")).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(last["head"].as_str().unwrap().contains("\n\n\u{2014} "));
}

/// Tasks that are over end many in an append. One of them changes between the look and the record:
/// it is read again, and ends in the same round as the others.
#[tokio::test]
async fn what_changes_under_the_sweep_ends_in_the_same_round() {
    let world = World::new().await;
    let mut jobs = Vec::new();
    for run in 1..=3 {
        jobs.push(world.job(run).await);
    }
    world.wait(2 * 3600);
    let store = Arc::clone(&world.store);
    let changing: TaskId = jobs[1].task.parse().unwrap();
    world.store.before_end(async move {
        let query = FactsQuery {
            tasks: &[changing],
            ..FactsQuery::default()
        };
        let open = store.facts(&acme(), &query).unwrap().tasks.remove(0);
        let task = open.unwrap().task;
        let event = Event::CredentialRevoked(CredentialRevoked {
            client: 1,
            credential: 1,
        });
        let change = Change {
            task: changing,
            expected_version: task.version,
            next: apply(Some(task), changing, &event).unwrap(),
            events: vec![Drafted { event, annex: None }],
        };
        let append = Append {
            changes: vec![change],
            ..Append::default()
        };
        store.append(&acme(), append).await.unwrap();
    });
    assert_eq!(world.app.sweep().await, 3);
    for job in &jobs {
        assert!(!world.is_open(&job.task));
        assert_eq!(world.count("task.ended", &job.task), 1);
    }
    assert_eq!(world.count("credential.revoked", &jobs[1].task), 1);
}

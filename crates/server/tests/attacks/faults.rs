//! A store that fails: no grant without its record, no wrong "no", nothing lost by asking again.

use dayfly_store::Fault;

use super::job::{Job, claims, new_key, signed};
use super::world::{ARTIFACTS, World};

#[tokio::test]
async fn no_credential_is_given_without_its_record_and_asking_again_helps() {
    let (world, store) = World::in_memory().await;
    for (run, fault) in [(1, Fault::BeforeWrite), (2, Fault::Lost), (3, Fault::Kept)] {
        let key = new_key();
        let proof = signed(&claims(&world, 1, run));
        store.fail([fault]);
        let reply = world
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(
            reply.refusal(),
            (503, "temporarily_unavailable", "unavailable")
        );
        assert!(!reply.header("retry-after").is_empty());
        assert!(!reply.text.contains("access_token"));
        let again = world
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(again.status, 200, "{fault:?}: {}", again.text);
        let job = Job::of(key, proof, &again);
        let issued = if fault == Fault::Kept { 2 } else { 1 };
        assert_eq!(
            world.count("credential.issued", &job.task),
            issued,
            "{fault:?}"
        );
        assert_eq!(world.count("task.started", &job.task), 1);
        assert!(world.is_active(&job.token).await);
    }
}

#[tokio::test]
async fn an_end_that_the_ledger_cannot_take_is_obeyed_and_recorded_when_it_can() {
    let (world, store) = World::in_memory().await;
    for (run, fault) in [(1, Fault::BeforeWrite), (2, Fault::Lost), (3, Fault::Kept)] {
        let job = world.job(run).await;
        store.fail([fault]);
        let reply = world.end(&job).await;
        assert_eq!(reply.status, 200, "{fault:?}: {}", reply.text);
        assert!(!world.is_active(&job.token).await);
        let recorded = usize::from(fault == Fault::Kept);
        assert_eq!(world.count("task.ended", &job.task), recorded);
        // The same answer for the same question, before and after it is recorded.
        let again = world.end(&job).await;
        assert_eq!((again.status, &again.body["at"]), (200, &reply.body["at"]));
        world.app.sweep().await;
        let again = world.end(&job).await;
        assert_eq!((again.status, &again.body["at"]), (200, &reply.body["at"]));
        assert!(!world.is_open(&job.task));
        assert_eq!(world.count("task.ended", &job.task), 1, "{fault:?}");
        assert!(!world.is_active(&job.token).await);
    }
}

#[tokio::test]
async fn a_failed_renewal_says_so_and_a_failed_revocation_is_obeyed() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    store.fail([Fault::BeforeWrite]);
    let header = super::job::dpop(&world, &job.key, "POST", "/revoke");
    let form = [("token", job.token.as_str())];
    assert_eq!(world.renew(&job, &[]).await.status, 503);
    assert!(world.is_active(&job.token).await);
    store.fail([Fault::BeforeWrite]);
    let reply = world.form("/revoke", &form, &[("dpop", &header)]).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    assert!(!world.is_active(&job.token).await);
    world.app.sweep().await;
    // The same proof again, as a client would that was told to.
    assert_eq!(
        world
            .form("/revoke", &form, &[("dpop", &header)])
            .await
            .status,
        200
    );
    assert!(!world.is_active(&job.token).await && !world.is_open(&job.task));
}

#[tokio::test]
async fn a_ledger_that_cannot_record_makes_the_server_unready_although_nobody_asks() {
    let (world, store) = World::in_memory().await;
    let round = async || {
        world.wait(1);
        world.app.sweep().await;
        world.app.unready()
    };
    assert_eq!(round().await, Vec::<String>::new());
    let size = world.size();
    for fault in [Fault::BeforeWrite, Fault::Lost, Fault::Kept] {
        // The probe, and the first try to go on.
        store.fail([fault, Fault::BeforeWrite]);
        let reasons = round().await;
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(
            reasons[0].starts_with("the ledger is stalled since "),
            "{reasons:?}"
        );
        assert_eq!(round().await, Vec::<String>::new(), "{fault:?}");
    }
    assert_eq!(world.size(), size + 6, "each outage leaves two entries");
    // Rounds that no longer come say nothing of the ledger.
    world.wait(11);
    assert!(world.app.unready()[0].contains("held up"));
}

/// The same with a real database that takes no commit.
#[tokio::test]
async fn a_database_that_is_lost_makes_the_server_unready() {
    let world = World::new().await;
    world.wait(1);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    // Another process holds the only lock there is, for as long as it likes.
    let size = world.size();
    let lock = rusqlite::Connection::open(world.folder.path().join("dayfly.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.wait(1);
    world.app.sweep().await;
    let reasons = world.app.unready();
    assert!(
        reasons[0].starts_with("the ledger is stalled"),
        "{reasons:?}"
    );
    lock.execute_batch("ROLLBACK").unwrap();
    world.wait(1);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert_eq!(world.size(), size + 2, "the outage is told of");
}

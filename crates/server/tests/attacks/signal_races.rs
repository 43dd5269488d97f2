//! Words about people among starts, renewals and stalls: whatever comes first, nothing of what is over stays live.

use std::sync::Arc;

use dayfly_store::{Fault, MemoryStore};

use super::approval::APPROVALS;
use super::signals::{DISABLED, OPERATORS, SESSION, declared, event, set};
use super::world::{TENANT, World};

/// Pushes an event from elsewhere, in the middle of what is under way.
pub(crate) fn meanwhile(
    world: &World,
    kind: &str,
    sub: &str,
) -> impl Future<Output = ()> + Send + 'static {
    let (http, body) = (world.http.clone(), set(&event(world, kind, sub)));
    let url = format!("http://{}/acme/signals/idp", world.address());
    async move {
        let request = http
            .post(url)
            .header("content-type", "application/secevent+jwt")
            .header("authorization", "Bearer the-secret-of-events")
            .body(body);
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(status, 202);
    }
}

#[tokio::test]
async fn a_word_in_the_middle_of_a_grant_is_obeyed() {
    let world = World::declared(&declared()).await;
    for (kind, decided, signed) in [
        (SESSION, "rights_removed", "rights_removed"),
        (DISABLED, "rights_removed", "rights_removed"),
    ] {
        let sub = |n: u32| format!("mona-{n}-{}", kind.len());
        // Decided before the event, recorded after it; then recorded before it, signed after it.
        world.store.before_next(meanwhile(&world, kind, &sub(1)));
        assert_eq!(world.login_refused(&sub(1), 60).await, decided);
        world.store.after_next(meanwhile(&world, kind, &sub(2)));
        assert_eq!(world.login_refused(&sub(2), 60).await, signed);
        // The same of a renewal.
        let job = world.logged_in(&sub(3), 60).await;
        world.store.before_next(meanwhile(&world, kind, &sub(3)));
        assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
        let job = world.logged_in(&sub(4), 60).await;
        world.store.after_next(meanwhile(&world, kind, &sub(4)));
        assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
        assert!(!world.is_active(&job.token).await);
    }
    // Who authenticated after a session was over is granted, unless the account is gone.
    world.store.before_next(meanwhile(&world, SESSION, "dora"));
    world.logged_in("dora", 5).await;
    world.store.before_next(meanwhile(&world, DISABLED, "dora"));
    assert_eq!(world.login_refused("dora", 4).await, "rights_removed");
    world.wait(10);
    assert_eq!(world.login_refused("dora", 4).await, "blocked");
}

#[tokio::test]
async fn the_same_word_twice_at_once_is_one() {
    let world = World::declared(&declared()).await;
    let word = set(&event(&world, DISABLED, "mona"));
    let (http, url, body) = (
        world.http.clone(),
        format!("http://{}/acme/signals/idp", world.address()),
        word.clone(),
    );
    world.store.before_block(async move {
        let request = http
            .post(url)
            .header("content-type", "application/secevent+jwt")
            .header("authorization", "Bearer the-secret-of-events")
            .body(body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 202);
    });
    assert_eq!(world.push(&word).await.status, 202);
    let leaves = world.leaves();
    let set = leaves.iter().filter(|leaf| leaf["kind"] == "block.set");
    assert_eq!(set.count(), 1);
}

#[tokio::test]
async fn an_approver_who_is_gone_in_the_middle_of_a_fetch_has_approved_nothing() {
    let world = World::declared(&format!("{TENANT}{APPROVALS}{OPERATORS}")).await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    world.store.before_next(meanwhile(&world, DISABLED, "mona"));
    let refused = world.poll(&asked).await;
    assert_eq!(
        refused.refusal(),
        (400, "access_denied", "approval_lapsed"),
        "{}",
        refused.text
    );
    assert_eq!(world.grants(), 0);
    assert!(!world.is_open(&asked.task));
}

async fn memory() -> (Arc<World>, Arc<MemoryStore>) {
    let (world, store) = World::in_memory_declared(&declared()).await;
    (Arc::new(world), store)
}

fn stall(store: &MemoryStore) {
    store.fail([Fault::BeforeWrite; 5000]);
}

async fn recover(world: &World, store: &MemoryStore) {
    store.heal();
    world.store.fail_reads(false);
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
}

#[tokio::test]
async fn a_word_in_a_stall_is_obeyed_over_a_restart_and_recorded_afterwards() {
    let (world, store) = memory().await;
    let (mona, newer) = (
        world.logged_in("mona", 60).await,
        world.logged_in("mona", 10).await,
    );
    let dora = world.logged_in("dora", 60).await;
    let (session, gone) = (
        set(&event(&world, SESSION, "mona")),
        set(&event(&world, DISABLED, "dora")),
    );
    stall(&store);
    for word in [&session, &gone, &session, &gone] {
        assert_eq!(world.push(word).await.status, 202);
    }
    assert!(!world.is_active(&mona.token).await && !world.is_active(&dora.token).await);
    assert!(world.is_active(&newer.token).await);
    let again = world.restarted().await;
    assert!(!again.is_active(&mona.token).await && !again.is_active(&dora.token).await);
    assert!(again.is_active(&newer.token).await);
    assert_eq!(again.push(&session).await.status, 202);
    recover(&again, &store).await;
    again.app.sweep().await;
    assert!(!again.is_open(&mona.task) && !again.is_open(&dora.task));
    assert!(again.is_active(&newer.token).await);
    assert_eq!(again.login_refused("mona", 60).await, "rights_removed");
    assert_eq!(again.login_refused("dora", 1).await, "blocked");
    again.logged_in("mona", 4).await;
    let leaves = again.leaves();
    let blocks = leaves.iter().filter(|leaf| leaf["kind"] == "block.set");
    assert_eq!(blocks.count(), 1);
}

#[tokio::test]
async fn a_word_while_nothing_can_be_read_is_held() {
    let (world, store) = memory().await;
    let job = world.logged_in("mona", 60).await;
    let word = set(&event(&world, DISABLED, "mona"));
    world.store.fail_reads(true);
    assert_eq!(world.push(&word).await.status, 202);
    assert_eq!(world.push(&word).await.status, 202);
    world.store.fail_reads(false);
    assert!(!world.is_active(&job.token).await);
    recover(&world, &store).await;
    world.app.sweep().await;
    assert!(!world.is_open(&job.task));
    assert_eq!(world.login_refused("mona", 1).await, "blocked");
}

#[tokio::test]
async fn what_was_said_outlives_a_restart() {
    let world = World::declared(&declared()).await;
    let job = world.logged_in("mona", 60).await;
    world.hears(SESSION, "mona").await;
    world.hears(DISABLED, "dora").await;
    let again = world.restarted().await;
    assert!(!again.is_active(&job.token).await);
    assert_eq!(again.login_refused("mona", 40).await, "rights_removed");
    assert_eq!(again.login_refused("dora", 1).await, "blocked");
}

#[tokio::test]
async fn a_word_that_was_obeyed_sets_no_block_again_by_way_of_the_journal() {
    let (world, store) = memory().await;
    let word = set(&event(&world, DISABLED, "mona"));
    assert_eq!(world.push(&word).await.status, 202);
    let tenant = world.tenant();
    let on = world.app.blocks(&tenant).unwrap()[0].on.clone();
    let by = dayfly_server::app::Actor::Local { uid: 7 };
    world.app.unblock(&tenant, on, &by, "back").await.unwrap();
    world.wait(10);
    world.store.fail_reads(true);
    assert_eq!(world.push(&word).await.status, 202);
    recover(&world, &store).await;
    world.logged_in("mona", 1).await;
    let leaves = world.leaves();
    let blocks = leaves.iter().filter(|leaf| leaf["kind"] == "block.set");
    assert_eq!(blocks.count(), 1);
}

//! Webhooks while the ledger cannot record or be read: what is over is obeyed at once, and recorded as it was said.

use std::sync::Arc;

use dayfly_domain::Name;
use dayfly_server::app::{Actor, Contained};
use dayfly_store::{Fault, MemoryStore};
use serde_json::json;

use super::job::Job;
use super::webhooks::{HELPERS, declared, job_over, run_over};
use super::world::World;

const BY: Actor = Actor::Local { uid: 7 };

async fn world() -> (Arc<World>, Arc<MemoryStore>) {
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

/// The causes of the ends of a task and its clients, in order.
fn causes(world: &World, job: &Job) -> Vec<String> {
    let leaves = world.leaves().into_iter();
    leaves
        .filter(|leaf| leaf["task"] == job.task.as_str())
        .filter_map(|leaf| Some(leaf["data"]["cause"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn what_comes_while_nothing_can_be_read_is_held() {
    let (world, store) = world().await;
    let job = world.granted(1, 7, 1, 70).await;
    world.store.fail_reads(true);
    let over = run_over(1, 7, 1);
    let reply = world.hub("workflow_run", &over).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 0, "clients": 0}))
    );
    // Said again it is held already, and what nobody could claim is not held.
    assert_eq!(world.hub("workflow_run", &over).await.status, 204);
    let other = world.hub("workflow_run", &run_over(77, 7, 1)).await;
    assert_eq!((other.status, other.rule()), (503, "unavailable"));
    assert!(!other.header("retry-after").is_empty());
    // Read again it is obeyed, before the ledger has it and over a restart.
    world.store.fail_reads(false);
    stall(&store);
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.hub("workflow_run", &over).await.status, 204);
    let again = world.restarted().await;
    assert!(!again.is_active(&job.token).await && again.is_open(&job.task));
    recover(&again, &store).await;
    assert_eq!(causes(&again, &job), ["upstream"]);
    assert_eq!(again.attempt(1, 7, 1, 71).await.rule(), "already_ended");
}

/// Between what a webhook read and the append that fails, the same job joins once more, and another
/// task of the run opens.
#[tokio::test]
async fn who_comes_in_the_gap_is_ended_at_once_and_in_the_ledger() {
    let (world, store) = world().await;
    let (first, other) = (
        world.granted(2, 9, 1, 90).await,
        world.granted(2, 9, 1, 91).await,
    );
    let (sent, joined) = tokio::sync::oneshot::channel::<Job>();
    let (joining, failing) = (Arc::clone(&world), Arc::clone(&store));
    world.store.before_next(async move {
        let job = joining.granted(2, 9, 1, 90).await;
        stall(&failing);
        assert!(sent.send(job).is_ok());
    });
    let reply = world.hub("workflow_job", &job_over(2, 9, 1, 90)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let second = joined.await.unwrap();
    assert_eq!((&second.task, &other.task), (&first.task, &first.task));
    for over in [&first, &second] {
        assert!(!world.is_active(&over.token).await);
    }
    assert!(world.is_active(&other.token).await);
    recover(&world, &store).await;
    for over in [&first, &second] {
        assert!(!world.is_active(&over.token).await);
    }
    assert!(world.is_active(&other.token).await);
    assert_eq!(causes(&world, &first), ["upstream", "upstream"]);

    let one = world.granted(1, 7, 1, 70).await;
    let (sent, opened) = tokio::sync::oneshot::channel::<Job>();
    let (opening, failing) = (Arc::clone(&world), Arc::clone(&store));
    world.store.before_end(async move {
        let job = opening.granted(1, 7, 1, 71).await;
        stall(&failing);
        assert!(sent.send(job).is_ok());
    });
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let two = opened.await.unwrap();
    assert!(!world.is_active(&one.token).await && !world.is_active(&two.token).await);
    recover(&world, &store).await;
    for job in [&one, &two] {
        assert!(!world.is_open(&job.task));
        assert_eq!(causes(&world, job).last().unwrap(), "upstream");
    }
}

#[tokio::test]
async fn an_offboarding_that_came_first_names_the_end() {
    let (world, store) = world().await;
    let job = world.granted(1, 7, 1, 70).await;
    stall(&store);
    let owner = Contained::Owner("team".parse::<Name>().unwrap());
    let tenant = world.tenant();
    let done = world.app.contain(&tenant, &owner, &BY, "left");
    assert!(done.await.unwrap().recorded);
    world.store.fail_reads(true);
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    recover(&world, &store).await;
    assert_eq!(causes(&world, &job), ["owner_offboarded"]);
}

/// A word that nothing keeps is not answered as if it were kept, however often it comes.
#[tokio::test]
async fn a_word_that_is_repeated_is_no_more_durable_than_the_first() {
    for unread in [false, true] {
        let (world, store) = world().await;
        let world = world.restarted_without_journal().await;
        let job = world.granted(1, 7, 1, 70).await;
        stall(&store);
        world.store.fail_reads(unread);
        for _ in 0..2 {
            let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
            assert_eq!(reply.status, 202, "{}", reply.text);
            assert_eq!(reply.body["recorded"], false);
        }
        world.store.fail_reads(false);
        assert!(!world.is_active(&job.token).await);
    }
}

/// A platform knows more runs than the journal has room for: an operator's end has room beside them.
#[tokio::test]
async fn closes_that_change_no_task_leave_the_journal_to_ends() {
    let (world, store) = world().await;
    let job = world.granted(1, 7, 1, 70).await;
    stall(&store);
    for _ in 0..2 {
        let over = run_over(1, 8, 1);
        let status = world.hub("workflow_run", &over).await.status;
        assert!(status == 200 || status == 204);
    }
    assert!(world.app.unready()[0].contains("1 end"), "it is held once");
    let mut runs = 1000..;
    let refused = loop {
        let run = runs.next().unwrap();
        assert!(run < 10_000, "they have no bound");
        let reply = world.hub("workflow_run", &run_over(1, run, 1)).await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.rule()), (503, "unavailable"));
    // After a start no more of them fit than before it.
    let again = world.restarted().await;
    let reply = again.hub("workflow_run", &run_over(1, 20_000, 1)).await;
    assert_eq!(reply.status, 503);
    // One that ends something is no such close, and neither is an operator's end.
    let task = job.task.parse().unwrap();
    let tenant = again.tenant();
    let ended = again.app.operator_end(&tenant, task, &BY, "leaked");
    assert!(ended.await.unwrap().recorded);
    assert!(!again.is_active(&job.token).await);
}

/// A child that expired by its own window keeps no stall open, nor what else its job has.
#[tokio::test]
async fn an_expired_child_holds_up_neither_the_end_nor_the_ledger() {
    let (world, store) = World::in_memory_declared(&(declared() + HELPERS)).await;
    let root = world.handing_job().await;
    let brief = world.handed_job(&root, "brief", "71").await;
    let long = world.handed_job(&root, "scan", "71").await;
    world.wait(301);
    assert_eq!(world.renew(&brief, &[]).await.rule(), "client_ended");
    let reply = world.renew(&long, &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    stall(&store);
    let said = world.hub("workflow_job", &job_over(11, 7, 1, 71)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    assert!(!world.is_active(reply.str("access_token")).await);
    recover(&world, &store).await;
    assert_eq!(causes(&world, &root), ["upstream"]);
    assert!(world.is_open(&root.task));
}

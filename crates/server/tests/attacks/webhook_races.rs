//! Webhooks among starts: late, repeated, in any order, in the middle of a grant, and in a stall.

use std::sync::Arc;

use dayfly_domain::ClaimState;
use dayfly_store::{FactsQuery, Fault, Store};

use super::job::Job;
use super::webhooks::{declared, hub_signature, job_over, run_over};
use super::world::{World, acme};

/// Sends a delivery from elsewhere, in the middle of what is under way.
fn meanwhile(
    world: &World,
    event: &'static str,
    body: &serde_json::Value,
) -> impl Future<Output = ()> + Send + 'static {
    let (http, body) = (world.http.clone(), body.to_string());
    let url = format!("http://{}/acme/webhooks/github", world.address());
    async move {
        let signature = hub_signature("the secret of hook", &body);
        let request = http
            .post(url)
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-hub-signature-256", signature)
            .body(body);
        let status = request.send().await.unwrap().status().as_u16();
        assert!(status == 200 || status == 204, "{status}");
    }
}

#[tokio::test]
async fn a_run_that_is_over_while_it_is_granted_is_granted_nothing() {
    let world = World::declared(&declared()).await;
    // Decided before the webhook, recorded after it.
    world
        .store
        .before_next(meanwhile(&world, "workflow_run", &run_over(1, 7, 1)));
    assert_eq!(world.attempt(1, 7, 1, 70).await.rule(), "already_ended");
    // Recorded before it, signed after it.
    world
        .store
        .after_next(meanwhile(&world, "workflow_run", &run_over(1, 8, 1)));
    assert_eq!(world.attempt(1, 8, 1, 80).await.rule(), "task_ended");
    // The same of a job that joins.
    let first = world.granted(2, 9, 1, 90).await;
    world
        .store
        .before_next(meanwhile(&world, "workflow_job", &job_over(2, 9, 1, 91)));
    assert_eq!(world.attempt(2, 9, 1, 91).await.rule(), "already_ended");
    world
        .store
        .after_next(meanwhile(&world, "workflow_job", &job_over(2, 9, 1, 92)));
    assert_eq!(world.attempt(2, 9, 1, 92).await.rule(), "client_ended");
    assert!(world.is_active(&first.token).await);
}

#[tokio::test]
async fn a_job_that_joins_while_the_run_is_ended_is_ended_with_it() {
    let world = Arc::new(World::declared(&declared()).await);
    let first = world.granted(2, 9, 1, 90).await;
    let joining = Arc::clone(&world);
    // Between what the webhook read and what it records, another job joins.
    let (sent, joined) = tokio::sync::oneshot::channel::<Job>();
    world.store.before_end(async move {
        let job = joining.granted(2, 9, 1, 91).await;
        assert!(sent.send(job).is_ok());
    });
    let reply = world.hub("workflow_run", &run_over(2, 9, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let second = joined.await.unwrap();
    assert_eq!(first.task, second.task);
    assert!(!world.is_active(&first.token).await && !world.is_active(&second.token).await);
}

/// A task that opens between what the webhook read and what it records is seen by the writer.
#[tokio::test]
async fn a_job_that_opens_while_the_run_is_ended_is_ended_with_it() {
    let world = Arc::new(World::declared(&declared()).await);
    let first = world.granted(1, 7, 1, 70).await;
    let opening = Arc::clone(&world);
    let (sent, opened) = tokio::sync::oneshot::channel::<Job>();
    world.store.before_end(async move {
        let job = opening.granted(1, 7, 1, 71).await;
        assert!(sent.send(job).is_ok());
    });
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let second = opened.await.unwrap();
    assert_ne!(first.task, second.task);
    assert!(!world.is_active(&first.token).await && !world.is_active(&second.token).await);
    assert!(!world.is_open(&second.task));
}

/// What there is of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Open,
    RunOver,
    JobOver,
}

/// What is open and what is closed, after all of it: the same whatever the order of deliveries was.
fn outcome(
    world: &World,
    runs: std::ops::RangeInclusive<u64>,
) -> Vec<((u64, u64), Option<u64>, Found)> {
    let mut found = Vec::new();
    for repository in [1, 2] {
        for run in runs.clone() {
            let series = format!("repository_id,run_id:{repository}/{run}");
            let query = FactsQuery {
                series: Some((&"github".parse().unwrap(), &series)),
                ..FactsQuery::default()
            };
            let facts = world.store.facts(&acme(), &query).unwrap();
            let of = (repository, run);
            for claim in facts
                .claims
                .iter()
                .filter(|claim| claim.state == ClaimState::Open)
            {
                found.push((of, claim.attempt, Found::Open));
            }
            for closed in &facts.closed {
                let what = match closed.part {
                    None => Found::RunOver,
                    Some(_) => Found::JobOver,
                };
                found.push((of, closed.attempt, what));
            }
        }
    }
    found.sort_unstable();
    found
}

/// A step: a job asks, or the platform says something.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u64, u64, u64, u64),
    Run(u64, u64, u64),
    Job(u64, u64, u64, u64),
}

async fn take(world: &World, step: Step) {
    match step {
        Step::Ask(repository, run, attempt, job) => {
            let reply = world.attempt(repository, run, attempt, job).await;
            assert!(reply.status == 200 || reply.status == 400, "{}", reply.text);
        }
        Step::Run(repository, run, attempt) => {
            let body = run_over(repository, run, attempt);
            assert!(world.hub("workflow_run", &body).await.status <= 204);
        }
        Step::Job(repository, run, attempt, job) => {
            let body = job_over(repository, run, attempt, job);
            assert!(world.hub("workflow_job", &body).await.status <= 204);
        }
    }
}

/// A small generator of numbers, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// After every shuffle, with every delivery up to three times: a task is open only where no delivery
/// said that its attempt or its job is over, and what was said is remembered once.
#[tokio::test]
async fn the_order_and_number_of_deliveries_do_not_matter() {
    let deliveries = [
        Step::Run(1, 1, 1),
        Step::Job(1, 2, 1, 20),
        Step::Job(2, 3, 1, 30),
        Step::Run(2, 4, 1),
        Step::Job(1, 1, 1, 10),
    ];
    let asks = [
        Step::Ask(1, 1, 1, 10),
        Step::Ask(1, 1, 1, 11),
        Step::Ask(1, 2, 1, 20),
        Step::Ask(1, 2, 1, 21),
        Step::Ask(2, 3, 1, 30),
        Step::Ask(2, 3, 1, 31),
        Step::Ask(2, 4, 1, 40),
        Step::Ask(1, 5, 1, 50),
    ];
    for seed in 1..=12u64 {
        let world = World::declared(&declared()).await;
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut steps = asks.to_vec();
        for delivery in deliveries {
            for _ in 0..=dice.below(3) {
                steps.push(delivery);
            }
        }
        for at in (1..steps.len()).rev() {
            let other = usize::try_from(dice.below(at as u64 + 1)).unwrap();
            steps.swap(at, other);
        }
        // Two at a time, so that some decide on what the other changes.
        for pair in steps.chunks(2) {
            match pair {
                [one, other] => {
                    tokio::join!(take(&world, *one), take(&world, *other));
                }
                alone => take(&world, alone[0]).await,
            }
        }
        let attempt = Some(1);
        // Of runs 1 and 4, which are over, nothing is open; open are 21 of run 2, 31 in the shared task
        // of run 3, and run 5 of which nobody said anything.
        let wanted = vec![
            ((1, 1), attempt, Found::RunOver),
            ((1, 1), attempt, Found::JobOver),
            ((1, 2), attempt, Found::Open),
            ((1, 2), attempt, Found::JobOver),
            ((1, 5), attempt, Found::Open),
            ((2, 3), attempt, Found::Open),
            ((2, 3), attempt, Found::JobOver),
            ((2, 4), attempt, Found::RunOver),
        ];
        assert_eq!(outcome(&world, 1..=5), wanted, "seed {seed}: {steps:?}");
    }
}

#[tokio::test]
async fn in_a_stall_what_is_over_is_obeyed_and_recorded_afterwards() {
    let (world, store) = World::in_memory_declared(&declared()).await;
    let job = world.granted(1, 7, 1, 70).await;
    store.fail([Fault::BeforeWrite; 5000]);
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(!world.is_active(&job.token).await);
    // One that comes before its task is kept as well, and outlives the process.
    let reply = world.hub("workflow_run", &run_over(1, 8, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let world = world.restarted().await;
    assert!(!world.is_active(&job.token).await);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    let ended: Vec<_> = world
        .leaves()
        .into_iter()
        .filter(|leaf| leaf["kind"] == "task.ended")
        .collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["data"]["cause"], "upstream");
    for run in [7, 8] {
        assert_eq!(
            world.attempt(1, run, 1, run * 10).await.rule(),
            "already_ended"
        );
        world.granted(1, run, 2, run * 10).await;
    }
}

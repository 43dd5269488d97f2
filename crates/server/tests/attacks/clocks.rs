//! Jumps of the wall clock, both ways: nothing is granted or swept by a clock that nobody can trust.

use dayfly_domain::{Span, Time};
use dayfly_store::clock::Clock as _;

use super::job::{claims, new_key, signed};
use super::world::{ARTIFACTS, World};

impl World {
    async fn ask_now(&self, run: u64) -> (u16, String) {
        let proof = signed(&claims(self, 1, run));
        let reply = self
            .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await;
        (reply.status, reply.rule().to_owned())
    }

    async fn rounds(&self, seconds: u64) {
        for _ in 0..seconds / 2 {
            self.wait(2);
            self.app.sweep().await;
        }
    }
}

async fn jumped(to: impl Fn(Time) -> Time) -> World {
    let world = World::new().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    assert_eq!(world.beat(&job).await.status, 200);
    world.rounds(4).await;
    let after = to(world.clock.now());
    world.clock.jump(after);
    // Before any round has seen it.
    assert_eq!(world.ask_now(2).await, (503, "unavailable".to_owned()));
    world.app.sweep().await;
    let reasons = world.app.unready();
    let told = |time: Time| {
        reasons
            .iter()
            .any(|reason| reason.contains(&time.to_string()))
    };
    assert!(
        told(after) && reasons[0].contains("monotonic"),
        "{reasons:?}"
    );
    world.rounds(8).await;
    assert!(world.is_open(&job.task));
    assert_eq!(world.ask_now(3).await.0, 503, "not steady for long enough");
    let size = world.size();
    world.rounds(4).await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert_eq!(world.ask_now(4).await.0, 200);
    assert!(world.size() > size);
    // From the moment on at which it was steady, silence has one full grace.
    world.rounds(290).await;
    assert!(world.is_open(&job.task), "less than one grace");
    let leaves = world.leaves();
    assert!(leaves.iter().map(|leaf| leaf["at"].as_u64()).is_sorted());
    world
}

#[tokio::test]
async fn a_jump_ahead_stops_grants_and_sweeping_and_gives_one_grace() {
    let world = jumped(|now| now + Span::from_seconds(1800)).await;
    world.rounds(20).await;
    let ended = world
        .leaves()
        .into_iter()
        .find(|leaf| leaf["kind"] == "task.ended");
    assert_eq!(
        ended.unwrap()["data"]["cause"],
        "heartbeat",
        "and not more than one"
    );
}

#[tokio::test]
async fn a_jump_back_stops_grants_and_sweeping_and_no_time_runs_back_in_the_ledger() {
    jumped(|now| now - Span::from_seconds(1800)).await;
}

#[tokio::test]
async fn an_end_is_taken_while_the_clock_is_not_steady() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    world.clock.jump(world.clock.now() + Span::from_seconds(60));
    let ended = world.end(&job).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    assert!(!world.is_open(&job.task));
}

/// A deadline is never moved, whatever the clock did.
#[tokio::test]
async fn a_grace_never_goes_past_the_deadline() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    world
        .clock
        .jump(world.clock.now() + Span::from_seconds(7200));
    world.app.sweep().await;
    assert!(
        world.is_open(&job.task),
        "not by a clock that is not steady"
    );
    assert!(!world.is_active(&job.token).await);
    world.rounds(12).await;
    assert!(!world.is_open(&job.task));
}

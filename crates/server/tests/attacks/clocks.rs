//! Jumps of the wall clock, both ways: nothing is granted or swept by a clock that nobody can trust.

use dayfly_domain::{Span, Time};
use dayfly_store::clock::Clock as _;
use dayfly_store::{Append, FactsQuery, Fault, Note, Store as _, Touch};

use super::job::{Job, claims, dpop, new_key, proof, signed};
use super::world::{ARTIFACTS, World, acme};

impl World {
    async fn ask_now(&self, run: u64) -> (u16, String) {
        let proof = signed(&claims(self, 1, run));
        let reply = self
            .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await;
        (reply.status, reply.rule().to_owned())
    }

    /// For how long whoever reads takes it that a task could not be heard.
    fn deaf(&self, job: &Job) -> Span {
        let tasks = [job.task.parse().unwrap()];
        let query = FactsQuery {
            tasks: &tasks,
            ..FactsQuery::default()
        };
        let facts = self.app.store().facts(&acme(), &query).unwrap();
        facts.tasks[0].as_ref().unwrap().heard.deaf
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

/// What is recorded by a clock that is ahead bears its time, and entries after it no earlier one.
/// That orders them; it is not what time it is, once the clock is right again.
#[tokio::test]
async fn an_entry_by_a_clock_that_was_ahead_stops_nothing_once_it_is_right() {
    let world = World::new().await;
    let job = world.job(1).await;
    let bare = world.job(2).await;
    let ended = world.job(3).await;
    world.app.sweep().await;
    let before = world.clock.now();
    let ahead = before + Span::from_seconds(26 * 3600);
    world.clock.jump(ahead);
    let end = world.end(&ended).await;
    assert_eq!(end.status, 200, "ends are taken: {}", end.text);
    world.clock.jump(before + Span::from_seconds(2));
    world.rounds(14).await;

    assert_eq!(world.app.unready(), Vec::<String>::new());
    let warnings = world.app.warnings();
    assert!(
        warnings.len() == 1
            && warnings[0].contains("acme")
            && warnings[0].contains(&ahead.to_string()),
        "{warnings:?}"
    );
    assert_eq!(world.ask_now(4).await.0, 200);
    assert_eq!(world.beat(&job).await.status, 200);
    assert!(world.is_active(&job.token).await && world.is_open(&job.task));
    let revoke = dpop(&world, &bare.key, "POST", "/revoke");
    let form = [("token", bare.token.as_str())];
    let revoked = world.form("/revoke", &form, &[("dpop", &revoke)]).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(world.app.unready(), Vec::<String>::new(), "and no stall");
    assert!(!world.is_open(&bare.task));

    let leaves = world.leaves();
    assert!(leaves.iter().map(|leaf| leaf["at"].as_u64()).is_sorted());
    assert!(leaves.iter().all(|leaf| leaf["kind"] != "ledger.stalled"));
    world.rounds(600).await;
    assert!(!world.is_open(&job.task), "silence counts as ever");
    world.wait(26 * 3600);
    assert_eq!(world.app.warnings(), Vec::<String>::new());
}

/// Half an hour ahead for one round: what was heard then, and that nothing was, is forgotten.
#[tokio::test]
async fn a_clock_that_is_ahead_for_a_round_does_not_turn_silence_off() {
    let world = World::new().await;
    let (silent, beats) = (world.job(1).await, world.job(2).await);
    world.app.sweep().await;
    for job in [&silent, &beats] {
        assert_eq!(world.beat(job).await.status, 200);
    }
    world.rounds(4).await;
    let before = world.clock.now();
    world.clock.jump(before + Span::from_seconds(1800));
    world.app.sweep().await;
    // As a beat that is on its way says it.
    let beat = Touch::Beat {
        task: beats.task.parse().unwrap(),
        at: world.clock.now(),
    };
    world.app.store().touch(&acme(), beat);
    let deaf = world.deaf(&silent);
    assert!(deaf > Span::from_seconds(1800), "nobody is silent by it");
    world.clock.jump(before + Span::from_seconds(2));
    world.rounds(12).await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    world.rounds(280).await;
    for job in [&silent, &beats] {
        assert!(world.is_open(&job.task), "less than one grace");
    }
    world.rounds(30).await;
    for job in [&silent, &beats] {
        assert!(!world.is_open(&job.task), "and no more than one");
    }
}

/// A stall that begins while the clock is ahead is time in which nobody was heard, and no more.
#[tokio::test]
async fn a_stall_by_a_clock_that_is_ahead_counts_from_when_it_is_right() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    assert_eq!(world.beat(&job).await.status, 200);
    let before = world.clock.now();
    world.clock.jump(before + Span::from_seconds(1800));
    store.fail([Fault::BeforeWrite; 5000]);
    world.app.sweep().await;
    world.clock.jump(before + Span::from_seconds(2));
    world.rounds(14).await;
    // Longer than the grace.
    world.rounds(400).await;
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    world.rounds(4).await;
    assert!(world.is_open(&job.task));
    world.rounds(320).await;
    assert!(!world.is_open(&job.task), "and no more than one grace");
}

/// A machine with many jobs dies once by a clock that is ahead, and once more when it is right.
#[tokio::test]
async fn many_that_vanish_get_their_grace_after_a_clock_that_was_ahead() {
    let world = World::new().await;
    world.app.sweep().await;
    let mut jobs = Vec::new();
    for run in 1..=14 {
        jobs.push(world.job(run).await);
    }
    let before = world.clock.now();
    world.clock.jump(before + Span::from_seconds(60));
    world.rounds(14).await;
    let beat = async || {
        for job in &jobs {
            assert_eq!(world.beat(job).await.status, 200);
        }
    };
    let open = || jobs.iter().filter(|job| world.is_open(&job.task)).count();
    beat().await;
    world.rounds(310).await;
    assert_eq!(open(), 14, "one more grace, by the clock that is ahead");
    world.clock.jump(before + Span::from_seconds(2));
    world.rounds(14).await;
    world.wait(2);
    beat().await;
    world.rounds(310).await;
    assert_eq!(open(), 14, "one more grace, by the clock that is right");
    world.rounds(310).await;
    assert_eq!(open(), 0);
}

/// Which proofs were used on a day that is forgotten nobody knows. It keeps nobody from ending.
#[tokio::test]
async fn a_client_ends_itself_by_a_proof_of_a_day_that_is_forgotten() {
    let world = World::new().await;
    let job = world.job(1).await;
    let before = world.clock.now();
    let ahead = before + Span::from_seconds(3 * 86_400);
    world.clock.jump(ahead);
    for _ in 0..4 {
        let entry = Append {
            now: ahead,
            notes: vec![Note {
                kind: "finding.opened",
                data: "{}".to_owned(),
                annex: None,
            }],
            ..Append::default()
        };
        world.store.append(&acme(), entry).await.unwrap();
        world.clock.advance(Span::from_seconds(9 * 3600));
    }
    world.clock.jump(before + Span::from_seconds(2));
    let revoke = dpop(&world, &job.key, "POST", "/revoke");
    let form = [("token", job.token.as_str())];
    for _ in 0..2 {
        let revoked = world.form("/revoke", &form, &[("dpop", &revoke)]).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text);
        assert!(!world.is_open(&job.task));
    }
    assert_eq!(world.count("task.ended", &job.task), 1);
}

/// A proof is accepted once, whatever becomes of the clock.
#[tokio::test]
async fn no_proof_is_accepted_twice_for_a_clock_that_goes_ahead_and_back() {
    let world = World::new().await;
    // The time after a start in which a nonce is wanted is over.
    world.app.sweep().await;
    world.wait(400);
    world.app.sweep().await;
    let job = world.job(1).await;
    let path = format!("/tasks/{}/heartbeat", job.task);
    let shown = proof(&world, &job.key, "POST", &path, None, Some(&job.token));
    let show = async || {
        let token = format!("DPoP {}", job.token);
        let headers = [("authorization", token.as_str()), ("dpop", &shown)];
        let reply = world.send("POST", &path, &headers, "").await;
        (reply.status, reply.rule().to_owned())
    };
    assert_eq!(show().await.0, 200);
    assert_eq!(show().await, (401, "dpop_replayed".to_owned()));
    let before = world.clock.now();
    for ahead in [1800, 3600] {
        world.clock.jump(before + Span::from_seconds(ahead));
        world.app.sweep().await;
    }
    world.clock.jump(before + Span::from_seconds(2));
    for _ in 0..2 {
        assert_eq!(show().await.0, 401);
        world.app.sweep().await;
    }
    // One that was made since gets on.
    assert_eq!(world.beat(&job).await.status, 200);
}

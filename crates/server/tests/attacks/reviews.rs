//! A review: what is allowed beside what was granted and handed over, within a bound.

use std::collections::BTreeMap;

use dayfly_domain::Span;
use dayfly_server::record::review;
use dayfly_store::clock::Clock;

use super::job::{claims, new_key, signed};
use super::world::{World, acme};

#[tokio::test]
async fn a_review_holds_what_is_allowed_against_what_was_granted() {
    let world = World::new().await;
    let begin = world.clock.now();
    let job = world.job_of(1, 1, &[("scope", "queue:read")]).await;
    world.end(&job).await;
    let read = r#"[{"type":"artifact","actions":["read"],"identifier":"octo/app"}]"#;
    for run in 2..=3 {
        let job = world
            .job_of(1, run, &[("authorization_details", read)])
            .await;
        world.end(&job).await;
    }
    // A refusal names the workload too and is no run.
    let refused = signed(&claims(&world, 1, 4));
    let answer = world
        .ask(&refused, Some(&new_key()), &[("scope", "nothing")])
        .await;
    assert_eq!(answer.rule(), "scope_unknown");
    world.job_of(1, 5, &[("scope", "queue:read")]).await;
    world.wait(3601);
    world.app.sweep().await;
    world.app.survey().await;
    let team = "team".parse().unwrap();
    let reviewed = |from, to| {
        let tenant = world.tenant();
        let loaded = tenant.loaded();
        let of = (&*loaded.declared, (loaded.revision, loaded.source.hash()));
        review(world.store.as_ref(), &acme(), of, &team, (from, to))
            .unwrap()
            .unwrap()
    };
    let seen = reviewed(begin, world.clock.now());
    let found = |name: &str| {
        let mut all = seen.workloads.iter();
        all.find(|of| of.workload.as_str() == name).unwrap()
    };
    let release = found("release");
    assert_eq!(
        (release.runs, release.silent, release.complete),
        (4, 1, true)
    );
    let granted: Vec<u64> = release
        .access
        .iter()
        .map(|allowed| allowed.granted)
        .collect();
    assert_eq!(granted, [2, 2], "{release:?}");
    assert_eq!(release.access[0].never, ["publish"]);
    assert!(release.access[1].never.is_empty());
    let matrix = found("matrix");
    assert_eq!(
        (matrix.runs, matrix.last_run, matrix.complete),
        (0, None, true)
    );
    let ids: Vec<_> = seen.findings.iter().map(|view| view.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "bearer_allowed/workload:legacy",
            "never_closed/workload:release"
        ]
    );
    // What is older is not counted.
    let later = reviewed(begin + Span::from_seconds(1), world.clock.now());
    assert!(later.workloads.iter().all(|of| of.runs == 0), "{later:?}");
}

#[tokio::test]
async fn a_review_says_who_may_hand_over_to_whom() {
    let world = World::of_agents().await;
    let reviewed = |owner: &str| {
        let tenant = world.tenant();
        let loaded = tenant.loaded();
        let of = (&*loaded.declared, (loaded.revision, loaded.source.hash()));
        let (owner, now) = (owner.parse().unwrap(), world.clock.now());
        let seen = review(world.store.as_ref(), &acme(), of, &owner, (now, now));
        let seen = seen.unwrap().unwrap().workloads.into_iter();
        seen.map(|of| (of.workload.to_string(), of))
            .collect::<BTreeMap<_, _>>()
    };
    let team = reviewed("team");
    let gives = team["agent"].hands_over.as_ref().unwrap();
    let to: Vec<&str> = gives.to.iter().map(|to| to.as_str()).collect();
    assert_eq!(
        (to.as_slice(), gives.depth, gives.clients),
        (["agent", "scan"].as_slice(), 2, 200)
    );
    assert!(!gives.proven && team["strict"].hands_over.as_ref().unwrap().proven);
    assert_eq!(team["release"].hands_over, None);
    assert!(
        team["agent"].handed_by.is_empty(),
        "helpers of its own are no others"
    );
    let scan = &reviewed("scanners")["scan"];
    assert_eq!(scan.handed_by, ["agent".parse().unwrap()]);
    assert_eq!(scan.hands_over, None);
}

/// A review reads so much and no more, and says so.
#[tokio::test]
async fn a_review_of_many_runs_is_bounded_and_says_that_it_is() {
    let world = World::new().await;
    let begin = world.clock.now();
    world
        .abandoned(9_000, begin + Span::from_seconds(3600))
        .await;
    let before = world.store.entries_read();
    let tenant = world.tenant();
    let loaded = tenant.loaded();
    let declared = (&*loaded.declared, (loaded.revision, loaded.source.hash()));
    let team = "team".parse().unwrap();
    let span = (begin, begin + Span::from_seconds(1));
    let seen = review(world.store.as_ref(), &acme(), declared, &team, span)
        .unwrap()
        .unwrap();
    let release = seen.workloads.iter().find(|of| of.runs > 0).unwrap();
    assert!(!release.complete);
    assert!((3_000..9_000).contains(&release.runs), "{}", release.runs);
    let read = world.store.entries_read() - before;
    assert!(read <= 20_000, "{read}");
}

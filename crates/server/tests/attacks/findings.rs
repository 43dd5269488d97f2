//! What is found while a server runs: opened once, counted, kept over restarts, closed when it is mended.

use std::collections::BTreeMap;

use dayfly_domain::{
    Event, Heartbeat, HeartbeatMode, Repeat, Span, Task, TaskId, TaskStarted, Time, apply,
};
use dayfly_server::app::{Actor, ApplyRequest, Contained};
use dayfly_server::record::{FindingView, Findings, findings, review, task_view};
use dayfly_server::telemetry::Metrics;
use dayfly_store::clock::Clock;
use dayfly_store::{Append, Change, Drafted, Fault, Store};

use super::delegation::scope;
use super::job::{Job, TYPE_JWT, claims, new_key, signed};
use super::signals::{DISABLED, OPERATORS};
use super::world::{ARTIFACTS, TENANT, World, acme, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };
const DAY: u64 = 86_400;
/// What the declared state of every world brings along.
const DECLARED: [&str; 3] = [
    "bearer_allowed/workload:legacy",
    "static_secret/resource:artifacts",
    "static_secret/resource:queue",
];

impl World {
    fn findings(&self, all: bool) -> Findings {
        findings(self.store.as_ref(), &acme(), all).unwrap()
    }

    /// The ids of the open findings that nothing declared brought about.
    fn found(&self) -> Vec<String> {
        let open = self.findings(false).findings.into_iter();
        open.map(|view| view.id)
            .filter(|id| !DECLARED.contains(&id.as_str()))
            .collect()
    }

    fn finding(&self, id: &str) -> FindingView {
        let mut all = self.findings(true).findings.into_iter();
        all.find(|view| view.id == id).unwrap()
    }

    /// Sweeps and looks, after a while.
    async fn look(&self, seconds: u64) {
        self.wait(seconds);
        self.app.sweep().await;
        self.app.survey().await;
    }

    fn told(&self, kind: &str, finding: &str) -> usize {
        let told = self.leaves().into_iter();
        told.filter(|leaf| leaf["kind"] == kind && leaf["data"]["finding"] == finding)
            .count()
    }

    async fn redeclare(&self, tenant: &str) {
        write_tenant(&self.folder.path().join("acme"), tenant);
        let request = ApplyRequest {
            dry_run: false,
            ends: None,
            undo: false,
        };
        let applied = self.app.apply(&self.tenant(), request, &BY, "better").await;
        assert!(applied.unwrap().applied);
    }

    /// Opens tasks of a workload that nobody will ever end.
    async fn abandoned(&self, count: u32, deadline: Time) {
        let mut waiting = Vec::new();
        for n in 0..count {
            waiting.push(
                self.store
                    .append(&acme(), start(n, self.clock.now(), deadline)),
            );
        }
        for append in waiting {
            append.await.unwrap();
        }
    }
}

fn start(n: u32, now: Time, deadline: Time) -> Append {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&n.to_be_bytes());
    let id = TaskId::new(now.millis(), random);
    let event = Event::TaskStarted(TaskStarted {
        workload: "release".parse().unwrap(),
        owner: "team".parse().unwrap(),
        issuer: "github".parse().unwrap(),
        key: format!("1/{n}"),
        series: format!("run:{n}"),
        attempt: None,
        subject: None,
        repeat: Repeat::Refuse,
        opened: now,
        deadline,
        heartbeat: Heartbeat {
            mode: HeartbeatMode::Off,
            ..Heartbeat::default()
        },
        linger: Span::ZERO,
        epochs: Vec::new(),
        supersedes: Vec::new(),
    });
    let next: Task = apply(None, id, &event).unwrap();
    Append {
        now,
        changes: vec![Change {
            task: id,
            expected_version: 0,
            events: vec![Drafted { event, annex: None }],
            next,
        }],
        ..Append::default()
    }
}

#[tokio::test]
async fn what_is_declared_is_found_at_once_and_closes_when_it_is_mended() {
    let world = World::new().await;
    world.app.survey().await;
    let open: Vec<_> = world.findings(false).findings;
    let ids: Vec<_> = open.iter().map(|view| view.id.as_str()).collect();
    assert_eq!(ids, DECLARED);
    let size = world.size();
    world.look(60).await;
    world.look(60).await;
    assert_eq!(world.size(), size, "what is found already is no news");
    world
        .redeclare(&TENANT.replace(", binding = \"optional\"", ""))
        .await;
    world.look(5).await;
    let mended = world.finding(DECLARED[0]);
    assert_eq!(mended.closed, Some(world.clock.now()));
    assert_eq!(world.told("finding.closed", "bearer_allowed"), 1);
    world.redeclare(TENANT).await;
    world.look(5).await;
    assert_eq!(world.told("finding.opened", "bearer_allowed"), 2);
    let again = world.findings(false).findings.into_iter();
    let again = again.filter(|view| view.id == DECLARED[0]);
    assert!(again.map(|view| view.opened).max() > Some(mended.opened));
}

#[tokio::test]
async fn an_owner_whose_named_members_are_gone_is_found_until_one_is_let_in_again() {
    let members = "members = [\"group:team\"]";
    assert!(TENANT.contains(members));
    let named = TENANT.replace(members, "members = [\"sub:mona\", \"sub:hugo\"]");
    let world = World::declared(&format!("{named}{OPERATORS}")).await;
    world.hears(DISABLED, "mona").await;
    world.look(60).await;
    assert_eq!(world.found(), [""; 0]);
    world.hears(DISABLED, "hugo").await;
    world.look(60).await;
    assert_eq!(world.found(), ["ownerless/owner:team"]);
    let tenant = world.tenant();
    let block = world.app.blocks(&tenant).unwrap().remove(0);
    let lifted = world.app.unblock(&tenant, block.on, &BY, "back");
    lifted.await.unwrap();
    world.look(60).await;
    assert_eq!(world.found(), [""; 0]);
}

/// P8: what is kept of it is one finding and one count, however many they are.
#[tokio::test]
async fn ten_thousand_tasks_that_end_without_a_word_are_one_finding() {
    let world = World::new().await;
    world.app.survey().await;
    let deadline = world.clock.now() + Span::from_seconds(60);
    world.abandoned(10_000, deadline).await;
    world.look(61).await;
    assert_eq!(world.found(), ["never_closed/workload:release"]);
    let found = world.finding("never_closed/workload:release");
    assert!(
        found.says.starts_with("10000 tasks of release"),
        "{found:?}"
    );
    assert_eq!(world.told("finding.opened", "never_closed"), 1);
    let size = world.size();
    world.look(60).await;
    assert_eq!(world.size(), size);
}

#[tokio::test]
async fn never_closed_is_found_soon_survives_a_restart_and_closes_after_an_orderly_day() {
    let world = World::new().await;
    world.app.survey().await;
    let silent = world.job(1).await;
    world.look(3601).await;
    assert!(!world.is_open(&silent.task));
    assert_eq!(world.found(), ["never_closed/workload:release"]);
    let before = world.finding("never_closed/workload:release");
    let world = world.restarted().await;
    assert_eq!(world.finding(&before.id), before);
    let size = world.size();
    world.look(60).await;
    assert_eq!(world.size(), size, "a restart opens nothing again");
    // Time alone does not close it, and neither does an orderly task at once.
    world.look(2 * DAY).await;
    assert_eq!(world.found(), ["never_closed/workload:release"]);
    let job = world.job(2).await;
    assert_eq!(world.end(&job).await.status, 200);
    world.look(60).await;
    assert_eq!(world.found(), [""; 0]);
    assert_eq!(world.told("finding.closed", "never_closed"), 1);
    let silent = world.job(3).await;
    world.look(3601).await;
    assert!(!world.is_open(&silent.task));
    let job = world.job(4).await;
    assert_eq!(world.end(&job).await.status, 200);
    world.look(60).await;
    assert_eq!(
        world.found(),
        ["never_closed/workload:release"],
        "a day has not passed"
    );
    assert_eq!(world.told("finding.opened", "never_closed"), 2);
}

#[tokio::test]
async fn a_proof_of_two_keys_is_counted_in_one_finding_and_one_without_a_key_tells_nothing() {
    let world = World::new().await;
    world.app.survey().await;
    let job = world.job_of(3, 1, &[("resource", ARTIFACTS)]).await;
    let shown = async |rule: &str, keyed: bool| {
        let thief = keyed.then(new_key);
        let more = [("resource", ARTIFACTS)];
        let answer = world.ask(&job.proof, thief.as_deref(), &more).await;
        assert_eq!(answer.rule(), rule);
        answer.str("refusal").to_owned()
    };
    shown("retry_other_key", true).await;
    world.look(5).await;
    assert_eq!(world.found(), ["proof_by_two_keys/workload:legacy"]);
    world.end(&job).await;
    shown("proof_spent", false).await;
    let last = shown("retry_other_key", true).await;
    world.look(5).await;
    let found = world.finding("proof_by_two_keys/workload:legacy");
    assert!(found.says.contains("2 times"), "{found:?}");
    assert!(found.remedy.contains(&last), "{found:?}");
    assert_eq!(world.told("finding.opened", "proof_by_two_keys"), 1);
    world.look(7 * DAY).await;
    assert_eq!(world.found(), [""; 0]);
}

#[tokio::test]
async fn bounds_that_are_come_near_are_found_by_what_was_granted_and_refused() {
    let limited = TENANT.replace(
        "purpose = \"publish\"",
        "purpose = \"publish\"\nlimits = { open = 5 }",
    );
    let world = World::declared(&limited).await;
    world.app.survey().await;
    let mut jobs = Vec::new();
    for run in 1..=5 {
        jobs.push(world.job(run).await);
    }
    for job in &jobs {
        world.end(job).await;
    }
    // What was open between two looks nobody saw; what was refused everybody did.
    world.look(60).await;
    assert_eq!(world.found(), [""; 0]);
    for run in 11..=15 {
        jobs.push(world.job(run).await);
    }
    let over = signed(&claims(&world, 1, 16));
    assert_eq!(
        world.ask(&over, Some(&new_key()), &[]).await.rule(),
        "open_limit"
    );
    for job in &jobs[5..] {
        world.end(job).await;
    }
    world.look(60).await;
    let open = "near_bound/workload:release:limits.open";
    assert_eq!(world.found(), [open]);
    // Thirteen of the sixteen live credentials that a client may have.
    let job = world.job(20).await;
    for _ in 0..12 {
        assert_eq!(world.renew(&job, &[]).await.status, 200);
    }
    world.look(60).await;
    let live = "near_bound/workload:release:bounds.live_credentials";
    assert_eq!(world.found(), [open, live]);
    world.look(2 * DAY).await;
    assert_eq!(
        world.found(),
        ["never_closed/workload:release"],
        "that job was left behind"
    );
}

#[tokio::test]
async fn idle_workloads_and_old_blocks_are_found_in_time() {
    let world = World::new().await;
    world.app.survey().await;
    let job = world.job(1).await;
    world.end(&job).await;
    let job = world.job(2).await;
    let task = job.task.parse().unwrap();
    world
        .app
        .operator_end(&world.tenant(), task, &BY, "leaked")
        .await
        .unwrap();
    let matrix = Contained::Workload("matrix".parse().unwrap());
    world
        .app
        .contain(&world.tenant(), &matrix, &BY, "odd")
        .await
        .unwrap();
    world.look(30 * DAY - 1).await;
    assert_eq!(world.found(), [""; 0]);
    world.look(60).await;
    assert_eq!(
        world.found(),
        ["old_block/series:github", "old_block/workload:matrix"]
    );
    world
        .app
        .lift(&world.tenant(), &matrix, &BY, "fine")
        .await
        .unwrap();
    world.look(60 * DAY).await;
    assert_eq!(
        world.found(),
        [
            "old_block/series:github",
            "unused/workload:legacy",
            "unused/workload:matrix",
            "unused/workload:release",
        ]
    );
    let ran = world.finding("unused/workload:release");
    assert!(ran.says.contains("started since"), "{ran:?}");
    let world = world.restarted().await;
    let job = world.job(3).await;
    world.end(&job).await;
    world.look(60).await;
    assert!(!world.found().contains(&ran.id), "{:?}", world.found());
}

#[tokio::test]
async fn an_offboarded_owner_leaves_its_workloads_without_one() {
    let world = World::new().await;
    let team = Contained::Owner("team".parse().unwrap());
    let tenant = world.tenant();
    world
        .app
        .contain(&tenant, &team, &BY, "left")
        .await
        .unwrap();
    world.app.survey().await;
    assert_eq!(world.found(), ["ownerless/owner:team"]);
    world.app.lift(&tenant, &team, &BY, "back").await.unwrap();
    world.look(60).await;
    assert_eq!(world.found(), [""; 0]);
}

#[tokio::test]
async fn what_could_not_be_recorded_is_found_by_the_next_look() {
    let (world, memory) = World::in_memory().await;
    world.app.survey().await;
    world.job(1).await;
    world.wait(3601);
    world.app.sweep().await;
    memory.fail([Fault::BeforeWrite]);
    world.app.survey().await;
    assert_eq!(world.found(), [""; 0]);
    world.look(5).await;
    assert_eq!(world.found(), ["never_closed/workload:release"]);
    assert_eq!(world.told("finding.opened", "never_closed"), 1);
}

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

/// Where binding is optional, a child without a key is marked and found, and counted in the metrics
/// like every open finding.
#[tokio::test]
async fn a_child_without_a_key_is_marked_and_is_a_finding() {
    let world = World::of_agents().await;
    world.app.survey().await;
    let loose = world.job_of(13, 2, &[]).await;
    let bound = world.child(&loose, &scope("artifacts:read")).await;
    world.look(60).await;
    let id = "bearer_child/workload:loose".to_owned();
    assert!(!world.found().contains(&id), "one with a key is none");
    let handover = world.handover(&loose, None, &scope("artifacts:read"));
    let reply = world.come_in(&handover, None, &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // Nobody has looked when the process ends: it is recorded with the child.
    let world = world.restarted().await;
    world.look(60).await;
    assert!(world.found().contains(&id), "{:?}", world.found());
    assert_eq!(
        world.finding(&id).what.owner(),
        Some(&"team".parse().unwrap())
    );
    assert_eq!(world.told("finding.opened", "bearer_child"), 1);
    // In the ledger it is the one that names no key, and people see that it has none.
    let leaves = world.leaves().into_iter();
    let children = leaves.filter(|leaf| leaf["kind"] == "client.delegated");
    let keys: Vec<_> = children
        .map(|leaf| leaf["data"]["jkt"].is_string())
        .collect();
    assert_eq!(keys, [true, false]);
    let task = loose.task.parse().unwrap();
    let seen = task_view(world.store.as_ref(), &acme(), task)
        .unwrap()
        .unwrap();
    let keys: Vec<_> = seen
        .clients
        .iter()
        .map(|client| client.jkt.is_some())
        .collect();
    assert_eq!(keys, [true, true, false]);
    let gauge = |world: &World| {
        let text = Metrics::default().render(&world.app).unwrap();
        let mut lines = text.lines().map(ToOwned::to_owned);
        lines.find(|line| line.starts_with("dayfly_findings{") && line.contains("bearer_child"))
    };
    let line = gauge(&world).unwrap();
    assert!(
        line.contains("tenant=\"acme\"") && line.ends_with("} 1"),
        "{line}"
    );
    assert_eq!(world.end(&bound).await.status, 200);
    // The day is kept, so it closes a week after that day began.
    let since = world.now() % DAY;
    world.look(7 * DAY - since - 60).await;
    assert!(world.found().contains(&id), "{:?}", world.found());
    world.look(60).await;
    assert!(!world.found().contains(&id), "{:?}", world.found());
    assert_eq!(gauge(&world), None, "what closed is counted no more");
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

/// Of a helper of a helper it is the workload of the client that handed on, not that of the task.
#[tokio::test]
async fn a_child_without_a_key_is_its_own_parents_workloads_finding() {
    let crew = r#"
[workload.lead]
owner   = "team"
kind    = "agent"
purpose = "hands on to a crew"
match   = { issuer = "github", repository_id = "41" }
token   = { binding = "optional" }
delegation = { depth = 2, clients = 4, to = ["self", "crew"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]

[workload.crew]
owner   = "team"
kind    = "agent"
purpose = "has helpers without keys"
match   = { issuer = "github", repository_id = "42" }
token   = { binding = "optional" }
delegation = { depth = 1, clients = 4, to = ["self"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]
"#;
    let world = World::declared(&format!("{TENANT}{crew}")).await;
    let lead = world.job_of(41, 1, &[]).await;
    let (key, given) = (new_key(), scope("artifacts:read"));
    let handover = world.handover(&lead, Some(&key), &given);
    let own = signed(&claims(&world, 42, 1));
    let more = [
        ("actor_token", own.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let reply = world.come_in(&handover, Some(&key), &more).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let child = Job::of(key, handover, &reply);
    let handover = world.handover(&child, None, &given);
    let reply = world.come_in(&handover, None, &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    world.look(60).await;
    let found = world.found().into_iter();
    let found: Vec<String> = found.filter(|id| id.starts_with("bearer_child/")).collect();
    assert_eq!(found, ["bearer_child/workload:crew"]);
    // What is not declared any more is not remembered either.
    world.rewrite("[workload.crew]", "[workload.band]");
    world.rewrite("\"crew\"", "\"band\"");
    world.applied().await;
    world.look(60).await;
    assert!(
        !world
            .found()
            .iter()
            .any(|id| id.starts_with("bearer_child/"))
    );
    world.rewrite("[workload.band]", "[workload.crew]");
    world.rewrite("\"band\"", "\"crew\"");
    world.applied().await;
    world.look(60).await;
    assert!(
        !world
            .found()
            .iter()
            .any(|id| id.starts_with("bearer_child/"))
    );
}

//! What is found while a server runs: opened once, counted, kept over restarts, closed when it is mended.

use dayfly_domain::{
    Event, Heartbeat, HeartbeatMode, Repeat, Span, Task, TaskId, TaskStarted, Time, apply,
};
use dayfly_server::app::{Actor, ApplyRequest, Contained};
use dayfly_server::record::{FindingView, Findings, findings};
use dayfly_store::clock::Clock;
use dayfly_store::{Append, Change, Drafted, Fault, Store};

use super::delegation::{AGENTS, scope};
use super::job::{claims, new_key, signed};
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
    pub(crate) fn findings(&self, all: bool) -> Findings {
        findings(self.store.as_ref(), &acme(), all).unwrap()
    }

    /// The ids of the open findings that nothing declared brought about.
    pub(crate) fn found(&self) -> Vec<String> {
        let open = self.findings(false).findings.into_iter();
        open.map(|view| view.id)
            .filter(|id| !DECLARED.contains(&id.as_str()))
            .collect()
    }

    pub(crate) fn finding(&self, id: &str) -> FindingView {
        let mut all = self.findings(true).findings.into_iter();
        all.find(|view| view.id == id).unwrap()
    }

    /// Sweeps and looks, after a while.
    pub(crate) async fn look(&self, seconds: u64) {
        self.wait(seconds);
        self.app.sweep().await;
        self.app.survey().await;
    }

    pub(crate) fn told(&self, kind: &str, finding: &str) -> usize {
        let told = self.leaves().into_iter();
        told.filter(|leaf| leaf["kind"] == kind && leaf["data"]["finding"] == finding)
            .count()
    }

    /// How often a finding was told of, by its id.
    fn told_of(&self, kind: &str, id: &str) -> usize {
        let (finding, about) = id.split_once('/').unwrap();
        let (member, name) = about.split_once(':').unwrap();
        let told = self.leaves().into_iter();
        let told = told.filter(|leaf| leaf["kind"] == kind && leaf["data"]["finding"] == finding);
        told.filter(|leaf| leaf["data"][member] == name).count()
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
    pub(crate) async fn abandoned(&self, count: u32, deadline: Time) {
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

/// The same of one that was heard and then fell silent, long before its deadline.
#[tokio::test]
async fn one_that_falls_silent_is_never_closed() {
    let world = World::new().await;
    world.app.survey().await;
    let silent = world.job(1).await;
    assert_eq!(world.beat(&silent).await.status, 200);
    world.app.sweep().await;
    super::silence::sweep_for(&world, 310).await;
    world.app.survey().await;
    assert_eq!(world.why_gone(&silent.task), "heartbeat");
    assert_eq!(world.found(), ["never_closed/workload:release"]);
    let job = world.job(2).await;
    assert_eq!(world.end(&job).await.status, 200);
    world.look(DAY).await;
    assert_eq!(world.found(), [""; 0]);
}

/// How often a task hands over is bounded by its workload, whatever became of the helpers.
#[tokio::test]
async fn hand_overs_near_their_bound_are_found() {
    let agents = AGENTS.replace("clients = 200", "clients = 5");
    let world = World::declared(&format!("{TENANT}{agents}")).await;
    world.app.survey().await;
    let near = |world: &World| {
        let open = world.findings(false).findings.into_iter();
        let mut near = open.filter(|view| view.id.starts_with("near_bound"));
        near.next()
    };
    let root = world.agent(1).await;
    for _ in 0..3 {
        let child = world.child(&root, &scope("artifacts:read")).await;
        assert_eq!(world.end(&child).await.status, 200);
    }
    world.look(60).await;
    assert!(near(&world).is_none());
    world.child(&root, &scope("artifacts:read")).await;
    world.look(60).await;
    let found = near(&world).unwrap();
    assert_eq!(found.id, "near_bound/workload:agent:delegation.clients");
    let says = "agent had 4 clients that were handed over to in one task, of 5 that it may";
    assert!(found.says.contains(says), "{}", found.says);
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

/// What is only declared closes by the apply that mends it, and opens by the one that brings it back.
#[tokio::test]
async fn what_an_apply_brings_about_an_apply_closes() {
    let members = |members: &str| replaced("members = [\"group:team\"]", members);
    let by_name = "match   = { issuer = \"github\", repository = \"octo-org/octo-repo\" }";
    let by_id = "match   = { issuer = \"github\", repository_id = \"1\" }";
    let no_secret = replaced(
        "url = \"https://queue.example/api\"\nsecret_file = \"queue.secret\"",
        "url = \"https://queue.example/api\"\njwks = { file = \"keyed.json\" }",
    );
    for (kind, about, worse, better) in [
        (
            "one_person_owner",
            "owner:team",
            members("members = [\"sub:mona\"]"),
            TENANT.to_owned(),
        ),
        (
            "names_only",
            "workload:release",
            replaced(by_id, by_name),
            TENANT.to_owned(),
        ),
        (
            "static_secret",
            "resource:queue",
            TENANT.to_owned(),
            no_secret,
        ),
    ] {
        let id = format!("{kind}/{about}");
        let world = World::declared(&better).await;
        world.look(60).await;
        let is_open = || {
            let mut open = world.findings(false).findings.into_iter();
            open.any(|view| view.id == id)
        };
        assert!(!is_open(), "{id}");
        let told = || ["finding.opened", "finding.closed"].map(|of| world.told_of(of, &id));
        for times in [1, 2] {
            world.redeclare(&worse).await;
            world.look(5).await;
            assert!(is_open(), "{id}");
            assert_eq!(told(), [times, times - 1], "{id}");
            let size = world.size();
            world.look(60).await;
            assert_eq!(world.size(), size, "{id} is no news");
            world.redeclare(&better).await;
            world.look(5).await;
            assert!(!is_open(), "{id}");
            assert_eq!(told(), [times, times], "{id}");
        }
    }
}

/// The declared state of every world with something else in it.
fn replaced(from: &str, to: &str) -> String {
    let text = TENANT.replacen(from, to, 1);
    assert_ne!(text, TENANT, "{from}");
    text
}

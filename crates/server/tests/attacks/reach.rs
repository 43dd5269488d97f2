//! Who can reach a resource now, after less may be reached there than a task was granted.

use dayfly_domain::access::Field;
use dayfly_domain::{Name, TaskId};
use dayfly_server::app::{Actor, Contained, Stop};
use dayfly_server::config;
use dayfly_server::declared::{Declared, Source, SourceFile, TenantContext};
use dayfly_server::record::{ReachView, reach};
use serde_json::json;

use super::approval::APPROVALS;
use super::delegation::{AGENTS, part, scope};
use super::job::Job;
use super::silence::sweep_for;
use super::world::{ARTIFACTS, PUBLIC, TENANT, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

impl World {
    /// Who can reach the artifacts, were this declared.
    fn reach_under(&self, tenant: &str) -> ReachView {
        self.reach_page(tenant, (None, 10))
    }

    fn reach_page(&self, tenant: &str, page: (Option<TaskId>, usize)) -> ReachView {
        let file = SourceFile {
            name: "tenant.toml".to_owned(),
            text: tenant.to_owned(),
        };
        let source = Source::new(&self.folder.path().join("acme"), vec![file]);
        let context = TenantContext {
            issuer: format!("{PUBLIC}/acme"),
            bounds: config::Bounds::default(),
            operators: None,
        };
        let (declared, _) = Declared::load(&source, &context).unwrap();
        let now = self.app.now();
        let view = reach(&*self.store, &acme(), &declared, ("artifacts", now), page);
        view.unwrap().unwrap()
    }
}

/// The state with another ceiling of `release` over the artifacts.
fn lowered(from: &str, to: &str) -> String {
    let text = TENANT.replacen(from, to, 1);
    assert_ne!(text, TENANT, "{from}");
    text
}

#[tokio::test]
async fn a_client_of_which_the_ceiling_holds_a_part_can_reach_that_part() {
    let world = World::new().await;
    let job = world.job(1).await;
    // Nothing issued under the former ceiling lives on.
    world.wait(600);
    let whole = world.reach_under(TENANT);
    assert_eq!((whole.open, whole.tasks[0].clients.len()), (1, 1));
    for (from, to, field, left) in [
        ("[\"read\", \"publish\"]", "[\"read\"]", "actions", "read"),
        (
            "identifier = \"octo/*\"",
            "identifier = \"octo/app\"",
            "identifier",
            "octo/app",
        ),
        (
            "identifier = \"octo/*\"",
            "identifier = [\"oct*/a*\", \"x/*\"]",
            "identifier",
            "octo/a*",
        ),
        ("bytes = 100", "bytes = 50", "bytes", "at most 50"),
        ("bytes = 100", "bytes = 500", "bytes", "at most 100"),
        (
            "region = [\"eu\", \"us\"]",
            "region = [\"us\", \"asia\"]",
            "region",
            "us",
        ),
    ] {
        let view = world.reach_under(&lowered(from, to));
        assert_eq!((view.open, view.clients), (1, 1), "{to}");
        assert_eq!(view.tasks[0].task.to_string(), job.task);
        let access = &view.tasks[0].clients[0].access;
        assert_eq!(access[0].fields[field].to_string(), left, "{to}");
    }
    // Nothing of it is left, and nothing that a field more or less would name.
    for (from, to) in [
        ("[\"read\", \"publish\"]", "[\"list\"]"),
        ("identifier = \"octo/*\"", "identifier = \"other/*\""),
        ("identifier = \"octo/*\"", "identifier = \"octo/a/*\""),
        ("region = [\"eu\", \"us\"]", "region = \"asia\""),
        ("bytes = 100, ", ""),
    ] {
        let view = world.reach_under(&lowered(from, to));
        assert_eq!((view.open, view.tasks.len()), (0, 0), "{to}");
    }
    // A narrower request is granted where reach says so, and nowhere else.
    let detail = json!([{
        "type": "artifact", "locations": [ARTIFACTS], "actions": ["read"],
        "identifier": "octo/app", "bytes": 10, "region": "eu",
    }]);
    let detail = detail.to_string();
    let renewed = world
        .renew(&job, &[("authorization_details", &detail)])
        .await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    // What was issued under the former ceiling lives on to its expiry.
    let view = world.reach_under(&lowered(
        "identifier = \"octo/*\"",
        "identifier = \"other/*\"",
    ));
    assert_eq!(
        (view.open, view.tasks[0].clients[0].credentials.len()),
        (1, 1)
    );
    assert!(matches!(
        view.tasks[0].clients[0].access[0].fields["actions"],
        Field::Set(_)
    ));
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_workload_is_named_and_what_is_open_of_it_can_no_more() {
    let name = |text: &str| text.parse::<Name>().unwrap();
    for (what, on) in [
        (Contained::Owner(name("team")), "owner:team"),
        (Contained::Workload(name("release")), "workload:release"),
        (Contained::Issuer(name("github")), "issuer:github"),
        (Contained::Tenant, "tenant"),
    ] {
        let world = World::new().await;
        world.job(1).await;
        let tenant = world.tenant();
        let stopped = async |stop: Stop| {
            let done = world.app.stop(&tenant, &what, &stop, &BY, "leaked").await;
            done.unwrap().since
        };
        assert_eq!(world.reach_under(TENANT).open, 1);
        // An end alone blocks nothing; what is over is not recorded yet and counts no more.
        stopped(Stop::End).await;
        let view = world.reach_under(TENANT);
        assert_eq!(
            (view.open, view.clients, view.tasks.len()),
            (0, 0, 0),
            "{on}"
        );
        assert!(view.workloads.iter().all(|may| may.stopped_by.is_empty()));
        let since = stopped(Stop::Block).await;
        let view = world.reach_under(TENANT);
        let release = view
            .workloads
            .iter()
            .find(|may| may.workload == name("release"));
        assert_eq!(release.unwrap().stopped_by, [(on.to_owned(), since)]);
        let other = view
            .workloads
            .iter()
            .find(|may| may.workload == name("matrix"));
        let stopped = !other.unwrap().stopped_by.is_empty();
        assert_eq!(stopped, on != "workload:release");
    }
}

#[tokio::test]
async fn pages_show_each_task_once_and_count_them_all() {
    let world = World::new().await;
    let mut opened = Vec::new();
    for run in 1..=7 {
        opened.push(world.job(run).await.task);
    }
    let (mut shown, mut after) = (Vec::new(), None);
    for (size, more) in [(3, true), (3, true), (1, false)] {
        let view = world.reach_page(TENANT, (after, 3));
        assert_eq!((view.open, view.clients), (7, 7));
        assert_eq!((view.tasks.len(), view.next.is_some()), (size, more));
        shown.extend(view.tasks.iter().map(|task| task.task.to_string()));
        after = view.next;
    }
    opened.sort();
    assert_eq!(shown, opened);
    // A page that is just full is the last one.
    assert_eq!(world.reach_page(TENANT, (None, 7)).next, None);
    let last = shown.last().unwrap().parse().unwrap();
    assert!(world.reach_page(TENANT, (Some(last), 3)).tasks.is_empty());
    assert_eq!(world.reach_page(TENANT, (None, 0)).tasks.len(), 1);
}

/// What waits, what is over by the clock and what has ended can nothing.
#[tokio::test]
async fn only_what_is_open_and_not_over_can() {
    let declared = format!("{TENANT}{APPROVALS}");
    let world = World::declared(&declared).await;
    let waiting = world.asked(7, 1).await;
    let (ended, silent, open) = (world.job(1).await, world.job(2).await, world.job(3).await);
    world.end(&ended).await;
    assert_eq!(world.beat(&silent).await.status, 200);
    let ids = |world: &World| -> Vec<String> {
        let view = world.reach_under(&declared);
        assert_eq!(view.open as usize, view.tasks.len());
        let mut ids: Vec<String> = view
            .tasks
            .iter()
            .map(|task| task.task.to_string())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: [String; 2]| {
        ids.sort();
        ids
    };
    assert_eq!(
        ids(&world),
        sorted([silent.task.clone(), open.task.clone()])
    );
    // The round that would record it has not come: what is over counts as over all the same.
    world.app.sweep().await;
    sweep_for(&world, 300).await;
    world.wait(1);
    assert!(world.is_open(&silent.task));
    assert_eq!(ids(&world), [open.task.as_str()]);
    world.approve(&waiting, "mona").await.unwrap();
    assert_eq!(
        ids(&world),
        [open.task.as_str()],
        "approved and not fetched"
    );
    assert_eq!(world.poll(&waiting).await.status, 200);
    assert_eq!(
        ids(&world),
        sorted([waiting.task.clone(), open.task.clone()])
    );
    world.wait(3300);
    assert_eq!(
        ids(&world),
        [waiting.task.as_str()],
        "the deadline of the other"
    );
}

#[tokio::test]
async fn of_a_task_those_clients_are_shown_that_can() {
    let declared = format!("{TENANT}{AGENTS}");
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let reads = world.child(&root, &scope("artifacts:read")).await;
    let elsewhere = world.child(&root, &scope("queue:read")).await;
    let over = world.child(&root, &scope("artifacts:read")).await;
    assert_eq!(world.end(&over).await.status, 200);
    let clients = || -> Vec<(String, usize)> {
        let view = world.reach_under(&declared);
        let shown = view.tasks.iter().flat_map(|task| &task.clients);
        let shown: Vec<_> = shown
            .map(|client| (client.client.to_string(), client.credentials.len()))
            .collect();
        assert_eq!(view.clients as usize, shown.len());
        shown
    };
    let of = |job: &Job| job.client.clone();
    assert_eq!(clients(), [(of(&root), 1), (of(&reads), 1)]);
    assert!(
        !clients()
            .iter()
            .any(|(client, _)| *client == of(&elsewhere))
    );
    // A credential under a key that was given up is none, and whoever held it can have another.
    let tenant = world.tenant();
    let given_up = world.app.compromise_keys(&tenant, None, &BY, "stolen");
    given_up.await.unwrap();
    assert_eq!(clients(), [(of(&root), 0), (of(&reads), 0)]);
    let renewed = world.renew(&root, &[("resource", ARTIFACTS)]).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    assert_eq!(clients(), [(of(&root), 1), (of(&reads), 0)]);
}

/// A child that came in by a proof of its own stands under its own ceiling and its own rights, beside
/// those of whoever it was handed from.
#[tokio::test]
async fn a_child_with_a_proof_of_its_own_can_as_far_as_its_own_workload_may() {
    let declared = format!("{TENANT}{AGENTS}").replace("\"10m\"", "\"30m\"");
    let world = World::declared(&declared).await;
    let root = world.agent(1).await;
    let child = world.scanner(&root, 2, &part("octo/a")).await;
    assert_eq!(child.status, 200, "{}", child.text);
    // Nothing issued under the former ceilings lives on.
    world.wait(900);
    assert_eq!(world.reach_under(&declared).clients, 2);
    let (agent, scan) = declared.split_once("[workload.scan]").unwrap();
    let lowered = scan.replace("\"octo/*\"", "\"octo/b\"");
    let lowered = format!("{agent}[workload.scan]{lowered}");
    assert_eq!(world.reach_under(&lowered).clients, 1);
    // What took its own rights takes it out at once, before any sweep records it.
    let (tenant, what) = (world.tenant(), Contained::Workload("scan".parse().unwrap()));
    let done = world.app.stop(&tenant, &what, &Stop::End, &BY, "leaked");
    done.await.unwrap();
    let view = world.reach_under(&declared);
    assert_eq!((view.open, view.clients), (1, 1));
    assert_eq!(view.tasks[0].clients[0].client.to_string(), root.client);
}

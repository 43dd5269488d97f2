//! Two platforms whose jobs are written alike: an end and a block by hand take the one that is meant, whoever opened the task.

use dayfly_domain::{BlockOn, ClientId, Name};
use dayfly_server::app::{Actor, Blocking, InstanceOf};
use dayfly_store::{Fault, MemoryStore};
use serde_json::json;

use super::delegation::scope;
use super::job::{Job, TYPE_JWT, claims, new_key, signed, with};
use super::webhooks::{HELPERS, declared, job_over};
use super::world::{Reply, World};

const BY: Actor = Actor::Local { uid: 7 };

/// The helpers, of whom the one of the other platform hands on what it got.
fn helpers() -> String {
    let narrow = "match   = { issuer = \"enterprise\", repository_id = \"11\" }\n";
    let handing = format!("{narrow}delegation = {{ depth = 1, clients = 9, to = [\"self\"] }}\n");
    let helpers = HELPERS.replace(narrow, &handing);
    assert_ne!(helpers, HELPERS);
    let (before, other) = helpers.split_once("[workload.other]").unwrap();
    let other = other.replacen(
        "identifier = \"octo/*\" }",
        "identifier = \"octo/*\", scope = \"artifacts:read\" }",
        1,
    );
    format!("{}{before}[workload.other]{other}", declared())
}

/// A job of either platform: they are written alike.
fn instance(job: u64) -> String {
    format!("repository_id=11,run_id=7,run_attempt=1,check_run_id={job}")
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn of(issuer: Option<&str>, job: u64) -> InstanceOf {
    InstanceOf {
        issuer: issuer.map(name),
        instance: instance(job),
    }
}

fn stall(world: &World, store: &MemoryStore) {
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
}

/// The root of job 70, a child of each platform's job 71, and one that the other platform's handed
/// on to.
struct Family {
    root: Job,
    ours: Job,
    theirs: Job,
    below: Job,
}

impl World {
    async fn family(&self) -> Family {
        let root = self.handing_job().await;
        let ours = self.handed_job(&root, "scan", "71").await;
        let theirs = self.elsewhere(&root, 71).await;
        let below = self.child(&theirs, &scope("artifacts:read")).await;
        Family {
            root,
            ours,
            theirs,
            below,
        }
    }

    /// A child that comes in by the proof of a job of the other platform.
    async fn elsewhere(&self, root: &Job, job: u64) -> Job {
        let (key, handover, reply) = self.ask_elsewhere(root, job).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, handover, &reply)
    }

    async fn ask_elsewhere(
        &self,
        root: &Job,
        job: u64,
    ) -> (
        std::sync::Arc<dayfly_token::sign::SigningKey>,
        String,
        Reply,
    ) {
        let key = new_key();
        let handover = self.handover(root, Some(&key), &scope("artifacts:read"));
        let elsewhere = json!({
            "iss": "https://git.example/_services/token", "check_run_id": job.to_string(),
        });
        let actor = signed(&with(claims(self, 11, 7), elsewhere));
        let more = [
            ("actor_token", actor.as_str()),
            ("actor_token_type", TYPE_JWT),
            ("client_id", "other"),
        ];
        let reply = self.come_in(&handover, Some(&key), &more).await;
        (key, handover, reply)
    }

    /// The block that the end of a client sets.
    async fn end_blocked(&self, job: &Job) -> Result<BlockOn, String> {
        let (tenant, client) = (self.tenant(), job.client.parse().unwrap());
        let would = self.app.client_would_end(&tenant, client, true);
        let ended = self.app.end_client(&tenant, client, true, &BY, "leaked");
        match ended.await {
            Ok((_, on)) => {
                assert_eq!(would.unwrap().block.as_ref(), on.on());
                Ok(on.on().unwrap().clone())
            }
            Err(refused) => {
                let rule = refused.refusal.rule;
                assert_eq!(would.unwrap_err().refusal.rule, rule);
                Err(rule.code().to_owned())
            }
        }
    }

    async fn ends(&self, what: &InstanceOf, block: bool) -> Result<Vec<ClientId>, String> {
        let tenant = self.tenant();
        let ended = self.app.end_instance(&tenant, what, block, &BY, "odd");
        let code = |refused: dayfly_server::app::Refused| refused.refusal.rule.code().to_owned();
        ended.await.map(|ended| ended.clients).map_err(code)
    }

    async fn all_active(&self, jobs: &[&Job]) {
        for job in jobs {
            assert!(self.is_active(&job.token).await, "{}", job.client);
        }
    }

    async fn none_active(&self, jobs: &[&Job]) {
        for job in jobs {
            assert!(!self.is_active(&job.token).await, "{}", job.client);
            assert_ne!(self.renew(job, &[]).await.status, 200, "{}", job.client);
        }
    }
}

/// The block stands where that client comes from, and in nobody else's way.
#[tokio::test]
async fn a_client_is_blocked_at_whoever_vouched_for_it() {
    let world = World::declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    // One that is written as its parent's is not its parent's.
    let namesake = world.elsewhere(&root, 70).await;
    let on = world.end_blocked(&namesake).await.unwrap();
    assert_eq!(
        on.to_string(),
        format!("instance:enterprise:{}", instance(70))
    );
    world.none_active(&[&namesake]).await;
    world.all_active(&[&root, &ours, &theirs, &below]).await;
    assert_eq!(world.renew(&root, &[]).await.status, 200);
    let (_, _, again) = world.ask_elsewhere(&root, 70).await;
    assert_eq!(again.rule(), "blocked", "{}", again.text);
    // What lives in the instance of its parent has none of its own.
    assert_eq!(
        world.end_blocked(&below).await.unwrap_err(),
        "invalid_parameter"
    );
    let on = world.end_blocked(&theirs).await.unwrap();
    assert_eq!(
        on.to_string(),
        format!("instance:enterprise:{}", instance(71))
    );
    world.none_active(&[&theirs, &below]).await;
    assert_eq!(world.renew(&ours, &[]).await.status, 200);
    world.handed_job(&root, "scan", "71").await;
    let (_, _, again) = world.ask_elsewhere(&root, 71).await;
    assert_eq!(again.rule(), "blocked", "{}", again.text);
}

/// Where nothing can be read, nobody knows whether a client has an instance of its own: it ends, and
/// the answer promises no block. Where it turns out to have none, nothing is blocked.
#[tokio::test]
async fn the_end_of_a_client_that_cannot_be_read_promises_no_block() {
    let (world, store) = World::in_memory_declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    stall(&world, &store);
    let tenant = world.tenant();
    for job in [&below, &ours] {
        let client = job.client.parse().unwrap();
        let ended = world.app.end_client(&tenant, client, true, &BY, "leaked");
        let (ended, blocking) = ended.await.unwrap();
        assert!(ended.recorded, "{ended:?}");
        assert_eq!(blocking, Blocking::IfItsOwn);
    }
    world.store.fail_reads(false);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    world.none_active(&[&below, &ours]).await;
    world.all_active(&[&root, &theirs]).await;
    let blocks = world.app.blocks(&tenant).unwrap();
    let blocks: Vec<String> = blocks.iter().map(|block| block.on.to_string()).collect();
    assert_eq!(blocks, [format!("instance:github:{}", instance(71))]);
}

/// A block on the key of a child's own run stands in the child's way and in that of what it handed on,
/// and in nobody else's: neither its parent's nor that of the same key at the other platform.
#[tokio::test]
async fn a_child_obeys_a_block_on_the_key_of_its_own_run() {
    let world = World::declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    let on: BlockOn = "key:enterprise:11/7/71".parse().unwrap();
    let tenant = world.tenant();
    let set = world.app.set_block(&tenant, on.clone(), &BY, "odd");
    assert!(set.await.is_ok());
    let narrow = async |job: &Job| {
        let narrowed = world.narrow(&job.token, Some(&job.key), &[("scope", "artifacts:read")]);
        narrowed.await
    };
    for blocked in [&theirs, &below] {
        assert_eq!(world.renew(blocked, &[]).await.rule(), "blocked");
        assert_eq!(narrow(blocked).await.rule(), "blocked");
    }
    let key = new_key();
    let more = world.handover(&theirs, Some(&key), &scope("artifacts:read"));
    let reply = world.come_in(&more, Some(&key), &[]).await;
    assert_eq!(reply.rule(), "blocked", "{}", reply.text);
    for free in [&root, &ours] {
        assert_eq!(world.renew(free, &[]).await.status, 200);
        assert_eq!(narrow(free).await.status, 200);
    }
    let (_, _, again) = world.ask_elsewhere(&root, 71).await;
    assert_eq!(again.rule(), "blocked", "{}", again.text);
    world
        .app
        .unblock(&tenant, on, &BY, "it was nothing")
        .await
        .unwrap();
    for free in [&theirs, &below] {
        assert_eq!(world.renew(free, &[]).await.status, 200);
    }
}

/// A block on the key of a child's own run that is acknowledged before the child is recorded keeps it
/// out, and one that comes after that keeps its answer back.
#[tokio::test]
async fn no_child_comes_in_past_a_block_on_its_key() {
    for recorded in [false, true] {
        let world = World::declared(&helpers()).await;
        let root = world.handing_job().await;
        let block = {
            let (app, tenant) = (std::sync::Arc::clone(&world.app), world.tenant());
            async move {
                let on = "key:enterprise:11/7/71".parse().unwrap();
                app.set_block(&tenant, on, &BY, "odd").await.unwrap();
            }
        };
        if recorded {
            world.store.after_next(block);
        } else {
            world.store.before_next(block);
        }
        let (_, _, reply) = world.ask_elsewhere(&root, 71).await;
        assert_eq!(reply.rule(), "blocked", "{recorded}: {}", reply.text);
        let came_in = world.count("client.delegated", &root.task);
        assert_eq!(came_in, usize::from(recorded));
    }
}

#[tokio::test]
async fn an_instance_ends_as_that_of_the_issuer_that_is_named() {
    let world = World::declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    let theirs_only = of(Some("enterprise"), 71);
    let would = world
        .app
        .instance_would_end(&world.tenant(), &theirs_only, false);
    let would = would.unwrap();
    assert_eq!((would.open, would.partly, would.clients), (0, 1, 2));
    // Whose it is must be said where a block is wanted of one of two.
    assert_eq!(
        world.ends(&of(None, 71), true).await.unwrap_err(),
        "invalid_parameter"
    );
    world.all_active(&[&ours, &theirs, &below]).await;
    let ended = world.ends(&theirs_only, true).await.unwrap();
    assert_eq!(ended, [theirs.client.parse().unwrap()]);
    world.none_active(&[&theirs, &below]).await;
    assert_eq!(world.renew(&ours, &[]).await.status, 200);
    let ended = world.ends(&of(Some("github"), 71), false).await.unwrap();
    assert_eq!(ended, [ours.client.parse().unwrap()]);
    world.none_active(&[&ours]).await;
    assert_eq!(world.renew(&root, &[]).await.status, 200);
    // Of whichever vouches, all of it ends, and a block goes to the only one there is.
    let root = World::declared(&helpers()).await;
    let family = root.family().await;
    let ended = root.ends(&of(None, 71), false).await.unwrap();
    assert_eq!(ended.len(), 2, "{ended:?}");
    root.none_active(&[&family.ours, &family.theirs, &family.below])
        .await;
    let last = root.elsewhere(&family.root, 72).await;
    root.ends(&of(None, 72), true).await.unwrap();
    let blocks = root.app.blocks(&root.tenant()).unwrap();
    let on: BlockOn = format!("instance:enterprise:{}", instance(72))
        .parse()
        .unwrap();
    assert!(blocks.iter().any(|block| block.on == on), "{blocks:?}");
    root.none_active(&[&last]).await;
}

/// What is held until the ledger is back covers the same clients, over a restart, and is recorded
/// of no others.
#[tokio::test]
async fn what_cannot_be_looked_up_ends_as_that_of_the_issuer_that_is_named() {
    let (world, store) = World::in_memory_declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    world.app.sweep().await;
    stall(&world, &store);
    for block in [false, true] {
        let unknown = world.ends(&of(Some("nobody"), 71), block).await;
        assert_eq!(unknown.unwrap_err(), "not_found");
    }
    let ended = world.ends(&of(Some("enterprise"), 71), true).await.unwrap();
    assert!(ended.is_empty(), "nobody could look: {ended:?}");
    world.store.fail_reads(false);
    let again = world.restarted().await;
    for world in [&world, &again] {
        world.none_active(&[&theirs, &below]).await;
        world.all_active(&[&root, &ours]).await;
    }
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    again.none_active(&[&theirs, &below]).await;
    again.all_active(&[&root, &ours]).await;
    let (_, _, late) = again.ask_elsewhere(&root, 71).await;
    assert_eq!(late.rule(), "blocked", "{}", late.text);
    let ends = again.leaves().into_iter();
    assert_eq!(
        ends.filter(|leaf| leaf["kind"] == "client.ended").count(),
        1
    );
}

/// Where nobody can tell whose it is, it is blocked at each issuer that vouches for what is found.
#[tokio::test]
async fn an_instance_is_blocked_when_found_at_whoever_vouched_for_it() {
    let (world, store) = World::in_memory_declared(&helpers()).await;
    let Family {
        root, ours, theirs, ..
    } = world.family().await;
    let namesake = world.elsewhere(&root, 72).await;
    world.app.sweep().await;
    stall(&world, &store);
    for job in [71, 72] {
        let ended = world.ends(&of(None, job), true).await.unwrap();
        assert!(ended.is_empty(), "nobody could look: {ended:?}");
    }
    world.store.fail_reads(false);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    world.none_active(&[&ours, &theirs, &namesake]).await;
    world.all_active(&[&root]).await;
    let blocks = world.app.blocks(&world.tenant()).unwrap();
    let mut on: Vec<String> = blocks.iter().map(|block| block.on.to_string()).collect();
    on.sort_unstable();
    let wanted = [("enterprise", 71), ("enterprise", 72), ("github", 71)];
    let wanted = wanted.map(|(issuer, job)| format!("instance:{issuer}:{}", instance(job)));
    assert_eq!(on, wanted);
}

/// What a job of another platform handed on has that job's instance, and not one of the platform that
/// says a job of its own is over.
#[tokio::test]
async fn a_platform_ends_nothing_that_another_ones_job_handed_on() {
    let world = World::declared(&helpers()).await;
    let Family {
        root,
        ours,
        theirs,
        below,
    } = world.family().await;
    let said = world.hub("workflow_job", &job_over(11, 7, 1, 71)).await;
    assert_eq!(
        (said.status, said.body["clients"].as_u64()),
        (200, Some(1)),
        "{}",
        said.text
    );
    world.none_active(&[&ours]).await;
    world.all_active(&[&root, &theirs, &below]).await;
}

/// A slip of the pen ends nothing, and says so, block or not.
#[tokio::test]
async fn an_issuer_that_nobody_declares_is_refused() {
    let world = World::declared(&helpers()).await;
    let Family { ours, theirs, .. } = world.family().await;
    let size = world.size();
    for block in [false, true] {
        let what = of(Some("nobody"), 71);
        let would = world.app.instance_would_end(&world.tenant(), &what, block);
        assert_eq!(would.unwrap_err().refusal.rule.code(), "not_found");
        assert_eq!(world.ends(&what, block).await.unwrap_err(), "not_found");
    }
    assert_eq!(world.size(), size);
    world.all_active(&[&ours, &theirs]).await;
}

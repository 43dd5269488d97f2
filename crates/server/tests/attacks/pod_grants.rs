//! What a pod is granted while its cluster is asked: what is refused before, whom an outage harms, and what is asked once people have approved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::http::StatusCode;
use dayfly_server::config::{AddressRates, Rate};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::approval::{Asked, asked_of};
use super::delegation::scope;
use super::job::{JWT_BEARER, TYPE_JWT, new_key, signed, with};
use super::pods::{Cluster, claims, declared, world};
use super::world::{ARTIFACTS, World};

/// What can be refused without the cluster is: nobody has it asked in vain.
#[tokio::test]
async fn limits_rates_and_keys_are_judged_before_the_cluster_is_asked() {
    let (cluster, url) = Cluster::start().await;
    let limited = declared(&url).replace(
        "[workload.settler]",
        "[workload.settler]\nrate = { requests = 3, per = \"1m\" }\nlimits = { open = 2 }",
    );
    let world = World::declared(&limited).await;
    world.pod_job("14ee3fa4", "one").await;
    let two = world.pod_job("14ee3fa4", "two").await;
    cluster.asked();
    let refusal = world.pod("14ee3fa4", "three").await;
    assert_eq!(refusal.rule(), "open_limit", "{}", refusal.text);
    // Whoever comes again opens none.
    let proof = signed(&claims(&world, "crew", "four"));
    let bare = [("resource", ARTIFACTS)];
    assert_eq!(world.ask(&proof, Some(&new_key()), &bare).await.status, 200);
    assert_eq!(cluster.asked().len(), 1);
    let again = world.ask(&two.proof, Some(&two.key), &bare).await;
    assert_eq!((again.status, cluster.asked().len()), (200, 1));
    let refusal = world.ask(&two.proof, Some(&two.key), &bare).await;
    assert_eq!(refusal.rule(), "rate_limit", "{}", refusal.text);
    assert_ne!(refusal.header("retry-after"), "");
    world.wait(60);
    // A proof of a key that does not hold.
    let form = [("grant_type", JWT_BEARER), ("assertion", proof.as_str())];
    let refusal = world.form("/token", &form, &[("dpop", "a.b.c")]).await;
    assert_eq!(refusal.status, 400, "{}", refusal.text);
    // It has ended, and nothing opens it again.
    assert_eq!(world.end_task(&two, "completed").await.status, 200);
    let refusal = world.pod("14ee3fa4", "two").await;
    assert_eq!(refusal.rule(), "already_ended", "{}", refusal.text);
    assert_eq!(cluster.asked().len(), 0);
}

/// Who asks for a pod while its cluster is away takes nothing from others behind the same address.
#[tokio::test]
async fn an_outage_of_the_cluster_keeps_no_beat_away() {
    let (world, cluster) = world().await;
    let rates = AddressRates {
        unverified: Rate::per_minute(3),
        address: None,
    };
    let world = world.behind_the_door(rates).await;
    let job = world.pod_job("14ee3fa4", "one").await;
    cluster.is_in_trouble(Some((StatusCode::BAD_GATEWAY, "")));
    cluster.asked();
    for pod in 0..9 {
        let refusal = world.pod("14ee3fa4", &format!("new-{pod}")).await;
        assert_eq!(
            refusal.rule(),
            "token_review_unavailable",
            "{}",
            refusal.text
        );
    }
    assert_eq!(cluster.asked().len(), 9);
    assert_eq!(world.beat(&job).await.status, 200);
    // One pod alone has its cluster asked in vain a few times, and then waits.
    for _ in 0..5 {
        assert_eq!(world.pod("14ee3fa4", "new-0").await.status, 503);
    }
    assert_eq!(cluster.asked().len(), 5);
    let refusal = world.pod("14ee3fa4", "new-0").await;
    assert_eq!(refusal.rule(), "token_review_unavailable");
    assert_eq!(refusal.header("retry-after"), "10");
    let why = world.app.why(refusal.str("refusal").parse().unwrap());
    assert!(why.unwrap().hint.contains("asked 6 times"));
    assert_eq!(cluster.asked().len(), 0);
    cluster.is_in_trouble(None);
    world.wait(10);
    assert_eq!(world.pod("14ee3fa4", "new-0").await.status, 200);
    // A cluster that says no is another matter: such a proof proves nothing.
    for pod in 0..3 {
        let pod = format!("gone-{pod}");
        cluster.delete(&pod);
        assert_eq!(world.pod("14ee3fa4", &pod).await.rule(), "token_review");
    }
    assert_eq!(world.beat(&job).await.status, 429);
}

/// A pod that shows proof after proof has its cluster asked one question at a time: another pod waits
/// for none of them.
#[tokio::test]
async fn a_pod_that_asks_all_the_time_keeps_no_other_waiting() {
    const SHOWN: usize = 20;
    const REFUSED: usize = SHOWN - 9;
    let (world, cluster) = world().await;
    let world = Arc::new(world);
    let gate = Arc::new(Semaphore::new(0));
    cluster.waits_for(&gate);
    cluster.asked();
    let done = Arc::new(AtomicUsize::new(0));
    let loud: Vec<_> = (0..SHOWN)
        .map(|_| {
            let (world, done) = (Arc::clone(&world), Arc::clone(&done));
            tokio::spawn(async move {
                let reply = world.pod("14ee3fa4", "loud").await;
                done.fetch_add(1, SeqCst);
                reply.status
            })
        })
        .collect();
    while done.load(SeqCst) < REFUSED || cluster.heard() < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.heard(), 1, "one question of a pod at a time");
    let calm = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.pod("14ee3fa4", "calm").await.status })
    };
    while cluster.heard() < 2 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(calm.await.unwrap(), 200);
    let mut refused = 0;
    for reply in loud {
        refused += usize::from(reply.await.unwrap() == 503);
    }
    assert_eq!(refused, REFUSED);
    // Nothing was asked in vain, so nothing is charged.
    for _ in 0..9 {
        assert_ne!(world.pod("14ee3fa4", "loud").await.status, 503);
    }
}

/// A pod that waits for people and is approved.
async fn approved(world: &World, pod: &str) -> Asked {
    approved_by(world, &claims(world, "asker", pod)).await
}

async fn approved_by(world: &World, claims: &Value) -> Asked {
    let (key, proof) = (new_key(), signed(claims));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked = asked_of(key, proof, &reply);
    world.approve(&asked, "otto").await.unwrap();
    asked
}

/// What was approved is asked about when it is fetched: the pod may be gone since.
#[tokio::test]
async fn an_approved_pod_is_vouched_for_again_when_it_fetches_its_grant() {
    let (world, cluster) = world().await;
    let asked = approved(&world, "one").await;
    cluster.asked();
    cluster.delete("one");
    let refusal = world.poll(&asked).await;
    assert_eq!(refusal.refusal(), (400, "access_denied", "token_review"));
    assert_eq!(cluster.asked().len(), 1);
    assert_eq!(world.grants(), 0);
    // Nobody knows: later, perhaps.
    cluster.is_in_trouble(Some((StatusCode::BAD_GATEWAY, "")));
    world.wait(5);
    let refusal = world.poll(&asked).await;
    assert_eq!(refusal.refusal().2, "token_review_unavailable");
    assert_eq!((refusal.status, world.grants()), (503, 0));
    // One no is none.
    cluster.is_in_trouble(None);
    cluster.restore("one");
    cluster.asked();
    world.wait(5);
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(cluster.asked().len(), 1);
    // Found gone twice it is over, whatever its cluster says later.
    let asked = approved(&world, "two").await;
    cluster.delete("two");
    world.wait(30);
    assert_eq!(world.gone().await, 1);
    cluster.restore("two");
    assert_eq!(world.poll(&asked).await.rule(), "approval_denied");
}

/// After a restart no token is at hand: who fetches shows it first.
#[tokio::test]
async fn an_approved_pod_of_which_no_token_is_at_hand_shows_it_again() {
    let (world, cluster) = world().await;
    let asked = approved(&world, "one").await;
    let world = world.restarted().await;
    cluster.asked();
    let refusal = world.poll(&asked).await;
    assert_eq!(refusal.status, 503, "{}", refusal.text);
    assert_eq!(refusal.rule(), "token_review_unavailable");
    let why = world.app.why(refusal.str("refusal").parse().unwrap());
    assert!(
        why.unwrap()
            .hint
            .contains("send the first request once more")
    );
    assert_eq!((cluster.asked().len(), world.grants()), (0, 0));
    // The kubelet has renewed it meanwhile.
    world.wait(5);
    let renewed = signed(&claims(&world, "asker", "one"));
    let again = world.defer(&renewed, Some(&asked.key)).await;
    let again = asked_of(Arc::clone(&asked.key), renewed, &again);
    assert_eq!((&again.code, &again.task), (&asked.code, &asked.task));
    cluster.asked();
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(cluster.asked().len(), 1);
    assert_eq!(world.count("client.registered", &asked.task), 1);
    // Of one that may have expired by now a no would say nothing, so nobody is asked by it.
    let until = json!({ "exp": world.now() + 120 });
    let short = approved_by(&world, &with(claims(&world, "asker", "two"), until)).await;
    world.wait(60);
    cluster.asked();
    let refusal = world.poll(&short).await;
    assert_eq!(refusal.rule(), "token_review_unavailable");
    assert_eq!(cluster.asked().len(), 0);
}

/// A workload of the platform that hands over to pods, and may ask once a minute.
const LEAD: &str = r#"
[workload.lead]
owner   = "team"
kind    = "agent"
purpose = "hands work to pods"
match   = { issuer = "github", repository_id = "51" }
client_rate = { requests = 1, per = "1m" }
delegation = { depth = 1, clients = 4, to = ["settler"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]
"#;

#[tokio::test]
async fn nobody_is_asked_about_a_child_whose_parent_is_over_its_rate() {
    let (cluster, url) = Cluster::start().await;
    let world = World::declared(&format!("{}{LEAD}", declared(&url))).await;
    let job = world.job_of(51, 1, &[]).await;
    assert_eq!(world.renew(&job, &[]).await.status, 200);
    let own = signed(&claims(&world, "14ee3fa4", "one"));
    let more = [
        ("actor_token", own.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let come_in = async || {
        let key = new_key();
        let handover = world.handover(&job, Some(&key), &scope("artifacts:read"));
        world.come_in(&handover, Some(&key), &more).await
    };
    let refusal = come_in().await;
    assert_eq!(refusal.rule(), "rate_limit", "{}", refusal.text);
    assert_eq!(cluster.asked().len(), 0);
    world.wait(60);
    let child = come_in().await;
    assert_eq!(
        (child.status, cluster.asked().len()),
        (200, 1),
        "{}",
        child.text
    );
}

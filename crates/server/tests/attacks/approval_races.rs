//! Races around an approval, each forced: nothing verifies after an end that was acknowledged, and nothing is fetched twice.

use std::pin::Pin;
use std::sync::Arc;

use dayfly_server::app::{Actor, Contained};
use tokio::sync::mpsc::UnboundedSender;

use super::approval::{Asked, person, world};
use super::world::World;

const BY: Actor = Actor::Local { uid: 7 };

/// What goes on beside, in the moment before the other's append is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Approve,
    Deny,
    End,
    Offboard,
    Late,
}

async fn beside(world: &World, asked: &Asked, what: Beside) {
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let (task, clock) = (asked.task.parse().unwrap(), Arc::clone(&world.clock));
    let owner = Contained::Owner("team".parse().unwrap());
    world.store.before_next(async move {
        match what {
            Beside::Approve => drop(
                app.approve(&tenant, task, &person("anna"), "seen")
                    .await
                    .unwrap(),
            ),
            Beside::Deny => drop(
                app.deny(&tenant, task, &person("otto"), "no")
                    .await
                    .unwrap(),
            ),
            Beside::End => drop(
                app.operator_end(&tenant, task, &BY, "leaked")
                    .await
                    .unwrap(),
            ),
            Beside::Offboard => drop(app.contain(&tenant, &owner, &BY, "left").await.unwrap()),
            Beside::Late => clock.advance(dayfly_domain::Span::from_seconds(1800)),
        }
    });
}

/// Whoever decided first, the record holds one truth, and what it says is what holds.
#[tokio::test]
async fn an_approval_that_meets_a_denial_an_end_or_an_offboarding_loses() {
    for what in [Beside::Deny, Beside::End, Beside::Offboard] {
        let world = world().await;
        let asked = world.asked(7, 1).await;
        beside(&world, &asked, what).await;
        let refused = world.approve(&asked, "mona").await.unwrap_err();
        let wanted = if what == Beside::Offboard {
            "rights_removed"
        } else {
            "not_pending"
        };
        assert_eq!(refused, wanted, "{what:?}");
        let reply = world.poll(&asked).await;
        assert_eq!(
            (reply.status, reply.str("error")),
            (400, "access_denied"),
            "{what:?}"
        );
        assert_eq!(world.count("task.approved", &asked.task), 0);
        assert_eq!(world.count("task.started", &asked.task), 0);
    }
}

#[tokio::test]
async fn a_denial_that_meets_an_approval_denies_what_was_approved() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    beside(&world, &asked, Beside::Approve).await;
    world.deny(&asked).await.unwrap();
    assert_eq!(world.count("task.approved", &asked.task), 1);
    assert_eq!(world.poll(&asked).await.rule(), "approval_denied");
}

/// The store stamps an approval with a time that is past the request's, and yet what it is
/// recorded by was in time: what counts is that it is not fetched.
#[tokio::test]
async fn an_approval_that_meets_the_expiry_is_not_fetched_by_a_task_that_ended() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let (app, clock) = (Arc::clone(&world.app), Arc::clone(&world.clock));
    world.store.before_next(async move {
        clock.advance(dayfly_domain::Span::from_seconds(1800));
        assert_eq!(app.sweep().await, 1);
    });
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "not_pending"
    );
    assert_eq!(world.poll(&asked).await.rule(), "approval_expired");
    let late = world.asked(7, 2).await;
    beside(&world, &late, Beside::Late).await;
    // Decided in time and recorded late: within five minutes of the decision it would be fetched,
    // and those are over.
    assert!(world.approve(&late, "mona").await.is_ok());
    assert_eq!(world.poll(&late).await.rule(), "approval_expired");
}

#[tokio::test]
async fn a_redemption_that_meets_an_end_grants_nothing() {
    for what in [Beside::Deny, Beside::End, Beside::Offboard] {
        let world = world().await;
        let asked = world.asked(7, 1).await;
        world.approve(&asked, "mona").await.unwrap();
        beside(&world, &asked, what).await;
        let reply = world.poll(&asked).await;
        assert_eq!(
            (reply.status, reply.str("error")),
            (400, "access_denied"),
            "{what:?}"
        );
        assert_eq!(world.count("task.started", &asked.task), 0);
        world.app.sweep().await;
        assert_eq!(world.count("task.ended", &asked.task), 1);
    }
}

/// Recorded before the end, and signed after it: nothing is signed.
#[tokio::test]
async fn a_redemption_whose_task_ends_before_the_signature_gets_no_token() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    let (app, tenant, task) = (
        Arc::clone(&world.app),
        world.tenant(),
        asked.task.parse().unwrap(),
    );
    world.store.after_next(async move {
        app.operator_end(&tenant, task, &BY, "leaked")
            .await
            .unwrap();
    });
    let reply = world.poll(&asked).await;
    assert_eq!(
        (reply.status, reply.str("error")),
        (400, "access_denied"),
        "{}",
        reply.text
    );
    assert!(reply.body.get("access_token").is_none());
}

/// A redemption before whose append another one, long after, decides and is recorded.
fn redeeming(
    world: Arc<World>,
    asked: Asked,
    others: u32,
    tell: UnboundedSender<(u16, String)>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        world.wait(10);
        if others > 0 {
            let other = redeeming(Arc::clone(&world), asked.clone(), others - 1, tell.clone());
            world.store.before_next(other);
        }
        let reply = world.poll(&asked).await;
        let rule = reply.body["refused"]["rule"].as_str().unwrap_or_default();
        tell.send((reply.status, rule.to_owned())).unwrap();
    })
}

/// All of them have found the task approved and decided to open it, none is told to slow down:
/// the version that each was decided on is what lets one of them through.
#[tokio::test]
async fn of_many_redemptions_that_were_decided_one_is_granted() {
    let world = Arc::new(world().await);
    for run in 1..4 {
        let asked = world.asked(7, run).await;
        world.approve(&asked, "mona").await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        redeeming(Arc::clone(&world), asked.clone(), 7, tell).await;
        let mut replies = Vec::new();
        while let Some(reply) = told.recv().await {
            replies.push(reply);
        }
        let (last, others) = replies.split_first().unwrap();
        assert_eq!(
            *last,
            (200, String::new()),
            "the innermost is recorded first"
        );
        assert_eq!(others.len(), 7);
        for other in others {
            assert_eq!(*other, (400, "deferral_code".to_owned()));
        }
        for kind in ["task.started", "client.registered", "credential.issued"] {
            assert_eq!(world.count(kind, &asked.task), 1, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_redemption_that_meets_another_finds_its_code_spent() {
    let world = Arc::new(world().await);
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    world.poll_with("dfr_x", Some(&asked.key), &[]).await;
    let (other, again) = (Arc::clone(&world), asked.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    world.store.before_next(async move {
        other.wait(30);
        tell.send(other.poll(&again).await.status).unwrap();
    });
    let reply = world.poll(&asked).await;
    assert_eq!(told.await.unwrap(), 200);
    assert_eq!(reply.refusal(), (400, "invalid_grant", "deferral_code"));
    assert_eq!(world.count("credential.issued", &asked.task), 1);
}

#[tokio::test]
async fn a_cancellation_that_meets_a_redemption_loses_and_the_other_way_round() {
    let world = Arc::new(world().await);
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    let (other, again) = (Arc::clone(&world), asked.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    world.store.before_next(async move {
        tell.send(other.poll(&again).await).unwrap();
    });
    assert_eq!(
        world.cancel(&asked.code, Some(&asked.key)).await.status,
        200
    );
    let granted = told.await.unwrap();
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert!(world.is_active(granted.str("access_token")).await);
    let asked = world.asked(7, 2).await;
    world.approve(&asked, "mona").await.unwrap();
    let (other, again) = (Arc::clone(&world), asked.clone());
    world.store.before_next(async move {
        assert_eq!(
            other.cancel(&again.code, Some(&again.key)).await.status,
            200
        );
    });
    let reply = world.poll(&asked).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "approval_denied"));
    assert_eq!(world.count("credential.issued", &asked.task), 0);
}

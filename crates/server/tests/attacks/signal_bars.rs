//! Persons whom their provider barred, beside blocks that operators set and lift: whoever lifts one lets nobody in whom the other keeps out.

use std::sync::Arc;

use dayfly_domain::{BlockOn, Digest};
use dayfly_server::app::Actor;
use dayfly_store::Fault;
use serde_json::Value;

use super::signal_races::meanwhile;
use super::signals::{DISABLED, declared, event, set};
use super::world::World;

const BY: Actor = Actor::Local { uid: 7 };

impl World {
    /// The blocks on people, as they are written.
    fn blocks_on_people(&self) -> Vec<BlockOn> {
        let blocks = self.app.blocks(&self.tenant()).unwrap();
        blocks.into_iter().map(|block| block.on).collect()
    }

    fn barred(&self) -> Digest {
        let on = self.blocks_on_people();
        let barred = on.iter().map(ToString::to_string);
        let mut barred = barred.filter_map(|on| Some(on.strip_prefix("barred:")?.parse().unwrap()));
        barred.next_back().unwrap()
    }

    async fn let_in(&self, on: BlockOn) -> Result<Option<BlockOn>, String> {
        let lifted = self.app.unblock(&self.tenant(), on, &BY, "back").await;
        let lifted = lifted.map_err(|refused| refused.refusal.rule.code().to_owned());
        lifted.map(|beside| beside.map(|block| block.on))
    }

    async fn keep_out(&self, on: BlockOn) {
        let set = self.app.set_block(&self.tenant(), on, &BY, "odd").await;
        assert!(!set.unwrap().already);
    }

    /// What stands in the entries of a kind, in order.
    fn noted(&self, kind: &str, member: &str) -> Vec<Value> {
        let leaves = self.leaves().into_iter();
        let told = leaves.filter(|leaf| leaf["kind"] == kind);
        told.map(|leaf| leaf["data"][member].clone()).collect()
    }
}

/// Where an operator's block stands already, the provider's word is seen beside it, and stays when
/// the operator's is lifted; the other way round as well.
#[tokio::test]
async fn each_of_both_is_seen_and_lifted_by_itself() {
    let world = World::declared(&declared()).await;
    world.hears(DISABLED, "mona").await;
    let person = world.barred();
    let (by_hand, barred) = (BlockOn::Person(person), BlockOn::Barred(person));
    assert_eq!(world.let_in(barred.clone()).await, Ok(None));
    world.wait(10);
    world.logged_in("mona", 5).await;
    world.keep_out(by_hand.clone()).await;
    assert_eq!(world.login_refused("mona", 4).await, "blocked");
    world.hears(DISABLED, "mona").await;
    assert_eq!(world.blocks_on_people(), [by_hand.clone(), barred.clone()]);
    let set: Vec<Value> = world.noted("block.set", "on");
    let wanted = [&barred, &by_hand, &barred].map(|on| Value::from(on.to_string()));
    assert_eq!(set, wanted);

    assert_eq!(
        world.let_in(by_hand.clone()).await,
        Ok(Some(barred.clone()))
    );
    world.wait(10);
    assert_eq!(world.login_refused("mona", 5).await, "blocked");
    world.keep_out(by_hand.clone()).await;
    assert_eq!(
        world.let_in(barred.clone()).await,
        Ok(Some(by_hand.clone()))
    );
    assert_eq!(world.login_refused("mona", 5).await, "blocked");
    assert_eq!(world.let_in(by_hand.clone()).await, Ok(None));
    world.logged_in("mona", 5).await;
    let stood = world.noted("block.lifted", "stands");
    let wanted = [
        Value::Null,
        barred.to_string().into(),
        by_hand.to_string().into(),
        Value::Null,
    ];
    assert_eq!(stood, wanted);
    assert_eq!(world.let_in(by_hand).await, Err("not_found".to_owned()));
    // Nobody says by hand what a provider says.
    let tenant = world.tenant();
    let set = world.app.set_block(&tenant, barred, &BY, "odd");
    let refused = set.await.unwrap_err().refusal;
    assert_eq!(refused.rule.code(), "invalid_parameter");
    assert!(
        refused.hint.contains(&format!("person:{person}")),
        "{}",
        refused.hint
    );
}

/// Whoever lifts a block has not seen a word that comes in that moment.
#[tokio::test]
async fn a_word_in_the_middle_of_a_lift_keeps_the_person_out() {
    let world = World::declared(&declared()).await;
    world.hears(DISABLED, "mona").await;
    let on = BlockOn::Barred(world.barred());
    world.wait(10);
    world.store.before_lift(meanwhile(&world, DISABLED, "mona"));
    assert_eq!(world.let_in(on.clone()).await, Err("blocked".to_owned()));
    assert_eq!(world.login_refused("mona", 1).await, "blocked");
    assert!(world.noted("block.lifted", "on").is_empty());
    // One about somebody else is in nobody's way.
    world.store.before_lift(meanwhile(&world, DISABLED, "dora"));
    assert_eq!(world.let_in(on).await, Ok(None));
    world.wait(10);
    world.logged_in("mona", 5).await;
    assert_eq!(world.login_refused("dora", 5).await, "blocked");
}

/// A word that found the block standing bars anew what was lifted before it is recorded.
#[tokio::test]
async fn a_lift_in_the_middle_of_a_word_lets_nobody_in() {
    let world = Arc::new(World::declared(&declared()).await);
    world.hears(DISABLED, "mona").await;
    let on = BlockOn::Barred(world.barred());
    world.wait(10);
    let (app, tenant, lifted) = (Arc::clone(&world.app), world.tenant(), on.clone());
    world.store.before_word(async move {
        app.unblock(&tenant, lifted, &BY, "back").await.unwrap();
    });
    world.hears(DISABLED, "mona").await;
    assert_eq!(world.blocks_on_people(), [on]);
    assert_eq!(world.login_refused("mona", 1).await, "blocked");
    assert_eq!(world.noted("block.set", "on").len(), 2);
}

/// A lift that was under way when the ledger stalled, and is recorded all the same, does not undo a
/// word that came in the stall while the block still stood.
#[tokio::test]
async fn a_lift_that_is_recorded_late_lets_nobody_in_whom_a_word_barred_in_the_stall() {
    let (world, store) = World::in_memory_declared(&declared()).await;
    world.hears(DISABLED, "mona").await;
    let on = BlockOn::Barred(world.barred());
    world.wait(10);
    store.fail([Fault::BeforeWrite; 5000]);
    let word = set(&event(&world, DISABLED, "mona"));
    assert_eq!(world.push(&word).await.status, 202);
    // What nobody was answered may be recorded nonetheless.
    store.heal();
    let inner = world.store.inner();
    let lift = dayfly_store::Append {
        now: world.app.now(),
        lifts: vec![on.clone()],
        ..dayfly_store::Append::default()
    };
    inner.append(&super::world::acme(), lift).await.unwrap();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert_eq!(world.blocks_on_people(), [on]);
    assert_eq!(world.login_refused("mona", 1).await, "blocked");
}

/// What the journal cannot keep is obeyed all the same, told to be sent again, and recorded.
#[tokio::test]
async fn a_word_that_no_disk_keeps_is_obeyed_until_it_is_recorded() {
    let (first, store) = World::in_memory_declared(&declared()).await;
    let (mona, dora) = (
        first.logged_in("mona", 60).await,
        first.logged_in("dora", 60).await,
    );
    let world = first.restarted_without_journal().await;
    store.fail([Fault::BeforeWrite; 5000]);
    let word = set(&event(&world, DISABLED, "mona"));
    for _ in 0..2 {
        assert_eq!(world.push(&word).await.status, 503);
        assert!(!world.is_active(&mona.token).await);
        assert!(world.is_active(&dora.token).await);
    }
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert!(!world.is_active(&mona.token).await);
    assert_eq!(world.login_refused("mona", 1).await, "blocked");
    assert_eq!(world.push(&word).await.status, 202);
    assert_eq!(world.noted("block.set", "on").len(), 1);
}

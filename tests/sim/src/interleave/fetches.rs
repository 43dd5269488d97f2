//! What was approved and is fetched, against everything that may happen meanwhile: it is judged by what holds then.

use dayfly_domain::Rule;
use dayfly_server::app::{Actor, Contained};
use serde_json::Value;

use super::approvals::{Party, approve, block, cancel, deny, poll, request};
use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::is_active;
use crate::persons::Word;

const BY: Actor = Actor::Local { uid: 0 };

/// What happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Offboarding,
    Disabling,
    Freeze,
    Denial,
    Cancel,
    TakenBack,
    /// The account of who approved is gone.
    ApproverGone,
    /// An operator blocks its key, or lets it go.
    Block,
    Unblock,
    /// The same client asks on a second time.
    Poll,
}

struct Race {
    meanwhile: Meanwhile,
    least: u64,
}

const FETCHES: usize = 0;
const OTHER: usize = 1;
/// Who approves, by place among the people.
const APPROVER: usize = 2;

impl Meanwhile {
    fn contained(self) -> Option<Contained> {
        match self {
            Self::Offboarding => Some(Contained::Owner("others".parse().unwrap())),
            Self::Disabling => Some(Contained::Workload("guarded".parse().unwrap())),
            Self::Freeze => Some(Contained::Tenant),
            Self::Denial
            | Self::Cancel
            | Self::TakenBack
            | Self::ApproverGone
            | Self::Block
            | Self::Unblock
            | Self::Poll => None,
        }
    }
}

impl Race {
    async fn act(&self, stage: &Stage, party: &Party) -> Answer {
        let (world, on) = (&stage.world, block(party.run));
        let (app, tenant) = (&world.app, &world.tenant);
        if let Some(what) = self.meanwhile.contained() {
            return Answer::of_end(app.contain(tenant, &what, &BY, "a race").await);
        }
        match self.meanwhile {
            Meanwhile::Denial => deny(stage, party).await,
            Meanwhile::Cancel => cancel(stage, party).await,
            Meanwhile::TakenBack => Answer::of_end(party.waiting.take_back(world).await),
            Meanwhile::ApproverGone => {
                let word = Word::new(world.now(), APPROVER, 0, 0, true);
                Answer::of_end(word.say(world).await)
            }
            Meanwhile::Block => Answer::of_end(app.set_block(tenant, on, &BY, "a race").await),
            Meanwhile::Unblock => Answer::of_end(app.unblock(tenant, on, &BY, "a race").await),
            Meanwhile::Poll => poll(stage, party).await,
            Meanwhile::Offboarding | Meanwhile::Disabling | Meanwhile::Freeze => {
                panic!("contained above")
            }
        }
    }
}

impl Scene for Race {
    type Ready = Party;

    fn name(&self) -> String {
        format!("a fetch against {:?}", self.meanwhile)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// A fetch looks at much, so all orders would be more than a thousand.
    fn changes(&self) -> Option<usize> {
        Some(3)
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let (world, party) = (&stage.world, request(stage, n).await);
        let approved = approve(stage, &party, "cyd").await;
        assert!(approved.is_acknowledged(), "{approved:?}");
        if self.meanwhile == Meanwhile::Unblock {
            let on = block(party.run);
            let blocked = world.app.set_block(&world.tenant, on, &BY, "before").await;
            assert!(blocked.is_ok(), "{blocked:?}");
        }
        party
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        vec![
            Box::pin(poll(stage, party)),
            Box::pin(self.act(stage, party)),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let (world, client) = (&stage.world, party.waiting.client());
        let fetched = &played.answers[FETCHES];
        let mut dead = true;
        match self.meanwhile {
            Meanwhile::Poll => {
                // One of the two; the other had it before it was told to wait, or was too early.
                assert_eq!(played.granted().count(), 1, "{:?}", played.answers);
                dead = false;
            }
            Meanwhile::Block | Meanwhile::Unblock | Meanwhile::ApproverGone => {
                assert!(
                    played.answers[OTHER].is_acknowledged(),
                    "{:?}",
                    played.answers
                );
                dead = false;
                if self.meanwhile == Meanwhile::Block {
                    played.check_late_answers(OTHER);
                }
                if self.meanwhile != Meanwhile::Unblock {
                    stage.check_order(played, is_end);
                }
            }
            // What was fetched before is not pending any more, so there is nothing to be denied.
            Meanwhile::Denial | Meanwhile::TakenBack if played.granted().count() > 0 => {
                dead = false;
                assert!(!played.looked_after(FETCHES, OTHER) || !is_done(played));
            }
            Meanwhile::Denial
            | Meanwhile::TakenBack
            | Meanwhile::Cancel
            | Meanwhile::Offboarding
            | Meanwhile::Disabling
            | Meanwhile::Freeze => {
                assert!(
                    played.answers[OTHER].is_acknowledged(),
                    "{:?}",
                    played.answers
                );
                played.check_late_answers(OTHER);
                // The last look before a signature withholds an answer; nothing may be recorded either.
                stage.check_order(played, is_end);
            }
        }
        for (_, granted) in played.granted() {
            if dead {
                stage.check_dead(&client, &granted.token).await;
            } else {
                assert!(is_active(world, &granted.token), "{:?}", played.answers);
            }
        }
        self.check_after(stage, party, fetched).await;
    }
}

/// Whether what came meanwhile ended something: a request that is taken back after it was fetched is
/// acknowledged too, and takes nothing.
fn is_done(played: &Played) -> bool {
    played.answers[OTHER].is_acknowledged() && played.granted().count() == 0
}

/// What keeps a fetch from being recorded behind it.
fn is_end(leaf: &Value) -> bool {
    let kind = leaf["kind"].as_str().unwrap_or_default();
    ["block.set", "task.ended"].contains(&kind)
}

impl Race {
    /// What is let go again, and whether it can be fetched then.
    async fn check_after(&self, stage: &Stage, party: &Party, fetched: &Answer) {
        let world = &stage.world;
        let (app, tenant) = (&world.app, &world.tenant);
        let granted = matches!(fetched, Answer::Granted(_));
        if let Some(what) = self.meanwhile.contained() {
            let lifted = app.lift(tenant, &what, &BY, "over").await;
            assert!(lifted.is_ok(), "{lifted:?}");
        }
        let again = match self.meanwhile {
            // Whom it was approved by is out when it is fetched: it is over.
            Meanwhile::ApproverGone => {
                let word = Word::new(world.now(), APPROVER, 0, 0, true);
                let on = word.block(world).await;
                let lifted = app.unblock(tenant, on, &BY, "over").await;
                assert!(lifted.is_ok(), "{lifted:?}");
                false
            }
            // A refusal changes nothing: it can be fetched once nothing stands in the way.
            Meanwhile::Block => {
                let lifted = app.unblock(tenant, block(party.run), &BY, "over").await;
                assert!(lifted.is_ok(), "{lifted:?}");
                !granted
            }
            Meanwhile::Unblock => !granted,
            Meanwhile::Offboarding
            | Meanwhile::Disabling
            | Meanwhile::Freeze
            | Meanwhile::Denial
            | Meanwhile::Cancel
            | Meanwhile::TakenBack
            | Meanwhile::Poll => false,
        };
        world.wait(20);
        match poll(stage, party).await {
            Answer::Granted(granted) => {
                assert!(again, "fetched in the end");
                assert!(is_active(world, &granted.token));
            }
            // It was fetched before the block stood, whose answer was held back: its client goes on.
            Answer::Refused(Rule::DeferralCode) if again && self.meanwhile == Meanwhile::Block => {
                let renewed = party.waiting.client().renew(world).await;
                assert!(is_active(world, &renewed.unwrap().token));
            }
            Answer::Refused(rule) => {
                assert!(!again, "{rule:?}");
                assert_ne!(rule, Rule::ApprovalPending, "it waits again");
            }
            other @ (Answer::Decided(_) | Answer::Acknowledged | Answer::Declined) => {
                panic!("{other:?}")
            }
        }
    }
}

fn races(all: &[(Meanwhile, u64)]) {
    for (meanwhile, least) in all {
        explore(&Race {
            meanwhile: *meanwhile,
            least: *least,
        });
    }
}

#[test]
fn a_fetch_against_containment() {
    races(&[
        (Meanwhile::Offboarding, 185),
        (Meanwhile::Disabling, 130),
        (Meanwhile::Freeze, 470),
    ]);
}

#[test]
fn a_fetch_against_every_end_of_the_request() {
    races(&[
        (Meanwhile::Denial, 85),
        (Meanwhile::Cancel, 135),
        (Meanwhile::TakenBack, 82),
    ]);
}

#[test]
fn a_fetch_against_blocks_and_who_approved() {
    races(&[
        (Meanwhile::ApproverGone, 84),
        (Meanwhile::Block, 40),
        (Meanwhile::Unblock, 40),
    ]);
}

#[test]
fn of_two_fetches_one_is_granted() {
    races(&[(Meanwhile::Poll, 80)]);
}

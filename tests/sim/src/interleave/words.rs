//! A provider's word about a person against what mints by that person's authentication, start, renewal, exchange and hand-over, and against a use, also while the ledger does not take the word.

use dayfly_server::app::{Refused, Signalled, Trail};
use dayfly_server::verify::VerifiedSignal;
use dayfly_store::Fault;
use serde_json::json;

use super::explore::{Act, Answer, Played, Scene, Stage, declared_with_passing, explore};
use crate::caller::{Caller, Client, key_of};
use crate::persons::{EVENTS, TASKS, provider};
use crate::record;
use crate::world::{ISSUER, World, signed};

/// What is declared where people start tasks.
const PEOPLE: &str = r#"
[workload.repair]
owner   = "others"
kind    = "operator"
purpose = "simulated"
match   = { issuer = "staff", email_verified = true }
repeat  = "join"
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "read" },
]
delegation = { depth = 1, clients = 8, to = ["self"] }
"#;
/// What a provider says of a person.
const SESSION: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const DISABLED: &str = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";

/// The provider; the other mints, and a third one gets the ledger to record again.
const SAYS: usize = 0;
const MINTS: usize = 1;
/// The key of whoever something is handed over to.
const HELPER: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minting {
    Start,
    Renew,
    Exchange,
    HandOver,
    /// Nothing is minted: a resource asks about a use.
    Use,
}

struct Word {
    minting: Minting,
    /// Whether the account is gone rather than a session over.
    bars: bool,
    /// What becomes of the first try to record it.
    fault: Option<Fault>,
    least: u64,
}

struct Party {
    sub: String,
    said: VerifiedSignal,
    caller: Caller,
    there: Option<(Client, String)>,
}

impl Scene for Word {
    type Ready = Party;

    fn name(&self) -> String {
        let word = if self.bars { "an account" } else { "a session" };
        format!(
            "{:?} against the end of {word}, {:?}",
            self.minting, self.fault
        )
    }

    fn least(&self) -> u64 {
        self.least
    }

    fn changes(&self) -> Option<usize> {
        self.fault.map(|_| 2)
    }

    fn declared(&self) -> String {
        format!("{}{PEOPLE}", declared_with_passing())
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        let sub = format!("person-{n}");
        let there = if self.minting == Minting::Start {
            None
        } else {
            let first = person(world, &sub, 60, 1);
            let granted = first.ask(world).await.unwrap();
            Some((first.client(&granted), granted.token))
        };
        let kind = if self.bars { DISABLED } else { SESSION };
        let said = said(world, kind, &sub).await;
        if let Some(fault) = self.fault {
            stage.store.fail(SAYS, [fault]);
        }
        Party {
            caller: person(world, &sub, 60, 2),
            sub,
            said,
            there,
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let world = &stage.world;
        let says: Act<'w> = Box::pin(async move { answer(hear(world, &party.said).await) });
        let mints: Act<'w> = Box::pin(async move {
            let there = || party.there.as_ref().unwrap();
            if self.minting == Minting::Use {
                let (client, token) = there();
                return Answer::of_decision(client.may_read(world, token).await);
            }
            Answer::of_grant(match self.minting {
                Minting::Start => party.caller.ask(world).await,
                Minting::Renew => there().0.renew(world).await,
                Minting::Exchange => there().0.narrow(world, &there().1).await,
                Minting::HandOver => {
                    let taken = there().0.hand_over(world, HELPER).await;
                    taken.map(|(_, granted)| granted)
                }
                Minting::Use => panic!("asked above"),
            })
        });
        let mut acts = vec![says, mints];
        if self.fault.is_some() {
            acts.push(Box::pin(async move {
                world.app.sweep().await;
                Answer::Acknowledged
            }));
        }
        acts
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        stage.store.heal();
        assert!(
            played.answers[SAYS].is_acknowledged(),
            "{:?}",
            played.answers
        );
        played.check_late_answers(SAYS);
        let mut dead: Vec<(Client, String)> = party.there.iter().cloned().collect();
        dead.extend(played.granted().map(|(actor, granted)| {
            assert_eq!(actor, MINTS);
            let client = match self.minting {
                Minting::Start => party.caller.client(granted),
                Minting::Renew | Minting::Exchange => party.there.as_ref().unwrap().0.clone(),
                Minting::HandOver => Client {
                    key: Some(key_of(HELPER)),
                    id: granted.client,
                },
                Minting::Use => panic!("a use grants nothing: {granted:?}"),
            };
            (client, granted.token.clone())
        }));
        for (client, token) in &dead {
            stage.check_dead(client, token).await;
        }
        if self.bars && self.fault.is_none() {
            stage.check_order(played, |leaf| leaf["kind"] == "block.set");
        }
        // However the sweep came in between, another one finds the way back, and records the ends.
        for _ in 0..3 {
            world.wait(6);
            world.app.sweep().await;
        }
        assert_eq!(world.app.unready(), Vec::<String>::new());
        for (client, token) in &dead {
            stage.check_dead(client, token).await;
            assert!(!record::is_open(&stage.store.inner, client.id.task));
        }
        let leaves = stage.leaves(played);
        let bars = leaves.iter().filter(|leaf| leaf["kind"] == "block.set");
        assert_eq!(bars.count(), usize::from(self.bars), "{leaves:?}");
        // Whoever logs in again starts, unless the account is gone.
        let again = person(world, &party.sub, 1, 3).ask(world).await;
        assert_eq!(again.is_err(), self.bars, "{again:?}");
    }
}

/// Somebody who authenticated so many seconds ago, and holds this key.
fn person(world: &World, sub: &str, ago: u64, key: usize) -> Caller {
    let now = world.now().seconds();
    let claims = json!({
        "iss": provider(), "aud": TASKS, "sub": sub, "email_verified": true,
        "jti": format!("{sub}-{key}"), "auth_time": now - ago, "iat": now, "exp": now + 300,
    });
    Caller::by(&signed("JWT", &claims), key)
}

/// What the provider says of somebody now, as its transmitter proves it.
async fn said(world: &World, kind: &str, sub: &str) -> VerifiedSignal {
    let now = world.now().seconds();
    let claims = json!({
        "iss": EVENTS, "aud": ISSUER, "jti": sub, "iat": now,
        "sub_id": {"format": "iss_sub", "iss": provider(), "sub": sub},
        "events": {kind: {"event_timestamp": now - 10}},
    });
    let loaded = world.tenant.loaded();
    let receiver = &loaded.receivers[&"idp".parse().unwrap()];
    let set = signed("secevent+jwt", &claims);
    receiver.verify(&set, world.now()).await.unwrap()
}

async fn hear(world: &World, said: &VerifiedSignal) -> Result<Signalled, Refused> {
    let trail = Trail {
        asked: "signal",
        ..Trail::default()
    };
    world.app.signal(&world.tenant, said, &trail).await
}

fn answer(said: Result<Signalled, Refused>) -> Answer {
    match said {
        Ok(Signalled::Over { recorded: true }) => Answer::Acknowledged,
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Answer::of_end::<()>(Err(refused)),
    }
}

/// The end of a session in at least so many orders, and that of an account.
fn play(minting: Minting, least: [u64; 2]) {
    for (bars, least) in [false, true].into_iter().zip(least) {
        explore(&Word {
            minting,
            bars,
            fault: None,
            least,
        });
    }
}

fn held(minting: Minting, least: u64) {
    for fault in [Fault::BeforeWrite, Fault::Lost, Fault::Kept] {
        explore(&Word {
            minting,
            bars: true,
            fault: Some(fault),
            least,
        });
    }
}

#[test]
fn a_start_against_a_word() {
    play(Minting::Start, [20, 55]);
}

#[test]
fn a_renewal_against_a_word() {
    play(Minting::Renew, [27, 80]);
}

#[test]
fn an_exchange_against_a_word() {
    play(Minting::Exchange, [27, 80]);
}

#[test]
fn a_hand_over_against_a_word() {
    play(Minting::HandOver, [27, 80]);
}

#[test]
fn a_use_against_a_word() {
    play(Minting::Use, [42, 155]);
}

#[test]
fn a_use_against_a_held_word_and_resume() {
    held(Minting::Use, 460);
}

#[test]
fn a_renewal_against_a_held_word_and_resume() {
    held(Minting::Renew, 370);
}

#[test]
fn a_hand_over_against_a_held_word_and_resume() {
    held(Minting::HandOver, 360);
}

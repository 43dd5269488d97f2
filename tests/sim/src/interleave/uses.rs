//! What decides about a use against what ends: once the end is acknowledged nothing is allowed, and
//! nothing is recorded as allowed behind it.

use dayfly_domain::Outcome;
use dayfly_server::app::{
    Actor, Contained, Refused, SUBJECT, Shown, Until, UseQuestion, UseQuestions,
};
use dayfly_token::client::{ProofRequest, dpop_proof};

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, trail, unique};
use crate::world::{RESOURCE, RESOURCE_URL, Run, World};

const BY: Actor = Actor::Local { uid: 0 };
const DECIDES: usize = 0;
const ENDS: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Offboarding,
    Disabling,
    Task,
    Client,
    Revocation,
    Operator,
}

struct Race {
    ending: Ending,
    least: u64,
}

impl Client {
    /// Whether the resource is told that the client may read something there: by a fresh proof, as
    /// it would show one to the resource.
    async fn may_read(&self, world: &World, token: &str) -> Result<bool, Refused> {
        let key = self.key.unwrap();
        let url = format!("{RESOURCE_URL}/octo/a");
        let asked = ProofRequest {
            method: "GET",
            url: &url,
            now: world.now().seconds(),
            jti: &unique(),
            nonce: None,
            access_token: Some(token),
        };
        let shown = Shown {
            kind: SUBJECT.to_owned(),
            id: self.id.to_string(),
            token: Some(token.to_owned()),
            proof: Some(dpop_proof(key, &asked).unwrap()),
            method: Some("GET".to_owned()),
            url: Some(url.clone()),
        };
        let question = UseQuestion {
            by: 0,
            action: "read".to_owned(),
            kind: "artifact".to_owned(),
            identifier: "octo/a".to_owned(),
            fields: Default::default(),
            said: Default::default(),
        };
        let questions = UseQuestions {
            shown: vec![shown],
            asked: vec![question],
            until: Until::Last,
        };
        let resource = RESOURCE.parse().unwrap();
        let decided = world
            .app
            .decide_uses(&world.tenant, &resource, &questions, &trail("use"))
            .await?;
        Ok(decided[0].denied.is_none())
    }
}

impl Scene for Race {
    type Ready = (Client, String);

    fn name(&self) -> String {
        format!("a use against {:?}", self.ending)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// Any number but where an end has a long answer.
    fn changes(&self) -> Option<usize> {
        match self.ending {
            Ending::Offboarding => Some(3),
            Ending::Disabling
            | Ending::Task
            | Ending::Client
            | Ending::Revocation
            | Ending::Operator => None,
        }
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Self::Ready {
        let world = &stage.world;
        let run = Run {
            id: 1000 + n,
            attempt: 1,
            job: 1,
        };
        let caller = Caller::new(world, 2, run, 1);
        let granted = caller.ask(world).await.unwrap();
        let client = caller.client(&granted);
        // That it is allowed while nobody ends it is no part of the play.
        assert!(client.may_read(world, &granted.token).await.unwrap());
        (client, granted.token)
    }

    fn acts<'w>(&'w self, stage: &'w Stage, (client, token): &'w Self::Ready) -> Vec<Act<'w>> {
        let world = &stage.world;
        let decides: Act<'w> =
            Box::pin(async move { Answer::of_decision(client.may_read(world, token).await) });
        let ends: Act<'w> = Box::pin(async move {
            let whole = self.ending == Ending::Task;
            match self.ending {
                Ending::Offboarding | Ending::Disabling => {
                    let what = contained(self.ending);
                    let done = world.app.contain(&world.tenant, &what, &BY, "a race").await;
                    Answer::of_end(done)
                }
                Ending::Task | Ending::Client => {
                    Answer::of_end(client.end(world, token, whole, Outcome::Failed).await)
                }
                Ending::Revocation => Answer::of_end(client.revoke(world, token).await),
                Ending::Operator => {
                    let task = client.id.task;
                    let done = world.app.operator_end(&world.tenant, task, &BY, "a race");
                    Answer::of_end(done.await)
                }
            }
        });
        vec![decides, ends]
    }

    async fn check(&self, stage: &Stage, (client, token): &Self::Ready, played: &Played) {
        let world = &stage.world;
        let answers = &played.answers;
        assert!(answers[ENDS].is_acknowledged(), "{answers:?}");
        let Answer::Decided(allowed) = &answers[DECIDES] else {
            panic!("{answers:?}");
        };
        let late = played.looked_after(DECIDES, ENDS);
        assert!(
            !(*allowed && late),
            "allowed after the end: {:?}",
            played.log
        );
        let leaves = stage.leaves(played);
        let kind = |leaf: &serde_json::Value, kinds: &[&str]| {
            kinds.contains(&leaf["kind"].as_str().unwrap_or_default())
        };
        let end = leaves
            .iter()
            .position(|leaf| kind(leaf, &["block.set", "task.ended", "client.ended"]));
        let end = end.unwrap_or_else(|| panic!("no end: {leaves:?}"));
        let behind = leaves.iter().skip(end);
        let used = behind.filter(|leaf| kind(leaf, &["use.allowed"])).count();
        assert_eq!(used, 0, "recorded as allowed after the end: {leaves:?}");
        let recorded = leaves.iter().filter(|leaf| kind(leaf, &["use.allowed"]));
        assert!(
            !*allowed || recorded.count() == 1,
            "allowed without a record"
        );
        let again = client.may_read(world, token).await;
        assert!(!again.unwrap(), "allowed after the end");
        if matches!(self.ending, Ending::Offboarding | Ending::Disabling) {
            let what = contained(self.ending);
            let lifted = world.app.lift(&world.tenant, &what, &BY, "over").await;
            assert!(lifted.is_ok(), "{lifted:?}");
            let again = client.may_read(world, token).await;
            assert!(!again.unwrap(), "it came back");
        }
    }
}

fn contained(ending: Ending) -> Contained {
    match ending {
        Ending::Offboarding => Contained::Owner("team".parse().unwrap()),
        Ending::Disabling => Contained::Workload("matrix".parse().unwrap()),
        Ending::Task | Ending::Client | Ending::Revocation | Ending::Operator => {
            panic!("nothing is contained")
        }
    }
}

#[test]
fn a_use_against_every_end() {
    for (ending, least) in [
        (Ending::Offboarding, 60),
        (Ending::Disabling, 200),
        (Ending::Task, 200),
        (Ending::Client, 200),
        (Ending::Revocation, 80),
        (Ending::Operator, 80),
    ] {
        explore(&Race { ending, least });
    }
}

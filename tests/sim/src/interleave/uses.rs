//! What decides about a use against what ends: once the end is acknowledged nothing is allowed, and
//! nothing is recorded as allowed behind it.

use dayfly_server::app::{Refused, SUBJECT, Shown, Until, UseQuestion, UseQuestions};
use dayfly_token::client::{ProofRequest, dpop_proof};

use super::endings::{Ending, What};
use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, trail, unique};
use crate::world::{RESOURCE, RESOURCE_URL, Run, World};

const REPOSITORY: u64 = 2;
const DECIDES: usize = 0;
const ENDS: usize = 1;

struct Race {
    ending: Ending,
    least: u64,
}

/// A job with a credential.
struct Party {
    run: Run,
    there: (Client, String),
}

impl Party {
    fn what(&self) -> What<'_> {
        What {
            workload: "matrix",
            repository: REPOSITORY,
            run: self.run,
            there: Some(&self.there),
        }
    }
}

impl Client {
    /// Whether the resource is told that the client may read something there: by a fresh proof, as
    /// it would show one to the resource.
    pub(super) async fn may_read(&self, world: &World, token: &str) -> Result<bool, Refused> {
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
    type Ready = Party;

    fn name(&self) -> String {
        format!("a use against {:?}", self.ending)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// Any number but where an end has a long answer, or is by the same code as one that is played
    /// with any number.
    fn changes(&self) -> Option<usize> {
        match self.ending {
            Ending::Disabling
            | Ending::Task
            | Ending::Client
            | Ending::Revocation
            | Ending::Operator => None,
            Ending::Offboarding => Some(3),
            Ending::Freeze
            | Ending::Owner
            | Ending::Workload
            | Ending::Issuer
            | Ending::HandOver
            | Ending::ByHand
            | Ending::Instance
            | Ending::Webhook => Some(2),
        }
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        let run = Run {
            id: 1000 + n,
            attempt: 1,
            job: 1,
        };
        let caller = Caller::new(world, REPOSITORY, run, 1);
        let granted = caller.ask(world).await.unwrap();
        let client = caller.client(&granted);
        // That it is allowed while nobody ends it is no part of the play.
        assert!(client.may_read(world, &granted.token).await.unwrap());
        Party {
            run,
            there: (client, granted.token),
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let (world, (client, token)) = (&stage.world, &party.there);
        vec![
            Box::pin(async move { Answer::of_decision(client.may_read(world, token).await) }),
            Box::pin(async move { party.what().end(world, self.ending).await }),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let (world, (client, token)) = (&stage.world, &party.there);
        let answers = &played.answers;
        assert!(answers[ENDS].is_acknowledged(), "{answers:?}");
        let Answer::Decided(allowed) = &answers[DECIDES] else {
            panic!("{answers:?}");
        };
        played.check_late_answers(ENDS);
        stage.check_order(played, |leaf| {
            let kind = leaf["kind"].as_str().unwrap_or_default();
            ["block.set", "rights.removed", "task.ended", "client.ended"].contains(&kind)
        });
        let leaves = stage.leaves(played);
        let recorded = leaves.iter().filter(|leaf| leaf["kind"] == "use.allowed");
        assert!(
            !*allowed || recorded.count() == 1,
            "allowed without a record"
        );
        stage.check_dead(client, token).await;
        party.what().lift(world, self.ending).await;
        let again = client.may_read(world, token).await;
        assert!(!again.unwrap(), "it came back");
    }
}

#[test]
fn a_use_against_every_end() {
    for (ending, least) in [
        (Ending::Offboarding, 60),
        (Ending::Disabling, 200),
        (Ending::Freeze, 90),
        (Ending::Owner, 70),
        (Ending::Workload, 38),
        (Ending::Issuer, 90),
        (Ending::HandOver, 95),
        (Ending::Task, 200),
        (Ending::Client, 200),
        (Ending::Revocation, 80),
        (Ending::Operator, 80),
        (Ending::ByHand, 27),
        (Ending::Instance, 100),
        (Ending::Webhook, 38),
    ] {
        explore(&Race { ending, least });
    }
}

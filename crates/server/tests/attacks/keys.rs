//! Keys that are rotated and keys that are stolen: what is published, what verifies, and from when not.

use std::sync::{Arc, Mutex};

use dayfly_ledger::{VerifierKey, open_head};
use dayfly_server::app::{Actor, GivenUp};
use dayfly_server::mint::{KeyInfo, KeyUse, PUBLISHED_FOR};
use dayfly_token::alg::Alg;
use dayfly_token::jwks::KeySet;
use serde_json::Value;

use super::job::Job;
use super::world::{ARTIFACTS, QUEUE, TENANT, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

impl World {
    /// The `kid`s of the published key set.
    async fn published(&self) -> Vec<String> {
        let reply = self.send("GET", "/jwks", &[], "").await;
        assert_eq!(reply.header("cache-control"), "public, max-age=300");
        let keys = reply.body["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn rotate(&self, r#use: KeyUse) -> KeyInfo {
        // One key is made after the other, which is how they are listed.
        self.wait(1);
        let tenant = self.tenant();
        let rotated = self.app.rotate_keys(&tenant, r#use, None, &BY, "due");
        rotated.await.unwrap().published.remove(0)
    }

    async fn give_up(&self, kid: &str) -> GivenUp {
        let tenant = self.tenant();
        let kids = [kid.to_owned()];
        let given_up = self
            .app
            .compromise_keys(&tenant, Some(&kids), &BY, "stolen");
        given_up.await.unwrap()
    }

    /// Lets the time pass and what it brings happen.
    async fn pass(&self, seconds: u64) {
        self.wait(seconds);
        self.app.sweep().await;
    }

    /// What `keys list` says of a key.
    fn state(&self, kid: &str) -> Option<&'static str> {
        let keyring = self.tenant().keyring();
        let found = keyring.infos().iter().find(|key| key.kid == kid);
        found.map(|key| key.life.word())
    }
}

fn kid(token: &str) -> String {
    let header = dayfly_token::b64::decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// Whether somebody who verifies offline by the published set accepts a token.
async fn verifies_offline(world: &World, token: &str) -> bool {
    let reply = world.send("GET", "/jwks", &[], "").await;
    let keys = KeySet::parse(reply.text.as_bytes(), Alg::DEFAULT).unwrap();
    dayfly_token::access_token::VerifiedAccessToken::verify(
        token,
        &keys,
        Alg::DEFAULT,
        super::world::ISSUER,
    )
    .is_ok()
}

fn renewed(job: &Job, token: &str) -> Job {
    Job {
        token: token.to_owned(),
        ..job.clone()
    }
}

#[tokio::test]
async fn a_rotation_is_not_noticed_by_whoever_verifies() {
    let mut world = World::new().await;
    let job = world.job(1).await;
    let old = kid(&job.token);
    assert_eq!(world.published().await, [old.as_str()]);

    let next = world.rotate(KeyUse::Token).await.kid;
    assert_eq!(world.published().await, [old.as_str(), next.as_str()]);
    let during = world.job(2).await;
    assert_eq!(kid(&during.token), old, "published, and signs nothing yet");
    world = world.restarted().await;
    world.pass(PUBLISHED_FOR.seconds() - 1).await;
    assert_eq!(kid(&world.job(3).await.token), old);

    world.pass(1).await;
    world = world.restarted().await;
    let after = world.job(4).await;
    assert_eq!(kid(&after.token), next);
    assert_eq!(world.state(&old), Some("retiring"));
    assert_eq!(world.published().await, [old.as_str(), next.as_str()]);
    // One that was issued by the old key in the last moment is good for its whole life.
    world.wait(0);
    assert!(verifies_offline(&world, &job.token).await);
    assert!(verifies_offline(&world, &after.token).await);
    let late = world.renew(&during, &[]).await;
    assert_eq!(kid(late.str("access_token")), next);

    world.pass(86_400 + 59).await;
    assert_eq!(world.published().await, [old.as_str(), next.as_str()]);
    world = world.restarted().await;
    world.pass(1).await;
    assert_eq!(world.published().await, [next.as_str()]);
    assert_eq!(world.state(&old), None, "gone");
    let told = |leaf: &Value| (leaf["data"]["kid"].clone(), leaf["data"]["state"].clone());
    let of_kind = |leaf: &&Value| leaf["kind"] == "key.rotated" && leaf["data"]["use"] == "token";
    let entries: Vec<_> = world.leaves().iter().filter(of_kind).map(told).collect();
    let wanted = [
        (old.as_str(), "signing"),
        (next.as_str(), "published"),
        (next.as_str(), "signing"),
        (old.as_str(), "retiring"),
        (old.as_str(), "gone"),
    ];
    assert_eq!(
        entries,
        wanted.map(|(kid, state)| (kid.into(), state.into()))
    );
}

#[tokio::test]
async fn a_token_of_a_key_that_retires_is_active_here() {
    let world = World::new().await;
    world.rotate(KeyUse::Token).await;
    world.wait(PUBLISHED_FOR.seconds());
    // The last token of the old key, in the very round in which the next one takes over.
    let job = world.job(1).await;
    world.app.sweep().await;
    assert_eq!(world.state(&kid(&job.token)), Some("retiring"));
    assert!(world.is_active(&job.token).await);
    assert_eq!(world.beat(&job).await.status, 200);
    let narrowed = world
        .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_ne!(kid(narrowed.str("access_token")), kid(&job.token));
    world.wait(299);
    assert!(world.is_active(&job.token).await, "to its last second");
}

#[tokio::test]
async fn the_schedule_rotates() {
    let mut world = World::new().await;
    let first = world.published().await;
    world.pass(90 * 86_400).await;
    assert_eq!(
        world.published().await,
        first,
        "only by hand, unless it is declared"
    );
    world = world.restarted_rotating(90 * 86_400).await;
    world.app.sweep().await;
    assert_eq!(world.published().await.len(), 2);
    world.pass(PUBLISHED_FOR.seconds()).await;
    assert_ne!(kid(&world.job(1).await.token), first[0]);
    world.pass(86_460).await;
    assert_eq!(world.published().await.len(), 1);
}

#[tokio::test]
async fn a_stolen_key_is_refused_everywhere_at_once_and_clients_renew_by_their_own() {
    let mut world = World::new().await;
    let job = world.job(1).await;
    let seen = world.job(2).await;
    let bearer = world
        .ask(
            &super::job::signed(&super::job::claims(&world, 3, 3)),
            None,
            &[("resource", ARTIFACTS)],
        )
        .await;
    let bearer = bearer.str("access_token").to_owned();
    let stolen = kid(&job.token);
    // The server remembers these as verified.
    assert!(world.is_active(&seen.token).await && world.is_active(&bearer).await);
    assert_eq!(world.beat(&seen).await.status, 200);

    let before = world.now();
    let given_up = world.give_up(&stolen).await;
    let until = given_up.accepted_offline_until.unwrap();
    assert_eq!(until.seconds(), before + 360);
    assert_eq!(given_up.keys[0].kid, stolen);

    for restarted in [false, true] {
        if restarted {
            world = world.restarted().await;
        }
        assert!(!world.published().await.contains(&stolen));
        assert!(!verifies_offline(&world, &job.token).await);
        for job in [&job, &seen] {
            assert!(!world.is_active(&job.token).await);
            let refused = (401, "invalid_token", "credential");
            assert_eq!(world.beat(job).await.refusal(), refused);
            assert_eq!(world.end(job).await.refusal(), refused);
            assert_eq!(world.end_task(job, "failed").await.refusal(), refused);
            let path = format!("/tasks/{}", job.task);
            assert_eq!(world.call(job, "GET", &path, "").await.refusal(), refused);
            let path = format!("{path}/receipt");
            assert_eq!(world.call(job, "GET", &path, "").await.refusal(), refused);
            let narrowed = world
                .narrow(&job.token, Some(&job.key), &[("resource", QUEUE)])
                .await;
            assert_eq!(narrowed.rule(), "credential");
            assert!(
                narrowed.body["refused"]["got"]
                    .as_str()
                    .unwrap()
                    .contains("given up as compromised"),
                "{}",
                narrowed.text
            );
            assert!(world.is_open(&job.task), "the job goes on");
        }
        assert!(!world.is_active(&bearer).await);
        let exchanged = world.narrow(&bearer, None, &[("resource", QUEUE)]).await;
        assert_eq!(exchanged.rule(), "credential");
    }

    let again = world.renew(&job, &[]).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let job = renewed(&job, again.str("access_token"));
    assert_ne!(kid(&job.token), stolen);
    assert!(world.is_active(&job.token).await && verifies_offline(&world, &job.token).await);
    assert_eq!(world.beat(&job).await.status, 200);
    assert_eq!(world.end(&job).await.status, 200);
    // Said again it is the same, and makes no entry.
    let size = world.size();
    world.wait(1000);
    let again = world.give_up(&stolen).await;
    assert_eq!(again.accepted_offline_until, Some(until));
    assert_eq!(world.size(), size);
}

#[tokio::test]
async fn a_lost_answer_is_found_again_under_the_next_key() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.give_up(&kid(&job.token)).await;
    let again = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert!(world.is_active(again.str("access_token")).await);
}

#[tokio::test]
async fn the_published_successor_of_a_stolen_key_signs_at_once() {
    let world = World::new().await;
    let job = world.job(1).await;
    let next = world.rotate(KeyUse::Token).await.kid;
    let given_up = world.give_up(&kid(&job.token)).await;
    assert!(given_up.signing.iter().any(|key| key.kid == next));
    assert_eq!(world.published().await, [next.as_str()]);
    assert_eq!(kid(&world.job(2).await.token), next);
}

/// The key is given up when the grant is decided, before or after it is durable, and not signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_decided_under_a_stolen_key_gets_no_signature() {
    let world = Arc::new(World::new().await);
    for (run, before) in [(10, true), (11, false)] {
        let stolen = world.published().await.remove(0);
        let (then, given_up) = (Arc::clone(&world), stolen.clone());
        let theft = async move {
            then.give_up(&given_up).await;
        };
        if before {
            world.store.before_next(theft);
        } else {
            world.store.after_next(theft);
        }
        let proof = super::job::signed(&super::job::claims(&world, 1, run));
        let key = super::job::new_key();
        let more = [("resource", ARTIFACTS)];
        let reply = world.ask(&proof, Some(&key), &more).await;
        assert_eq!(
            (reply.status, reply.rule()),
            (503, "unavailable"),
            "{}",
            reply.text
        );
        let again = world.ask(&proof, Some(&key), &more).await;
        assert_ne!(kid(again.str("access_token")), stolen);
        assert!(world.is_active(again.str("access_token")).await);
    }
}

/// A thief exchanges a bearer token, and its key is given up while that is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_was_under_way_hands_nothing_out() {
    let world = Arc::new(World::new().await);
    world.rotate(KeyUse::Token).await;
    world.wait(PUBLISHED_FOR.seconds());
    let proof = super::job::signed(&super::job::claims(&world, 3, 1));
    let bearer = world.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
    let bearer = bearer.str("access_token");
    // The key that decides from here on is another: what was shown is all that is wrong.
    world.app.sweep().await;
    let (then, stolen) = (Arc::clone(&world), kid(bearer));
    world.store.before_next(async move {
        then.give_up(&stolen).await;
    });
    let reply = world.narrow(bearer, None, &[("resource", ARTIFACTS)]).await;
    assert_eq!(reply.rule(), "credential", "{}", reply.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_races_a_compromise_is_not_accepted_after_it() {
    let world = Arc::new(World::new().await);
    for round in 0..12_u64 {
        let job = world.job(100 + round).await;
        let stolen = kid(&job.token);
        let tokens = Arc::new(Mutex::new(vec![job.token.clone()]));
        let mut set = tokio::task::JoinSet::new();
        for n in 0..6 {
            let (world, job, tokens) = (Arc::clone(&world), job.clone(), Arc::clone(&tokens));
            set.spawn(async move {
                for step in 0..4_u64 {
                    let reply = match n % 3 {
                        0 => world.renew(&job, &[]).await,
                        1 => {
                            let proof =
                                super::job::claims(&world, 1, 10_000 + round * 100 + n * 10 + step);
                            let key = super::job::new_key();
                            let proof = super::job::signed(&proof);
                            world
                                .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
                                .await
                        }
                        _ => {
                            // Verified again and again, so that it is remembered again and again.
                            world.is_active(&job.token).await;
                            continue;
                        }
                    };
                    if let Some(token) = reply.body["access_token"].as_str() {
                        tokens.lock().unwrap().push(token.to_owned());
                    }
                }
            });
        }
        let given_up = world.give_up(&stolen).await;
        assert!(!world.is_active(&job.token).await, "the very next question");
        assert_eq!(given_up.keys[0].kid, stolen);
        set.join_all().await;
        let tokens = std::mem::take(&mut *tokens.lock().unwrap());
        for token in tokens {
            assert_eq!(world.is_active(&token).await, kid(&token) != stolen);
        }
    }
}

#[tokio::test]
async fn a_ledger_key_is_followed_by_one_that_signs_beside_it() {
    let mut world = World::new().await;
    let old = world.tenant().keyring().ledger().clone();
    let signed = |world: &World, key: &VerifierKey| {
        let note = world.app.head_note(&world.tenant()).unwrap();
        open_head(&note, key).is_ok()
    };
    let next: VerifierKey = world.rotate(KeyUse::Ledger).await.public.parse().unwrap();
    assert!(signed(&world, &old) && !signed(&world, &next));
    let earlier = world.app.head_note(&world.tenant()).unwrap();
    world.pass(PUBLISHED_FOR.seconds()).await;
    assert!(signed(&world, &old) && signed(&world, &next), "by either");
    world.pass(30 * 86_400).await;
    world = world.restarted().await;
    assert!(!signed(&world, &old) && signed(&world, &next));
    // What the old one signed is still held against the ledger.
    let keyring = world.tenant().keyring();
    assert_eq!(keyring.ledger_keys(), [old.clone(), next.clone()]);
    let note = world.app.head_note(&world.tenant()).unwrap();
    let present = dayfly_server::record::head_view(&note, &keyring.ledger_keys()).unwrap();
    assert_eq!(present.verifier_key, next.to_string());
    let compared = dayfly_server::record::compare(
        world.store.as_ref(),
        &acme(),
        &earlier,
        present,
        &keyring.ledger_keys(),
    )
    .unwrap();
    assert!(compared.holds, "{:?}", compared.why);
    assert!(
        compared.check(&earlier, &[next]).is_err(),
        "its key is not trusted"
    );
    // The entry that announced the next key is covered by a head of the old one.
    let announced = world.leaves();
    assert!(
        announced
            .iter()
            .any(|leaf| leaf["data"]["verifier_key"] == present_key(&world)),
    );
}

fn present_key(world: &World) -> String {
    world.tenant().keyring().ledger().to_string()
}

#[tokio::test]
async fn a_stolen_ledger_key_signs_no_further_head() {
    let world = World::new().await;
    let old = world.tenant().keyring().ledger().clone();
    let list = world.tenant().keyring();
    let kid = &list
        .infos()
        .iter()
        .find(|key| key.r#use == KeyUse::Ledger)
        .unwrap()
        .kid;
    world.app.head_note(&world.tenant()).unwrap();
    let given_up = world.give_up(kid).await;
    assert_eq!(given_up.accepted_offline_until, None, "no token is of it");
    let note = world.app.head_note(&world.tenant()).unwrap();
    assert!(open_head(&note, &old).is_err());
    assert!(open_head(&note, world.tenant().keyring().ledger()).is_ok());
    let shown = &given_up.keys[0];
    assert_eq!(
        (shown.public.clone(), shown.life.word()),
        (old.to_string(), "compromised")
    );
}

#[tokio::test]
async fn each_algorithm_has_keys_of_its_own() {
    let declared = TENANT.replace(
        "secret_file = \"queue.secret\"",
        "secret_file = \"queue.secret\"\nsigning = \"RS256\"",
    );
    let world = World::declared(&declared).await;
    let es = world.job(1).await;
    let rs = world.job_of(1, 2, &[("resource", QUEUE)]).await;
    assert_eq!(world.published().await.len(), 2);
    world.give_up(&kid(&rs.token)).await;
    assert!(world.is_active(&es.token).await);
    assert_eq!(world.introspect("queue", &rs.token).await["active"], false);
    let next = world.job_of(1, 3, &[("resource", QUEUE)]).await;
    assert_eq!(world.introspect("queue", &next.token).await["active"], true);
}

#[tokio::test]
async fn who_and_why_stand_in_the_annex_alone() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.rotate(KeyUse::Token).await;
    world.give_up(&kid(&job.token)).await;
    use dayfly_store::{EntryRange, Store};
    let entries = world
        .store
        .entries(&acme(), EntryRange::From(0), 1000)
        .unwrap();
    let of = |word: &str| {
        let found = entries.iter().find(|entry| {
            entry.leaf.contains("key.rotated") && entry.leaf.contains(&format!("\"{word}\""))
        });
        let entry = found.unwrap();
        assert!(!entry.leaf.contains("uid") && !entry.leaf.contains("reason"));
        entry.annex.clone().unwrap().data
    };
    assert_eq!(of("published"), r#"{"by":{"uid":7},"reason":"due"}"#);
    assert_eq!(of("compromised"), r#"{"by":{"uid":7},"reason":"stolen"}"#);
}

#[tokio::test]
async fn what_cannot_be_recorded_changes_nothing() {
    use dayfly_store::Fault;
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    let kids = [kid(&job.token)];
    for fault in [Fault::BeforeWrite, Fault::Lost] {
        store.fail([fault]);
        let tenant = world.tenant();
        let given_up = world
            .app
            .compromise_keys(&tenant, Some(&kids), &BY, "stolen");
        assert!(given_up.await.is_err());
        assert!(world.is_active(&job.token).await);
    }
    // Told that it is not known, and it was: then it holds.
    store.fail([Fault::Kept]);
    let tenant = world.tenant();
    let given_up = world
        .app
        .compromise_keys(&tenant, Some(&kids), &BY, "stolen");
    assert!(given_up.await.is_err());
    assert!(!world.is_active(&job.token).await);
    assert_eq!(
        world.give_up(&kids[0]).await.keys[0].life.word(),
        "compromised"
    );
}

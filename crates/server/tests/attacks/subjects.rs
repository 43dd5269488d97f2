//! People for whom agents act: their tokens open tasks of the agent, name them to whom they may be named, and widen nothing.

use std::sync::Arc;

use dayfly_server::record;
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::delegation::TYPE_HANDOVER;
use super::job::{
    ASSERTION_TYPE, EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, assertion, claims, dpop, new_key,
    payload, signed, signed_as, with,
};
use super::world::{ARTIFACTS, ISSUER, QUEUE, Reply, TENANT, World, acme, platform, unique};

pub(crate) const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
pub(crate) const STAFF: &str = "https://idp.example";
pub(crate) const MAIL: &str = "https://mail.example/api";

pub(crate) const PEOPLE: &str = r#"
[issuer.staff]
kind = "oidc"
url = "https://idp.example"
jwks = { file = "jwks.json" }
audience = ["assistant", "assistant-mobile"]
people = true
auth_age = "30m"

[issuer.guests]
kind = "oidc"
url = "https://guests.example"
jwks = { file = "jwks.json" }
audience = "assistant"
people = true

[issuer.robots]
kind = "oidc"
url = "https://robots.example"
jwks = { file = "jwks.json" }

[resource.mail]
url = "https://mail.example/api"
secret_file = "mail.secret"
subject = "person"

[workload.assistant]
owner   = "team"
kind    = "agent"
purpose = "answers mail for people"
match   = { issuer = "github", repository_id = "5" }
subject = { from = ["staff"] }
access  = [
  { resource = "mail", type = "message", actions = ["read", "send"], identifier = "inbox/*", scope = "mail" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*", scope = "queue" },
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts" },
]
delegation = { depth = 2, clients = 8, to = ["self"] }

[workload.concierge]
owner   = "team"
kind    = "agent"
purpose = "works for one person at a time"
match   = { issuer = "github", repository_id = "6" }
task    = "run"
repeat  = "join"
window  = "2h"
subject = { from = ["staff", "guests"], person = "required", session = "1h" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]
"#;

pub(crate) fn declared() -> String {
    format!("{TENANT}{PEOPLE}")
}

async fn world() -> World {
    World::declared(&declared()).await
}

/// What the provider says of a person who authenticated a minute ago.
pub(crate) fn mona(world: &World) -> Value {
    let now = world.now();
    json!({
        "iss": STAFF, "aud": "assistant", "sub": "mona-4711", "jti": unique(),
        "email": "mona@example.com", "groups": ["support"], "nonce": "n",
        "auth_time": now - 60, "iat": now, "exp": now + 300, "person": "somebody-else",
    })
}

/// What the provider says of her to a resource server, which Dayfly is here.
fn access_token(world: &World) -> Value {
    let claims = json!({"aud": ISSUER, "client_id": "mail-app", "azp": null, "nonce": null});
    with(mona(world), claims)
}

/// A request on behalf of a person.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) person: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) proof: &'a str,
    pub(crate) key: &'a SigningKey,
}

impl World {
    pub(crate) async fn on_behalf(&self, asking: &Asking<'_>, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", asking.person),
            ("subject_token_type", asking.kind),
            ("actor_token", asking.proof),
            ("actor_token_type", TYPE_JWT),
        ];
        form.extend_from_slice(more);
        let proof = dpop(self, asking.key, "POST", "/token");
        self.form("/token", &form, &[("dpop", &proof)]).await
    }

    /// Opens a task of the assistant for this person over the mail.
    pub(crate) async fn assist(&self, run: u64, person: &Value) -> Job {
        let (key, proof) = (new_key(), signed(&claims(self, 5, run)));
        let reply = self
            .on_behalf(
                &Asking {
                    person: &signed(person),
                    kind: TYPE_ID_TOKEN,
                    proof: &proof,
                    key: &key,
                },
                &[("resource", MAIL)],
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.str("issued_token_type"), TYPE_ACCESS_TOKEN);
        Job::of(key, proof, &reply)
    }

    /// Renews at a resource.
    pub(crate) async fn renew_at(&self, job: &Job, resource: &str) -> Reply {
        let assertion = assertion(self, &job.key, &job.client);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
            ("resource", resource),
        ];
        self.form("/token", &form, &[]).await
    }

    /// How a request on behalf of whoever this token is of is answered.
    pub(crate) async fn judged(&self, repository: u64, person: &str, kind: &str) -> String {
        static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1000);
        let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let proof = signed(&claims(self, repository, run));
        let key = new_key();
        let asking = Asking {
            person,
            kind,
            proof: &proof,
            key: &key,
        };
        let reply = self.on_behalf(&asking, &[("resource", ARTIFACTS)]).await;
        if reply.status == 200 {
            return "granted".to_owned();
        }
        assert_eq!(reply.refusal().0, 400, "{}", reply.text);
        reply.rule().to_owned()
    }

    async fn id_token(&self, other: Value) -> String {
        let claims = with(mona(self), other);
        self.judged(5, &signed(&claims), TYPE_ID_TOKEN).await
    }
}

#[tokio::test]
async fn a_person_is_named_where_the_resource_says_so_and_nowhere_else() {
    let world = world().await;
    let job = world.assist(1, &mona(&world)).await;
    let at_mail = payload(&job.token);
    assert_eq!(at_mail["sub"], "mona-4711");
    assert_eq!(
        at_mail["on_behalf_of"],
        json!({"iss": STAFF, "sub": "mona-4711"})
    );
    let agent = json!({"sub": "workload:assistant", "client_id": job.client});
    assert_eq!(
        at_mail["act"], agent,
        "the agent acts, it does not pose as her"
    );
    assert_eq!(
        world.introspect("mail", &job.token).await["on_behalf_of"]["sub"],
        "mona-4711"
    );
    let mut known = Vec::new();
    for (name, url) in [("queue", QUEUE), ("artifacts", ARTIFACTS)] {
        let other = world
            .narrow(&job.token, Some(&job.key), &[("resource", url)])
            .await;
        let token = other.str("access_token").to_owned();
        let said = payload(&token);
        assert_eq!(said["sub"], "workload:assistant");
        assert_eq!(said["on_behalf_of"]["iss"], ISSUER);
        assert!(said["act"].is_null());
        assert!(!said.to_string().contains("mona"), "{said}");
        let told = world.introspect(name, &token).await;
        assert_eq!(told["on_behalf_of"], said["on_behalf_of"]);
        known.push(said["on_behalf_of"]["sub"].clone());
    }
    assert_ne!(
        known[0], known[1],
        "two resources cannot tell that they know one person"
    );
    // The same person, another day: the resource knows her again.
    let again = world.assist(2, &mona(&world)).await;
    let at_queue = world
        .narrow(&again.token, Some(&again.key), &[("resource", QUEUE)])
        .await;
    let at_queue = payload(at_queue.str("access_token"));
    assert_eq!(at_queue["on_behalf_of"]["sub"], known[0]);
    for leaf in world.leaves() {
        let leaf = leaf.to_string();
        for name in ["mona", "4711", "somebody-else", "idp.example", "support"] {
            assert!(!leaf.contains(name), "{leaf}");
        }
        for pseudonym in &known {
            assert!(!leaf.contains(pseudonym.as_str().unwrap()), "{leaf}");
        }
    }
}

#[tokio::test]
async fn a_task_without_a_person_names_none_even_where_people_are_named() {
    let world = world().await;
    let job = world.job_of(5, 1, &[("resource", MAIL)]).await;
    let said = payload(&job.token);
    assert_eq!(said["sub"], "workload:assistant");
    assert!(said["on_behalf_of"].is_null() && said["act"].is_null());
}

#[tokio::test]
async fn one_login_drives_many_agents_and_each_proof_but_one_task() {
    let world = world().await;
    let person = mona(&world);
    let first = world.assist(1, &person).await;
    let second = world.assist(2, &person).await;
    assert_ne!(first.task, second.task);
    let key = new_key();
    let again = Asking {
        person: &signed(&person),
        kind: TYPE_ID_TOKEN,
        proof: &first.proof,
        key: &key,
    };
    let reply = world.on_behalf(&again, &[("resource", MAIL)]).await;
    assert_eq!(
        reply.rule(),
        "retry_other_key",
        "the agent's proof is spent"
    );
}

#[tokio::test]
async fn a_lost_answer_is_given_again_for_the_same_person_alone() {
    let world = world().await;
    let job = world.assist(1, &mona(&world)).await;
    let retry = async |person: Option<Value>| {
        let more = [("resource", MAIL)];
        let Some(person) = person else {
            return world.ask(&job.proof, Some(&job.key), &more).await;
        };
        let person = signed(&person);
        let asking = Asking {
            person: &person,
            kind: TYPE_ID_TOKEN,
            proof: &job.proof,
            key: &job.key,
        };
        world.on_behalf(&asking, &more).await
    };
    let same = retry(Some(mona(&world))).await;
    assert_eq!(same.str("client_id"), job.client);
    let said = payload(same.str("access_token"));
    assert_eq!(said["sub"], "mona-4711");
    let dora = with(mona(&world), json!({"sub": "dora"}));
    assert_eq!(retry(Some(dora)).await.rule(), "subject_other");
    assert_eq!(retry(None).await.rule(), "subject_other");
    let alone = world.job_of(5, 2, &[("resource", MAIL)]).await;
    let person = signed(&mona(&world));
    let asking = Asking {
        person: &person,
        kind: TYPE_ID_TOKEN,
        proof: &alone.proof,
        key: &alone.key,
    };
    let late = world.on_behalf(&asking, &[("resource", MAIL)]).await;
    assert_eq!(
        late.rule(),
        "subject_other",
        "nobody is put into a task that is open"
    );
}

#[tokio::test]
async fn a_token_of_another_kind_is_no_persons() {
    let world = world().await;
    let job = world.assist(1, &mona(&world)).await;
    let typed = |typ: &str| signed_as(platform(), Some(typ), Some("k1"), &mona(&world));
    for typ in [
        "at+jwt",
        "secevent+jwt",
        "logout+jwt",
        "oauth-id-jag+jwt",
        "dayfly-handover+jwt",
        "dpop+jwt",
        "txntoken+jwt",
        "statuslist+jwt",
        "client-authentication+jwt",
    ] {
        let got = world.judged(5, &typed(typ), TYPE_ID_TOKEN).await;
        assert_eq!(got, "token_type", "{typ}");
    }
    let untyped = signed_as(platform(), None, Some("k1"), &mona(&world));
    assert_eq!(world.judged(5, &untyped, TYPE_ID_TOKEN).await, "granted");
    assert_eq!(
        world.judged(5, &untyped, TYPE_ACCESS_TOKEN).await,
        "token_type"
    );
    let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
    assert_eq!(world.id_token(logout).await, "token_type");
    assert_eq!(world.id_token(json!({"typ": "Bearer"})).await, "token_type");
    assert_eq!(world.id_token(json!({"typ": "ID"})).await, "granted");
    for kind in [TYPE_ACCESS_TOKEN, TYPE_JWT] {
        let own = world.judged(5, &job.token, kind).await;
        assert_eq!(own, "issuer", "a credential of this server");
    }
    assert_eq!(
        world.judged(5, &job.token, TYPE_ID_TOKEN).await,
        "token_type"
    );
    assert_eq!(world.judged(5, "a.b.c", TYPE_ID_TOKEN).await, "token_form");
}

#[tokio::test]
async fn an_id_token_must_be_of_a_person_for_one_of_our_clients_and_fresh() {
    let world = world().await;
    let now = world.now();
    for (other, wanted) in [
        (json!({"iss": "https://evil.example"}), "issuer"),
        (json!({"iss": "https://robots.example"}), "issuer"),
        (
            json!({"iss": "https://token.actions.githubusercontent.com"}),
            "issuer",
        ),
        (json!({"iss": "https://guests.example"}), "subject"),
        (json!({"aud": ISSUER}), "audience"),
        (json!({"aud": ["assistant", "other"]}), "audience"),
        (json!({"aud": null}), "audience"),
        (json!({"azp": "other"}), "audience"),
        (json!({"azp": 7}), "audience"),
        (json!({"azp": "assistant-mobile"}), "granted"),
        (json!({"exp": now - 61}), "times"),
        (json!({"exp": null}), "claim_missing"),
        (json!({"iat": null}), "claim_missing"),
        (json!({"iat": now + 61}), "times"),
        (json!({"iat": now - 3661}), "proof_age"),
        (json!({"auth_time": now - 1861}), "proof_age"),
        (json!({"auth_time": now + 61}), "times"),
        (json!({"auth_time": "now"}), "claim_form"),
        // A refresh moves `iat`, and so tells nothing of the login.
        (json!({"auth_time": null}), "claim_missing"),
        (json!({"sub": "assistant"}), "claim_form"),
        (
            json!({"sub": "assistant-mobile", "azp": "assistant-mobile"}),
            "claim_form",
        ),
        (json!({"client_id": "mona-4711"}), "claim_form"),
        (json!({"sub": ""}), "claim_form"),
        (json!({"sub": null}), "claim_missing"),
        (json!({"sub": 7}), "claim_form"),
        (json!({"sub": "workload:release"}), "claim_form"),
        (json!({"sub": "mona\n"}), "claim_form"),
        (json!({"act": {"sub": "assistant"}}), "claim_form"),
        (json!({}), "granted"),
    ] {
        assert_eq!(world.id_token(other.clone()).await, wanted, "{other}");
    }
    let foreign = SigningKey::generate(dayfly_token::alg::Alg::Rs256).unwrap();
    let forged = signed_as(&foreign, Some("JWT"), Some("k1"), &mona(&world));
    assert_eq!(world.judged(5, &forged, TYPE_ID_TOKEN).await, "signature");
}

/// The declared state whose provider need not say when people authenticated.
pub(crate) fn untold() -> String {
    let told = "auth_age = \"30m\"";
    declared().replacen(told, &format!("{told}\nauth_time = \"optional\""), 1)
}

#[tokio::test]
async fn where_a_login_need_not_be_told_the_token_still_shows_that_there_was_one() {
    let world = World::declared(&untold()).await;
    let now = world.now();
    for (other, wanted) in [
        (json!({"iat": now - 1800}), "granted"),
        (json!({"iat": now - 1861}), "proof_age"),
        (json!({"nonce": null}), "claim_missing"),
        (json!({"nonce": null, "at_hash": "h"}), "granted"),
        (json!({"nonce": null, "sid": "s"}), "granted"),
    ] {
        let mut her = mona(&world);
        her = with(with(her, json!({"auth_time": null})), other.clone());
        let judged = world.judged(5, &signed(&her), TYPE_ID_TOKEN).await;
        assert_eq!(judged, wanted, "{other}");
    }
    let old = world.id_token(json!({"auth_time": now - 1861})).await;
    assert_eq!(old, "proof_age", "where it is told, it counts");
}

#[tokio::test]
async fn an_access_token_must_be_a_persons_and_for_this_server() {
    let world = world().await;
    let ask = async |other: Value| {
        let claims = with(access_token(&world), other);
        let token = signed_as(platform(), Some("at+jwt"), Some("k1"), &claims);
        world.judged(5, &token, TYPE_ACCESS_TOKEN).await
    };
    for (other, wanted) in [
        (json!({}), "granted"),
        (json!({"auth_time": null}), "claim_missing"),
        (json!({"aud": "assistant"}), "audience"),
        (json!({"aud": [ISSUER, "https://mail.example"]}), "audience"),
        (json!({"client_id": null}), "claim_missing"),
        (json!({"sub": "mail-app"}), "claim_form"),
        (json!({"azp": "mona-4711"}), "claim_form"),
        (
            json!({"cnf": {"jkt": new_key().thumbprint().to_string()}}),
            "other_key",
        ),
        (json!({"cnf": {"x5t#S256": "x"}}), "other_key"),
        (json!({"cnf": "x"}), "claim_form"),
        (json!({"exp": world.now() - 61}), "times"),
    ] {
        assert_eq!(ask(other.clone()).await, wanted, "{other}");
    }
    let by_type = signed_as(
        platform(),
        Some("at+jwt"),
        Some("k1"),
        &access_token(&world),
    );
    assert_eq!(world.judged(5, &by_type, TYPE_JWT).await, "granted");
    assert_eq!(world.judged(5, &by_type, TYPE_ID_TOKEN).await, "token_type");
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_without_its_key() {
    let world = world().await;
    let key = new_key();
    let cnf = json!({"cnf": {"jkt": key.thumbprint().to_string()}});
    let claims = with(access_token(&world), cnf);
    let token = signed_as(platform(), Some("at+jwt"), Some("k1"), &claims);
    let ask = async |key: &Arc<SigningKey>, run| {
        let proof = signed(&super::job::claims(&world, 5, run));
        let asking = Asking {
            person: &token,
            kind: TYPE_ACCESS_TOKEN,
            proof: &proof,
            key,
        };
        world.on_behalf(&asking, &[("resource", MAIL)]).await
    };
    assert_eq!(ask(&new_key(), 1).await.rule(), "other_key");
    assert_eq!(ask(&key, 2).await.status, 200);
}

#[tokio::test]
async fn only_the_actor_that_the_token_names_may_act() {
    let world = world().await;
    let sub = "repo:octo-org/octo-repo:ref:refs/heads/main";
    let github = "https://token.actions.githubusercontent.com";
    for (may_act, wanted) in [
        (json!({"iss": github, "sub": sub}), "granted"),
        (
            json!({"iss": ISSUER, "sub": "workload:assistant"}),
            "granted",
        ),
        (json!({"iss": ISSUER, "sub": "workload:release"}), "actor"),
        (json!({"iss": github, "sub": "repo:other"}), "actor"),
        (json!({"iss": github, "sub": sub, "more": "1"}), "actor"),
        (json!({"iss": github, "sub": sub, "more": 1}), "claim_form"),
        (json!({"iss": github, "sub": sub, "more": []}), "claim_form"),
        (
            json!({"iss": github, "sub": sub, "more": null}),
            "claim_form",
        ),
        (json!({"sub": sub}), "actor"),
        (json!({"sub": "workload:assistant"}), "actor"),
        (json!({"iss": github}), "claim_form"),
        (json!("workload:assistant"), "claim_form"),
    ] {
        let got = world.id_token(json!({ "may_act": may_act })).await;
        assert_eq!(got, wanted, "{may_act}");
    }
}

#[tokio::test]
async fn a_workload_acts_for_nobody_unless_it_says_so() {
    let world = world().await;
    let person = signed(&mona(&world));
    assert_eq!(world.judged(1, &person, TYPE_ID_TOKEN).await, "subject");
    let proof = signed(&claims(&world, 6, 1));
    let alone = world.ask(&proof, Some(&new_key()), &[]).await;
    assert_eq!(alone.rule(), "subject_missing");
    // A person is nobody's actor, her own least of all.
    let key = new_key();
    let asking = Asking {
        person: &person,
        kind: TYPE_ID_TOKEN,
        proof: &person,
        key: &key,
    };
    let twice = world.on_behalf(&asking, &[]).await;
    assert_eq!(twice.status, 400, "{}", twice.text);
}

#[tokio::test]
async fn actor_and_subject_come_together_and_alone() {
    let world = world().await;
    let (person, proof) = (signed(&mona(&world)), signed(&claims(&world, 5, 1)));
    let key = dpop(&world, &new_key(), "POST", "/token");
    let base = [
        ("grant_type", EXCHANGE),
        ("subject_token", person.as_str()),
        ("subject_token_type", TYPE_ID_TOKEN),
    ];
    for more in [
        vec![("actor_token", proof.as_str())],
        vec![("actor_token_type", TYPE_JWT)],
        vec![("actor_token", &proof), ("actor_token_type", TYPE_HANDOVER)],
        vec![
            ("actor_token", &proof),
            ("actor_token_type", TYPE_ACCESS_TOKEN),
        ],
        vec![
            ("actor_token", &proof),
            ("actor_token_type", TYPE_JWT),
            ("requested_token_type", TYPE_ID_TOKEN),
        ],
    ] {
        let form: Vec<(&str, &str)> = base.iter().copied().chain(more.clone()).collect();
        let reply = world.form("/token", &form, &[("dpop", &key)]).await;
        assert_eq!(
            reply.rule(),
            "invalid_parameter",
            "{more:?}: {}",
            reply.text
        );
    }
    // A person's token alone proves a person, who is no workload here.
    let alone = world.form("/token", &base, &[("dpop", &key)]).await;
    assert_eq!(alone.rule(), "no_workload", "{}", alone.text);
}

#[tokio::test]
async fn a_person_gives_no_access() {
    let world = world().await;
    let person = with(
        mona(&world),
        json!({"scope": "artifacts:publish", "authorization_details": [{"type": "artifact"}],
               "repository_id": "1", "ref": "refs/heads/main"}),
    );
    let detail = json!([{"type": "artifact", "actions": ["publish"], "identifier": "octo/a"}]);
    let detail = detail.to_string();
    for more in [
        ("authorization_details", detail.as_str()),
        ("scope", "artifacts:publish"),
        ("resource", "https://keyed.example/api"),
    ] {
        let (key, proof) = (new_key(), signed(&claims(&world, 5, 7)));
        let asking = Asking {
            person: &signed(&person),
            kind: TYPE_ID_TOKEN,
            proof: &proof,
            key: &key,
        };
        let reply = world.on_behalf(&asking, &[more]).await;
        assert_eq!(reply.status, 400, "{more:?}: {}", reply.text);
        let stage = reply.body["refused"]["stage"].as_str();
        assert_eq!(stage, Some("access"), "{}", reply.text);
    }
    let with_her = world.assist(1, &person).await;
    let alone = world.job_of(5, 2, &[("resource", MAIL)]).await;
    let view = |job: &Job| {
        let task = job.task.parse().unwrap();
        let view = record::task_record(world.store.as_ref(), &acme(), task).unwrap();
        view.unwrap()
    };
    let (hers, bare) = (view(&with_her), view(&alone));
    assert_eq!(hers.clients[0].access, bare.clients[0].access);
    assert_eq!(hers.deadline, bare.deadline);
    let subject = hers.subject.unwrap();
    assert_eq!(subject.sub.as_deref(), Some("mona-4711"));
    assert_eq!(subject.iss.as_deref(), Some(STAFF));
}

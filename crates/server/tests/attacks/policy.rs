//! Policies: asked at each request, enforced, explained, recorded, and closed where they fail.

use dayfly_domain::Span;
use dayfly_server::app::{Actor, ApplyError, ApplyRequest};
use dayfly_server::config::AddressRates;
use dayfly_store::clock::Clock;
use dayfly_store::{EntryRange, Store};
use serde_json::{Value, json};

use super::job::{Job, claims, new_key, signed, with};
use super::world::{ARTIFACTS, BASELINE, QUEUE, Reply, World, acme};

const BY: Actor = Actor::Local { uid: 7 };
/// It errs as soon as one task is open.
const OVERFLOW: &str = "when { context.open_tasks + 9223372036854775807 > 0 && false }";

impl World {
    /// Writes a policy file into the folder of `acme`, without applying it.
    pub(crate) fn write_policy(&self, name: &str, text: &str) {
        let folder = self.folder.path().join("acme/policies");
        std::fs::write(folder.join(name), text).unwrap();
    }

    async fn apply_policies(&self, policies: &[(&str, &str)]) {
        for (name, text) in policies {
            self.write_policy(name, text);
        }
        let applied = self
            .app
            .apply(&self.tenant(), ApplyRequest::default(), &BY, "a test")
            .await;
        assert!(applied.unwrap().applied);
    }

    /// Asks for the artifacts by a fresh proof of a run, with these claims beside the usual ones.
    async fn ask_with(&self, run: u64, more: Value) -> Reply {
        let proof = signed(&with(claims(self, 1, run), more));
        self.ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    }

    /// A policy that forbids from a minute after now on what is proven by this claim. What is open was
    /// permitted by it, and stays.
    fn forbid_soon(&self, claim: &str, value: &str) -> String {
        let soon = self.clock.now() + Span::from_seconds(60);
        format!(
            "forbid (principal, action, resource) when {{ context.now > datetime(\"{soon}\") && context.proof.hasTag(\"{claim}\") && context.proof.getTag(\"{claim}\") == \"{value}\" }};"
        )
    }

    /// What the operator sees of a refusal.
    fn explained(&self, reply: &Reply) -> Value {
        let id = reply.str("refusal").parse().unwrap();
        json!(self.app.why(id).unwrap().as_ref())
    }

    /// The annexes of the entries of a kind, oldest first.
    pub(crate) fn annexes(&self, kind: &str) -> Vec<Value> {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let of_kind = |leaf: &str| {
            let leaf: Value = serde_json::from_str(leaf).unwrap();
            leaf["kind"] == kind
        };
        entries
            .unwrap()
            .iter()
            .filter(|entry| of_kind(&entry.leaf))
            .filter_map(|entry| entry.annex.as_ref())
            .map(|annex| serde_json::from_str(&annex.data).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_forbid_denies_a_grant_and_is_explained_to_the_operator_alone() {
    let world = World::new().await;
    let forbid = "@id(\"no-artifacts\")\nforbid (principal, action == Dayfly::Action::\"issue\", resource == Dayfly::Resource::\"artifacts\");";
    world.apply_policies(&[("forbid.cedar", forbid)]).await;
    let reply = world.ask_with(1, json!({})).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "policy_denied"));
    assert_eq!(reply.body["refused"]["stage"], "policy");
    assert!(!reply.text.contains("no-artifacts"), "{}", reply.text);
    let explained = world.explained(&reply);
    let hint = explained["hint"].as_str().unwrap();
    assert!(hint.starts_with("forbidden by `no-artifacts` ("), "{hint}");
    assert!(hint.ends_with("policies/forbid.cedar:1:1)"), "{hint}");
    assert_eq!(
        explained["policy"]["decisions"][0]["policies"],
        json!(["no-artifacts"])
    );
    assert!(
        !world
            .leaves()
            .iter()
            .any(|leaf| leaf["kind"] == "task.started")
    );
}

#[tokio::test]
async fn nothing_is_permitted_without_a_policy() {
    let world = World::new().await;
    std::fs::remove_file(world.folder.path().join("acme/policies/baseline.cedar")).unwrap();
    let applied = world
        .app
        .apply(&world.tenant(), ApplyRequest::default(), &BY, "none")
        .await
        .unwrap();
    assert!(
        applied
            .warnings
            .iter()
            .any(|line| line.contains("nothing is permitted"))
    );
    let reply = world.ask_with(1, json!({})).await;
    assert_eq!(
        reply.refusal(),
        (400, "access_denied", "policy_not_permitted")
    );
}

#[tokio::test]
async fn a_default_deny_names_the_nearest_permit_and_to_the_caller_its_own_claim() {
    let world = World::new().await;
    let permit = "@id(\"only-prod\")\npermit (principal, action, resource)\nwhen { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"refs/heads/prod\" };";
    world.apply_policies(&[("baseline.cedar", permit)]).await;
    let reply = world.ask_with(1, json!({})).await;
    assert_eq!(
        reply.refusal(),
        (400, "access_denied", "policy_not_permitted")
    );
    let refused = &reply.body["refused"];
    assert_eq!(
        (&refused["field"], &refused["got"]),
        (&json!("ref"), &json!("refs/heads/main"))
    );
    assert!(!reply.text.contains("prod"), "{}", reply.text);
    let explained = world.explained(&reply);
    assert_eq!(explained["wanted"], "refs/heads/prod");
    assert!(explained["hint"].as_str().unwrap().contains("`only-prod`"));

    let few = "permit (principal, action, resource) when { context.open_tasks < 0 };";
    world.apply_policies(&[("baseline.cedar", few)]).await;
    let reply = world.ask_with(2, json!({})).await;
    let refused = &reply.body["refused"];
    assert_eq!(refused["field"], "policy");
    assert_eq!(refused["got"], format!("start at {ARTIFACTS}"));
}

#[tokio::test]
async fn a_policy_that_errs_denies_though_another_permits() {
    let world = World::new().await;
    let forbid = format!("@id(\"broken\") forbid (principal, action, resource) {OVERFLOW};");
    let job = world.job(1).await;
    world.apply_policies(&[("forbid.cedar", &forbid)]).await;
    let reply = world.ask_with(2, json!({})).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "policy_failed"));
    assert!(
        world.explained(&reply)["hint"]
            .as_str()
            .unwrap()
            .contains("`broken`")
    );
    // What ends asks no policy.
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
}

#[tokio::test]
async fn what_is_only_observed_never_denies_and_never_permits() {
    let world = World::new().await;
    let forbid = "@id(\"soon\") @mode(\"observe\") forbid (principal, action, resource);";
    world.apply_policies(&[("forbid.cedar", forbid)]).await;
    let job = world.job(1).await;
    let annex = &world.annexes("credential.issued")[0]["policy"]["decisions"][0];
    assert_eq!(annex["decision"], "allow");
    assert_eq!(
        annex["observed"],
        json!({"decision": "deny", "policies": ["soon"]})
    );

    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    let permit = "@id(\"soon\") @mode(\"observe\") permit (principal, action, resource);";
    world
        .apply_policies(&[("baseline.cedar", permit), ("forbid.cedar", "")])
        .await;
    let reply = world.ask_with(2, json!({})).await;
    assert_eq!(reply.rule(), "policy_not_permitted");
}

#[tokio::test]
async fn a_renewal_is_denied_once_a_policy_forbids_it() {
    let world = World::new().await;
    let job = world.job(1).await;
    assert_eq!(world.renew(&job, &[]).await.status, 200);
    let forbid = world.forbid_soon("ref", "refs/heads/main");
    world.apply_policies(&[("forbid.cedar", &forbid)]).await;
    assert_eq!(world.renew(&job, &[]).await.status, 200, "not yet");
    world.wait(120);
    assert_eq!(world.renew(&job, &[]).await.rule(), "policy_denied");
    let narrowed = world
        .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(narrowed.rule(), "policy_denied");
    let again = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(again.rule(), "policy_denied");
    assert!(world.is_open(&job.task));
    // After a restart the claims are read from the record.
    let restarted = world.restarted().await;
    assert_eq!(restarted.renew(&job, &[]).await.rule(), "policy_denied");
}

/// Whoever joins brings claims of its own, and is judged by these.
#[tokio::test]
async fn each_client_is_asked_about_by_its_own_claims() {
    let world = World::new().await;
    let ask = async |run: u64, job: &str, actor: &str| {
        let key = new_key();
        let of = json!({"check_run_id": job, "actor": actor});
        let proof = signed(&with(claims(&world, 2, run), of));
        let reply = world.ask(&proof, Some(&key), &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    };
    let (one, two) = (ask(1, "1", "one").await, ask(1, "2", "two").await);
    assert_eq!(one.task, two.task);
    let forbid = world.forbid_soon("actor", "two");
    world.apply_policies(&[("forbid.cedar", &forbid)]).await;
    world.wait(120);
    assert_eq!(world.renew(&one, &[]).await.status, 200);
    assert_eq!(world.renew(&two, &[]).await.rule(), "policy_denied");
}

#[tokio::test]
async fn a_folder_whose_policies_do_not_load_is_refused_and_the_former_stays() {
    let world = World::new().await;
    let before = world.tenant().loaded().revision;
    for (text, message) in [
        ("permit (principal, action, resource", "bad.cedar:1:"),
        (
            "permit (principal, action, resource) when { context.nothing };",
            "`nothing`",
        ),
    ] {
        world.write_policy("bad.cedar", text);
        let failed = world
            .app
            .apply(&world.tenant(), ApplyRequest::default(), &BY, "x")
            .await;
        let Err(ApplyError::Load(errors)) = failed else {
            panic!("{failed:?}");
        };
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.join("\n").contains(message), "{errors:?}");
        assert!(errors[0].contains("policies/bad.cedar:1:"), "{errors:?}");
    }
    assert_eq!(world.tenant().loaded().revision, before);
    world.job(1).await;
    assert_eq!(
        world.restarted().await.ask_with(2, json!({})).await.status,
        200
    );
}

#[tokio::test]
async fn what_was_asked_and_said_stands_in_the_annex_and_not_in_the_leaf() {
    // The front door says where a request came from.
    let rates = AddressRates::default();
    let world = World::new().await.behind(rates, &[]).await;
    let job = world.job(1).await;
    world.renew(&job, &[]).await;
    let set = json!(world.tenant().loaded().policies.hash());
    let start = &world.annexes("task.started")[0]["policy"];
    assert_eq!(start["set"], set);
    assert_eq!(start["facts"]["open_tasks"], 0);
    assert_eq!(start["facts"]["address"], "127.0.0.1");
    assert!(start["facts"]["now"].is_u64());
    let asked: Vec<&Value> = start["decisions"].as_array().unwrap().iter().collect();
    assert_eq!(
        asked.len(),
        2,
        "once for each resource of its access: {start}"
    );
    assert_eq!(
        *asked[0],
        json!({
            "action": "start", "resource": "artifacts", "decision": "allow", "policies": ["baseline"],
            "types": ["artifact"], "actions": ["publish", "read"], "identifiers": ["octo/*"],
        })
    );
    assert_eq!(asked[1]["resource"], "queue");
    let issued = world.annexes("credential.issued");
    assert_eq!(issued.len(), 2);
    for (open, annex) in issued.iter().enumerate() {
        assert_eq!(annex["policy"]["decisions"][0]["action"], "issue");
        assert_eq!(annex["policy"]["facts"]["open_tasks"], open);
    }
    assert_eq!(
        world.annexes("client.registered")[0]["claims"]["ref"],
        "refs/heads/main"
    );
    for leaf in world.leaves() {
        assert!(!leaf.to_string().contains("policies"), "{leaf}");
    }
}

#[tokio::test]
async fn a_refusal_is_recorded_with_what_was_asked() {
    let world = World::new().await;
    let queue = "forbid (principal, action, resource == Dayfly::Resource::\"queue\");";
    world.apply_policies(&[("forbid.cedar", queue)]).await;
    // The whole ceiling is asked for: a start is judged at each resource of it.
    let reply = world.ask_with(1, json!({})).await;
    assert_eq!(reply.rule(), "policy_denied");
    let (key, proof) = (new_key(), signed(&claims(&world, 1, 2)));
    let scoped = [("scope", "artifacts:publish")];
    assert_eq!(world.ask(&proof, Some(&key), &scoped).await.status, 200);
    let proof = signed(&claims(&world, 1, 3));
    let elsewhere = world.ask(&proof, Some(&key), &[("resource", QUEUE)]).await;
    assert_eq!(elsewhere.rule(), "policy_denied");
    // It is recorded behind the answer.
    while world.annexes("refused").is_empty() {
        tokio::task::yield_now().await;
    }
    let annex = &world.annexes("refused")[0];
    assert_eq!(annex["claims"]["ref"], "refs/heads/main");
    let decisions = annex["policy"]["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 2);
    assert_eq!(
        (&decisions[0]["decision"], &decisions[1]["decision"]),
        (&json!("allow"), &json!("deny"))
    );
    assert_eq!(decisions[1]["policies"], json!(["policies/forbid.cedar:1"]));
}

/// A revision that an earlier build recorded may hold policies that nobody ever read.
#[tokio::test]
async fn a_revision_in_force_whose_policies_do_not_load_permits_nothing_and_can_be_mended() {
    let world = World::new().await;
    let job = world.job(1).await;
    let loaded = world.tenant().loaded();
    let files = loaded.source.files().iter().cloned().map(|mut file| {
        if file.name.ends_with(".cedar") {
            file.text = "permit (everybody);".to_owned();
        }
        file
    });
    let unread = dayfly_server::declared::Source::new(loaded.source.base(), files.collect());
    let append = dayfly_store::Append {
        now: world.app.now(),
        revision: Some(loaded.revision),
        revises: true,
        documents: vec![dayfly_store::Document {
            name: "declared".to_owned(),
            bytes: Some(unread.to_bytes()),
        }],
        ..dayfly_store::Append::default()
    };
    world.store.append(&acme(), append).await.unwrap();
    let world = world.restarted().await;
    let warnings = &world.tenant().loaded().warnings;
    assert!(
        warnings
            .iter()
            .any(|w| w.message.starts_with("nothing is permitted"))
    );
    assert_eq!(world.renew(&job, &[]).await.rule(), "policy_failed");
    world.write_policy("baseline.cedar", BASELINE);
    let applied = world
        .app
        .apply(&world.tenant(), ApplyRequest::default(), &BY, "mended")
        .await;
    assert!(applied.unwrap().applied);
    assert_eq!(world.renew(&job, &[]).await.status, 200);
}

/// Editors and diffs show a comment there, and the bounds on depth would see one.
#[tokio::test]
async fn a_policy_behind_a_lone_carriage_return_is_refused() {
    let world = World::new().await;
    let deep = format!(
        "// n\rpermit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(20_000),
        ")".repeat(20_000)
    );
    let hidden = "// n\rforbid (principal, action, resource);";
    for (text, refused) in [(deep.as_str(), true), (hidden, true), ("// n\r\n", false)] {
        world.write_policy("hidden.cedar", text);
        let dry_run = ApplyRequest {
            dry_run: true,
            ..ApplyRequest::default()
        };
        let said = world.app.apply(&world.tenant(), dry_run, &BY, "").await;
        assert_eq!(
            matches!(said, Err(ApplyError::Load(_))),
            refused,
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn a_policy_that_would_not_be_read_is_refused() {
    let world = World::new().await;
    let policies = world.folder.path().join("acme/policies");
    let apply = async || {
        let request = ApplyRequest::default();
        world
            .app
            .apply(&world.tenant(), request, &BY, "a test")
            .await
    };
    std::fs::create_dir(policies.join("team")).unwrap();
    assert!(matches!(apply().await, Err(ApplyError::Load(_))));
    std::fs::remove_dir(policies.join("team")).unwrap();
    for name in ["stop.CEDAR", "stop.cedar.bak"] {
        world.write_policy(name, "forbid (principal, action, resource);");
        assert!(matches!(apply().await, Err(ApplyError::Load(_))), "{name}");
        std::fs::remove_file(policies.join(name)).unwrap();
    }
    std::fs::create_dir(policies.join(".git")).unwrap();
    world.write_policy("README.md", "what they are for");
    assert!(apply().await.is_ok());
}

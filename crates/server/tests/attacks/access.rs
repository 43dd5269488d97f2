//! Access: nothing that is asked for twice, spelled otherwise or exchanged is ever more.

use serde_json::{Value, json};

use super::job::{claims, new_key, payload, signed};
use super::world::{ARTIFACTS, QUEUE, World};

fn details(reply: &super::world::Reply) -> &Value {
    &reply.body["authorization_details"]
}

#[tokio::test]
async fn details_outside_the_ceiling_are_refused_in_every_spelling() {
    let world = World::new().await;
    let key = new_key();
    let proof = signed(&claims(&world, 1, 1));
    let of = |member: &str, value: Value| json!([{"type": "artifact", member: value}]).to_string();
    let path = |text: &str| of("identifier", json!(text));
    let mut cases = vec![
        of("actions", json!(["delete"])),
        of("actions", json!(["read", "delete"])),
        of("actions", json!([])),
        of("actions", json!("read")),
        of("actions", json!(["*"])),
        of("actions", json!([["read"]])),
        of("actions", json!(null)),
        of("actions", json!(["READ"])),
        of("actions", json!(["read\u{0}"])),
        of("datatypes", json!(["x"])),
        of("privileges", json!(["admin"])),
        of("bytes", json!(101)),
        of("bytes", json!(1e3)),
        of("bytes", json!("1")),
        of("bytes", json!(u64::MAX)),
        of("bytes", json!(1.5)),
        of("bytes", json!(null)),
        of("region", json!("cn")),
        of("region", json!(["eu", "us"])),
        of("region", json!(["eu"])),
        of("region", json!(true)),
        of("unknown", json!(1)),
        of("scope", json!("artifacts:publish")),
        of("resource", json!("queue")),
        of("kind", json!("x")),
        of("fields", json!({})),
        of("Type", json!("artifact")),
        of("locations", json!([])),
        of("locations", json!(ARTIFACTS)),
        of("locations", json!([QUEUE])),
        of("locations", json!([ARTIFACTS, QUEUE])),
        of("locations", json!([ARTIFACTS, ARTIFACTS])),
        of("locations", json!(["https://evil.example"])),
        of("locations", json!([format!("{ARTIFACTS}/")])),
        json!([{"type": "message"}, {"type": "artifact", "actions": ["delete"]}]).to_string(),
        json!([{"type": "urn:other"}]).to_string(),
        json!([{"type": ""}]).to_string(),
        json!([{}]).to_string(),
        json!({"type": "artifact"}).to_string(),
        "artifact".to_owned(),
        "[".repeat(1000),
        "[null]".to_owned(),
        r#"[{"type":"artifact","actions":["read"],"actions":["delete"]}]"#.to_owned(),
        r#"[{"type":"artifact","type":"message"}]"#.to_owned(),
        r#"[{"type":"artifact"}],"e":[]"#.to_owned(),
        r#"[{"type":"artifact"}]}"#.to_owned(),
        r#"[{"type":"artifact"}],"d":[]"#.to_owned(),
        json!(vec![json!({"type": "artifact"}); 33]).to_string(),
    ];
    cases.extend(
        [
            "",
            "octo",
            "octo/",
            "octo/a/b",
            "octo//a",
            "/octo/a",
            "octo/../x",
            "octo/./a",
            "octo/..",
            "octo/*",
            "octo/%61",
            "octo\\a",
            "octo/a\n",
            "OCTO/a",
            "octo\u{ff0f}a",
            "octo/e\u{301}",
            "octo/{ref}",
            "octo/a*",
            "\u{feff}octo/a",
            "octo/\u{85}",
        ]
        .map(path)
        .into_iter()
        // A brace is a character like any other in a request, and a plain one fits `octo/*`.
        .filter(|text| !text.contains("{ref}")),
    );
    for asked in &cases {
        let more = [
            ("resource", ARTIFACTS),
            ("authorization_details", asked.as_str()),
        ];
        let reply = world.ask(&proof, Some(&key), &more).await;
        assert_eq!(
            (reply.status, &reply.body["error"]),
            (400, &json!("invalid_authorization_details")),
            "{asked:.200}: {}",
            reply.text
        );
    }
    let asked = json!([{"type": "artifact", "actions": ["read"], "identifier": "octo/a", "bytes": 7, "region": "eu"}]);
    let more = [("authorization_details", asked.to_string())];
    let more: Vec<_> = more
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let granted = world.ask(&proof, Some(&key), &more).await;
    let mut expected = asked;
    expected[0]["locations"] = json!([ARTIFACTS]);
    assert_eq!(details(&granted), &expected);
    assert_eq!(
        payload(granted.str("access_token"))["authorization_details"],
        expected
    );
}

#[tokio::test]
async fn a_client_never_gets_back_what_its_first_grant_left_out() {
    let world = World::new().await;
    let asked = json!([{"type": "artifact", "actions": ["read"], "identifier": "octo/a", "bytes": 7, "region": "eu"}]).to_string();
    let job = world
        .job_of(1, 1, &[("authorization_details", &asked)])
        .await;
    for (more, error) in [
        (("scope", "artifacts:publish"), "invalid_scope"),
        (("scope", "queue:read"), "invalid_scope"),
        (("resource", QUEUE), "invalid_target"),
        (
            (
                "authorization_details",
                r#"[{"type":"artifact","actions":["publish"]}]"#,
            ),
            "invalid_authorization_details",
        ),
        (
            (
                "authorization_details",
                r#"[{"type":"artifact","identifier":"octo/b"}]"#,
            ),
            "invalid_authorization_details",
        ),
        (
            (
                "authorization_details",
                r#"[{"type":"artifact","bytes":8}]"#,
            ),
            "invalid_authorization_details",
        ),
        (
            (
                "authorization_details",
                r#"[{"type":"artifact","region":"us"}]"#,
            ),
            "invalid_authorization_details",
        ),
        (
            ("authorization_details", r#"[{"type":"message"}]"#),
            "invalid_authorization_details",
        ),
    ] {
        for narrowed in [false, true] {
            let mut form = vec![more];
            if more.0 != "resource" {
                form.push(("resource", ARTIFACTS));
            }
            let reply = if narrowed {
                world.narrow(&job.token, Some(&job.key), &form).await
            } else {
                let assertion = super::job::assertion(&world, &job.key, &job.client);
                form.extend([
                    ("grant_type", "client_credentials"),
                    ("client_assertion_type", super::job::ASSERTION_TYPE),
                    ("client_assertion", assertion.as_str()),
                ]);
                world.form("/token", &form, &[]).await
            };
            assert_eq!(
                (reply.status, &reply.body["error"]),
                (400, &json!(error)),
                "{more:?}: {}",
                reply.text
            );
        }
    }
    let renewed = world.renew(&job, &[]).await;
    assert_eq!(details(&renewed)[0]["actions"], json!(["read"]));
    assert_eq!(renewed.body["scope"], Value::Null, "no scope is whole");
}

#[tokio::test]
async fn an_exchange_by_a_bearer_token_gets_no_more_and_lives_no_longer() {
    let world = World::new().await;
    let proof = signed(&claims(&world, 3, 1));
    let granted = world.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
    let all = granted.str("access_token").to_owned();
    let reader = r#"[{"type":"artifact","actions":["read"],"identifier":"octo/a"}]"#;
    world.wait(100);
    let narrow = world
        .narrow(&all, None, &[("authorization_details", reader)])
        .await;
    assert_eq!(narrow.status, 200, "{}", narrow.text);
    let small = narrow.str("access_token").to_owned();
    assert_eq!(
        payload(&small)["exp"],
        payload(&all)["exp"],
        "not a second longer"
    );
    for more in [
        vec![(
            "authorization_details",
            r#"[{"type":"artifact","actions":["publish"]}]"#,
        )],
        vec![(
            "authorization_details",
            r#"[{"type":"artifact","identifier":"octo/b"}]"#,
        )],
        vec![("authorization_details", r#"[{"type":"message"}]"#)],
        vec![("resource", QUEUE)],
    ] {
        let reply = world.narrow(&small, None, &more).await;
        assert_eq!(reply.status, 400, "{more:?}: {}", reply.text);
    }
    let same = world.narrow(&small, None, &[]).await;
    assert_eq!(details(&same)[0]["actions"], json!(["read"]));
    assert_eq!(details(&same)[0]["identifier"], "octo/a");
    // A proof of some key does not turn it into one that is bound to it.
    let reply = world.narrow(&small, Some(&new_key()), &[]).await;
    assert_eq!(reply.rule(), "other_key");
    // A bound token is not exchanged without its key, nor with another.
    let job = world.job(9).await;
    assert_eq!(
        world.narrow(&job.token, None, &[]).await.rule(),
        "dpop_missing"
    );
    assert_eq!(
        world.narrow(&job.token, Some(&new_key()), &[]).await.rule(),
        "other_key"
    );
}

#[tokio::test]
async fn a_token_has_one_audience_however_many_are_named() {
    let world = World::new().await;
    let key = new_key();
    let proof = signed(&claims(&world, 1, 1));
    for (more, rule) in [
        (vec![], "target_ambiguous"),
        (
            vec![("resource", ARTIFACTS), ("resource", QUEUE)],
            "target_ambiguous",
        ),
        (
            vec![("resource", ARTIFACTS), ("audience", "queue")],
            "target_ambiguous",
        ),
        (
            vec![("audience", QUEUE), ("audience", "artifacts")],
            "target_ambiguous",
        ),
        (
            vec![("resource", "https://artifacts.example/API")],
            "target_unknown",
        ),
        (
            vec![("resource", "https://artifacts.example/api/")],
            "target_unknown",
        ),
        (
            vec![("resource", "https://artifacts.example/x/../api")],
            "target_unknown",
        ),
        (
            vec![("resource", "https://artifacts.example")],
            "target_unknown",
        ),
        (
            vec![("resource", "https://artifacts.example/api#x")],
            "target_unknown",
        ),
        (
            vec![("resource", "https://user@artifacts.example/api")],
            "target_unknown",
        ),
        (vec![("resource", "artifacts")], "target_unknown"),
        (vec![("resource", "/api")], "target_unknown"),
        (vec![("resource", super::world::ISSUER)], "target_unknown"),
        (vec![("audience", super::world::ISSUER)], "target_unknown"),
        (
            vec![("resource", ARTIFACTS), ("scope", "queue:read")],
            "target_not_granted",
        ),
        (
            vec![("scope", "artifacts:publish queue:read")],
            "target_ambiguous",
        ),
    ] {
        let reply = world.ask(&proof, Some(&key), &more).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_target", rule),
            "{more:?}: {}",
            reply.text
        );
    }
    for (scope, rule) in [
        ("artifacts:publish artifacts:delete", "scope_unknown"),
        ("ARTIFACTS:PUBLISH", "scope_unknown"),
        ("artifacts:publish\tqueue:read", "scope_unknown"),
        ("*", "scope_unknown"),
        ("openid", "scope_unknown"),
        ("artifacts:publish\u{a0}", "scope_unknown"),
    ] {
        let reply = world
            .ask(
                &proof,
                Some(&key),
                &[("scope", scope), ("resource", ARTIFACTS)],
            )
            .await;
        assert_eq!(reply.refusal(), (400, "invalid_scope", rule), "{scope}");
    }
    let twice = [
        ("resource", ARTIFACTS),
        ("resource", ARTIFACTS),
        ("audience", "artifacts"),
        ("scope", "artifacts:publish artifacts:publish"),
    ];
    let granted = world.ask(&proof, Some(&key), &twice).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let claims = payload(granted.str("access_token"));
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!(ARTIFACTS), &json!("artifacts:publish"))
    );
    assert_eq!(details(&granted).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_with_thousands_of_details_is_refused_before_it_is_decided() {
    let world = World::new().await;
    let job = world.job(1).await;
    let key = new_key();
    let proof = signed(&claims(&world, 1, 2));
    let many: Vec<Value> = (0..600)
        .map(|n| json!({"type": "artifact", "identifier": format!("evil/{n}")}))
        .collect();
    let many = json!(many).to_string();
    let more = [("authorization_details", many.as_str())];
    for reply in [
        world.ask(&proof, Some(&key), &more).await,
        world.renew(&job, &more).await,
        world.narrow(&job.token, Some(&job.key), &more).await,
    ] {
        assert_eq!(
            reply.refusal(),
            (400, "invalid_authorization_details", "details_limit")
        );
    }
}

#[tokio::test]
async fn what_a_bearer_token_holds_is_found_without_reading_the_whole_task() {
    let world = World::new().await;
    let ask = async || {
        let proof = signed(&claims(&world, 3, 1));
        let granted = world.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
        granted.str("access_token").to_owned()
    };
    for _ in 0..4 {
        for _ in 0..15 {
            ask().await;
        }
        world.wait(301);
    }
    let newest = ask().await;
    let before = world.store.entries_read();
    let narrowed = world
        .narrow(&newest, None, &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(narrowed.status, 200, "{}", narrowed.text);
    // A page from the end of the task, and the one that its first client was registered in.
    assert!(world.store.entries_read() - before <= 16 + 4);
}

//! Defaults, one by one, and what each kind of issuer brings along.

use dayfly_domain::access::{Field, Pattern, Scalar};
use dayfly_domain::{Binding, Clause, HeartbeatMode, Limits, Reopen, Repeat, Span};
use dayfly_token::alg::Alg;

use super::{Folder, GOOD, POLICY, context, good_but, good_with, workload};
use crate::declared::{
    Declared, DpopNonce, IssuerKind, JwksSource, ResourceAuth, Source, SourceFile,
};

const MINUTE: Span = Span::from_seconds(60);
const HOUR: Span = Span::from_seconds(3600);

#[test]
fn of_a_workload() {
    let workload = workload(GOOD);
    assert_eq!(workload.repeat, Repeat::Refuse);
    assert_eq!(workload.window, HOUR);
    assert_eq!(workload.heartbeat.mode, HeartbeatMode::Auto);
    assert_eq!(workload.heartbeat.every, Span::from_seconds(30));
    assert_eq!(workload.heartbeat.grace, Span::from_seconds(300));
    assert_eq!(workload.ttl, Span::from_seconds(300));
    assert_eq!(workload.binding, Binding::Required);
    assert_eq!(workload.linger, Span::ZERO);
    assert_eq!(workload.reopen, Reopen::Never);
    assert_eq!(workload.limits, Limits::default());
}

#[test]
fn of_the_tenant_its_issuers_and_resources() {
    let (declared, _) = Folder::new()
        .load(&[("tenant.toml", GOOD), POLICY])
        .unwrap();
    assert_eq!(declared.dpop_nonce, DpopNonce::Optional);
    let issuer = |name: &str| &declared.issuers[&name.parse().unwrap()];
    for (name, kind, url, keep) in [
        (
            "github",
            IssuerKind::Github,
            "https://token.actions.githubusercontent.com",
            36 * 24,
        ),
        ("gitlab", IssuerKind::Gitlab, "https://gitlab.com", 36 * 24),
        (
            "cluster",
            IssuerKind::Kubernetes,
            "https://cluster.example",
            25,
        ),
        ("idp", IssuerKind::Oidc, "https://idp.example/", 25),
    ] {
        let issuer = issuer(name);
        assert_eq!((issuer.kind, issuer.url.as_str()), (kind, url));
        assert_eq!(issuer.keep, Span::from_seconds(keep * 3600));
        assert_eq!(issuer.audience, None);
        assert_eq!(issuer.algs, Alg::DEFAULT);
        assert!(!issuer.allow_private);
        assert!(matches!(issuer.jwks, JwksSource::Discovery));
        assert_eq!(
            declared.issuer_by_url(url).map(|found| &found.name),
            Some(&issuer.name)
        );
    }
    let resource = declared.resource_by_client_id("artifacts").unwrap();
    assert_eq!(resource.signing, Alg::Es256);
    assert!(resource.auth.is_none());
    assert!(declared.resource_by_client_id("ARTIFACTS").is_none());
}

#[test]
fn a_lower_bound_lowers_the_defaults() {
    let mut context = context();
    context.bounds.window_max = MINUTE;
    let files = vec![SourceFile {
        name: "a.toml".into(),
        text: GOOD.into(),
    }];
    let (declared, _) =
        Declared::load(&Source::new(Folder::new().path(), files), &context).unwrap();
    let workload = &declared.workloads.values().next().unwrap().workload;
    assert_eq!((workload.window, workload.ttl), (MINUTE, MINUTE));
}

#[test]
fn what_is_written_counts() {
    let workload = workload(&good_with(
        "repeat = \"join\"\nwindow = \"24h\"\nheartbeat = { mode = \"required\", every = \"1m\", grace = \"2m\" }\n\
         token = { ttl = \"10m\", binding = \"optional\" }\nlinger = \"90s\"\nreopen = true\n\
         limits = { open = 200, starts_per_hour = 2000 }\napproval = \"none\"",
    ));
    assert_eq!(workload.repeat, Repeat::Join);
    assert_eq!(workload.window.to_string(), "24h");
    assert_eq!(workload.heartbeat.mode, HeartbeatMode::Required);
    assert_eq!(
        (workload.heartbeat.every, workload.heartbeat.grace),
        (MINUTE, MINUTE + MINUTE)
    );
    assert_eq!(workload.ttl.to_string(), "10m");
    assert_eq!(workload.binding, Binding::Optional);
    assert_eq!(workload.linger.to_string(), "90s");
    assert_eq!(workload.reopen, Reopen::Silent);
    assert_eq!(
        workload.limits,
        Limits {
            open: Some(200),
            starts_per_hour: Some(2000)
        }
    );
}

#[test]
fn task_keys_follow_the_table_of_the_design() {
    let cases = [
        (
            "{ issuer = \"github\", repository_id = \"1\" }",
            "repository_id run_id check_run_id|repository_id run_id|run_attempt",
            Reopen::Never,
        ),
        (
            "{ issuer = \"github\", repository_id = \"1\" }\ntask = \"job\"",
            "repository_id run_id check_run_id|repository_id run_id|run_attempt",
            Reopen::Never,
        ),
        (
            "{ issuer = \"github\", repository_id = \"1\" }\ntask = \"run\"",
            "repository_id run_id|repository_id run_id|run_attempt",
            Reopen::Never,
        ),
        (
            "{ issuer = \"gitlab\", project_id = \"1\" }",
            "job_id|job_id|",
            Reopen::Never,
        ),
        (
            "{ issuer = \"gitlab\", project_id = \"1\" }\ntask = \"pipeline\"",
            "pipeline_id|pipeline_id|",
            Reopen::Never,
        ),
        (
            "{ issuer = \"cluster\", serviceaccount_uid = \"1\" }",
            "pod_uid|pod_uid|",
            Reopen::SilentOrFailed,
        ),
        (
            "{ issuer = \"cluster\", serviceaccount_uid = \"1\" }\nreopen = false",
            "pod_uid|pod_uid|",
            Reopen::Never,
        ),
        (
            "{ issuer = \"idp\", sub = \"1\" }\ntask = { key = [\"/a/b\", \"c\"], attempt = \"n\" }",
            "/a/b c|/a/b c|n",
            Reopen::Never,
        ),
        (
            "{ issuer = \"idp\", sub = \"1\" }\ntask = { key = [\"c\"] }",
            "c|c|",
            Reopen::Never,
        ),
    ];
    for (matching, expected, reopen) in cases {
        let workload = workload(&good_but(
            "{ issuer = \"github\", repository_id = \"1296269\" }",
            matching,
        ));
        let key = &workload.key;
        let attempt = key.attempt.clone().unwrap_or_default();
        assert_eq!(
            format!("{}|{}|{attempt}", key.key.join(" "), key.series.join(" ")),
            expected
        );
        assert_eq!(workload.reopen, reopen, "{matching}");
    }
    assert!(workload(GOOD).key.hint.contains("task = \"run\""));
}

#[test]
fn clauses_keep_their_order_and_events_are_implied() {
    let declared = |claim: &str, any_of: &[&str], implied| Clause {
        claim: claim.into(),
        any_of: any_of.iter().map(ToString::to_string).collect(),
        implied,
    };
    let matching = |text: &str| {
        workload(&good_but("repository_id = \"1296269\"", text))
            .matching
            .clauses
    };
    let github = [
        "push",
        "schedule",
        "release",
        "workflow_dispatch",
        "repository_dispatch",
        "merge_group",
    ];
    assert_eq!(
        matching("repository_id = 1296269, ref_protected = true, a = [\"x\", 7, false, \"\"]"),
        [
            declared("repository_id", &["1296269"], false),
            declared("ref_protected", &["true"], false),
            declared("a", &["x", "7", "false", ""], false),
            declared("event_name", &github, true),
        ]
    );
    assert_eq!(
        matching("repository_id = \"1\", event_name = \"pull_request\""),
        [
            declared("repository_id", &["1"], false),
            declared("event_name", &["pull_request"], false)
        ]
    );
    let gitlab = good_but(
        "{ issuer = \"github\", repository_id = \"1296269\" }",
        "{ issuer = \"gitlab\", project_id = \"1\" }",
    );
    assert_eq!(
        workload(&gitlab).matching.clauses.last(),
        Some(&declared(
            "pipeline_source",
            &[
                "push",
                "web",
                "schedule",
                "api",
                "trigger",
                "pipeline",
                "parent_pipeline"
            ],
            true
        ))
    );
}

#[test]
fn a_ceiling_holds_each_kind_of_field() {
    let text = good_but(
        "identifier = \"octo/*\"",
        "identifier = [\"a\", \"b/*\"], region = \"eu\", tier = [1, true, \"x\"], size = 5, age = -1, folder = \"a/{ref}\", scope = \"x:y\"",
    );
    let workload = workload(&text);
    let detail = &workload.access[0];
    let path = |text: &str| Pattern::declared(text).unwrap();
    assert_eq!(
        (detail.kind.as_str(), detail.resource.as_str()),
        ("artifact", "artifacts")
    );
    assert_eq!(detail.scope.as_deref(), Some("x:y"));
    assert_eq!(
        detail.fields["actions"],
        Field::Set(["read".to_string()].into())
    );
    assert_eq!(
        detail.fields["identifier"],
        Field::Path(vec![path("a"), path("b/*")])
    );
    assert_eq!(
        detail.fields["region"],
        Field::Set(["eu".to_string()].into())
    );
    assert_eq!(
        detail.fields["tier"],
        Field::Exact(vec![
            Scalar::Int(1),
            Scalar::Bool(true),
            Scalar::Text("x".into())
        ])
    );
    assert_eq!(detail.fields["size"], Field::Max(5));
    assert_eq!(detail.fields["age"], Field::Min(-1));
    assert_eq!(detail.fields["folder"], Field::Path(vec![path("a/{ref}")]));
}

#[test]
fn a_secret_loses_one_newline_and_is_never_shown() {
    let text = good_but(
        "[type.artifact]",
        "secret_file = \"artifacts.secret\"\n[type.artifact]",
    );
    let (declared, _) = Folder::new().load(&[("tenant.toml", &text)]).unwrap();
    let resource = declared.resource_by_client_id("artifacts").unwrap();
    let Some(ResourceAuth::Secret(secret)) = &resource.auth else {
        panic!("{resource:?}");
    };
    assert_eq!(secret.expose(), b"s3cret");
    assert!(!format!("{declared:?}").contains("s3cret"));
}

#[test]
fn keys_come_from_a_file_or_a_url() {
    let with = |keys: &str| {
        let text = good_but("[issuer.gitlab]\n", &format!("[issuer.gitlab]\n{keys}\n"));
        let (declared, _) = Folder::new().load(&[("tenant.toml", &text)]).unwrap();
        declared.issuers[&"gitlab".parse().unwrap()].clone()
    };
    let JwksSource::File { keys, .. } = with("jwks = { file = \"github-jwks.json\" }").jwks else {
        panic!("no file");
    };
    assert_eq!(keys.keys().len(), 1);
    let url =
        with("jwks = { url = \"https://x.example/keys\", token_file = \"artifacts.secret\" }").jwks;
    assert!(
        matches!(url, JwksSource::Url { url, token_file: Some(_), ca_file: None } if url == "https://x.example/keys")
    );
    assert_eq!(
        with("audience = \"a\"").audience,
        Some(vec!["a".to_string()])
    );
    assert_eq!(
        with("audience = [\"a\", \"b\"]").audience,
        Some(vec!["a".to_string(), "b".to_string()])
    );
    assert_eq!(with("keep = \"40d\"").keep.to_string(), "960h");
    assert_eq!(with("algs = [\"ES256\"]").algs, [Alg::Es256]);
}

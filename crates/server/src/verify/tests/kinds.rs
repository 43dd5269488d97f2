//! One good token of each kind, and what becomes of it.

use super::local::{LocalIssuer, key, mint};
use super::*;

#[tokio::test]
async fn a_token_of_each_kind_is_read() {
    let local = LocalIssuer::start().await;
    for (kind, instance, one_time) in [
        (
            IssuerKind::Github,
            "repository_id=456789,run_id=30433642,run_attempt=1,check_run_id=12345",
            true,
        ),
        (
            IssuerKind::Gitlab,
            "project_id=20,pipeline_id=574,job_id=302",
            true,
        ),
        (
            IssuerKind::Kubernetes,
            "namespace=payments,pod=settler-7d9,pod_uid=5e0bd49b",
            false,
        ),
        (IssuerKind::Oidc, "jti=a-1", true),
    ] {
        let issuer = issuer(kind, &local.url);
        let verifier = verifier(&issuer);
        let mut claims = claims(kind, &local.url);
        if kind == IssuerKind::Oidc {
            claims = with(claims, "jti", json!("a-1"));
        }
        for (key, kid) in [(key(0), "rsa"), (key(1), "ec")] {
            let verified = show(&verifier, &mint(key, kid, &claims)).await.unwrap();
            assert_eq!(verified.proof().instance, instance);
            assert_eq!(verified.proof().issuer, issuer.name);
            assert_eq!(verified.proof().one_time, one_time);
            assert_eq!(verified.one_time_key().is_some(), one_time);
            assert_eq!((verified.kind(), verified.keep()), (kind, issuer.keep));
            assert_eq!(verified.issuer_url(), local.url);
            assert_eq!(verified.subject(), claims["sub"].as_str());
            assert_eq!(
                (verified.issued(), verified.expires()),
                (Some(at(NOW)), at(NOW + 300))
            );
        }
    }
}

#[tokio::test]
async fn an_oidc_token_needs_no_more_than_issuer_audience_and_end() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Oidc, &local.url));
    let least = json!({"iss": local.url, "aud": TENANT, "exp": NOW + 300});
    let verified = show(&verifier, &local.token(&least)).await.unwrap();
    let digest = verified.proof().digest;
    assert_eq!(verified.proof().instance, format!("token={digest}"));
    assert_eq!(verified.one_time_key().unwrap().at, at(NOW + 300));
    for claim in ["iss", "aud", "exp"] {
        assert!(
            show(&verifier, &local.token(&without(least.clone(), claim)))
                .await
                .is_err(),
            "{claim}"
        );
    }
}

#[tokio::test]
async fn a_second_spelling_of_a_signature_is_the_same_proof() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let token = mint(key(1), "ec", &claims(IssuerKind::Github, &local.url));
    let twin = other_spelling(&token);
    assert_ne!(token, twin);
    let first = show(&verifier, &token).await.unwrap();
    let second = show(&verifier, &twin).await.unwrap();
    assert_eq!(first.proof().digest, second.proof().digest);
    assert_eq!(first.one_time_key(), second.one_time_key());
    // The same run, asked for its token anew, has another proof.
    let fresh = with(
        claims(IssuerKind::Github, &local.url),
        "jti",
        json!("other"),
    );
    let third = show(&verifier, &local.token(&fresh)).await.unwrap();
    assert_ne!(first.one_time_key(), third.one_time_key());
    assert_eq!(first.proof().instance, third.proof().instance);
}

#[tokio::test]
async fn github_subjects_count_only_where_they_contradict() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let sub = |sub: &str| {
        local.token(&with(
            claims(IssuerKind::Github, &local.url),
            "sub",
            json!(sub),
        ))
    };
    // Renamed since: the old name in `sub` is neither trusted nor in the way.
    assert!(
        show(&verifier, &sub("repo:old-org/old-name:ref:refs/heads/main"))
            .await
            .is_ok()
    );
    let immutable = "repo:octo-org@123456/octo-repo@456789:environment:eu%3Aprod";
    let verified = show(&verifier, &sub(immutable)).await.unwrap();
    assert_eq!(verified.subject(), Some(immutable));
    let refusal = show(&verifier, &sub("repo:octo-org@123456/octo-repo@9:ref:x"))
        .await
        .unwrap_err();
    assert_eq!((refusal.rule, &*refusal.field), (Rule::ClaimForm, "sub"));
    // What a fork's pull request runs as stands in its claims, for `match` to refuse.
    let fork = with(
        claims(IssuerKind::Github, &local.url),
        "event_name",
        json!("pull_request"),
    );
    let verified = show(&verifier, &local.token(&fork)).await.unwrap();
    assert_eq!(verified.proof().claims["event_name"], "pull_request");
}

#[tokio::test]
async fn a_second_attempt_is_another_instance() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let attempt = |n: Value| {
        local.token(&with(
            claims(IssuerKind::Github, &local.url),
            "run_attempt",
            n,
        ))
    };
    let first = show(&verifier, &attempt(json!("1"))).await.unwrap();
    // Numbers and texts are one and the same.
    let second = show(&verifier, &attempt(json!(2))).await.unwrap();
    assert_ne!(first.proof().instance, second.proof().instance);
    assert_eq!(second.proof().claims["run_attempt"], "2");
}

#[tokio::test]
async fn a_gitlab_fork_is_told_by_where_the_job_ran() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Gitlab, &local.url));
    let fork = with(
        claims(IssuerKind::Gitlab, &local.url),
        "job_project_id",
        json!("10"),
    );
    let verified = show(&verifier, &local.token(&fork)).await.unwrap();
    let claims = &verified.proof().claims;
    assert_eq!(
        (
            claims["project_id"].as_str(),
            claims["job_project_id"].as_str()
        ),
        ("20", "10")
    );
    assert_eq!(
        verified.run_url().unwrap(),
        format!("{}/group/project/-/jobs/302", local.url)
    );
}

#[tokio::test]
async fn kubernetes_tokens_name_their_pod_and_its_names_cannot_be_shadowed() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Kubernetes, &local.url));
    let good = claims(IssuerKind::Kubernetes, &local.url);
    let hostile = with(good.clone(), "namespace", json!("kube-system"));
    let verified = show(&verifier, &local.token(&hostile)).await.unwrap();
    assert_eq!(verified.proof().claims["namespace"], "payments");
    // The audience comes as a list of one.
    let listed = with(good.clone(), "aud", json!([TENANT]));
    assert!(show(&verifier, &local.token(&listed)).await.is_ok());
    let mut of_no_pod = good.clone();
    of_no_pod["kubernetes.io"]
        .as_object_mut()
        .unwrap()
        .remove("pod");
    let refusal = show(&verifier, &local.token(&of_no_pod)).await.unwrap_err();
    assert_eq!(
        (refusal.rule, &*refusal.field),
        (Rule::ClaimMissing, "/kubernetes.io/pod")
    );
    let endless = without(good, "exp");
    let refusal = show(&verifier, &local.token(&endless)).await.unwrap_err();
    assert_eq!((refusal.rule, &*refusal.field), (Rule::ClaimMissing, "exp"));
    assert!(
        refusal.hint.contains("expirationSeconds"),
        "{}",
        refusal.hint
    );
}

/// `(r, n - s)` signs what `(r, s)` does (SEC 1, section 4.1.4).
fn other_spelling(token: &str) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let mut signature: Vec<u8> = dayfly_token::b64::decode(signature).unwrap();
    let mut borrow = 0;
    for (s, n) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = i16::from(n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{signing_input}.{}", dayfly_token::b64::encode(signature))
}

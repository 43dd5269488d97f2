//! Whom a token must be made for, by entrance.

use super::local::LocalIssuer;
use super::*;

const ENTRANCES: [Entrance; 3] = [
    Entrance::ClientAssertion,
    Entrance::Assertion,
    Entrance::SubjectToken,
];

async fn outcomes(verifier: &Verifier, local: &LocalIssuer, aud: Value) -> [bool; 3] {
    let token = local.token(&with(claims(IssuerKind::Github, &local.url), "aud", aud));
    let mut accepted = [false; 3];
    for (accepted, entrance) in accepted.iter_mut().zip(ENTRANCES) {
        *accepted = match verifier.verify(&token, entrance, at(NOW)).await {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!((refusal.rule, &*refusal.field), (Rule::Audience, "aud"));
                assert!(refusal.hint.contains("core.getIDToken("));
                false
            }
        };
    }
    accepted
}

#[tokio::test]
async fn by_default_each_entrance_has_its_audiences() {
    const ALL: [bool; 3] = [true; 3];
    const GRANTS: [bool; 3] = [false, true, true];
    const NONE: [bool; 3] = [false; 3];
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    for (aud, wanted) in [
        (json!(TENANT), ALL),
        (json!([TENANT]), ALL),
        (json!(format!("{TENANT}/")), GRANTS),
        (json!(ENDPOINT), GRANTS),
        (json!([ENDPOINT]), GRANTS),
        (json!([TENANT, ENDPOINT]), NONE),
        (json!([TENANT, "https://other.example"]), NONE),
        (json!([TENANT, TENANT]), NONE),
        (json!(format!("{TENANT}//")), NONE),
        (json!(format!("{ENDPOINT}/")), NONE),
        (json!("https://dayfly.example"), NONE),
        (json!("https://dayfly.example/other"), NONE),
        (json!(TENANT.to_uppercase()), NONE),
        (json!(""), NONE),
        (json!([]), NONE),
        (json!([[TENANT]]), NONE),
        (json!({"aud": TENANT}), NONE),
        (json!(null), NONE),
    ] {
        assert_eq!(
            outcomes(&verifier, &local, aud.clone()).await,
            wanted,
            "{aud}"
        );
    }
}

#[tokio::test]
async fn a_declared_audience_replaces_the_default_and_is_still_the_only_one() {
    let local = LocalIssuer::start().await;
    let mut declared = issuer(IssuerKind::Github, &local.url);
    declared.audience = Some(vec!["sigstore".to_owned(), "dayfly".to_owned()]);
    let verifier = verifier(&declared);
    for (aud, accepted) in [
        (json!("dayfly"), true),
        (json!(["sigstore"]), true),
        (json!(["sigstore", "dayfly"]), false),
        (json!(TENANT), false),
        (json!(ENDPOINT), false),
    ] {
        assert_eq!(
            outcomes(&verifier, &local, aud.clone()).await,
            [accepted; 3],
            "{aud}"
        );
    }
}

#[tokio::test]
async fn a_refused_audience_says_what_to_write_in_the_job() {
    let local = LocalIssuer::start().await;
    for (kind, hint) in [
        (
            IssuerKind::Github,
            "core.getIDToken('https://dayfly.example/acme')",
        ),
        (IssuerKind::Gitlab, "aud: https://dayfly.example/acme"),
        (
            IssuerKind::Kubernetes,
            "`audience: https://dayfly.example/acme`",
        ),
        (
            IssuerKind::Oidc,
            "only audience is https://dayfly.example/acme",
        ),
    ] {
        let verifier = verifier(&issuer(kind, &local.url));
        let token = local.token(&with(
            claims(kind, &local.url),
            "aud",
            json!("https://github.com/octo-org"),
        ));
        let refusal = show(&verifier, &token).await.unwrap_err();
        assert!(refusal.hint.contains(hint), "{}", refusal.hint);
        assert!(refusal.wanted.contains(TENANT) && refusal.wanted.contains(ENDPOINT));
        assert_eq!(&*refusal.got, "https://github.com/octo-org");
    }
}

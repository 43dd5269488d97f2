//! Clocks and ages.

use super::local::LocalIssuer;
use super::*;

/// The rule that refuses, or none.
async fn outcome(verifier: &Verifier, local: &LocalIssuer, claims: &Value) -> Option<Rule> {
    show(verifier, &local.token(claims))
        .await
        .err()
        .map(|refusal| refusal.rule)
}

#[tokio::test]
async fn times_are_borne_sixty_seconds_apart() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let good = claims(IssuerKind::Github, &local.url);
    for (claim, time, refused) in [
        ("exp", json!(NOW - 59), None),
        ("exp", json!(NOW - 60), Some(Rule::Times)),
        ("nbf", json!(NOW + 60), None),
        ("nbf", json!(NOW + 61), Some(Rule::Times)),
        ("iat", json!(NOW + 60), None),
        ("iat", json!(NOW + 61), Some(Rule::Times)),
        ("iat", json!(NOW - 3660), None),
        ("iat", json!(NOW - 3661), Some(Rule::ProofAge)),
        ("exp", json!("soon"), Some(Rule::ClaimForm)),
        ("exp", json!(null), Some(Rule::ClaimForm)),
        ("exp", json!(NOW * 1000), Some(Rule::ClaimForm)),
        ("iat", json!(-1), Some(Rule::ClaimForm)),
    ] {
        let claims = with(good.clone(), claim, time.clone());
        assert_eq!(
            outcome(&verifier, &local, &claims).await,
            refused,
            "{claim} {time}"
        );
    }
    for claim in ["iat", "exp"] {
        let claims = without(good.clone(), claim);
        assert_eq!(
            outcome(&verifier, &local, &claims).await,
            Some(Rule::ClaimMissing),
            "{claim}"
        );
    }
    assert_eq!(
        outcome(&verifier, &local, &without(good, "nbf")).await,
        None
    );
}

#[tokio::test]
async fn a_refusal_for_time_shows_both_clocks() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let late = with(
        claims(IssuerKind::Github, &local.url),
        "exp",
        json!(NOW - 3600),
    );
    let refusal = show(&verifier, &local.token(&late)).await.unwrap_err();
    let wanted = format!("exp is {}, our clock says {}", at(NOW - 3600), at(NOW));
    assert_eq!((&*refusal.field, &*refusal.got), ("exp", wanted.as_str()));
}

#[tokio::test]
async fn a_year_long_token_counts_for_an_hour() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Kubernetes, &local.url));
    let long = |iat: u64| {
        let claims = with(
            claims(IssuerKind::Kubernetes, &local.url),
            "exp",
            json!(iat + 31_536_000),
        );
        let mut claims = with(with(claims, "iat", json!(iat)), "nbf", json!(iat));
        claims["kubernetes.io"]["warnafter"] = json!(iat + 3607);
        claims
    };
    assert_eq!(outcome(&verifier, &local, &long(NOW - 1800)).await, None);
    let refusal = show(&verifier, &local.token(&long(NOW - 7200)))
        .await
        .unwrap_err();
    assert_eq!(refusal.rule, Rule::ProofAge);
    assert!(refusal.hint.contains("expirationSeconds: 3600"));
}

#[tokio::test]
async fn without_iat_the_end_bounds_the_age() {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Oidc, &local.url));
    let ends = |exp: u64| json!({"iss": local.url, "aud": TENANT, "exp": exp});
    assert_eq!(outcome(&verifier, &local, &ends(NOW + 3600)).await, None);
    assert_eq!(
        outcome(&verifier, &local, &ends(NOW + 3661)).await,
        Some(Rule::ProofAge)
    );
    assert_eq!(
        outcome(&verifier, &local, &ends(253_402_300_799)).await,
        Some(Rule::ProofAge)
    );
}

#[tokio::test]
async fn the_age_is_configured_up_to_a_day() {
    let local = LocalIssuer::start().await;
    let recipient = Recipient {
        issuer: TENANT.to_owned(),
        token_endpoint: ENDPOINT.to_owned(),
    };
    let issuer = issuer(IssuerKind::Github, &local.url);
    let bounds = ProofBounds {
        proof_age: Span::from_seconds(365 * 86_400),
        ..ProofBounds::default()
    };
    let pseudonyms = Pseudonyms::new(&[7; 32]);
    let verifier = Verifier::new(recipient, [&issuer], bounds, &KeyCache::new(), pseudonyms);
    let made = |iat: u64| {
        with(
            with(claims(IssuerKind::Github, &local.url), "iat", json!(iat)),
            "nbf",
            json!(iat),
        )
    };
    assert_eq!(outcome(&verifier, &local, &made(NOW - 86_400)).await, None);
    assert_eq!(
        outcome(&verifier, &local, &made(NOW - 86_461)).await,
        Some(Rule::ProofAge)
    );
}

//! Tokens of the wrong form, type, issuer, algorithm or key.

use super::local::{LocalIssuer, key, mint, mint_as, published};
use super::*;

async fn github() -> (LocalIssuer, Verifier, Value) {
    let local = LocalIssuer::start().await;
    let verifier = verifier(&issuer(IssuerKind::Github, &local.url));
    let claims = claims(IssuerKind::Github, &local.url);
    (local, verifier, claims)
}

#[tokio::test]
async fn other_kinds_of_jwt_are_refused_at_every_entrance() {
    let (local, verifier, claims) = github().await;
    let payload = claims.to_string();
    for typ in [
        "at+jwt",
        "application/at+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "oauth-id-jag+jwt",
        "txntoken+jwt",
        "logout+jwt",
        "wit+jwt",
        "client-authentication+jwt",
        "jwt+x",
        "",
    ] {
        let token = mint_as(
            key(0),
            json!({"kid": "rsa", "typ": typ}),
            payload.as_bytes(),
        );
        for entrance in [
            Entrance::ClientAssertion,
            Entrance::Assertion,
            Entrance::SubjectToken,
        ] {
            let refusal = verifier
                .verify(&token, entrance, at(NOW))
                .await
                .unwrap_err();
            assert_eq!(refusal.rule, Rule::TokenType, "{typ}");
            assert_eq!(&*refusal.field, "typ");
        }
    }
    assert_eq!(local.hits(), 0);
    for header in [
        json!({"kid": "rsa"}),
        json!({"kid": "rsa", "typ": "JWT"}),
        json!({"kid": "rsa", "typ": "jwt"}),
        json!({"kid": "rsa", "typ": "JOSE"}),
    ] {
        let token = mint_as(key(0), header, payload.as_bytes());
        assert!(show(&verifier, &token).await.is_ok());
    }
}

#[tokio::test]
async fn malformed_tokens_are_refused_before_anything_is_fetched() {
    let (local, verifier, claims) = github().await;
    let good = local.token(&claims);
    let twice = claims.to_string().replacen('{', r#"{"run_id":"1","#, 1);
    let header = |extra: Value| {
        let mut header = json!({"kid": "rsa"});
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        mint_as(key(0), header, claims.to_string().as_bytes())
    };
    for token in [
        String::new(),
        "a.b".to_owned(),
        format!("{good}.x.y"),
        format!("{good}="),
        format!("{good}.{}", "x".repeat(9000)),
        mint_as(key(0), json!({"kid": "rsa"}), twice.as_bytes()),
        mint_as(key(0), json!({"kid": "rsa"}), b"[]"),
        header(json!({"crit": ["exp"]})),
        header(json!({"zip": "DEF"})),
        header(json!({"b64": false})),
    ] {
        assert_eq!(rule(&verifier, &token).await, Rule::TokenForm, "{token}");
    }
    let long = with(claims, "padding", json!("x".repeat(7000)));
    let refusal = show(&verifier, &local.token(&long)).await.unwrap_err();
    assert_eq!(
        (refusal.rule, &*refusal.wanted),
        (Rule::TokenForm, "at most 8192 bytes")
    );
    assert_eq!(local.hits(), 0);
}

#[tokio::test]
async fn nothing_is_fetched_for_an_issuer_that_is_not_declared() {
    let (local, verifier, claims) = github().await;
    let other = LocalIssuer::start().await;
    let slash = format!("{}/", local.url);
    for iss in [
        json!(other.url),
        json!(slash),
        json!([local.url]),
        json!(null),
        json!(""),
    ] {
        let token = local.token(&with(claims.clone(), "iss", iss.clone()));
        assert_eq!(rule(&verifier, &token).await, Rule::Issuer, "{iss}");
    }
    assert_eq!(
        rule(&verifier, &local.token(&without(claims.clone(), "iss"))).await,
        Rule::Issuer
    );
    assert_eq!((local.hits(), other.hits()), (0, 0));
    let token = local.token(&with(claims.clone(), "iss", json!(slash)));
    let refusal = show(&verifier, &token).await.unwrap_err();
    assert!(
        refusal
            .hint
            .contains("a slash at the end makes another issuer")
    );
    // Text of an attacker is escaped and cut.
    let token = local.token(&with(claims, "iss", json!("\u{202e}".repeat(1000))));
    let refusal = show(&verifier, &token).await.unwrap_err();
    assert!(refusal.got.is_ascii() && refusal.got.len() < 1000);
}

#[tokio::test]
async fn only_declared_algorithms_count_and_no_key_is_fetched_for_others() {
    let local = LocalIssuer::start().await;
    let mut only_es256 = issuer(IssuerKind::Github, &local.url);
    only_es256.algs = vec![Alg::Es256];
    let verifier = verifier(&only_es256);
    let claims = claims(IssuerKind::Github, &local.url);
    assert_eq!(
        rule(&verifier, &local.token(&claims)).await,
        Rule::Algorithm
    );
    for alg in ["none", "HS256"] {
        let header = dayfly_token::b64::encode(json!({"alg": alg, "kid": "rsa"}).to_string());
        let payload = dayfly_token::b64::encode(claims.to_string());
        let token = format!("{header}.{payload}.{}", dayfly_token::b64::encode([0; 32]));
        assert_eq!(rule(&verifier, &token).await, Rule::Algorithm, "{alg}");
    }
    assert_eq!(local.hits(), 0);
    assert!(show(&verifier, &mint(key(1), "ec", &claims)).await.is_ok());
}

#[tokio::test]
async fn a_signature_by_another_key_is_refused() {
    let (_local, verifier, claims) = github().await;
    // Another key under a known `kid`; a known key's name in the header changes nothing.
    assert_eq!(
        rule(&verifier, &mint(key(2), "ec", &claims)).await,
        Rule::Signature
    );
    let brought = json!({"kid": "mine", "jwk": published("mine", key(2)), "jku": "https://evil.example/keys"});
    let token = mint_as(key(2), brought, claims.to_string().as_bytes());
    assert_eq!(rule(&verifier, &token).await, Rule::Key);
}

#[tokio::test]
async fn a_key_for_encryption_verifies_nothing_and_the_refusal_says_why() {
    let (local, verifier, claims) = github().await;
    let mut enc = published("enc", key(0));
    enc["use"] = json!("enc");
    local.serve_keys(vec![enc, published("ec", key(1))]);
    let refusal = show(&verifier, &mint(key(0), "enc", &claims))
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.rule, &*refusal.field, &*refusal.got),
        (Rule::Key, "kid", "enc")
    );
    assert!(
        refusal.hint.contains("`use`") && refusal.hint.contains("`ec`"),
        "{}",
        refusal.hint
    );
}

#[tokio::test]
async fn a_token_without_kid_is_tried_against_the_keys_of_its_algorithm() {
    let (_local, verifier, claims) = github().await;
    let bare = |number: usize| mint_as(key(number), json!({}), claims.to_string().as_bytes());
    assert!(show(&verifier, &bare(1)).await.is_ok());
    assert_eq!(rule(&verifier, &bare(2)).await, Rule::Signature);
}

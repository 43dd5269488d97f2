//! People: whose ID tokens open the admin face, and which role they come to.

use dayfly_domain::{Rule, Time};
use serde_json::{Value, json};

use super::local::{LocalIssuer, key, mint, mint_as};
use super::{NOW, with};
use crate::config::{Operators, Role, Who};
use crate::verify::{KeyCache, People};

fn operators(issuer: &LocalIssuer) -> Operators {
    Operators {
        issuer: issuer.url.clone(),
        client_id: "dayfly".to_owned(),
        groups_claim: "groups".to_owned(),
        scopes: None,
        algs: dayfly_token::alg::Alg::DEFAULT.to_vec(),
        allow_private: true,
        roles: vec![
            (Role::Operator, Who::Group("sre".to_owned())),
            (Role::Auditor, Who::Email("mona@example.com".to_owned())),
        ],
    }
}

fn claims(issuer: &LocalIssuer) -> Value {
    json!({
        "iss": issuer.url, "sub": "mona", "aud": "dayfly", "iat": NOW, "exp": NOW + 3600,
        "groups": ["sre"], "email": "mona@example.com", "email_verified": true,
    })
}

async fn rule(people: &People, token: &str) -> Option<Rule> {
    let judged = people.verify(token, Time::from_seconds(NOW)).await;
    judged.err().map(|refusal| refusal.rule)
}

#[tokio::test]
async fn an_id_token_for_this_client_says_who_it_is() {
    let issuer = LocalIssuer::start().await;
    let operators = operators(&issuer);
    let people = People::new(&operators, &KeyCache::new()).unwrap();
    let judge = async |claims: &Value| {
        let token = issuer.token(claims);
        people.verify(&token, Time::from_seconds(NOW)).await
    };
    let mona = judge(&claims(&issuer)).await.unwrap();
    assert_eq!((mona.iss(), mona.sub()), (issuer.url.as_str(), "mona"));
    let roles = operators.roles_of(mona.named());
    assert_eq!(roles, [Role::Operator, Role::Auditor]);
    for unchecked in [json!(false), json!("true"), Value::Null] {
        let claims = with(claims(&issuer), "email_verified", unchecked);
        let roles = operators.roles_of(judge(&claims).await.unwrap().named());
        assert_eq!(roles, [Role::Operator]);
    }
    let claims = with(claims(&issuer), "groups", json!({"sre": true}));
    let roles = operators.roles_of(judge(&claims).await.unwrap().named());
    assert_eq!(roles, [Role::Auditor]);
}

#[tokio::test]
async fn a_token_for_anybody_or_anything_else_is_refused() {
    let issuer = LocalIssuer::start().await;
    let people = People::new(&operators(&issuer), &KeyCache::new()).unwrap();
    let good = claims(&issuer);
    for (claim, value, wanted) in [
        ("aud", json!("other"), Rule::Audience),
        ("aud", json!(["dayfly", "other"]), Rule::Audience),
        ("aud", json!([]), Rule::Audience),
        ("azp", json!("other"), Rule::Audience),
        ("azp", json!(7), Rule::Audience),
        ("iss", json!("https://idp.example"), Rule::Issuer),
        ("exp", json!(NOW - 3600), Rule::Times),
        ("iat", json!(NOW + 3600), Rule::Times),
        ("iat", json!(NOW - 13 * 3600), Rule::ProofAge),
        ("iat", Value::Null, Rule::ClaimForm),
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            Rule::TokenType,
        ),
        ("events", json!({}), Rule::TokenType),
        ("typ", json!("Logout"), Rule::TokenType),
        ("typ", json!("Bearer"), Rule::TokenType),
        ("act", json!({"sub": "somebody"}), Rule::ClaimForm),
        ("sub", json!(""), Rule::ClaimForm),
        ("sub", json!("x".repeat(256)), Rule::ClaimForm),
    ] {
        let token = issuer.token(&with(good.clone(), claim, value.clone()));
        assert_eq!(rule(&people, &token).await, Some(wanted), "{claim} {value}");
    }
    let azp = issuer.token(&with(good.clone(), "azp", json!("dayfly")));
    assert_eq!(rule(&people, &azp).await, None);
    let id = issuer.token(&with(good.clone(), "typ", json!("ID")));
    assert_eq!(rule(&people, &id).await, None);
}

#[tokio::test]
async fn a_signature_by_nobody_or_somebody_else_is_refused() {
    let issuer = LocalIssuer::start().await;
    let people = People::new(&operators(&issuer), &KeyCache::new()).unwrap();
    let good = claims(&issuer);
    let payload = good.to_string();
    let foreign = mint(key(2), "ec", &good);
    assert_eq!(rule(&people, &foreign).await, Some(Rule::Signature));
    let access = mint_as(
        key(0),
        json!({"kid": "rsa", "typ": "at+jwt"}),
        payload.as_bytes(),
    );
    assert_eq!(rule(&people, &access).await, Some(Rule::TokenType));
    let part = |text: &str| dayfly_token::b64::encode(text);
    let none = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&payload));
    assert_eq!(rule(&people, &none).await, Some(Rule::Algorithm));
    let good = issuer.token(&good);
    let unsigned = good.rsplit_once('.').unwrap().0;
    assert!(rule(&people, unsigned).await.is_some());
    assert!(rule(&people, &format!("{unsigned}.")).await.is_some());
    assert_eq!(rule(&people, &good).await, None);
}

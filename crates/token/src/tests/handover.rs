//! Hand-overs: what a parent signs, and everything that is none.

use serde_json::{Map, Value, json};

use super::{key, map, public, set};
use crate::access_token::VerifiedAccessToken;
use crate::alg::Alg;
use crate::assertion::{AssertionError, AssertionExpect, VerifiedAssertion};
use crate::client::{HandoverRequest, handover};
use crate::dpop::{DpopError, DpopExpect, VerifiedDpop};
use crate::fault::Explained;
use crate::handover::{Given, HandoverError, HandoverExpect, TYP, VerifiedHandover};
use crate::htu::Htu;
use crate::jwks::KeySet;
use crate::jws::MAX_TOKEN_BYTES;
use crate::jwt::Jwt;
use crate::typ::TypRule;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://as.example/acme";
const PARENT: &str = "client_x_1";

fn claims() -> Map<String, Value> {
    map(json!({
        "iss": PARENT, "aud": ISSUER, "jti": "j", "iat": NOW, "exp": NOW + 60,
        "cnf": {"jkt": key(Alg::EdDsa).thumbprint().to_string()},
        "authorization_details": [{"type": "artifact"}],
    }))
}

fn typed(typ: Value, claims: &Map<String, Value>) -> String {
    let text = Value::Object(claims.clone()).to_string();
    let header = map(json!({ "typ": typ }));
    key(Alg::Es256).encode_jws(header, text.as_bytes()).unwrap()
}

fn made(change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = claims();
    change(&mut claims);
    typed(TYP.into(), &claims)
}

fn verify(token: &str) -> Result<VerifiedHandover, HandoverError> {
    let expect = HandoverExpect {
        parent: PARENT,
        issuer: ISSUER,
        now: NOW,
    };
    let jwt = Jwt::parse(token, MAX_TOKEN_BYTES)?;
    VerifiedHandover::verify(jwt, &public(key(Alg::Es256)), &expect)
}

#[test]
fn what_a_parent_makes_the_server_accepts() {
    let child = key(Alg::EdDsa).thumbprint();
    let details = Given::Details(vec![json!({"type": "artifact"})]);
    for (jkt, given) in [
        (Some(child), details),
        (None, Given::Scope("artifacts:read".to_owned())),
    ] {
        let request = HandoverRequest {
            parent: PARENT,
            issuer: ISSUER,
            jkt,
            given: &given,
            now: NOW,
            jti: "j",
        };
        let token = handover(key(Alg::Es256), &request).unwrap();
        let verified = verify(&token).unwrap();
        assert_eq!((verified.jkt(), verified.given()), (jkt, &given));
        assert_eq!((verified.iat(), verified.exp()), (NOW, NOW + 60));
        let again = verify(&made(|_| {})).unwrap();
        assert_eq!(verified.replay_key(), again.replay_key(), "by key and jti");
        assert_ne!(verified.signing_input_hash(), again.signing_input_hash());
    }
    let other = verify(&made(|claims| {
        drop(claims.insert("jti".into(), "k".into()))
    }))
    .unwrap();
    assert_ne!(
        other.replay_key(),
        verify(&made(|_| {})).unwrap().replay_key()
    );
}

#[test]
fn every_claim_counts() {
    let jkt = key(Alg::EdDsa).thumbprint().to_string();
    for (claim, value) in [
        ("iss", json!("client_x_2")),
        ("aud", json!("https://as.example/other")),
        ("aud", json!(format!("{ISSUER}/"))),
        ("aud", json!(format!("{ISSUER}/token"))),
        ("aud", json!([ISSUER, "https://artifacts.example"])),
        ("jti", json!("")),
        ("jti", json!(1)),
        ("jti", json!("x".repeat(257))),
        ("iat", json!(NOW + 61)),
        ("iat", json!(NOW - 121)),
        ("iat", json!("now")),
        ("exp", json!(NOW + 61)),
        ("exp", json!(NOW - 60)),
        ("nbf", json!(NOW + 61)),
        ("cnf", json!({})),
        ("cnf", json!(null)),
        ("cnf", json!("x")),
        ("cnf", json!({"jkt": "short"})),
        ("cnf", json!({"jkt": jkt, "x5t#S256": jkt})),
        ("cnf", json!({"jwk": {}})),
        ("authorization_details", json!([])),
        ("authorization_details", json!({"type": "artifact"})),
        ("authorization_details", json!("[]")),
        ("scope", json!("artifacts:read")),
    ] {
        let error = verify(&made(|claims| {
            drop(claims.insert(claim.into(), value.clone()))
        }));
        assert_eq!(error.unwrap_err().fault().field, claim, "{value}");
    }
    for claim in ["iss", "aud", "jti", "iat", "exp", "authorization_details"] {
        let error = verify(&made(|claims| drop(claims.remove(claim))));
        assert_eq!(error.unwrap_err().fault().field, claim);
    }
    for scope in ["", " "] {
        let error = verify(&made(|claims| {
            claims.remove("authorization_details");
            claims.insert("scope".into(), scope.into());
        }));
        assert_eq!(error.unwrap_err().fault().field, "scope");
    }
    for unknown in ["sub", "act", "may_act", "client_id", "resource"] {
        let error = verify(&made(|claims| {
            drop(claims.insert(unknown.into(), "x".into()))
        }));
        assert_eq!(error.unwrap_err().fault().field, "claims", "{unknown}");
    }
    // Made a while ago is good for no longer than it was made for.
    let old = made(|claims| {
        claims.insert("iat".into(), (NOW - 60).into());
        claims.insert("exp".into(), (NOW + 1).into());
    });
    assert_eq!(verify(&old).unwrap_err().fault().field, "exp");
}

#[test]
fn it_is_signed_by_the_parent_itself() {
    let text = Value::Object(claims()).to_string();
    let stranger = crate::sign::SigningKey::generate(Alg::Es256).unwrap();
    let header = || map(json!({ "typ": TYP }));
    let by_stranger = stranger.encode_jws(header(), text.as_bytes()).unwrap();
    assert!(matches!(verify(&by_stranger), Err(HandoverError::Jwt(_))));
    let by_child = key(Alg::EdDsa).encode_jws(header(), text.as_bytes());
    assert!(verify(&by_child.unwrap()).is_err());
    let twice = text.replacen('{', r#"{"iss":"client_x_9","#, 1);
    let twice = key(Alg::Es256).encode_jws(header(), twice.as_bytes());
    assert!(verify(&twice.unwrap()).is_err(), "a claim stands twice");
}

#[test]
fn no_other_kind_of_jwt_is_a_hand_over() {
    for typ in [
        json!("JWT"),
        json!("at+jwt"),
        json!("dpop+jwt"),
        json!("client-authentication+jwt"),
        json!("secevent+jwt"),
        json!("statuslist+jwt"),
        json!("oauth-id-jag+jwt"),
        json!("txntoken+jwt"),
        json!("dayfly-handover"),
        json!(""),
    ] {
        let refused = verify(&typed(typ.clone(), &claims()));
        assert!(matches!(refused, Err(HandoverError::Typ(_))), "{typ}");
    }
    let untyped = key(Alg::Es256).encode_jws(Map::new(), b"{}").unwrap();
    assert!(matches!(verify(&untyped), Err(HandoverError::Typ(_))));
    for typ in ["Dayfly-Handover+JWT", "application/dayfly-handover+jwt"] {
        assert!(verify(&typed(typ.into(), &claims())).is_ok(), "{typ}");
    }
}

#[test]
fn a_hand_over_is_nothing_else() {
    let token = made(|claims| {
        claims.insert("sub".into(), PARENT.into());
        claims.insert("client_id".into(), PARENT.into());
    });
    let keys = KeySet::parse(&set(&[("k1", key(Alg::Es256))]), Alg::DEFAULT).unwrap();
    let as_access_token = VerifiedAccessToken::verify(&token, &keys, Alg::DEFAULT, PARENT);
    assert!(matches!(
        as_access_token,
        Err(crate::access_token::AccessTokenError::Typ(_))
    ));
    let expect = AssertionExpect {
        client_id: PARENT,
        issuer: ISSUER,
        lenient_audience: true,
        now: NOW,
    };
    let as_assertion = VerifiedAssertion::verify(&token, &public(key(Alg::Es256)), &expect);
    assert!(matches!(as_assertion, Err(AssertionError::Typ(_))));
    let htu = Htu::parse("https://as.example/acme/token").unwrap();
    let as_proof = VerifiedDpop::verify(
        &token,
        &DpopExpect {
            method: "POST",
            htu: &htu,
            now: NOW,
            max_age_seconds: 300,
            max_ahead_seconds: 60,
            access_token: None,
            algs: Alg::DEFAULT,
        },
    );
    assert!(matches!(as_proof, Err(DpopError::Typ(_))));
    assert!(TypRule::PlatformToken.check(Some(TYP)).is_err());
}

//! Client assertions and access tokens.

use serde_json::{Map, Value, json};

use super::{key, map, public, set};
use crate::access_token::{
    self, AccessTokenError, VerifiedAccessToken, hash_of_signing_input, hash_of_token,
};
use crate::alg::Alg;
use crate::assertion::{AssertionError, AssertionExpect, VerifiedAssertion};
use crate::client::{AssertionRequest, client_assertion};
use crate::fault::Explained;
use crate::jwks::KeySet;
use crate::jws::{JwsError, MAX_TOKEN_BYTES};
use crate::jwt::{Jwt, JwtError};
use crate::times::Tolerance;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://as.example/acme";
const CLIENT: &str = "client_x_1";

fn assertion(change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = map(json!({
        "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "iat": NOW, "exp": NOW + 300, "jti": "j",
    }));
    change(&mut claims);
    key(Alg::Es256)
        .encode_jws(Map::new(), Value::Object(claims).to_string().as_bytes())
        .unwrap()
}

fn verify_lenient(
    assertion: &str,
    lenient_audience: bool,
) -> Result<VerifiedAssertion, AssertionError> {
    let expect = AssertionExpect {
        client_id: CLIENT,
        issuer: ISSUER,
        lenient_audience,
        now: NOW,
    };
    VerifiedAssertion::verify(assertion, &public(key(Alg::Es256)), &expect)
}

fn verify(assertion: &str) -> Result<VerifiedAssertion, AssertionError> {
    verify_lenient(assertion, false)
}

#[test]
fn what_a_client_makes_the_server_accepts() {
    let request = AssertionRequest {
        client_id: CLIENT,
        issuer: ISSUER,
        now: NOW,
        jti: "j",
        lifetime_seconds: 300,
    };
    let made = client_assertion(key(Alg::Es256), &request).unwrap();
    let jwt = Jwt::parse(&made, MAX_TOKEN_BYTES).unwrap();
    assert_eq!(
        (jwt.claimed_issuer(), jwt.claimed_subject()),
        (Some(CLIENT), Some(CLIENT))
    );
    assert_eq!(
        jwt.header().typ.as_deref(),
        Some("client-authentication+jwt")
    );
    let verified = verify(&made).unwrap();
    assert_eq!((verified.exp(), verified.iat()), (NOW + 300, Some(NOW)));
    assert_eq!(verified.key(), key(Alg::Es256).thumbprint());
    assert_eq!(
        verified.replay_key(),
        verify(&assertion(|_| {})).unwrap().replay_key()
    );
}

#[test]
fn an_assertion_is_for_this_server_alone() {
    let with_aud = |aud: Value| assertion(|claims| drop(claims.insert("aud".to_owned(), aud)));
    let slash = format!("{ISSUER}/");
    assert!(verify(&with_aud(json!([ISSUER]))).is_ok());
    assert!(verify(&with_aud(json!(slash))).is_err());
    assert!(verify_lenient(&with_aud(json!(slash)), true).is_ok());
    let token_endpoint = format!("{ISSUER}/token");
    for aud in [
        json!(token_endpoint),
        json!([ISSUER, token_endpoint]),
        json!([ISSUER, ISSUER]),
        json!("https://as.example/other"),
        json!(null),
    ] {
        for lenient in [false, true] {
            let error = verify_lenient(&with_aud(aud.clone()), lenient).unwrap_err();
            assert_eq!(error.fault().field, "aud", "{aud}");
        }
    }
}

#[test]
fn an_assertion_is_by_this_client_short_and_named() {
    for (claim, value) in [
        ("iss", json!("other")),
        ("sub", json!("other")),
        ("iss", json!(null)),
        ("exp", json!(null)),
        ("exp", json!(NOW - 60)),
        ("exp", json!(NOW + 361)),
        ("exp", json!("soon")),
        ("nbf", json!(NOW + 61)),
        ("iat", json!(NOW + 61)),
        ("jti", json!("")),
        ("jti", json!("x".repeat(257))),
        ("jti", json!(null)),
    ] {
        let error = verify(&assertion(|claims| {
            drop(claims.insert(claim.to_owned(), value.clone()))
        }))
        .unwrap_err();
        assert_eq!(error.fault().field, claim, "{value}");
    }
    for claim in ["iss", "sub", "aud", "exp", "jti"] {
        let error = verify(&assertion(|claims| drop(claims.remove(claim)))).unwrap_err();
        assert_eq!(error.fault().field, claim);
    }
    assert!(verify(&assertion(|claims| drop(claims.remove("iat")))).is_ok());
}

#[test]
fn an_assertion_is_signed_by_the_bound_key() {
    let request = AssertionRequest {
        client_id: CLIENT,
        issuer: ISSUER,
        now: NOW,
        jti: "j",
        lifetime_seconds: 300,
    };
    let stranger = crate::sign::SigningKey::generate(Alg::Es256).unwrap();
    let refused = verify(&client_assertion(&stranger, &request).unwrap());
    assert_eq!(
        refused.unwrap_err(),
        AssertionError::Jwt(JwtError::Jws(JwsError::Signature))
    );
    let refused = verify(&client_assertion(key(Alg::EdDsa), &request).unwrap());
    assert!(matches!(
        refused,
        Err(AssertionError::Jwt(JwtError::Jws(JwsError::NoKey { .. })))
    ));
}

#[test]
fn another_kind_of_jwt_is_no_assertion() {
    for typ in ["at+jwt", "dpop+jwt", "secevent+jwt", "dayfly-handover+jwt"] {
        let claims =
            json!({"iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "exp": NOW + 300, "jti": "j"});
        let made = key(Alg::Es256)
            .encode_jws(map(json!({ "typ": typ })), claims.to_string().as_bytes())
            .unwrap();
        assert!(
            matches!(verify(&made), Err(AssertionError::Typ(_))),
            "{typ}"
        );
    }
}

fn access_token(change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = map(json!({
        "iss": ISSUER, "sub": "workload:w", "client_id": CLIENT, "aud": "https://r", "iat": NOW, "exp": NOW + 300,
        "jti": "cred_1", "cnf": {"jkt": key(Alg::EdDsa).thumbprint().to_string()},
    }));
    change(&mut claims);
    let claims = Value::Object(claims).to_string();
    let input = access_token::signing_input(Alg::Es256, "k1", claims.as_bytes());
    key(Alg::Es256).sign_compact(&input).unwrap()
}

fn verify_access_token(token: &str) -> Result<VerifiedAccessToken, AccessTokenError> {
    let keys = KeySet::parse(&set(&[("k1", key(Alg::Es256))]), Alg::DEFAULT).unwrap();
    VerifiedAccessToken::verify(token, &keys, Alg::DEFAULT, ISSUER)
}

#[test]
fn an_access_token_comes_back() {
    let token = access_token(|_| {});
    let verified = verify_access_token(&token).unwrap();
    assert_eq!(
        (verified.jti(), verified.audience()),
        ("cred_1", "https://r")
    );
    assert_eq!(verified.jkt(), Some(key(Alg::EdDsa).thumbprint()));
    assert!(verified.check_times(NOW, Tolerance::default()).is_ok());
    assert!(
        verified
            .check_times(NOW + 360, Tolerance::default())
            .is_err()
    );
    let (input, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verified.signing_input_hash(), hash_of_signing_input(input));
    assert_eq!(hash_of_token(&token), Some(hash_of_signing_input(input)));
    let bearer = verify_access_token(&access_token(|claims| drop(claims.remove("cnf")))).unwrap();
    assert_eq!(bearer.jkt(), None);
}

#[test]
fn an_access_token_has_all_its_claims() {
    for claim in ["iss", "sub", "client_id", "aud", "iat", "exp", "jti"] {
        let error =
            verify_access_token(&access_token(|claims| drop(claims.remove(claim)))).unwrap_err();
        assert_eq!(error.fault().field, claim);
    }
    for (claim, value) in [
        ("iss", json!("https://as.example/other")),
        ("aud", json!(["a", "b"])),
        ("exp", json!("soon")),
        ("cnf", json!({})),
        ("cnf", json!(null)),
        ("cnf", json!({"jkt": "short"})),
        ("cnf", json!({"x5t#S256": "x"})),
    ] {
        let changed = access_token(|claims| drop(claims.insert(claim.to_owned(), value.clone())));
        assert_eq!(
            verify_access_token(&changed).unwrap_err().fault().field,
            claim,
            "{value}"
        );
    }
}

#[test]
fn another_kind_of_jwt_is_no_access_token() {
    assert!(matches!(
        verify_access_token(&assertion(|_| {})),
        Err(AccessTokenError::Typ(_))
    ));
    for bad in ["", "a", "a.b", "a.b.c.d", "..", "a..c", ".b.c", "a.b."] {
        assert_eq!(hash_of_token(bad), None, "{bad}");
    }
}

//! DPoP proofs and what is wrong with them.

use serde_json::{Map, Value, json};

use super::{key, map};
use crate::alg::Alg;
use crate::b64;
use crate::client::{ProofRequest, dpop_proof};
use crate::dpop::{DpopError, DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use crate::fault::Explained;
use crate::hash::sha256;
use crate::htu::Htu;
use crate::jwk::JwkError;
use crate::jws::JwsError;
use crate::jwt::JwtError;
use crate::nonce::NonceKey;
use crate::sign::SigningKey;
use crate::times::TimeReason;

const NOW: u64 = 1_800_000_000;
const URL: &str = "https://as.example/acme/token";

fn proof(key: &SigningKey, jti: &str, access_token: Option<&str>) -> String {
    let request = ProofRequest {
        method: "POST",
        url: URL,
        now: NOW,
        jti,
        nonce: Some("n"),
        access_token,
    };
    dpop_proof(key, &request).unwrap()
}

fn verify_at(proof: &str, now: u64, access_token: Option<&str>) -> Result<VerifiedDpop, DpopError> {
    let expect = DpopExpect {
        method: "POST",
        htu: &Htu::parse(URL).unwrap(),
        now,
        max_age_seconds: MAX_AGE_SECONDS,
        max_ahead_seconds: MAX_AHEAD_SECONDS,
        access_token,
        algs: Alg::DEFAULT,
    };
    VerifiedDpop::verify(proof, &expect)
}

fn verify(proof: &str) -> Result<VerifiedDpop, DpopError> {
    verify_at(proof, NOW, None)
}

/// A proof of the attacker's choice with a signature that fits.
fn forged(header: Value, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut all = map(json!({"typ": "dpop+jwt"}));
    let jwk = serde_json::from_str(key(Alg::Es256).public_jwk().canonical_json()).unwrap();
    all.insert("jwk".to_owned(), jwk);
    all.extend(map(header));
    all.retain(|_, value| !value.is_null());
    let mut claims = map(json!({"jti": "j", "htm": "POST", "htu": URL, "iat": NOW}));
    change(&mut claims);
    key(Alg::Es256)
        .encode_jws(all, Value::Object(claims).to_string().as_bytes())
        .unwrap()
}

fn with_claim(claim: &str, value: Value) -> String {
    forged(json!({}), |claims| {
        claims.insert(claim.to_owned(), value);
    })
}

/// Field of the refusal.
fn field(proof: &str) -> Option<String> {
    verify(proof)
        .err()
        .map(|error| error.fault().field.into_owned())
}

#[test]
fn a_good_proof_tells_key_time_and_nonce() {
    for alg in Alg::DEFAULT {
        let verified = verify(&proof(key(*alg), "j", None)).unwrap();
        assert_eq!(verified.jkt(), key(*alg).thumbprint());
        assert_eq!((verified.iat(), verified.nonce()), (NOW, Some("n")));
    }
    assert_eq!(field(&forged(json!({}), |_| {})), None);
}

#[test]
fn the_header_must_be_that_of_a_proof() {
    for typ in [json!("JWT"), json!("at+jwt"), json!(null)] {
        assert!(matches!(
            verify(&forged(json!({"typ": typ}), |_| {})),
            Err(DpopError::Typ(_))
        ));
    }
    assert!(matches!(
        verify(&forged(json!({"jwk": null}), |_| {})),
        Err(DpopError::NoKey)
    ));
    let private = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"});
    let refused = verify(&forged(json!({"jwk": private}), |_| {}));
    assert!(matches!(
        refused,
        Err(DpopError::Key(JwkError::Private { member: "d" }))
    ));
    let other: Value = serde_json::from_str(
        SigningKey::generate(Alg::Es256)
            .unwrap()
            .public_jwk()
            .canonical_json(),
    )
    .unwrap();
    let refused = verify(&forged(json!({ "jwk": other }), |_| {}));
    assert!(matches!(
        refused,
        Err(DpopError::Jwt(JwtError::Jws(JwsError::Signature)))
    ));
    let ed: Value = serde_json::from_str(key(Alg::EdDsa).public_jwk().canonical_json()).unwrap();
    let refused = verify(&forged(json!({ "jwk": ed }), |_| {}));
    assert!(matches!(
        refused,
        Err(DpopError::Key(JwkError::NoAlg { .. }))
    ));
}

#[test]
fn only_listed_algorithms_are_accepted() {
    let refused = verify(&proof(key(Alg::Es384), "j", None));
    assert!(matches!(
        refused,
        Err(DpopError::Jwt(JwtError::Jws(
            JwsError::AlgNotAllowed { .. }
        )))
    ));
    for alg in ["none", "HS256"] {
        let input = crate::sign::signing_input(&json!({"alg": alg, "typ": "dpop+jwt"}), b"{}");
        assert!(matches!(
            verify(&format!("{input}.")),
            Err(DpopError::Jwt(_))
        ));
    }
}

#[test]
fn the_claims_must_be_about_this_request() {
    for (claim, value) in [
        ("htm", json!("GET")),
        ("htm", json!("post")),
        ("htm", json!(null)),
        ("htu", json!("https://other.example/acme/token")),
        ("htu", json!("http://as.example/acme/token")),
        ("htu", json!("https://as.example:8443/acme/token")),
        ("htu", json!("https://as.example/acme/Token")),
        ("htu", json!("https://as.example/acme/token/")),
        ("htu", json!("https://as.example/other/token")),
        ("htu", json!("https://user@as.example/acme/token")),
        ("htu", json!("https://as.example.evil/acme/token")),
        ("htu", json!("/acme/token")),
        ("htu", json!("")),
        ("htu", json!([URL])),
        ("jti", json!("")),
        ("jti", json!(1)),
        ("jti", json!("x".repeat(257))),
        ("iat", json!("now")),
        ("iat", json!(-1)),
        ("iat", json!(null)),
        ("nonce", json!(1)),
        ("nonce", json!(null)),
    ] {
        assert_eq!(
            field(&with_claim(claim, value.clone())).as_deref(),
            Some(claim),
            "{value}"
        );
    }
    for claim in ["jti", "htm", "htu", "iat"] {
        let missing = forged(json!({}), |claims| drop(claims.remove(claim)));
        assert_eq!(field(&missing).as_deref(), Some(claim));
    }
}

#[test]
fn spellings_of_the_same_url_are_one() {
    for same in [
        "HTTPS://AS.Example/acme/token",
        "https://as.example:443/acme/token",
        "https://as.example:/acme/token",
        "https://as.example:0443/acme/token",
        "https://as.example/acme/token?a=b",
        "https://as.example/acme/token#c",
        "https://as.example/acme/token?x#y?z",
        "https://as.example/acme/%74oken",
        "https://as.example/acme/./token",
        "https://as.example/x/../acme/token",
        "https://as.example/%2e%2E/acme/token",
    ] {
        assert_eq!(field(&with_claim("htu", same.into())), None, "{same}");
    }
}

#[test]
fn urls_normalise_by_syntax_and_scheme_only() {
    for (url, normal) in [
        ("http://a", "http://a/"),
        ("http://a:80", "http://a/"),
        ("http://a:443/", "http://a:443/"),
        ("https://a:80/", "https://a:80/"),
        (
            "http://127.0.0.1:8440/acme/token",
            "http://127.0.0.1:8440/acme/token",
        ),
        ("http://[0:0::1]:80/x", "http://[::1]/x"),
        ("http://a/b/..", "http://a/"),
        ("http://a/b/c/.", "http://a/b/c/"),
        ("http://a/../../b", "http://a/b"),
        ("http://a//b//", "http://a//b//"),
        ("http://a/%2f%7E%c3", "http://a/%2F~%C3"),
        ("http://a/;p=1,!$&'()*+:@", "http://a/;p=1,!$&'()*+:@"),
    ] {
        let once = Htu::parse(url).unwrap();
        assert_eq!(once.as_str(), normal);
        assert_eq!(Htu::parse(once.as_str()), Ok(once));
    }
    for bad in [
        "",
        "a",
        "//a/b",
        "ftp://a/",
        "https:/a",
        "https:///b",
        "https://:443/",
        "https://a:x/",
        "https://a:65536/",
        "https://a:1:2/",
        "https://[::1/",
        "https://[::1]x/",
        "https://a b/",
        "https://a/\u{e9}",
        "https://a\\b/",
        "https://a/%",
        "https://a/%2",
        "https://a/%zz",
        "https://a/%+1",
        "https://u:p@a/",
        "https://%61/",
        " https://a/",
    ] {
        assert!(Htu::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn age_is_bounded_on_both_sides() {
    let proof = proof(key(Alg::Es256), "j", None);
    let at = |now: u64| match verify_at(&proof, now, None) {
        Ok(_) => None,
        Err(DpopError::Time(error)) => Some(error.reason),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(at(NOW + 300), None);
    assert_eq!(at(NOW + 301), Some(TimeReason::TooOld));
    assert_eq!(at(NOW - 60), None);
    assert_eq!(at(NOW - 61), Some(TimeReason::Future));
    assert_eq!(field(&with_claim("iat", json!(NOW as f64 - 0.5))), None);
}

#[test]
fn a_proof_is_bound_to_its_access_token() {
    let bound = proof(key(Alg::Es256), "j", Some("token"));
    assert!(verify_at(&bound, NOW, Some("token")).is_ok());
    assert!(verify_at(&bound, NOW, None).is_ok());
    let unbound = proof(key(Alg::Es256), "j", None);
    let padded = with_claim("ath", format!("{}=", b64::encode(sha256(b"token"))).into());
    for proof in [
        &unbound,
        &padded,
        &proof(key(Alg::Es256), "j", Some("other")),
        &with_claim("ath", json!(1)),
    ] {
        let error = verify_at(proof, NOW, Some("token")).unwrap_err();
        assert_eq!(error.fault().field, "ath");
    }
}

#[test]
fn a_replay_is_known_by_key_and_name() {
    let name = |key, jti| verify(&proof(key, jti, None)).unwrap().replay_key();
    let (mine, other) = (key(Alg::Es256), key(Alg::EdDsa));
    // Signed twice, so the bytes differ; the same proof for all that.
    assert_ne!(proof(mine, "j", None), proof(mine, "j", None));
    assert_eq!(name(mine, "j"), name(mine, "j"));
    assert_ne!(name(mine, "j"), name(mine, "k"));
    assert_ne!(name(mine, "j"), name(other, "j"));
}

#[test]
fn oversize_proofs_are_not_read() {
    let long = with_claim("x", "x".repeat(8 * 1024).into());
    assert!(matches!(
        verify(&long),
        Err(DpopError::Jwt(JwtError::Jws(JwsError::TooLong { .. })))
    ));
}

#[test]
fn nonces_live_for_two_buckets() {
    let key = NonceKey::of(&[7; 32]);
    let start = NOW - NOW % NonceKey::BUCKET_SECONDS;
    let nonce = key.current(start);
    assert_eq!(key.current(start + 299), nonce);
    assert_ne!(key.current(start + 300), nonce);
    for (now, accepted) in [
        (start, true),
        (start + 599, true),
        (start + 600, false),
        (start - 1, false),
    ] {
        assert_eq!(key.accepts(&nonce, now), accepted, "{now}");
    }
    assert!(!NonceKey::of(&[8; 32]).accepts(&nonce, start));
    assert!(!NonceKey::generate().unwrap().accepts(&nonce, start));
    for bad in ["", &nonce[1..], &format!("{nonce}A")] {
        assert!(!key.accepts(bad, start));
    }
    assert!(key.accepts(&key.current(0), 0));
    assert_eq!(format!("{key:?}"), "NonceKey(..)");
}

//! Laws that hold for any input.

use proptest::prelude::*;
use serde_json::json;

use super::{key, map, public, set};
use crate::alg::Alg;
use crate::b64;
use crate::claims::Claims;
use crate::dpop::{DpopExpect, VerifiedDpop};
use crate::htu::Htu;
use crate::json;
use crate::jwk::PublicJwk;
use crate::jwks::KeySet;
use crate::jws::{Jws, MAX_TOKEN_BYTES};
use crate::jwt::Jwt;
use crate::sign::SigningKey;
use crate::times::Tolerance;

fn any_alg() -> impl Strategy<Value = Alg> {
    prop::sample::select(Alg::ALL)
}

fn verifies(token: &str, signer: &SigningKey) -> bool {
    let keys = KeySet::parse(&set(&[("k", signer)]), Alg::ALL).unwrap();
    let by_key = Jws::parse(token, MAX_TOKEN_BYTES).and_then(|jws| jws.verify(&public(signer)));
    let by_set =
        Jws::parse(token, MAX_TOKEN_BYTES).and_then(|jws| jws.verify_with(&keys, Alg::ALL));
    assert_eq!(by_key.is_ok(), by_set.is_ok());
    by_key.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_verifies(alg in any_alg(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let token = key(alg).encode_jws(map(json!({"kid": "k"})), &payload).unwrap();
        prop_assert!(verifies(&token, key(alg)));
        let verified = Jws::parse(&token, MAX_TOKEN_BYTES).unwrap().verify(&public(key(alg))).unwrap();
        prop_assert_eq!(verified.payload(), payload);
        prop_assert_eq!(verified.header().alg, alg);
    }

    #[test]
    fn any_flipped_bit_fails(alg in any_alg(), part in 0_usize..3, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let token = key(alg).encode_jws(map(json!({"kid": "k"})), br#"{"iss":"a"}"#).unwrap();
        let mut parts: Vec<Vec<u8>> = token.split('.').map(|part| b64::decode(part).unwrap()).collect();
        let at = at.index(parts[part].len());
        parts[part][at] ^= 1 << bit;
        let parts: Vec<String> = parts.iter().map(b64::encode).collect();
        prop_assert!(!verifies(&parts.join("."), key(alg)));
    }

    #[test]
    fn any_changed_character_fails(at in any::<prop::sample::Index>(), other in any::<char>()) {
        let token = key(Alg::Es256).encode_jws(map(json!({"kid": "k"})), br#"{"iss":"a"}"#).unwrap();
        let mut chars: Vec<char> = token.chars().collect();
        let at = at.index(chars.len());
        prop_assume!(chars[at] != other);
        chars[at] = other;
        prop_assert!(!verifies(&chars.iter().collect::<String>(), key(Alg::Es256)));
    }

    #[test]
    fn readers_never_panic(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Jwt::parse(&text, MAX_TOKEN_BYTES);
        let _ = json::object(&bytes);
        let _ = KeySet::parse(&bytes, Alg::ALL);
        let _ = SigningKey::from_pkcs8(Alg::Es256, &bytes);
        let _ = Htu::parse(&text);
        let dotted = [&bytes[..], text.as_bytes(), &bytes].map(b64::encode).join(".");
        let _ = Jwt::parse(&dotted, MAX_TOKEN_BYTES);
    }

    #[test]
    fn readers_of_objects_never_panic(value in any_json()) {
        let text = json!({"keys": [value], "exp": value, "aud": value, "alg": "ES256", "jwk": value}).to_string();
        let _ = KeySet::parse(text.as_bytes(), Alg::ALL);
        let read = json::object(text.as_bytes());
        prop_assert!(read.is_ok());
        let claims = Claims::parse(text.as_bytes()).unwrap();
        let _ = (claims.sole_audience(), claims.check_times(0, Tolerance::default()));
        if let Some(jwk) = value.as_object() {
            let _ = PublicJwk::parse(jwk);
        }
        let token = [text.as_str(), text.as_str(), ""].map(b64::encode).join(".");
        let expect = DpopExpect {
            method: "GET", htu: &Htu::parse("http://a/").unwrap(), now: 0, max_age_seconds: 1,
            max_ahead_seconds: 1, access_token: None, algs: Alg::ALL,
        };
        prop_assert!(VerifiedDpop::verify(&token, &expect).is_err());
    }

    #[test]
    fn strict_reading_changes_nothing(value in any_json()) {
        let object = json!({ "a": value });
        prop_assert_eq!(json::object(object.to_string().as_bytes()), Ok(map(object)));
    }

    #[test]
    fn base64_has_one_spelling(text in "[A-Za-z0-9_=-]{0,12}") {
        if let Ok(bytes) = b64::decode(&text) {
            prop_assert_eq!(b64::encode(bytes), text);
        }
    }

    #[test]
    fn normal_urls_stay(path in "(/[a-zA-Z0-9.%~;:@-]{0,5}){0,6}") {
        if let Ok(normal) = Htu::parse(&format!("https://A.example{path}")) {
            prop_assert!(!normal.as_str().contains("/../") && !normal.as_str().contains("/./"));
            prop_assert_eq!(Htu::parse(normal.as_str()), Ok(normal));
        }
    }
}

/// JSON of a few levels whose members are those that the readers look for.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Quarters, which every reader takes exactly.
        any::<i32>().prop_map(|n| (f64::from(n) / 4.0).into()),
        "[A-Za-z0-9_-]{0,44}".prop_map(Into::into),
        prop::sample::select(vec![
            "RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "verify"
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let member = prop::sample::select(vec![
            "kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "jkt",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(member, inner, 0..6).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

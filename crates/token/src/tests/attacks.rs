//! Known attacks on JWS, one test each.

use aws_lc_rs::hmac;
use serde_json::json;

use super::{key, map, public, set};
use crate::access_token::hash_of_token;
use crate::alg::Alg;
use crate::b64;
use crate::excerpt::Excerpt;
use crate::fault::Explained;
use crate::jwks::KeySet;
use crate::jws::{Jws, JwsError, MAX_TOKEN_BYTES};
use crate::sign::signing_input;
use crate::verifying_key::BadSignature;

fn parse(token: &str) -> Result<Jws<'_>, JwsError> {
    Jws::parse(token, MAX_TOKEN_BYTES)
}

/// A token with a header of the attacker's choice and a signature that fits it.
fn signed(header: &str) -> String {
    let input = format!("{}.{}", b64::encode(header), b64::encode("{}"));
    key(Alg::Es256).sign_compact(&input).unwrap()
}

#[test]
fn alg_none_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let input = signing_input(&json!({"alg": alg}), b"{}");
        for token in [format!("{input}."), format!("{input}.AA")] {
            let error = parse(&token).unwrap_err();
            assert!(matches!(&error, JwsError::UnknownAlg(_)), "{alg}");
            assert_eq!(error.fault().got, Excerpt::of(alg));
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let input = signing_input(&json!({"alg": "HS256"}), b"{}");
    let secret = key(Alg::Rs256).public_jwk().canonical_json().as_bytes();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    let token = format!("{input}.{}", b64::encode(tag));
    assert!(matches!(parse(&token), Err(JwsError::UnknownAlg(_))));
}

#[test]
fn an_algorithm_the_key_is_not_pinned_to_fails_whatever_the_signature() {
    let input = signing_input(&json!({"alg": "PS256"}), b"{}");
    let signature = b64::decode(&key(Alg::Ps256).sign(input.as_bytes()).unwrap()).unwrap();
    let keys = KeySet::parse(&set(&[("a", key(Alg::Rs256))]), Alg::ALL).unwrap();
    assert_eq!(
        keys.keys()[0].verify(Alg::Ps256, input.as_bytes(), &signature),
        Err(BadSignature)
    );
    assert_eq!(
        public(key(Alg::Ps256)).verify(Alg::Ps256, input.as_bytes(), &signature),
        Ok(())
    );
    for alg in Alg::ALL.iter().filter(|alg| **alg != Alg::Ps256) {
        assert_eq!(
            public(key(Alg::Ps256)).verify(*alg, input.as_bytes(), &signature),
            Err(BadSignature)
        );
    }
}

#[test]
fn a_key_in_the_header_is_never_used() {
    let attacker = crate::sign::SigningKey::generate(Alg::Es256).unwrap();
    let jwk: serde_json::Value =
        serde_json::from_str(attacker.public_jwk().canonical_json()).unwrap();
    let header = json!({"kid": "a", "jwk": jwk, "jku": "https://evil.example", "x5u": "https://evil.example"});
    let token = attacker.encode_jws(map(header), b"{}").unwrap();
    let keys = KeySet::parse(&set(&[("a", key(Alg::Es256))]), Alg::DEFAULT).unwrap();
    let refused = parse(&token).unwrap().verify_with(&keys, Alg::DEFAULT);
    assert_eq!(refused.unwrap_err(), JwsError::Signature);
}

#[test]
fn members_that_change_the_reading_are_refused() {
    let headers = [
        ("crit", r#"{"alg":"ES256","crit":["exp"],"exp":1}"#),
        ("crit", r#"{"alg":"ES256","crit":[]}"#),
        ("crit", r#"{"alg":"ES256","crit":null}"#),
        ("b64", r#"{"alg":"ES256","b64":false}"#),
        ("b64", r#"{"alg":"ES256","b64":true}"#),
        ("zip", r#"{"alg":"ES256","zip":"DEF"}"#),
        ("enc", r#"{"alg":"ES256","enc":"A256GCM"}"#),
    ];
    for (member, header) in headers {
        assert_eq!(
            parse(&signed(header)).unwrap_err(),
            JwsError::RefusedMember { member }
        );
    }
}

#[test]
fn header_members_are_unique_and_typed() {
    for header in [
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","x":{"a":1,"a":2}}"#,
        r#"["alg"]"#,
        r#""ES256""#,
        "",
        r#"{"alg":"ES256"}x"#,
    ] {
        assert!(
            matches!(parse(&signed(header)), Err(JwsError::Header(_))),
            "{header}"
        );
    }
    for header in [
        "{}",
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"ES256","kid":1}"#,
        r#"{"alg":"ES256","typ":null}"#,
        r#"{"alg":"ES256","jwk":"{}"}"#,
    ] {
        assert!(
            matches!(parse(&signed(header)), Err(JwsError::Member { .. })),
            "{header}"
        );
    }
}

#[test]
fn there_are_three_parts() {
    let token = signed(r#"{"alg":"ES256"}"#);
    for (parts, token) in [
        (1, ""),
        (1, "abc"),
        (2, "abc.def"),
        (4, &format!("{token}.")),
        (4, &format!(".{token}")),
        (5, "a.b.c.d.e"),
    ] {
        assert_eq!(parse(token).unwrap_err(), JwsError::Parts { parts });
    }
    // The JSON serialisations are not read.
    assert!(parse(r#"{"payload":"e30","signatures":[]}"#).is_err());
}

#[test]
fn second_spellings_of_the_parts_are_refused() {
    let token = signed(r#"{"alg":"ES256"}"#);
    assert!(parse(&token).is_ok());
    let (input, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    let cases = [
        ("signature", format!("{input}.{signature}=")),
        ("signature", format!("{input}.{signature}==")),
        ("signature", format!("{input}.{signature}\n")),
        ("signature", format!("{input}. {signature}")),
        // 64 bytes leave four unused bits in the last character.
        (
            "signature",
            format!("{input}.{}B", &signature[..signature.len() - 1]),
        ),
        ("payload", format!("{header}.{payload}=.{signature}")),
        ("header", format!("{header}=.{payload}.{signature}")),
        ("header", format!(" {header}.{payload}.{signature}")),
        ("payload", format!("{header}.e30+.{signature}")),
    ];
    for (part, token) in cases {
        assert_eq!(
            parse(&token).unwrap_err(),
            JwsError::Encoding { part },
            "{token}"
        );
    }
}

#[test]
fn signatures_have_one_length() {
    for alg in Alg::ALL {
        let key = key(*alg);
        let signature = b64::decode(&key.sign(b"x").unwrap()).unwrap();
        let verify = |signature: &[u8]| public(key).verify(*alg, b"x", signature);
        assert_eq!(verify(&signature), Ok(()));
        assert_eq!(verify(&[]), Err(BadSignature), "{alg}");
        assert_eq!(verify(&signature[1..]), Err(BadSignature), "{alg}");
        assert_eq!(
            verify(&[signature.as_slice(), &[0]].concat()),
            Err(BadSignature),
            "{alg}"
        );
        assert_eq!(
            verify(&[&[0], signature.as_slice()].concat()),
            Err(BadSignature),
            "{alg}"
        );
        assert_eq!(
            verify(&vec![0; signature.len()]),
            Err(BadSignature),
            "{alg}"
        );
    }
}

/// ECDSA lets anyone turn (r, s) into (r, n - s). It verifies, so a token must not be named by its signature.
#[test]
fn a_turned_ecdsa_signature_is_the_same_token() {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let token = signed(r#"{"alg":"ES256"}"#);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = b64::decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let order = i32::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).unwrap();
        let difference = order - i32::from(signature[32 + at]) - borrow;
        borrow = i32::from(difference < 0);
        signature[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let turned = format!("{input}.{}", b64::encode(signature));
    assert_ne!(turned, token);
    let verified = parse(&turned)
        .unwrap()
        .verify(&public(key(Alg::Es256)))
        .unwrap();
    assert_eq!(Some(verified.signing_input_hash()), hash_of_token(&token));
}

#[test]
fn long_tokens_are_not_read() {
    let header = format!(r#"{{"alg":"ES256","x":"{}"}}"#, "x".repeat(MAX_TOKEN_BYTES));
    let token = signed(&header);
    let refused = JwsError::TooLong {
        max_bytes: MAX_TOKEN_BYTES,
        bytes: token.len(),
    };
    assert_eq!(parse(&token).unwrap_err(), refused);
    assert!(Jws::parse(&token, token.len()).is_ok());
    assert!(Jws::parse(&token, token.len() - 1).is_err());
}

#[test]
fn errors_never_print_raw_input() {
    let error = parse(&signed("{\"alg\":\"\\u001b[31m\\n`x\"}")).unwrap_err();
    assert_eq!(
        error.to_string(),
        r"algorithm `\u{1b}[31m\u{a}\u{60}x` is never accepted"
    );
    let error = parse(&signed(&format!(r#"{{"alg":"{}"}}"#, "A".repeat(4000)))).unwrap_err();
    assert!(error.to_string().len() < 200);
}

//! What is refused as a public key, and how a key set picks.

use serde_json::{Value, json};

use super::{key, map, public, set};
use crate::alg::Alg;
use crate::b64;
use crate::excerpt::Excerpt;
use crate::jwk::{JwkError, PublicJwk};
use crate::jwks::{KeySet, KeySetError};
use crate::jws::{Jws, JwsError, MAX_TOKEN_BYTES};
use crate::sign::{SignError, SigningKey};
use crate::verifying_key::VerifyingKey;

fn jwk(alg: Alg) -> Value {
    serde_json::from_str(key(alg).public_jwk().canonical_json()).unwrap()
}

fn parse(jwk: Value) -> Result<PublicJwk, JwkError> {
    PublicJwk::parse(&map(jwk))
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

#[test]
fn private_members_are_refused() {
    for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
            for value in [json!("AQAB"), Value::Null] {
                let refused = parse(with(jwk(alg), member, value));
                assert!(
                    matches!(refused, Err(JwkError::Private { .. })),
                    "{alg} {member}"
                );
            }
        }
    }
    assert!(matches!(
        parse(json!({"kty": "oct", "k": "AQAB"})),
        Err(JwkError::Private { .. })
    ));
}

#[test]
fn weak_rsa_keys_are_refused() {
    let rsa = |n: &[u8], e: &str| parse(json!({"kty": "RSA", "n": b64::encode(n), "e": e}));
    let modulus = |bytes: usize| [&[0x80], vec![0xff; bytes - 1].as_slice()].concat();
    assert!(rsa(&modulus(256), "AQAB").is_ok());
    assert!(rsa(&modulus(1024), "Aw").is_ok());
    let unsound = |n: &[u8], e: &str| {
        assert!(
            matches!(rsa(n, e), Err(JwkError::Unsound { .. })),
            "{} {e}",
            n.len()
        );
    };
    unsound(&modulus(128), "AQAB");
    unsound(&modulus(255), "AQAB");
    unsound(&[&[0x7f], vec![0xff; 255].as_slice()].concat(), "AQAB");
    unsound(&modulus(1025), "AQAB");
    unsound(&[&[0x80], vec![0xfe; 255].as_slice()].concat(), "AQAB");
    unsound(&modulus(256), "AQ");
    unsound(&modulus(256), "AQAA");
    unsound(&modulus(256), "Ag");
    unsound(&modulus(256), &b64::encode([1, 0, 0, 0, 1]));
    // Leading zeros would be a second spelling.
    for (n, e) in [
        (modulus(256), "AAEAAQ"),
        ([&[0], modulus(256).as_slice()].concat(), "AQAB"),
        (modulus(256), ""),
    ] {
        assert!(matches!(rsa(&n, e), Err(JwkError::Member { .. })), "{e}");
    }
}

#[test]
fn points_off_the_curve_and_of_the_wrong_length_are_refused() {
    for (alg, length) in [(Alg::Es256, 32), (Alg::Es384, 48)] {
        let off = |x: Vec<u8>| parse(with(jwk(alg), "x", b64::encode(x).into()));
        let x = b64::decode(jwk(alg)["x"].as_str().unwrap()).unwrap();
        assert_eq!(x.len(), length);
        let mut other = x.clone();
        other[length - 1] ^= 1;
        assert!(matches!(off(other), Err(JwkError::Unsound { .. })));
        assert!(matches!(
            off(vec![0xff; length]),
            Err(JwkError::Unsound { .. })
        ));
        assert!(matches!(off(x[1..].to_vec()), Err(JwkError::Member { .. })));
        assert!(matches!(
            off([&[0], x.as_slice()].concat()),
            Err(JwkError::Member { .. })
        ));
    }
    let zero = b64::encode([0; 32]);
    assert!(parse(json!({"kty": "EC", "crv": "P-256", "x": zero, "y": zero})).is_err());
    // A P-256 point under another curve's name, and curves that are not supported.
    for crv in ["P-384", "P-521", "secp256k1", "p-256"] {
        assert!(
            parse(with(jwk(Alg::Es256), "crv", crv.into())).is_err(),
            "{crv}"
        );
    }
}

#[test]
fn ed25519_keys_of_small_order_and_second_spellings_are_refused() {
    let okp = |x: [u8; 32]| parse(json!({"kty": "OKP", "crv": "Ed25519", "x": b64::encode(x)}));
    let near_p = |low: u8, high: u8| {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (low, high);
        y
    };
    let small = |low: u8, high: u8| {
        let mut y = [0; 32];
        (y[0], y[31]) = (low, high);
        y
    };
    let bad = [
        small(0, 0),
        small(0, 0x80),
        small(1, 0),
        small(1, 0x80),
        near_p(0xec, 0x7f),
        near_p(0xec, 0xff),
        near_p(0xed, 0x7f),
        near_p(0xed, 0xff),
        near_p(0xee, 0x7f),
        near_p(0xff, 0xff),
    ];
    for x in bad {
        assert!(matches!(okp(x), Err(JwkError::Unsound { .. })), "{x:x?}");
    }
    let order_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let x: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&order_8[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert!(matches!(
        okp(x.try_into().unwrap()),
        Err(JwkError::Unsound { .. })
    ));
    assert!(parse(json!({"kty": "OKP", "crv": "X25519", "x": b64::encode([9; 32])})).is_err());
}

#[test]
fn second_spellings_of_coordinates_are_refused() {
    let x = jwk(Alg::Es256)["x"].as_str().unwrap().to_owned();
    // 32 bytes leave two unused bits in the last character.
    let last = x.chars().last().unwrap();
    let next = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .skip_while(|c| *c != last)
        .nth(1)
        .unwrap();
    for other in [
        format!("{x}="),
        format!(" {x}"),
        format!("{}{next}", &x[..42]),
    ] {
        let refused = parse(with(jwk(Alg::Es256), "x", other.as_str().into()));
        assert!(matches!(refused, Err(JwkError::Member { .. })), "{other}");
    }
}

#[test]
fn a_key_for_another_use_never_verifies() {
    let refused = [
        ("use", json!("enc")),
        ("use", json!(["sig"])),
        ("use", Value::Null),
        ("key_ops", json!([])),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!("verify")),
        ("key_ops", json!(["verify", 1])),
        ("alg", json!("RS256")),
        ("alg", json!("ECDH-ES")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!(1)),
        ("kid", json!(1)),
        ("kty", json!("ec")),
    ];
    for (member, value) in refused {
        assert!(
            parse(with(jwk(Alg::Es256), member, value.clone())).is_err(),
            "{member} {value}"
        );
    }
    for (member, value) in [
        ("use", json!("sig")),
        ("key_ops", json!(["verify"])),
        ("alg", json!("ES256")),
    ] {
        assert!(
            parse(with(jwk(Alg::Es256), member, value)).is_ok(),
            "{member}"
        );
    }
}

#[test]
fn a_key_is_pinned_to_the_algorithms_that_are_allowed_and_its_own() {
    let rsa = parse(jwk(Alg::Rs256)).unwrap();
    let pinned = |jwk: &PublicJwk, allowed: &[Alg]| {
        VerifyingKey::new(jwk, allowed).map(|key| {
            Alg::ALL
                .iter()
                .copied()
                .filter(|alg| key.allows(*alg))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(pinned(&rsa, Alg::DEFAULT), Ok(vec![Alg::Rs256, Alg::Ps256]));
    assert!(matches!(
        pinned(&rsa, &[Alg::Es256]),
        Err(JwkError::NoAlg { .. })
    ));
    let own = parse(with(jwk(Alg::Rs256), "alg", "PS256".into())).unwrap();
    assert_eq!(pinned(&own, Alg::ALL), Ok(vec![Alg::Ps256]));
    assert!(pinned(&own, &[Alg::Rs256]).is_err());
}

#[test]
fn canonical_form_and_thumbprint_ignore_everything_but_the_key() {
    let plain = parse(jwk(Alg::Es256)).unwrap();
    let labelled = with(
        with(jwk(Alg::Es256), "kid", "a".into()),
        "x5c",
        json!(["…"]),
    );
    let labelled = parse(labelled).unwrap();
    assert_eq!(plain, labelled);
    assert_eq!(plain.canonical_json(), labelled.canonical_json());
    assert_eq!(
        PublicJwk::from_json(plain.canonical_json().as_bytes()),
        Ok(plain)
    );
}

#[test]
fn a_key_set_skips_what_it_cannot_use_and_says_why() {
    let mut keys: Value = serde_json::from_slice(&set(&[("good", key(Alg::Es256))])).unwrap();
    let listed = keys["keys"].as_array_mut().unwrap();
    listed.push(json!({"kty": "oct", "kid": "secret", "k": "AQAB"}));
    listed.push(json!({"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AQAB"}));
    listed.push(with(
        with(jwk(Alg::Rs256), "use", "enc".into()),
        "kid",
        "enc".into(),
    ));
    listed.push(json!("no key"));
    let read = KeySet::parse(keys.to_string().as_bytes(), Alg::DEFAULT).unwrap();
    assert_eq!(read.keys().len(), 1);
    let skipped: Vec<_> = read
        .skipped()
        .iter()
        .map(|skipped| (skipped.index, skipped.kid.clone()))
        .collect();
    let kids = [
        Excerpt::of("secret"),
        Excerpt::of("later"),
        Excerpt::of("enc"),
        Excerpt::absent(),
    ];
    assert_eq!(skipped, (1..).zip(kids).collect::<Vec<_>>());
    assert!(read.knows("good") && !read.knows("enc") && !read.is_empty());
}

#[test]
fn a_key_set_is_bounded_and_strict() {
    let parse = |text: &str| KeySet::parse(text.as_bytes(), Alg::DEFAULT);
    assert!(parse(r#"{"keys":[]}"#).unwrap().is_empty());
    assert_eq!(parse("{}").unwrap_err(), KeySetError::NoKeys);
    assert_eq!(parse(r#"{"keys":{}}"#).unwrap_err(), KeySetError::NoKeys);
    assert!(matches!(
        parse(r#"{"keys":[],"keys":[]}"#),
        Err(KeySetError::Json(_))
    ));
    let many = format!(
        r#"{{"keys":[{}]}}"#,
        vec!["{}"; KeySet::MAX_KEYS + 1].join(",")
    );
    assert_eq!(parse(&many).unwrap_err(), KeySetError::TooMany { keys: 65 });
    let long = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(KeySet::MAX_BYTES));
    assert!(matches!(parse(&long), Err(KeySetError::TooLong { .. })));
}

#[test]
fn selection_is_by_kid_and_type() {
    let second = SigningKey::generate(Alg::Es256).unwrap();
    let text = set(&[
        ("a", key(Alg::Es256)),
        ("a", &second),
        ("a", key(Alg::Rs256)),
        ("b", key(Alg::EdDsa)),
    ]);
    let keys = KeySet::parse(&text, Alg::DEFAULT).unwrap();
    let count = |kid, alg| keys.select(kid, alg).count();
    assert_eq!(count(Some("a"), Alg::Es256), 2);
    assert_eq!(count(Some("a"), Alg::Rs256), 1);
    assert_eq!(count(Some("a"), Alg::Ps256), 0);
    assert_eq!(count(Some("a"), Alg::EdDsa), 0);
    assert_eq!(count(Some("c"), Alg::Es256), 0);
    assert_eq!(count(None, Alg::EdDsa), 1);
    // Both keys that share a kid are tried.
    for signer in [key(Alg::Es256), &second] {
        let token = signer.encode_jws(map(json!({"kid": "a"})), b"{}").unwrap();
        let jws = Jws::parse(&token, MAX_TOKEN_BYTES).unwrap();
        let verified = jws.verify_with(&keys, Alg::DEFAULT).unwrap();
        assert_eq!(verified.key(), signer.thumbprint());
    }
}

#[test]
fn a_kid_never_reaches_a_key_of_another_name_or_type() {
    let keys = set(&[("es", key(Alg::Es256)), ("rs", key(Alg::Rs256))]);
    let keys = KeySet::parse(&keys, Alg::DEFAULT).unwrap();
    let verify = |kid: &str, allowed: &[Alg]| {
        let token = key(Alg::Es256)
            .encode_jws(map(json!({"kid": kid})), b"{}")
            .unwrap();
        Jws::parse(&token, MAX_TOKEN_BYTES)
            .unwrap()
            .verify_with(&keys, allowed)
            .err()
    };
    assert_eq!(verify("es", Alg::DEFAULT), None);
    assert!(matches!(
        verify("rs", Alg::DEFAULT),
        Some(JwsError::NoKey { .. })
    ));
    assert!(matches!(
        verify("ES", Alg::DEFAULT),
        Some(JwsError::UnknownKid { .. })
    ));
    assert!(matches!(
        verify("", Alg::DEFAULT),
        Some(JwsError::UnknownKid { .. })
    ));
    assert!(matches!(
        verify("es", &[Alg::Rs256]),
        Some(JwsError::AlgNotAllowed { .. })
    ));
}

#[test]
fn private_keys_survive_pkcs8_and_never_show() {
    for alg in [Alg::Rs256, Alg::Es256, Alg::Es384, Alg::EdDsa] {
        let stored = key(alg).to_pkcs8().unwrap();
        let read = SigningKey::from_pkcs8(alg, &stored).unwrap();
        assert_eq!(read.thumbprint(), key(alg).thumbprint());
        let signature = b64::decode(&read.sign(b"x").unwrap()).unwrap();
        assert_eq!(public(key(alg)).verify(alg, b"x", &signature), Ok(()));
        let shown = format!("{read:?}");
        assert_eq!(
            shown,
            format!(
                "SigningKey {{ alg: {}, thumbprint: {:?}, .. }}",
                debug(alg),
                read.thumbprint()
            )
        );
    }
    let ec = key(Alg::Es256).to_pkcs8().unwrap();
    for alg in [Alg::Rs256, Alg::Es384, Alg::EdDsa] {
        assert_eq!(
            SigningKey::from_pkcs8(alg, &ec).unwrap_err(),
            SignError::Malformed { alg }
        );
    }
    assert!(SigningKey::from_pkcs8(Alg::Es256, b"").is_err());
}

fn debug(alg: Alg) -> String {
    format!("{alg:?}")
}

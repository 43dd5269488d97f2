//! Tests that cross modules: published vectors, attacks, laws, and keys shared by them.

mod attacks;
mod claims;
mod dpop;
mod handover;
mod keys;
mod laws;
mod tokens;
mod vectors;
mod wycheproof;

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::alg::Alg;
use crate::sign::SigningKey;
use crate::verifying_key::VerifyingKey;

/// One key for each algorithm; the RSA algorithms share one, because making it is slow.
fn key(alg: Alg) -> &'static SigningKey {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let rsa = SigningKey::generate(Alg::Rs256)
            .unwrap()
            .to_pkcs8()
            .unwrap();
        let make = |alg: &Alg| match alg.as_str().get(1..2) {
            Some("S") if !alg.as_str().starts_with('E') => SigningKey::from_pkcs8(*alg, &rsa),
            _ => SigningKey::generate(*alg),
        };
        Alg::ALL.iter().map(|alg| make(alg).unwrap()).collect()
    });
    keys.iter().find(|key| key.alg() == alg).unwrap()
}

/// The public half, pinned to every algorithm it fits.
fn public(key: &SigningKey) -> VerifyingKey {
    VerifyingKey::new(key.public_jwk(), Alg::ALL).unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A JWK Set of the given keys under the given `kid`s.
fn set(keys: &[(&str, &SigningKey)]) -> Vec<u8> {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(kid, key)| Value::Object(key.public_jwk().published(kid, key.alg())))
        .collect();
    serde_json::json!({ "keys": keys }).to_string().into_bytes()
}

//! What a client makes with its key: DPoP proofs, client assertions and hand-overs.

use serde_json::{Map, Value, json};

use crate::b64;
use crate::handover::{self, Given};
use crate::hash::{Thumbprint, sha256};
use crate::json;
use crate::sign::{SignError, SigningKey};

/// The request a proof is made for.
#[derive(Clone, Copy, Debug)]
pub struct ProofRequest<'a> {
    /// Its method, as it will be sent.
    pub method: &'a str,
    /// Its URL; query and fragment are left out of the proof.
    pub url: &'a str,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// A fresh random name of the proof.
    pub jti: &'a str,
    /// The nonce the server asked for.
    pub nonce: Option<&'a str>,
    /// The access token sent with the request.
    pub access_token: Option<&'a str>,
}

/// The value of the `DPoP` header for one request (RFC 9449 section 4.2).
pub fn dpop_proof(key: &SigningKey, request: &ProofRequest<'_>) -> Result<String, SignError> {
    let url = request.url.split(['?', '#']).next().unwrap_or(request.url);
    let mut claims = Map::new();
    claims.insert("jti".to_owned(), request.jti.into());
    claims.insert("htm".to_owned(), request.method.into());
    claims.insert("htu".to_owned(), url.into());
    claims.insert("iat".to_owned(), request.now.into());
    if let Some(nonce) = request.nonce {
        claims.insert("nonce".to_owned(), nonce.into());
    }
    if let Some(access_token) = request.access_token {
        let ath = b64::encode(sha256(access_token.as_bytes()));
        claims.insert("ath".to_owned(), ath.into());
    }
    let jwk = json::object(key.public_jwk().canonical_json().as_bytes());
    let mut header = Map::new();
    header.insert("typ".to_owned(), "dpop+jwt".into());
    header.insert(
        "jwk".to_owned(),
        Value::Object(jwk.map_err(|_| SignError::Failed)?),
    );
    key.encode_jws(header, Value::Object(claims).to_string().as_bytes())
}

/// The authorization server an assertion is made for, and who makes it.
#[derive(Clone, Copy, Debug)]
pub struct AssertionRequest<'a> {
    /// The client.
    pub client_id: &'a str,
    /// The server's issuer identifier, the only audience (RFC 10070).
    pub issuer: &'a str,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// A fresh random name of the assertion.
    pub jti: &'a str,
    /// Seconds until it expires; [`crate::assertion::MAX_LIFETIME_SECONDS`] at most.
    pub lifetime_seconds: u64,
}

/// A `private_key_jwt` client assertion (RFC 7523 section 3 as updated by RFC 10070).
pub fn client_assertion(
    key: &SigningKey,
    request: &AssertionRequest<'_>,
) -> Result<String, SignError> {
    let claims = json!({
        "iss": request.client_id,
        "sub": request.client_id,
        "aud": request.issuer,
        "iat": request.now,
        "exp": request.now.saturating_add(request.lifetime_seconds),
        "jti": request.jti,
    });
    let mut header = Map::new();
    header.insert("typ".to_owned(), "client-authentication+jwt".into());
    header.insert("kid".to_owned(), key.thumbprint().to_string().into());
    key.encode_jws(header, claims.to_string().as_bytes())
}

/// What a client hands over, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct HandoverRequest<'a> {
    /// The client that gives.
    pub parent: &'a str,
    /// The server's issuer identifier, the only audience.
    pub issuer: &'a str,
    /// The thumbprint of the child's key; none gives a bearer hand-over.
    pub jkt: Option<Thumbprint>,
    /// What is given.
    pub given: &'a Given,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// A fresh random name of the hand-over.
    pub jti: &'a str,
}

/// A hand-over that counts for [`handover::MAX_LIFETIME_SECONDS`].
pub fn handover(key: &SigningKey, request: &HandoverRequest<'_>) -> Result<String, SignError> {
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), request.parent.into());
    claims.insert("aud".to_owned(), request.issuer.into());
    claims.insert("jti".to_owned(), request.jti.into());
    claims.insert("iat".to_owned(), request.now.into());
    let exp = request.now.saturating_add(handover::MAX_LIFETIME_SECONDS);
    claims.insert("exp".to_owned(), exp.into());
    if let Some(jkt) = request.jkt {
        claims.insert("cnf".to_owned(), json!({"jkt": jkt.to_string()}));
    }
    match request.given {
        Given::Scope(scope) => {
            claims.insert("scope".to_owned(), scope.as_str().into());
        }
        Given::Details(details) => {
            claims.insert("authorization_details".to_owned(), details.clone().into());
        }
    }
    let mut header = Map::new();
    header.insert("typ".to_owned(), handover::TYP.into());
    header.insert("kid".to_owned(), key.thumbprint().to_string().into());
    key.encode_jws(header, Value::Object(claims).to_string().as_bytes())
}

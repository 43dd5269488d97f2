//! A tenant's private keys: made when needed, wrapped from the first moment, published by kind.

use std::collections::BTreeMap;

use dayfly_domain::{Name, Time};
use dayfly_ledger::{SignerKey, VerifierKey};
use dayfly_store::{Annex, Append, AppendError, Document, FactsQuery, Note, Store, Unavailable};
use dayfly_token::alg::Alg;
use dayfly_token::b64;
use dayfly_token::jwks::KeySet;
use dayfly_token::sign::{SignError, SigningKey};
use dayfly_token::verifying_key::VerifyingKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::master::{MasterKey, MasterKeyError};
use crate::random;

/// What a key signs. No key signs two kinds of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// Access tokens.
    Token,
    /// Heads of the ledger.
    Ledger,
}

/// A tenant's keys.
pub struct Keyring {
    tokens: BTreeMap<&'static str, TokenKey>,
    verifying: KeySet,
    ledger: SignerKey,
    infos: Vec<KeyInfo>,
}

struct TokenKey {
    kid: String,
    key: SigningKey,
}

/// What may be told of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name; for token keys the RFC 7638 thumbprint, for the ledger's the C2SP key hash.
    pub kid: String,
    /// What it signs.
    pub r#use: KeyUse,
    /// How it signs.
    pub alg: String,
    /// Since when.
    pub created: Time,
}

/// Why a tenant's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The master key does not do.
    #[error(transparent)]
    Master(#[from] MasterKeyError),
    /// A key cannot be made or read.
    #[error("a private key cannot be made or read")]
    Key(#[from] SignError),
    /// The ledger's key cannot be made or read.
    #[error("the ledger's key cannot be made or read: {0}")]
    Ledger(String),
    /// The record of a key is damaged.
    #[error("the record `{0}` is damaged")]
    Record(String),
    /// The store cannot answer.
    #[error("the store cannot answer")]
    Store(#[from] Unavailable),
    /// The store cannot record a new key.
    #[error("a new key cannot be recorded")]
    Append(#[from] AppendError),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] random::NoRandomness),
}

/// A key with its name and its unwrapped secret.
struct HeldKey {
    kid: String,
    record: Record,
    secret: Zeroizing<Vec<u8>>,
}

/// A key as stored: the document `key/<kid>`.
#[derive(Serialize, Deserialize)]
struct Record {
    r#use: KeyUse,
    alg: String,
    created: Time,
    wrapped: String,
}

impl Keyring {
    /// Loads a tenant's keys, making and recording those that are missing: one for each algorithm
    /// its resources want, and one for the ledger. A key is durable before anything is signed
    /// with it.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn load(
        store: &dyn Store,
        master: &MasterKey,
        tenant: &Name,
        origin: &str,
        algs: &[Alg],
        now: Time,
    ) -> Result<Self, KeyringError> {
        let mut held = read(store, master, tenant)?;
        for alg in algs {
            let has = held
                .iter()
                .any(|key| key.record.r#use == KeyUse::Token && key.record.alg == alg.as_str());
            if !has {
                let key = SigningKey::generate(*alg)?;
                let kid = key.thumbprint().to_string();
                let secret = key.to_pkcs8()?;
                held.push(
                    make(
                        store,
                        master,
                        tenant,
                        &kid,
                        KeyUse::Token,
                        alg.as_str(),
                        secret,
                        now,
                    )
                    .await?,
                );
            }
        }
        if !held.iter().any(|key| key.record.r#use == KeyUse::Ledger) {
            let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random::bytes()?);
            let signer = ledger_key(origin, &seed)?;
            let kid = ledger_kid(signer.verifier());
            let secret = Zeroizing::new(seed.to_vec());
            held.push(
                make(
                    store,
                    master,
                    tenant,
                    &kid,
                    KeyUse::Ledger,
                    "Ed25519",
                    secret,
                    now,
                )
                .await?,
            );
        }
        Self::of(origin, held)
    }

    fn of(origin: &str, held: Vec<HeldKey>) -> Result<Self, KeyringError> {
        let mut tokens = BTreeMap::new();
        let mut verifying = Vec::new();
        let mut ledger = None;
        let mut infos = Vec::new();
        for HeldKey {
            kid,
            record,
            secret,
        } in held
        {
            match record.r#use {
                KeyUse::Token => {
                    let alg: Alg = record
                        .alg
                        .parse()
                        .map_err(|_| KeyringError::Record(kid.clone()))?;
                    let key = SigningKey::from_pkcs8(alg, &secret)?;
                    let mut jwk = key.public_jwk().published(&kid, alg);
                    jwk.remove("use");
                    let public = dayfly_token::jwk::PublicJwk::parse(&jwk)
                        .map_err(|_| KeyringError::Record(kid.clone()))?;
                    verifying.push(
                        VerifyingKey::new(&public, &[alg])
                            .map_err(|_| KeyringError::Record(kid.clone()))?,
                    );
                    tokens.insert(
                        alg.as_str(),
                        TokenKey {
                            kid: kid.clone(),
                            key,
                        },
                    );
                }
                KeyUse::Ledger => {
                    let seed: [u8; 32] = secret
                        .as_slice()
                        .try_into()
                        .map_err(|_| KeyringError::Record(kid.clone()))?;
                    ledger = Some(ledger_key(origin, &Zeroizing::new(seed))?);
                }
            }
            infos.push(KeyInfo {
                kid,
                r#use: record.r#use,
                alg: record.alg,
                created: record.created,
            });
        }
        Ok(Self {
            tokens,
            verifying: KeySet::of(verifying),
            ledger: ledger.ok_or_else(|| KeyringError::Ledger("there is none".to_owned()))?,
            infos,
        })
    }

    /// The key that signs tokens with this algorithm, and its `kid`.
    #[must_use]
    pub fn token_key(&self, alg: Alg) -> Option<(&str, &SigningKey)> {
        self.tokens
            .get(alg.as_str())
            .map(|held| (held.kid.as_str(), &held.key))
    }

    /// The keys that verify our own tokens.
    #[must_use]
    pub const fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// The key that signs heads.
    #[must_use]
    pub const fn ledger(&self) -> &SignerKey {
        &self.ledger
    }

    /// What may be told of each key.
    #[must_use]
    pub fn infos(&self) -> &[KeyInfo] {
        &self.infos
    }

    /// The public token keys as a JWK Set (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .tokens
            .values()
            .map(|held| Value::Object(held.key.public_jwk().published(&held.kid, held.key.alg())))
            .collect();
        json!({ "keys": keys })
    }
}

/// Whether any private key of any tenant is wrapped: then the key file must be there.
///
/// # Errors
/// [`Unavailable`] when the store cannot answer.
pub fn holds_keys(store: &dyn Store, tenant: &Name) -> Result<bool, Unavailable> {
    let facts = store.facts(
        tenant,
        &FactsQuery {
            documents: Some("key/"),
            ..FactsQuery::default()
        },
    )?;
    Ok(!facts.documents.is_empty())
}

fn read(
    store: &dyn Store,
    master: &MasterKey,
    tenant: &Name,
) -> Result<Vec<HeldKey>, KeyringError> {
    let facts = store.facts(
        tenant,
        &FactsQuery {
            documents: Some("key/"),
            ..FactsQuery::default()
        },
    )?;
    let mut held = Vec::new();
    for (name, bytes) in facts.documents {
        let damaged = || KeyringError::Record(name.clone());
        let record: Record = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        let wrapped = b64::decode(&record.wrapped).map_err(|_| damaged())?;
        let secret = master.open(&bound_name(tenant, &name), &wrapped)?;
        let kid = name.trim_start_matches("key/").to_owned();
        held.push(HeldKey {
            kid,
            record,
            secret,
        });
    }
    held.sort_by_key(|key| key.record.created);
    Ok(held)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one private call site pair; a struct would name the same eight things twice"
)]
async fn make(
    store: &dyn Store,
    master: &MasterKey,
    tenant: &Name,
    kid: &str,
    r#use: KeyUse,
    alg: &str,
    secret: Zeroizing<Vec<u8>>,
    now: Time,
) -> Result<HeldKey, KeyringError> {
    let name = format!("key/{kid}");
    let wrapped = master.wrap(&bound_name(tenant, &name), &secret)?;
    let record = Record {
        r#use,
        alg: alg.to_owned(),
        created: now,
        wrapped: b64::encode(wrapped),
    };
    let bytes = serde_json::to_vec(&record).map_err(|_| KeyringError::Record(name.clone()))?;
    let annex = Annex {
        salt: random::bytes()?,
        data: json!({"reason": "the first key of its kind"}).to_string(),
    };
    store
        .append(
            tenant,
            Append {
                now,
                notes: vec![Note {
                    kind: "key.rotated",
                    data: json!({"kid": kid, "use": record.r#use, "alg": alg}).to_string(),
                    annex: Some(annex),
                }],
                documents: vec![Document {
                    name,
                    bytes: Some(bytes),
                }],
                ..Append::default()
            },
        )
        .await?;
    Ok(HeldKey {
        kid: kid.to_owned(),
        record,
        secret,
    })
}

/// What a wrapped key is bound to, so that a record moved to another tenant or name does not open.
fn bound_name(tenant: &Name, name: &str) -> String {
    format!("{tenant}/{name}")
}

fn ledger_key(origin: &str, seed: &[u8; 32]) -> Result<SignerKey, KeyringError> {
    SignerKey::from_seed(origin, seed).map_err(|why| KeyringError::Ledger(why.to_string()))
}

fn ledger_kid(key: &VerifierKey) -> String {
    let mut kid = String::from("ledger-");
    for byte in key.key_hash() {
        kid.push_str(&format!("{byte:02x}"));
    }
    kid
}

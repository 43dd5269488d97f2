//! A tenant's keys as they stand at one moment: what signs, what is published, what verifies.

use std::collections::BTreeMap;

use dayfly_domain::{Name, Time};
use dayfly_ledger::head::HeadError;
use dayfly_ledger::{Head, SignerKey, VerifierKey, cosign_head, sign_head};
use dayfly_store::{AppendError, Store, Unavailable};
use dayfly_token::alg::Alg;
use dayfly_token::jwk::PublicJwk;
use dayfly_token::jwks::KeySet;
use dayfly_token::sign::{SignError, SigningKey};
use dayfly_token::verifying_key::VerifyingKey;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::life::{ChangeError, KeyInfo, KeyUse, Kind, Life, due};
use super::master::{MasterKey, MasterKeyError};
use super::stored::{
    LEDGER_ALG, Occasion, Record, check_keys, infos, ledger_key, open, records, take,
};
use crate::random;

/// A tenant's keys at one moment. Steps of their lives make another keyring, never change this one.
pub struct Keyring {
    /// The keys that sign tokens, by algorithm.
    tokens: BTreeMap<&'static str, TokenKey>,
    verifying: KeySet,
    jwks: Vec<Value>,
    ledger: SignerKey,
    /// Ledger keys that were replaced and still sign beside the present one.
    cosigning: Vec<SignerKey>,
    infos: Vec<KeyInfo>,
}

struct TokenKey {
    kid: String,
    key: SigningKey,
}

/// Why a tenant's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The master key does not do.
    #[error(transparent)]
    Master(#[from] MasterKeyError),
    /// It cannot be done to these keys.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A key would have to be made and there is no key file to wrap it under.
    #[error("a key is made by a running server only")]
    NoMaster,
    /// A key cannot be made or read.
    #[error("a private key cannot be made or read")]
    Key(#[from] SignError),
    /// The ledger's key cannot be made or read.
    #[error("the ledger's key cannot be made or read: {0}")]
    Ledger(String),
    /// The record of a key is damaged.
    #[error("the record `{0}` is damaged")]
    Record(String),
    /// The server stops.
    #[error("the server stopped while a key was made")]
    Stopped,
    /// The store cannot answer.
    #[error("the store cannot answer")]
    Store(#[from] Unavailable),
    /// The store cannot record a step.
    #[error("a step of a key cannot be recorded")]
    Append(#[from] AppendError),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] random::NoRandomness),
}

/// The kinds of keys that a tenant needs whose resources want these algorithms. Keys for status
/// lists and events are made by what first serves them.
#[must_use]
pub fn wanted(algs: &[Alg]) -> Vec<Kind> {
    let tokens = algs.iter().map(|alg| Kind {
        r#use: KeyUse::Token,
        alg: *alg,
    });
    let ledger = Kind {
        r#use: KeyUse::Ledger,
        alg: LEDGER_ALG,
    };
    tokens.chain([ledger]).collect()
}

impl Keyring {
    /// Makes and records the keys that are wanted and missing, goes on with what was left undone,
    /// and opens them all. A key is durable before anything is signed with it.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn load(
        store: &dyn Store,
        master: &MasterKey,
        tenant: &Name,
        origin: &str,
        wanted: &[Kind],
        now: Time,
    ) -> Result<Self, KeyringError> {
        check_keys(store, master, tenant)?;
        let infos = infos(store, tenant)?;
        let annex = json!({"reason": "a key of each kind that is needed signs"});
        let occasion = Occasion {
            tenant,
            origin,
            now,
            annex: &annex,
            by: None,
        };
        take(
            store,
            Some(master),
            due(&infos, wanted, None, now),
            &occasion,
        )
        .await?;
        Self::open(store, master, tenant, origin)
    }

    /// Opens the keys that there are, and changes nothing.
    ///
    /// # Errors
    /// [`KeyringError`], also when no ledger key signs.
    pub fn open(
        store: &dyn Store,
        master: &MasterKey,
        tenant: &Name,
        origin: &str,
    ) -> Result<Self, KeyringError> {
        let mut parts = Parts::default();
        let mut infos = Vec::new();
        for record in records(store, tenant)? {
            if record.info.life.verifies() {
                let secret = open(&record, master, tenant)?
                    .ok_or_else(|| KeyringError::Record(record.info.kid.clone()))?;
                parts.put(&record, &secret, origin)?;
            }
            infos.push(record.info);
        }
        Ok(Self {
            tokens: parts.tokens,
            verifying: KeySet::of(parts.verifying),
            jwks: parts.jwks,
            ledger: parts
                .ledger
                .ok_or_else(|| KeyringError::Ledger("none signs".to_owned()))?,
            cosigning: parts.cosigning,
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

    /// Since when a key is given up as compromised.
    #[must_use]
    pub fn compromised(&self, kid: &str) -> Option<Time> {
        let key = self.infos.iter().find(|key| key.kid == kid)?;
        key.life.compromised()
    }

    /// The key that verifies present heads.
    #[must_use]
    pub fn ledger(&self) -> &VerifierKey {
        self.ledger.verifier()
    }

    /// Every key that has signed heads of this ledger, those given up included.
    #[must_use]
    pub fn ledger_keys(&self) -> Vec<VerifierKey> {
        ledger_keys(&self.infos)
    }

    /// Signs a head by the present key, and by those it replaced lately.
    ///
    /// # Errors
    /// [`HeadError`] when the head is of another ledger.
    pub fn sign_head(&self, head: &Head) -> Result<String, HeadError> {
        let note = sign_head(head, &self.ledger)?;
        self.cosigning
            .iter()
            .try_fold(note, |note, key| cosign_head(&note, key))
    }

    /// What may be told of each key.
    #[must_use]
    pub fn infos(&self) -> &[KeyInfo] {
        &self.infos
    }

    /// The public keys as a JWK Set (RFC 7517, section 5).
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.jwks })
    }
}

/// The verifier keys among these, the present one last.
#[must_use]
pub fn ledger_keys(infos: &[KeyInfo]) -> Vec<VerifierKey> {
    let mut keys: Vec<&KeyInfo> = infos
        .iter()
        .filter(|key| key.r#use == KeyUse::Ledger)
        .collect();
    keys.sort_by_key(|key| key.life.signing().is_some());
    keys.iter()
        .filter_map(|key| key.public.parse().ok())
        .collect()
}

/// A keyring that is being put together.
#[derive(Default)]
struct Parts {
    tokens: BTreeMap<&'static str, TokenKey>,
    verifying: Vec<VerifyingKey>,
    jwks: Vec<Value>,
    ledger: Option<SignerKey>,
    cosigning: Vec<SignerKey>,
}

impl Parts {
    fn put(
        &mut self,
        record: &Record,
        secret: &Zeroizing<Vec<u8>>,
        origin: &str,
    ) -> Result<(), KeyringError> {
        let info = &record.info;
        let damaged = || KeyringError::Record(info.kid.clone());
        match info.r#use {
            KeyUse::Token => {
                let alg: Alg = info.alg.parse().map_err(|_| damaged())?;
                self.verifying.push(verifying(info, alg)?);
                self.jwks.push(jwk(info)?.into());
                if info.life.signing().is_some() {
                    let held = TokenKey {
                        kid: info.kid.clone(),
                        key: SigningKey::from_pkcs8(alg, secret)?,
                    };
                    self.tokens.insert(alg.as_str(), held);
                }
            }
            // Their `typ` tells them apart from tokens, and they verify none.
            KeyUse::StatusList | KeyUse::Event => self.jwks.push(jwk(info)?.into()),
            KeyUse::Ledger => {
                let seed: [u8; 32] = secret.as_slice().try_into().map_err(|_| damaged())?;
                let key = ledger_key(origin, &Zeroizing::new(seed))?;
                match info.life {
                    Life::Signing { .. } => self.ledger = Some(key),
                    Life::Retiring { .. } => self.cosigning.push(key),
                    Life::Published { .. } | Life::Retired { .. } | Life::Compromised { .. } => {}
                }
            }
        }
        Ok(())
    }
}

fn jwk(info: &KeyInfo) -> Result<Map<String, Value>, KeyringError> {
    serde_json::from_str(&info.public).map_err(|_| KeyringError::Record(info.kid.clone()))
}

fn verifying(info: &KeyInfo, alg: Alg) -> Result<VerifyingKey, KeyringError> {
    let damaged = || KeyringError::Record(info.kid.clone());
    let mut jwk = jwk(info)?;
    jwk.remove("use");
    let public = PublicJwk::parse(&jwk).map_err(|_| damaged())?;
    VerifyingKey::new(&public, &[alg]).map_err(|_| damaged())
}

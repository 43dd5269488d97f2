//! Keys as they are stored: one document each, wrapped from the first moment, and an entry for each step.

use dayfly_domain::{Digest, Name, Time};
use dayfly_ledger::{SignerKey, VerifierKey};
use dayfly_store::{Annex, Append, Document, FactsQuery, Note, Store, Unavailable};
use dayfly_token::alg::Alg;
use dayfly_token::b64;
use dayfly_token::sign::{SignError, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::keyring::KeyringError;
use super::life::{KeyInfo, KeyUse, Kind, Life, Step, compromise, restored};
use super::master::MasterKey;
use crate::random;

/// The documents of keys begin so.
const KEYS: &str = "key/";

/// A key as stored: the document `key/<kid>`, whose name stands outside it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) info: KeyInfo,
    pub(super) private: Private,
}

/// The private part of a stored key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Private {
    /// Sealed by the master key, in base64url.
    Wrapped(String),
    /// Deleted: the key signs nothing any more.
    Erased,
}

/// All keys of a tenant, in order of their making.
pub(super) fn records(store: &dyn Store, tenant: &Name) -> Result<Vec<Record>, KeyringError> {
    let facts = store.facts(
        tenant,
        &FactsQuery {
            documents: Some(KEYS),
            ..FactsQuery::default()
        },
    )?;
    let mut records = Vec::with_capacity(facts.documents.len());
    for (name, bytes) in facts.documents {
        let mut record: Record =
            serde_json::from_slice(&bytes).map_err(|_| KeyringError::Record(name.clone()))?;
        record.info.kid = name.strip_prefix(KEYS).unwrap_or(&name).to_owned();
        records.push(record);
    }
    records.sort_by(|a, b| (a.info.created, &a.info.kid).cmp(&(b.info.created, &b.info.kid)));
    Ok(records)
}

/// What may be told of a tenant's keys, in order of their making. It takes no key file.
///
/// # Errors
/// [`KeyringError`]: the store cannot answer, or a record is damaged.
pub fn infos(store: &dyn Store, tenant: &Name) -> Result<Vec<KeyInfo>, KeyringError> {
    let records = records(store, tenant)?;
    Ok(records.into_iter().map(|record| record.info).collect())
}

/// Whether a private key of the tenant is wrapped: then the key file must be there.
///
/// # Errors
/// [`Unavailable`] when the store cannot answer.
pub fn holds_keys(store: &dyn Store, tenant: &Name) -> Result<bool, Unavailable> {
    match records(store, tenant) {
        Ok(records) => Ok(records
            .iter()
            .any(|record| matches!(record.private, Private::Wrapped(_)))),
        Err(KeyringError::Store(why)) => Err(why),
        // A record that cannot be read may hold one.
        Err(_) => Ok(true),
    }
}

/// Checks that every private key of the tenant opens: before anything is added under a key file,
/// it must be the one that all there is was wrapped under.
///
/// # Errors
/// [`KeyringError`], for the first that does not.
pub fn check_keys(
    store: &dyn Store,
    master: &MasterKey,
    tenant: &Name,
) -> Result<(), KeyringError> {
    for record in records(store, tenant)? {
        open(&record, master, tenant)?;
    }
    Ok(())
}

/// Opens the private part of a key, where it still has one.
pub(super) fn open(
    record: &Record,
    master: &MasterKey,
    tenant: &Name,
) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
    match &record.private {
        Private::Erased => Ok(None),
        Private::Wrapped(wrapped) => {
            let name = document_name(&record.info.kid);
            let wrapped = b64::decode(wrapped).map_err(|_| KeyringError::Record(name.clone()))?;
            Ok(Some(master.open(&bound_name(tenant, &name), &wrapped)?))
        }
    }
}

/// Whom steps are of, and why they are taken.
pub(crate) struct Occasion<'a> {
    /// The tenant.
    pub(crate) tenant: &'a Name,
    /// The origin of its ledger.
    pub(crate) origin: &'a str,
    /// Now.
    pub(crate) now: Time,
    /// Who and why: what stands in the annex of each entry.
    pub(crate) annex: &'a Value,
    /// The person, as a leaf may hold one.
    pub(crate) by: Option<Digest>,
}

/// Records steps, all or none: an entry for each of them and the document it leads to.
pub(crate) async fn take(
    store: &dyn Store,
    master: Option<&MasterKey>,
    steps: Vec<Step>,
    occasion: &Occasion<'_>,
) -> Result<(), KeyringError> {
    if steps.is_empty() {
        return Ok(());
    }
    let held = records(store, occasion.tenant)?;
    let mut append = Append {
        now: occasion.now,
        ..Append::default()
    };
    for step in steps {
        let (info, document) = match step {
            Step::Make(kind, life) => {
                let master = master.ok_or(KeyringError::NoMaster)?;
                made(kind, life, master, occasion).await?
            }
            Step::Turn { kid, to } => turned(&held, &kid, to)?,
            Step::Forget { kid } => forgotten(&held, &kid)?,
        };
        put(&mut append, &info, document, (occasion.annex, occasion.by))?;
    }
    store.append(occasion.tenant, append).await?;
    Ok(())
}

/// Adds to an append that every key of the tenant gives way to one that the next start makes:
/// a backup does not know which of them were given up since (docs/decisions/0028).
pub(crate) fn give_way(
    store: &dyn Store,
    tenant: &Name,
    annex: &Value,
    now: Time,
    append: &mut Append,
) -> Result<(), KeyringError> {
    let held = records(store, tenant)?;
    let infos: Vec<KeyInfo> = held.iter().map(|record| record.info.clone()).collect();
    for step in restored(&infos, now) {
        let (info, document) = match step {
            Step::Make(..) => return Err(KeyringError::NoMaster),
            Step::Turn { kid, to } => turned(&held, &kid, to)?,
            Step::Forget { kid } => forgotten(&held, &kid)?,
        };
        put(append, &info, document, (annex, None))?;
    }
    Ok(())
}

fn put(
    append: &mut Append,
    info: &KeyInfo,
    document: Document,
    (annex, by): (&Value, Option<Digest>),
) -> Result<(), KeyringError> {
    append.notes.push(Note {
        kind: "key.rotated",
        data: entry(info, document.bytes.is_none(), by).to_string(),
        annex: Some(annexed(annex)?),
    });
    append.documents.push(document);
    Ok(())
}

/// Who and why, as an annex.
pub(crate) fn annexed(data: &Value) -> Result<Annex, KeyringError> {
    Ok(Annex {
        salt: random::bytes()?,
        data: data.to_string(),
    })
}

/// Gives keys up where no server runs and no key file need be there: the next start makes new ones.
///
/// # Errors
/// [`KeyringError`]: there is no such key, or the store fails.
pub async fn compromise_offline(
    store: &dyn Store,
    tenant: &Name,
    kids: Option<&[String]>,
    annex: &Value,
    now: Time,
) -> Result<Vec<KeyInfo>, KeyringError> {
    let keys = infos(store, tenant)?;
    let all: Vec<String>;
    let kids = match kids {
        Some(kids) => kids,
        None => {
            all = keys.iter().map(|key| key.kid.clone()).collect();
            &all
        }
    };
    let steps = compromise(&keys, kids, &[], now)?;
    let occasion = Occasion {
        tenant,
        origin: "",
        now,
        annex,
        by: None,
    };
    take(store, None, steps, &occasion).await?;
    let mut given_up = infos(store, tenant)?;
    given_up.retain(|key| kids.contains(&key.kid));
    Ok(given_up)
}

/// A key whose id is no option to a command that names it: one in sixty-four thumbprints would be.
pub(super) fn signing_key(alg: Alg) -> Result<SigningKey, SignError> {
    loop {
        let key = SigningKey::generate(alg)?;
        if !key.thumbprint().to_string().starts_with('-') {
            return Ok(key);
        }
    }
}

async fn made(
    kind: Kind,
    life: Life,
    master: &MasterKey,
    occasion: &Occasion<'_>,
) -> Result<(KeyInfo, Document), KeyringError> {
    let (kid, public, secret) = match kind.r#use {
        KeyUse::Token | KeyUse::StatusList | KeyUse::Event => {
            // An RSA key takes its time, which is not to be that of other requests.
            let key = tokio::task::spawn_blocking(move || signing_key(kind.alg))
                .await
                .map_err(|_| KeyringError::Stopped)??;
            let kid = key.thumbprint().to_string();
            let public = Value::Object(key.public_jwk().published(&kid, kind.alg)).to_string();
            (kid, public, key.to_pkcs8()?)
        }
        KeyUse::Ledger => {
            let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random::bytes()?);
            let signer = ledger_key(occasion.origin, &seed)?;
            let verifier = signer.verifier();
            let secret = Zeroizing::new(seed.to_vec());
            (ledger_kid(verifier), verifier.to_string(), secret)
        }
    };
    let name = document_name(&kid);
    let wrapped = master.wrap(&bound_name(occasion.tenant, &name), &secret)?;
    let record = Record {
        info: KeyInfo {
            kid,
            r#use: kind.r#use,
            alg: kind.alg.as_str().to_owned(),
            created: occasion.now,
            public,
            life,
        },
        private: Private::Wrapped(b64::encode(wrapped)),
    };
    let document = document(&record)?;
    Ok((record.info, document))
}

fn turned(held: &[Record], kid: &str, to: Life) -> Result<(KeyInfo, Document), KeyringError> {
    let mut record = find(held, kid)?.clone();
    record.info.life = to;
    if !to.verifies() {
        record.private = Private::Erased;
    }
    let document = document(&record)?;
    Ok((record.info, document))
}

fn forgotten(held: &[Record], kid: &str) -> Result<(KeyInfo, Document), KeyringError> {
    let document = Document {
        name: document_name(kid),
        bytes: None,
    };
    Ok((find(held, kid)?.info.clone(), document))
}

fn find<'a>(held: &'a [Record], kid: &str) -> Result<&'a Record, KeyringError> {
    held.iter()
        .find(|record| record.info.kid == kid)
        .ok_or_else(|| KeyringError::Record(document_name(kid)))
}

fn document(record: &Record) -> Result<Document, KeyringError> {
    let name = document_name(&record.info.kid);
    let mut record = record.clone();
    record.info.kid = String::new();
    let bytes = serde_json::to_vec(&record).map_err(|_| KeyringError::Record(name.clone()))?;
    Ok(Document {
        name,
        bytes: Some(bytes),
    })
}

/// What the leaf of a step says. A ledger key is told whole: whoever trusts the key that signs the
/// head over this entry learns here which one comes next.
fn entry(info: &KeyInfo, gone: bool, by: Option<Digest>) -> Value {
    let mut data = json!({
        "kid": info.kid, "use": info.r#use, "alg": info.alg,
        "state": if gone { "gone" } else { info.life.word() },
    });
    if let (Some(members), Some(by)) = (data.as_object_mut(), by) {
        members.insert("by".to_owned(), by.to_string().into());
    }
    if let (Some(members), KeyUse::Ledger) = (data.as_object_mut(), info.r#use) {
        members.insert("verifier_key".to_owned(), info.public.as_str().into());
    }
    data
}

fn document_name(kid: &str) -> String {
    format!("{KEYS}{kid}")
}

/// What a wrapped key is bound to, so that a record moved to another tenant or name does not open.
fn bound_name(tenant: &Name, name: &str) -> String {
    format!("{tenant}/{name}")
}

pub(super) fn ledger_key(origin: &str, seed: &[u8; 32]) -> Result<SignerKey, KeyringError> {
    SignerKey::from_seed(origin, seed).map_err(|why| KeyringError::Ledger(why.to_string()))
}

/// The algorithm of ledger keys.
pub(super) const LEDGER_ALG: Alg = Alg::Ed25519;

fn ledger_kid(key: &VerifierKey) -> String {
    let mut kid = String::from("ledger-");
    for byte in key.key_hash() {
        kid.push_str(&format!("{byte:02x}"));
    }
    kid
}

//! Access tokens (RFC 9068): their claims as a pure function of the event, signed only once committed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dayfly_domain::access::{Detail, Field, Scalar};
use dayfly_domain::{CredentialIssued, Digest, Event, Name, Seal, TaskId, Workload};
use dayfly_store::Committed;
use dayfly_token::access_token::{hash_of_signing_input, signing_input};
use dayfly_token::alg::Alg;
use serde_json::{Map, Value, json};

use super::keyring::Keyring;

/// Fixes key and hash of tokens before they are recorded, and remembers what is to be signed.
pub struct Sealer<'a> {
    keyring: &'a Keyring,
    issuer: &'a str,
    algs: &'a HashMap<Name, Alg>,
    drafts: Mutex<Vec<(Digest, String)>>,
}

impl<'a> Sealer<'a> {
    /// A sealer for one request. `algs` says which algorithm each resource wants.
    #[must_use]
    pub fn new(keyring: &'a Keyring, issuer: &'a str, algs: &'a HashMap<Name, Alg>) -> Self {
        Self {
            keyring,
            issuer,
            algs,
            drafts: Mutex::default(),
        }
    }

    /// The length that the longest drafted token will have, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        // A signature is at most 342 characters: RSA with 2048 bits in base64url.
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(_, input)| input.len() + 1 + 342)
            .max()
            .unwrap_or(0)
    }

    fn draft(&self, hash: &Digest) -> Option<String> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = drafts.iter().position(|(drafted, _)| drafted == hash)?;
        Some(drafts.swap_remove(place).1)
    }
}

impl Seal for Sealer<'_> {
    fn seal(&self, task: TaskId, workload: &Workload, draft: &mut CredentialIssued) {
        let alg = self
            .algs
            .get(&draft.resource)
            .copied()
            .unwrap_or(Alg::Es256);
        // INVARIANT: the keyring was loaded with a key for every algorithm that a resource wants;
        // should one be missing, nothing can be signed and `mint` says so.
        let kid = self.keyring.token_key(alg).map_or("", |(kid, _)| kid);
        let claims = claims_of(task, self.issuer, &workload.name, draft);
        let input = signing_input(alg, kid, claims.to_string().as_bytes());
        draft.alg = alg.as_str().to_owned();
        draft.kid = kid.to_owned();
        draft.hash = Digest(hash_of_signing_input(&input));
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((draft.hash, input));
    }
}

/// A signed token and the event that recorded it.
#[derive(Debug)]
pub struct Minted<'a> {
    /// The compact JWS.
    pub token: String,
    /// What it grants.
    pub issued: &'a CredentialIssued,
}

/// Signs the credential that a committed append recorded for a task. There is no other way to a
/// signature: what is not committed cannot be named here.
///
/// Gives none when the append issued no credential for the task or its key is gone: one that
/// `present`, the keyring of this moment, gives up signs nothing any more.
#[must_use]
pub fn mint<'a>(
    committed: &'a Committed,
    task: TaskId,
    sealer: &Sealer<'_>,
    present: &Keyring,
) -> Option<Minted<'a>> {
    let issued = committed
        .changes()
        .iter()
        .filter(|change| change.task == task)
        .flat_map(|change| &change.events)
        .find_map(|drafted| match &drafted.event {
            Event::CredentialIssued(issued) => Some(issued),
            Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => None,
        })?;
    let alg: Alg = issued.alg.parse().ok()?;
    let (kid, key) = sealer.keyring.token_key(alg)?;
    if kid != issued.kid || !present.verifying().knows(kid) {
        return None;
    }
    let input = sealer.draft(&issued.hash)?;
    let token = key.sign_compact(&input).ok()?;
    Some(Minted { token, issued })
}

/// The claims of a token (DESIGN section 4; RFC 9068, section 2.2; RFC 9449, section 6.1).
#[must_use]
pub fn claims_of(task: TaskId, issuer: &str, workload: &Name, issued: &CredentialIssued) -> Value {
    let id = issued.id(task);
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.into());
    claims.insert("sub".into(), format!("workload:{workload}").into());
    claims.insert("aud".into(), issued.audience.as_str().into());
    claims.insert("exp".into(), issued.expires.seconds().into());
    claims.insert("iat".into(), issued.issued.seconds().into());
    claims.insert("jti".into(), id.to_string().into());
    claims.insert("client_id".into(), id.client.to_string().into());
    claims.insert("task".into(), task.to_string().into());
    if let Some(jkt) = issued.jkt {
        claims.insert("cnf".into(), json!({ "jkt": jkt.to_string() }));
    }
    if !issued.scope.is_empty() {
        claims.insert("scope".into(), issued.scope.join(" ").into());
    }
    claims.insert(
        "authorization_details".into(),
        details_json(&issued.access, |_| issued.audience.as_str()),
    );
    Value::Object(claims)
}

/// Details as they stand on the wire (RFC 9396, section 2): `locations` names the resource.
#[must_use]
pub fn details_json<'a>(details: &[Detail], url_of: impl Fn(&Name) -> &'a str) -> Value {
    details
        .iter()
        .map(|detail| detail_json(detail, url_of(&detail.resource)))
        .collect()
}

/// One detail as it stands on the wire.
#[must_use]
pub fn detail_json(detail: &Detail, url: &str) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), detail.kind.as_str().into());
    object.insert("locations".into(), json!([url]));
    for (name, field) in &detail.fields {
        object.insert(name.clone(), field_json(field));
    }
    Value::Object(object)
}

fn field_json(field: &Field) -> Value {
    fn one_or_list(mut values: Vec<Value>) -> Value {
        match values.len() {
            1 => values.pop().unwrap_or_default(),
            _ => Value::Array(values),
        }
    }
    match field {
        Field::Set(values) => values
            .iter()
            .map(|value| Value::from(value.as_str()))
            .collect(),
        Field::Exact(values) => one_or_list(
            values
                .iter()
                .map(|value| match value {
                    Scalar::Bool(value) => Value::from(*value),
                    Scalar::Int(value) => Value::from(*value),
                    Scalar::Text(value) => Value::from(value.as_str()),
                })
                .collect(),
        ),
        Field::Max(value) | Field::Min(value) => Value::from(*value),
        Field::Path(values) => one_or_list(
            values
                .iter()
                .map(|value| Value::from(value.as_str()))
                .collect(),
        ),
    }
}

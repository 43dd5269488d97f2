//! The entries of uses: what stands in a leaf, and what in the annex that can be erased.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dayfly_domain::access::{AskedUse, Detail, Field};
use dayfly_domain::{Claims, ClientId, CredentialId, Digest, Name, Refusal, RefusalId, TaskId};
use dayfly_store::{Annex, Note};
use serde::Serialize;

use super::authenticate::OwnToken;
use super::refuse::Explained;
use super::uses::UseQuestion;
use super::{App, Tenant};
use crate::policy::{PermittedUse, Recorded};
use crate::random;

/// Of how many credentials what they grant is kept in memory; that of others is read from the record.
const CREDENTIALS: usize = 4096;

/// Whose use it is, and of what.
pub(super) struct Allowed<'a> {
    pub(super) credential: CredentialId,
    pub(super) resource: &'a Name,
    pub(super) question: &'a UseQuestion,
}

/// A use that is denied, and why.
pub(super) struct Denied<'a> {
    pub(super) of: &'a Allowed<'a>,
    pub(super) explained: &'a Explained,
}

/// Why no entry can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoteError {
    #[error(transparent)]
    Random(#[from] random::NoRandomness),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A leaf of `use.allowed` holds ids and declared names only: what is covered is declared.
#[derive(Serialize)]
struct AllowedLeaf<'a> {
    about: TaskId,
    client: ClientId,
    credential: CredentialId,
    resource: &'a Name,
    #[serde(rename = "type")]
    kind: &'a str,
    action: &'a str,
}

/// The identifier and the other fields are the resource's own words, and may be about somebody.
#[derive(Serialize)]
struct AllowedAnnex<'a> {
    used: &'a std::collections::BTreeMap<String, Field>,
    #[serde(skip_serializing_if = "Claims::is_empty")]
    said: &'a Claims,
    policy: Recorded,
}

#[derive(Serialize)]
struct DeniedLeaf<'a> {
    about: TaskId,
    client: ClientId,
    credential: CredentialId,
    resource: &'a Name,
    stage: &'static str,
    rule: &'static str,
    refusal: RefusalId,
}

#[derive(Serialize)]
struct DeniedAnnex<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    action: &'a str,
    identifier: &'a str,
    #[serde(skip_serializing_if = "Claims::is_empty")]
    said: &'a Claims,
    field: &'a str,
    wanted: &'a str,
    got: &'a str,
    hint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a Recorded>,
}

impl Allowed<'_> {
    /// The entry of a use that everything allows.
    pub(super) fn note(&self, used: &AskedUse, by: PermittedUse) -> Result<Note, NoteError> {
        let leaf = AllowedLeaf {
            about: self.credential.client.task,
            client: self.credential.client,
            credential: self.credential,
            resource: self.resource,
            kind: &self.question.kind,
            action: &self.question.action,
        };
        let annex = AllowedAnnex {
            used: &used.detail().fields,
            said: &self.question.said,
            policy: by.into_recorded(),
        };
        let (data, annex) = written(&leaf, &annex)?;
        Ok(Note {
            kind: "use.allowed",
            data,
            annex,
        })
    }
}

impl Denied<'_> {
    /// The entry of a use that is denied to who holds a live credential.
    pub(super) fn note(&self) -> Result<Note, NoteError> {
        let Self { of, explained } = self;
        let leaf = DeniedLeaf {
            about: of.credential.client.task,
            client: of.credential.client,
            credential: of.credential,
            resource: of.resource,
            stage: explained.stage,
            rule: explained.rule,
            refusal: explained.refusal,
        };
        let annex = DeniedAnnex {
            kind: beginning(&of.question.kind),
            action: beginning(&of.question.action),
            identifier: beginning(&of.question.identifier),
            said: &of.question.said,
            field: &explained.field,
            wanted: &explained.wanted,
            got: &explained.got,
            hint: &explained.hint,
            policy: explained.trail.policy.as_deref(),
        };
        let (data, annex) = written(&leaf, &annex)?;
        Ok(Note {
            kind: "use.denied",
            data,
            annex,
        })
    }
}

/// The text of a leaf's data, and the annex.
fn written(
    leaf: &impl Serialize,
    annex: &impl Serialize,
) -> Result<(String, Option<Annex>), NoteError> {
    let annex = Annex {
        salt: random::bytes()?,
        data: serde_json::to_string(annex)?,
    };
    Ok((serde_json::to_string(leaf)?, Some(annex)))
}

/// As much of a resource's own text as an entry keeps of it: enough to know it by.
fn beginning(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(512)).0
}

/// What credentials grant that were used lately, by the hashes they were recorded under; the oldest
/// forgotten first.
#[derive(Default)]
pub(super) struct KnownGrants(Mutex<Known>);

#[derive(Default)]
struct Known {
    grants: HashMap<Digest, Arc<[Detail]>>,
    order: VecDeque<Digest>,
}

impl KnownGrants {
    fn get(&self, hash: &Digest) -> Option<Arc<[Detail]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.grants.get(hash).cloned()
    }

    fn keep(&self, hash: Digest, grants: &Arc<[Detail]>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while known.order.len() >= CREDENTIALS {
            let oldest = known.order.pop_front();
            oldest.and_then(|oldest| known.grants.remove(&oldest));
        }
        if known.grants.insert(hash, Arc::clone(grants)).is_none() {
            known.order.push_back(hash);
        }
    }
}

impl App {
    /// What the record says that a live credential grants. What was recorded once does not change.
    pub(super) fn held_by(
        &self,
        tenant: &Tenant,
        own: &OwnToken,
        entries: u64,
    ) -> Result<Arc<[Detail]>, Refusal> {
        if let Some(known) = self.grants.get(&own.hash) {
            return Ok(known);
        }
        let grants: Arc<[Detail]> = self.recorded_access(tenant, own, entries)?.access.into();
        self.grants.keep(own.hash, &grants);
        Ok(grants)
    }
}

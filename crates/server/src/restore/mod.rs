//! A ledger that goes on after a restore: under which origin, and what of the time before counts.

mod handed;

use dayfly_domain::{Epoch, EpochOf, Name, Time};
use dayfly_ledger::Hash;
use dayfly_store::{Append, Document, FactsQuery, Note, Store, TreeHead, Unavailable};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use handed::{Behind, HandedError, HandedHead, HandedOut};

use crate::app::restored_moves;
use crate::config::Config;
use crate::mint::{KeyringError, annexed, give_way};

/// The document that says under which origin a ledger goes on.
const LEDGER: &str = "ledger";
/// How many former origins are kept.
const KEPT: usize = 64;

/// Under which origin a ledger goes on, and what it was called before. A ledger that was never
/// restored has no such document and is of its tenant's URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// How many ledgers the tenant has had, this one included.
    pub generation: u64,
    /// The origin of its heads (C2SP tlog-checkpoint).
    pub origin: String,
    /// What it went on from, the latest last.
    pub former: Vec<Former>,
    /// When it was restored: no proof that was made before counts.
    pub restored_at: Time,
}

/// A ledger that another one goes on from: they share these first entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its origin.
    pub origin: String,
    /// How many entries they share.
    pub size: u64,
    /// The root over these.
    pub root: Hash,
}

/// What a restore is told of a tenant.
#[derive(Clone, Debug)]
pub struct RestoreRequest<'a> {
    /// The tenant.
    pub tenant: &'a Name,
    /// The origin of a ledger that was never restored: [`first_origin`].
    pub first_origin: &'a str,
    /// The last head that was handed out, where one is known.
    pub handed_out: Option<&'a HandedHead>,
    /// Now.
    pub now: Time,
    /// Who and why: what stands in the annex of each entry.
    pub annex: &'a Value,
}

/// A ledger that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Under which origin it goes on.
    pub origin: String,
    /// What it goes on from.
    pub former: Former,
    /// How many entries it has now.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a ledger is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store cannot answer.
    #[error("the database cannot answer")]
    Store(#[from] Unavailable),
    /// It cannot be recorded, or its keys cannot be read.
    #[error("the restore cannot be recorded")]
    Record(#[from] KeyringError),
}

impl Lineage {
    /// Reads it; none for a ledger that was never restored.
    ///
    /// # Errors
    /// [`Unavailable`], also when the document is damaged.
    pub fn read(store: &dyn Store, tenant: &Name) -> Result<Option<Self>, Unavailable> {
        let query = FactsQuery {
            documents: Some(LEDGER),
            ..FactsQuery::default()
        };
        let documents = store.facts(tenant, &query)?.documents;
        documents
            .iter()
            .find(|(name, _)| name == LEDGER)
            .map(|(_, bytes)| {
                serde_json::from_slice(bytes)
                    .map_err(|why| Unavailable(format!("`{LEDGER}` cannot be read: {why}")))
            })
            .transpose()
    }

    /// The origin of a tenant's ledger: the one it goes on under, else its URL without the scheme.
    ///
    /// # Errors
    /// [`Unavailable`] when the store cannot answer.
    pub fn origin(
        store: &dyn Store,
        tenant: &Name,
        first_origin: String,
    ) -> Result<String, Unavailable> {
        Ok(Self::read(store, tenant)?.map_or(first_origin, |lineage| lineage.origin))
    }

    fn of(before: Option<Self>, request: &RestoreRequest<'_>, head: &TreeHead) -> Self {
        let (generation, origin, mut former) = match before {
            Some(before) => (before.generation, before.origin, before.former),
            None => (1, request.first_origin.to_owned(), Vec::new()),
        };
        former.push(Former {
            origin,
            size: head.size,
            root: head.root,
        });
        let surplus = former.len().saturating_sub(KEPT);
        former.drain(..surplus);
        Self {
            generation: generation + 1,
            origin: origin_after(request),
            former,
            restored_at: request.now,
        }
    }
}

/// The origin of a tenant's ledger that was never restored: its URL without the scheme.
#[must_use]
pub fn first_origin(config: &Config, tenant: &Name) -> String {
    without_scheme(&config.issuer(tenant)).to_owned()
}

/// A URL without its scheme.
pub(crate) fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// The origin after a restore: the seconds since 1970 tell it from that of any other restore, of
/// the same backup on another machine too. An origin ends in the tenant's name (DESIGN section 9).
fn origin_after(request: &RestoreRequest<'_>) -> String {
    let (tenant, first) = (request.tenant.as_str(), request.first_origin);
    let place = first.strip_suffix(tenant).unwrap_or(first);
    let place = place.trim_end_matches('/');
    format!("{place}/restored-{}/{tenant}", request.now.seconds())
}

/// Has a ledger go on after a restore, in one append: its first new entry names the head it goes
/// on from and the last one that was handed out, the tenant's epoch moves, so that every open task
/// is over, and every key gives way to one that the next start makes. No block is lifted.
///
/// # Errors
/// [`RestoreError`]; then nothing was recorded.
pub async fn restore(
    store: &dyn Store,
    request: &RestoreRequest<'_>,
) -> Result<Restored, RestoreError> {
    let RestoreRequest { tenant, now, .. } = *request;
    let head = store.head(tenant)?;
    let lineage = Lineage::of(Lineage::read(store, tenant)?, request, &head);
    let former = lineage.former.last().cloned().unwrap_or_else(|| Former {
        origin: request.first_origin.to_owned(),
        size: head.size,
        root: head.root,
    });
    let epoch = present_epoch(store, tenant)?;
    let mut append = Append {
        now,
        notes: vec![Note {
            kind: "ledger.restored",
            data: json!({
                "generation": lineage.generation, "origin": lineage.origin,
                "former": former, "handed_out": request.handed_out,
            })
            .to_string(),
            annex: Some(annexed(request.annex)?),
        }],
        documents: vec![
            Document {
                name: LEDGER.to_owned(),
                // INVARIANT: numbers and texts have no value that JSON cannot write.
                bytes: Some(serde_json::to_vec(&lineage).unwrap_or_default()),
            },
            restored_moves(store, tenant, &epoch, now, head.size)?,
        ],
        moves: vec![EpochOf::Tenant],
        // INVARIANT: the document of moves says to which value the epoch moves.
        relies: vec![epoch],
        ..Append::default()
    };
    give_way(store, tenant, request.annex, now, &mut append)?;
    store
        .append(tenant, append)
        .await
        .map_err(KeyringError::from)?;
    let TreeHead { size, root, .. } = store.head(tenant)?;
    Ok(Restored {
        origin: lineage.origin,
        former,
        size,
        root,
    })
}

fn present_epoch(store: &dyn Store, tenant: &Name) -> Result<Epoch, Unavailable> {
    let query = FactsQuery {
        epochs: &[EpochOf::Tenant],
        ..FactsQuery::default()
    };
    let epochs = store.facts(tenant, &query)?.epochs;
    Ok(epochs.into_iter().next().unwrap_or(Epoch {
        of: EpochOf::Tenant,
        at: 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_after_a_restore_ends_in_the_tenant_and_is_of_its_time() {
        let tenant: Name = "acme".parse().unwrap();
        for (first, after) in [
            (
                "127.0.0.1:8440/acme",
                "127.0.0.1:8440/restored-1700000000/acme",
            ),
            ("host/path/acme", "host/path/restored-1700000000/acme"),
        ] {
            let request = RestoreRequest {
                tenant: &tenant,
                first_origin: first,
                handed_out: None,
                now: Time::from_seconds(1_700_000_000),
                annex: &Value::Null,
            };
            assert_eq!(origin_after(&request), after);
        }
    }
}

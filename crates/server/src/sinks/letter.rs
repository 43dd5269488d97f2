//! What a `notify` sink is told: one entry without persons and claims, signed as Standard Webhooks have it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{Name, Time};
use dayfly_ledger::ReadLeaf;
use dayfly_store::StoredEntry;
use dayfly_token::hash::sha256_of_parts;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use serde_json::{Map, Value, json};

use crate::config::{Secret, SecretError};
use crate::declared::Owner;

/// What of an entry's data is told. Task keys, series, instances and access are left out: they are
/// made of claims. What is left are Dayfly's own ids, declared names, times and outcomes.
const TOLD: [(&str, &[&str]); 25] = [
    ("annex.erased", &["positions"]),
    ("block.lifted", &[]),
    ("block.set", &[]),
    ("client.delegated", &["client", "parent", "jkt", "expires"]),
    ("client.ended", &["client", "cause", "at", "last_expiry"]),
    ("client.registered", &["client", "jkt", "expires"]),
    (
        "credential.issued",
        &[
            "client",
            "credential",
            "resource",
            "issued",
            "expires",
            "hash",
        ],
    ),
    ("credential.revoked", &["client", "credential"]),
    ("declared.changed", &["revision", "hash"]),
    ("finding.closed", FOUND),
    ("finding.opened", FOUND),
    ("key.rotated", &["kid", "use", "alg", "state"]),
    (
        "ledger.restored",
        &["generation", "origin", "former", "handed_out"],
    ),
    ("ledger.resumed", &["since", "until", "held"]),
    ("ledger.stalled", &["since"]),
    (
        "refused",
        &[
            "refusal", "asked", "stage", "rule", "workload", "client", "minute", "of", "more",
        ],
    ),
    (
        "review.signed",
        &[
            "owner",
            "revision",
            "hash",
            "since",
            "until",
            "workloads",
            "runs",
            "silent",
            "findings",
            "member",
            "complete",
        ],
    ),
    ("rights.removed", &["owner", "workload", "issuer", "cause"]),
    ("task.approved", &["at", "fetch_by"]),
    ("task.denied", &["at"]),
    ("task.ended", &["cause", "at", "count", "last_expiry"]),
    (
        "task.requested",
        &[
            "workload",
            "owner",
            "issuer",
            "requested",
            "expires",
            "people",
            "resource",
        ],
    ),
    (
        "task.started",
        &["workload", "owner", "issuer", "opened", "deadline"],
    ),
    (
        "use.allowed",
        &["client", "credential", "resource", "type", "action"],
    ),
    (
        "use.denied",
        &[
            "client",
            "credential",
            "resource",
            "stage",
            "rule",
            "refusal",
        ],
    ),
];

/// What is told of a finding: all of it but what it says in words, which stands in the annex.
pub(super) const FOUND: &[&str] = &[
    "finding",
    "workload",
    "owner",
    "issuer",
    "resource",
    "on",
    "why",
    "workloads",
    "bound",
    "seen",
    "most",
    "count",
    "first",
    "last",
    "idle_since",
    "ran",
    "detail",
    "place",
    "actions",
    "tasks",
    "since",
    "oldest",
    "free_mib",
    "refusal",
    "opened",
    "closed",
];

/// The kinds of entries that `on` may name: all that this build records, in order.
pub const KINDS: [&str; TOLD.len()] = {
    let mut kinds = [""; TOLD.len()];
    let mut at = 0;
    while at < TOLD.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "both have the same length, and it is computed while compiling"
        )]
        {
            kinds[at] = TOLD[at].0;
        }
        at += 1;
    }
    kinds
};

/// Fewest bytes of a secret (Standard Webhooks: 24 to 64).
const LEAST_SECRET: usize = 24;
/// Most bytes of a secret.
const MOST_SECRET: usize = 64;

/// What the deliveries to one sink are signed with. It never shows.
#[derive(Clone)]
pub struct WebhookKey(hmac::Key);

/// Why a secret file cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] SecretError),
    /// What follows `whsec_` is no base64.
    #[error("begins with `whsec_` and does not go on in base64")]
    Base64,
    /// Too short to be one, or longer than receivers take.
    #[error("holds a secret of {0} bytes, wanted {LEAST_SECRET} to {MOST_SECRET}")]
    Length(usize),
}

impl WebhookKey {
    /// Reads a secret: `whsec_` and base64, as Standard Webhooks hand them about, or plain bytes.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let secret = Secret::read(path)?;
        let Some(encoded) = secret.expose().strip_prefix(b"whsec_") else {
            return Self::of(secret.expose());
        };
        let decoded = STANDARD.decode(encoded).map_err(|_| KeyError::Base64)?;
        Self::of(&zeroize::Zeroizing::new(decoded))
    }

    fn of(secret: &[u8]) -> Result<Self, KeyError> {
        if !(LEAST_SECRET..=MOST_SECRET).contains(&secret.len()) {
            return Err(KeyError::Length(secret.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(redacted)")
    }
}

/// One delivery. It is the same, byte by byte, however often it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    id: String,
    body: String,
}

/// What is told beside an entry, as it is at that time: whom to tell, and where these answer.
pub(super) struct Beside<'a> {
    /// The owners that are declared.
    pub(super) owners: &'a BTreeMap<Name, Owner>,
    /// Where people operate the server; none where nobody is told.
    pub(super) admin_url: Option<&'a str>,
}

impl Letter {
    /// Tells of an entry, if it is of one of these kinds. An entry that cannot be read tells of
    /// nothing: `dayfly ledger fsck` does.
    pub(super) fn of(
        entry: &StoredEntry,
        origin: &str,
        on: &[&str],
        beside: &Beside<'_>,
    ) -> Option<Self> {
        let leaf = ReadLeaf::parse(entry.leaf.as_bytes()).ok()?.leaf;
        if !on.contains(&leaf.kind.as_ref()) {
            return None;
        }
        let (_, told) = TOLD.iter().find(|(kind, _)| *kind == leaf.kind)?;
        let data: Map<String, Value> = serde_json::from_str(leaf.data.get()).ok()?;
        let task = match &leaf.link {
            Some(link) => Some(link.task.as_ref()),
            None => data.get("about").and_then(Value::as_str),
        };
        let kept = |name: &&str| Some(((*name).to_owned(), data.get(*name)?.clone()));
        let place = Place {
            tenant: &leaf.tenant,
            admin_url: beside.admin_url,
        };
        let asks = asks(&leaf.kind, task, &data, &place);
        let mut data: Map<String, Value> = told.iter().filter_map(kept).collect();
        if let Some(text) = asks {
            data.insert("text".to_owned(), text.into());
        }
        let owner = data.get("owner").and_then(Value::as_str);
        let owner = owner.and_then(|name| beside.owners.get(&name.parse::<Name>().ok()?));
        if let Some(owner) = owner {
            data.insert("contact".to_owned(), owner.contact.as_str().into());
        }
        let pos = entry.pos.to_be_bytes();
        let id = id(&[b"entry", origin.as_bytes(), &pos, &entry.hash.0]);
        let body = json!({
            "id": id, "tenant": leaf.tenant, "pos": entry.pos, "at": leaf.at,
            "kind": leaf.kind, "task": task, "data": data,
        });
        let body = body.to_string();
        Some(Self { id, body })
    }

    /// Tells that the entries from one position up to another are not told.
    pub(super) fn of_gap(tenant: &str, origin: &str, gap: &std::ops::Range<u64>, at: Time) -> Self {
        let (from, to) = (gap.start.to_be_bytes(), gap.end.to_be_bytes());
        let id = id(&[b"gap", origin.as_bytes(), &from, &to]);
        let body = json!({
            "id": id, "tenant": tenant, "pos": gap.start, "at": at, "kind": "notify.skipped",
            "task": null, "data": {"from": gap.start, "to": gap.end},
        });
        let body = body.to_string();
        Self { id, body }
    }

    /// What it says.
    #[cfg(test)]
    pub(super) fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The headers and body of a request, signed for this moment.
    ///
    /// # Errors
    /// Only where a header cannot hold what is made of base64 and digits.
    pub(super) fn seal(
        &self,
        key: &WebhookKey,
        now: Time,
    ) -> Result<(HeaderMap, String), InvalidHeaderValue> {
        let moment = now.seconds().to_string();
        let mut context = hmac::Context::with_key(&key.0);
        for part in [&self.id, ".", &moment, ".", &self.body] {
            context.update(part.as_bytes());
        }
        let signature = format!("v1,{}", STANDARD.encode(context.sign()));
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (named("webhook-id"), self.id.parse()?),
            (named("webhook-timestamp"), moment.parse()?),
            (named("webhook-signature"), signature.parse()?),
        ]);
        Ok((headers, self.body.clone()))
    }
}

/// What the owner reads of a request for approval: declared names, types, actions and ids, of which
/// none is made of claims, and what to do.
fn asks(
    kind: &str,
    task: Option<&str>,
    data: &Map<String, Value>,
    place: &Place<'_>,
) -> Option<String> {
    if kind != "task.requested" {
        return None;
    }
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let task = task?;
    let expires = data.get("expires")?.as_u64().map(Time::from_millis)?;
    let people = match data.get("people").and_then(Value::as_u64) {
        Some(2..) => "two approvals",
        Some(_) | None => "an approval",
    };
    let access: Vec<String> = data
        .get("access")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(detail)
        .collect();
    let at = place.options();
    Some(format!(
        "workload {} of {} asks for {people} until {expires}, to have {}: `dayfly task show {task} {at}` shows it, `dayfly task approve {task} {at} --reason …` or `dayfly task deny {task} {at} --reason …` answers it",
        text("workload"),
        text("owner"),
        access.join(" and "),
    ))
}

/// Where somebody answers.
struct Place<'a> {
    tenant: &'a str,
    admin_url: Option<&'a str>,
}

impl Place<'_> {
    /// It as options of a command.
    fn options(&self) -> String {
        let tenant = format!("--tenant {}", self.tenant);
        match self.admin_url {
            Some(url) => format!("{tenant} --server {url}"),
            None => tenant,
        }
    }
}

/// A detail by its type, its actions and its resource, which are all declared words.
fn detail(detail: &Value) -> String {
    let text = |name: &str| detail.get(name).and_then(Value::as_str).unwrap_or_default();
    let actions: Vec<&str> = detail
        .pointer("/fields/actions/set")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (kind, resource) = (text("type"), text("resource"));
    if actions.is_empty() {
        format!("{kind} at {resource}")
    } else {
        format!("{kind} ({}) at {resource}", actions.join(", "))
    }
}

fn named(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// A name of what is told: the same over retries and restarts, another one for another entry that
/// a restored ledger has at the same position.
fn id(parts: &[&[u8]]) -> String {
    let digest = sha256_of_parts(parts);
    let half = digest.iter().take(16);
    half.fold("msg_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

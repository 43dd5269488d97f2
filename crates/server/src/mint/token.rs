//! Access tokens (RFC 9068): their claims as a pure function of the event, signed only once committed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dayfly_domain::access::{Detail, Field};
use dayfly_domain::{
    ChainLink, ClientId, CredentialId, CredentialIssued, Digest, Event, Name, OnBehalfOf, Seal,
    TaskId, Workload,
};
use dayfly_store::Committed;
use dayfly_token::access_token::{hash_of_signing_input, signing_input};
use dayfly_token::alg::Alg;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::keyring::Keyring;
use crate::verify::Pseudonyms;

/// Fixes key and hash of tokens before they are recorded, and remembers what is to be signed.
pub struct Sealer<'a> {
    keyring: &'a Keyring,
    issuer: &'a str,
    algs: &'a HashMap<Name, Alg>,
    person: Option<NamedPerson<'a>>,
    drafts: Mutex<Vec<(Digest, String)>>,
}

/// The person on whose behalf a task runs, as tokens may have to name one.
#[derive(Clone, Copy, Debug)]
pub struct NamedPerson<'a> {
    /// The own issuer.
    pub iss: &'a str,
    /// The name there.
    pub sub: &'a str,
    /// The pseudonym in the record.
    pub person: &'a Digest,
    /// Makes the pseudonyms of resources.
    pub pseudonyms: &'a Pseudonyms,
}

impl<'a> Sealer<'a> {
    /// A sealer for one request. `algs` says which algorithm each resource wants.
    #[must_use]
    pub fn new(keyring: &'a Keyring, issuer: &'a str, algs: &'a HashMap<Name, Alg>) -> Self {
        Self {
            keyring,
            issuer,
            algs,
            person: None,
            drafts: Mutex::default(),
        }
    }

    /// The same for a task that runs on behalf of a person.
    #[must_use]
    pub fn on_behalf_of(mut self, person: Option<NamedPerson<'a>>) -> Self {
        self.person = person;
        self
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
        draft.alg = alg.as_str().to_owned();
        draft.kid = kid.to_owned();
        // Texts and numbers always have a JSON text; were it otherwise, or the person of the task not
        // known, nothing would be drafted and so nothing signed.
        let named = draft.on_behalf_of.map(|how| self.named(how, draft));
        let Some(person) = named.map_or(Some(None), |named| named.map(Some)) else {
            return;
        };
        let claims = claims_of(task, self.issuer, (&workload.name, person.as_ref()), draft);
        let Ok(claims) = claims else {
            return;
        };
        let input = signing_input(alg, kid, claims.as_bytes());
        draft.hash = Digest(hash_of_signing_input(&input));
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((draft.hash, input));
    }
}

impl Sealer<'_> {
    /// The person as a token of this resource names one; none where no person is known.
    fn named(&self, how: OnBehalfOf, draft: &CredentialIssued) -> Option<Behalf> {
        let person = self.person?;
        Some(match how {
            OnBehalfOf::Person => Behalf {
                iss: person.iss.to_owned(),
                sub: person.sub.to_owned(),
            },
            OnBehalfOf::Pseudonym => Behalf {
                iss: self.issuer.to_owned(),
                sub: person
                    .pseudonyms
                    .at(&draft.audience, person.person)
                    .to_string(),
            },
        })
    }
}

/// `on_behalf_of`: the person of the task, as whoever vouches for the name calls one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behalf {
    /// Whose name it is: the person's own issuer, or this server for a pseudonym.
    pub iss: String,
    /// The name.
    pub sub: String,
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
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientRegistered(_)
            | Event::ClientDelegated(_)
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

/// The claims of a token (DESIGN section 4; RFC 9068, section 2.2; RFC 9449, section 6.1) as JSON text,
/// of a task of this workload and, where it has one, on behalf of this person.
///
/// # Errors
/// Never for texts and numbers; the writer's own error type is kept rather than hidden.
pub fn claims_of(
    task: TaskId,
    issuer: &str,
    (workload, person): (&Name, Option<&Behalf>),
    issued: &CredentialIssued,
) -> serde_json::Result<String> {
    let id = issued.id(task);
    let named = person.filter(|_| issued.on_behalf_of == Some(OnBehalfOf::Person));
    let workload = subject(workload);
    serde_json::to_string(&TokenClaims {
        act: acting(task, &issued.act),
        aud: &issued.audience,
        authorization_details: WireDetails {
            details: &issued.access,
            url: &issued.audience,
        },
        client_id: id.client,
        cnf: issued.jkt.map(|jkt| Confirmation { jkt }),
        exp: issued.expires.seconds(),
        iat: issued.issued.seconds(),
        iss: issuer,
        jti: id,
        may_act: may_act(&issued.may_act),
        on_behalf_of: person,
        scope: (!issued.scope.is_empty()).then(|| issued.scope.join(" ")),
        sub: named.map_or(&workload, |person| &person.sub),
        task,
    })
}

#[derive(Serialize)]
struct TokenClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Acting>,
    aud: &'a str,
    authorization_details: WireDetails<'a>,
    client_id: ClientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    exp: u64,
    iat: u64,
    iss: &'a str,
    jti: CredentialId,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_act: Option<MayAct>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<&'a Behalf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    sub: &'a str,
    task: TaskId,
}

/// `act` (RFC 8693, section 4.1): who acts, and in it through whom it was handed over. Only the
/// outermost one may decide anything; `client_id` says which of a workload's clients it is.
#[derive(Serialize)]
struct Acting {
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Self>>,
    client_id: ClientId,
    sub: String,
}

fn acting(task: TaskId, chain: &[ChainLink]) -> Option<Acting> {
    chain.iter().rev().fold(None, |inner, link| {
        Some(Acting {
            act: inner.map(Box::new),
            client_id: ClientId {
                task,
                number: link.client,
            },
            sub: subject(&link.workload),
        })
    })
}

/// `may_act` (RFC 8693, section 4.4): one party as it is written there; where several workloads
/// may become a child, they are listed, and a reader that knows only `sub` finds nobody.
#[derive(Serialize)]
#[serde(untagged)]
enum MayAct {
    One { sub: String },
    Several { workloads: Vec<String> },
}

fn may_act(workloads: &[Name]) -> Option<MayAct> {
    match workloads {
        [] => None,
        [only] => Some(MayAct::One { sub: subject(only) }),
        several => Some(MayAct::Several {
            workloads: several.iter().map(subject).collect(),
        }),
    }
}

fn subject(workload: &Name) -> String {
    format!("workload:{workload}")
}

#[derive(Serialize)]
struct Confirmation {
    jkt: Digest,
}

/// Details of one resource as they stand on the wire (RFC 9396, section 2): `locations` names its URL.
#[derive(Clone, Copy, Debug)]
pub struct WireDetails<'a> {
    /// The details.
    pub details: &'a [Detail],
    /// The URL of their resource.
    pub url: &'a str,
}

impl Serialize for WireDetails<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let url = self.url;
        to.collect_seq(self.details.iter().map(|detail| WireDetail { detail, url }))
    }
}

struct WireDetail<'a> {
    detail: &'a Detail,
    url: &'a str,
}

impl Serialize for WireDetail<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(self.detail.fields.len() + 2))?;
        object.serialize_entry("type", self.detail.kind.as_str())?;
        object.serialize_entry("locations", &[self.url])?;
        for (name, field) in &self.detail.fields {
            object.serialize_entry(name, &WireField(field))?;
        }
        object.end()
    }
}

/// A field: a set is a list always, what is one of several values only where there are several.
struct WireField<'a>(&'a Field);

impl Serialize for WireField<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Field::Set(values) => to.collect_seq(values),
            Field::Exact(values) => match values.as_slice() {
                [value] => value.serialize(to),
                values => to.collect_seq(values),
            },
            Field::Max(value) | Field::Min(value) => value.serialize(to),
            Field::Path(values) => match values.as_slice() {
                [value] => to.serialize_str(value.as_str()),
                values => to.collect_seq(values.iter().map(|value| value.as_str())),
            },
        }
    }
}

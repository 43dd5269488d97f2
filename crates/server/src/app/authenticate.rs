//! Callers that hold one of our own credentials: the token verified, the record asked, the key proven.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::{
    Blocks, ClientId, CredentialId, Digest, Refusal, Rule, Task, TaskId, TaskState, Time,
    check_epochs,
};
use dayfly_store::{FactsQuery, OpenTask};
use dayfly_token::access_token::VerifiedAccessToken;
use dayfly_token::alg::Alg;
use dayfly_token::dpop::VerifiedDpop;
use dayfly_token::hash;
use serde_json::Value;

use super::keys::given_up;
use super::refuse::{Trail, unavailable};
use super::replay::KeyProof;
use super::{App, Tenant};
use crate::record;
use crate::verify;

/// How many bytes of verified tokens are remembered, so that introspecting one again costs no
/// signature. Each tenant has a like share, so that none makes another's be forgotten.
const REMEMBERED_BYTES: usize = 256 << 20;
const SHARDS: usize = 64;

/// A credential as it was presented.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The compact token.
    pub token: &'a str,
    /// Whether it came under the scheme `DPoP` rather than `Bearer`.
    pub as_dpop: bool,
    /// The DPoP proof, where one came.
    pub key_proof: Option<KeyProof<'a>>,
}

/// A caller whose credential is live and whose key is proven.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The task, as it stood when asked.
    pub open: OpenTask,
    /// The credential.
    pub id: CredentialId,
    /// The proof of its key, where it is bound to one.
    pub key_proof: Option<VerifiedDpop>,
}

/// One of our tokens whose signature was verified; whether it is live only the record says.
#[derive(Debug)]
pub(super) struct OwnToken {
    pub(super) id: CredentialId,
    pub(super) hash: Digest,
    pub(super) jkt: Option<Digest>,
    pub(super) audience: String,
    /// Whom it names.
    pub(super) subject: String,
    /// The answer of introspection while it is live (RFC 7662, section 2.2).
    pub(super) introspection: String,
}

/// Verified tokens by the hash of their whole text, signature included.
pub(super) struct OwnTokens {
    shards: Vec<Mutex<Shard>>,
    /// Moves on when a key no longer verifies: what was verified before counts for nothing then.
    generation: AtomicU64,
}

/// Tokens, each with the generation it was verified in.
#[derive(Default)]
struct Shard {
    held: HashMap<[u8; 32], (u64, Arc<OwnToken>)>,
    bytes: usize,
}

impl Default for OwnTokens {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            generation: AtomicU64::new(0),
        }
    }
}

impl OwnTokens {
    fn shard(&self, name: &[u8; 32]) -> Option<MutexGuard<'_, Shard>> {
        let [first, ..] = name;
        let shard = self.shards.get(usize::from(*first) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Forgets all of them, those included whose verification is still under way.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    fn get(&self, name: &[u8; 32]) -> Option<Arc<OwnToken>> {
        self.shard(name)?
            .held
            .get(name)
            .filter(|(generation, _)| *generation == self.generation())
            .map(|(_, token)| Arc::clone(token))
    }

    /// Remembers a token that was verified in a generation; all of them take `most` bytes at most.
    fn put(&self, name: [u8; 32], generation: u64, token: &Arc<OwnToken>, most: usize) {
        let bytes = token.bytes();
        let Some(mut shard) = self.shard(&name).filter(|_| bytes <= most / SHARDS) else {
            return;
        };
        if shard.bytes + bytes > most / SHARDS {
            // Forgetting all of a shard is cheap, and verifying again is all it costs.
            *shard = Shard::default();
        }
        let held = (generation, Arc::clone(token));
        if shard.held.insert(name, held).is_none() {
            shard.bytes += bytes;
        }
    }
}

impl OwnToken {
    /// What remembering it takes, its place in the map included.
    fn bytes(&self) -> usize {
        2 * (size_of::<Self>() + size_of::<[u8; 32]>())
            + self.audience.len()
            + self.subject.len()
            + self.introspection.len()
    }
}

impl App {
    /// Verifies form, type, issuer and signature of one of our tokens. Its expiry and its life are
    /// judged by the record.
    pub(super) fn own_token(&self, tenant: &Tenant, token: &str) -> Result<Arc<OwnToken>, Refusal> {
        let name = hash::sha256(token.as_bytes());
        if let Some(known) = tenant.own_tokens.get(&name) {
            return Ok(known);
        }
        // INVARIANT: the generation is read before the keyring, and moves on after it was replaced.
        let generation = tenant.own_tokens.generation();
        let keyring = tenant.keyring();
        let verified =
            VerifiedAccessToken::verify(token, keyring.verifying(), Alg::ALL, tenant.issuer())
                .map_err(|why| {
                    given_up(&keyring, token).unwrap_or_else(|| verify::credential(&why))
                })?;
        let id: CredentialId = verified.jti().parse().map_err(|_| {
            Refusal::new(Rule::Credential)
                .field("jti")
                .wanted("a credential's id")
                .got("another text")
        })?;
        let jkt = verified.jkt().map(|jkt| Digest(jkt.0));
        let hash = Digest(verified.signing_input_hash());
        let audience = verified.audience().to_owned();
        let mut answer = verified.into_claims().into_map();
        let subject = answer.get("sub").and_then(Value::as_str);
        let subject = subject.unwrap_or_default().to_owned();
        answer.insert("active".to_owned(), true.into());
        answer.insert(
            "token_type".to_owned(),
            if jkt.is_some() { "DPoP" } else { "Bearer" }.into(),
        );
        let mut introspection = Value::Object(answer).to_string();
        // It was written into room that doubles; what is kept takes what it is counted as.
        introspection.shrink_to_fit();
        let own = Arc::new(OwnToken {
            id,
            hash,
            jkt,
            audience,
            subject,
            introspection,
        });
        let share = REMEMBERED_BYTES / self.tenants.len().max(1);
        tenant.own_tokens.put(name, generation, &own, share);
        Ok(own)
    }

    /// Checks a verified token against the record: `valid(credential)` of DESIGN section 3.
    pub(super) fn check_live(
        &self,
        tenant: &Tenant,
        own: &OwnToken,
        now: Time,
    ) -> Result<OpenTask, Refusal> {
        self.live_beside_blocks(tenant, own, now)
            .map(|(open, _)| open)
    }

    /// The same, with the blocks that stood in that very moment: what is read one after the other
    /// would miss what is acknowledged in between.
    pub(super) fn live_beside_blocks(
        &self,
        tenant: &Tenant,
        own: &OwnToken,
        now: Time,
    ) -> Result<(OpenTask, Blocks), Refusal> {
        let (open, blocks) = self.open_beside_blocks(tenant, own.id.client.task)?;
        let open = open.ok_or_else(|| ended("no open task by its id"))?;
        check_epochs(open.stale_for(own.id.client.number))?;
        let live = open.task.check_credential(own.id, now, open.heard)?;
        if live.credential.hash != own.hash || live.client.jkt != own.jkt {
            return Err(Refusal::new(Rule::Credential)
                .field("token")
                .wanted("the token that was recorded under its jti")
                .got("another"));
        }
        Ok((open, blocks))
    }

    /// Authenticates a caller by one of our credentials and, where it is bound, by its key
    /// (RFC 9449, section 7). A root client's call counts as a beat once beats are watched.
    pub(super) fn authenticate(
        &self,
        tenant: &Tenant,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<Proven, Refusal> {
        let now = self.now();
        let own = self.own_token(tenant, presented.token)?;
        trail.task = Some(own.id.client.task);
        let open = self.check_live(tenant, &own, now)?;
        let key_proof = self.prove_key(tenant, presented, own.jkt, now)?;
        trail.client = Some(own.id.client);
        trail.workload = Some(open.task.workload.clone());
        self.heard(tenant, &open.task, open.heard, own.id.client.number);
        Ok(Proven {
            open,
            id: own.id,
            key_proof,
        })
    }

    /// Checks the scheme and, for a bound credential, the proof of its key.
    pub(super) fn prove_key(
        &self,
        tenant: &Tenant,
        presented: &Presented<'_>,
        jkt: Option<Digest>,
        now: Time,
    ) -> Result<Option<VerifiedDpop>, Refusal> {
        let Some(jkt) = jkt else {
            return if presented.as_dpop {
                Err(Refusal::new(Rule::OtherKey)
                    .field("Authorization")
                    .wanted("the scheme Bearer, for a token that is bound to no key")
                    .got("DPoP"))
            } else {
                Ok(None)
            };
        };
        if !presented.as_dpop {
            return Err(Refusal::new(Rule::KeyProofMissing)
                .field("Authorization")
                .wanted("the scheme DPoP: the token is bound to a key")
                .got("Bearer"));
        }
        let key_proof = presented.key_proof.as_ref().ok_or_else(|| {
            Refusal::new(Rule::KeyProofMissing)
                .field("DPoP")
                .wanted("a proof by the key that the token is bound to")
                .got("none")
        })?;
        let verified =
            self.key_proof_whatever_nonce(tenant, key_proof, Some(presented.token), now)?;
        if Digest(verified.jkt().0) != jkt {
            return Err(Refusal::new(Rule::OtherKey)
                .field("DPoP jwk")
                .wanted(jkt.to_string())
                .got(verified.jkt().to_string()));
        }
        self.check_nonce(tenant, &verified, now)?;
        self.accept_once(tenant, &verified, now)?;
        Ok(Some(verified))
    }

    /// The open task of this id, or one that waits for approval: what may be done to it, its state
    /// says.
    pub(super) fn open_task(
        &self,
        tenant: &Tenant,
        id: TaskId,
    ) -> Result<Option<OpenTask>, Refusal> {
        let (open, _) = self.open_beside_blocks(tenant, id)?;
        Ok(open)
    }

    fn open_beside_blocks(
        &self,
        tenant: &Tenant,
        id: TaskId,
    ) -> Result<(Option<OpenTask>, Blocks), Refusal> {
        self.wake(self.now());
        let facts = self
            .store
            .facts(
                tenant.name(),
                &FactsQuery {
                    tasks: &[id],
                    ..FactsQuery::default()
                },
            )
            .map_err(|why| unavailable(&why))?;
        let found = facts.tasks.into_iter().flatten().next();
        // One whose end is held is read as it stands by that end.
        let open = found.filter(|open| !open.task.has_ended());
        Ok((open, facts.blocks))
    }

    /// The refusal of whoever operates on a task that is not open: it says when and why that ended, or
    /// that there never was one by this id, so that a mistyped one does not pass for one that is over.
    pub(super) async fn not_open(&self, tenant: &Tenant, id: TaskId) -> Refusal {
        not_open(id, self.recorded_task(tenant, id).await)
    }

    /// The same for whoever reads on a thread of its own.
    pub(super) fn not_open_now(&self, tenant: &Tenant, id: TaskId) -> Refusal {
        let task = record::task_state(self.store.as_ref(), tenant.name(), id);
        not_open(id, task.map_err(|why| unavailable(&why)))
    }

    /// The state of a task, open or ended, as the record has it.
    pub(super) async fn recorded_task(
        &self,
        tenant: &Tenant,
        id: TaskId,
    ) -> Result<Option<Task>, Refusal> {
        let name = tenant.name().clone();
        self.replayed(move |store| record::task_state(store, &name, id))
            .await
    }
}

/// The refusal for a task that is not open, by what the record has of it.
fn not_open(id: TaskId, recorded: Result<Option<Task>, Refusal>) -> Refusal {
    match recorded.map(|task| task.map(|task| task.state)) {
        Ok(Some(TaskState::Ended { cause, at })) => {
            ended(&format!("one that ended at {at} ({})", cause.word()))
        }
        Ok(Some(TaskState::Open | TaskState::Pending(_))) => {
            ended("one whose end is still to be recorded")
        }
        Ok(None) => Refusal::new(Rule::NotFound)
            .field("task")
            .wanted("a task of this ledger")
            .got(id.to_string()),
        Err(_) => ended("no open task by its id"),
    }
}

/// The refusal for a credential whose task is over.
pub(super) fn ended(got: &str) -> Refusal {
    Refusal::new(Rule::TaskEnded)
        .field("task")
        .wanted("an open task")
        .got(got)
}

/// Checks that a path's client or task is the caller's own.
pub(super) fn same_task(wanted: TaskId, caller: ClientId) -> Result<(), Refusal> {
    if wanted == caller.task {
        return Ok(());
    }
    // 404 hides whether the other task exists.
    Err(Refusal::new(Rule::NotFound)
        .field("task")
        .wanted("the caller's own task")
        .got(wanted.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_tokens_are_bounded_by_bytes() {
        let tokens = OwnTokens::default();
        let most = 64 << 10;
        let put = |number: u32, bytes: usize| {
            let own = Arc::new(OwnToken {
                id: "cred_00000000000000000000000000_1_1".parse().unwrap(),
                hash: Digest([0; 32]),
                jkt: None,
                audience: String::new(),
                subject: String::new(),
                introspection: "x".repeat(bytes),
            });
            let name = hash::sha256(&number.to_be_bytes());
            tokens.put(name, 0, &own, most);
            tokens.put(name, 0, &own, most);
            tokens.get(&name).is_some()
        };
        assert!((0..1000).all(|number| put(number, 300)));
        let shards = || tokens.shards.iter().map(|shard| shard.lock().unwrap());
        let held =
            |shard: &Shard| -> usize { shard.held.values().map(|(_, own)| own.bytes()).sum() };
        assert!(shards().all(|shard| shard.bytes <= most / SHARDS));
        assert!(shards().all(|shard| shard.bytes == held(&shard)));
        assert!(shards().all(|shard| !shard.held.is_empty()));
        assert!(!put(1000, 4096), "one that takes the place of all others");
    }
}

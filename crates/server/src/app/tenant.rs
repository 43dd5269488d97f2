//! A tenant: an isolated issuer with its own URL, keys, ledger and declared state.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dayfly_domain::{Digest, Name, Refusal, Rule, Span, Time};
use dayfly_store::{Annex, AppendError, FactsQuery, Store, Unavailable};
use dayfly_token::alg::Alg;
use dayfly_token::htu::{Htu, HtuError};
use serde_json::json;

use super::acceptance::longest_life;
use super::authenticate::OwnTokens;
use super::matching::MatchIndex;
use super::polls::Polls;
use super::pulse::Pulse;
use super::replay::Replays;
use super::revisions::{Activation, Revisions, kept_source};
use crate::declared::{
    Declared, HANDED, HandOvers, LoadError, Neighbour, Source, TenantContext, Warning, overlaps,
};
use crate::mint::{Keyring, KeyringError, Kind, MasterKey, wanted};
use crate::policy::Policies;
use crate::random;
use crate::restore::{Lineage, without_scheme};
use crate::verify::{
    KeyCache, KeyStatus, ProofBounds, Pseudonyms, Receiver, Recipient, ReviewStatus,
    VerifiedPerson, VerifiedProof, VerifiedSubject, Verifier,
};

/// The document that holds the source of the declared state.
pub(super) const DECLARED: &str = "declared";

/// The path of the token endpoint.
const TOKEN: &str = "/token";

/// What a tenant is opened from.
#[derive(Clone, Debug)]
pub struct TenantSetup {
    /// Its name.
    pub name: Name,
    /// The folder of its declared state.
    pub folder: PathBuf,
    /// What its declared state is read against.
    pub context: TenantContext,
    /// How large and how old a platform's token may be.
    pub proofs: ProofBounds,
    /// Issuers' keys, shared by all tenants.
    pub keys: Arc<KeyCache>,
}

/// A tenant that is served.
pub struct Tenant {
    setup: TenantSetup,
    issuer: String,
    origin: String,
    /// When its ledger was restored from a backup, where it was.
    restored_at: Option<Time>,
    /// The most frequent `htu`, kept normalised.
    token_htu: Htu,
    pub(super) master: Arc<MasterKey>,
    loaded: RwLock<Arc<Loaded>>,
    pub(super) keyring: RwLock<Arc<Keyring>>,
    /// One step of the keys at a time.
    pub(super) turning: tokio::sync::Mutex<()>,
    /// After how long a key that signs is replaced; none when only by hand.
    pub(super) rotate: Option<Span>,
    pub(super) own_tokens: OwnTokens,
    pub(super) replays: Replays,
    pub(super) pulse: Pulse,
    pub(super) polls: Polls,
    pub(super) last_head: Mutex<Option<(u64, String)>>,
    /// One change of the declared state at a time.
    pub(super) applying: tokio::sync::Mutex<()>,
    /// Whether there may be ends that an apply has begun and not finished.
    pub(super) ending: AtomicBool,
}

/// A tenant's declared state and what was built from it, all of one revision.
pub struct Loaded {
    /// The revision.
    pub revision: u64,
    /// What it was read from.
    pub source: Source,
    /// The declared state.
    pub declared: Arc<Declared>,
    /// What was odd about it.
    pub warnings: Vec<Warning>,
    /// Verifies platform proofs.
    pub verifier: Verifier,
    /// Finds workloads.
    pub index: MatchIndex,
    /// Which algorithm each resource wants.
    pub algs: HashMap<Name, Alg>,
    /// The kinds of keys that it needs.
    pub wanted: Vec<Kind>,
    /// What the policies permit.
    pub policies: Arc<Policies>,
    /// Verifies events of transmitters.
    pub receivers: BTreeMap<Name, Arc<Receiver>>,
    /// Under what people stand.
    pub pseudonyms: Arc<Pseudonyms>,
}

/// Why a tenant cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its declared state does not load.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Declared(Vec<LoadError>),
    /// The stored revision cannot be read.
    #[error("the stored declared state is damaged: {0}")]
    Stored(String),
    /// Its issuer is no URL that a proof could be made for.
    #[error("the public url does not do: {0}")]
    Url(#[from] HtuError),
    /// Its keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The store cannot answer.
    #[error("the store cannot answer: {0}")]
    Store(#[from] Unavailable),
    /// The first revision cannot be recorded.
    #[error("the declared state cannot be recorded: {0}")]
    Append(#[from] AppendError),
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] random::NoRandomness),
}

/// Whether two of the tenants that are to be opened accept one proof. Where the first declared state
/// of an empty tenant would bring that about it is a mistake; what is in force already is warned of,
/// for only a server that runs can take a better folder.
///
/// # Errors
/// [`OpenError`], which names file and line.
pub fn check_overlaps(
    store: &dyn Store,
    setups: &[TenantSetup],
) -> Result<Vec<Warning>, OpenError> {
    let mut states = Vec::with_capacity(setups.len());
    for setup in setups {
        let (_, stored) = read_source(store, setup)?;
        let is_first = stored.is_none();
        let source = match stored {
            Some(source) => source,
            None => {
                Source::read_folder(&setup.folder).map_err(|why| OpenError::Declared(vec![why]))?
            }
        };
        let (declared, _) = Declared::load(&source, &setup.context).map_err(OpenError::Declared)?;
        states.push((setup, declared, is_first));
    }
    let neighbours = || {
        let of = states.iter();
        of.map(|(setup, declared, _)| neighbour_of(setup, declared))
    };
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for (setup, declared, is_first) in &states {
        let found = overlaps(neighbour_of(setup, declared), neighbours());
        if *is_first {
            errors.extend(found);
        } else {
            warnings.extend(found.into_iter().map(Warning::from));
        }
    }
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(OpenError::Declared(errors))
    }
}

const fn neighbour_of<'a>(setup: &'a TenantSetup, declared: &'a Declared) -> Neighbour<'a> {
    Neighbour {
        name: &setup.name,
        issuer: setup.context.issuer.as_str(),
        declared,
    }
}

impl Tenant {
    /// Opens a tenant. An empty one takes its folder as its first declared state; any other keeps
    /// what was applied last, whatever the folder says now.
    ///
    /// # Errors
    /// [`OpenError`], which names file and line where the declared state is at fault.
    pub async fn open(
        store: &dyn Store,
        setup: TenantSetup,
        master: Arc<MasterKey>,
        now: Time,
    ) -> Result<Self, OpenError> {
        let issuer = setup.context.issuer.clone();
        let (origin, restored_at) = match Lineage::read(store, &setup.name)? {
            Some(lineage) => (lineage.origin, Some(lineage.restored_at)),
            None => (without_scheme(&issuer).to_owned(), None),
        };
        let (revision, stored) = read_source(store, &setup)?;
        let (revision, source) = match stored {
            Some(source) => (revision, source),
            None => (
                revision + 1,
                first_source(store, &setup, revision, now).await?,
            ),
        };
        let handed = hand_overs(store, &setup.name)?;
        let loaded = load(&setup, &master, (revision, source), &handed)?;
        let wanted = &loaded.wanted;
        let keyring = Keyring::load(store, &master, &setup.name, &origin, wanted, now).await?;
        let token_htu = Htu::parse(&format!("{issuer}{TOKEN}"))?;
        Ok(Self {
            issuer,
            origin,
            restored_at,
            token_htu,
            master,
            loaded: RwLock::new(Arc::new(loaded)),
            keyring: RwLock::new(Arc::new(keyring)),
            turning: tokio::sync::Mutex::default(),
            rotate: None,
            own_tokens: OwnTokens::default(),
            replays: Replays::default(),
            pulse: Pulse::default(),
            polls: Polls::default(),
            last_head: Mutex::default(),
            applying: tokio::sync::Mutex::default(),
            ending: AtomicBool::new(true),
            setup,
        })
    }

    /// The same tenant, whose keys are replaced after they have signed for this long.
    #[must_use]
    pub fn with_rotation(mut self, every: Option<Span>) -> Self {
        self.rotate = every;
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.setup.name
    }

    /// The folder of its declared state.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.setup.folder
    }

    /// Its issuer identifier: the public URL and its name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A path below it as the `htu` of a DPoP proof, by the configured public URL.
    pub(super) fn htu(&self, path: &str) -> Result<Cow<'_, Htu>, Refusal> {
        if path == TOKEN {
            return Ok(Cow::Borrowed(&self.token_htu));
        }
        Htu::parse(&format!("{}{path}", self.issuer))
            .map(Cow::Owned)
            .map_err(|_| Refusal::new(Rule::NotFound).field("path"))
    }

    /// The origin of its ledger (C2SP tlog-checkpoint): the issuer without the scheme, or another
    /// since it was restored.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Refuses what was made before the ledger was restored: whether it was used then, the ledger
    /// does not know any more (DESIGN section 7).
    pub(super) fn check_made(&self, proof: &VerifiedProof) -> Result<(), Refusal> {
        let Some(restored_at) = self.restored_at.filter(|at| proof.made() < *at) else {
            return Ok(());
        };
        let got = match proof.issued() {
            Some(issued) => format!("one made at {issued}"),
            None => format!(
                "one that does not say, and is valid until {}",
                proof.expires()
            ),
        };
        Err(Refusal::new(Rule::BeforeRestore)
            .field("iat")
            .wanted(format!("a token made after {restored_at}"))
            .got(got)
            .hint("ask the platform for another token; a job that has only one runs again"))
    }

    /// The same of a person's token: whether the session that it is of has ended, the ledger does not
    /// know any more.
    pub(super) fn check_subject_made(&self, person: &VerifiedSubject) -> Result<(), Refusal> {
        let refused = self.made_before_restore("subject_token iat", person.issued());
        refused.map_or(Ok(()), |refusal| {
            Err(refusal.hint("ask the person's provider for another token"))
        })
    }

    /// The same of the ID token of somebody who operates.
    pub(super) fn check_operator_made(&self, who: &VerifiedPerson) -> Result<(), Refusal> {
        let refused = self.made_before_restore("id_token iat", who.issued());
        refused.map_or(Ok(()), |refusal| Err(refusal.hint("log in again")))
    }

    fn made_before_restore(&self, field: &str, issued: Time) -> Option<Refusal> {
        let restored_at = self.restored_at.filter(|at| issued < *at)?;
        Some(
            Refusal::new(Rule::BeforeRestore)
                .field(field)
                .wanted(format!("a token made after {restored_at}"))
                .got(format!("one made at {issued}")),
        )
    }

    /// How it stands with the keys of its issuers, and of those that share their origins.
    #[must_use]
    pub fn issuer_keys(&self) -> Vec<KeyStatus> {
        self.setup.keys.status()
    }

    /// How it stands with the clusters that are asked about tokens, whichever tenant asks.
    #[must_use]
    pub fn token_reviews(&self) -> Vec<ReviewStatus> {
        self.setup.keys.reviews()
    }

    /// What its declared state is read against.
    #[must_use]
    pub const fn context(&self) -> &TenantContext {
        &self.setup.context
    }

    /// The declared state in force.
    #[must_use]
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its keys as they stand now.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A state of it, to be compared with those of the other tenants.
    pub(super) const fn neighbour<'a>(&'a self, declared: &'a Declared) -> Neighbour<'a> {
        neighbour_of(&self.setup, declared)
    }

    /// Whether its folder says something else than the declared state in force.
    #[must_use]
    pub fn differs_from_folder(&self) -> bool {
        Source::read_folder(self.folder())
            .map_or(true, |source| source.hash() != self.loaded().source.hash())
    }

    /// Loads the revision that the store holds, when it is another than the one in force.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn reload(&self, store: &dyn Store, now: Time) -> Result<(), OpenError> {
        let (revision, source) = read_source(store, &self.setup)?;
        if revision == self.loaded().revision {
            return Ok(());
        }
        let source = source.ok_or_else(|| OpenError::Stored("it is gone".to_owned()))?;
        self.take(store, revision, source, now).await
    }

    /// Loads the revision in force once more: files that it names, like secrets, may have changed.
    ///
    /// # Errors
    /// [`OpenError`]; what was loaded before then stays.
    pub(super) async fn refresh(&self, store: &dyn Store, now: Time) -> Result<(), OpenError> {
        let held = self.loaded();
        self.take(store, held.revision, held.source.clone(), now)
            .await
    }

    /// A state that was in force, by its hash, for a look at what it declared; none where it is not
    /// kept any more or does not load.
    pub(super) fn formerly(
        &self,
        store: &dyn Store,
        hash: &Digest,
    ) -> Result<Option<Arc<Loaded>>, OpenError> {
        let Some(source) = kept_source(store, self.name(), self.folder(), hash)? else {
            return Ok(None);
        };
        let handed = hand_overs(store, self.name())?;
        match load(&self.setup, &self.master, (0, source), &handed) {
            Ok(loaded) => Ok(Some(Arc::new(loaded))),
            Err(why) => {
                tracing::warn!(%why, tenant = %self.name(), "a former declared state does not load any more: everything counts as changed");
                Ok(None)
            }
        }
    }

    async fn take(
        &self,
        store: &dyn Store,
        revision: u64,
        source: Source,
        now: Time,
    ) -> Result<(), OpenError> {
        let handed = hand_overs(store, self.name())?;
        let loaded = load(&self.setup, &self.master, (revision, source), &handed)?;
        self.make_wanted(store, &loaded.wanted, now).await?;
        let mut held = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // Two reloads may race: the later revision stays.
        if held.revision <= loaded.revision {
            *held = Arc::new(loaded);
        }
        Ok(())
    }
}

fn read_source(store: &dyn Store, setup: &TenantSetup) -> Result<(u64, Option<Source>), OpenError> {
    let facts = store.facts(
        &setup.name,
        &FactsQuery {
            documents: Some(DECLARED),
            ..FactsQuery::default()
        },
    )?;
    let source = facts
        .documents
        .iter()
        .find(|(name, _)| name == DECLARED)
        .map(|(_, bytes)| {
            Source::from_bytes(bytes, &setup.folder)
                .map_err(|why| OpenError::Stored(why.to_string()))
        })
        .transpose()?;
    Ok((facts.revision, source))
}

/// Who answers for the workloads of offboarded owners. It is read after the revision: one that came
/// between both moved it, so that whoever decides by this is told to load once more.
pub(super) fn hand_overs(store: &dyn Store, tenant: &Name) -> Result<HandOvers, Unavailable> {
    let query = FactsQuery {
        documents: Some(HANDED),
        ..FactsQuery::default()
    };
    HandOvers::of(&store.facts(tenant, &query)?.documents)
}

async fn first_source(
    store: &dyn Store,
    setup: &TenantSetup,
    revision: u64,
    now: Time,
) -> Result<Source, OpenError> {
    let source =
        Source::read_folder(&setup.folder).map_err(|why| OpenError::Declared(vec![why]))?;
    // A source that does not load is never recorded.
    let (declared, _) = Declared::load(&source, &setup.context).map_err(OpenError::Declared)?;
    Policies::load(&source, &declared).map_err(OpenError::Declared)?;
    let annex = Annex {
        salt: random::bytes()?,
        data: json!({"reason": "the first declared state of an empty tenant"}).to_string(),
    };
    store
        .append(
            &setup.name,
            Revisions::default().activate(Activation {
                source: &source,
                longest: longest_life(&declared),
                former: None,
                revision,
                now,
                annex,
                by: None,
                ends: 0,
            }),
        )
        .await?;
    Ok(source)
}

fn load(
    setup: &TenantSetup,
    master: &MasterKey,
    (revision, source): (u64, Source),
    handed: &HandOvers,
) -> Result<Loaded, OpenError> {
    let (mut declared, mut warnings) =
        Declared::load(&source, &setup.context).map_err(OpenError::Declared)?;
    handed.apply(&mut declared);
    // What is in force was checked when it was applied. What only an earlier build took permits
    // nothing, and must not keep the server from ending what runs.
    let (policies, doubts) = Policies::in_force(&source, &declared);
    warnings.extend(doubts);
    let algs: HashMap<Name, Alg> = declared
        .resources
        .iter()
        .map(|(name, resource)| (name.clone(), resource.signing))
        .collect();
    let mut signing: BTreeSet<Alg> = algs.values().copied().collect();
    signing.insert(Alg::Es256);
    let signing: Vec<Alg> = signing.into_iter().collect();
    let index = MatchIndex::of(&declared);
    let secret = master.derived("people", &setup.name);
    let pseudonyms = Arc::new(Pseudonyms::new(&secret));
    let receivers = declared.transmitters.iter().map(|(name, transmitter)| {
        let receiver = Receiver::new(transmitter, &setup.keys, Arc::clone(&pseudonyms));
        (name.clone(), Arc::new(receiver))
    });
    let receivers = receivers.collect();
    let verifier = Verifier::new(
        Recipient {
            token_endpoint: format!("{}/token", setup.context.issuer),
            issuer: setup.context.issuer.clone(),
        },
        declared.issuers.values(),
        setup.proofs,
        &setup.keys,
        Pseudonyms::new(&secret),
    );
    Ok(Loaded {
        revision,
        source,
        verifier,
        index,
        wanted: wanted(&signing),
        algs,
        warnings,
        declared: Arc::new(declared),
        receivers,
        pseudonyms,
        policies: Arc::new(policies),
    })
}

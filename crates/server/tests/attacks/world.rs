//! A server in this process: two tenants, a clock that is set by hand, and a door in front of the store.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{Bounds, Name, Span, TaskId, Time};
use dayfly_server::app::{
    App, HeadSinks, Journal, ObeyingStore, ServerBounds, Tenant, TenantSetup,
};
use dayfly_server::config;
use dayfly_server::declared::TenantContext;
use dayfly_server::http;
use dayfly_server::http::door::DoorSetup;
use dayfly_server::mint::MasterKey;
use dayfly_server::telemetry::Metrics;
use dayfly_server::verify::{KeyCache, ProofBounds};
use dayfly_store::clock::{Clock, ManualClock};
use dayfly_store::{
    Answer, Append, AppendError, Change, Committed, EntryRange, Facts, FactsQuery, MemoryStore,
    Observed, OpenFilter, OpenTask, SearchKey, SqliteOptions, SqliteStore, Store, StoredEntry,
    Touch, TreeHead, Unavailable, Use,
};
use dayfly_token::alg::Alg;
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When every world begins: a multiple of every bucket of time that the server counts in.
pub(crate) const BEGIN: u64 = 1_800_000_000;
/// What clients see; the port they reach is another.
pub(crate) const PUBLIC: &str = "https://dayfly.example";
pub(crate) const ISSUER: &str = "https://dayfly.example/acme";
/// Where people operate the server.
pub(crate) const ADMIN: &str = "https://ops.example:8441";
pub(crate) const ARTIFACTS: &str = "https://artifacts.example/api";
pub(crate) const QUEUE: &str = "https://queue.example/api";

/// The declared state of both tenants, unless a test brings its own.
pub(crate) const TENANT: &str = r#"
[issuer.github]
kind = "github"
jwks = { file = "jwks.json" }

[owner.team]
name    = "Team"
contact = "team@example.com"
members = ["group:team"]

[resource.artifacts]
url = "https://artifacts.example/api"
secret_file = "artifacts.secret"

[resource.queue]
url = "https://queue.example/api"
secret_file = "queue.secret"

[resource.keyed]
url = "https://keyed.example/api"
jwks = { file = "keyed.json" }

[type.artifact]
fields = { bytes = "max", region = "exact" }

[workload.release]
owner   = "team"
kind    = "ci"
purpose = "publish"
match   = { issuer = "github", repository_id = "1" }
heartbeat = { mode = "auto", every = "30s", grace = "5m" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*", bytes = 100, region = ["eu", "us"], scope = "artifacts:publish" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*", scope = "queue:read" },
]

[workload.matrix]
owner   = "team"
kind    = "ci"
purpose = "many jobs of one run"
match   = { issuer = "github", repository_id = "2" }
task    = "run"
repeat  = "join"
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" },
]

[workload.legacy]
owner   = "team"
kind    = "ci"
purpose = "a client without a key"
match   = { issuer = "github", repository_id = "3" }
token   = { ttl = "5m", binding = "optional" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*" },
]
"#;

/// Permits what is declared.
pub(crate) const BASELINE: &str = "@id(\"baseline\")\npermit (principal, action, resource);\n";

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<Door>,
    pub(crate) app: Arc<App>,
    pub(crate) http: reqwest::Client,
    pub(crate) folder: Arc<TempDir>,
    address: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl World {
    /// A server over SQLite.
    pub(crate) async fn new() -> Self {
        Self::declared(TENANT).await
    }

    /// A server over SQLite whose tenants declare this.
    pub(crate) async fn declared(tenant: &str) -> Self {
        Self::build(tenant, |folder, clock| {
            let mut options = SqliteOptions::new(folder.join("dayfly.db"));
            options.clock = clock;
            Arc::new(SqliteStore::open(options).unwrap())
        })
        .await
    }

    /// A server over a store in memory, which fails on demand.
    pub(crate) async fn in_memory() -> (Self, Arc<MemoryStore>) {
        Self::in_memory_declared(TENANT).await
    }

    /// The same whose tenants declare this.
    /// The same, whose tenants declare this.
    pub(crate) async fn in_memory_declared(tenant: &str) -> (Self, Arc<MemoryStore>) {
        let memory = OnceLock::new();
        let world = Self::build(tenant, |_, clock| {
            let store = Arc::new(MemoryStore::new(clock));
            assert!(memory.set(Arc::clone(&store)).is_ok());
            store
        })
        .await;
        let memory = memory.into_inner().unwrap();
        (world, memory)
    }

    async fn build(
        tenant: &str,
        store: impl FnOnce(&Path, Arc<dyn Clock>) -> Arc<dyn Store>,
    ) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        for name in ["acme", "other"] {
            write_tenant(&folder.path().join(name), tenant);
        }
        let clock = Arc::new(ManualClock::at(Time::from_seconds(BEGIN)));
        let store = store(folder.path(), clock.clone());
        let store = Arc::new(Door {
            inner: store,
            first: Mutex::default(),
            then: Mutex::default(),
            before_ends: Mutex::default(),
            first_revision: Mutex::default(),
            then_revision: Mutex::default(),
            first_lift: Mutex::default(),
            first_resumed: Mutex::default(),
            first_block: Mutex::default(),
            first_word: Mutex::default(),
            first_use: Mutex::default(),
            then_use: Mutex::default(),
            blind: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            entries_read: AtomicU64::new(0),
            facts_read: AtomicU64::new(0),
            facts_fail: AtomicBool::new(false),
            appends: AtomicU64::new(0),
            readers: Mutex::default(),
        });
        Self::serve(folder, clock, store, None, true).await
    }

    /// The same under a server whose journal cannot be had.
    pub(crate) async fn restarted_without_journal(&self) -> Self {
        Self::serve(
            Arc::clone(&self.folder),
            Arc::clone(&self.clock),
            Arc::clone(&self.store),
            None,
            false,
        )
        .await
    }

    /// The same under a server that replaces its keys after they have signed for this long.
    pub(crate) async fn restarted_rotating(&self, seconds: u64) -> Self {
        Self::serve(
            Arc::clone(&self.folder),
            Arc::clone(&self.clock),
            Arc::clone(&self.store),
            Some(Span::from_seconds(seconds)),
            true,
        )
        .await
    }

    /// The same store and folder under a server that has just started.
    pub(crate) async fn restarted(&self) -> Self {
        Self::serve(
            Arc::clone(&self.folder),
            Arc::clone(&self.clock),
            Arc::clone(&self.store),
            None,
            true,
        )
        .await
    }

    async fn serve(
        folder: Arc<TempDir>,
        clock: Arc<ManualClock>,
        store: Arc<Door>,
        rotate: Option<Span>,
        journaled: bool,
    ) -> Self {
        let master = Arc::new(MasterKey::load(&folder.path().join("master.key"), false).unwrap());
        let keys = Arc::new(KeyCache::new());
        let mut tenants = Vec::new();
        for name in ["acme", "other"] {
            let setup = TenantSetup {
                name: name.parse().unwrap(),
                folder: folder.path().join(name),
                context: TenantContext {
                    issuer: format!("{PUBLIC}/{name}"),
                    bounds: config::Bounds::default(),
                    operators: Some("https://idp.example".to_owned()),
                },
                proofs: ProofBounds::default(),
                keys: Arc::clone(&keys),
            };
            tenants.push(
                Tenant::open(store.as_ref(), setup, Arc::clone(&master), clock.now())
                    .await
                    .unwrap()
                    .with_rotation(rotate),
            );
        }
        let bounds = ServerBounds {
            domain: Bounds::default(),
            token_bytes: 4096,
            leaf_bytes: 8192,
            request_bytes: 65_536,
        };
        let obeying = ObeyingStore::new(
            store.clone(),
            clock.clone(),
            journaled.then(|| Journal::open(folder.path()).unwrap()),
        );
        let app = App::new(
            Arc::new(obeying),
            clock.clone(),
            bounds,
            tenants,
            HeadSinks::new(vec![folder.path().join("heads.log")]),
        )
        .unwrap()
        .operated_at(Some(ADMIN.to_owned()));
        let app = Arc::new(app);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = http::router(Arc::clone(&app));
        let serving = tokio::spawn(async move {
            let peers = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
            axum::serve(listener, peers).await.unwrap();
        });
        #[expect(clippy::disallowed_methods, reason = "the test is its own client")]
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            clock,
            store,
            app,
            http,
            folder,
            address,
            serving,
        }
    }

    /// The same server behind its front door, to which this machine's callers are proxies.
    pub(crate) async fn behind_the_door(self, rates: config::AddressRates) -> Self {
        self.behind(rates, &["127.0.0.0/8"]).await
    }

    /// The same server behind its front door, to which these are proxies.
    pub(crate) async fn behind(mut self, rates: config::AddressRates, proxies: &[&str]) -> Self {
        let metrics = Arc::new(Metrics::default());
        let setup = DoorSetup {
            trusted_proxies: proxies.iter().map(|text| text.parse().unwrap()).collect(),
            metrics: Arc::clone(&metrics),
            ..DoorSetup::default()
        };
        let door = http::door::Door::bind("127.0.0.1:0".parse().unwrap(), setup)
            .await
            .unwrap();
        self.serving.abort();
        self.address = door.address().unwrap().to_string();
        let router = http::front(Arc::clone(&self.app), rates, metrics);
        let (stop, stopping) = tokio::sync::watch::channel(false);
        self.serving = tokio::spawn(async move {
            let _held = stop;
            door.serve(router, stopping).await;
        });
        self
    }

    pub(crate) fn tenant(&self) -> Arc<Tenant> {
        Arc::clone(self.app.tenant("acme").unwrap())
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().seconds()
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.advance(Span::from_seconds(seconds));
    }

    /// How many entries the ledger of `acme` holds.
    pub(crate) fn size(&self) -> u64 {
        self.store.head(&acme()).unwrap().size
    }

    /// All leaves of `acme`.
    pub(crate) fn leaves(&self) -> Vec<Value> {
        let mut leaves = Vec::new();
        loop {
            let from = EntryRange::From(leaves.len() as u64);
            let page = self.store.entries(&acme(), from, 1000).unwrap();
            if page.is_empty() {
                return leaves;
            }
            leaves.extend(
                page.iter()
                    .map(|entry| serde_json::from_str::<Value>(&entry.leaf).unwrap()),
            );
        }
    }

    /// How many leaves of a kind there are about a task.
    pub(crate) fn count(&self, kind: &str, task: &str) -> usize {
        let of = |leaf: &&Value| leaf["kind"] == kind && leaf["task"] == task;
        self.leaves().iter().filter(of).count()
    }

    pub(crate) fn store_size(&self, tenant: &str) -> u64 {
        self.store.head(&tenant.parse().unwrap()).unwrap().size
    }

    /// Whether a task is open.
    pub(crate) fn is_open(&self, task: &str) -> bool {
        self.is_open_at("acme", task)
    }

    pub(crate) fn is_open_at(&self, tenant: &str, task: &str) -> bool {
        let id: TaskId = task.parse().unwrap();
        let query = FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        };
        let facts = self.store.facts(&tenant.parse().unwrap(), &query).unwrap();
        facts.tasks.into_iter().flatten().next().is_some()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request below the tenant `acme`.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        self.send_to(method, &format!("/acme{path}"), headers, body)
            .await
    }

    pub(crate) async fn send_to(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        let url = format!("http://{}{path}", self.address);
        let mut request = self
            .http
            .request(method.parse().unwrap(), url)
            .body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply {
            status,
            headers,
            text,
            body,
        }
    }

    /// Sends a form below the tenant `acme`.
    pub(crate) async fn form(
        &self,
        path: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut all = vec![("content-type", FORM)];
        all.extend_from_slice(headers);
        self.send("POST", path, &all, encoded(form)).await
    }
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Reply {
    /// Status, OAuth error and rule.
    pub(crate) fn refusal(&self) -> (u16, &str, &str) {
        (
            self.status,
            self.body["error"].as_str().unwrap_or_default(),
            self.rule(),
        )
    }

    pub(crate) fn rule(&self) -> &str {
        self.body["refused"]["rule"].as_str().unwrap_or_default()
    }

    pub(crate) fn str(&self, member: &str) -> &str {
        self.body[member]
            .as_str()
            .unwrap_or_else(|| panic!("no `{member}` in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

pub(crate) fn acme() -> Name {
    "acme".parse().unwrap()
}

/// The key of the platform that every world trusts.
pub(crate) fn platform() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate(Alg::Rs256).unwrap())
}

/// A name that nothing else has.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("unique-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

pub(crate) fn write_tenant(folder: &Path, tenant: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let jwk = platform().public_jwk().published("k1", Alg::Rs256);
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("jwks.json", &json!({"keys": [jwk]}).to_string());
    write("artifacts.secret", "secret of artifacts\n");
    write("queue.secret", "secret of queue\n");
    write("events.secret", "the-secret-of-events\n");
    write("mail.secret", "secret of mail\n");
    write("reviewer.token", "the token of the reviewer\n");
    for name in ["hook", "hook-old"] {
        write(
            &format!("{name}.secret"),
            &format!("the secret of {name}\n"),
        );
        let key = STANDARD.encode(format!("{name}: a key of Standard Webhooks"));
        write(&format!("{name}.whsec"), &format!("whsec_{key}\n"));
    }
    write(
        "keyed.json",
        &json!({"keys": [platform().public_jwk().published("r1", Alg::Rs256)]}).to_string(),
    );
    // What differs between both.
    let own = folder.file_name().unwrap().to_str().unwrap();
    write("tenant.toml", &tenant.replace("TENANT", own));
    let policies = folder.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("baseline.cedar"), BASELINE).unwrap();
}

/// What goes on before an append is handed over.
type Before = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store that lets something happen in the moment before a decision is recorded.
pub(crate) struct Door {
    inner: Arc<dyn Store>,
    first: Mutex<Option<Before>>,
    then: Mutex<Option<Before>>,
    before_ends: Mutex<Vec<Before>>,
    first_revision: Mutex<Option<Before>>,
    then_revision: Mutex<Option<Before>>,
    first_lift: Mutex<Option<Before>>,
    first_resumed: Mutex<Option<Before>>,
    first_block: Mutex<Option<Before>>,
    first_word: Mutex<Option<Before>>,
    first_use: Mutex<Option<Before>>,
    then_use: Mutex<Option<Before>>,
    /// Whether nothing can be read.
    blind: AtomicBool,
    reads: AtomicU64,
    entries_read: AtomicU64,
    facts_read: AtomicU64,
    facts_fail: AtomicBool,
    appends: AtomicU64,
    /// The threads that read entries.
    readers: Mutex<Vec<std::thread::ThreadId>>,
}

impl Door {
    /// The store behind it.
    pub(crate) fn inner(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner)
    }

    /// The threads that have read entries since this was asked last.
    pub(crate) fn readers(&self) -> Vec<std::thread::ThreadId> {
        std::mem::take(&mut self.readers.lock().unwrap())
    }

    /// Before the next append that changes a task is handed over, this goes first.
    pub(crate) fn before_next(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first.lock().unwrap() = Some(Box::pin(first));
    }

    /// After the next append that changes a task is durable and before it is answered, this goes.
    pub(crate) fn after_next(&self, then: impl Future<Output = ()> + Send + 'static) {
        *self.then.lock().unwrap() = Some(Box::pin(then));
    }

    /// Before each append that ends a task, one of these goes first.
    pub(crate) fn before_end(&self, first: impl Future<Output = ()> + Send + 'static) {
        self.before_ends.lock().unwrap().push(Box::pin(first));
    }

    /// Before the next declared state comes into force, this goes.
    pub(crate) fn before_revision(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_revision.lock().unwrap() = Some(Box::pin(first));
    }

    /// After the next declared state is durable and before it is answered, this goes.
    pub(crate) fn after_revision(&self, then: impl Future<Output = ()> + Send + 'static) {
        *self.then_revision.lock().unwrap() = Some(Box::pin(then));
    }

    /// Has nothing be read, or everything again.
    pub(crate) fn fail_reads(&self, blind: bool) {
        self.blind.store(blind, Ordering::SeqCst);
    }

    fn check_sight(&self) -> Result<(), Unavailable> {
        if self.blind.load(Ordering::SeqCst) {
            return Err(Unavailable("nothing can be read".to_owned()));
        }
        Ok(())
    }

    /// Before the next append that lifts a block, this goes.
    pub(crate) fn before_lift(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_lift.lock().unwrap() = Some(Box::pin(first));
    }

    /// Before a stall is recorded as over, this goes.
    pub(crate) fn before_resumed(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_resumed.lock().unwrap() = Some(Box::pin(first));
    }

    /// How often entries were read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many entries were read.
    pub(crate) fn entries_read(&self) -> u64 {
        self.entries_read.load(Ordering::SeqCst)
    }

    /// How often facts were read.
    pub(crate) fn facts_read(&self) -> u64 {
        self.facts_read.load(Ordering::SeqCst)
    }

    /// Whether facts cannot be read from now on.
    pub(crate) fn fail_facts(&self, fail: bool) {
        self.facts_fail.store(fail, Ordering::SeqCst);
    }

    /// How many appends were handed over.
    pub(crate) fn appends(&self) -> u64 {
        self.appends.load(Ordering::SeqCst)
    }

    /// Before the next append that sets a block, this goes.
    pub(crate) fn before_block(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_block.lock().unwrap() = Some(Box::pin(first));
    }

    /// Before the next append that says something of a person, this goes.
    pub(crate) fn before_word(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_word.lock().unwrap() = Some(Box::pin(first));
    }

    /// Before the next uses are handed over, this goes.
    pub(crate) fn before_use(&self, first: impl Future<Output = ()> + Send + 'static) {
        *self.first_use.lock().unwrap() = Some(Box::pin(first));
    }

    /// After the next uses are durable and before they are answered, this goes.
    pub(crate) fn after_use(&self, then: impl Future<Output = ()> + Send + 'static) {
        *self.then_use.lock().unwrap() = Some(Box::pin(then));
    }

    fn before(&self, append: &Append) -> Option<Before> {
        let ends = |change: &Change| change.next.has_ended();
        let lift = (!append.lifts.is_empty()).then(|| self.first_lift.lock().unwrap().take());
        let block = (!append.blocks.is_empty()).then(|| self.first_block.lock().unwrap().take());
        let word = (!append.people.is_empty()).then(|| self.first_word.lock().unwrap().take());
        let resumed = append
            .notes
            .iter()
            .any(|note| note.kind == "ledger.resumed");
        let resumed = resumed.then(|| self.first_resumed.lock().unwrap().take());
        let other = lift.flatten().or(block.flatten()).or(word.flatten());
        let other = other.or(resumed.flatten());
        let next = if let Some(other) = other {
            Some(other)
        } else if append.revises {
            self.first_revision.lock().unwrap().take()
        } else if append.changes.is_empty() {
            None
        } else {
            self.first.lock().unwrap().take()
        };
        next.or_else(|| {
            append
                .changes
                .iter()
                .any(ends)
                .then(|| self.before_ends.lock().unwrap().pop())?
        })
    }
}

impl Store for Door {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let first = self.before(&append);
        let then = if append.revises {
            self.then_revision.lock().unwrap().take()
        } else if append.changes.is_empty() {
            None
        } else {
            self.then.lock().unwrap().take()
        };
        if first.is_none() && then.is_none() {
            return self.inner.append(tenant, append);
        }
        let inner = Arc::clone(&self.inner);
        let tenant = tenant.clone();
        Box::pin(async move {
            if let Some(first) = first {
                first.await;
            }
            let answer = inner.append(&tenant, append).await;
            if let Some(then) = then {
                then.await;
            }
            answer
        })
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        let first = self.first_use.lock().unwrap().take();
        let then = self.then_use.lock().unwrap().take();
        let inner = Arc::clone(&self.inner);
        let tenant = tenant.clone();
        Box::pin(async move {
            if let Some(first) = first {
                first.await;
            }
            let answer = inner.observe(&tenant, uses).await;
            if let Some(then) = then {
                then.await;
            }
            answer
        })
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        self.inner.touch(tenant, touch);
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.facts_read.fetch_add(1, Ordering::SeqCst);
        if self.facts_fail.load(Ordering::SeqCst) {
            return Err(Unavailable("facts fail on demand".to_owned()));
        }
        self.check_sight()?;
        self.inner.facts(tenant, query)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.check_sight()?;
        self.inner.open(tenant, filter, cursor, limit)
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.check_sight()?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        let reader = std::thread::current().id();
        self.readers.lock().unwrap().push(reader);
        let read = self.inner.entries(tenant, range, limit)?;
        self.entries_read
            .fetch_add(read.len() as u64, Ordering::SeqCst);
        Ok(read)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.check_sight()?;
        self.inner.find(tenant, key, cursor, limit)
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.inner.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<dayfly_ledger::Hash>, Unavailable> {
        self.inner.tile(tenant, level, index, width)
    }
}

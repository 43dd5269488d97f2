//! The database of a server that does not run, opened to be read only.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dayfly_domain::{Name, TaskId, Time};
use dayfly_ledger::{Head, Receipt};
use dayfly_server::config::Config;
use dayfly_server::declared::{Declared, HANDED, HandOvers, Source, TenantContext};
use dayfly_server::mint::{Keyring, MasterKey, ledger_keys};
use dayfly_server::record::{self, Comparison, HeadView, Known, RecordError};
use dayfly_server::restore::{Lineage, first_origin};
use dayfly_store::clock::{Clock, SystemClock};
use dayfly_store::{FactsQuery, SqliteOptions, SqliteStore, Store};
use nix::sys::stat::{Mode, umask};

use super::restore;
use crate::output::say;
use crate::serve::DATABASE;

/// A tenant's part of a database.
pub(super) struct Database {
    config: Config,
    store: SqliteStore,
    tenant: Name,
}

/// Where the database of a server is; it must be there.
pub(super) fn path(config: &Config) -> Result<PathBuf> {
    restore::check_finished(&config.data)?;
    let path = config.data.join(DATABASE);
    anyhow::ensure!(
        path.exists(),
        "there is no database {} yet: `dayfly serve` makes it",
        path.display()
    );
    Ok(path)
}

/// Opens the database of a server that does not run, so that none can start meanwhile.
pub(super) fn open_for_writing(config: &Config) -> Result<SqliteStore> {
    let path = path(config)?;
    // What is written is for the server's own user alone, as by `serve`.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let options = SqliteOptions {
        leaf_bytes: config.bounds.leaf_bytes,
        ..SqliteOptions::new(&path)
    };
    SqliteStore::open(options)
        .with_context(|| format!("the database {} does not open", path.display()))
}

impl Database {
    pub(super) fn open(config: &Config, tenant: Name) -> Result<Self> {
        let path = path(config)?;
        let store = SqliteStore::open_read_only(&SqliteOptions::new(&path))
            .with_context(|| format!("the database {} does not open", path.display()))?;
        Ok(Self {
            store,
            config: config.clone(),
            tenant,
        })
    }

    pub(super) fn store(&self) -> &dyn Store {
        &self.store
    }

    pub(super) const fn tenant(&self) -> &Name {
        &self.tenant
    }

    pub(super) fn now(&self) -> Time {
        SystemClock.now()
    }

    /// The names of declared URLs. Without them a trace by such a URL finds less, which is said.
    pub(super) fn known(&self) -> Known {
        match self.declared() {
            Ok(Some(declared)) => Known::of(&declared),
            Ok(None) => Known::default(),
            Err(why) => {
                say(format_args!(
                    "the declared state is not read, so its URLs are not known: {why:#}"
                ));
                Known::default()
            }
        }
    }

    /// The declared state in force.
    pub(super) fn must_declare(&self) -> Result<Declared> {
        self.declared()?
            .with_context(|| format!("tenant {} declares nothing yet", self.tenant))
    }

    fn declared(&self) -> Result<Option<Declared>> {
        const DECLARED: &str = "declared";
        let query = FactsQuery {
            documents: Some(DECLARED),
            ..FactsQuery::default()
        };
        let documents = self.store.facts(&self.tenant, &query)?.documents;
        let Some((_, bytes)) = documents.iter().find(|(name, _)| name == DECLARED) else {
            return Ok(None);
        };
        let source = Source::from_bytes(bytes, &self.config.tenant_folder(&self.tenant))?;
        let context = TenantContext::new(&self.config, &self.tenant);
        match Declared::load(&source, &context) {
            Ok((mut declared, _)) => {
                let query = FactsQuery {
                    documents: Some(HANDED),
                    ..FactsQuery::default()
                };
                let documents = self.store.facts(&self.tenant, &query)?.documents;
                HandOvers::of(&documents)?.apply(&mut declared);
                Ok(Some(declared))
            }
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                anyhow::bail!("{}", errors.join("; "))
            }
        }
    }

    /// The head of the committed ledger, signed with the server's own key.
    pub(super) async fn head(&self) -> Result<HeadView> {
        head(&self.config, &self.store, &self.tenant)
    }

    pub(super) async fn receipt(&self, task: TaskId, with_annex: bool) -> Result<Option<Receipt>> {
        let HeadView { origin, note, .. } = self.head().await?;
        Ok(record::receipt(
            &self.store,
            &self.tenant,
            &origin,
            &note,
            task,
            with_annex,
        )?)
    }

    pub(super) async fn compare(&self, held: &str) -> Result<Comparison> {
        let present = self.head().await?;
        let keys = ledger_keys(&record::keys(&self.store, &self.tenant)?);
        Ok(record::compare(
            &self.store,
            &self.tenant,
            held,
            present,
            &keys,
        )?)
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&dyn Store, &Name) -> Result<T, RecordError>,
    ) -> Result<T> {
        Ok(read(&self.store, &self.tenant)?)
    }
}

/// The head of a tenant's committed ledger, signed with the server's own key.
pub(super) fn head(config: &Config, store: &SqliteStore, tenant: &Name) -> Result<HeadView> {
    let tree = store.head(tenant)?;
    anyhow::ensure!(tree.size > 0, "tenant {tenant} has no ledger yet");
    let origin = Lineage::origin(store, tenant, first_origin(config, tenant))?;
    let keyring = keyring(config, store, tenant, &origin)?;
    let head = Head {
        origin,
        size: tree.size,
        root: tree.root,
    };
    let note = keyring.sign_head(&head)?;
    Ok(record::head_view(&note, &keyring.ledger_keys())?)
}

fn keyring(config: &Config, store: &SqliteStore, tenant: &Name, origin: &str) -> Result<Keyring> {
    let file = &config.key_file;
    let master = MasterKey::load(file, true)
        .with_context(|| format!("a head is signed with the key in {}", file.display()))?;
    Keyring::open(store, &master, tenant, origin).context("the keys of the tenant cannot be read")
}

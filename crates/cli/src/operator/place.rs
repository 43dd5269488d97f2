//! Where the record is: which configuration, which tenant, and whether a server answers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use dayfly_domain::Name;
use dayfly_server::config::Config;
use dayfly_server::http::admin::SOCKET;
use dayfly_store::SqliteStore;

use super::database::{self, Database};
use super::record::{Record, Served};
use crate::admin_socket::AdminSocket;

/// The configuration that is read where none is named.
const DEFAULT: &str = "dayfly.toml";

/// Options of every command that reads the record.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlaceArgs {
    /// The server's configuration file; without it dayfly.toml in this folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A configuration that was read.
pub(super) struct Place {
    pub(super) config: Config,
}

/// Where something can be changed.
pub(super) enum Writable {
    /// A server runs and answers.
    Served(Served),
    /// None does: the database, which is locked meanwhile, and the tenant.
    Offline(Box<SqliteStore>, Name),
}

impl PlaceArgs {
    pub(super) fn read(&self) -> Result<Place> {
        let file = match &self.config {
            Some(file) => file.as_path(),
            None if Path::new(DEFAULT).exists() => Path::new(DEFAULT),
            None => bail!(
                "there is no {DEFAULT} in this folder: name it with --config, on the machine of the server"
            ),
        };
        let config = Config::load(file).map_err(|why| anyhow!("{why}"))?;
        Ok(Place { config })
    }

    /// The record of the tenant: of the running server, or else of its database.
    pub(super) async fn record(&self, tenant: Option<&str>) -> Result<Record> {
        let place = self.read()?;
        let tenant = place.tenant(tenant)?;
        match place.socket().await? {
            Some(socket) => Ok(Record::Served(Served { socket, tenant })),
            None => Ok(Record::Offline(Box::new(Database::open(
                &place.config,
                tenant,
            )?))),
        }
    }

    /// The running server, or else the database open for writing: for what must be possible on the
    /// day on which the server does not start.
    pub(super) async fn writable(&self, tenant: Option<&str>) -> Result<Writable> {
        let place = self.read()?;
        let tenant = place.tenant(tenant)?;
        Ok(match place.socket().await? {
            Some(socket) => Writable::Served(Served { socket, tenant }),
            None => Writable::Offline(Box::new(database::open_for_writing(&place.config)?), tenant),
        })
    }

    /// The running server, for what cannot be done without one.
    pub(super) async fn served(&self, tenant: Option<&str>) -> Result<Served> {
        let place = self.read()?;
        let tenant = place.tenant(tenant)?;
        let socket = place.socket().await?.with_context(|| {
            format!(
                "this needs a running server, and nobody answers on {}",
                place.socket_path().display()
            )
        })?;
        Ok(Served { socket, tenant })
    }
}

impl Place {
    /// The tenant that is named, or the only one.
    pub(super) fn tenant(&self, named: Option<&str>) -> Result<Name> {
        let mut tenants = self.tenants(named)?;
        match (tenants.pop(), tenants.as_slice()) {
            (Some(only), []) => Ok(only),
            (None, _) => bail!(
                "there is no tenant in {}: `dayfly init` makes one",
                self.config.tenants.display()
            ),
            (Some(last), others) => {
                let mut names: Vec<&str> = others.iter().map(Name::as_str).collect();
                names.push(last.as_str());
                bail!("name one of the tenants {} with --tenant", names.join(", "))
            }
        }
    }

    /// The tenant that is named, or all of them.
    pub(super) fn tenants(&self, named: Option<&str>) -> Result<Vec<Name>> {
        let names = self.config.tenant_names().map_err(|why| anyhow!("{why}"))?;
        let Some(named) = named.filter(|named| !named.is_empty()) else {
            return Ok(names);
        };
        match names.iter().find(|name| name.as_str() == named) {
            Some(name) => Ok(vec![name.clone()]),
            None => bail!(
                "there is no tenant `{named}` in {}",
                self.config.tenants.display()
            ),
        }
    }

    pub(super) async fn socket(&self) -> Result<Option<AdminSocket>> {
        AdminSocket::find(&self.socket_path()).await
    }

    fn socket_path(&self) -> PathBuf {
        self.config.data.join(SOCKET)
    }
}

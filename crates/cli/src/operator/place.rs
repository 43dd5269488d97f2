//! Where the record is: which configuration, which tenant, and whether a server answers.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use dayfly_domain::Name;
use dayfly_server::config::Config;
use dayfly_server::http::admin::SOCKET;
use dayfly_store::SqliteStore;
use serde::Deserialize;

use super::database::{self, Database};
use super::record::{Record, Served};
use crate::admin_face::{AdminFace, AdminSocket};
use crate::login::{AdminUrl, RemoteFace};

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

/// What the command line and the environment say of where to go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At<'a> {
    /// The server, by the URL of its admin listener.
    pub(crate) server: Option<&'a str>,
    /// Whether it stands on the command line.
    pub(crate) named: bool,
    /// The tenant.
    pub(crate) tenant: Option<&'a str>,
}

/// Where a tenant's record is.
pub(super) enum Found {
    /// Behind a server that runs.
    Served(Served),
    /// With a configuration whose server does not run.
    Local(Box<Place>, Name),
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
                "there is no {DEFAULT} in this folder: name it with --config, on the machine of the server, or name the server with --server"
            ),
        };
        let config = Config::load(file).map_err(|why| anyhow!("{why}"))?;
        Ok(Place { config })
    }

    /// Where the tenant's record is: behind a server that is named or answers, or with the
    /// configuration.
    ///
    /// # Errors
    /// Both a server and a configuration are named, or neither can be used.
    pub(super) async fn find(&self, at: At<'_>) -> Result<Found> {
        if let Some(server) = self.server(at)? {
            let (server, named) = AdminUrl::parse(server)?;
            let face = RemoteFace::of(server).await?;
            let tenant = match at.tenant.filter(|tenant| !tenant.is_empty()) {
                Some(tenant) => parsed(tenant)?,
                None => match named {
                    Some(tenant) => parsed(&tenant)?,
                    None => only_tenant(&face).await?,
                },
            };
            let face = AdminFace::Remote(face);
            return Ok(Found::Served(Served { face, tenant }));
        }
        let place = self.read()?;
        let tenant = place.tenant(at.tenant)?;
        Ok(match place.socket().await? {
            Some(socket) => Found::Served(Served {
                face: AdminFace::Socket(socket),
                tenant,
            }),
            None => Found::Local(Box::new(place), tenant),
        })
    }

    /// The server to ask; none where a configuration says where. What stands on the command line
    /// counts more than what stands in the environment.
    fn server<'a>(&self, at: At<'a>) -> Result<Option<&'a str>> {
        let server = at.server.filter(|server| !server.is_empty());
        if self.config.is_none() {
            return Ok(server);
        }
        ensure!(
            !(at.named && server.is_some()),
            "--server and --config name two places: give one of them"
        );
        Ok(None)
    }

    /// The record of the tenant: of the running server, or else of its database.
    pub(super) async fn record(&self, at: At<'_>) -> Result<Record> {
        Ok(match self.find(at).await? {
            Found::Served(served) => Record::Served(served),
            Found::Local(place, tenant) => {
                Record::Offline(Box::new(Database::open(&place.config, tenant)?))
            }
        })
    }

    /// The running server, or else the database open for writing: for what must be possible on the
    /// day on which the server does not start.
    pub(super) async fn writable(&self, at: At<'_>) -> Result<Writable> {
        Ok(match self.find(at).await? {
            Found::Served(served) => Writable::Served(served),
            Found::Local(place, tenant) => {
                let store = database::open_for_writing(&place.config)?;
                Writable::Offline(Box::new(store), tenant)
            }
        })
    }

    /// The running server, for what cannot be done without one.
    pub(super) async fn served(&self, at: At<'_>) -> Result<Served> {
        match self.find(at).await? {
            Found::Served(served) => Ok(served),
            Found::Local(place, _) => bail!(
                "this needs a running server, and nobody answers on {}",
                place.socket_path().display()
            ),
        }
    }
}

/// The tenants that a server shows.
#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    tenant: Name,
}

async fn only_tenant(face: &RemoteFace) -> Result<Name> {
    let listed: Tenants = face.get("/admin").await?;
    let mut names: Vec<Name> = listed.tenants.into_iter().map(|of| of.tenant).collect();
    match (names.pop(), names.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => bail!("the server shows you no tenant"),
        (Some(last), others) => {
            let mut names: Vec<&str> = others.iter().map(Name::as_str).collect();
            names.push(last.as_str());
            bail!("name one of the tenants {} with --tenant", names.join(", "))
        }
    }
}

fn parsed(tenant: &str) -> Result<Name> {
    tenant
        .parse()
        .map_err(|why| anyhow!("`{tenant}` is not the name of a tenant: {why}"))
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

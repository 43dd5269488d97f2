//! Which tenant of which server a run talks to.

use anyhow::{Context, Result, bail, ensure};
use url::Url;

use crate::http::is_loopback;

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// In a job the server's public URL, with the tenant at its end where --tenant is not given; for who
    /// operates it the address of its admin listener
    #[arg(
        long,
        env = "DAYFLY_SERVER",
        hide_env_values = true,
        global = true,
        value_name = "URL"
    )]
    pub(crate) server: Option<String>,
    /// The tenant
    #[arg(
        long,
        env = "DAYFLY_TENANT",
        hide_env_values = true,
        global = true,
        value_name = "NAME"
    )]
    pub(crate) tenant: Option<String>,
}

/// A tenant's place: `<public_url>/<tenant>`, which is its issuer identifier.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    issuer: String,
    public_url: String,
    tenant: String,
    metadata_url: Url,
}

impl ServerArgs {
    /// The tenant, where a server is given at all.
    pub(crate) fn address(&self) -> Result<Option<Address>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let Some(server) = given(&self.server) else {
            return Ok(None);
        };
        Address::of(&server, given(&self.tenant).as_deref()).map(Some)
    }
}

impl Address {
    fn of(server: &str, tenant: Option<&str>) -> Result<Self> {
        let server = server.strip_suffix('/').unwrap_or(server);
        let url = Url::parse(server).with_context(|| format!("`{server}` is not a URL"))?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        ensure!(
            plain && url.password().is_none(),
            "the server's URL holds more than a place"
        );
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            _ => bail!("the server's URL must begin with https (http only on loopback)"),
        }
        let (public_url, tenant) = match tenant {
            Some(tenant) => (server, tenant),
            None => server
                .rsplit_once('/')
                .filter(|_| url.path().len() > 1)
                .context("name the tenant with --tenant or DAYFLY_TENANT")?,
        };
        ensure!(is_tenant(tenant), "`{tenant}` is not the name of a tenant");
        let mut metadata_url = Url::parse(public_url)?;
        let above = metadata_url.path().trim_end_matches('/').to_owned();
        metadata_url.set_path(&format!(
            "/.well-known/oauth-authorization-server{above}/{tenant}"
        ));
        Ok(Self {
            issuer: format!("{public_url}/{tenant}"),
            public_url: public_url.to_owned(),
            tenant: tenant.to_owned(),
            metadata_url,
        })
    }

    /// The issuer identifier, as the server writes it.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The server's public URL.
    pub(crate) fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The tenant's name.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Where the tenant's metadata stands (RFC 8414 section 3.1).
    pub(crate) fn metadata_url(&self) -> &Url {
        &self.metadata_url
    }

    /// A place below the tenant.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}/{path}", self.issuer)
    }
}

fn is_tenant(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_stands_beside_the_server_or_at_its_end() {
        for (server, tenant) in [
            ("https://x.example", Some("acme")),
            ("https://x.example/", Some("acme")),
            ("https://x.example/acme", None),
            ("https://x.example/acme/", None),
        ] {
            let address = Address::of(server, tenant).unwrap();
            assert_eq!(address.issuer(), "https://x.example/acme");
            assert_eq!(address.public_url(), "https://x.example");
            assert_eq!(address.tenant(), "acme");
            assert_eq!(
                address.metadata_url().as_str(),
                "https://x.example/.well-known/oauth-authorization-server/acme"
            );
        }
        let below = Address::of("https://x.example/dayfly", Some("acme")).unwrap();
        assert_eq!(
            below.metadata_url().as_str(),
            "https://x.example/.well-known/oauth-authorization-server/dayfly/acme"
        );
    }

    #[test]
    fn other_places_are_refused() {
        for (server, tenant) in [
            ("https://x.example", None),
            ("http://x.example", Some("acme")),
            ("ftp://x.example", Some("acme")),
            ("x.example", Some("acme")),
            ("https://x.example?a", Some("acme")),
            ("https://u:p@x.example", Some("acme")),
            ("https://x.example", Some("a/b")),
        ] {
            assert!(Address::of(server, tenant).is_err(), "{server}");
        }
        assert!(Address::of("http://127.0.0.1:8440", Some("acme")).is_ok());
    }
}

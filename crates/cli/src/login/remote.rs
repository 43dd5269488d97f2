//! The admin face of a server elsewhere, asked with the login that is kept for it, which is renewed when it runs out.

use std::fmt;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::kept::{Held, Kept, Login};
use super::provider::{Provider, Reply, Tokens, bounded};
use super::{Discovery, accepted};
use crate::admin_face::{ANSWER, TIMEOUT, read};
use crate::clock;
use crate::http::{Clients, is_loopback};
use crate::secret::Secret;

/// So long before its end a login is renewed, so that it does not run out on the way.
const EARLY_SECONDS: u64 = 30;

/// The URL of an admin listener: https, or http on this machine; scheme, host and port alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminUrl(Url);

/// A server elsewhere, and the login for it.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFace {
    server: AdminUrl,
    clients: Clients,
    token: Secret,
}

impl AdminUrl {
    /// Reads a URL, and the tenant where one stands at its end.
    pub(crate) fn parse(text: &str) -> Result<(Self, Option<String>)> {
        let mut url = Url::parse(text).with_context(|| format!("`{text}` is not a URL"))?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        ensure!(
            plain && url.password().is_none() && url.host().is_some(),
            "the server's URL holds more than a place"
        );
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            _ => bail!("the server's URL must begin with https (http only on loopback)"),
        }
        let path = url.path().trim_matches('/').to_owned();
        ensure!(
            !path.contains('/'),
            "`{text}` is more than the URL of an admin listener and a tenant"
        );
        url.set_path("");
        Ok((Self(url), (!path.is_empty()).then_some(path)))
    }

    /// A name of it that a file may have.
    pub(super) fn file_name(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let text = self.to_string().replace("://", "_");
        text.chars()
            .map(|c| if plain(c) { c } else { '_' })
            .collect()
    }

    fn at(&self, path: &str) -> Result<Url> {
        Ok(self.0.join(path)?)
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl RemoteFace {
    /// A server with the login that is kept for it, renewed where it has run out.
    ///
    /// # Errors
    /// Nobody is logged in, or the login has run out and cannot be renewed.
    pub(crate) async fn of(server: AdminUrl) -> Result<Self> {
        let clients = Clients::new()?;
        let held = Kept::of(&server)?.hold()?;
        let login = held.read()?.ok_or_else(|| {
            anyhow!(
                "nobody is logged in to {server}: dayfly login --server {server}, where that is an \
                 admin listener; --config FILE asks a server on this machine without a login"
            )
        })?;
        let until = login.expires.seconds();
        let login = if clock::now_seconds().saturating_add(EARLY_SECONDS) < until {
            login
        } else {
            renewed(&clients, &server, &held, login).await?
        };
        Ok(Self {
            server,
            clients,
            token: login.id_token,
        })
    }

    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        ask(&self.clients, &self.server, path, &self.token).await
    }

    /// Changes.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let call = Call {
            method: Method::POST,
            path,
            token: Some(&self.token),
            body: Some(body),
        };
        answered(&self.clients, &self.server, call).await
    }
}

/// Has the provider give another ID token for the refresh token, and keeps both at once: a refresh
/// token may be good for one use alone.
async fn renewed(clients: &Clients, server: &AdminUrl, held: &Held, login: Login) -> Result<Login> {
    let over = || format!("the login has run out: dayfly login --server {server}");
    let refresh = login.refresh_token.as_ref().with_context(over)?;
    let provider = Provider::discover(clients, &login.issuer).await?;
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.expose()),
        ("client_id", login.client_id.as_str()),
    ];
    let tokens = match provider.token(&form).await? {
        Reply::Done(answer) => Tokens::of(&answer),
        Reply::Refused(error, _) => {
            return Err(anyhow!("the provider says {error}")).with_context(over);
        }
    };
    let refresh_token = tokens.refresh_token.or(login.refresh_token);
    let told = Discovery {
        issuer: login.issuer,
        client_id: login.client_id,
        scopes: None,
    };
    let Some(id_token) = tokens.id_token else {
        return Err(anyhow!("the provider gave no other id token")).with_context(over);
    };
    let tokens = Tokens {
        id_token: Some(id_token),
        refresh_token,
    };
    let (login, _) = accepted(clients, server, &told, tokens).await?;
    held.write(&login)?;
    Ok(login)
}

/// What a server says to whoever wants to log in.
pub(super) async fn discovery(clients: &Clients, server: &AdminUrl) -> Result<Discovery> {
    let call = Call {
        method: Method::GET,
        path: "/operators",
        token: None,
        body: None,
    };
    answered(clients, server, call).await.with_context(|| {
        format!("{server} names no provider of operators: is it the `admin` listener of a server with `[operators]`?")
    })
}

/// Reads with a token.
pub(super) async fn ask<T: DeserializeOwned>(
    clients: &Clients,
    server: &AdminUrl,
    path: &str,
    token: &Secret,
) -> Result<T> {
    let call = Call {
        method: Method::GET,
        path,
        token: Some(token),
        body: None,
    };
    answered(clients, server, call).await
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a Secret>,
    body: Option<&'a Value>,
}

async fn answered<T: DeserializeOwned>(
    clients: &Clients,
    server: &AdminUrl,
    call: Call<'_>,
) -> Result<T> {
    let url = server.at(call.path)?;
    let mut request = clients.of(&url).request(call.method, url).timeout(TIMEOUT);
    if let Some(token) = call.token {
        request = request.bearer_auth(token.expose());
    }
    if let Some(body) = call.body {
        request = request
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
    }
    let sent = request.send().await.map_err(reqwest::Error::without_url);
    let mut response = sent.with_context(|| format!("{server} cannot be asked"))?;
    let status = response.status();
    let body = bounded(&mut response, ANSWER).await?;
    let answer = read(status, &body);
    if status == StatusCode::UNAUTHORIZED && call.token.is_some() {
        return answer.with_context(|| {
            format!("the server does not take the login (dayfly login --server {server})")
        });
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_scheme_host_and_port_and_maybe_a_tenant() {
        for (text, server, tenant) in [
            ("https://d.example:8441", "https://d.example:8441", None),
            ("https://d.example:8441/", "https://d.example:8441", None),
            ("https://d.example/acme", "https://d.example", Some("acme")),
            (
                "http://127.0.0.1:8441/acme/",
                "http://127.0.0.1:8441",
                Some("acme"),
            ),
        ] {
            let (url, named) = AdminUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), server);
            assert_eq!(named.as_deref(), tenant);
            assert_eq!(
                url.at("/operators").unwrap().as_str(),
                format!("{server}/operators")
            );
        }
        let (url, _) = AdminUrl::parse("http://[::1]:8441").unwrap();
        assert_eq!(url.file_name(), "http____1__8441");
        for wrong in [
            "d.example",
            "http://d.example",
            "ftp://d.example",
            "https://u:p@d.example",
            "https://d.example?x",
            "https://d.example/a/b",
        ] {
            assert!(AdminUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}

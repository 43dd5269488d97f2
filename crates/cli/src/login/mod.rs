//! Who operates a server from elsewhere: `dayfly login` and `dayfly logout`, and the login behind every other command.

mod device;
mod kept;
mod provider;
mod remote;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dayfly_domain::Time;
use serde::Deserialize;

use crate::http::Clients;
use crate::operator::place::At;
use crate::output::{answer, say};
use kept::{Kept, Login};
use provider::{Provider, Tokens};
pub(crate) use remote::{AdminUrl, RemoteFace};

/// What a server says to whoever wants to log in.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    client_id: String,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

/// Who somebody is to a server.
#[derive(Debug, Deserialize)]
struct Myself {
    iss: String,
    sub: String,
    roles: Vec<String>,
    member_of: BTreeMap<String, Vec<String>>,
    expires: Time,
}

/// The scopes that are asked for where the provider offers them and the server names none.
const USEFUL: [&str; 4] = ["profile", "email", "groups", "offline_access"];

/// Logs in at the provider that the server names.
pub(crate) fn login(at: At<'_>) -> ExitCode {
    run(at, async |server| {
        let clients = Clients::new()?;
        let told: Discovery = remote::discovery(&clients, &server).await?;
        let provider = Provider::discover(&clients, &told.issuer).await?;
        let scopes = scopes(&told, &provider);
        let tokens = device::tokens(&provider, &told.client_id, &scopes, |asked| {
            say(asked);
        })
        .await?;
        let login = accepted(&clients, &server, &told, tokens).await?;
        let (login, myself) = login;
        Kept::of(&server)?.hold()?.write(&login)?;
        Ok(answer(welcome(&server, &myself)))
    })
}

/// Forgets the login, and has the provider forget it where it can.
pub(crate) fn logout(at: At<'_>) -> ExitCode {
    run(at, async |server| {
        let kept = Kept::of(&server)?;
        let held = kept.hold()?;
        let Some(login) = held.read()? else {
            return Ok(answer(format_args!("there is no login for {server}")));
        };
        held.remove()?;
        if let Some(refresh) = &login.refresh_token {
            let clients = Clients::new()?;
            let revoked = match Provider::discover(&clients, &login.issuer).await {
                Ok(provider) => provider.revoke(&login.client_id, refresh).await,
                Err(why) => Err(why),
            };
            if let Err(why) = revoked {
                say(format_args!(
                    "the provider was not told to forget it: {why:#}"
                ));
            }
        }
        Ok(answer(format_args!("logged out of {server}")))
    })
}

fn run(at: At<'_>, command: impl AsyncFnOnce(AdminUrl) -> Result<ExitCode>) -> ExitCode {
    let run = || -> Result<ExitCode> {
        let server = at.server.filter(|server| !server.is_empty()).context(
            "name the server with --server or DAYFLY_SERVER: the URL of its admin listener",
        )?;
        let (server, _) = AdminUrl::parse(server)?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(command(server))
    };
    match run() {
        Ok(code) => code,
        Err(why) => {
            say(format_args!("{why:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What the configuration of the server says, else what is useful of what the provider offers.
fn scopes(told: &Discovery, provider: &Provider) -> String {
    let mut scopes = vec!["openid"];
    match &told.scopes {
        Some(named) => scopes.extend(named.iter().map(String::as_str)),
        None => scopes.extend(USEFUL.iter().filter(|scope| provider.offers(scope))),
    }
    scopes.dedup();
    scopes.join(" ")
}

/// Shows the server a token, and makes a login of it once the server knows who it is.
async fn accepted(
    clients: &Clients,
    server: &AdminUrl,
    told: &Discovery,
    tokens: Tokens,
) -> Result<(Login, Myself)> {
    let Some(id_token) = tokens.id_token else {
        bail!("the provider gave no id token: is `openid` among the scopes of its client?");
    };
    let myself: Myself = remote::ask(clients, server, "/operators/me", &id_token).await?;
    let login = Login {
        issuer: told.issuer.clone(),
        client_id: told.client_id.clone(),
        id_token,
        expires: myself.expires,
        refresh_token: tokens.refresh_token,
    };
    Ok((login, myself))
}

fn welcome(server: &AdminUrl, myself: &Myself) -> String {
    let mut parts = Vec::new();
    if !myself.roles.is_empty() {
        parts.push(myself.roles.join(", "));
    }
    for (tenant, owners) in &myself.member_of {
        if !owners.is_empty() {
            parts.push(format!("member of {} in {tenant}", owners.join(", ")));
        }
    }
    if parts.is_empty() {
        parts.push("without any role, and a member of no owner".to_owned());
    }
    format!(
        "logged in to {server} as {} of {}: {}",
        myself.sub,
        myself.iss,
        parts.join("; ")
    )
}

//! `dayfly token`: a fresh token of the surrounding run, for commands that must hold one.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use reqwest::header::AUTHORIZATION;
use serde_json::{Map, Value};
use url::Url;

use crate::environment;
use crate::http::{Clients, is_loopback};
use crate::output::{self, answer, say};
use crate::runner::block_on;
use crate::runner::server::{read_object, unheard};
use crate::runner::wire::Failure;

/// Options of `dayfly token`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The resource, by name or URL; without it the run's default
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value = "raw", value_name = "FORM")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The token alone
    Raw,
    /// A whole Authorization header
    Header,
    /// The token response
    Json,
}

/// Prints the token.
pub(crate) fn main(args: TokenArgs) -> ExitCode {
    match block_on(ask(args.resource.as_deref())) {
        Ok(Ok(members)) => print(&members, args.format),
        Ok(Err(failure)) => {
            failure.say();
            failure.exit_code().into()
        }
        Err(fault) => {
            say(format_args!("{fault:#}"));
            output::FAILED.into()
        }
    }
}

/// The token response of the surrounding run.
async fn ask(resource: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let inside = |name| {
        environment::variable(name)
            .with_context(|| format!("{name} is not set: this is not inside `dayfly run`"))
    };
    let url = inside(environment::TOKEN_URL)?;
    let secret = inside(environment::TOKEN_SECRET)?;
    let mut url = Url::parse(&url).context("DAYFLY_TOKEN_URL is not a URL")?;
    if !is_loopback(&url) {
        return Err(Failure::Fault(anyhow!(
            "DAYFLY_TOKEN_URL leads off this machine"
        )));
    }
    if let Some(resource) = resource {
        url.query_pairs_mut().append_pair("resource", resource);
    }
    let clients = Clients::new().context("cannot make HTTP requests")?;
    // No time limit: the run waits for its server, and says so.
    let request = clients
        .of(&url)
        .get(url)
        .header(AUTHORIZATION, format!("Bearer {secret}"));
    read_object(request.send().await.map_err(unheard)?).await
}

fn print(members: &Map<String, Value>, format: Format) -> ExitCode {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let (Some(token), Some(token_type)) = (text("access_token"), text("token_type")) else {
        say("the run's answer holds no token");
        return output::FAILED.into();
    };
    if format != Format::Json && token_type.eq_ignore_ascii_case("DPoP") {
        say(
            "the token is bound to the run's key and needs a proof with every request: POST the request to $DAYFLY_TOKEN_URL for its headers, or run with --proxy",
        );
    }
    match format {
        Format::Raw => answer(token),
        Format::Header => answer(format_args!("Authorization: {token_type} {token}")),
        Format::Json => answer(Value::Object(members.clone())),
    }
}

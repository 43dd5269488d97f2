//! `dayfly token`: a fresh token of the surrounding run, for commands that must hold one.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value};

use crate::http::Clients;
use crate::output::{self, answer, say};
use crate::runner::block_on;
use crate::runner::surrounding::Surrounding;
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
    let clients = Clients::new().context("cannot make HTTP requests")?;
    Surrounding::find()?.token(resource, &clients).await
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

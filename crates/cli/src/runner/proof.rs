//! `dayfly proof`: what the platform says of this job, without what would let a reader be it.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value};

use crate::http::Clients;
use crate::output::{self, answer, say};
use crate::runner::address::ServerArgs;
use crate::runner::person::PersonSource;
use crate::runner::proof_source::ProofSource;
use crate::runner::wire::Failure;
use crate::runner::{block_on, clauses};

/// Options of `dayfly proof`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProofArgs {
    /// For whom the platform should make the token; the server's tenant where one is given
    #[arg(long, value_name = "URL")]
    audience: Option<String>,
    /// Print the claims as one JSON object
    #[arg(long)]
    json: bool,
    /// The workload to ask the server about, where more than one may match
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// A file with the token of the person on whose behalf the job acts, to be shown to the server too
    #[arg(long, value_name = "FILE")]
    on_behalf_of: Option<std::path::PathBuf>,
    /// Compare the claims with the workloads of this configuration's folder instead of asking a server
    #[cfg(feature = "server")]
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// Prints the claims, and which clause of which workload they fail.
pub(crate) fn main(args: ProofArgs, server: ServerArgs) -> ExitCode {
    match block_on(show(&args, &server)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
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

async fn show(args: &ProofArgs, server: &ServerArgs) -> Result<(), Failure> {
    let claims = claims(args, server).await?;
    print(&claims, args.json);
    #[cfg(feature = "server")]
    if let Some(config) = &args.config {
        for line in clauses::declared(config, server.tenant.as_deref(), &claims)? {
            say(line);
        }
        return Ok(());
    }
    let person = PersonSource::find(args.on_behalf_of.as_deref());
    clauses::asked(server, args.workload.as_deref(), person).await
}

/// The claims of this job's platform token, not verified: all that whoever compares them with workloads needs.
async fn claims(args: &ProofArgs, server: &ServerArgs) -> Result<Map<String, Value>, Failure> {
    let audience = match &args.audience {
        Some(audience) => Some(audience.clone()),
        None => server.address()?.map(|address| address.issuer().to_owned()),
    };
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let proof = ProofSource::find()?
        .proof(audience.as_deref(), &clients)
        .await?;
    Ok(proof.claims().clone())
}

fn print(claims: &Map<String, Value>, json: bool) {
    if json {
        let _printed = answer(Value::Object(claims.clone()));
        return;
    }
    let mut lines: Vec<String> = claims
        .iter()
        .map(|(name, value)| format!("{} = {}", escaped(name), shown(value)))
        .collect();
    lines.sort();
    let _printed = answer(lines.join("\n"));
}

/// A text as it stands, anything else as JSON.
fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => escaped(text),
        None => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_unicode().to_string().chars().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

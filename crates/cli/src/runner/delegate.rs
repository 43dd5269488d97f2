//! `dayfly delegate`: one command as a helper of the surrounding run, with a part of its access.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use dayfly_token::handover::Given;
use serde_json::Value;

use crate::runner::address::ServerArgs;
use crate::runner::plan::{OnEnd, RunArgs, parse_access};
use crate::runner::run;
use crate::runner::span;

/// Options of `dayfly delegate`.
#[derive(Debug, clap::Args)]
pub(crate) struct DelegateArgs {
    /// The access to hand over (RFC 9396), every field named
    #[arg(long, value_name = "JSON", value_parser = parse_access, required_unless_present = "scope", conflicts_with = "scope")]
    access: Option<String>,
    /// The scopes to hand over, each whole
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// A resource that the command needs tokens for, by name or URL; the first is the default
    #[arg(long = "resource", value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Stop the command when it has run that long
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    limit: Option<Duration>,
    /// Forward `$DAYFLY_<RESOURCE>_URL` to the resource with its token added, so that the command never holds one
    #[arg(long = "proxy", value_name = "RESOURCE")]
    proxies: Vec<String>,
    /// How long to wait for a server that is away
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span::parse)]
    wait: Duration,
    /// What to do with the command when it is ended elsewhere
    #[arg(long, value_enum, default_value = "stop", value_name = "WHAT")]
    on_end: OnEnd,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and gives its exit code, or one of our own.
pub(crate) fn main(args: DelegateArgs, server: ServerArgs) -> ExitCode {
    let given = given(args.access.as_deref(), args.scope.as_deref());
    let like_a_run = RunArgs {
        workload: None,
        resources: args.resources,
        // A helper acts for the person of its run.
        on_behalf_of: None,
        access: None,
        scope: None,
        limit: args.limit,
        proxies: args.proxies,
        exports: Vec::new(),
        wait: args.wait,
        // A hand-over waits for nobody.
        wait_approval: Duration::ZERO,
        on_end: args.on_end,
        command: args.command,
    };
    run::handed(like_a_run, server, given)
}

/// What is handed over: the options say that it is one of the two.
fn given(access: Option<&str>, scope: Option<&str>) -> Given {
    let list = access.and_then(|access| serde_json::from_str::<Vec<Value>>(access).ok());
    match list {
        Some(details) => Given::Details(details),
        None => Given::Scope(scope.unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        delegate: DelegateArgs,
    }

    #[test]
    fn what_is_handed_over_is_named_in_one_way() {
        let read = |words: &[&str]| {
            let words = ["delegate"].iter().chain(words).chain(&["--", "true"]);
            Line::try_parse_from(words).map(|line| line.delegate)
        };
        assert!(read(&[]).is_err());
        assert!(read(&["--scope", "a", "--access", "[{}]"]).is_err());
        let one = read(&["--access", r#"{"type":"t"}"#]).unwrap();
        let details = vec![serde_json::json!({"type": "t"})];
        assert_eq!(given(one.access.as_deref(), None), Given::Details(details));
        let one = read(&["--scope", "a b"]).unwrap();
        let scope = Given::Scope("a b".to_owned());
        assert_eq!(given(None, one.scope.as_deref()), scope);
    }
}

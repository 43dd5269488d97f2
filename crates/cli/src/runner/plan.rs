//! What a run was told to do: the options of `run`, and the resources that they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::environment;
use crate::runner::request::Ask;
use crate::runner::server::resolve;
use crate::runner::span;
use crate::runner::tokens::Target;

/// Options of `dayfly run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The workload, where the proof matches several
    #[arg(long, value_name = "NAME")]
    pub(crate) workload: Option<String>,
    /// A resource that the command needs tokens for, by name or URL; the first is the default
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// A file with the ID token or access token of the person on whose behalf the command acts; else what
    /// `DAYFLY_SUBJECT_TOKEN` holds or `DAYFLY_SUBJECT_TOKEN_FILE` names
    #[arg(long, value_name = "FILE")]
    pub(crate) on_behalf_of: Option<PathBuf>,
    /// The access to ask for (RFC 9396) instead of the workload's whole
    #[arg(long, value_name = "JSON", value_parser = parse_access)]
    pub(crate) access: Option<String>,
    /// The scopes to ask for
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,
    /// Stop the command when it has run that long
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    pub(crate) limit: Option<Duration>,
    /// Forward `$DAYFLY_<RESOURCE>_URL` to the resource with its token added, so that the command never holds one
    #[arg(long = "proxy", value_name = "RESOURCE")]
    pub(crate) proxies: Vec<String>,
    /// Export a bearer token of the resource, where the workload's binding is optional
    #[arg(long = "env", value_name = "NAME=RESOURCE", value_parser = parse_export)]
    pub(crate) exports: Vec<(String, String)>,
    /// How long to wait for a server that is away
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span::parse)]
    pub(crate) wait: Duration,
    /// How long to wait for people, where the workload needs an approval
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = span::parse)]
    pub(crate) wait_approval: Duration,
    /// What to do with the command when the task is ended elsewhere
    #[arg(long, value_enum, default_value = "stop", value_name = "WHAT")]
    pub(crate) on_end: OnEnd,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What to do with the command when the task is ended elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnEnd {
    /// Terminate it
    Stop,
    /// Let it run on without access
    Leave,
}

/// The options, with every resource as a URL.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ask: Ask,
    /// Every resource named, in the order in which tokens for them are got.
    pub(crate) targets: Vec<Target>,
    /// Variables and the resources their URLs are forwarded to.
    pub(crate) proxies: Vec<(String, String)>,
    /// Variables and the resources whose tokens they get.
    pub(crate) exports: Vec<(String, String)>,
}

impl RunArgs {
    /// Refuses what cannot be meant, before anything is asked of a server.
    pub(crate) fn check(&self) -> Result<()> {
        let mut names = BTreeSet::from([environment::TOKEN_URL.to_owned()]);
        let variables = self.proxies.iter().map(|resource| variable_of(resource));
        let exports = self.exports.iter().map(|(name, _)| name.clone());
        for name in variables.chain(exports) {
            ensure!(
                names.insert(name.clone()),
                "the variable {name} would have two meanings"
            );
        }
        Ok(())
    }

    /// Whether tokens leave this process for good, so that none can be bound to its key.
    pub(crate) fn exports_tokens(&self) -> bool {
        !self.exports.is_empty()
    }

    /// The plan, given the server's names of resources.
    pub(crate) fn plan(&self, resources: &BTreeMap<String, String>) -> Result<Plan> {
        let named = |list: &[(String, String)]| -> Result<Vec<(String, String)>> {
            list.iter()
                .map(|(name, resource)| Ok((name.clone(), resolve(resource, resources)?)))
                .collect()
        };
        let proxied: Vec<(String, String)> = self
            .proxies
            .iter()
            .map(|resource| (variable_of(resource), resource.clone()))
            .collect();
        let (proxies, exports) = (named(&proxied)?, named(&self.exports)?);
        let mut targets = Vec::new();
        for resource in &self.resources {
            targets.push(resolve(resource, resources)?);
        }
        targets.extend(exports.iter().chain(&proxies).map(|(_, url)| url.clone()));
        let ask = Ask {
            workload: self.workload.clone(),
            scope: self.scope.clone(),
            access: self.access.clone(),
            target: targets.first().cloned(),
        };
        Ok(Plan {
            ask,
            targets: targets.into_iter().map(Some).collect(),
            proxies,
            exports,
        })
    }
}

/// The variable that holds the forwarded URL of a resource.
fn variable_of(resource: &str) -> String {
    let name: String = resource
        .chars()
        .map(|c| c.to_ascii_uppercase())
        .map(|c| match c {
            'A'..='Z' | '0'..='9' => c,
            _ => '_',
        })
        .collect();
    format!("DAYFLY_{name}_URL")
}

fn parse_export(text: &str) -> Result<(String, String)> {
    let Some((name, resource)) = text.split_once('=') else {
        bail!("not of the form NAME=RESOURCE");
    };
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let sound =
        name.starts_with(first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    ensure!(sound, "`{name}` is not the name of a variable");
    ensure!(
        !name.starts_with("DAYFLY_"),
        "variables that begin with DAYFLY_ are Dayfly's own"
    );
    ensure!(!resource.is_empty(), "the resource is missing");
    Ok((name.to_owned(), resource.to_owned()))
}

/// A list of details, or one detail alone.
pub(crate) fn parse_access(text: &str) -> Result<String> {
    let value: Value = serde_json::from_str(text)?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(detail) => vec![Value::Object(detail)],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            bail!("not a list of JSON objects")
        }
    };
    ensure!(
        list.iter().all(Value::is_object),
        "not a list of JSON objects"
    );
    Ok(Value::Array(list).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn run(words: &[&str]) -> RunArgs {
        let words = ["run"].iter().chain(words).chain(&["--", "true"]);
        Line::try_parse_from(words).unwrap().run
    }

    #[test]
    fn variables_are_named_after_resources() {
        assert_eq!(variable_of("artifacts"), "DAYFLY_ARTIFACTS_URL");
        let url = variable_of("https://a-1.é");
        assert_eq!(url, "DAYFLY_HTTPS___A_1___URL");
    }

    #[test]
    fn a_variable_has_one_meaning() {
        assert!(run(&["--proxy", "a", "--proxy", "b"]).check().is_ok());
        assert!(run(&["--proxy", "a-b", "--proxy", "a_b"]).check().is_err());
        assert!(run(&["--proxy", "token"]).check().is_err());
        assert!(run(&["--env", "T=a", "--env", "T=b"]).check().is_err());
    }

    #[test]
    fn exports_and_access_are_read_strictly() {
        assert!(parse_export("TOKEN=artifacts").is_ok());
        for text in ["TOKEN", "=a", "1T=a", "T-T=a", "T=", "DAYFLY_X=a"] {
            assert!(parse_export(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_access(r#"{"type":"t"}"#).unwrap(),
            r#"[{"type":"t"}]"#
        );
        for text in ["", "1", "[1]", "[{}", "\"a\""] {
            assert!(parse_access(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resources_are_named_or_urls_and_the_first_is_the_default() {
        let known = BTreeMap::from([
            ("a".to_owned(), "https://a.example".to_owned()),
            ("b".to_owned(), "https://b.example".to_owned()),
        ]);
        let plan = run(&["--proxy", "a", "--env", "T=b"]).plan(&known).unwrap();
        assert_eq!(plan.ask.target.as_deref(), Some("https://b.example"));
        assert_eq!(
            plan.proxies,
            [("DAYFLY_A_URL".to_owned(), "https://a.example".to_owned())]
        );
        let plan = run(&["--resource", "https://x.example", "--proxy", "a"]).plan(&known);
        assert_eq!(
            plan.unwrap().ask.target.as_deref(),
            Some("https://x.example")
        );
        let unknown = run(&["--resource", "c"]).plan(&known).unwrap_err();
        assert!(unknown.to_string().contains("only: a, b"), "{unknown}");
    }
}

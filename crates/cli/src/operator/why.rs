//! `dayfly why`: the whole explanation of a refusal, while the server remembers it.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::{RefusalId, Time};
use dayfly_server::record::moment;
use serde_json::{Map, Value};

use super::place::{At, PlaceArgs};
use super::record::now;
use super::table::pairs;
use super::{print, print_json};

/// Options of `dayfly why`.
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The id of the refusal
    #[arg(value_name = "REFUSAL")]
    refusal: RefusalId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn why(args: &WhyArgs, at: At<'_>) -> Result<ExitCode> {
    let served = args.place.served(at).await?;
    let explained: Map<String, Value> = served.get(&format!("why/{}", args.refusal)).await?;
    if args.json {
        return print_json(&explained);
    }
    print(&written(&explained, now()))
}

/// A refusal for a person: what said no, then what was known of the request.
pub(super) fn written(explained: &Map<String, Value>, now: Time) -> String {
    let text = |name: &str| match explained.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let at = explained
        .get("at")
        .and_then(Value::as_u64)
        .map(Time::from_millis);
    let mut lines = pairs([
        ("refused", format!("{} ({})", text("says"), text("refusal"))),
        ("at", at.map(|at| moment(at, now)).unwrap_or_default()),
        ("asked", text("asked")),
        ("stage", text("stage")),
        ("rule", text("rule")),
        ("field", text("field")),
        ("wanted", text("wanted")),
        ("got", text("got")),
        ("hint", text("hint")),
        ("workload", text("workload")),
        ("task", text("task")),
        ("client", text("client")),
        ("issuer", text("issuer")),
        ("address", text("address")),
    ]);
    if let Some(Value::Object(claims)) = explained.get("claims") {
        lines.push_str("claims of the proof\n");
        let claims = claims.iter().map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.as_str(), value)
        });
        for line in pairs(claims).lines() {
            lines.push_str(&format!("  {line}\n"));
        }
    }
    lines
}

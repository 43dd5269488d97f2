//! `dayfly keys`: which keys there are, rotation by hand, and giving one up when it is stolen or lost.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use dayfly_domain::Time;
use dayfly_server::mint::{self, KeyInfo, KeyUse, Life, PUBLISHED_FOR, accepted_offline_until};
use dayfly_server::record::moment;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::change::says_something;
use super::list::ListArgs;
use super::place::{At, PlaceArgs, Writable};
use super::record::now;
use super::table::Table;
use super::{print, print_json};

/// Options of `dayfly keys rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Keys that sign what
    #[arg(long = "use", value_name = "USE", value_enum, default_value_t = Use::Token)]
    r#use: Use,
    /// Only the key of this algorithm
    #[arg(long, value_name = "ALG")]
    alg: Option<String>,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly keys compromise`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompromiseArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The keys, as `dayfly keys list` shows them
    #[arg(
        value_name = "KID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    kids: Vec<String>,
    /// All keys of the tenant: when the key file is lost or stolen
    #[arg(long)]
    all: bool,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a key signs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Use {
    Token,
    StatusList,
    Event,
    Ledger,
}

impl From<Use> for KeyUse {
    fn from(r#use: Use) -> Self {
        match r#use {
            Use::Token => Self::Token,
            Use::StatusList => Self::StatusList,
            Use::Event => Self::Event,
            Use::Ledger => Self::Ledger,
        }
    }
}

/// The answer to a rotation.
#[derive(Debug, Serialize, Deserialize)]
struct Rotated {
    published: Vec<KeyInfo>,
    signs_from: Time,
}

/// The answer to giving keys up.
#[derive(Debug, Serialize, Deserialize)]
struct GivenUp {
    keys: Vec<KeyInfo>,
    signing: Vec<KeyInfo>,
    accepted_offline_until: Option<Time>,
}

pub(super) async fn list(args: &ListArgs, at: At<'_>) -> Result<ExitCode> {
    let keys = args.place.record(at).await?.keys().await?;
    if args.json {
        return print_json(&keys);
    }
    let now = now();
    let mut table = Table::new(&["KEY", "USE", "ALG", "STATE", "CREATED"]);
    for key in keys {
        table.row([
            key.kid,
            key.r#use.word().to_owned(),
            key.alg,
            state(&key.life, now),
            moment(key.created, now),
        ]);
    }
    print(&table.lines())
}

pub(super) async fn rotate(args: &RotateArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let body = json!({
        "use": KeyUse::from(args.r#use), "alg": args.alg, "reason": args.reason,
    });
    let rotated: Rotated = served.post("keys/rotate", &body).await?;
    if args.json {
        return print_json(&rotated);
    }
    let from = moment(rotated.signs_from, now());
    let mut text = String::new();
    for key in &rotated.published {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "published {} ({}, {}); it signs from {from}",
            key.kid,
            key.r#use.word(),
            key.alg
        );
        if key.r#use == KeyUse::Ledger {
            let _ = writeln!(text, "its verifier key is {}", key.public);
        }
    }
    print(&text)
}

pub(super) async fn compromise(args: &CompromiseArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let kids = (!args.all).then_some(args.kids.as_slice());
    let given_up = match args.place.writable(at).await? {
        Writable::Served(served) => {
            let body = json!({ "kids": kids, "reason": args.reason });
            served.post("keys/compromise", &body).await?
        }
        Writable::Offline(store, tenant) => {
            let uid = nix::unistd::getuid().as_raw();
            let annex = json!({"by": {"uid": uid}, "reason": args.reason});
            let keys =
                mint::compromise_offline(store.as_ref(), &tenant, kids, &annex, now()).await?;
            offline(keys)
        }
    };
    ensure!(!given_up.keys.is_empty(), "there is no key to give up yet");
    if args.json {
        return print_json(&given_up);
    }
    print(&given_up_lines(&given_up, now()))
}

/// No server runs: nothing was published meanwhile, and nothing signs until it starts.
fn offline(keys: Vec<KeyInfo>) -> GivenUp {
    let bounds = keys.iter().filter_map(|key| match (key.life, key.r#use) {
        (Life::Compromised { at }, KeyUse::Token | KeyUse::StatusList | KeyUse::Event) => {
            Some(accepted_offline_until(at, at))
        }
        _ => None,
    });
    GivenUp {
        accepted_offline_until: bounds.max(),
        signing: Vec::new(),
        keys,
    }
}

fn given_up_lines(given_up: &GivenUp, now: Time) -> String {
    let mut text = String::new();
    for key in &given_up.keys {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} ({}, {}) is {}: unpublished, and nothing that it signed is accepted here",
            key.kid,
            key.r#use.word(),
            key.alg,
            state(&key.life, now)
        );
    }
    if let Some(until) = given_up.accepted_offline_until {
        let _ = writeln!(
            text,
            "last possible acceptance {} by resources that verify offline and heed the key set's max-age; one that keeps keys longer accepts forged tokens until it fetches them again",
            moment(until, now)
        );
    }
    let ledger_given_up = given_up.keys.iter().any(|key| key.r#use == KeyUse::Ledger);
    for key in &given_up.signing {
        let _ = writeln!(
            text,
            "{} signs ({}, {})",
            key.kid,
            key.r#use.word(),
            key.alg
        );
        if key.r#use == KeyUse::Ledger && ledger_given_up {
            let _ = writeln!(
                text,
                "give whoever verifies receipts the verifier key {}: heads by the old one prove nothing unless `dayfly ledger verify` finds them in this ledger",
                key.public
            );
        }
    }
    if given_up.signing.is_empty() {
        let _ = writeln!(
            text,
            "no server runs: `dayfly serve` makes the keys that sign next"
        );
    }
    text
}

fn state(life: &Life, now: Time) -> String {
    let (word, at) = (life.word(), |at| moment(at, now));
    match life {
        Life::Published { since } => format!("{word}, signs from {}", at(*since + PUBLISHED_FOR)),
        Life::Signing { since } => format!("{word} since {}", at(*since)),
        Life::Retiring { until } => format!("{word} until {}", at(*until)),
        Life::Retired { at: since } | Life::Compromised { at: since } => {
            format!("{word} since {}", at(*since))
        }
    }
}

//! `dayfly policy`: whether policy files hold, and what policies said or would say of a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::builder::PossibleValuesParser;
use dayfly_domain::{CredentialId, Name, RefusalId, Span, TaskId, Time};
use dayfly_server::declared::{Declared, LoadError, Source, SourceFile, TenantContext, Warning};
use dayfly_server::policy::{Hypothetical, HypotheticalPerson, Policies};
use dayfly_server::record::{moment, one_line};
use serde_json::{Map, Value, json};

use super::place::{At, Found, Place, PlaceArgs};
use super::record::{Record, now};
use super::table::pairs;
use super::{failed, print, print_json, read_file};
use crate::output::say;

/// Options of `dayfly policy check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A folder with *.cedar files, or with a folder `policies` of them, instead of a configuration
    #[arg(value_name = "DIR", conflicts_with = "config")]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly policy explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A refusal, a task or a credential that was decided
    #[arg(
        value_name = "ID",
        required_unless_present = "workload",
        conflicts_with = "workload"
    )]
    id: Option<String>,
    /// The workload of a request to ask about
    #[arg(long, value_name = "NAME", requires = "resource")]
    workload: Option<Name>,
    /// The resource of the request, by its name
    #[arg(long, value_name = "NAME", requires = "workload")]
    resource: Option<Name>,
    /// What the request is about
    #[arg(long, value_name = "ACTION", default_value = "issue", value_parser = PossibleValuesParser::new(["start", "issue", "delegate", "use"]))]
    action: String,
    /// A JSON object of the proof's claims, or `-` for standard input
    #[arg(long, value_name = "FILE", requires = "workload")]
    claims: Option<PathBuf>,
    /// The issuer of the person on whose behalf it is asked
    #[arg(long, value_name = "ISSUER", requires = "workload")]
    subject: Option<Name>,
    /// A JSON object of what the person's token claims
    #[arg(long, value_name = "FILE", requires = "subject")]
    subject_claims: Option<PathBuf>,
    /// For `delegate`: the workload of the parent
    #[arg(long, value_name = "NAME", requires = "workload")]
    parent: Option<Name>,
    /// For `delegate`: how deep the child would stand
    #[arg(long, value_name = "N", requires = "parent")]
    depth: Option<u32>,
    /// For `delegate`: a workload above the parent, the root's last
    #[arg(long, value_name = "NAME", requires = "parent")]
    above: Vec<Name>,
    /// Where the request comes from
    #[arg(long, value_name = "IP", requires = "workload")]
    address: Option<IpAddr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a check found.
#[derive(Default)]
struct Checked {
    errors: Vec<LoadError>,
    warnings: Vec<Warning>,
    policies: usize,
}

pub(super) fn check(args: &CheckArgs, at: At<'_>) -> ExitCode {
    let checked = match &args.folder {
        Some(folder) => check_folder(folder),
        None => check_tenants(&args.place, at),
    };
    let told = checked.and_then(|checked| tell(&checked, args.json));
    told.unwrap_or_else(|why| failed(&why))
}

fn check_folder(folder: &Path) -> Result<Checked> {
    let source = if folder.join("policies").is_dir() {
        Source::read_folder(folder).map_err(|why| anyhow!("{why}"))?
    } else {
        read_policies(folder)?
    };
    let mut checked = Checked::default();
    checked.take(Policies::check(&source));
    Ok(checked)
}

/// The *.cedar files of a folder that is no tenant's.
fn read_policies(folder: &Path) -> Result<Source> {
    let failed = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || !name.ends_with(".cedar") || path.is_dir() {
            continue;
        }
        files.push(SourceFile {
            name: name.into_owned(),
            text: std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        });
    }
    Ok(Source::new(folder, files))
}

fn check_tenants(place: &PlaceArgs, at: At<'_>) -> Result<Checked> {
    let place = place.read()?;
    let mut checked = Checked::default();
    for name in place.tenants(at.tenant)? {
        match loaded(&place, &name)? {
            Ok((source, declared)) => checked.take(Policies::load(&source, &declared)),
            Err(errors) => checked.errors.extend(errors),
        }
    }
    Ok(checked)
}

/// A tenant's folder, its declared state read.
fn loaded(place: &Place, name: &Name) -> Result<Result<(Source, Declared), Vec<LoadError>>> {
    let folder = place.config.tenant_folder(name);
    let source = Source::read_folder(&folder).map_err(|why| anyhow!("{why}"))?;
    let context = TenantContext::new(&place.config, name);
    Ok(Declared::load(&source, &context).map(|(declared, _)| (source, declared)))
}

impl Checked {
    fn take(&mut self, loaded: Result<(Policies, Vec<Warning>), Vec<LoadError>>) {
        match loaded {
            Ok((policies, warnings)) => {
                self.policies += policies.count();
                self.warnings.extend(warnings);
            }
            Err(errors) => self.errors.extend(errors),
        }
    }
}

fn tell(checked: &Checked, as_json: bool) -> Result<ExitCode> {
    let holds = checked.errors.is_empty();
    let errors: Vec<String> = checked.errors.iter().map(ToString::to_string).collect();
    let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    if as_json {
        print_json(&json!({
            "holds": holds, "policies": checked.policies, "errors": errors, "warnings": warnings,
        }))?;
    } else {
        for error in &errors {
            say(one_line(error));
        }
        for warning in &warnings {
            say(format_args!("warning: {}", one_line(warning)));
        }
        if holds {
            print(&format!("{} policies hold\n", checked.policies))?;
        }
    }
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(super) async fn explain(args: &ExplainArgs, at: At<'_>) -> Result<ExitCode> {
    if let Some(id) = &args.id {
        return explain_recorded(args, id, at).await;
    }
    let said = explain_request(args, at).await?;
    if args.json {
        return print_json(&said);
    }
    print(&written(&said))
}

async fn explain_recorded(args: &ExplainArgs, id: &str, at: At<'_>) -> Result<ExitCode> {
    if let Ok(refusal) = id.parse::<RefusalId>() {
        let served = args.place.served(at).await?;
        let why: Map<String, Value> = served.get(&format!("why/{refusal}")).await?;
        let policy = why.get("policy").with_context(|| {
            format!("no policy refused {refusal}: `dayfly why {refusal}` says what did")
        })?;
        if args.json {
            return print_json(policy);
        }
        return print(&written(policy));
    }
    let (task, credential) = match id.parse::<CredentialId>() {
        Ok(credential) => (credential.client.task, Some(credential)),
        Err(_) => match id.parse::<TaskId>() {
            Ok(task) => (task, None),
            Err(_) => bail!("`{id}` is no refusal, task or credential"),
        },
    };
    let record: Record = args.place.record(at).await?;
    let found = record.decisions(task, credential).await?;
    ensure!(
        !found.is_empty(),
        "no entry of `{id}` says what a policy decided: there is none, or it was erased"
    );
    if args.json {
        return print_json(&found);
    }
    let now = now();
    let mut text = String::new();
    for decision in &found {
        let of = decision
            .credential
            .map_or_else(String::new, |id| format!(" {id}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} {}{of} at position {}",
            moment(decision.at, now),
            decision.kind,
            decision.pos
        );
        for line in written(&decision.policy).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    print(&text)
}

/// Asks the policies in force where a server answers, else those of the folder.
async fn explain_request(args: &ExplainArgs, at: At<'_>) -> Result<Value> {
    let (Some(workload), Some(resource)) = (&args.workload, &args.resource) else {
        bail!("a request has a `--workload` and a `--resource`");
    };
    let claims = read_claims(args.claims.as_deref())?;
    let person = read_claims(args.subject_claims.as_deref())?;
    let subject = args.subject.clone().map(|issuer| HypotheticalPerson {
        issuer,
        claims: person,
    });
    let asked = Hypothetical {
        workload: workload.clone(),
        resource: resource.clone(),
        action: args.action.clone(),
        claims,
        subject,
        said: BTreeMap::new(),
        address: args.address,
        open_tasks: None,
        starts_last_hour: None,
        parent: args.parent.clone(),
        depth: args.depth,
        chain: args.above.clone(),
    };
    let (place, tenant) = match args.place.find(at).await? {
        Found::Served(served) => return served.post("policy/explain", &json!(asked)).await,
        Found::Local(place, tenant) => (place, tenant),
    };
    say("no server answers, so the policies of the folder are asked, with no task open");
    let one = |errors: Vec<LoadError>| match errors.first() {
        Some(error) => anyhow!("{error}"),
        None => anyhow!("the folder does not load"),
    };
    let (source, declared) = loaded(&place, &tenant)?.map_err(one)?;
    let (policies, _) = Policies::load(&source, &declared).map_err(one)?;
    let said = asked
        .ask(&policies, &declared, now())
        .map_err(|why| anyhow!(why))?;
    Ok(json!(said))
}

fn read_claims(file: Option<&Path>) -> Result<BTreeMap<String, Value>> {
    let Some(file) = file else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_slice(&read_file(file)?)
        .with_context(|| format!("{} is no JSON object of claims", file.display()))
}

/// What was asked and said, for a person.
fn written(said: &Value) -> String {
    let mut text = String::new();
    for decision in member(said, "decisions").as_array().into_iter().flatten() {
        text.push_str(&decided(decision));
    }
    let facts = member(said, "facts");
    let now = member(facts, "now").as_u64().map(Time::from_millis);
    text.push_str(&pairs([
        ("now", now.map(|now| now.to_string()).unwrap_or_default()),
        ("address", plain(member(facts, "address"))),
        ("open tasks", plain(member(facts, "open_tasks"))),
        (
            "starts in the last hour",
            plain(member(facts, "starts_last_hour")),
        ),
        ("policy set", plain(member(said, "set"))),
    ]));
    text
}

fn decided(decision: &Value) -> String {
    let mut text = pairs([(
        plain(member(decision, "decision")).as_str(),
        format!(
            "{} at {}",
            plain(member(decision, "action")),
            plain(member(decision, "resource"))
        ),
    )]);
    let observed = member(decision, "observed");
    let approval = member(decision, "approval");
    let mut lines = vec![
        ("by", plain(member(decision, "policies"))),
        ("types", plain(member(decision, "types"))),
        ("actions", plain(member(decision, "actions"))),
        ("identifiers", plain(member(decision, "identifiers"))),
    ];
    if observed.is_object() {
        let would = format!(
            "{} by {}",
            plain(member(observed, "decision")),
            plain(member(observed, "policies"))
        );
        lines.push(("observed", would));
    }
    if approval.is_object() {
        let within = member(approval, "within").as_u64().map(Span::from_millis);
        let needed = format!(
            "{} of {} within {}{}",
            plain(member(approval, "people")),
            plain(member(approval, "policies")),
            within.map(|within| within.to_string()).unwrap_or_default(),
            if member(approval, "given").as_bool() == Some(true) {
                ", given"
            } else {
                ", not given"
            }
        );
        lines.push(("approval", needed));
    }
    for error in member(decision, "errors").as_array().into_iter().flatten() {
        let what = format!(
            "{} {}",
            plain(member(error, "policy")),
            plain(member(error, "message"))
        );
        lines.push(("failed", what.trim().to_owned()));
    }
    for near in member(decision, "nearest").as_array().into_iter().flatten() {
        let what = format!(
            "{} ({}) fails by {}: wanted {}, got {}",
            plain(member(near, "policy")),
            plain(member(near, "place")),
            plain(member(near, "clause")),
            plain(member(near, "wanted")),
            plain(member(near, "got"))
        );
        lines.push(("nearest", what));
    }
    for line in pairs(lines).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// A member of an object; nothing where there is none.
fn member<'a>(of: &'a Value, name: &str) -> &'a Value {
    of.get(name).unwrap_or(&Value::Null)
}

/// A text as it is, a list with commas.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

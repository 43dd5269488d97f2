//! Ends by people: of a client, an instance, an owner, a workload, an issuer or the tenant, one command each.

use std::process::ExitCode;

use anyhow::Result;
use dayfly_domain::{BlockOn, Cause, ClientId, Name, TaskId, Time};
use dayfly_server::record::{moment, one_line};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::change::{block_on, is_recorded, recorded, says_something, unrecorded};
use super::place::{At, PlaceArgs};
use super::record::now;
use super::{print, print_json};

/// Options of every end by a person.
#[derive(Debug, clap::Args)]
pub(crate) struct EndArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only print how much it would end
    #[arg(long)]
    dry_run: bool,
    /// Keep it from starting again until that is lifted
    #[arg(long)]
    block: bool,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `dayfly client end`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientEndArgs {
    /// The client
    #[arg(value_name = "CLIENT")]
    client: ClientId,
    #[command(flatten)]
    how: EndArgs,
}

/// Options of `dayfly instance end`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstanceEndArgs {
    /// The job, pod or process, as `dayfly task show` has it
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// The issuer that vouches for it, where several could
    #[arg(long, value_name = "NAME")]
    issuer: Option<Name>,
    #[command(flatten)]
    how: EndArgs,
}

/// Options of `dayfly owner end`, `workload end` and `issuer end`.
#[derive(Debug, clap::Args)]
pub(crate) struct NamedEndArgs {
    /// Its name, as it is declared
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    how: EndArgs,
}

/// Options of `dayfly block set`.
#[derive(Debug, clap::Args)]
pub(crate) struct BlockSetArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What may not start: series:ISSUER:SERIES, key:ISSUER:KEY, instance:ISSUER:INSTANCE or
    /// person:PSEUDONYM
    #[arg(value_name = "BLOCK", value_parser = block_on)]
    on: BlockOn,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much an end would take.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WouldEnd {
    on: String,
    applied: bool,
    /// Tasks that end as a whole.
    open: u64,
    /// Tasks that go on without some of their clients.
    partly: u64,
    clients: u64,
    credentials: u64,
    block: Option<String>,
    /// Since when it is so already, where nothing would change.
    since: Option<Time>,
}

/// The end of a client.
#[derive(Debug, Serialize, Deserialize)]
struct ClientEnded {
    task: TaskId,
    client: ClientId,
    task_ended: bool,
    cause: Cause,
    at: Time,
    last_possible_acceptance: Time,
    block: Option<String>,
    /// Whether nothing is blocked yet, because nothing could be read, and its instance is when it is
    /// found, if that is its own.
    #[serde(default, skip_serializing_if = "is_not")]
    block_if_its_own: bool,
    head: Option<String>,
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    recorded: bool,
}

/// The end of everything of an instance.
#[derive(Debug, Serialize, Deserialize)]
struct InstanceEnded {
    on: String,
    clients: Vec<ClientId>,
    /// None where it could not be looked for them.
    tasks: Option<u64>,
    at: Time,
    last_possible_acceptance: Time,
    block: Option<String>,
    /// Whether it is blocked when it is found, because nothing could be read.
    #[serde(default, skip_serializing_if = "is_not")]
    block_when_found: bool,
    head: Option<String>,
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    recorded: bool,
}

/// The end of everything of an owner, workload, issuer or tenant.
#[derive(Debug, Serialize, Deserialize)]
struct Stopped {
    on: String,
    applied: bool,
    since: Time,
    ended: Option<u64>,
    last_possible_acceptance: Time,
    block: Option<String>,
    head: Option<String>,
    #[serde(default = "recorded", skip_serializing_if = "is_recorded")]
    recorded: bool,
}

pub(super) async fn client(args: &ClientEndArgs, at: At<'_>) -> Result<ExitCode> {
    let path = format!("clients/{}/end", args.client);
    end(
        &path,
        json!({}),
        &args.how,
        at,
        |ended: &ClientEnded, reason| client_line(ended, reason, now()),
    )
    .await
}

/// The end of a client in a line, as a trace of it begins, and what is blocked with it.
fn client_line(ended: &ClientEnded, reason: &str, now: Time) -> String {
    let task = if ended.task_ended {
        ", and its task with it"
    } else {
        ""
    };
    let block = if ended.block_if_its_own {
        NOT_BLOCKED.to_owned()
    } else {
        block_line(ended.block.as_ref(), false)
    };
    format!(
        "GONE {} ({}){task}; last possible acceptance {}\n{block}{}{}",
        moment(ended.at, now),
        why(ended.cause, reason),
        moment(ended.last_possible_acceptance, now),
        unrecorded(ended.recorded),
        head_lines(ended.head.as_ref())
    )
}

pub(super) async fn instance(args: &InstanceEndArgs, at: At<'_>) -> Result<ExitCode> {
    let mut body = json!({ "instance": args.instance });
    if let (Some(issuer), Some(members)) = (&args.issuer, body.as_object_mut()) {
        members.insert("issuer".to_owned(), issuer.as_str().into());
    }
    end(
        "instances/end",
        body,
        &args.how,
        at,
        |ended: &InstanceEnded, _| {
            let clients = u64::try_from(ended.clients.len()).unwrap_or(u64::MAX);
            let clients = counted(clients, "client");
            let over = ended.tasks.map_or_else(
                || {
                    format!(
                        "{clients}, and all that could not be looked for, wherever it is found;"
                    )
                },
                |tasks| format!("{clients} in {}", counted(tasks, "task")),
            );
            format!(
                "{}: {over} over since {}; last possible acceptance {}\n{}{}{}",
                one_line(&ended.on),
                moment(ended.at, now()),
                moment(ended.last_possible_acceptance, now()),
                block_line(ended.block.as_ref(), ended.block_when_found),
                unrecorded(ended.recorded),
                head_lines(ended.head.as_ref())
            )
        },
    )
    .await
}

pub(super) async fn owner(args: &NamedEndArgs, at: At<'_>) -> Result<ExitCode> {
    stop(&format!("owners/{}/end", args.name), &args.how, at).await
}

pub(super) async fn workload(args: &NamedEndArgs, at: At<'_>) -> Result<ExitCode> {
    stop(&format!("workloads/{}/end", args.name), &args.how, at).await
}

pub(super) async fn issuer(args: &NamedEndArgs, at: At<'_>) -> Result<ExitCode> {
    stop(&format!("issuers/{}/end", args.name), &args.how, at).await
}

pub(super) async fn tenant(args: &EndArgs, at: At<'_>) -> Result<ExitCode> {
    stop("end", args, at).await
}

pub(super) async fn block(args: &BlockSetArgs, at: At<'_>) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let served = args.place.served(at).await?;
    let body = json!({ "on": args.on.to_string(), "reason": args.reason });
    let set: Value = served.post("blocks", &body).await?;
    if args.json {
        return print_json(&set);
    }
    let on = one_line(&args.on.to_string());
    let recorded = set.get("recorded").and_then(Value::as_bool).unwrap_or(true);
    print(&match set.get("applied").and_then(Value::as_bool) {
        Some(false) => format!("{on} is blocked already\n"),
        Some(true) | None => format!("{on} blocked\n{}", unrecorded(recorded)),
    })
}

async fn stop(path: &str, how: &EndArgs, at: At<'_>) -> Result<ExitCode> {
    end(path, json!({}), how, at, |stopped: &Stopped, _| {
        if !stopped.applied {
            return format!(
                "{} is blocked already, since {}\n",
                stopped.on,
                moment(stopped.since, now())
            );
        }
        let open = stopped.ended.map_or_else(
            || "everything open".to_owned(),
            |open| counted(open, "open task"),
        );
        let then = if stopped.block.is_some() {
            ""
        } else {
            "; new tasks may start"
        };
        format!(
            "{}: {open} over{then}; the ends are being recorded; last possible acceptance {}\n{}{}{}",
            stopped.on,
            moment(stopped.last_possible_acceptance, now()),
            block_line(stopped.block.as_ref(), false),
            unrecorded(stopped.recorded),
            head_lines(stopped.head.as_ref())
        )
    })
    .await
}

/// Asks for an end, or how much it would take.
async fn end<T: Serialize + serde::de::DeserializeOwned>(
    path: &str,
    mut body: Value,
    how: &EndArgs,
    at: At<'_>,
    line: impl FnOnce(&T, &str) -> String,
) -> Result<ExitCode> {
    let reason = how.reason.as_deref().unwrap_or_default();
    if !how.dry_run {
        says_something(reason)?;
    }
    let served = how.place.served(at).await?;
    if let Some(members) = body.as_object_mut() {
        members.insert("dry_run".to_owned(), how.dry_run.into());
        members.insert("block".to_owned(), how.block.into());
        members.insert("reason".to_owned(), reason.into());
    }
    if how.dry_run {
        let would: WouldEnd = served.post(path, &body).await?;
        return print_would(&would, how.json);
    }
    let done: T = served.post(path, &body).await?;
    if how.json {
        return print_json(&done);
    }
    print(&line(&done, reason.trim()))
}

/// Prints how much an end would take.
pub(super) fn print_would(would: &WouldEnd, json: bool) -> Result<ExitCode> {
    if json {
        return print_json(would);
    }
    print(&would_line(would, now()))
}

fn would_line(would: &WouldEnd, now: Time) -> String {
    let on = one_line(&would.on);
    if let Some(since) = would.since {
        return format!(
            "{on} is blocked already, since {}: nothing would change\n",
            moment(since, now)
        );
    }
    let block = would
        .block
        .as_ref()
        .map_or_else(String::new, |on| format!(", and block {}", one_line(on)));
    format!(
        "{on}: it would end {} with {} and {}{block}; nothing is done yet\n",
        tasks_of(would.open, would.partly),
        counted(would.clients, "client"),
        counted(would.credentials, "live credential"),
    )
}

/// Tasks that end, and those of which a part does.
pub(super) fn tasks_of(open: u64, partly: u64) -> String {
    match (open, partly) {
        (open, 0) => counted(open, "open task"),
        (0, partly) => format!("a part of {}", counted(partly, "open task")),
        (open, partly) => format!(
            "{} and a part of {}",
            counted(open, "open task"),
            counted(partly, "other")
        ),
    }
}

/// A signed head of the ledger as it stands: whoever keeps it can show later that nothing before it
/// was changed.
pub(super) fn head_lines(head: Option<&String>) -> String {
    head.map_or_else(String::new, |note| {
        let lines = note.lines().map(|line| format!("  {}\n", one_line(line)));
        std::iter::once("head\n".to_owned()).chain(lines).collect()
    })
}

/// The cause of an end, and the reason where it is that of this command: what was over before ended for
/// another.
pub(super) fn why(cause: Cause, reason: &str) -> String {
    let word = cause.word();
    if cause == Cause::Operator {
        format!("{word}: {}", one_line(reason))
    } else {
        word.to_owned()
    }
}

/// What is said of a block that was wanted where it cannot be read whose the instance is.
const NOT_BLOCKED: &str = "nothing is blocked: the ledger cannot be read. Once it can, its instance is, if that is its own (`dayfly block list` shows it then); a client that lives in the instance of the one that it was delegated from has none to block, and that one is to be ended with --block\n";

pub(super) fn block_line(block: Option<&String>, when_found: bool) -> String {
    match block {
        Some(on) => format!(
            "blocked {}: it does not start again until that is lifted\n",
            one_line(on)
        ),
        None if when_found => {
            "it does not start again: the block is set where it is found, once the ledger can be read\n".to_owned()
        }
        None => String::new(),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub(super) const fn is_not(when_found: &bool) -> bool {
    !*when_found
}

/// A number of things.
pub(super) fn counted(number: u64, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_what_it_would_be() {
        let now = Time::from_millis(1_795_219_200_000);
        let mut would = WouldEnd {
            on: "issuer:staff".to_owned(),
            applied: false,
            open: 1,
            partly: 0,
            clients: 2,
            credentials: 1,
            block: None,
            since: None,
        };
        let line = "issuer:staff: it would end 1 open task with 2 clients and 1 live credential; nothing is done yet\n";
        assert_eq!(would_line(&would, now), line);
        would.partly = 2;
        would.block = Some("issuer:staff".to_owned());
        let line = "issuer:staff: it would end 1 open task and a part of 2 others with 2 clients and 1 live credential, and block issuer:staff; nothing is done yet\n";
        assert_eq!(would_line(&would, now), line);
        assert_eq!(tasks_of(0, 1), "a part of 1 open task");
        would.since = Some(now);
        let line = "issuer:staff is blocked already, since 00:00:00: nothing would change\n";
        assert_eq!(would_line(&would, now), line);
    }

    /// Nobody is told that something is blocked where that is not known, nor that their reason ended
    /// what was over before.
    #[test]
    fn the_end_of_a_client_says_what_is_blocked_and_whose_the_end_is() {
        let now = Time::from_millis(1_795_219_200_000);
        let said = json!({
            "task": "task_00000000000000000000000000", "client": "client_00000000000000000000000000_2",
            "task_ended": false, "cause": "operator", "at": now, "last_possible_acceptance": now,
            "block": null, "block_if_its_own": true, "head": null,
        });
        let mut ended: ClientEnded = serde_json::from_value(said).unwrap();
        let line = client_line(&ended, "leaked", now);
        let (first, block) = line.split_once('\n').unwrap();
        let gone = "GONE 00:00:00 (operator: leaked); last possible acceptance 00:00:00";
        assert_eq!(first, gone);
        assert_eq!(block, NOT_BLOCKED);
        assert!(block.starts_with("nothing is blocked"), "{block}");
        ended.block_if_its_own = false;
        assert_eq!(client_line(&ended, "leaked", now), format!("{gone}\n"));
        ended.cause = Cause::OwnerOffboarded;
        let line = client_line(&ended, "leaked", now);
        assert!(
            line.starts_with("GONE 00:00:00 (owner_offboarded);"),
            "{line}"
        );
    }

    #[test]
    fn a_head_is_printed_as_it_stands() {
        let note = "x/acme\n1\nAAAA\n\n\u{2014} x/acme AAAAAAAA\n".to_owned();
        let lines = "head\n  x/acme\n  1\n  AAAA\n  \n  \u{2014} x/acme AAAAAAAA\n";
        assert_eq!(head_lines(Some(&note)), lines);
        assert_eq!(head_lines(None), "");
    }
}

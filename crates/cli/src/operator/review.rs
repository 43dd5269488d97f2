//! `dayfly review`: what the workloads of an owner may do and did, and that somebody has looked.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use dayfly_domain::{Digest, Name, Time};
use dayfly_server::record::{Allowed, HandsOver, Review, WorkloadReview, moment, one_line};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::change::says_something;
use super::place::{At, PlaceArgs};
use super::record::now;
use super::{findings, print, print_json, when};

/// Options of `dayfly review`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReviewArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Whose workloads
    #[arg(long, value_name = "NAME")]
    owner: Name,
    /// Count runs from then on: a date, a time, or 90d for ninety days ago
    #[arg(long, value_name = "TIME", default_value = "90d")]
    since: String,
    /// Record that you have looked at it and that it is in order
    #[arg(long, requires = "reason", requires = "revision")]
    sign_off: bool,
    /// The revision of the declared state that you have looked at, as the review shows it
    #[arg(long, value_name = "N", requires = "sign_off")]
    revision: Option<u64>,
    /// Why it is in order; it stands in the record
    #[arg(long, value_name = "TEXT", requires = "sign_off")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer to a sign-off.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    owner: Name,
    at: Time,
    revision: u64,
    hash: Digest,
    member: bool,
}

pub(super) async fn review(args: &ReviewArgs, at: At<'_>) -> Result<ExitCode> {
    let since = when::parse(&args.since, now())?;
    if let (Some(reason), Some(seen)) = (args.reason.as_deref(), args.revision) {
        says_something(reason)?;
        return sign(args, since, (reason, seen), at).await;
    }
    let record = args.place.record(at).await?;
    let review = record.review(&args.owner, since).await?;
    if args.json {
        return print_json(&review);
    }
    let mut text = text(&review, now());
    let owner = &args.owner;
    let _ = writeln!(
        text,
        "in order? dayfly review --owner {owner} --since {} --sign-off --revision {} --reason \"…\"",
        args.since, review.revision
    );
    print(&text)
}

async fn sign(
    args: &ReviewArgs,
    since: Time,
    (reason, seen): (&str, u64),
    at: At<'_>,
) -> Result<ExitCode> {
    let served = args.place.served(at).await?;
    let path = format!("owners/{}/review", args.owner);
    let query = format!("{path}?since={}", since.millis());
    let review: Review = served.get(&query).await?;
    if review.revision != seen {
        bail!(
            "revision {} of the declared state is in force, not {seen}: review it again",
            review.revision
        );
    }
    if !args.json {
        // What is signed is shown first.
        print(&text(&review, now()))?;
    }
    let body = json!({ "since": since, "hash": review.hash, "revision": seen, "reason": reason });
    let signed: Signed = served.post(&format!("{path}/sign"), &body).await?;
    if args.json {
        return print_json(&signed);
    }
    print(&format!(
        "signed off {}, over revision {} of the declared state{}\n",
        moment(signed.at, now()),
        signed.revision,
        if signed.member { ", as a member" } else { "" },
    ))
}

fn text(review: &Review, now: Time) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let _ = writeln!(
        text,
        "owner {}, runs since {}, revision {} of the declared state ({})",
        review.owner,
        moment(review.since, now),
        review.revision,
        review.hash
    );
    let _ = match &review.last {
        None => writeln!(text, "never signed off"),
        Some(last) if last.hash == review.hash => {
            writeln!(text, "signed off {}, as it is now", moment(last.at, now))
        }
        Some(last) => writeln!(
            text,
            "signed off {}, over revision {}: it is another one now",
            moment(last.at, now),
            last.revision
        ),
    };
    for workload in &review.workloads {
        text.push_str(&lines(workload, now));
    }
    if review.workloads.is_empty() {
        text.push_str("no workload\n");
    }
    for view in &review.findings {
        let _ = write!(text, "finding {}", findings::lines(view, now));
    }
    text
}

fn lines(workload: &WorkloadReview, now: Time) -> String {
    let mut lines = format!(
        "workload {}: {}\n",
        workload.workload,
        one_line(&workload.purpose)
    );
    let runs = workload.runs;
    let more = if workload.complete { "" } else { "the last " };
    let last = workload.last_run.map_or_else(String::new, |last| {
        format!(", the last {}", moment(last, now))
    });
    let silent = match workload.silent {
        0 => String::new(),
        silent => format!(", {silent} without a word at the end"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(lines, "  {more}{runs} runs{last}{silent}");
    for allowed in &workload.access {
        let granted = match (runs, allowed.granted) {
            (0, _) => String::new(),
            (_, 0) => ": never granted".to_owned(),
            (_, granted) if allowed.never.is_empty() => format!(": granted in {granted}"),
            (_, granted) => {
                let never = allowed.never.join(", ");
                format!(": granted in {granted}, but never {}", one_line(&never))
            }
        };
        let used = used(allowed, now);
        let _ = writeln!(lines, "  may {}{granted}{used}", one_line(&allowed.allowed));
    }
    if let Some(gives) = &workload.hands_over {
        let _ = writeln!(lines, "  {}", hands_over(&workload.workload, gives));
    }
    for giver in &workload.handed_by {
        let _ = writeln!(lines, "  may be handed to by workload {giver}");
    }
    lines
}

/// What was used of what was granted: `, used 3 times, the last 2026-11-29 09:00:00, but never publish`.
fn used(allowed: &Allowed, now: Time) -> String {
    if allowed.granted == 0 && allowed.used.as_ref().is_none_or(|used| used.times == 0) {
        return String::new();
    }
    let Some(used) = &allowed.used else {
        return ", uses not reported".to_owned();
    };
    let mut text = match used.times {
        0 => ", never used".to_owned(),
        1 => ", used once".to_owned(),
        times => format!(", used {times} times"),
    };
    if let Some(last) = used.last {
        text += &format!(", the last {}", moment(last, now));
    }
    if used.times > 0 && !used.never.is_empty() {
        text += &format!(", but never {}", one_line(&used.never.join(", ")));
    }
    text + &format!(" (reported since {})", moment(used.since, now))
}

fn hands_over(own: &Name, gives: &HandsOver) -> String {
    let to = gives.to.iter().map(|to| match (to == own, gives.proven) {
        (true, false) => "helpers of its own".to_owned(),
        (true, true) => "helpers of its own that prove themselves".to_owned(),
        (false, _) => format!("workload {to}"),
    });
    let to: Vec<String> = to.collect();
    format!(
        "may hand over to {}: {} deep, {} in all",
        to.join(", "),
        gives.depth,
        gives.clients
    )
}

#[cfg(test)]
mod tests {
    use dayfly_server::record::Used;

    use super::*;

    #[test]
    fn what_was_used_stands_beside_what_was_granted() {
        let at = |hour: u64| Time::from_seconds(hour * 3600);
        let granted = |used: Option<Used>| Allowed {
            allowed: "shelf book(identifier: octo/*)".to_owned(),
            granted: 3,
            never: Vec::new(),
            used,
        };
        let told = |times: u64, last: Option<Time>, never: &[&str]| {
            let never = never.iter().map(ToString::to_string).collect();
            let since = at(1);
            let used = Used {
                since,
                times,
                last,
                never,
            };
            used_in(&granted(Some(used)))
        };
        assert_eq!(
            told(0, None, &["get", "put"]),
            ", never used (reported since 1970-01-01 01:00:00)"
        );
        assert_eq!(
            told(1, Some(at(9)), &["put"]),
            ", used once, the last 1970-01-01 09:00:00, but never put (reported since 1970-01-01 01:00:00)"
        );
        assert_eq!(
            told(2, Some(at(9)), &[]),
            ", used 2 times, the last 1970-01-01 09:00:00 (reported since 1970-01-01 01:00:00)"
        );
        assert_eq!(used_in(&granted(None)), ", uses not reported");
        let never_granted = Allowed {
            granted: 0,
            ..granted(None)
        };
        assert_eq!(used_in(&never_granted), "");
    }

    fn used_in(allowed: &Allowed) -> String {
        used(allowed, Time::from_seconds(1_800_000_000))
    }
}

//! Findings in words: what is so, and what is to be done about it.

use dayfly_domain::{Name, Time};

use super::{Bound, Unowned, What};

impl What {
    /// What is so, in a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::NeverClosed {
                workload,
                count,
                first,
                last,
                ..
            } => never_closed(workload, *count, *first, *last),
            Self::Ownerless {
                owner,
                why,
                workloads,
            } => ownerless(owner, *why, *workloads),
            Self::OnePersonOwner { owner, workloads } => format!(
                "the only member of the owner {owner} is one person, and {} to it",
                belong(*workloads, "workload")
            ),
            Self::NamesOnly {
                workload, issuer, ..
            } => format!(
                "{workload} is matched by names of {issuer} alone: whoever takes a name that was given up runs as it"
            ),
            Self::BearerAllowed { workload, .. } => format!(
                "{workload} may have credentials that are bound to no key: whoever reads one in a log can use it"
            ),
            Self::BearerChild { workload, last, .. } => format!(
                "a client of {workload} handed a part of its access to a helper without a key, the last time on {}: whoever reads that credential can use it",
                to_the_day(*last)
            ),
            Self::StaticSecret { resource } => format!(
                "the resource {resource} authenticates by a secret that stays the same until somebody changes it"
            ),
            Self::Unused {
                workload,
                idle_since,
                ran,
                ..
            } => unused(workload, *idle_since, *ran),
            Self::NeverUsed { .. } => never_used(self),
            Self::NearBound {
                workload,
                bound,
                seen,
                most,
                ..
            } => near_bound(workload, *bound, *seen, *most),
            Self::ProofByTwoKeys {
                workload,
                count,
                last,
                ..
            } => format!(
                "a token that matches {workload} was shown with another key than it was used with first, {}, the last time {}: somebody else holds it, or one job makes two keys",
                counted(*count, "time"),
                to_the_second(*last),
            ),
            Self::OldBlock {
                on, count, oldest, ..
            } => old_block(on, *count, *oldest),
            Self::LowDisk { free_mib } => format!(
                "less than {} MiB are left on the disk of the data folder: the ledger stalls when it is full",
                free_mib + 64
            ),
        }
    }

    /// What is to be done about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NeverClosed { workload, .. } => format!(
                "have the job end its task, as `dayfly run` does even when it is cancelled; `dayfly trace {workload}` names the tasks. It closes a day after the last of these, once a task has ended by itself"
            ),
            Self::Ownerless { owner, why, .. } => match why {
                Unowned::NoMembers => {
                    format!("declare `members` of [owner.{owner}], and `dayfly apply`")
                }
                Unowned::MembersBlocked => format!(
                    "name somebody else in `members` of [owner.{owner}], and `dayfly apply`; or `dayfly unblock` who may act again"
                ),
                Unowned::Offboarded => format!(
                    "give its workloads another `owner`, or take them out, and `dayfly apply`; or `dayfly owner restore {owner}`"
                ),
            },
            Self::OnePersonOwner { owner, .. } => format!(
                "name a second person or a group in `members` of [owner.{owner}], and `dayfly apply`"
            ),
            Self::NamesOnly {
                workload, issuer, ..
            } => format!(
                "pin an id that is never given again in `match` of [workload.{workload}]; `dayfly proof` in a job prints what {issuer} gives"
            ),
            Self::BearerAllowed { workload, .. } => format!(
                "take `binding = \"optional\"` out of [workload.{workload}] once its jobs use `dayfly run` or another client with DPoP"
            ),
            Self::BearerChild { workload, .. } => format!(
                "give helpers of {workload} a key of their own, as `dayfly delegate` does, and take `binding = \"optional\"` out of [workload.{workload}]. It closes a week after the day of the last of these began"
            ),
            Self::StaticSecret { resource } => format!(
                "declare `jwks` instead of `secret_file` in [resource.{resource}], and let it sign assertions"
            ),
            Self::Unused { workload, .. } => {
                format!("take [workload.{workload}] out, and `dayfly apply`, if it runs no more")
            }
            Self::NeverUsed {
                workload, actions, ..
            } => format!(
                "take {} out of that detail of [workload.{workload}], or the detail as a whole, and `dayfly apply`; it closes with the first use too",
                actions.join(", ")
            ),
            Self::NearBound {
                workload, bound, ..
            } => make_room(workload, *bound),
            Self::ProofByTwoKeys {
                workload, refusal, ..
            } => format!(
                "find out who showed it, with `dayfly why {refusal}` while the server remembers and `dayfly trace {workload}`; it closes after a week without another"
            ),
            Self::OldBlock { on, .. } => lift(on),
            Self::LowDisk { .. } => {
                "make room, or have `ledger.retain` move old entries into bundles that you keep elsewhere"
                    .to_owned()
            }
        }
    }
}

fn never_closed(workload: &Name, count: u64, first: Time, last: Time) -> String {
    format!(
        "{} of {workload} ended by deadline or silence, without a word from the job: the first {}, the last {}",
        counted(count, "task"),
        to_the_second(first),
        to_the_second(last),
    )
}

fn ownerless(owner: &Name, why: Unowned, workloads: u64) -> String {
    let why = match why {
        Unowned::NoMembers => "names no members",
        Unowned::Offboarded => "is offboarded",
        Unowned::MembersBlocked => "names no member who is not blocked",
    };
    let belong = belong(workloads, "workload");
    format!("the owner {owner} {why}, and {belong} to it")
}

/// What is said of a part of an access that is never used.
fn never_used(what: &What) -> String {
    let What::NeverUsed {
        workload,
        resource,
        detail,
        actions,
        tasks,
        since,
        ..
    } = what
    else {
        return String::new();
    };
    format!(
        "{workload} was granted {} of {detail} in {} since {}, and {resource}, which reports each use, reports none",
        actions.join(", "),
        counted(*tasks, "task"),
        to_the_day(*since)
    )
}

fn unused(workload: &Name, idle_since: Time, ran: bool) -> String {
    let day = to_the_day(idle_since);
    if ran {
        format!("no task of {workload} started since {day}")
    } else {
        format!("no task of {workload} ever started, and it is known since {day}")
    }
}

/// How a workload gets further away from a bound.
fn make_room(workload: &Name, bound: Bound) -> String {
    match bound {
        Bound::Open | Bound::StartsPerHour => format!(
            "raise `{}` of [workload.{workload}], or find out why it runs so often: `dayfly task list --workload {workload}`",
            bound.key()
        ),
        Bound::Clients => format!(
            "give the jobs of {workload} tasks of their own, or raise `{}` in dayfly.toml",
            bound.key()
        ),
        Bound::Children => format!(
            "raise `{}` of [workload.{workload}], or have its jobs hand over less often",
            bound.key()
        ),
        Bound::Credentials => format!(
            "have the jobs of {workload} keep a credential until it is nearly over, or raise `{}` in dayfly.toml",
            bound.key()
        ),
    }
}

fn near_bound(workload: &Name, bound: Bound, seen: u64, most: u64) -> String {
    let what = match bound {
        Bound::Open => "open tasks",
        Bound::StartsPerHour => "starts within an hour",
        Bound::Clients => "clients in one task",
        Bound::Credentials => "live credentials of one client",
        Bound::Children => "clients that were handed over to in one task",
    };
    format!("{workload} had {seen} {what}, of {most} that it may")
}

fn old_block(on: &str, count: u64, oldest: Time) -> String {
    let blocks = if count == 1 {
        "a block stands".to_owned()
    } else {
        format!("{count} blocks stand")
    };
    let oldest = to_the_day(oldest);
    format!("{blocks} on {on} for more than 30 days, the oldest since {oldest}")
}

/// How a block is dealt with.
fn lift(on: &str) -> String {
    match on.split_once(':') {
        Some(("series" | "key" | "instance" | "issuer", _)) => {
            "`dayfly block list`, and `dayfly unblock` what has been dealt with".to_owned()
        }
        Some(("owner", owner)) => format!(
            "take [owner.{owner}] and its workloads out and `dayfly apply`, or `dayfly owner restore {owner}`"
        ),
        Some(("workload", workload)) => format!(
            "take [workload.{workload}] out and `dayfly apply`, or `dayfly workload enable {workload}`"
        ),
        Some(_) | None => "`dayfly unfreeze`, when what it was frozen for is over".to_owned(),
    }
}

fn counted(count: u64, of: &str) -> String {
    if count == 1 {
        format!("1 {of}")
    } else {
        format!("{count} {of}s")
    }
}

fn belong(count: u64, of: &str) -> String {
    let verb = if count == 1 { "belongs" } else { "belong" };
    format!("{} {verb}", counted(count, of))
}

/// `2026-11-29`.
fn to_the_day(time: Time) -> String {
    let text = time.to_string();
    text.split_once('T')
        .map_or_else(|| text.clone(), |(day, _)| day.to_owned())
}

/// `2026-11-29 12:00:00`.
fn to_the_second(time: Time) -> String {
    let text = time.to_string();
    let text = text.split_once('.').map_or(text.as_str(), |(head, _)| head);
    text.trim_end_matches('Z').replace('T', " ")
}

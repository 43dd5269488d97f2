//! The first line of a trace: one word, when, why, and until when something may still be accepted.

use dayfly_domain::Time;
use serde::{Deserialize, Serialize};

use super::end::EndNote;
use super::gather::Gathered;
use super::moment::{moment, one_line};
use super::named::Named;
use super::standing::{self, Stands};
use super::view::{IssuedView, TaskView};
use crate::mint::accepted_offline_until;

/// The verdict of a trace.
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its first word.
    pub word: Word,
    /// The whole line.
    pub line: String,
    /// What it says where the reason of the end in it may not be told; none where it gives none.
    #[serde(skip)]
    pub(super) unsaid: Option<Unsaid>,
}

impl PartialEq for Verdict {
    /// What is told counts alone.
    fn eq(&self, other: &Self) -> bool {
        (self.word, &self.line) == (other.word, &other.line)
    }
}

/// A verdict without the reason of the end in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsaid {
    /// The reason that the whole line gives.
    pub(super) reason: String,
    /// The line without it.
    pub(super) line: String,
}

impl Verdict {
    const fn new(word: Word, line: String) -> Self {
        Self {
            word,
            line,
            unsaid: None,
        }
    }

    /// Tells the end of these once with its reason and once without.
    fn telling(stands: &Stands, written: impl Fn(&Stands) -> Self) -> Self {
        let mut verdict = written(stands);
        if let Stands::Ended { cause, at, note } = stands
            && let Some(reason) = &note.reason
        {
            let silent = Stands::Ended {
                cause: *cause,
                at: *at,
                note: EndNote::default(),
            };
            verdict.unsaid = Some(Unsaid {
                reason: reason.clone(),
                line: written(&silent).line,
            });
        }
        verdict
    }
}

/// The first word of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Word {
    /// At least one of what was asked for is accepted now.
    Live,
    /// It waits for an approval, and nothing is accepted yet.
    Pending,
    /// It has ended, and nothing is accepted any more but until the last possible acceptance.
    Gone,
    /// Its own time ran out.
    Expired,
    /// The record knows nothing of it.
    Unknown,
}

/// What a verdict is told beside the record of tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    /// Now.
    pub(super) now: Time,
    /// What may be said of uses.
    pub(super) uses: &'a str,
}

/// The verdict on a task.
pub(super) fn on_task(task: &TaskView, beside: Beside<'_>) -> Verdict {
    write(
        &standing::of_task(task, beside.now),
        task,
        task.last_possible_acceptance,
        beside,
    )
}

/// The verdict on whom of a task a key names.
pub(super) fn on_named(named: &Named, beside: Beside<'_>) -> Verdict {
    write(
        &named.stands(beside.now),
        &named.task,
        named.last_acceptance,
        beside,
    )
}

/// The verdict on a credential. One whose key is given up is gone, though its task goes on.
pub(super) fn on_credential(task: &TaskView, issued: &IssuedView, beside: Beside<'_>) -> Verdict {
    let now = beside.now;
    let stands = standing::of_credential(task, issued, now);
    match (&stands, issued.key_compromised) {
        (Stands::Live { .. }, Some(at)) => {
            let last = issued.expires.min(accepted_offline_until(at, at));
            Verdict::new(
                Word::Gone,
                format!(
                    "GONE {} (its key is compromised; the task goes on); {}",
                    moment(at, now),
                    acceptance(Some(last), beside)
                ),
            )
        }
        (
            Stands::Live { .. }
            | Stands::Pending { .. }
            | Stands::Expired { .. }
            | Stands::Over { .. }
            | Stands::Ended { .. },
            _,
        ) => write(&stands, task, Some(issued.expires), beside),
    }
}

fn write(
    stands: &Stands,
    task: &TaskView,
    last_expiry: Option<Time>,
    beside: Beside<'_>,
) -> Verdict {
    Verdict::telling(stands, |stands| written(stands, task, last_expiry, beside))
}

fn written(
    stands: &Stands,
    task: &TaskView,
    last_expiry: Option<Time>,
    beside: Beside<'_>,
) -> Verdict {
    let now = beside.now;
    let last = |at: Option<Time>| acceptance(last_expiry.max(at), beside);
    let whose = format!(
        "task {}, workload {}, owner {}",
        task.task, task.workload, task.owner
    );
    let (word, line) = match stands {
        Stands::Live { until } => (
            Word::Live,
            format!("LIVE until {} ({whose})", moment(*until, now)),
        ),
        Stands::Pending { until, why } => (
            Word::Pending,
            format!(
                "PENDING until {} ({why}; {whose}); no credential was issued",
                moment(*until, now)
            ),
        ),
        Stands::Expired { at } => (
            Word::Expired,
            format!(
                "EXPIRED {} ({whose}); {}",
                moment(*at, now),
                last(Some(*at))
            ),
        ),
        Stands::Over { at, why } => (
            Word::Gone,
            format!(
                "GONE {}({why}, the end not yet recorded); {}",
                at.map(|at| moment(at, now) + " ").unwrap_or_default(),
                last(*at)
            ),
        ),
        Stands::Ended { at, .. } => (
            Word::Gone,
            format!(
                "GONE {} ({}); {}",
                moment(*at, now),
                ended(stands),
                last(Some(*at))
            ),
        ),
    };
    Verdict::new(word, line)
}

/// Cause and reason of an end: `operator: leaked`.
fn ended(stands: &Stands) -> String {
    match stands {
        Stands::Live { .. } | Stands::Pending { .. } => String::new(),
        Stands::Expired { .. } => "expired".to_owned(),
        Stands::Over { why, .. } => why.clone(),
        Stands::Ended { cause, note, .. } => match &note.reason {
            None => cause.word().to_owned(),
            Some(reason) => format!("{}: {}", cause.word(), one_line(reason)),
        },
    }
}

fn acceptance(last: Option<Time>, beside: Beside<'_>) -> String {
    let uses = beside.uses;
    match last {
        Some(last) => format!(
            "last possible acceptance {}; {uses}",
            moment(last, beside.now)
        ),
        None => format!("no credential was issued; {uses}"),
    }
}

/// The verdict on many tasks.
pub(super) fn on_many(many: &Gathered, beside: Beside<'_>) -> Verdict {
    let now = beside.now;
    let all = format!("{}{}", many.all(), if many.more { " or more" } else { "" });
    let what = one_line(&many.read_as.join(" and "));
    if many.live > 0 {
        let line = format!(
            "LIVE until {} ({} of {all} tasks, {what})",
            moment(many.live_until, now),
            many.live
        );
        return Verdict::new(Word::Live, line);
    }
    if many.pending > 0 {
        let line = format!(
            "PENDING ({} of {all} tasks wait for approval, none is live, {what})",
            many.pending
        );
        return Verdict::new(Word::Pending, line);
    }
    let last = |at: String, how: String| {
        let line = format!(
            "GONE {at}({how}the last of {all} tasks, {what}); {}",
            acceptance(many.last_acceptance, beside)
        );
        Verdict::new(Word::Gone, line)
    };
    match &many.last_end {
        Some((at, how)) => Verdict::telling(how, |how| {
            last(moment(*at, now) + " ", format!("{}; ", ended(how)))
        }),
        None => last(String::new(), String::new()),
    }
}

/// The verdict on what the record knows nothing of.
pub(super) fn unknown(what: &str, why: &str) -> Verdict {
    Verdict::new(Word::Unknown, format!("UNKNOWN {} ({why})", one_line(what)))
}

//! Reading the record: what a task was, who had what, and how it ended; nothing here changes anything.
//!
//! Every function reads a [`dayfly_store::Store`] and asks no clock, so that the same answers come
//! from a running server and from a database that was opened to be read only. Points in time are
//! milliseconds since 1970, as in the ledger itself.

mod bundle;
mod decisions;
mod end;
mod entry;
mod error;
mod findings;
mod gather;
mod key;
mod keys;
mod ledger;
mod list;
mod moment;
mod named;
mod parties;
mod reach;
mod reading;
mod receipt;
mod related;
mod review;
mod standing;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod trace;
mod uses;
mod verdict;
mod view;
mod withheld;

pub use bundle::bundle;
pub(crate) use bundle::evidence;
pub use decisions::{DecisionView, decisions};
pub use end::EndNote;
pub(crate) use end::SAID_IN;
pub(crate) use entry::{each_event, event_of, is_note, kind_of, task_of};
pub use error::RecordError;
pub use findings::{FindingView, Findings, findings};
pub use key::{KeyError, Page, RunUrl, TraceKey};
pub use keys::{BlockView, blocks, keys};
pub(crate) use ledger::Tiles;
pub use ledger::{Comparison, HeadView, HeldView, compare, head_view};
pub use list::{Filter, TaskLine, TaskPage, tasks};
pub use moment::{moment, one_line};
pub use parties::{OwnerView, WorkloadView, owners, workloads};
pub use reach::{CanReach, ClientReach, MayReach, ReachView, reach};
pub use reading::Known;
pub use receipt::receipt;
pub use related::{Related, Relation};
pub(crate) use review::signed_document;
pub use review::{
    Allowed, HandsOver, Review, SignedReview, Used, WorkloadReview, in_force, review,
};
pub use standing::waits_for;
pub use task::{task_record, task_state, task_view};
pub use timeline::{EntryLine, LedgerEntry, access_line, entries};
pub use trace::{Trace, TraceQuery, trace};
pub use verdict::{Verdict, Word};
pub use view::{ClientStanding, ClientView, CredentialView, IssuedView, Standing, TaskView};
pub use withheld::{Sees, withhold, withhold_of_task};

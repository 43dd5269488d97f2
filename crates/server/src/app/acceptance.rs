//! Until when what was stopped as a whole may still be accepted by those who verify offline: a time that no credential outlives, told without a look at any of them.

use dayfly_domain::{Span, Time};

use super::contain::Contained;
use super::revisions::Revisions;
use super::{App, Tenant};
use crate::declared::Declared;

/// No credential lives longer: no window is longer than a day, and no `ttl` than its window.
pub(super) const MOST_LIFE: Span = Span::from_seconds(24 * 3600);

/// What stands in the answer to every end, beside what ended.
#[derive(Clone, Debug)]
pub struct Parting {
    /// A time that no credential of it outlives.
    pub last_possible_acceptance: Time,
    /// A signed head of the ledger that holds the end, or the last one before it while the ledger is
    /// stalled; none where no head can be handed out.
    pub head: Option<String>,
}

impl App {
    /// What stands in the answer to a stop. `since` is a time at which it held already: now, right
    /// after it was acknowledged, or since when it stands.
    #[must_use]
    pub fn parting(&self, tenant: &Tenant, what: &Contained, since: Time) -> Parting {
        Parting {
            last_possible_acceptance: self.outlived(tenant, what, since),
            head: self.last_head_note(tenant),
        }
    }

    fn outlived(&self, tenant: &Tenant, what: &Contained, since: Time) -> Time {
        let declared = &tenant.loaded().declared;
        let longest = match what {
            // A child, too, has nothing longer than each workload above it and its own may have.
            Contained::Workload(name) => declared.workloads.get(name).map(|of| of.workload.ttl),
            Contained::Owner(_) | Contained::Issuer(_) | Contained::Tenant => {
                Some(longest_life(declared))
            }
        };
        let present = since + longest.unwrap_or(MOST_LIFE);
        // A state that was in force before may have given more.
        match Revisions::read(self.store.as_ref(), tenant.name()) {
            Ok(revisions) => revisions
                .last_expiry(MOST_LIFE)
                .map_or(present, |former| former.max(present)),
            Err(_) => since + MOST_LIFE,
        }
    }
}

/// The longest life that a declared state gives a credential.
pub(super) fn longest_life(declared: &Declared) -> Span {
    let workloads = declared.workloads.values();
    workloads
        .map(|found| found.workload.ttl)
        .max()
        .unwrap_or(Span::ZERO)
}

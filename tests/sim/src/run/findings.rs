//! What a person is told to look at in a run, compared at quiet points; and days that pass.

use std::collections::BTreeSet;

use dayfly_domain::{Span, Time};
use dayfly_server::record::findings;

use super::{Running, Verdict};
use crate::model::{Counted, KINDS};
use crate::reached::Place;
use crate::record;
use crate::world::acme;

/// How far apart looks are, at least.
const APART: Span = Span::from_seconds(60);
/// Longer than any task is open, and any token of before is shown.
const DAY_SECONDS: u64 = 86_400;

/// Up to where the ledger was read for what a look must find.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    /// How many entries it had.
    size: u64,
    /// What of them a process counted that is gone, or nobody was told of.
    lost: u64,
    at: Option<Time>,
    /// What was open then.
    open: BTreeSet<String>,
}

impl Running {
    /// Has the server look for findings, and compares them with what the model says, where everything
    /// is quiet.
    pub(super) async fn look_around(&mut self) -> Verdict {
        while self.looked.at.is_some_and(|at| {
            let now = self.model.now;
            now.since(at).max(at.since(now)) < APART
        }) {
            self.world.wait(APART.seconds());
            self.moved(true).await?;
        }
        if !self.is_clear() {
            return Ok(());
        }
        self.world.app.survey().await;
        self.looked.at = Some(self.model.now);
        self.read_ends();
        let (declared, now) = (&self.model.declared, self.model.now);
        self.model.ends.settle(declared, now);
        let must = self.model.findings();
        let found = findings(self.world.app.store(), &acme(), false);
        let found = found.map_err(|why| why.to_string())?.findings;
        let open: BTreeSet<String> = found
            .iter()
            .filter(|found| KINDS.contains(&found.what.kind()))
            .map(|found| found.id.clone())
            .collect();
        self.count_findings(&open);
        let known = |id: &&String| must.get(*id) != Some(&false);
        let wrong = open.iter().find(|id| !must.contains_key(*id));
        let missing = must.keys().find(|id| known(id) && !open.contains(*id));
        match (wrong, missing) {
            (Some(id), _) => Err(format!("{id} is open, and nothing of it is so: {found:?}")),
            (None, Some(id)) => Err(format!("{id} is not open: {open:?}")),
            (None, None) => Ok(()),
        }
    }

    /// Counts what opened and closed since the last look.
    fn count_findings(&mut self, open: &BTreeSet<String>) {
        let before = std::mem::replace(&mut self.looked.open, open.clone());
        let places = [
            ("ownerless/", Place::Ownerless, Place::OwnedAgain),
            ("old_block/", Place::OldBlock, Place::BlockGone),
            ("never_closed/", Place::NeverClosed, Place::ClosedAgain),
        ];
        for (kind, opened, closed) in places {
            let new = |id: &String| id.starts_with(kind) && !before.contains(id);
            self.reached.count_if(open.iter().any(new), opened);
            let gone = |id: &String| id.starts_with(kind) && !open.contains(id);
            self.reached.count_if(before.iter().any(gone), closed);
        }
    }

    /// What ended since the last look, as the ledger has it.
    fn read_ends(&mut self) {
        let entries = record::entries(self.world.app.store(), self.looked.size);
        for entry in &entries {
            let leaf = record::leaf(entry);
            let task = leaf["task"].as_str().and_then(|task| task.parse().ok());
            let task = task.and_then(|task| self.model.tasks.get(&task));
            let (Some(task), "task.ended") = (task, leaf["kind"].as_str().unwrap()) else {
                continue;
            };
            let how = Counted::of(leaf["data"]["cause"].as_str().unwrap());
            let at = Time::from_millis(leaf["at"].as_u64().unwrap());
            let may_be_lost = entry.pos < self.looked.lost;
            self.model.ends.add(task.workload, how, at, may_be_lost);
        }
        self.looked.size += entries.len() as u64;
    }

    /// What was recorded since the last look may not be counted: the process is gone that counted it,
    /// or a commit was kept of which nobody was told.
    pub(super) fn doubt_counts(&mut self) {
        let head = self.world.app.store().head(&acme());
        self.looked.lost = head.unwrap().size;
    }

    /// Days pass: everything is over, and nobody asks for any of it again.
    pub(super) async fn pass_days(&mut self, days: u64) -> Verdict {
        self.world.wait(days * DAY_SECONDS);
        self.moved(true).await?;
        self.compare_all()?;
        self.parties.clear();
        self.held.clear();
        self.requests.clear();
        Ok(())
    }
}

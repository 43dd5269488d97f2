//! What is held and not durable yet: it is written to the journal as soon as that takes it.

use std::sync::{Arc, MutexGuard};

use dayfly_domain::Name;

use super::journal::Journal;
use super::record::Held;
use super::store::{ObeyingStore, Shared, State, answered, is_kept};

/// How many of those that wait for the journal are written at a time: each is a sync of the disk,
/// and an end that comes meanwhile waits for them.
const TOGETHER: usize = 256;

impl ObeyingStore {
    /// Whether all that is held for a tenant outlives this process, once the journal was tried
    /// again: whoever repeats an end is told of the first one what is true by now.
    pub(in crate::app) async fn keeps_all(&self, tenant: &Name) -> bool {
        if !self.shared.is_closed() || !self.shared.state().may_lose(tenant) {
            return true;
        }
        self.keep_unkept().await;
        !self.shared.state().may_lose(tenant)
    }

    /// Tries again to have the journal keep what it could not.
    pub(super) async fn keep_unkept(&self) {
        if self.shared.state().unkept.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        answered(tokio::task::spawn_blocking(move || shared.keep(&[]))).await;
    }
}

impl Shared {
    /// Has the journal keep what it could not before, and these; whether these are durable then.
    pub(super) fn keep(&self, held: &[Arc<Held>]) -> bool {
        let mut journal = self.open_journal();
        let unkept: Vec<Arc<Held>> = {
            let state = self.state();
            state.unkept.iter().take(TOGETHER).cloned().collect()
        };
        // A disk that fails is not asked for each of them, and those that are new are tried once more.
        let _all = unkept
            .iter()
            .all(|unkept| self.keep_one(&mut journal, unkept));
        // Each of them, whatever becomes of those before it.
        let kept = held.iter().map(|held| self.keep_one(&mut journal, held));
        kept.fold(true, |all, kept| all & kept)
    }

    fn keep_one(&self, journal: &mut MutexGuard<'_, Option<Journal>>, held: &Arc<Held>) -> bool {
        // What was recorded meanwhile must not be in a journal that was emptied since.
        if !self.state().is_unkept(held) {
            return true;
        }
        let kept = journal
            .as_mut()
            .is_some_and(|journal| is_kept(journal.ends.keep(held)));
        if kept {
            self.state_mut().forget_unkept(std::slice::from_ref(held));
        }
        kept
    }
}

impl State {
    /// Takes note that the ledger has these, which are the next in order.
    pub(super) fn count_recorded(&mut self, batch: &[Arc<Held>]) {
        self.recorded += batch.len();
        self.forget_unkept(batch);
    }

    fn forget_unkept(&mut self, safe: &[Arc<Held>]) {
        let is_safe = |held: &Arc<Held>| safe.iter().any(|safe| Arc::ptr_eq(safe, held));
        self.unkept.retain(|held| !is_safe(held));
    }

    fn is_unkept(&self, held: &Arc<Held>) -> bool {
        self.unkept.iter().any(|unkept| Arc::ptr_eq(unkept, held))
    }

    /// Whether anything that is held for a tenant is lost with this process.
    fn may_lose(&self, tenant: &Name) -> bool {
        self.unkept.iter().any(|held| held.tenant == *tenant)
    }
}

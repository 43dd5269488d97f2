//! Uses of credentials, judged one after the other.

use std::collections::BTreeSet;

use dayfly_domain::{Cause, ClientState, Digest, Task, TaskId, Time};
use dayfly_ledger::ReadLeaf;

use super::ledger::Ledger;
use crate::{AppendError, Observed, Spend, Use};

/// The one-time keys that the uses of one call have spent so far.
type Together = BTreeSet<(Time, Digest)>;

impl Ledger {
    pub(super) fn observe(&mut self, uses: &[Use]) -> Result<Vec<Observed>, AppendError> {
        let mut next = self.clone();
        let mut together = Together::new();
        let observed = uses
            .iter()
            .map(|used| next.observe_one(used, &mut together))
            .collect::<Result<_, _>>()?;
        *self = next;
        Ok(observed)
    }

    fn observe_one(
        &mut self,
        used: &Use,
        together: &mut Together,
    ) -> Result<Observed, AppendError> {
        let Some(open) = self.open_task(used.client.task) else {
            return Ok(Observed::Ended(self.cause_of(used.client.task)));
        };
        let over = open.task.lapsed(used.now, open.heard);
        if let Some(cause) = over.or_else(|| client_over(&open.task, used.client.number, used.now))
        {
            return Ok(Observed::Ended(cause));
        }
        let relied = open.stale_for(used.client.number).cloned();
        if let Some(of) = self.moved_since(&used.relies).or(relied) {
            return Ok(Observed::Stale(of));
        }
        if used
            .revision
            .is_some_and(|revision| revision != self.revision)
        {
            return Ok(Observed::Revised);
        }
        let mut ons = used.unblocked.iter();
        if let Some(on) = ons.find(|on| self.blocks.stands(on)) {
            return Ok(Observed::Blocked(on.clone()));
        }
        let forgotten = |spend: &Spend| !self.keeps(&spend.key);
        if used.spend.as_ref().is_some_and(forgotten) {
            return Ok(Observed::Forgotten);
        }
        let at = self.at.max(used.now);
        let sealed = self.seal_note(&used.note, at)?;
        if let Some(spend) = &used.spend {
            let key = (spend.key.at, spend.key.digest);
            if !together.contains(&key) {
                match self.check_spends(std::slice::from_ref(spend)) {
                    Ok(()) => {}
                    Err(AppendError::SpentKey { by, .. }) => return Ok(Observed::Spent(by)),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(limit) = &used.limit {
            let counter = (used.client, limit.counter.clone());
            let counted = self.counters.entry(counter).or_default();
            if *counted >= limit.most {
                return Ok(Observed::Exhausted);
            }
            *counted += 1;
        }
        if let Some(spend) = &used.spend {
            let key = (spend.key.at, spend.key.digest);
            self.spent.insert(key, (spend.key.until, spend.by));
            together.insert(key);
        }
        self.push(sealed, at);
        Ok(Observed::Recorded(self.entries.len() as u64 - 1))
    }

    fn cause_of(&self, task: TaskId) -> Cause {
        let mut entries = self.entries.iter().rev();
        let last = entries.find(|entry| entry.link.is_some_and(|(id, _)| id == task));
        let cause = last.and_then(|entry| {
            let read = ReadLeaf::parse(entry.stored.leaf.as_bytes()).ok()?;
            let data: serde_json::Value = serde_json::from_str(read.leaf.data.get()).ok()?;
            serde_json::from_value(data.get("cause")?.clone()).ok()
        });
        cause.unwrap_or(Cause::Restored)
    }
}

/// Why a client is over, or one it was delegated from.
fn client_over(task: &Task, number: u32, now: Time) -> Option<Cause> {
    let Some(client) = task.client(number) else {
        return Some(Cause::Restored);
    };
    if let ClientState::Ended { cause, .. } = client.state {
        return Some(cause);
    }
    if now >= client.expires {
        return Some(Cause::Deadline);
    }
    let parent = client.parent.filter(|parent| *parent < number)?;
    client_over(task, parent, now).map(|_| Cause::Parent)
}

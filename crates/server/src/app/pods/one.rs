//! One question of a pod at a time: whoever shows proof after proof takes the places of no other pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::Name;

/// How many proofs of one pod may wait behind the one that is asked about.
const WAITING: usize = 8;

/// A pod, by tenant, issuer and instance.
pub(super) type Pod = (Name, Name, String);

/// The pods whose proofs are being asked about: no more than there are requests.
#[derive(Debug, Default)]
pub(in crate::app) struct OneEach(Mutex<HashMap<Pod, Arc<tokio::sync::Mutex<()>>>>);

/// A proof of a pod that is asked about, or waits until another is.
#[derive(Debug)]
pub(super) struct Place<'a> {
    all: &'a OneEach,
    pod: Pod,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl OneEach {
    /// A place in the queue of a pod; none where too many of it wait.
    pub(super) fn place(&self, pod: Pod) -> Option<Place<'_>> {
        let mut held = self.held();
        let turn = held.entry(pod.clone()).or_default();
        // The map holds one, each place another; the first place does not wait.
        if Arc::strong_count(turn) > 1 + WAITING {
            return None;
        }
        let turn = Arc::clone(turn);
        Some(Place {
            all: self,
            pod,
            turn,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Pod, Arc<tokio::sync::Mutex<()>>>> {
        // INVARIANT: every write under this lock is whole after each statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits for the turn, which lasts as long as what is answered lives.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.all.held();
        // Its own and that of the map: nobody else of this pod asks.
        if Arc::strong_count(&self.turn) <= 2 {
            held.remove(&self.pod);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> Pod {
        let name = |text: &str| text.parse().unwrap();
        (name("acme"), name("cluster"), uid.to_owned())
    }

    #[tokio::test]
    async fn a_pod_has_one_turn_at_a_time_and_a_few_who_wait() {
        let each = OneEach::default();
        let first = each.place(pod("one")).unwrap();
        let turn = first.turn().await;
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| each.place(pod("one")).unwrap())
            .collect();
        assert!(waiting.iter().all(|place| place.turn.try_lock().is_err()));
        assert!(each.place(pod("one")).is_none());
        // Another pod waits for none of it.
        let other = each.place(pod("two")).unwrap();
        drop(other.turn().await);
        drop(turn);
        drop(first);
        drop(waiting[0].turn().await);
        assert!(each.place(pod("one")).is_some());
        drop((waiting, other));
        assert!(each.held().is_empty());
    }
}

//! Turns: requests that lost against each other over one series go on one after the other.

use std::hash::{DefaultHasher, Hash, Hasher};

use dayfly_domain::{Name, Task};
use tokio::sync::{Mutex, MutexGuard};

/// How many series can be told apart; those that share a place only wait for each other.
const PLACES: usize = 256;

/// The places at which losers queue. Without them all the jobs of a large run that ask at once
/// would lose again and again: a commit takes one change of a task, whoever decided on its state.
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// Waits for the turn of a series, which lasts as long as what is answered lives.
    pub(super) async fn take(
        &self,
        tenant: &Name,
        issuer: &Name,
        series: &str,
    ) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        (tenant, issuer, series).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % PLACES as u64).ok()?;
        Some(self.0.get(place)?.lock().await)
    }

    /// The same for the series of a task.
    pub(super) async fn of(&self, tenant: &Name, task: &Task) -> Option<MutexGuard<'_, ()>> {
        self.take(tenant, &task.issuer, &task.series).await
    }
}

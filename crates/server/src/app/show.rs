//! What a client may see of its own task, and the receipt it may take along.

use std::sync::Arc;

use dayfly_domain::{ClientId, Refusal, Rule, Task, TaskId};
use dayfly_store::Store;

use super::authenticate::{Presented, ended, same_task};
use super::end::client_active;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::record::{self, RecordError};

impl App {
    /// The caller's own task.
    ///
    /// # Errors
    /// The refusal.
    pub fn show(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<serde_json::Value, Refused> {
        self.try_show(tenant, task, presented, trail)
            .map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    fn try_show(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<serde_json::Value, Refusal> {
        let proven = self.authenticate(tenant, presented, trail)?;
        same_task(task, proven.id.client)?;
        let mut view = record::task_view(self.store.as_ref(), tenant.name(), task)
            .map_err(|why| unavailable(&why))?
            .ok_or_else(|| ended("it ended meanwhile"))?;
        let number = proven.id.client.number;
        if !is_root(&proven.open.task, number) {
            // A helper sees itself and what it handed on, and nothing of those beside or above it.
            let below = |shown: &ClientId| {
                let mut chain = proven.open.task.chain(shown.number);
                chain.any(|(above, _)| above == number)
            };
            view.clients.retain(|client| below(&client.client));
            view.subject = None;
        }
        serde_json::to_value(view).map_err(|why| unavailable(&why))
    }

    /// The text of the receipt of the caller's own task; for ten minutes after the end too.
    ///
    /// # Errors
    /// The refusal.
    pub async fn own_receipt(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<String, Refused> {
        match self.try_receipt(tenant, task, presented, trail).await {
            Ok(receipt) => Ok(receipt),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    /// Reads what is as long as the history of a task: few at once, and not where requests are
    /// served. Whoever no longer waits for it does not make its place free sooner.
    pub(super) async fn replayed<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, Refusal> {
        // It is never closed.
        let place = Arc::clone(&self.replays).acquire_owned().await.ok();
        let store = Arc::clone(&self.store);
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            read(store.as_ref())
        });
        let read = reading.await.map_err(|why| unavailable(&why))?;
        read.map_err(|why| unavailable(&why))
    }

    async fn try_receipt(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<String, Refusal> {
        let now = self.now();
        let own = self.own_token(tenant, presented.token)?;
        trail.task = Some(own.id.client.task);
        same_task(task, own.id.client)?;
        let active = self
            .open_task(tenant, task)?
            .is_some_and(|open| client_active(&open, own.id.client));
        let state = if active {
            self.authenticate(tenant, presented, trail)?.open.task
        } else {
            // It may be taken along for ten minutes after the client's own end, or its task's.
            self.check_ended_caller(tenant, presented, &own, now)
                .await?
        };
        if !is_root(&state, own.id.client.number) {
            return Err(Refusal::new(Rule::RootOnly)
                .field("client")
                .wanted("a root client: a receipt tells of the whole task")
                .got(own.id.client.to_string()));
        }
        let note = self.head_note(tenant).map_err(|why| unavailable(&why))?;
        let (name, origin) = (tenant.name().clone(), tenant.origin().to_owned());
        let text = self.replayed(move |store| {
            let receipt = record::receipt(store, &name, &origin, &note, task, false)?;
            Ok(receipt.map(|receipt| serde_json::to_string(&receipt)))
        });
        text.await?
            .ok_or_else(|| ended("no such task"))?
            .map_err(|why| unavailable(&why))
    }
}

fn is_root(task: &Task, number: u32) -> bool {
    task.client(number)
        .is_some_and(|client| client.parent.is_none())
}

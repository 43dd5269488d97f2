//! What a client may see of its own task, and the receipt it may take along.

use std::sync::Arc;

use dayfly_domain::{Refusal, TaskId};

use super::authenticate::{Presented, ended, same_task};
use super::end::client_active;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::record;

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
        let view = record::task_view(self.store.as_ref(), tenant.name(), task)
            .map_err(|why| unavailable(&why))?
            .ok_or_else(|| ended("it ended meanwhile"))?;
        serde_json::to_value(view).map_err(|why| unavailable(&why))
    }

    /// The receipt of the caller's own task; for ten minutes after the end too.
    ///
    /// # Errors
    /// The refusal.
    pub fn own_receipt(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<dayfly_ledger::Receipt, Refused> {
        self.try_receipt(tenant, task, presented, trail)
            .map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    /// Waits until few enough receipts are being made; the place is given up as it is dropped.
    pub(crate) async fn place_for_receipt(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.receipts).acquire_owned().await.ok()
    }

    fn try_receipt(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<dayfly_ledger::Receipt, Refusal> {
        let now = self.now();
        let own = self.own_token(tenant, presented.token)?;
        trail.task = Some(own.id.client.task);
        same_task(task, own.id.client)?;
        let active = self
            .open_task(tenant, task)?
            .is_some_and(|open| client_active(&open, own.id.client));
        if active {
            self.authenticate(tenant, presented, trail)?;
        } else {
            // It may be taken along for ten minutes after the client's own end, or its task's.
            self.check_ended_caller(tenant, presented, &own, now)?;
        }
        self.receipt(tenant, task)
    }

    /// The receipt of a task.
    ///
    /// # Errors
    /// A refusal when the record cannot be asked or holds no such task.
    pub fn receipt(
        &self,
        tenant: &Tenant,
        task: TaskId,
    ) -> Result<dayfly_ledger::Receipt, Refusal> {
        let note = self.head_note(tenant).map_err(|why| unavailable(&why))?;
        record::receipt(
            self.store.as_ref(),
            tenant.name(),
            tenant.origin(),
            &note,
            task,
            false,
        )
        .map_err(|why| unavailable(&why))?
        .ok_or_else(|| ended("no such task"))
    }
}

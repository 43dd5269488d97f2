//! Heartbeats: a root client says that it is still there.

use dayfly_domain::{Heartbeat, Refusal, Rule, TaskId, Time};
use dayfly_store::Touch;

use super::authenticate::{Presented, same_task};
use super::refuse::{Refused, Trail};
use super::{App, Tenant};

/// The answer to a beat.
#[derive(Clone, Copy, Debug)]
pub struct Beaten {
    /// How silence is watched.
    pub heartbeat: Heartbeat,
    /// When the task ends at the latest.
    pub deadline: Time,
}

impl App {
    /// Takes a beat of a root client. A beat after the miss is refused.
    ///
    /// # Errors
    /// The refusal.
    pub fn beat(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<Beaten, Refused> {
        self.try_beat(tenant, task, presented, trail)
            .map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    fn try_beat(
        &self,
        tenant: &Tenant,
        task: TaskId,
        presented: &Presented<'_>,
        trail: &mut Trail,
    ) -> Result<Beaten, Refusal> {
        let proven = self.authenticate(tenant, presented, trail)?;
        same_task(task, proven.id.client)?;
        let state = &proven.open.task;
        let root = state
            .client(proven.id.client.number)
            .is_some_and(|client| client.parent.is_none());
        if !root {
            return Err(Refusal::new(Rule::RootOnly)
                .field("client")
                .wanted("a root client")
                .got(proven.id.client.to_string()));
        }
        let now = self.now();
        tenant.pulse.beat(now, state.heartbeat.every);
        self.store
            .touch(tenant.name(), Touch::Beat { task, at: now });
        Ok(Beaten {
            heartbeat: state.heartbeat,
            deadline: state.deadline,
        })
    }
}

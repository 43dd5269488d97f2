//! What an end by hand would take, looked at beforehand: counted by the same decisions, and refused wherever the end itself would be.

use std::collections::BTreeSet;

use dayfly_domain::{BlockOn, ClientId, EpochOf, Name, Refusal, TaskId, Time, apply};
use dayfly_store::OpenTask;

use super::authenticate::ended;
use super::contain::{Contained, Stop, check_heir, check_known, is_over, stopped_already};
use super::cut::{blocked_instance, check_issuer, cut_events, nothing_open, own_instance, trail};
use super::ending::series_of;
use super::instance::{Held, InstanceOf};
use super::operate::check_text;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// What an end would take. What is over already, recorded or not, is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WouldEnd {
    /// How many open tasks end as a whole.
    pub open: u64,
    /// How many go on without some of their clients.
    pub partly: u64,
    /// How many active clients end.
    pub clients: u64,
    /// How many live credentials of these.
    pub credentials: u64,
    /// The block that stands after it.
    pub block: Option<BlockOn>,
    /// Since when it is stopped as is asked for, where it is already and nothing would change.
    pub since: Option<Time>,
    /// To whom its workloads would be handed over, and how many there are.
    pub handed_over: Option<(Name, u64)>,
}

impl WouldEnd {
    /// Counts what ends of a task: all of it, or the clients that `ends` tells.
    fn count(&mut self, open: &OpenTask, now: Time, whole: bool, ends: impl Fn(u32) -> bool) {
        if is_over(open, now) {
            return;
        }
        let (task, before) = (&open.task, self.clients);
        for (number, client) in (1u32..).zip(&task.clients) {
            let active = task.check_client(number, now).is_ok();
            let over = !active || open.stale_for(number).is_some();
            if !over && (whole || ends(number)) {
                self.clients += 1;
                let live = client.credentials.iter();
                self.credentials += live.filter(|held| now < held.expires).count() as u64;
            }
        }
        if whole {
            self.open += 1;
        } else if self.clients > before {
            self.partly += 1;
        }
    }

    /// Counts what ends of a task with everything that relies on an epoch.
    fn count_relying(&mut self, open: &OpenTask, now: Time, of: &EpochOf) {
        let task = &open.task;
        let whole = task.epochs.iter().any(|epoch| epoch.of == *of);
        self.count(open, now, whole, |number| {
            let own = task.chain(number);
            let own = own.filter_map(|(_, client)| client.own.as_ref());
            own.flat_map(|own| &own.epochs).any(|epoch| epoch.of == *of)
        });
    }
}

impl App {
    /// What stopping something would take, and whether it could be done. It looks at every open
    /// task, so it belongs on a thread that may wait.
    ///
    /// # Errors
    /// The refusal: there is nothing by that name, nobody can answer for what is handed over, or the
    /// store cannot answer.
    pub fn would_stop(
        &self,
        tenant: &Tenant,
        what: &Contained,
        stop: &Stop,
    ) -> Result<WouldEnd, Refused> {
        let counted = self.try_would_stop(tenant, what, stop);
        counted.map_err(|refusal| {
            let trail = Trail {
                asked: "contain",
                ..Trail::default()
            };
            self.refuse(tenant, &trail, refusal)
        })
    }

    fn try_would_stop(
        &self,
        tenant: &Tenant,
        what: &Contained,
        stop: &Stop,
    ) -> Result<WouldEnd, Refusal> {
        check_known(tenant, what)?;
        let facts = self.containment(tenant, what)?;
        let since = stopped_already(&facts, what, stop)?;
        let block = match stop {
            Stop::End => None,
            Stop::Block | Stop::HandOver(_) => Some(what.block()),
        };
        let mut would = WouldEnd {
            block,
            since,
            ..WouldEnd::default()
        };
        if since.is_some() {
            return Ok(would);
        }
        if let Stop::HandOver(to) = stop {
            let loaded = tenant.loaded();
            check_heir(&loaded.declared, what, to, &facts)?;
            let is_handed_over = |of: &Name| *what == Contained::Owner(of.clone());
            let owners = loaded.declared.workloads.values();
            let owners = owners.map(|declared| &declared.workload.owner);
            let count = owners.filter(|owner| is_handed_over(owner)).count();
            would.handed_over = Some((to.clone(), count as u64));
        }
        let (now, of) = (self.now(), what.epoch());
        self.each_open(tenant, |open| would.count_relying(open, now, &of))
            .map_err(|why| unavailable(&why))?;
        Ok(would)
    }

    /// What the end of a client would take.
    ///
    /// # Errors
    /// The refusal: it is over, it has no instance of its own to block, or the store cannot answer.
    pub fn client_would_end(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
    ) -> Result<WouldEnd, Refused> {
        let counted = self.try_client_would_end(tenant, client, block);
        counted.map_err(|refusal| self.refuse(tenant, &trail(), refusal))
    }

    fn try_client_would_end(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
    ) -> Result<WouldEnd, Refusal> {
        let now = self.now_for_ends();
        let Some(open) = self.open_task(tenant, client.task)? else {
            return Err(self.not_open_now(tenant, client.task));
        };
        let held = Held {
            open,
            clients: BTreeSet::from([client.number]),
        };
        let task = &held.open.task;
        let mut would = WouldEnd::default();
        if !self.would_cut(tenant, &held, now, &mut would)? {
            task.check_client(client.number, now)?;
            return Err(ended("the client is over"));
        }
        let on = block.then(|| own_instance(task, client.number));
        would.block = on.transpose()?;
        Ok(would)
    }

    /// What the end of a task would take.
    ///
    /// # Errors
    /// The refusal: there is no such open task, or the store cannot answer.
    pub fn task_would_end(&self, tenant: &Tenant, task: TaskId) -> Result<WouldEnd, Refused> {
        let open = match self.open_task(tenant, task) {
            Ok(Some(open)) => Ok(open),
            Ok(None) => Err(self.not_open_now(tenant, task)),
            Err(why) => Err(why),
        };
        let open = open.map_err(|refusal| self.refuse(tenant, &trail(), refusal))?;
        let mut would = WouldEnd {
            block: Some(series_of(&open.task)),
            ..WouldEnd::default()
        };
        would.count(&open, self.now(), true, |_| true);
        Ok(would)
    }

    /// What the end of an instance would take. It looks for it, so it belongs on a thread that may
    /// wait.
    ///
    /// # Errors
    /// The refusal: nothing is open of it and no block is wanted, it is not known whose it is, or the
    /// store cannot answer.
    pub fn instance_would_end(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
    ) -> Result<WouldEnd, Refused> {
        let counted = self.try_instance_would_end(tenant, what, block);
        counted.map_err(|refusal| self.refuse(tenant, &trail(), refusal))
    }

    fn try_instance_would_end(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
    ) -> Result<WouldEnd, Refusal> {
        check_text(&what.instance)?;
        check_issuer(tenant, what)?;
        let held = self.looking(tenant, what).held();
        let held = held.map_err(|why| unavailable(&why))?;
        let now = self.now_for_ends();
        let (mut would, mut any) = (WouldEnd::default(), false);
        for held in &held {
            any |= self.would_cut(tenant, held, now, &mut would)?;
        }
        if block {
            would.block = Some(blocked_instance(tenant, what, &held)?);
        } else if !any {
            return Err(nothing_open(what));
        }
        Ok(would)
    }

    /// Counts what ends of a task with these clients of it; whether there is an end to record at all.
    fn would_cut(
        &self,
        tenant: &Tenant,
        held: &Held,
        now: Time,
        would: &mut WouldEnd,
    ) -> Result<bool, Refusal> {
        let over = self.moves_of_one(tenant, &held.open)?.over(&held.open, now);
        let events = cut_events(&held.open, &held.clients, &over, None, now)?;
        if events.is_empty() {
            return Ok(false);
        }
        let id = held.open.task.id;
        let mut after = held.open.task.clone();
        for event in &events {
            after = apply(Some(after), id, event)
                .ok_or_else(|| unavailable(&"an end does not fit its task"))?;
        }
        would.count(&held.open, now, after.has_ended(), |number| {
            after.check_client(number, now).is_err()
        });
        Ok(true)
    }
}

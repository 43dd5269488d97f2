//! What operators and the platform do in a run: they end, contain, let go, and declare otherwise.

use dayfly_domain::{BlockOn, Name, TaskId};
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Stop};

use super::{Running, Verdict, declared, nth};
use crate::caller;
use crate::model::WORKLOADS;
use crate::world::Run;

/// The model knows one issuer, and no operation blocks it.
const NO_ISSUER: &str = "an issuer is contained, of which the model knows nothing";
const BY: Actor = Actor::Local { uid: 0 };

impl Running {
    pub(super) async fn operator_end(&mut self, place: usize) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let app = &self.world.app;
        let done = app.operator_end(&self.world.tenant, party.task, &BY, "simulated");
        let done = done.await;
        let over = self.model.is_over(&self.model.tasks[&party.task]);
        match done {
            Ok(_) => {
                let run = self.model.tasks[&party.task].run.id;
                self.model.end_task(party.task);
                self.model.blocked.insert((party.workload, run));
                Ok(())
            }
            Err(_) if over || self.model.is_doubtful(party.task) => Ok(()),
            Err(refused) => Err(format!("not ended: {:?}", refused.refusal)),
        }
    }

    pub(super) async fn end_by_hand(&mut self, place: usize) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let (task, number) = (party.task, party.number);
        let (app, tenant) = (&self.world.app, &self.world.tenant);
        let done = app
            .end_client(tenant, party.client.id, false, &BY, "simulated")
            .await;
        match done {
            Ok(_) => {
                self.model.end_client(task, number);
                Ok(())
            }
            Err(_) if !self.model.is_client_alive(task, number) => Ok(()),
            Err(_) if self.model.is_doubtful(task) => Ok(()),
            Err(refused) => Err(format!("not ended: {:?}", refused.refusal)),
        }
    }

    /// Ends all that is open of an owner or a workload, which sets no block.
    pub(super) async fn end_all(&mut self, what: Contained) -> Verdict {
        if !self.is_declared(&what) {
            return Ok(());
        }
        let (app, tenant) = (&self.world.app, &self.world.tenant);
        let done = app.stop(tenant, &what, &Stop::End, &BY, "simulated").await;
        self.judge(Some(true), done)?;
        self.end_of(&what)
    }

    /// What is open of what was named ends.
    pub(super) fn end_of(&mut self, what: &Contained) -> Verdict {
        match what {
            Contained::Owner(owner) => {
                let owner = owner_of(owner);
                self.model
                    .end_where(|task| WORKLOADS[task.workload].owner == owner);
            }
            Contained::Workload(name) => {
                let workload = workload_of(name);
                self.model.end_where(|task| task.workload == workload);
            }
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => drop(self.model.end_where(|_| true)),
        }
        Ok(())
    }

    /// The platform says that an attempt of the run of a task is over.
    pub(super) async fn cancel(&mut self, place: usize, next: bool) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let Run { id, attempt, job } = self.model.tasks[&party.task].run;
        let attempt = attempt + u64::from(next);
        let run = Run { id, attempt, job };
        let workload = party.workload;
        let said = caller::is_over(&self.world, WORKLOADS[workload].repository, run).await;
        self.judge(Some(true), said)?;
        // What no declared workload could claim and nothing claimed is not written down.
        self.model.closed.insert((workload, id, attempt));
        self.model.end_where(|task| {
            let of = (task.workload, task.run.id, task.run.attempt);
            of == (workload, id, attempt)
        });
        Ok(())
    }

    pub(super) async fn unblock(&mut self, place: usize) -> Verdict {
        let blocked: Vec<(usize, u64)> = self.model.blocked.iter().copied().collect();
        let Some((workload, run)) = nth(&blocked, place) else {
            return Ok(());
        };
        let on = series(workload, run);
        let app = &self.world.app;
        let done = app.unblock(&self.world.tenant, on, &BY, "simulated").await;
        match done {
            Ok(_) => {
                self.model.blocked.remove(&(workload, run));
                Ok(())
            }
            Err(_) if !self.is_clear() => Ok(()),
            Err(refused) => Err(format!("not unblocked: {:?}", refused.refusal)),
        }
    }

    pub(super) async fn contain(&mut self, what: Contained) -> Verdict {
        if !self.is_declared(&what) {
            return Ok(());
        }
        let app = &self.world.app;
        let done = app
            .contain(&self.world.tenant, &what, &BY, "simulated")
            .await;
        self.judge(Some(true), done)?;
        match &what {
            Contained::Owner(owner) => drop(self.model.offboarded.insert(owner_of(owner))),
            Contained::Workload(name) => drop(self.model.disabled.insert(workload_of(name))),
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => self.model.frozen = true,
        }
        self.end_of(&what)
    }

    pub(super) async fn lift(&mut self, what: Contained) -> Verdict {
        let app = &self.world.app;
        let done = app.lift(&self.world.tenant, &what, &BY, "simulated").await;
        let stands = match &what {
            Contained::Owner(owner) => self.model.offboarded.contains(owner_of(owner)),
            Contained::Workload(name) => self.model.disabled.contains(&workload_of(name)),
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => self.model.frozen,
        };
        if done.is_err() && stands && !self.is_clear() {
            return Ok(());
        }
        if self.judge(Some(stands), done)?.is_some() {
            match &what {
                Contained::Owner(owner) => drop(self.model.offboarded.remove(owner_of(owner))),
                Contained::Workload(name) => {
                    self.model.disabled.remove(&workload_of(name));
                }
                Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
                Contained::Tenant => self.model.frozen = false,
            }
        }
        Ok(())
    }

    pub(super) fn is_declared(&self, what: &Contained) -> bool {
        match what {
            Contained::Owner(_) | Contained::Issuer(_) | Contained::Tenant => true,
            Contained::Workload(name) => self.model.declared.contains(&workload_of(name)),
        }
    }

    /// Takes a workload out of the declared state, or puts it back.
    pub(super) async fn apply(&mut self, workload: usize, agrees: bool) -> Verdict {
        if !self.is_clear() {
            return Ok(());
        }
        let mut next = self.model.clone();
        let removes = next.declared.remove(&workload);
        if !removes {
            next.declared.insert(workload);
        }
        self.world.declare(&declared(&next));
        let (app, tenant) = (&self.world.app, &self.world.tenant);
        let request = ApplyRequest {
            dry_run: true,
            ..ApplyRequest::default()
        };
        let would = app.apply(tenant, request, &BY, "simulated").await;
        let would = would.map_err(|why| why.to_string())?.ends;
        let request = ApplyRequest {
            ends: agrees.then_some(would),
            ..ApplyRequest::default()
        };
        match app.apply(tenant, request, &BY, "simulated").await {
            Ok(_) => {}
            Err(ApplyError::Ends { .. }) if !agrees && would > 0 => return Ok(()),
            Err(why) => return Err(why.to_string()),
        }
        self.model.declared = next.declared;
        if removes {
            let doubtful = |id: &TaskId| self.model.is_doubtful(*id);
            let doubts = self.model.tasks.keys().filter(|id| doubtful(id)).count() as u64;
            let ended = self.model.end_where(|task| task.workload == workload);
            if ended.len() as u64 > would {
                return Err(format!("{would} would end, and {ended:?} did"));
            }
            // What ends by policy blocks its run once it is recorded.
            self.world.app.sweep().await;
            self.model.hear();
            self.take_blocks(&ended, doubts > 0)?;
        }
        Ok(())
    }

    /// Takes over the blocks that stand, which must be on what ended by policy.
    pub(super) fn take_blocks(&mut self, ended: &[TaskId], doubts: bool) -> Verdict {
        let blocks = self.world.app.blocks(&self.world.tenant).unwrap();
        for id in ended {
            let task = &self.model.tasks[id];
            let on = series(task.workload, task.run.id);
            if blocks.iter().any(|block| block.on == on) {
                self.model.blocked.insert((task.workload, task.run.id));
            } else if !doubts {
                return Err(format!("no block on {on}"));
            }
        }
        Ok(())
    }
}

fn owner_of(name: &Name) -> &'static str {
    let found = WORKLOADS.iter().find(|w| w.owner == name.as_str());
    found.unwrap().owner
}

fn workload_of(name: &Name) -> usize {
    WORKLOADS
        .iter()
        .position(|w| w.name == name.as_str())
        .unwrap()
}

fn series(workload: usize, run: u64) -> BlockOn {
    let repository = WORKLOADS[workload].repository;
    format!("series:github:repository_id,run_id:{repository}/{run}")
        .parse()
        .unwrap()
}

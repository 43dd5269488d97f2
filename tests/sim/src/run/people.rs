//! What operators and the platform do in a run: they end, contain, let go, and declare otherwise.

use dayfly_domain::{BlockOn, Name, TaskId};
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Stop};

use super::{Running, Verdict, declared, nth};
use crate::caller;
use crate::model::{Model, Proof, WORKLOADS, Workload};
use crate::reached::Place;
use crate::world::Run;

/// The model knows one issuer, and no operation blocks it.
const NO_ISSUER: &str = "an issuer is contained, of which the model knows nothing";
const BY: Actor = Actor::Local { uid: 0 };

/// What is blocked: a run, or one key.
#[derive(Clone, Copy)]
enum Blocked {
    Run((usize, u64)),
    Key((usize, Run)),
}

impl Running {
    pub(super) async fn operator_end(&mut self, place: usize) -> Verdict {
        let Some(task) = nth(&self.all_tasks(), place) else {
            return Ok(());
        };
        let app = &self.world.app;
        let done = app.operator_end(&self.world.tenant, task, &BY, "simulated");
        let done = done.await;
        let over = self.model.is_over(&self.model.tasks[&task]);
        match done {
            Ok(_) => {
                let (run, workload) = (
                    self.model.tasks[&task].run,
                    self.model.tasks[&task].workload,
                );
                self.model.end_task(task);
                self.block_run(workload, run.id);
                Ok(())
            }
            Err(_) if over || self.model.is_doubtful(task) => Ok(()),
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
        let Some(task) = nth(&self.all_tasks(), place) else {
            return Ok(());
        };
        let workload = self.model.tasks[&task].workload;
        let Run { id, attempt, job } = self.model.tasks[&task].run;
        let attempt = attempt + u64::from(next);
        let run = Run { id, attempt, job };
        if WORKLOADS[workload].proof == Proof::Person {
            return Ok(());
        }
        let said = caller::is_over(&self.world, WORKLOADS[workload].repository, run).await;
        self.judge(Some(true), said)?;
        // What no declared workload could claim and nothing claimed is not written down.
        self.model.closed.insert((workload, id, attempt));
        let ended = self.model.end_where(|task| {
            let of = (task.workload, task.run.id, task.run.attempt);
            of == (workload, id, attempt)
        });
        let waited = |id: &TaskId| !self.model.tasks[id].is_opened();
        let waited = ended.iter().any(waited);
        self.reached.count_if(waited, Place::Cancelled);
        Ok(())
    }

    pub(super) async fn unblock(&mut self, place: usize) -> Verdict {
        let runs = self.model.blocked.keys().map(|of| Blocked::Run(*of));
        let keys = self.model.barred.keys().map(|of| Blocked::Key(*of));
        let all: Vec<Blocked> = runs.chain(keys).collect();
        let Some(blocked) = nth(&all, place) else {
            return Ok(());
        };
        let on = match blocked {
            Blocked::Run((workload, run)) => self.series(workload, run).await,
            Blocked::Key((workload, run)) => self.key(workload, run).await,
        };
        if self.lift_block(on).await? {
            match blocked {
                Blocked::Run(of) => self.model.blocked.remove(&of),
                Blocked::Key(of) => self.model.barred.remove(&of),
            };
        }
        Ok(())
    }

    /// Blocks the key of a task by hand: it stays open, and gets nothing further.
    pub(super) async fn block(&mut self, place: usize) -> Verdict {
        let Some(task) = nth(&self.all_tasks(), place) else {
            return Ok(());
        };
        let task = &self.model.tasks[&task];
        let (workload, run) = (task.workload, task.run);
        let on = self.key(workload, run).await;
        let app = &self.world.app;
        let done = app.set_block(&self.world.tenant, on, &BY, "simulated");
        let done = done.await;
        self.judge(Some(true), done)?;
        let since = self.model.barred.entry(Model::key(workload, run));
        since.or_insert(self.model.now);
        Ok(())
    }

    /// What was granted, and what waits for people.
    fn all_tasks(&self) -> Vec<TaskId> {
        let tasks = self.parties.iter().map(|party| party.task);
        tasks.chain(self.requested()).collect()
    }

    /// Lifts a block that stands; whether it is lifted.
    pub(super) async fn lift_block(&self, on: BlockOn) -> Result<bool, String> {
        let app = &self.world.app;
        let done = app.unblock(&self.world.tenant, on, &BY, "simulated").await;
        match done {
            Ok(_) => Ok(true),
            Err(_) if !self.is_clear() => Ok(false),
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
        let now = self.model.now;
        match &what {
            Contained::Owner(owner) => {
                let since = self.model.offboarded.entry(owner_of(owner));
                since.or_insert(now);
            }
            Contained::Workload(name) => {
                let since = self.model.disabled.entry(workload_of(name));
                since.or_insert(now);
            }
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => drop(self.model.frozen.get_or_insert(now)),
        }
        self.end_of(&what)
    }

    pub(super) async fn lift(&mut self, what: Contained) -> Verdict {
        let app = &self.world.app;
        let done = app.lift(&self.world.tenant, &what, &BY, "simulated").await;
        let stands = match &what {
            Contained::Owner(owner) => self.model.offboarded.contains_key(owner_of(owner)),
            Contained::Workload(name) => self.model.disabled.contains_key(&workload_of(name)),
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => self.model.frozen.is_some(),
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
                Contained::Tenant => self.model.frozen = None,
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
            self.take_blocks(&ended, doubts > 0).await?;
        }
        Ok(())
    }

    /// Takes over the blocks that stand, which must be on what ended by policy.
    async fn take_blocks(&mut self, ended: &[TaskId], doubts: bool) -> Verdict {
        let blocks = self.world.app.blocks(&self.world.tenant).unwrap();
        for id in ended {
            let task = &self.model.tasks[id];
            let (workload, run) = (task.workload, task.run.id);
            let on = self.series(workload, run).await;
            if blocks.iter().any(|block| block.on == on) {
                self.block_run(workload, run);
            } else if !doubts {
                return Err(format!("no block on {on}"));
            }
        }
        Ok(())
    }

    /// Nothing of a run starts any more.
    fn block_run(&mut self, workload: usize, run: u64) {
        let since = self.model.blocked.entry((workload, run));
        since.or_insert(self.model.now);
    }

    /// The block on a run; where people start tasks, on all of a person's.
    async fn series(&self, workload: usize, run: u64) -> BlockOn {
        let Workload {
            proof, repository, ..
        } = WORKLOADS[workload];
        let of = match proof {
            Proof::Job | Proof::Agent => format!("repository_id,run_id:{repository}/{run}"),
            Proof::Person => format!("person:{}", self.pseudonym(run).await),
        };
        format!("series:{}:{of}", proof.issuer()).parse().unwrap()
    }

    /// The block on a key.
    async fn key(&self, workload: usize, run: Run) -> BlockOn {
        let Workload {
            proof,
            repository,
            joins,
            ..
        } = WORKLOADS[workload];
        let Run { id, job, .. } = run;
        let of = match proof {
            Proof::Job | Proof::Agent if joins => format!("{repository}/{id}"),
            Proof::Job | Proof::Agent => format!("{repository}/{id}/{job}"),
            Proof::Person => format!("{}/{job}", self.pseudonym(id).await),
        };
        format!("key:{}:{of}", proof.issuer()).parse().unwrap()
    }

    /// What a person is called in leaves.
    async fn pseudonym(&self, who: u64) -> String {
        let on = self.block_on(usize::try_from(who).unwrap()).await;
        on.to_string().replace("barred:", "")
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

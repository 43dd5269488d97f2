//! Each way to end what was granted, for the plays that have it beside a grant, a hand-over or a use.

use dayfly_domain::{BlockOn, Name, Outcome};
use dayfly_server::app::{Actor, Contained, InstanceOf, Stop};

use super::explore::Answer;
use crate::caller::{Client, is_over};
use crate::world::{Run, World};

const BY: Actor = Actor::Local { uid: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Offboarding,
    Disabling,
    Freeze,
    /// Everything open of the owner, and nothing is kept from starting.
    Owner,
    Workload,
    Issuer,
    /// An offboarding by which another owner answers for the workloads from the same write on.
    HandOver,
    /// The client ends its whole task, or itself.
    Task,
    Client,
    Revocation,
    Operator,
    /// One client, by an operator.
    ByHand,
    /// A job, wherever it is, with a block.
    Instance,
    /// The platform says that the run is over.
    Webhook,
}

/// What is ended: something of `team`.
pub(super) struct What<'w> {
    pub(super) workload: &'static str,
    /// Where its jobs run.
    pub(super) repository: u64,
    /// The job whose instance is ended, and whose run is over.
    pub(super) run: Run,
    /// The client that ends; none where nothing has started yet.
    pub(super) there: Option<&'w (Client, String)>,
}

impl Ending {
    /// How it stops something as a whole; none where it ends one thing.
    pub(super) fn stop(self) -> Option<Stop> {
        match self {
            Self::Offboarding | Self::Disabling | Self::Freeze => Some(Stop::Block),
            Self::Owner | Self::Workload | Self::Issuer => Some(Stop::End),
            Self::HandOver => Some(Stop::HandOver("others".parse().unwrap())),
            Self::Task
            | Self::Client
            | Self::Revocation
            | Self::Operator
            | Self::ByHand
            | Self::Instance
            | Self::Webhook => None,
        }
    }

    /// Whether what comes later is kept out.
    pub(super) fn keeps_out(self) -> bool {
        match self.stop() {
            Some(stop) => stop == Stop::Block,
            None => matches!(self, Self::Instance | Self::Webhook),
        }
    }
}

impl What<'_> {
    pub(super) async fn end(&self, world: &World, ending: Ending) -> Answer {
        let (app, tenant) = (&world.app, &world.tenant);
        let there = || {
            let (client, token) = self.there.unwrap();
            (client, token.as_str())
        };
        match ending {
            Ending::Offboarding
            | Ending::Disabling
            | Ending::Freeze
            | Ending::Owner
            | Ending::Workload
            | Ending::Issuer
            | Ending::HandOver => {
                let (what, stop) = (self.whole(ending), ending.stop().unwrap());
                Answer::of_end(app.stop(tenant, &what, &stop, &BY, "a race").await)
            }
            Ending::Task | Ending::Client => {
                let ((client, token), whole) = (there(), ending == Ending::Task);
                Answer::of_end(client.end(world, token, whole, Outcome::Failed).await)
            }
            Ending::Revocation => {
                let (client, token) = there();
                Answer::of_end(client.revoke(world, token).await)
            }
            Ending::Operator => {
                let task = there().0.id.task;
                Answer::of_end(app.operator_end(tenant, task, &BY, "a race").await)
            }
            Ending::ByHand => {
                let client = there().0.id;
                let done = app.end_client(tenant, client, false, &BY, "a race");
                Answer::of_end(done.await)
            }
            Ending::Instance => {
                let what = self.instance();
                let done = app.end_instance(tenant, &what, true, &BY, "a race");
                Answer::of_end(done.await)
            }
            Ending::Webhook => Answer::of_end(is_over(world, self.repository, self.run).await),
        }
    }

    /// Lifts the block that an end has left, where it left one of its own.
    pub(super) async fn lift(&self, world: &World, ending: Ending) {
        let (app, tenant) = (&world.app, &world.tenant);
        let lifted = match ending.stop() {
            Some(Stop::Block | Stop::HandOver(_)) => {
                app.lift(tenant, &self.whole(ending), &BY, "over").await
            }
            None if ending == Ending::Instance => {
                let InstanceOf { issuer, instance } = self.instance();
                let on = BlockOn::Instance {
                    issuer: issuer.unwrap(),
                    instance,
                };
                app.unblock(tenant, on, &BY, "over").await.map(drop)
            }
            Some(Stop::End) | None => return,
        };
        assert!(lifted.is_ok(), "{lifted:?}");
    }

    /// What is stopped as a whole.
    fn whole(&self, ending: Ending) -> Contained {
        match ending {
            Ending::Offboarding | Ending::Owner | Ending::HandOver => {
                Contained::Owner("team".parse().unwrap())
            }
            Ending::Disabling | Ending::Workload => {
                Contained::Workload(self.workload.parse().unwrap())
            }
            Ending::Freeze => Contained::Tenant,
            Ending::Issuer => Contained::Issuer(issuer()),
            Ending::Task
            | Ending::Client
            | Ending::Revocation
            | Ending::Operator
            | Ending::ByHand
            | Ending::Instance
            | Ending::Webhook => panic!("it ends one thing"),
        }
    }

    /// The job, as an operator names it.
    fn instance(&self) -> InstanceOf {
        let (repository, Run { id, attempt, job }) = (self.repository, self.run);
        InstanceOf {
            issuer: Some(issuer()),
            instance: format!(
                "repository_id={repository},run_id={id},run_attempt={attempt},check_run_id={job}"
            ),
        }
    }
}

fn issuer() -> Name {
    "github".parse().unwrap()
}

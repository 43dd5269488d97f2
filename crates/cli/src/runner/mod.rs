//! The runner's side: opens a task for a command, serves it tokens while it runs, and ends the task.

pub(crate) mod delegate;
pub(crate) mod proof;
pub(crate) mod run;
pub(crate) mod token;

pub(crate) mod address;
mod child;
mod clauses;
mod end;
mod heartbeat;
mod loopback;
mod plan;
mod proxy;
mod request;
mod session;
mod supervise;
mod waiting;

mod listener;
mod patience;
mod person;
mod problem;
mod proof_source;
mod server;
mod signals;
mod span;
mod surrounding;
mod terminal;
mod tokens;
mod wire;

use std::future::Future;

use anyhow::{Context, Result};

/// Runs a command of the runner to its end on one thread, which is all it needs.
fn block_on<T>(command: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(command))
}

//! The one place on the server that draws random bytes.

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;
use dayfly_domain::{RefusalId, TaskId, Time};

/// The system has no randomness to give; nothing that needs it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// Fresh random bytes.
///
/// # Errors
/// [`NoRandomness`] when the system has none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A fresh task id of this time.
///
/// # Errors
/// [`NoRandomness`] when the system has none.
pub(crate) fn task_id(now: Time) -> Result<TaskId, NoRandomness> {
    Ok(TaskId::new(now.millis(), bytes()?))
}

/// A fresh refusal id of this time. Without randomness it carries the time alone: a refusal is
/// explained even then, and its id is no authority.
#[must_use]
pub(crate) fn refusal_id(now: Time) -> RefusalId {
    RefusalId::new(now.millis(), bytes().unwrap_or_default())
}

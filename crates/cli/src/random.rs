//! Makes names and secrets that nobody can guess.

use anyhow::{Result, anyhow};
use aws_lc_rs::rand;
use dayfly_token::b64;

/// 32 random bytes in base64url.
pub(crate) fn name() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| anyhow!("the system gives no randomness"))?;
    Ok(b64::encode(bytes))
}

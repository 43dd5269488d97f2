//! Says every now and then that the run is alive, and learns that its task was ended elsewhere.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::output::say;
use crate::runner::server::Body;
use crate::runner::session::Session;
use crate::runner::tokens::Token;
use crate::runner::wire::{Beat, Failure, Refusal};

const DEFAULT_EVERY: Duration = Duration::from_secs(30);
const RETRY_AFTER_LOSS: Duration = Duration::from_secs(5);

/// Beats until the server says that the task is over, and says why.
///
/// Whatever else goes wrong is lost contact: it is said once, and beating goes on.
pub(crate) async fn keep(session: &Session) -> Refusal {
    let mut every = DEFAULT_EVERY;
    let mut in_contact = true;
    loop {
        let pause = match beat(session).await {
            Ok(wanted) => {
                if !in_contact {
                    say("the server is heard again");
                }
                in_contact = true;
                every = wanted.unwrap_or(every);
                every
            }
            Err(Failure::Refused(refusal)) if refusal.means_ended() => return *refusal,
            Err(failure) => {
                if in_contact {
                    say(format_args!("lost contact, the command goes on: {failure}"));
                }
                in_contact = false;
                every.min(RETRY_AFTER_LOSS)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One beat; a token that is not taken is renewed once, for only a renewal tells a dead token from a dead client.
async fn beat(session: &Session) -> Result<Option<Duration>, Failure> {
    let token = session.any_token().await?;
    match send(session, &token).await {
        Err(Failure::Refused(refusal)) if refusal.status == 401 && !refusal.means_ended() => {
            let token = session.another_token().await?;
            send(session, &token).await
        }
        answer => answer,
    }
}

async fn send(session: &Session, token: &Token) -> Result<Option<Duration>, Failure> {
    if session.is_delegated() {
        // A helper keeps no task alive: it only asks whether it is still there, as often as its task is
        // to beat, and every 30 s however seldom that is.
        let path = format!("tasks/{}", session.task());
        let answer = session.call(Method::GET, &path, Body::Empty, token).await?;
        let every = answer.get("heartbeat").and_then(|of| of.get("every"));
        return Ok(every
            .and_then(Value::as_u64)
            .map(|millis| bounded(Duration::from_millis(millis)).min(DEFAULT_EVERY)));
    }
    let path = format!("tasks/{}/heartbeat", session.task());
    let answer = session
        .call(Method::POST, &path, Body::Empty, token)
        .await?;
    let beat: Beat = serde_json::from_value(Value::Object(answer))
        .context("the answer to a heartbeat is malformed")?;
    Ok(beat
        .every
        .map(|seconds| bounded(Duration::from_secs(seconds))))
}

/// Neither so often that it is a flood, nor so seldom that nobody would notice.
fn bounded(every: Duration) -> Duration {
    every.clamp(Duration::from_secs(1), Duration::from_secs(3_600))
}

//! Ends what a run opened, and hears how it ended.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::output::say;
use crate::runner::patience::patiently;
use crate::runner::server::{Body, Call};
use crate::runner::session::Session;
use crate::runner::wire::{Ended, Failure};

/// How long a server that is away is asked to take an end.
const WAIT: Duration = Duration::from_secs(30);

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Failed,
    Cancelled,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Ends the run's client and says in one line how the task ended, or a helper alone; a failure is said and changes
/// nothing.
pub(crate) async fn end(session: &Session, outcome: Outcome) {
    let ended = patiently(WAIT, "the server", async || match session.key() {
        Some(_) => end_client(session, outcome).await,
        None => revoke(session).await,
    })
    .await;
    // A helper's task goes on.
    let what = match session.is_delegated() {
        true => session.client(),
        false => session.task(),
    };
    match ended {
        Ok(ended) => say(ended.line(what)),
        Err(failure) => {
            let outcome = outcome.as_str();
            say(format_args!(
                "the end of {what} ({outcome}) was not taken: {failure}"
            ));
        }
    }
}

/// The server lets the same key repeat an end, so a lost answer costs nothing.
async fn end_client(session: &Session, outcome: Outcome) -> Result<Ended, Failure> {
    let path = format!("clients/{}/end", session.client());
    let body = Body::Json(json!({"outcome": outcome.as_str()}));
    let token = match session.any_token().await {
        Ok(token) => token,
        // After an end elsewhere nothing is renewed, but the end is still told to whoever holds an old token.
        Err(failure) => session.newest_token().ok_or(failure)?,
    };
    let answer = match session
        .call(Method::POST, &path, body.clone(), &token)
        .await
    {
        Err(Failure::Refused(refusal)) if refusal.status == 401 => {
            let token = session.another_token().await?;
            session.call(Method::POST, &path, body, &token).await?
        }
        answer => answer?,
    };
    Ok(Ended::of(answer))
}

/// A run without a key cannot prove that an end is its own, but revoking its newest token ends its client as well.
async fn revoke(session: &Session) -> Result<Ended, Failure> {
    let mut answer = Map::new();
    if let Some(token) = session.newest_token() {
        let form = vec![
            ("token", token.secret().expose().to_owned()),
            ("token_type_hint", "access_token".to_owned()),
            ("client_id", session.client().to_owned()),
        ];
        let call = Call {
            method: Method::POST,
            url: session.server().address().below("revoke"),
            body: Body::Form(form),
            key: None,
            token: None,
        };
        session.server().send(&call).await?;
        answer.insert("cause".to_owned(), Value::from("revoked"));
    }
    let checkpoint = session.server().address().below("ledger/checkpoint");
    if let Ok(head) = session.server().text(&checkpoint).await {
        answer.insert("head".to_owned(), Value::from(head));
    }
    Ok(Ended::of(answer))
}

//! What the server answers, as this client reads it.

use core::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dayfly_token::excerpt::Excerpt;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::output;
use crate::secret::Secret;

/// Why a call got no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server said no.
    #[error("refused: {0}")]
    Refused(Box<Refusal>),
    /// The server could not be heard, or cannot answer now; another time it may.
    #[error("{}", .0.why)]
    Away(Away),
    /// Anything that no repetition helps.
    #[error("{0:#}")]
    Fault(#[from] anyhow::Error),
}

/// A server that did not answer.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    /// What happened instead.
    pub(crate) why: String,
    /// When it wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// The rule's no behind a limit, which is the answer once nobody waits any longer.
    pub(crate) refusal: Option<Box<Refusal>>,
    /// For how long asking again may help, counted from the first time; as long as anybody waits where none is said.
    pub(crate) within: Option<Duration>,
    /// The rule that named why not, where one did.
    pub(crate) rule: Option<String>,
}

impl Failure {
    pub(crate) fn away(why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Away(Away {
            why,
            retry_after: None,
            refusal: None,
            within: None,
            rule: None,
        })
    }

    /// The exit code of a command that fails for this.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => output::REFUSED,
            Self::Away(_) | Self::Fault(_) => output::FAILED,
        }
    }

    /// Says why, with everything that helps to find the rule behind a refusal.
    pub(crate) fn say(&self) {
        output::say(self);
        if let Self::Refused(refusal) = self {
            for line in refusal.details() {
                output::say(line);
            }
        }
    }
}

/// An explained no.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: u16,
    /// The OAuth error code.
    pub(crate) error: String,
    description: Option<String>,
    id: Option<String>,
    refused: Map<String, Value>,
    /// That people are asked first, where it is no refusal at all.
    pub(crate) deferral: Option<Deferral>,
}

/// What a request that waits for an approval is asked about with (Deferred Token Response, draft 01).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Deferral {
    #[serde(rename = "deferral_code")]
    pub(crate) code: Secret,
    pub(crate) expires_in: u64,
    pub(crate) interval: u64,
    /// The task that waits.
    pub(crate) task: String,
    /// Where people operate the server, where it says so.
    #[serde(default)]
    admin_url: Option<String>,
}

impl Deferral {
    /// Where people operate the server, as it may stand in a command: scheme, host and port in plain
    /// letters, and nothing that a shell would read.
    pub(crate) fn admin_url(&self) -> Option<&str> {
        let text = self.admin_url.as_deref()?;
        let url = url::Url::parse(text).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ":/.-[]".contains(c);
        let is_origin = url.origin().ascii_serialization() == text;
        let is_web = matches!(url.scheme(), "http" | "https");
        (is_web && is_origin && text.chars().all(plain)).then_some(text)
    }

    fn read(error: Option<&str>, body: &Map<String, Value>) -> Option<Self> {
        if error != Some("authorization_pending") || !body.contains_key("deferral_code") {
            return None;
        }
        // What lacks a member, or names its task in a way that is none of an id, is not waited for.
        let read: Self = serde_json::from_value(Value::Object(body.clone())).ok()?;
        is_id(&read.task).then_some(read)
    }
}

impl Refusal {
    /// Reads an OAuth error; anything else was not written by Dayfly.
    pub(crate) fn read(status: u16, body: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            status,
            deferral: Deferral::read(text("error").as_deref(), body),
            error: text("error")?,
            description: text("error_description"),
            id: text("refusal"),
            refused: body
                .get("refused")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        })
    }

    /// The rule that said no, where the server names it.
    pub(crate) fn rule(&self) -> Option<&str> {
        self.refused.get("rule").and_then(Value::as_str)
    }

    /// Whether the server has said, by rule or else by status, that task or client are over.
    pub(crate) fn means_ended(&self) -> bool {
        match self.rule() {
            Some(rule) => matches!(
                rule,
                "task_ended"
                    | "client_ended"
                    | "already_ended"
                    | "older_attempt"
                    | "deadline"
                    | "silent"
                    | "rights_removed"
                    | "not_found"
            ),
            None => {
                matches!(self.status, 403 | 404 | 410)
                    || matches!(self.error.as_str(), "invalid_grant" | "invalid_client")
            }
        }
    }

    /// For whom the call was made through this program: the error as the server wrote it.
    pub(crate) fn as_json(&self) -> Value {
        let mut body = Map::new();
        body.insert("error".to_owned(), self.error.clone().into());
        for (name, value) in [
            ("error_description", &self.description),
            ("refusal", &self.id),
        ] {
            if let Some(value) = value {
                body.insert(name.to_owned(), value.clone().into());
            }
        }
        if !self.refused.is_empty() {
            body.insert("refused".to_owned(), Value::Object(self.refused.clone()));
        }
        Value::Object(body)
    }

    fn details(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let parts: Vec<String> = ["stage", "rule", "field", "got"]
            .iter()
            .filter_map(|name| {
                let value = self.refused.get(*name)?;
                Some(format!("{name} {}", Excerpt::of_json(value)))
            })
            .collect();
        if !parts.is_empty() {
            lines.push(parts.join(", "));
        }
        if let Some(id) = self.id.as_deref().filter(|id| is_id(id)) {
            lines.push(format!("the whole explanation: dayfly why {id}"));
        }
        lines
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Excerpt::of(&self.error))?;
        if let Some(description) = &self.description {
            write!(f, ": {}", Excerpt::of(description))?;
        }
        Ok(())
    }
}

/// A good answer of the token endpoint.
#[derive(Debug, Deserialize)]
pub(crate) struct Granted {
    pub(crate) access_token: Secret,
    pub(crate) token_type: String,
    pub(crate) expires_in: u64,
    pub(crate) scope: Option<String>,
    pub(crate) authorization_details: Option<Value>,
    pub(crate) task: String,
    pub(crate) client_id: String,
    pub(crate) task_expires_at: u64,
}

impl Granted {
    pub(crate) fn read(body: Map<String, Value>) -> Result<Self> {
        // The parser's own message could hold a piece of the token.
        let granted: Self = serde_json::from_value(Value::Object(body)).map_err(|_| {
            anyhow!("the server's grant lacks a member, or has one of another type")
        })?;
        ensure!(
            is_id(&granted.task) && is_id(&granted.client_id),
            "the server's grant names task or client in a way that is none of its ids"
        );
        Ok(granted)
    }
}

/// What the server says of an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Map<String, Value>);

impl Ended {
    pub(crate) fn of(body: Map<String, Value>) -> Self {
        Self(body)
    }

    /// One line that names what ended, how, until when it may still have been accepted, and the head: the
    /// client alone where its task goes on with others. The head is a signed note as a JSON string, so that
    /// whoever keeps the line keeps every byte of it.
    pub(crate) fn line(&self, what: &str) -> String {
        let alone = self.0.get("task_ended") == Some(&Value::Bool(false));
        let client = self.0.get("client").and_then(Value::as_str);
        let client = client.filter(|client| alone && is_id(client));
        let mut line = format!("{} ended", client.unwrap_or(what));
        if let Some(cause) = self.0.get("cause") {
            line.push_str(&format!(" {}", Excerpt::of_json(cause)));
        }
        if let Some(at) = self.0.get("at") {
            line.push_str(&format!(" at {}", moment(at)));
        }
        if let Some(last) = self.0.get("last_possible_acceptance") {
            line.push_str(&format!("; last possible acceptance {}", moment(last)));
        }
        if client.is_some() && client != Some(what) {
            line.push_str("; the task is still open");
        }
        match self.0.get("head") {
            None | Some(Value::Null) => {}
            Some(head) => line.push_str(&format!("; head {head}")),
        }
        line
    }
}

/// How the server wants to hear of a task.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Beat {
    /// Seconds between two beats.
    pub(crate) every: Option<u64>,
}

/// The public part of a tenant's metadata that a run needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    #[serde(default)]
    pub(crate) dayfly_resources: std::collections::BTreeMap<String, String>,
}

impl Metadata {
    pub(crate) fn read(body: Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(body)).context("the server's metadata is malformed")
    }
}

/// Seconds since 1970 as UTC, anything else as it stands.
fn moment(value: &Value) -> String {
    match value.as_u64() {
        Some(seconds) => clock::utc(seconds),
        None => value
            .as_str()
            .filter(|text| text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .map_or_else(|| Excerpt::of_json(value).to_string(), str::to_owned),
    }
}

/// Ids go into paths and messages, so they must be nothing but ids.
fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(task_ended: bool) -> String {
        let body = json!({
            "task": "task_00000000000000000000000000",
            "client": "client_00000000000000000000000000_2",
            "cause": "completed",
            "task_ended": task_ended,
        });
        let Value::Object(body) = body else {
            panic!("it is an object");
        };
        Ended::of(body).line("task_00000000000000000000000000")
    }

    /// Of jobs that share a task, each ends itself.
    #[test]
    fn a_task_that_goes_on_is_not_said_to_have_ended() {
        assert_eq!(
            line(true),
            "task_00000000000000000000000000 ended `completed`"
        );
        assert_eq!(
            line(false),
            "client_00000000000000000000000000_2 ended `completed`; the task is still open"
        );
    }
}

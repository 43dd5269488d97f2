//! Answers of the admin face, and the one mapping of what went wrong to a status.

use std::fmt::Display;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Refusal, Rule, Span, Stage};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::{ApplyError, HeadError, OpenError, Refused};
use crate::http::answer::{json_response, of_end};
use crate::record::RecordError;

/// What a handler gives.
pub(super) type Answered = Result<Response, Problem>;

/// Why a request was not done.
#[derive(Debug)]
pub enum Problem {
    /// The request is not one that can be answered.
    Wrong(String),
    /// There is nothing by that name.
    NotFound(String),
    /// The caller is not known, or shows a token that this refuses.
    Unauthenticated(Option<Box<Refusal>>),
    /// The caller is not one who may do this.
    Forbidden(String),
    /// The caller is known, and kept out by what the provider said or somebody set.
    Barred(Box<Refusal>),
    /// Tokens that prove nothing come from this address too often; after this they may again.
    TooOften(Span),
    /// What stands there now does not allow it.
    Conflict(String),
    /// The declared state does not load.
    Unfit(String),
    /// It was refused, and the refusal has an id.
    Refused(Box<Refused>),
    /// Try again later.
    Unavailable(String),
    /// A fault of this program.
    Fault(String),
}

/// A value as an answer.
pub(super) fn answer(value: &impl Serialize) -> Answered {
    let body = serde_json::to_string(value).map_err(|why| Problem::Fault(why.to_string()))?;
    Ok(json_response(StatusCode::OK, &body))
}

/// The answer to an end that is obeyed: 202 where neither ledger nor journal could take it.
pub(super) fn acknowledged(said: Value, recorded: bool) -> Answered {
    let (status, said) = of_end(said, recorded);
    Ok(json_response(status, said.to_string()))
}

/// A part of a request in its own type.
pub(super) fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|why| Problem::Wrong(format!("`{name}` is `{text}`: {why}")))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, error) = self.status();
        let mut body = json!({ "error": error });
        let headers = self.headers();
        match self {
            Self::Wrong(message)
            | Self::NotFound(message)
            | Self::Forbidden(message)
            | Self::Conflict(message)
            | Self::Unfit(message)
            | Self::Unavailable(message) => insert(&mut body, "message", message.into()),
            Self::Fault(why) => {
                tracing::error!(%why, "the admin face failed");
                insert(
                    &mut body,
                    "message",
                    "a fault of the server, see its log".into(),
                );
            }
            Self::Unauthenticated(None) => insert(&mut body, "message", UNAUTHENTICATED.into()),
            Self::Unauthenticated(Some(refusal)) | Self::Barred(refusal) => {
                insert(&mut body, "message", told(&refusal).into());
                let refused = json!({
                    "stage": refusal.rule.stage().code(), "rule": refusal.rule.code(),
                    "field": refusal.field, "wanted": refusal.wanted, "got": refusal.got,
                    "hint": refusal.hint,
                });
                insert(&mut body, "refused", refused);
            }
            Self::TooOften(wait) => {
                let message =
                    format!("tokens from this address prove nothing too often: wait {wait}");
                insert(&mut body, "message", message.into());
            }
            Self::Refused(refused) => {
                let refusal = &refused.refusal;
                insert(&mut body, "message", refusal.rule.says().into());
                insert(&mut body, "refusal", refused.id.to_string().into());
                insert(
                    &mut body,
                    "refused",
                    json!({
                        "stage": refusal.rule.stage().code(), "rule": refusal.rule.code(),
                        "field": refusal.field, "wanted": refusal.wanted, "got": refusal.got,
                        "hint": refusal.hint,
                    }),
                );
            }
        }
        let mut response = json_response(status, body.to_string());
        response.headers_mut().extend(headers);
        response
    }
}

pub(super) fn insert(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = body {
        members.insert(name.to_owned(), value);
    }
}

const UNAUTHENTICATED: &str =
    "this needs an operator: `dayfly login` gets the token that it wants to see";

/// What was wrong with a token, in a line. All of it is the caller's own or published.
fn told(refusal: &Refusal) -> String {
    let mut line = refusal.rule.says().to_owned();
    for (word, text) in [
        (": ", &refusal.field),
        (", wanted ", &refusal.wanted),
        (", got ", &refusal.got),
    ] {
        if !text.is_empty() {
            line.push_str(word);
            line.push_str(text);
        }
    }
    line
}

impl Problem {
    /// RFC 6750, section 3.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Unauthenticated(refusal) => {
                let challenge = match refusal {
                    None => "Bearer realm=\"dayfly\"",
                    Some(_) => "Bearer realm=\"dayfly\", error=\"invalid_token\"",
                };
                let challenge = HeaderValue::from_static(challenge);
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::TooOften(wait) => {
                let seconds = HeaderValue::from(wait.millis().div_ceil(1000).max(1));
                headers.insert(header::RETRY_AFTER, seconds);
            }
            Self::Wrong(_)
            | Self::NotFound(_)
            | Self::Forbidden(_)
            | Self::Barred(_)
            | Self::Conflict(_)
            | Self::Unfit(_)
            | Self::Refused(_)
            | Self::Unavailable(_)
            | Self::Fault(_) => {}
        }
        headers
    }

    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Wrong(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Unauthenticated(None) => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Unauthenticated(Some(_)) => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::Forbidden(_) | Self::Barred(_) => (StatusCode::FORBIDDEN, "access_denied"),
            Self::TooOften(_) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Unfit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "declared_state"),
            Self::Refused(refused) => of_rule(refused.refusal.rule),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            Self::Fault(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
}

fn of_rule(rule: Rule) -> (StatusCode, &'static str) {
    if rule == Rule::NotFound {
        return (StatusCode::NOT_FOUND, "not_found");
    }
    if matches!(
        rule,
        Rule::NotAllowed | Rule::OwnRequest | Rule::ApprovedTwice
    ) {
        return (StatusCode::FORBIDDEN, "access_denied");
    }
    match rule.stage() {
        Stage::Ledger => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        Stage::Request => (StatusCode::BAD_REQUEST, "invalid_request"),
        Stage::Proof
        | Stage::Binding
        | Stage::Match
        | Stage::Task
        | Stage::Access
        | Stage::Delegation
        | Stage::Policy => (StatusCode::CONFLICT, "refused"),
    }
}

impl From<dayfly_store::Unavailable> for Problem {
    fn from(why: dayfly_store::Unavailable) -> Self {
        Self::Unavailable(format!("the store cannot answer: {why}"))
    }
}

impl From<RecordError> for Problem {
    fn from(why: RecordError) -> Self {
        match why {
            RecordError::Cursor(_) => Self::Wrong(why.to_string()),
            RecordError::Store(source) => {
                Self::Unavailable(format!("the store cannot answer: {source}"))
            }
            RecordError::Damaged { .. } | RecordError::Tree(_) | RecordError::Head(_) => {
                Self::Unavailable(format!("{why}: run `dayfly ledger fsck`"))
            }
        }
    }
}

impl From<HeadError> for Problem {
    fn from(why: HeadError) -> Self {
        match why {
            HeadError::Store(_) | HeadError::Keep(_) => Self::Unavailable(why.to_string()),
            HeadError::Sign(_) => Self::Fault(why.to_string()),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<ApplyError> for Problem {
    fn from(why: ApplyError) -> Self {
        match why {
            ApplyError::Load(_) | ApplyError::Heir { .. } => Self::Unfit(why.to_string()),
            ApplyError::Ends { .. } | ApplyError::Raced | ApplyError::NoFormer => {
                Self::Conflict(why.to_string())
            }
            ApplyError::Record(why) => why.into(),
            ApplyError::Unfinished(_) => Self::Unavailable(why.to_string()),
            ApplyError::Open(open) => match open {
                OpenError::Declared(_) => Self::Unfit(open.to_string()),
                OpenError::Store(_) | OpenError::Append(_) => Self::Unavailable(open.to_string()),
                OpenError::Stored(_)
                | OpenError::Url(_)
                | OpenError::Keys(_)
                | OpenError::Random(_) => Self::Fault(open.to_string()),
            },
        }
    }
}

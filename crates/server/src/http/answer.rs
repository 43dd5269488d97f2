//! Refusals on the wire: one function and one table for all faces (docs/http-errors.md).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Refusal, Rule, Span, Stage};
use dayfly_token::alg::{Alg, names};
use serde_json::{Value, json};

use crate::app::Refused;
use crate::verify::Entrance;

/// After how long to try again where nobody knows better.
const RETRY: Span = Span::from_seconds(2);

/// The face at which a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `/token` with a platform's token.
    Grant(Entrance),
    /// `/token` with a client's own key.
    Renewal,
    /// `/token` with an own token.
    Exchange,
    /// `/token` with a deferral code.
    Deferred,
    /// `/introspect`.
    Introspection,
    /// `/revoke`.
    Revocation,
    /// Tasks and clients.
    Task,
    /// What a platform says. It speaks neither OAuth nor DPoP: it is told stage and rule alone.
    Webhook,
}

/// The caller is a live client or a resource, for those who count answers that look alike for whoever asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live;

/// What a refusal said, for those who count answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// The rule.
    pub(super) rule: Rule,
    /// Whether the caller is known.
    pub(super) known: bool,
}

/// Status and OAuth error code of a refusal at a face.
#[expect(
    clippy::too_many_lines,
    reason = "one table, so that every rule is seen to have its code"
)]
pub(super) const fn status(rule: Rule, face: Face) -> (StatusCode, &'static str) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    match rule {
        Rule::ApprovalNeeded
        | Rule::ApprovalDenied
        | Rule::ApprovalLapsed
        | Rule::ApprovalShort => (BAD, "access_denied"),
        Rule::ApprovalPending => (BAD, "authorization_pending"),
        Rule::SlowDown => (BAD, "slow_down"),
        Rule::ApprovalExpired => (BAD, "expired_token"),
        Rule::DeferralCode => (BAD, "invalid_grant"),
        Rule::PollFlood | Rule::NotPending | Rule::ApprovalComplete => (BAD, "invalid_request"),
        Rule::OwnRequest | Rule::ApprovedTwice => (StatusCode::FORBIDDEN, "access_denied"),
        // Whatever does not hold any more at a redemption: what was approved has lapsed.
        Rule::ScopeUnknown
        | Rule::ScopeNotGranted
        | Rule::DetailType
        | Rule::DetailField
        | Rule::DetailValue
        | Rule::DetailsLimit
        | Rule::NotCovered
        | Rule::CeilingLowered
        | Rule::CeilingClaim
        | Rule::TargetUnknown
        | Rule::TargetAmbiguous
        | Rule::TargetNotGranted
        | Rule::OpenLimit
            if matches!(face, Face::Deferred) =>
        {
            (BAD, "access_denied")
        }
        Rule::ContentType
        | Rule::Encoding
        | Rule::Repeated
        | Rule::Missing
        | Rule::Invalid
        | Rule::SeveralAuthentications => (BAD, "invalid_request"),
        Rule::BodySize => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
        Rule::GrantType => (BAD, "unsupported_grant_type"),
        Rule::Authentication => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Rule::NotAllowed | Rule::RootOnly => (StatusCode::FORBIDDEN, "access_denied"),
        Rule::NotFound => (StatusCode::NOT_FOUND, "invalid_request"),
        Rule::KeysUnavailable | Rule::TokenReviewUnavailable | Rule::Unavailable | Rule::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
        Rule::OpenLimit | Rule::StartsLimit | Rule::RateLimit | Rule::AddressRate => {
            (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable")
        }
        Rule::TooLarge => (BAD, "invalid_request"),
        Rule::ScopeUnknown | Rule::ScopeNotGranted => (BAD, "invalid_scope"),
        Rule::NotNamed => (BAD, "invalid_authorization_details"),
        Rule::NotDelegable
        | Rule::DelegationTo
        | Rule::DelegationDepth
        | Rule::DelegationClients => (BAD, "access_denied"),
        Rule::DetailType
        | Rule::DetailField
        | Rule::DetailValue
        | Rule::DetailsLimit
        | Rule::NotCovered
        | Rule::CeilingLowered => (BAD, "invalid_authorization_details"),
        Rule::TargetUnknown | Rule::TargetAmbiguous | Rule::TargetNotGranted => {
            (BAD, "invalid_target")
        }
        Rule::PolicyDenied | Rule::PolicyNotPermitted | Rule::PolicyFailed => match face {
            Face::Task => (StatusCode::FORBIDDEN, "access_denied"),
            Face::Grant(_)
            | Face::Renewal
            | Face::Exchange
            | Face::Deferred
            | Face::Introspection
            | Face::Revocation
            | Face::Webhook => (BAD, "access_denied"),
        },
        Rule::KeyProofNonce => match face {
            Face::Task => (StatusCode::UNAUTHORIZED, "use_dpop_nonce"),
            Face::Grant(_)
            | Face::Renewal
            | Face::Exchange
            | Face::Deferred
            | Face::Introspection
            | Face::Revocation
            | Face::Webhook => (BAD, "use_dpop_nonce"),
        },
        Rule::KeyProofMissing
        | Rule::KeyProof
        | Rule::KeyProofSpent
        | Rule::OtherKey
        | Rule::HandoverKey
        | Rule::KeyTaken
        | Rule::BindingRequired => match face {
            Face::Task => (StatusCode::UNAUTHORIZED, "invalid_dpop_proof"),
            Face::Grant(_)
            | Face::Renewal
            | Face::Exchange
            | Face::Deferred
            | Face::Introspection
            | Face::Revocation
            | Face::Webhook => (BAD, "invalid_dpop_proof"),
        },
        Rule::Assertion | Rule::AssertionSpent => (BAD, "invalid_client"),
        // Spent tokens, whoever spent them how.
        Rule::RetryDiffers | Rule::RetryOtherKey => of_evidence(Stage::Proof, face),
        Rule::TokenForm
        | Rule::TokenType
        | Rule::Issuer
        | Rule::Algorithm
        | Rule::Key
        | Rule::Signature
        | Rule::Audience
        | Rule::Times
        | Rule::ProofAge
        | Rule::ClaimMissing
        | Rule::ClaimForm
        | Rule::TokenReview
        | Rule::BeforeRestore
        | Rule::ProofSpent
        | Rule::Credential
        | Rule::Handover
        | Rule::HandoverSpent
        | Rule::ActorMissing
        | Rule::ActorRefused
        | Rule::SubjectRefused
        | Rule::SubjectMissing
        | Rule::SubjectOther
        | Rule::NoWorkload
        | Rule::SeveralWorkloads
        | Rule::WorkloadUnknown
        | Rule::WorkloadUnfinished
        | Rule::ClaimMismatch
        | Rule::TaskKey
        | Rule::Blocked
        | Rule::OlderAttempt
        | Rule::AlreadyOpen
        | Rule::AlreadyEnded
        | Rule::TaskEnded
        | Rule::ClientEnded
        | Rule::Deadline
        | Rule::Silent
        | Rule::RightsRemoved
        | Rule::ClientsLimit
        | Rule::CredentialsLimit
        | Rule::CeilingClaim => of_evidence(rule.stage(), face),
    }
}

/// The code for evidence that does not do: it depends on the parameter that carried it.
const fn of_evidence(stage: Stage, face: Face) -> (StatusCode, &'static str) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    match (face, stage) {
        (Face::Grant(Entrance::ClientAssertion), Stage::Proof | Stage::Match) => {
            (BAD, "invalid_client")
        }
        // RFC 8693, section 2.2.2: an unacceptable subject token is an invalid request.
        (Face::Grant(Entrance::SubjectToken | Entrance::ActorToken) | Face::Exchange, _) => {
            (BAD, "invalid_request")
        }
        (Face::Grant(Entrance::ClientAssertion | Entrance::Assertion) | Face::Renewal, _) => {
            (BAD, "invalid_grant")
        }
        // A poll shows no evidence but its code and its key: what else fails has lapsed.
        (Face::Deferred, _) => (BAD, "access_denied"),
        (Face::Introspection | Face::Revocation, _) => (BAD, "invalid_client"),
        (Face::Webhook, _) => (BAD, "invalid_request"),
        (Face::Task, _) => (StatusCode::UNAUTHORIZED, "invalid_token"),
    }
}

/// Renders a refusal: the caller sees stage, rule, field and its own `got`, and the id to ask
/// `dayfly why` with.
#[must_use]
pub fn render(refused: &Refused, face: Face, nonce: &str) -> Response {
    let rule = refused.refusal.rule;
    let (status, error) = status(rule, face);
    let mut body = json!({
        "refusal": refused.id,
        "refused": {
            "stage": rule.stage().code(),
            "rule": rule.code(),
            "field": refused.refusal.field,
            "got": refused.refusal.got,
        },
    });
    let oauth = face != Face::Webhook;
    if let Value::Object(members) = &mut body {
        if oauth {
            members.insert("error".to_owned(), error.into());
        }
        let says = if oauth { "error_description" } else { "says" };
        members.insert(says.to_owned(), rule.says().into());
    }
    let mut response = json_response(status, body.to_string());
    response.extensions_mut().insert(Said {
        rule,
        known: refused.known,
    });
    let headers = response.headers_mut();
    if let Ok(nonce) = HeaderValue::from_str(nonce)
        && oauth
    {
        headers.insert("dpop-nonce", nonce);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        let after = refused.refusal.retry_after.unwrap_or(RETRY);
        let seconds = after.millis().div_ceil(1000).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED && oauth {
        let challenge = match face {
            Face::Task => dpop_challenge(Some(error)),
            // A client proves itself by its key there and by nothing else.
            Face::Revocation => dpop_challenge(None),
            Face::Grant(_)
            | Face::Renewal
            | Face::Exchange
            | Face::Deferred
            | Face::Introspection
            | Face::Webhook => "Basic realm=\"dayfly\"".to_owned(),
        };
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

/// The answer to one who waits as told, or asks too often: nothing that anybody has to look up, so it
/// has no id.
pub(super) fn unrecorded(refusal: &Refusal, face: Face, nonce: &str) -> Response {
    let rule = refusal.rule;
    let (status, error) = status(rule, face);
    let body = json!({ "error": error, "error_description": rule.says() });
    let mut response = json_response(status, body.to_string());
    response.extensions_mut().insert(Said { rule, known: true });
    if let Ok(nonce) = HeaderValue::from_str(nonce) {
        response.headers_mut().insert("dpop-nonce", nonce);
    }
    response
}

/// Challenges the caller of a task endpoint that was answered 401: by DPoP (RFC 9449, section 7.1)
/// and, as a bearer credential may read and beat, by Bearer (RFC 6750, section 3), each with where
/// the endpoint's metadata is (RFC 9728, section 5.1). A caller that brought no credential is told
/// of no error (RFC 6750, section 3.1).
pub(super) fn challenge(
    response: &mut Response,
    rule: Rule,
    resource_metadata: &str,
    anonymous: bool,
) {
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    let (_, error) = status(rule, Face::Task);
    let at = format!("resource_metadata=\"{resource_metadata}\"");
    let dpop = dpop_challenge((!anonymous).then_some(error));
    let bearer = if anonymous || error != "invalid_token" {
        "Bearer".to_owned()
    } else {
        format!("Bearer error=\"{error}\",")
    };
    let headers = response.headers_mut();
    headers.remove(header::WWW_AUTHENTICATE);
    for challenge in [format!("{dpop}, {at}"), format!("{bearer} {at}")] {
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
}

fn dpop_challenge(error: Option<&str>) -> String {
    let algs = names(Alg::DEFAULT).replace(',', "");
    match error {
        Some(error) => format!("DPoP error=\"{error}\", algs=\"{algs}\""),
        None => format!("DPoP algs=\"{algs}\""),
    }
}

/// Status and body of the answer to an end that is obeyed: where neither ledger nor journal could
/// take it, it is 202 and says `"recorded": false` (DESIGN section 7).
pub(super) fn of_end(mut said: Value, recorded: bool) -> (StatusCode, Value) {
    if recorded {
        return (StatusCode::OK, said);
    }
    if let Value::Object(members) = &mut said {
        members.insert("recorded".to_owned(), false.into());
    }
    (StatusCode::ACCEPTED, said)
}

/// A JSON answer that nobody may cache.
pub(super) fn json_response(status: StatusCode, body: impl Into<String>) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::PRAGMA, "no-cache"),
        ],
        body.into(),
    )
        .into_response()
}

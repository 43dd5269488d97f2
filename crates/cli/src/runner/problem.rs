//! Answers of the loopback server that say why there is no better one.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::runner::wire::Failure;

/// A JSON answer that nobody may keep.
pub(crate) fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An error in the shape of OAuth's.
pub(crate) fn problem(status: StatusCode, error: &str, description: &str) -> Response<Body> {
    json_answer(
        status,
        &json!({"error": error, "error_description": description}),
    )
}

/// Why there is no token: 403 refused, 503 the server is away, 500 anything else.
pub(crate) fn no_token(failure: &Failure) -> Response<Body> {
    match failure {
        Failure::Refused(refusal) => json_answer(StatusCode::FORBIDDEN, &refusal.as_json()),
        Failure::Away(away) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            &away.why,
        ),
        Failure::Fault(fault) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            &format!("{fault:#}"),
        ),
    }
}

//! What is discovered: metadata of the server (RFC 8414), of its own API (RFC 9728) and of decisions, keys, and
//! the authorization endpoint that refuses.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_token::alg::Alg;
use serde_json::{Map, Value, json};

use super::Named;
use super::answer::json_response;
use super::token::{GRANT_TYPES, TYPE_ACCESS_TOKEN, TYPE_DEFERRAL_CODE};
use crate::app::{App, Tenant};
use crate::mint::JWKS_MAX_AGE;

pub(super) async fn authorization_server(
    State(_): State<Arc<App>>,
    Named(tenant, _): Named,
) -> Response {
    cached(&document(&tenant))
}

/// Where resources ask for decisions (AuthZEN Authorization API 1.0, section 9).
pub(super) async fn decision_point(State(_): State<Arc<App>>, Named(tenant, _): Named) -> Response {
    let issuer = tenant.issuer();
    cached(&json!({
        "policy_decision_point": issuer,
        "access_evaluation_endpoint": format!("{issuer}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{issuer}/access/v1/evaluations"),
    }))
}

/// The tenant's own API below `/tasks` and `/clients` as a protected resource (RFC 9728).
pub(super) async fn protected_resource(
    State(_): State<Arc<App>>,
    Named(tenant, _): Named,
) -> Response {
    let issuer = tenant.issuer();
    let algs: Vec<&str> = Alg::DEFAULT.iter().map(|alg| alg.as_str()).collect();
    // No scopes and no details: any credential of a task is good for that task, whatever its
    // audience, and a bearer credential may read and beat.
    cached(&json!({
        "resource": issuer,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": algs,
        "dpop_bound_access_tokens_required": false,
        "resource_name": format!("tasks of {}", tenant.name()),
    }))
}

/// Where the metadata of the tenant's own API is: the well-known part stands between host and path
/// (RFC 9728, section 3.1), and the tenant's name is all of its path.
pub(super) fn resource_metadata(tenant: &Tenant) -> String {
    let (public_url, name) = tenant
        .issuer()
        .rsplit_once('/')
        .unwrap_or((tenant.issuer(), ""));
    format!("{public_url}/.well-known/oauth-protected-resource/{name}")
}

pub(super) async fn jwks(State(_): State<Arc<App>>, Named(tenant, _): Named) -> Response {
    cached(&tenant.keyring().jwks())
}

/// Exists because SDKs insist on it: there is no front channel, so it refuses and never redirects.
pub(super) async fn authorize(
    State(_): State<Arc<App>>,
    Named(_, _): Named,
    _: HeaderMap,
) -> Response {
    let body = json!({
        "error": "unauthorized_client",
        "error_description": "there is no interactive login here: clients prove what they are at the token endpoint",
    });
    json_response(StatusCode::BAD_REQUEST, body.to_string())
}

/// Only what this build serves.
fn document(tenant: &Tenant) -> Value {
    let issuer = tenant.issuer();
    let loaded = tenant.loaded();
    let algs: Vec<&str> = Alg::DEFAULT.iter().map(|alg| alg.as_str()).collect();
    let resources = &loaded.declared.catalog.resources;
    let mut types: Vec<&str> = Vec::new();
    let mut scopes: Vec<&str> = Vec::new();
    for detail in loaded
        .declared
        .workloads
        .values()
        .flat_map(|found| &found.workload.access)
    {
        if !types.contains(&detail.kind.as_str()) {
            types.push(&detail.kind);
        }
        if let Some(scope) = detail
            .scope
            .as_deref()
            .filter(|scope| !scopes.contains(scope))
        {
            scopes.push(scope);
        }
    }
    let names: Map<String, Value> = resources
        .values()
        .map(|resource| (resource.name.to_string(), resource.url.as_str().into()))
        .collect();
    let urls: Vec<&str> = resources
        .values()
        .map(|resource| resource.url.as_str())
        .collect();
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": algs,
        "introspection_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": algs,
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": algs,
        // Deferred Token Response, draft 01.
        "deferred_token_response_supported": true,
        "revocation_endpoint_token_type_values_supported": [TYPE_DEFERRAL_CODE, TYPE_ACCESS_TOKEN],
        "dpop_signing_alg_values_supported": algs,
        "authorization_details_types_supported": types,
        "scopes_supported": scopes,
        "protected_resources": urls,
        "dayfly_resources": names,
        // OpenID Connect Discovery 1.0, section 3, demands these two, and clients that read the
        // document as OpenID configuration refuse one without them. No ID token is ever issued.
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "client_id_metadata_document_supported": false,
    })
}

/// Metadata and keys may be kept for as long as a key is published before it signs, and no longer.
fn cached(body: &Value) -> Response {
    let max_age = format!("public, max-age={}", JWKS_MAX_AGE.seconds());
    (
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, max_age.as_str()),
        ],
        body.to_string(),
    )
        .into_response()
}

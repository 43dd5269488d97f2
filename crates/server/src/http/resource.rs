//! `POST /introspect` for resources, and `POST /revoke` for clients.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dayfly_domain::{Refusal, Rule};
use serde_json::json;

use super::Named;
use super::answer::{Face, Live, json_response, of_end, render};
use super::form::Form;
use super::headers;
use super::token::ASSERTION_TYPE;
use crate::app::{App, Refused, ResourceCaller, Tenant, Trail};

pub(super) async fn introspect(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let trail = Trail {
        asked: "introspect",
        address,
        ..Trail::default()
    };
    let answer = try_introspect(&app, &tenant, &headers, body, &trail).await;
    match answer {
        Ok(Some(live)) => json_response(StatusCode::OK, &live),
        Ok(None) => json_response(StatusCode::OK, "{\"active\":false}"),
        Err(refused) => render(&refused, Face::Introspection, &app.nonce()),
    }
}

async fn try_introspect(
    app: &App,
    tenant: &Tenant,
    headers: &HeaderMap,
    body: Body,
    trail: &Trail,
) -> Result<Option<String>, Refused> {
    let refused = |refusal| app.refused(tenant, trail, refusal);
    let form = Form::read(headers, body, app.bounds().request_bytes)
        .await
        .map_err(refused)?;
    let basic = headers::basic(headers).map_err(refused)?;
    let caller = caller(&form, basic.as_ref()).map_err(refused)?;
    let resource = app.resource(tenant, &caller, trail).await?;
    let token = form.need("token").map_err(refused)?;
    app.introspect(tenant, &resource, token, trail)
}

/// A resource authenticates in exactly one way.
fn caller<'a>(
    form: &'a Form,
    basic: Option<&'a (String, String)>,
) -> Result<ResourceCaller<'a>, Refusal> {
    let posted = form.get("client_secret");
    let assertion = form.get("client_assertion");
    match (basic, posted, assertion) {
        (Some((id, secret)), None, None) => Ok(ResourceCaller::Secret { id, secret }),
        (None, Some(secret), None) => Ok(ResourceCaller::Secret {
            id: form.need("client_id")?,
            secret,
        }),
        (None, None, Some(assertion))
            if form.get("client_assertion_type") == Some(ASSERTION_TYPE) =>
        {
            Ok(ResourceCaller::Assertion {
                assertion,
                client_id: form.get("client_id"),
            })
        }
        (None, None, _) => Err(Refusal::new(Rule::Authentication)
            .field("client authentication")
            .wanted("client_secret_basic, client_secret_post or private_key_jwt")
            .got("none")),
        (Some(_), _, _) | (None, Some(_), Some(_)) => {
            Err(Refusal::new(Rule::SeveralAuthentications)
                .field("client authentication")
                .wanted("one way")
                .got("several"))
        }
    }
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut trail = Trail {
        asked: "revoke",
        address,
        ..Trail::default()
    };
    let revoked = try_revoke(&app, &tenant, &headers, body, &mut trail).await;
    let mut response = match revoked {
        Ok(true) => json_response(StatusCode::OK, ""),
        Ok(false) => {
            let (status, said) = of_end(json!({}), false);
            json_response(status, said.to_string())
        }
        Err(refused) => return render(&refused, Face::Revocation, &app.nonce()),
    };
    // Every token is answered alike (RFC 7009, section 2.2); who had a live one is told inside.
    if trail.client.is_some() {
        response.extensions_mut().insert(Live);
    }
    response
}

async fn try_revoke(
    app: &App,
    tenant: &Tenant,
    headers: &HeaderMap,
    body: Body,
    trail: &mut Trail,
) -> Result<bool, Refused> {
    let refused = |refusal| app.refused(tenant, trail, refusal);
    let form = Form::read(headers, body, app.bounds().request_bytes)
        .await
        .map_err(refused)?;
    let token = form.need("token").map_err(refused)?;
    let assertion = form.get("client_assertion");
    if assertion.is_some() && form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(refused(
            Refusal::new(Rule::Assertion)
                .field("client_assertion_type")
                .wanted(ASSERTION_TYPE)
                .got(form.get("client_assertion_type").unwrap_or("none")),
        ));
    }
    let key_proof = headers::key_proof(headers, "POST", "/revoke").map_err(refused)?;
    app.revoke(tenant, token, assertion, key_proof.as_ref(), trail)
        .await
}

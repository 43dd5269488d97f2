//! `POST /token`: a platform's token in three shapes, renewal by the own key, exchange of an own token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{ClientId, Refusal, Rule, TaskId};
use dayfly_token::b64;
use dayfly_token::jwt::Jwt;
use serde::Serialize;
use serde_json::json;

use super::Named;
use super::answer::{Face, Said, json_response, render, unrecorded};
use super::form::Form;
use super::{headers, wanted};
use crate::app::{
    App, Deferred, DelegateRequest, GrantRequest, Granted, NarrowRequest, Opened, POLL, Polled,
    RedeemRequest, Refused, RenewRequest, SubjectRequest, Tenant, Trail,
};
use crate::mint::WireDetails;
use crate::verify::{Entrance, PersonToken};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
pub(super) const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const TYPE_DEFERRAL_CODE: &str = "urn:ietf:params:oauth:token-type:deferral-code";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The type of a hand-over as a `subject_token` (docs/delegation.md).
const TYPE_HANDOVER: &str = "urn:dayfly:params:oauth:token-type:handover";
const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The grant types served.
pub(super) const GRANT_TYPES: [&str; 4] = ["client_credentials", JWT_BEARER, EXCHANGE, DEFERRED];

/// What a poll may not name: it asks for what was asked for (Deferred Token Response, draft 01).
const FIXED: [&str; 10] = [
    "completion_mode",
    "scope",
    "authorization_details",
    "resource",
    "audience",
    "assertion",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "client_notification_token",
];

pub(super) async fn token(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut trail = Trail {
        asked: "token",
        address,
        ..Trail::default()
    };
    let form = match Form::read(&headers, body, app.bounds().request_bytes).await {
        Ok(form) => form,
        Err(refusal) => return refuse(&app, &tenant, &trail, refusal, Face::Renewal),
    };
    let (asked, face) = match Asked::read(&form, &headers, &tenant) {
        Ok(asked) => {
            let face = asked.face();
            (asked, face)
        }
        Err((refusal, face)) => return refuse(&app, &tenant, &trail, refusal, face),
    };
    let exchanged = matches!(
        face,
        Face::Exchange | Face::Grant(Entrance::SubjectToken | Entrance::ActorToken)
    );
    match asked.perform(&app, &tenant, &mut trail).await {
        Ok(Answer::Granted(granted, fetched)) => {
            granted_response(&granted, exchanged || fetched, &app.nonce())
        }
        Ok(Answer::Deferred(deferred)) => {
            deferred_response(&deferred, app.admin_url(), &app.nonce())
        }
        Ok(Answer::Wait(refusal)) => unrecorded(&refusal, face, &app.nonce()),
        Err(refused) => render(&refused, face, &app.nonce()),
    }
}

/// What a request is answered with, where it is not refused.
enum Answer {
    /// The credential, and whether an exchange that waited is what it answers.
    Granted(Box<Granted>, bool),
    /// A code to poll with.
    Deferred(Deferred),
    /// Not yet.
    Wait(Refusal),
}

/// What a request to the token endpoint asks, one variant for each way in.
enum Asked<'a> {
    Grant(GrantRequest<'a>),
    Renew(RenewRequest<'a>),
    Narrow(NarrowRequest<'a>),
    Delegate(DelegateRequest<'a>),
    Redeem(RedeemRequest<'a>),
}

impl<'a> Asked<'a> {
    fn read(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
    ) -> Result<Self, (Refusal, Face)> {
        let grant_type = form.need("grant_type").map_err(at(Face::Renewal))?;
        let face = match grant_type {
            "client_credentials" => Face::Renewal,
            JWT_BEARER => Face::Grant(Entrance::Assertion),
            EXCHANGE => Face::Grant(Entrance::SubjectToken),
            DEFERRED => Face::Deferred,
            other => {
                let refusal = Refusal::new(Rule::GrantType)
                    .field("grant_type")
                    .wanted(GRANT_TYPES.join(", "))
                    .got(other);
                return Err((refusal, Face::Renewal));
            }
        };
        check_authentication(form, headers).map_err(at(face))?;
        match face {
            Face::Grant(Entrance::Assertion) => Self::jwt_bearer(form, headers, tenant),
            Face::Grant(_) => Self::exchange(form, headers, tenant),
            Face::Deferred => Self::deferred(form, headers),
            Face::Renewal
            | Face::Exchange
            | Face::Introspection
            | Face::Revocation
            | Face::Webhook
            | Face::Task => Self::client_credentials(form, headers, tenant),
        }
        .map_err(at(face))
    }

    /// Deferred Token Response, draft 01: the code, and the key of the first request.
    fn deferred(form: &'a Form, headers: &'a HeaderMap) -> Result<Self, Refusal> {
        if form.get("client_assertion").is_some() {
            return Err(Refusal::new(Rule::Authentication)
                .field("client_assertion")
                .wanted("none: a poll is authenticated by the dpop key of the first request")
                .got("one"));
        }
        if let Some(fixed) = FIXED.into_iter().find(|name| form.get(name).is_some()) {
            return Err(Refusal::new(Rule::Invalid)
                .field(fixed)
                .wanted("none: a poll asks for what the first request asked for")
                .got("one"));
        }
        Ok(Self::Redeem(RedeemRequest {
            code: form.need("deferral_code")?,
            workload: form.get("client_id"),
            key_proof: headers::key_proof(headers, "POST", "/token")?,
        }))
    }

    /// RFC 7523, section 2.1: no client authentication is needed.
    fn jwt_bearer(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
    ) -> Result<Self, Refusal> {
        if form.get("client_assertion").is_some() {
            return Err(Refusal::new(Rule::Authentication)
                .field("client_assertion")
                .wanted("none: the assertion of this grant speaks for itself")
                .got("one"));
        }
        let token = form.need("assertion")?;
        Self::platform(form, headers, tenant, Entrance::Assertion, token)
    }

    /// RFC 8693, section 2.1.
    fn exchange(form: &'a Form, headers: &'a HeaderMap, tenant: &Tenant) -> Result<Self, Refusal> {
        let invalid = |field: &str, wanted: &str, got: &str| {
            Err(Refusal::new(Rule::Invalid)
                .field(field)
                .wanted(wanted)
                .got(got))
        };
        let token = form.need("subject_token")?;
        let kind = form.need("subject_token_type")?;
        let actor = actor_of(form)?;
        if let Some(other) = form
            .get("requested_token_type")
            .filter(|wanted| !matches!(*wanted, TYPE_ACCESS_TOKEN | TYPE_JWT))
        {
            return invalid("requested_token_type", TYPE_ACCESS_TOKEN, other);
        }
        match kind {
            TYPE_HANDOVER => Self::delegation(form, headers, tenant, token, actor),
            TYPE_JWT | TYPE_ID_TOKEN | TYPE_ACCESS_TOKEN if actor.is_some() => {
                let person = SubjectRequest {
                    token,
                    kind: match kind {
                        TYPE_ID_TOKEN => PersonToken::IdToken,
                        TYPE_ACCESS_TOKEN => PersonToken::AccessToken,
                        _ => PersonToken::Jwt,
                    },
                };
                Self::on_behalf(form, headers, tenant, (actor.unwrap_or_default(), person))
            }
            TYPE_JWT | TYPE_ID_TOKEN if form.get("client_assertion").is_some() => {
                Err(Refusal::new(Rule::Authentication)
                    .field("client_assertion")
                    .wanted("none: a platform's token speaks for itself")
                    .got("one"))
            }
            TYPE_JWT | TYPE_ID_TOKEN => {
                Self::platform(form, headers, tenant, Entrance::SubjectToken, token)
            }
            TYPE_ACCESS_TOKEN => Ok(Self::Narrow(NarrowRequest {
                token,
                assertion: assertion_of(form)?,
                client_id: form.get("client_id"),
                access: wanted::access(form, &tenant.loaded().declared)?,
                key_proof: headers::key_proof(headers, "POST", "/token")?,
            })),
            other => invalid(
                "subject_token_type",
                "a jwt or id_token of a platform, an access_token of this server, a hand-over, or beside an actor_token a person's id_token or access_token",
                other,
            ),
        }
    }

    /// A person's token as the subject token, and as the actor token the platform's token of whoever
    /// acts for the person (RFC 8693, section 2.1).
    fn on_behalf(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
        (actor, person): (&'a str, SubjectRequest<'a>),
    ) -> Result<Self, Refusal> {
        if form.get("client_assertion").is_some() {
            return Err(Refusal::new(Rule::Authentication)
                .field("client_assertion")
                .wanted("none: the actor's token speaks for itself")
                .got("one"));
        }
        let asked = Self::platform(form, headers, tenant, Entrance::ActorToken, actor)?;
        Ok(match asked {
            Self::Grant(grant) => Self::Grant(GrantRequest {
                subject: Some(person),
                ..grant
            }),
            Self::Renew(_) | Self::Narrow(_) | Self::Delegate(_) | Self::Redeem(_) => asked,
        })
    }

    /// A hand-over as the subject token, and where the child brings one, its own platform's token as
    /// the actor token (RFC 8693, section 2.1).
    fn delegation(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
        handover: &'a str,
        actor: Option<&'a str>,
    ) -> Result<Self, Refusal> {
        if form.get("client_assertion").is_some() {
            return Err(Refusal::new(Rule::Authentication)
                .field("client_assertion")
                .wanted("none: a child is no client yet, its DPoP proof speaks for its key")
                .got("one"));
        }
        Ok(Self::Delegate(DelegateRequest {
            handover,
            actor,
            workload: form.get("client_id"),
            access: wanted::access(form, &tenant.loaded().declared)?,
            digest: wanted::digest(form),
            key_proof: headers::key_proof(headers, "POST", "/token")?,
        }))
    }

    /// RFC 6749, section 4.4, authenticated by an assertion: the platform's, or the client's own.
    fn client_credentials(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
    ) -> Result<Self, Refusal> {
        let assertion = assertion_of(form)?.ok_or_else(|| {
            Refusal::new(Rule::Assertion)
                .field("client_assertion")
                .wanted("a client assertion")
                .got("none")
        })?;
        if is_own(assertion) {
            return Ok(Self::Renew(RenewRequest {
                assertion,
                client_id: form.get("client_id"),
                access: wanted::access(form, &tenant.loaded().declared)?,
                key_proof: headers::key_proof(headers, "POST", "/token")?,
            }));
        }
        Self::platform(form, headers, tenant, Entrance::ClientAssertion, assertion)
    }

    fn platform(
        form: &'a Form,
        headers: &'a HeaderMap,
        tenant: &Tenant,
        entrance: Entrance,
        token: &'a str,
    ) -> Result<Self, Refusal> {
        Ok(Self::Grant(GrantRequest {
            entrance,
            token,
            subject: None,
            workload: form.get("client_id"),
            access: wanted::access(form, &tenant.loaded().declared)?,
            digest: wanted::digest(form),
            key_proof: headers::key_proof(headers, "POST", "/token")?,
            // A list; what is not known in it is none of ours.
            deferrable: form
                .get("completion_mode")
                .is_some_and(|modes| modes.split(' ').any(|mode| mode == "deferred")),
        }))
    }

    const fn face(&self) -> Face {
        match self {
            Self::Grant(grant) => Face::Grant(grant.entrance),
            Self::Renew(_) => Face::Renewal,
            Self::Narrow(_) | Self::Delegate(_) => Face::Exchange,
            Self::Redeem(_) => Face::Deferred,
        }
    }

    async fn perform(
        &self,
        app: &App,
        tenant: &Tenant,
        trail: &mut Trail,
    ) -> Result<Answer, Refused> {
        let granted = |granted| Answer::Granted(Box::new(granted), false);
        match self {
            Self::Grant(grant) => match app.grant(tenant, grant, trail).await? {
                Opened::Granted(opened) => Ok(granted(opened)),
                Opened::Deferred(deferred) => Ok(Answer::Deferred(deferred)),
            },
            Self::Renew(renew) => app.renew(tenant, renew, trail).await.map(granted),
            Self::Narrow(narrow) => app.narrow(tenant, narrow, trail).await.map(granted),
            Self::Delegate(delegate) => app.delegate(tenant, delegate, trail).await.map(granted),
            Self::Redeem(redeem) => match app.redeem(tenant, redeem, trail).await? {
                Polled::Granted(granted, exchanged) => Ok(Answer::Granted(granted, exchanged)),
                Polled::Wait(refusal) => Ok(Answer::Wait(refusal)),
            },
        }
    }
}

fn at(face: Face) -> impl Fn(Refusal) -> (Refusal, Face) {
    move |refusal| (refusal, face)
}

/// At most one way of client authentication, and never a secret: clients have none.
fn check_authentication(form: &Form, headers: &HeaderMap) -> Result<(), Refusal> {
    let by_header = headers.contains_key(axum::http::header::AUTHORIZATION);
    let by_secret = form.get("client_secret").is_some();
    let by_assertion = form.get("client_assertion").is_some();
    if u8::from(by_header) + u8::from(by_secret) + u8::from(by_assertion) > 1 {
        return Err(Refusal::new(Rule::SeveralAuthentications)
            .field("client authentication")
            .wanted("one way")
            .got("several"));
    }
    if by_header || by_secret {
        return Err(Refusal::new(Rule::Authentication)
            .field("client authentication")
            .wanted("an assertion by a key: clients have no secrets")
            .got("a secret"));
    }
    Ok(())
}

/// The actor token: a platform's, with its type or not at all (RFC 8693, section 2.1).
fn actor_of(form: &Form) -> Result<Option<&str>, Refusal> {
    let invalid = |wanted: &str, got: &str| {
        Err(Refusal::new(Rule::Invalid)
            .field("actor_token")
            .wanted(wanted)
            .got(got))
    };
    match (form.get("actor_token"), form.get("actor_token_type")) {
        (None, None) => Ok(None),
        (Some(actor), Some(TYPE_JWT | TYPE_ID_TOKEN)) => Ok(Some(actor)),
        (Some(_), Some(other)) => invalid("a jwt or id_token of a platform", other),
        (Some(_), None) | (None, Some(_)) => {
            invalid("actor_token with actor_token_type", "one of them")
        }
    }
}

fn assertion_of(form: &Form) -> Result<Option<&str>, Refusal> {
    match (
        form.get("client_assertion"),
        form.get("client_assertion_type"),
    ) {
        (None, None) => Ok(None),
        (Some(assertion), Some(ASSERTION_TYPE)) => Ok(Some(assertion)),
        (_, kind) => Err(Refusal::new(Rule::Assertion)
            .field("client_assertion_type")
            .wanted(ASSERTION_TYPE)
            .got(kind.unwrap_or("none"))),
    }
}

/// Whether an assertion says that it is a client's own: issuer and subject are one client id.
fn is_own(assertion: &str) -> bool {
    // A platform's token is read once, by its verifier: a look for the id's first letters, which
    // no JSON writer escapes, spares reading it here.
    let payload = assertion.split('.').nth(1).map(b64::decode);
    let names_client = payload.is_some_and(|payload| {
        payload.is_ok_and(|payload| payload.windows(8).any(|letters| letters == b"\"client_"))
    });
    if !names_client {
        return false;
    }
    Jwt::parse(assertion, dayfly_token::jws::MAX_TOKEN_BYTES).is_ok_and(|jwt| {
        let subject = jwt.claimed_subject();
        jwt.claimed_issuer() == subject
            && subject.is_some_and(|subject| subject.parse::<ClientId>().is_ok())
    })
}

fn refuse(app: &App, tenant: &Tenant, trail: &Trail, refusal: Refusal, face: Face) -> Response {
    render(&app.refused(tenant, trail, refusal), face, &app.nonce())
}

/// The answer to a request that waits (Deferred Token Response, draft 01). Beside the members of the
/// draft it names the task that people are asked about, and where these operate the server: whoever
/// waits has proven to be a declared workload, and is to tell them.
fn deferred_response(deferred: &Deferred, admin_url: Option<&str>, nonce: &str) -> Response {
    let says = Rule::ApprovalPending;
    let mut body = json!({
        "error": "authorization_pending",
        "error_description": says.says(),
        "deferral_code": deferred.code,
        "expires_in": deferred.expires_in,
        "interval": POLL.seconds(),
        "task": deferred.task,
    });
    if let (Some(members), Some(url)) = (body.as_object_mut(), admin_url) {
        members.insert("admin_url".to_owned(), url.into());
    }
    let mut response = json_response(StatusCode::BAD_REQUEST, body.to_string());
    response.extensions_mut().insert(Said {
        rule: says,
        known: true,
    });
    with_nonce(response, nonce)
}

fn with_nonce(mut response: Response, nonce: &str) -> Response {
    if let Ok(nonce) = HeaderValue::from_str(nonce) {
        response.headers_mut().insert("dpop-nonce", nonce);
    }
    response
}

/// A token response (RFC 6749, section 5.1; RFC 8693, section 2.2.1; RFC 9396, section 7).
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    authorization_details: WireDetails<'a>,
    task: TaskId,
    client_id: ClientId,
    task_expires_at: u64,
}

fn granted_response(granted: &Granted, exchanged: bool, nonce: &str) -> Response {
    let body = TokenResponse {
        access_token: &granted.token,
        token_type: if granted.bound { "DPoP" } else { "Bearer" },
        expires_in: granted.expires_in,
        issued_token_type: exchanged.then_some(TYPE_ACCESS_TOKEN),
        scope: (!granted.scope.is_empty()).then(|| granted.scope.join(" ")),
        authorization_details: WireDetails {
            details: &granted.access,
            url: &granted.audience,
        },
        task: granted.task,
        client_id: granted.client,
        task_expires_at: granted.task_expires.seconds(),
    };
    let Ok(body) = serde_json::to_string(&body) else {
        // Texts and numbers always have a JSON text; an empty answer would hide that one had none.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    with_nonce(json_response(StatusCode::OK, body), nonce)
}

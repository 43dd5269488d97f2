//! Tasks and clients, for those who hold a credential of the task.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use dayfly_domain::{ClientId, Outcome, Refusal, Rule, TaskId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Named;
use super::answer::{Face, challenge, json_response, of_end, render};
use super::{headers, metadata};
use crate::app::{App, End, Ended, Refused, Tenant, Trail};

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, task)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut call = Call::new(&app, &tenant, address, "show", &headers, &uri);
    let result = call.presented("GET").and_then(|presented| {
        let task = call.id::<TaskId>(&task)?;
        app.show(&tenant, task, &presented, &mut call.trail)
    });
    call.answer(result)
}

pub(super) async fn receipt(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, task)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut call = Call::new(&app, &tenant, address, "receipt", &headers, &uri);
    let result = match (call.presented("GET"), call.id::<TaskId>(&task)) {
        (Ok(presented), Ok(task)) => {
            app.own_receipt(&tenant, task, &presented, &mut call.trail)
                .await
        }
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
    };
    call.answer_as(result.map(|receipt| (StatusCode::OK, receipt)))
}

pub(super) async fn heartbeat(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, task)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut call = Call::new(&app, &tenant, address, "heartbeat", &headers, &uri);
    let result = call.presented("POST").and_then(|presented| {
        let task = call.id::<TaskId>(&task)?;
        let beaten = app.beat(&tenant, task, &presented, &mut call.trail)?;
        Ok(json!({
            "every": beaten.heartbeat.every.seconds(),
            "grace": beaten.heartbeat.grace.seconds(),
            "task_expires_at": beaten.deadline.seconds(),
        }))
    });
    call.answer(result)
}

pub(super) async fn end_task(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, task)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call::new(&app, &tenant, address, "end", &headers, &uri);
    let end = call.id::<TaskId>(&task).map(End::Task);
    call.end(end, body).await
}

pub(super) async fn end_client(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, client)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call::new(&app, &tenant, address, "end", &headers, &uri);
    let end = call.id::<ClientId>(&client).map(End::Client);
    call.end(end, body).await
}

/// One call by a credential of a task.
struct Call<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    headers: &'a HeaderMap,
    /// The path below the tenant.
    path: &'a str,
    trail: Trail,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndBody {
    outcome: Outcome,
}

impl<'a> Call<'a> {
    fn new(
        app: &'a App,
        tenant: &'a Tenant,
        address: Option<IpAddr>,
        asked: &'static str,
        headers: &'a HeaderMap,
        uri: &'a Uri,
    ) -> Self {
        let path = uri
            .path()
            .strip_prefix('/')
            .and_then(|path| path.find('/').and_then(|at| path.get(at..)))
            .unwrap_or_default();
        Self {
            app,
            tenant,
            headers,
            path,
            trail: Trail {
                asked,
                address,
                ..Trail::default()
            },
        }
    }

    fn refused(&self, refusal: Refusal) -> Refused {
        self.app.refused(self.tenant, &self.trail, refusal)
    }

    fn presented(&self, method: &'a str) -> Result<crate::app::Presented<'a>, Refused> {
        headers::presented(self.headers, method, self.path).map_err(|why| self.refused(why))
    }

    fn id<T: std::str::FromStr>(&self, text: &str) -> Result<T, Refused> {
        text.parse().map_err(|_| {
            self.refused(
                Refusal::new(Rule::NotFound)
                    .field("path")
                    .wanted("the id of a task or client")
                    .got(text.chars().take(80).collect::<String>()),
            )
        })
    }

    async fn end(mut self, end: Result<End, Refused>, body: Body) -> Response {
        let result = match (end, self.presented("POST"), self.outcome(body).await) {
            (Ok(end), Ok(presented), Ok(outcome)) => {
                self.app
                    .end(self.tenant, end, outcome, &presented, &mut self.trail)
                    .await
            }
            (Err(refused), _, _) | (_, Err(refused), _) | (_, _, Err(refused)) => Err(refused),
        };
        let result = result.map(|ended| {
            let (status, body) = of_end(ended_body(&ended), ended.recorded);
            (status, body.to_string())
        });
        self.answer_as(result)
    }

    async fn outcome(&self, body: Body) -> Result<Outcome, Refused> {
        let most = self.app.bounds().request_bytes;
        let bytes = to_bytes(body, most).await.map_err(|_| {
            self.refused(
                Refusal::new(Rule::BodySize)
                    .field("body")
                    .wanted(format!("at most {most} bytes"))
                    .got("more, or a body that broke off"),
            )
        })?;
        serde_json::from_slice::<EndBody>(&bytes)
            .map(|body| body.outcome)
            .map_err(|_| {
                self.refused(
                    Refusal::new(Rule::Invalid)
                        .field("body")
                        .wanted("{\"outcome\": \"completed\" | \"failed\" | \"cancelled\"}")
                        .got("something else"),
                )
            })
    }

    fn answer(&self, result: Result<Value, Refused>) -> Response {
        self.answer_as(result.map(|body| (StatusCode::OK, body.to_string())))
    }

    fn answer_as(&self, result: Result<(StatusCode, String), Refused>) -> Response {
        let nonce = self.app.nonce();
        match result {
            Err(refused) => {
                let mut response = render(&refused, Face::Task, &nonce);
                challenge(
                    &mut response,
                    refused.refusal.rule,
                    &metadata::resource_metadata(self.tenant),
                    !self.headers.contains_key(header::AUTHORIZATION),
                );
                response
            }
            Ok((status, body)) => {
                let mut response = json_response(status, body);
                if let Ok(nonce) = HeaderValue::from_str(&nonce) {
                    response.headers_mut().insert("dpop-nonce", nonce);
                }
                response
            }
        }
    }
}

fn ended_body(ended: &Ended) -> Value {
    json!({
        "task": ended.task,
        "client": ended.client,
        "cause": ended.cause.word(),
        "at": ended.at.to_string(),
        "last_possible_acceptance": ended.last_possible_acceptance.to_string(),
        "task_ended": ended.task_ended,
        "head": ended.head,
    })
}

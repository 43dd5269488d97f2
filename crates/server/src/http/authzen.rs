//! `POST /access/v1/evaluation` and `/evaluations`: resources ask for decisions (AuthZEN Authorization
//! API 1.0).

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use dayfly_domain::{Claims, Refusal, Rule};
use serde_json::{Map, Value, json};

use super::Named;
use super::answer::{Face, Live, json_response, render};
use super::headers;
use super::webhook::only;
use crate::app::{
    App, Decided, Denial, Refused, Shown, Tenant, Trail, Until, UseQuestion, UseQuestions,
};
use crate::verify;

/// Most evaluations of one request.
const EVALUATIONS: usize = 64;
/// Most members of a `context`, and most bytes of them: they are recorded with each use.
const SAID: (usize, usize) = (64, 4096);
/// By what a caller tells its answers apart; echoed where it is short and plain.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES: usize = 128;

pub(super) async fn evaluation(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call::new(&app, &tenant, &headers, address);
    call.answer(body, single).await
}

pub(super) async fn evaluations(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Call::new(&app, &tenant, &headers, address);
    call.answer(body, batch).await
}

/// What is asked, and whether the answer is a list.
struct Asked {
    questions: UseQuestions,
    several: bool,
}

struct Call<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    headers: &'a HeaderMap,
    trail: Trail,
}

impl<'a> Call<'a> {
    fn new(
        app: &'a App,
        tenant: &'a Tenant,
        headers: &'a HeaderMap,
        address: Option<std::net::IpAddr>,
    ) -> Self {
        let trail = Trail {
            asked: "use",
            address,
            ..Trail::default()
        };
        Self {
            app,
            tenant,
            headers,
            trail,
        }
    }

    async fn answer(
        &self,
        body: Body,
        read: fn(Map<String, Value>) -> Result<Asked, Refusal>,
    ) -> Response {
        let mut known = false;
        let mut response = match self.decide(body, read, &mut known).await {
            Ok(answer) => json_response(StatusCode::OK, answer),
            Err(refused) => render(&refused, Face::Introspection, &self.app.nonce()),
        };
        if known {
            // What the resource hands on of its own callers is not held against its address.
            response.extensions_mut().insert(Live);
        }
        let id = self.headers.get(REQUEST_ID);
        let plain =
            |id: &&axum::http::HeaderValue| id.len() <= REQUEST_ID_BYTES && id.to_str().is_ok();
        if let Some(id) = id.filter(plain) {
            response.headers_mut().insert(REQUEST_ID, id.clone());
        }
        response
    }

    async fn decide(
        &self,
        body: Body,
        read: fn(Map<String, Value>) -> Result<Asked, Refusal>,
        known: &mut bool,
    ) -> Result<String, Refused> {
        let refused = |refusal| self.app.refused(self.tenant, &self.trail, refusal);
        // Nothing is read of what nobody vouches for.
        let basic;
        let caller = match headers::bearer(self.headers) {
            Some(assertion) => crate::app::ResourceCaller::Assertion {
                assertion,
                client_id: None,
            },
            None => {
                basic = headers::basic(self.headers).map_err(refused)?;
                let (id, secret) = basic.as_ref().ok_or_else(|| refused(nobody()))?;
                crate::app::ResourceCaller::Secret { id, secret }
            }
        };
        let resource = self.app.resource(self.tenant, &caller, &self.trail).await?;
        *known = true;
        let members = self.members(body).await.map_err(refused)?;
        let Asked { questions, several } = read(members).map_err(refused)?;
        let decided = self
            .app
            .decide_uses(self.tenant, &resource, &questions, &self.trail)
            .await?;
        let mut each = decided.iter().map(shown);
        let answer = if several {
            json!({ "evaluations": each.collect::<Vec<Value>>() })
        } else {
            each.next().unwrap_or_else(|| json!({ "decision": false }))
        };
        Ok(answer.to_string())
    }

    async fn members(&self, body: Body) -> Result<Map<String, Value>, Refusal> {
        let media = only(self.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let essence = media.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(Rule::Invalid)
                .field("Content-Type")
                .wanted("application/json")
                .got("another"));
        }
        let most = self.app.bounds().request_bytes;
        let bytes = to_bytes(body, most).await.map_err(|_| {
            Refusal::new(Rule::BodySize)
                .field("body")
                .wanted(format!("at most {most} bytes"))
                .got("more, or a body that broke off")
        })?;
        dayfly_token::json::object(&bytes).map_err(|why| {
            Refusal::new(Rule::Invalid)
                .field("body")
                .wanted("one json object, no member twice")
                .got(why.to_string())
        })
    }
}

fn nobody() -> Refusal {
    Refusal::new(Rule::Authentication)
        .field("Authorization")
        .wanted("Basic with the resource's name and secret, or Bearer with an assertion by its key")
        .got("none")
}

/// A decision as it is answered.
fn shown(decided: &Decided) -> Value {
    match &decided.denied {
        None => json!({ "decision": true, "context": { "entry": decided.entry } }),
        Some(Denial {
            word,
            refusal: Some(refusal),
        }) => json!({
            "decision": false,
            "context": { "reason": word, "refusal": refusal },
        }),
        Some(Denial {
            word,
            refusal: None,
        }) => json!({ "decision": false, "context": { "reason": word } }),
    }
}

/// One evaluation (section 6.1).
fn single(mut members: Map<String, Value>) -> Result<Asked, Refusal> {
    let mut questions = UseQuestions {
        shown: Vec::new(),
        asked: Vec::new(),
        until: Until::Last,
    };
    take(&mut questions, &mut members, &Map::new())?;
    Ok(Asked {
        questions,
        several: false,
    })
}

/// Several evaluations (section 7.1): what one leaves out stands beside them all.
fn batch(mut members: Map<String, Value>) -> Result<Asked, Refusal> {
    let until = until(members.remove("options"))?;
    let list = match members.remove("evaluations") {
        None => return single(members),
        Some(Value::Array(list)) if list.is_empty() => return single(members),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(invalid("evaluations", "a list of objects")),
    };
    if list.len() > EVALUATIONS {
        return Err(Refusal::new(Rule::Invalid)
            .field("evaluations")
            .wanted(format!("at most {EVALUATIONS} evaluations"))
            .got(list.len().to_string()));
    }
    let mut questions = UseQuestions {
        shown: Vec::new(),
        asked: Vec::with_capacity(list.len()),
        until,
    };
    for one in list {
        let Value::Object(mut one) = one else {
            return Err(invalid("evaluations", "a list of objects"));
        };
        take(&mut questions, &mut one, &members)?;
    }
    Ok(Asked {
        questions,
        several: true,
    })
}

fn until(options: Option<Value>) -> Result<Until, Refusal> {
    let Some(options) = options else {
        return Ok(Until::Last);
    };
    let Value::Object(options) = options else {
        return Err(invalid("options", "an object"));
    };
    match options.get("evaluations_semantic") {
        None => Ok(Until::Last),
        Some(Value::String(semantic)) if semantic == "execute_all" => Ok(Until::Last),
        Some(Value::String(semantic)) if semantic == "deny_on_first_deny" => Ok(Until::Denied),
        Some(Value::String(semantic)) if semantic == "permit_on_first_permit" => Ok(Until::Allowed),
        Some(_) => Err(invalid(
            "options.evaluations_semantic",
            "execute_all, deny_on_first_deny or permit_on_first_permit",
        )),
    }
}

/// Reads one evaluation; `beside` holds what it leaves out.
fn take(
    questions: &mut UseQuestions,
    members: &mut Map<String, Value>,
    beside: &Map<String, Value>,
) -> Result<(), Refusal> {
    let mut entity = |name: &'static str| -> Result<Option<Map<String, Value>>, Refusal> {
        match members.remove(name).or_else(|| beside.get(name).cloned()) {
            None => Ok(None),
            Some(Value::Object(entity)) => Ok(Some(entity)),
            Some(_) => Err(invalid(name, "an object")),
        }
    };
    let needed = |name: &'static str, found: Option<Map<String, Value>>| {
        found.ok_or_else(|| {
            Refusal::new(Rule::Missing)
                .field(name)
                .wanted("an object")
                .got("none")
        })
    };
    let mut subject = needed("subject", entity("subject")?)?;
    let mut action = needed("action", entity("action")?)?;
    let mut resource = needed("resource", entity("resource")?)?;
    let context = entity("context")?.unwrap_or_default();
    let shown = subject_of(&mut subject)?;
    let by = match questions.shown.iter().position(|known| *known == shown) {
        Some(known) => known,
        None => {
            questions.shown.push(shown);
            questions.shown.len() - 1
        }
    };
    properties(&mut action, "action.properties")?;
    let fields = properties(&mut resource, "resource.properties")?;
    questions.asked.push(UseQuestion {
        by,
        action: text(&mut action, "name", "action.name")?,
        kind: text(&mut resource, "type", "resource.type")?,
        identifier: text(&mut resource, "id", "resource.id")?,
        fields: fields
            .into_iter()
            .map(|(name, value)| (name, verify::raw(value)))
            .collect(),
        said: said(context)?,
    });
    Ok(())
}

fn subject_of(subject: &mut Map<String, Value>) -> Result<Shown, Refusal> {
    let mut shown = properties(subject, "subject.properties")?;
    let mut optional = |name: &'static str, field: &'static str| match shown.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(field, "a string")),
    };
    Ok(Shown {
        kind: text(subject, "type", "subject.type")?,
        id: text(subject, "id", "subject.id")?,
        token: optional("token", "subject.properties.token")?,
        proof: optional("dpop", "subject.properties.dpop")?,
        method: optional("method", "subject.properties.method")?,
        url: optional("url", "subject.properties.url")?,
    })
}

/// A member that must be there and be a string.
fn text(
    members: &mut Map<String, Value>,
    name: &str,
    field: &'static str,
) -> Result<String, Refusal> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(invalid(field, "a string")),
        None => Err(Refusal::new(Rule::Missing)
            .field(field)
            .wanted("a string")
            .got("none")),
    }
}

fn properties(
    members: &mut Map<String, Value>,
    field: &'static str,
) -> Result<Map<String, Value>, Refusal> {
    match members.remove("properties") {
        None => Ok(Map::new()),
        Some(Value::Object(properties)) => Ok(properties),
        Some(_) => Err(invalid(field, "an object")),
    }
}

/// What the resource says of the request: what is no string stands as its JSON text.
fn said(context: Map<String, Value>) -> Result<Claims, Refusal> {
    let (most, bytes) = SAID;
    let said: Claims = context
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => (name, other.to_string()),
        })
        .collect();
    let long: usize = said
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if said.len() > most || long > bytes {
        return Err(Refusal::new(Rule::Invalid)
            .field("context")
            .wanted(format!("at most {most} members of {bytes} bytes"))
            .got(format!("{} of {long}", said.len())));
    }
    Ok(said)
}

fn invalid(field: &'static str, wanted: &'static str) -> Refusal {
    Refusal::new(Rule::Invalid)
        .field(field)
        .wanted(wanted)
        .got("something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        text: &str,
        by: fn(Map<String, Value>) -> Result<Asked, Refusal>,
    ) -> Result<Asked, String> {
        let members = dayfly_token::json::object(text.as_bytes()).unwrap();
        by(members).map_err(|refusal| format!("{} {}", refusal.rule.code(), refusal.field))
    }

    fn one(members: &str) -> String {
        format!(
            r#"{{"subject":{{"type":"credential","id":"x"}},"action":{{"name":"read"}},"resource":{{"type":"artifact","id":"a/b"}}{members}}}"#
        )
    }

    #[test]
    fn what_an_evaluation_lacks_is_named() {
        for (text, wanted) in [
            ("{}", "missing_parameter subject"),
            (r#"{"subject":7}"#, "invalid_parameter subject"),
            (
                r#"{"subject":{"type":"credential"},"action":{},"resource":{}}"#,
                "missing_parameter subject.id",
            ),
            (
                r#"{"subject":{"type":"credential","id":7},"action":{},"resource":{}}"#,
                "invalid_parameter subject.id",
            ),
            (
                r#"{"subject":{"type":"a","id":"b"},"action":{},"resource":{}}"#,
                "missing_parameter action.name",
            ),
            (
                r#"{"subject":{"type":"a","id":"b"},"action":{"name":"c"},"resource":{"id":"d"}}"#,
                "missing_parameter resource.type",
            ),
            (&one(r#","context":[]"#), "invalid_parameter context"),
        ] {
            assert_eq!(read(text, single).err().as_deref(), Some(wanted), "{text}");
        }
        assert!(read(&one(r#","other":{"a":[]}"#), single).is_ok());
    }

    #[test]
    fn what_a_resource_says_is_bounded() {
        let of = |bytes: usize| one(&format!(r#","context":{{"a":"{}"}}"#, "x".repeat(bytes)));
        assert!(read(&of(4095), single).is_ok());
        let over = read(&of(4096), single).err();
        assert_eq!(over.as_deref(), Some("invalid_parameter context"));
        let many: Vec<String> = (0..65).map(|n| format!(r#""k{n}":1"#)).collect();
        let many = one(&format!(r#","context":{{{}}}"#, many.join(",")));
        let over = read(&many, single).err();
        assert_eq!(over.as_deref(), Some("invalid_parameter context"));
        let said = read(&one(r#","context":{"n":1,"b":true,"o":{"x":[1]}}"#), single);
        let said = said.unwrap().questions.asked.remove(0).said;
        assert_eq!(said["n"], "1");
        assert_eq!(said["o"], r#"{"x":[1]}"#);
    }

    #[test]
    fn evaluations_take_what_stands_beside_them() {
        let list = |evaluations: &str, options: &str| {
            one(&format!(
                r#","evaluations":[{evaluations}],"options":{options}"#
            ))
        };
        let text = list(r#"{},{"resource":{"type":"artifact","id":"c"}}"#, "{}");
        let asked = read(&text, batch).unwrap();
        assert!(asked.several);
        assert_eq!(asked.questions.shown.len(), 1);
        let ids: Vec<&str> = asked
            .questions
            .asked
            .iter()
            .map(|asked| asked.identifier.as_str())
            .collect();
        assert_eq!(ids, ["a/b", "c"]);
        // None is one.
        assert!(!read(&list("", "{}"), batch).unwrap().several);
        for (semantic, until) in [
            ("execute_all", Until::Last),
            ("deny_on_first_deny", Until::Denied),
            ("permit_on_first_permit", Until::Allowed),
        ] {
            let options = format!(r#"{{"evaluations_semantic":"{semantic}","x":1}}"#);
            let asked = read(&list("{}", &options), batch).unwrap();
            assert_eq!(asked.questions.until, until);
        }
        let many = vec!["{}"; 65].join(",");
        for (evaluations, options, wanted) in [
            (
                "{}",
                r#"{"evaluations_semantic":"x"}"#,
                "options.evaluations_semantic",
            ),
            ("{}", "7", "options"),
            ("7", "{}", "evaluations"),
            (&*many, "{}", "evaluations"),
            (r#"{"subject":7}"#, "{}", "subject"),
        ] {
            let refused = read(&list(evaluations, options), batch).err();
            let wanted = format!("invalid_parameter {wanted}");
            assert_eq!(refused.as_deref(), Some(&*wanted));
        }
    }
}

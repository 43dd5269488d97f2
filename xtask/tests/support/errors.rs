//! What the server answers for each rule at each face, read off its own answers.

use axum::body::to_bytes;
use dayfly_domain::{Refusal, RefusalId, Rule};
use dayfly_server::app::Refused;
use dayfly_server::http::{Face, render};
use dayfly_server::verify::Entrance;
use serde_json::Value;

/// The columns of the table: faces that answer alike, as the document's head says.
const COLUMNS: [&[Face]; 7] = [
    &[Face::Grant(Entrance::Assertion), Face::Renewal],
    &[Face::Grant(Entrance::ClientAssertion)],
    &[
        Face::Grant(Entrance::SubjectToken),
        Face::Grant(Entrance::ActorToken),
        Face::Exchange,
    ],
    &[Face::Deferred],
    &[Face::Introspection, Face::Revocation],
    &[Face::Task],
    &[Face::Webhook],
];

/// The rows of the table: rule, stage, what it says, and how it is answered in each column.
pub(crate) fn table() -> Vec<String> {
    Rule::ALL
        .iter()
        .map(|rule| {
            let mut row = format!(
                "| `{}` | {} | {} |",
                rule.code(),
                rule.stage().code(),
                rule.says()
            );
            let mut before = String::new();
            for faces in COLUMNS {
                let answers: Vec<String> = faces.iter().map(|face| answer(*rule, *face)).collect();
                let first = answers[0].clone();
                assert!(answers.iter().all(|answer| *answer == first), "{rule:?}");
                let shown = if first == before { "=" } else { &first };
                row.push_str(&format!(" {shown} |"));
                before = first;
            }
            row
        })
        .collect()
}

fn answer(rule: Rule, face: Face) -> String {
    let refused = Refused {
        id: RefusalId([0; 16]),
        refusal: Refusal::new(rule),
        known: false,
    };
    let response = render(&refused, face, "nonce");
    let status = response.status().as_u16();
    let body = ready(to_bytes(response.into_body(), 1 << 16));
    let body: Value = serde_json::from_slice(&body.expect("a body")).expect("json");
    match body["error"].as_str() {
        Some(error) => format!("{status} `{error}`"),
        // A webhook is no request of OAuth.
        None => status.to_string(),
    }
}

/// The output of a future that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("a body that is not there at once"),
    }
}

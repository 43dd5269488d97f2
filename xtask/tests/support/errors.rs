//! What the server answers for each rule at each face, read off its own answers.

use axum::body::to_bytes;
use dayfly_domain::{Refusal, RefusalId, Rule};
use dayfly_server::app::Refused;
use dayfly_server::http::{Face, render};
use dayfly_server::verify::Entrance;
use serde_json::Value;

/// The faces, as the document names them.
const FACES: [(Face, &str); 8] = [
    (Face::Grant(Entrance::Assertion), "`assertion`"),
    (Face::Grant(Entrance::ClientAssertion), "`client_assertion`"),
    (Face::Grant(Entrance::SubjectToken), "`subject_token`"),
    (Face::Renewal, "renewal"),
    (Face::Exchange, "exchange"),
    (Face::Introspection, "introspection"),
    (Face::Revocation, "revocation"),
    (Face::Task, "tasks"),
];

/// The rows of the table: rule, stage, what it says, and how it is answered.
pub(crate) fn table() -> Vec<String> {
    Rule::ALL
        .iter()
        .map(|rule| {
            format!(
                "| `{}` | {} | {} | {} |",
                rule.code(),
                rule.stage().code(),
                rule.says(),
                answers(*rule)
            )
        })
        .collect()
}

/// The answer that most faces give, then those that differ.
fn answers(rule: Rule) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (face, name) in FACES {
        let answer = answer(rule, face);
        match groups.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, names)) => names.push(name),
            None => groups.push((answer, vec![name])),
        }
    }
    if let [(answer, _)] = groups.as_slice() {
        return answer.clone();
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|(answer, names)| format!("{answer} ({})", names.join(", ")))
        .collect();
    parts.join("; ")
}

fn answer(rule: Rule, face: Face) -> String {
    let refused = Refused {
        id: RefusalId([0; 16]),
        refusal: Refusal::new(rule),
    };
    let response = render(&refused, face, "nonce");
    let status = response.status().as_u16();
    let body = ready(to_bytes(response.into_body(), 1 << 16));
    let body: Value = serde_json::from_slice(&body.expect("a body")).expect("json");
    format!("{status} `{}`", body["error"].as_str().unwrap_or_default())
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

//! GitLab's webhooks: jobs and pipelines, each in a final state.

use dayfly_domain::{Claims, Refusal};
use serde_json::{Map, Value};

use super::{Over, id, known, word};

/// The states after which a job or pipeline runs no more. A job that is run again is another job;
/// a pipeline of which a job is run again is the same, and over for Dayfly.
const FINAL: [&str; 4] = ["success", "failed", "canceled", "skipped"];

/// Reads an event. `build_id` is the `job_id` of its token.
pub(super) fn read(body: &Map<String, Value>) -> Result<Option<Over>, Refusal> {
    let (what, state, job) = match body.get("object_kind").and_then(Value::as_str) {
        Some("build") => ("job", "build_status", Some("job_id")),
        Some("pipeline") => ("pipeline", "object_attributes.status", None),
        Some(_) | None => return Ok(None),
    };
    let state = word(body, state);
    if !FINAL.contains(&state) {
        return Ok(None);
    }
    let mut claims = Claims::new();
    match job {
        Some(claim) => {
            claims.insert(claim.to_owned(), id(body, "build_id")?);
            claims.insert("pipeline_id".to_owned(), id(body, "pipeline_id")?);
            known(&mut claims, "project_id", body, "project_id");
        }
        None => {
            let pipeline = id(body, "object_attributes.id")?;
            claims.insert("pipeline_id".to_owned(), pipeline);
            known(&mut claims, "project_id", body, "project.id");
        }
    }
    Ok(Some(Over {
        claims,
        job,
        said: format!("{what} over: {state}"),
    }))
}

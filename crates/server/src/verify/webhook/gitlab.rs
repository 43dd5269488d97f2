//! GitLab's webhooks: jobs and pipelines, each in a final state.

use dayfly_domain::{Claims, Refusal, Rule};
use serde_json::{Map, Value};

use super::{Over, id, known, word};

/// The most jobs that one event ends and closes. One that names more is taken for its pipeline alone:
/// whoever is refused too often sends no more, for all projects.
const MAX_JOBS: usize = 8192;

/// The states after which a job or pipeline runs no more. A job that is run again is another job;
/// a pipeline of which a job is run again is the same, and over for Dayfly. What was skipped never
/// ran, and may: where an earlier job is run again, GitLab runs the skipped ones under their old ids.
const FINAL: [&str; 3] = ["success", "failed", "canceled"];

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
    let said = format!("{what} over: {state}");
    let jobs = match job {
        Some(claim) => {
            claims.insert(claim.to_owned(), id(body, "build_id")?);
            claims.insert("pipeline_id".to_owned(), id(body, "pipeline_id")?);
            known(&mut claims, "project_id", body, "project_id");
            Vec::new()
        }
        None => {
            let pipeline = id(body, "object_attributes.id")?;
            claims.insert("pipeline_id".to_owned(), pipeline);
            known(&mut claims, "project_id", body, "project.id");
            jobs(body, &claims, &said)?
        }
    };
    Ok(Some(Over {
        claims,
        job,
        jobs,
        said,
    }))
}

/// The jobs of a pipeline that its event says are over. One that was run again stands in it no more:
/// its own event has said so.
fn jobs(body: &Map<String, Value>, pipeline: &Claims, said: &str) -> Result<Vec<Over>, Refusal> {
    let builds = match body.get("builds") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(builds) => builds.as_array().ok_or_else(|| {
            Refusal::new(Rule::Invalid)
                .field("builds")
                .wanted("a list of jobs")
                .got("another")
        })?,
    };
    if builds.len() > MAX_JOBS {
        tracing::warn!(
            jobs = builds.len(),
            most = MAX_JOBS,
            "a pipeline of gitlab names too many jobs: none of them ends by its event"
        );
        return Ok(Vec::new());
    }
    let builds = builds.iter().filter_map(Value::as_object);
    builds
        .map(|build| (build, word(build, "status")))
        .filter(|(_, state)| FINAL.contains(state))
        .map(|(build, state)| {
            let mut claims = pipeline.clone();
            claims.insert("job_id".to_owned(), id(build, "id")?);
            Ok(Over {
                claims,
                job: Some("job_id"),
                jobs: Vec::new(),
                said: format!("{said}, the job {state}"),
            })
        })
        .collect()
}

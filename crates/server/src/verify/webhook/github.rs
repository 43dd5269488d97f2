//! GitHub's webhooks: `workflow_run` and `workflow_job`, each when completed.

use dayfly_domain::{Claims, Refusal, Rule};
use serde_json::{Map, Value};

use super::{Delivery, Over, id, known, word};

/// Reads an event. A job's id is the `check_run_id` of its token.
pub(super) fn read(
    delivery: Delivery<'_>,
    body: &Map<String, Value>,
) -> Result<Option<Over>, Refusal> {
    let event = (delivery.header)("x-github-event").ok_or_else(|| {
        Refusal::new(Rule::Missing)
            .field("x-github-event")
            .wanted("the name of the event")
            .got("none")
    })?;
    if body.get("action").and_then(Value::as_str) != Some("completed") {
        return Ok(None);
    }
    let (what, run, job) = match event {
        "workflow_run" => ("workflow_run", "workflow_run.id", None),
        "workflow_job" => ("workflow_job", "workflow_job.run_id", Some("check_run_id")),
        _ => return Ok(None),
    };
    let mut claims = Claims::from([
        ("repository_id".to_owned(), id(body, "repository.id")?),
        ("run_id".to_owned(), id(body, run)?),
        (
            "run_attempt".to_owned(),
            id(body, &format!("{what}.run_attempt"))?,
        ),
    ]);
    if let Some(claim) = job {
        claims.insert(claim.to_owned(), id(body, "workflow_job.id")?);
    }
    known(&mut claims, "repository", body, "repository.full_name");
    known(
        &mut claims,
        "repository_owner",
        body,
        "repository.owner.login",
    );
    known(
        &mut claims,
        "repository_owner_id",
        body,
        "repository.owner.id",
    );
    let conclusion = word(body, &format!("{what}.conclusion"));
    Ok(Some(Over {
        claims,
        job,
        jobs: Vec::new(),
        said: format!("{what} completed: {conclusion}"),
    }))
}

//! GitLab CI: a token names project, pipeline and job; a retried job is a new job.

use dayfly_domain::{Claims, Refusal};

use super::{Reading, is_plain_path, number};

/// The instance is (project, pipeline, job). Ids come as texts or as numbers, by version.
pub(super) fn read(issuer_url: &str, claims: Claims) -> Result<Reading, Refusal> {
    number(&claims, "namespace_id")?;
    let project = number(&claims, "project_id")?;
    let pipeline = number(&claims, "pipeline_id")?;
    let job = number(&claims, "job_id")?;
    let instance = format!("project_id={project},pipeline_id={pipeline},job_id={job}");
    Ok(Reading {
        run_url: run_url(issuer_url, &claims, job),
        instance,
        claims,
        one_time: true,
    })
}

/// In pipelines of merge requests from forks `project_path` is the fork; the job ran where
/// `job_project_path` says.
fn run_url(issuer_url: &str, claims: &Claims, job: &str) -> Option<String> {
    let project = claims
        .get("job_project_path")
        .or_else(|| claims.get("project_path"))?;
    let server = issuer_url.strip_suffix('/').unwrap_or(issuer_url);
    is_plain_path(project).then(|| format!("{server}/{project}/-/jobs/{job}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_domain::Rule;

    fn claims() -> Claims {
        [
            (
                "sub",
                "project_path:group/sub/project:ref_type:branch:ref:main",
            ),
            ("namespace_id", "72"),
            ("project_id", "20"),
            ("project_path", "group/sub/project"),
            ("pipeline_id", "574"),
            ("job_id", "302"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
    }

    #[test]
    fn the_instance_is_project_pipeline_and_job() {
        let reading = read("https://gitlab.example", claims()).unwrap();
        assert_eq!(reading.instance, "project_id=20,pipeline_id=574,job_id=302");
        assert!(reading.one_time);
        let page = "https://gitlab.example/group/sub/project/-/jobs/302";
        assert_eq!(reading.run_url.as_deref(), Some(page));
    }

    #[test]
    fn a_job_of_a_fork_has_its_page_where_it_ran() {
        let mut fork = claims();
        fork.insert("job_project_path".to_owned(), "upstream/project".to_owned());
        let reading = read("https://gitlab.example/", fork).unwrap();
        let page = "https://gitlab.example/upstream/project/-/jobs/302";
        assert_eq!(reading.run_url.as_deref(), Some(page));
        assert_eq!(
            reading.claims.get("project_path").unwrap(),
            "group/sub/project"
        );
    }

    #[test]
    fn ids_are_needed() {
        for claim in ["namespace_id", "project_id", "pipeline_id", "job_id"] {
            let mut claims = claims();
            claims.remove(claim);
            let refusal = read("https://gitlab.example", claims).unwrap_err();
            assert_eq!((refusal.rule, &*refusal.field), (Rule::ClaimMissing, claim));
        }
    }
}

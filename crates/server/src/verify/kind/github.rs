//! GitHub Actions: a token names repository, run, attempt and job.

use dayfly_domain::{Claims, Refusal};

use super::{Reading, is_plain_path, malformed, number, optional_number, present};

/// The instance is (repository, run, attempt, job); `check_run_id`, the job, is absent on servers
/// that do not send it, and the task rule `job` then refuses.
pub(super) fn read(issuer_url: &str, claims: Claims) -> Result<Reading, Refusal> {
    present(&claims, "jti", "the token's own id")?;
    let repository = number(&claims, "repository_id")?;
    let (run, attempt) = (number(&claims, "run_id")?, number(&claims, "run_attempt")?);
    let mut instance = format!("repository_id={repository},run_id={run},run_attempt={attempt}");
    if let Some(job) = optional_number(&claims, "check_run_id")? {
        instance.push_str(",check_run_id=");
        instance.push_str(job);
    }
    check_subject(&claims)?;
    Ok(Reading {
        run_url: run_url(issuer_url, &claims, run, attempt),
        instance,
        claims,
        one_time: true,
    })
}

/// Where `sub` has the immutable form `repo:OWNER@ID/REPO@ID:…`, its ids must be those of the
/// claims. Nothing else is ever read off `sub`: its form is the repository's to choose, and names
/// in it are recycled. Neither names of owners nor of repositories can hold `@`, and `:` within
/// what follows is written `%3A`.
fn check_subject(claims: &Claims) -> Result<(), Refusal> {
    let Some(sub) = claims.get("sub") else {
        return Ok(());
    };
    let names = sub
        .strip_prefix("repo:")
        .and_then(|rest| rest.split(':').next());
    let Some((owner, repository)) = names.and_then(|names| names.split_once('/')) else {
        return Ok(());
    };
    for (part, claim) in [
        (owner, "repository_owner_id"),
        (repository, "repository_id"),
    ] {
        let Some((_, id)) = part.split_once('@') else {
            continue;
        };
        let wanted = number(claims, claim)?;
        if id != wanted {
            return Err(malformed("sub", &format!("`@{wanted}`, as `{claim}` says"), sub)
                .hint("ids within `sub` contradict the claims: do not trust this issuer until it is known why"));
        }
    }
    Ok(())
}

fn run_url(issuer_url: &str, claims: &Claims, run: &str, attempt: &str) -> Option<String> {
    let server = server(issuer_url)?;
    let repository = claims
        .get("repository")
        .filter(|name| is_plain_path(name))?;
    Some(format!(
        "{server}/{repository}/actions/runs/{run}/attempts/{attempt}"
    ))
}

/// The server whose issuer this is: github.com (enterprises add a path), a tenant of ghe.com, or a
/// GitHub Enterprise Server.
fn server(issuer_url: &str) -> Option<String> {
    let rest = issuer_url.strip_prefix("https://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host == "token.actions.githubusercontent.com" {
        return Some("https://github.com".to_owned());
    }
    let on_ghe = host
        .strip_prefix("token.actions.")
        .filter(|host| host.ends_with(".ghe.com"));
    match (on_ghe, path) {
        (Some(host), _) => Some(format!("https://{host}")),
        (None, "_services/token") => Some(format!("https://{host}")),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_domain::Rule;

    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    fn claims(sub: &str) -> Claims {
        [
            ("jti", "0b6ac5e8"),
            ("sub", sub),
            ("repository", "octo-org/octo-repo"),
            ("repository_id", "456789"),
            ("repository_owner_id", "123456"),
            ("run_id", "30433642"),
            ("run_attempt", "1"),
            ("check_run_id", "12345"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
    }

    #[test]
    fn the_instance_is_repository_run_attempt_and_job() {
        let reading = read(
            ISSUER,
            claims("repo:octo-org/octo-repo:ref:refs/heads/main"),
        )
        .unwrap();
        assert_eq!(
            reading.instance,
            "repository_id=456789,run_id=30433642,run_attempt=1,check_run_id=12345"
        );
        assert!(reading.one_time);
        let mut without_job = claims("x");
        without_job.remove("check_run_id");
        let reading = read(ISSUER, without_job).unwrap();
        assert_eq!(
            reading.instance,
            "repository_id=456789,run_id=30433642,run_attempt=1"
        );
    }

    #[test]
    fn every_form_of_sub_passes_unless_its_ids_contradict_the_claims() {
        for sub in [
            "repo:octo-org/octo-repo:ref:refs/heads/main",
            "repo:octo-org@123456/octo-repo@456789:ref:refs/heads/main",
            "repo:octo-org@123456/octo-repo@456789:environment:eu%3Aprod",
            "repo:octo-org@123456/octo-repo:pull_request",
            "repo:octo-org/octo-repo:environment:a@b/c@d",
            "repo%3Aocto-org@9/octo-repo@9",
            "repository_owner_id:1:actor:mona",
            "job_workflow_ref:octo-org/octo-repo/.github/workflows/x.yml@refs/heads/main",
        ] {
            assert!(read(ISSUER, claims(sub)).is_ok(), "{sub}");
        }
        for sub in [
            "repo:octo-org@123456/octo-repo@1:ref:refs/heads/main",
            "repo:octo-org@1/octo-repo@456789:ref:refs/heads/main",
            "repo:octo-org@/octo-repo@456789:ref:refs/heads/main",
            "repo:octo-org@123456/octo-repo@456789@1:ref:refs/heads/main",
            "repo:octo-org@0123456/octo-repo@456789:ref:refs/heads/main",
            "repo:octo-org@123456/octo-repo@456789%3Aref:refs/heads/main",
        ] {
            let refusal = read(ISSUER, claims(sub)).unwrap_err();
            assert_eq!(
                (refusal.rule, &*refusal.field),
                (Rule::ClaimForm, "sub"),
                "{sub}"
            );
        }
    }

    #[test]
    fn ids_are_needed_and_are_whole_numbers() {
        for claim in ["repository_id", "run_id", "run_attempt", "jti"] {
            let mut claims = claims("x");
            claims.remove(claim);
            let refusal = read(ISSUER, claims).unwrap_err();
            assert_eq!((refusal.rule, &*refusal.field), (Rule::ClaimMissing, claim));
        }
        for text in [
            "",
            "1,run_attempt=9",
            "1.0",
            "-1",
            "007",
            " 1",
            "1e3",
            "123456789012345678901",
        ] {
            let mut claims = claims("x");
            claims.insert("run_id".to_owned(), text.to_owned());
            assert_eq!(
                read(ISSUER, claims).unwrap_err().rule,
                Rule::ClaimForm,
                "{text}"
            );
        }
    }

    #[test]
    fn the_page_of_the_run_follows_from_issuer_and_repository() {
        let url = |issuer: &str| read(issuer, claims("x")).unwrap().run_url;
        let page = |server: &str| {
            Some(format!(
                "{server}/octo-org/octo-repo/actions/runs/30433642/attempts/1"
            ))
        };
        assert_eq!(url(ISSUER), page("https://github.com"));
        assert_eq!(
            url(&format!("{ISSUER}/octo-enterprise")),
            page("https://github.com")
        );
        assert_eq!(
            url("https://token.actions.octo.ghe.com"),
            page("https://octo.ghe.com")
        );
        assert_eq!(
            url("https://git.example/_services/token"),
            page("https://git.example")
        );
        assert_eq!(url("http://127.0.0.1:1"), None);
        let mut odd = claims("x");
        odd.insert("repository".to_owned(), "octo-org/../..".to_owned());
        assert_eq!(read(ISSUER, odd).unwrap().run_url, None);
    }
}

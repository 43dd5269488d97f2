//! What loads and is warned of.

use super::{Folder, GOOD, good_but, good_with};

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let all = Folder::new().warnings(text);
    let got: Vec<_> = all.lines().collect();
    assert_eq!(got, expected);
}

fn matching(text: &str) -> String {
    good_but("{ issuer = \"github\", repository_id = \"1296269\" }", text)
}

#[test]
fn nothing_is_missing_in_what_is_good() {
    assert_eq!(Folder::new().warnings(GOOD), "");
}

#[test]
fn names_without_ids() {
    let by_name = "tenant.toml:21:1: `match` goes by names alone, which can be given up and taken by others: pin `repository_id`, `repository_owner_id` or `enterprise_id`";
    check(
        &matching("{ issuer = \"github\", repository = \"octo/x\" }"),
        &[by_name],
    );
    check(
        &matching("{ issuer = \"github\", repository_id = \"12*\", repository = \"octo/x\" }")
            .replace("\"12*\", repository = \"octo/x\"", "[\"1\", \"2\"]"),
        &[],
    );
    check(
        &matching(
            "{ issuer = \"github\", repository_id = \"1\", sub = \"repo:octo/x:ref:refs/heads/main\" }",
        ),
        &[
            "tenant.toml:21:1: `match` goes by `sub`, whose form can be customised and has changed: match `repository_id`, `repository_owner_id` or `enterprise_id` instead",
        ],
    );
    check(
        &matching("{ issuer = \"cluster\", namespace = \"a\", serviceaccount = \"b\" }"),
        &[
            "tenant.toml:21:1: `match` pins no `serviceaccount_uid`: a service account that is deleted and made again under the same name matches too",
        ],
    );
    check(
        &matching("{ issuer = \"idp\", email = \"a@example.com\" }\ntask = { key = [\"x\"] }"),
        &["tenant.toml:21:1: `match` does not pin `sub`: other claims may change hands"],
    );
    check(
        &matching("{ issuer = \"cluster\", serviceaccount_uid = \"u\" }"),
        &[],
    );
}

#[test]
fn gitlab_refs_and_bearers() {
    check(
        &matching(
            "{ issuer = \"gitlab\", project_id = \"1\", ref = \"main\", ref_protected = true }",
        ),
        &[],
    );
    check(
        &matching("{ issuer = \"gitlab\", project_id = \"1\", ref = \"main\" }"),
        &[
            "tenant.toml:21:1: `match` names `ref` without `ref_protected = \"true\"`: whoever can push may make a ref of that name",
        ],
    );
    check(
        &matching(
            "{ issuer = \"gitlab\", namespace_id = \"1\", ref = \"main\", ref_protected = \"true\" }",
        ),
        &[
            "tenant.toml:21:1: `match` names `ref` without `project_id`: a ref of that name in another project matches too",
        ],
    );
    check(
        &matching(
            "{ issuer = \"gitlab\", project_id = \"1\" }\ntoken = { binding = \"optional\" }",
        ),
        &[
            "tenant.toml:17:11: a client of `release` without a key can never renew: gitlab gives one token a job and it is spent by the first use",
        ],
    );
}

#[test]
fn claims_of_people_where_nobody_can_erase_them() {
    let warned = |place: &str, claim: &str| {
        format!(
            "tenant.toml:{place}: `{claim}` may name a person, and what makes the task key or fills access stands in the ledger for good"
        )
    };
    let pinned = "{ issuer = \"idp\", sub = \"s\" }\ntask = { key = ";
    check(
        &matching(&format!("{pinned}[\"sub\", \"email\"] }}")),
        &[&warned("17:11", "email")],
    );
    check(&matching(&format!("{pinned}[\"sub\", \"jti\"] }}")), &[]);
    check(
        &GOOD.replace("octo/*", "octo/{actor}/*"),
        &[&warned("17:11", "actor")],
    );
    check(&GOOD.replace("octo/*", "octo/{repository_id}/*"), &[]);
}

#[test]
fn people_of_several_issuers_at_a_resource_that_is_told_of_them() {
    let issuer = |name: &str| {
        format!(
            "[issuer.{name}]\nkind = \"oidc\"\nurl = \"https://{name}.example\"\naudience = \"a\"\npeople = true\n"
        )
    };
    let acting = |from: &str, subject: &str| {
        let text = good_with(&format!("subject = {{ from = {from} }}"));
        let named = format!("[resource.artifacts]\nsubject = \"{subject}\"\n");
        let text = text.replace("[resource.artifacts]\n", &named);
        format!("{text}\n{}{}", issuer("staff"), issuer("guests"))
    };
    let both = r#"["staff", "guests"]"#;
    check(
        &acting(both, "person"),
        &[
            "tenant.toml:13:11: the resource `artifacts` is told of people of guests and staff: `sub` tells them apart only beside `iss` in `on_behalf_of`",
        ],
    );
    check(&acting(both, "workload"), &[]);
    check(&acting(r#""staff""#, "person"), &[]);
}

#[test]
fn misspelt_claims() {
    check(
        &matching("{ issuer = \"github\", repository_id = \"1\", enviroment = \"prod\" }"),
        &[
            "tenant.toml:21:51: a github token is not known to carry `enviroment`, and an absent claim never matches: did you mean `environment`?",
        ],
    );
}

#[test]
fn what_is_left_open_or_unused() {
    check(
        &good_with("window = \"2h\"\nheartbeat = { mode = \"off\" }"),
        &[
            "tenant.toml:17:11: `release` has no heartbeat: a task that was left behind stays open for 2h",
        ],
    );
    check(
        &good_but("members = [\"group:platform\"]\n", ""),
        &[
            "tenant.toml:9:8: the owner `team-platform` has no `members`: nobody but an operator can end its tasks or read why it was refused",
        ],
    );
    check(
        &good_but(
            "[type.artifact]",
            "[resource.idle]\nurl = \"https://idle.example\"\n[type.artifact]",
        ),
        &["tenant.toml:15:11: no workload has access to the resource `idle`"],
    );
    check(
        &good_but(
            "[type.artifact]",
            "secret_file = \"public.secret\"\n[type.artifact]",
        ),
        &["tenant.toml:15:1: everyone on this machine can read `public.secret`"],
    );
    check(
        &good_but("[issuer.github]\n", "[issuer.github]\nkeep = \"30h\"\n"),
        &[
            "tenant.toml:2:1: `issuer.github.keep` is 30h, shorter than the 864h for which a github issuer can prove a run again: a run may then open a second task",
        ],
    );
    let one = "  { resource = \"artifacts\", type = \"artifact\" },\n";
    check(
        &good_but("access = [\n", &format!("access = [\n{}", one.repeat(32))),
        &[
            "tenant.toml:22:1: `workload.release.access` holds 33 details, more than the 32 that a client may have: a request must name what it wants",
        ],
    );
}

#[test]
fn an_unfinished_workload_loads_and_says_so() {
    let text = matching(
        "{ issuer = \"github\", repository = \"octo/x\" }\nunfinished = \"repository_id\"",
    )
    .replace("octo/*", "{repository}/*");
    check(
        &text,
        &[
            "tenant.toml:22:1: the workload is unfinished: every proof is refused until `match` pins `repository_id` and `unfinished` is removed; `dayfly proof` in a job prints the claim",
        ],
    );
    let (declared, _) = Folder::new().load(&[("tenant.toml", &text)]).unwrap();
    let workload = declared.workloads.values().next().unwrap();
    assert_eq!(workload.unfinished.as_deref(), Some("repository_id"));
}

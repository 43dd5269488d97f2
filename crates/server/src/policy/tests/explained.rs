//! What a denial says of the permits that came nearest.

use super::Asks;

/// The first condition that fails, and the claim it is about.
#[track_caller]
fn check(conditions: &str, wanted: &str, got: &str, claim: Option<&str>) {
    let text = format!("@id(\"p\") permit (principal, action, resource) {conditions};");
    let verdict = Asks::default().of_text(&text);
    let [nearest] = verdict.nearest.as_slice() else {
        panic!("{verdict:#?}");
    };
    assert_eq!(
        (nearest.wanted.as_str(), nearest.got.as_str()),
        (wanted, got),
        "{text}"
    );
    assert_eq!(nearest.claim.as_deref(), claim, "{text}");
    assert_eq!(nearest.policy, "p");
    assert_eq!(nearest.place, "/t/policies/p.cedar:1:1");
}

#[test]
fn the_clause_that_fails_says_what_it_wanted_and_got() {
    let tag = "context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\")";
    check(
        &format!("when {{ {tag} == \"refs/heads/prod\" }}"),
        "refs/heads/prod",
        "refs/heads/main",
        Some("ref"),
    );
    check(
        &format!("when {{ {tag} like \"refs/tags/v*\" }}"),
        "like refs/tags/v*",
        "refs/heads/main",
        Some("ref"),
    );
    check(
        &format!("unless {{ {tag} == \"refs/heads/main\" }}"),
        "not context.proof.hasTag(\"ref\") && (context.proof.getTag(\"ref\") == \"refs/heads/main\")",
        "true",
        None,
    );
    check(
        "when { context.proof.hasTag(\"environment\") && context.proof.getTag(\"environment\") == \"prod\" }",
        "a claim of this name",
        "false",
        Some("environment"),
    );
    check(
        "when { [\"a\", \"b\"].contains(principal.kind) }",
        "one of [\"a\", \"b\"]",
        "ci",
        None,
    );
}

#[test]
fn conditions_about_anything_else_name_no_claim() {
    check("when { context.open_tasks < 2 }", "< 2", "3", None);
    check("when { principal.kind == \"batch\" }", "batch", "ci", None);
    check(
        "when { context.actions.contains(\"delete\") }",
        "delete among them",
        "[\"publish\", \"read\"]",
        None,
    );
    check(
        "when { context has address && context.address.isInRange(ip(\"10.0.0.0/8\")) }",
        "in the range ip(\"10.0.0.0/8\")",
        "ip(\"192.0.2.7\")",
        None,
    );
    check("unless { context.open_tasks == 3 }", "not 3", "3", None);
    check("when { !(context.open_tasks == 3) }", "not 3", "3", None);
}

#[test]
fn the_nearest_stands_first_and_other_scopes_not_at_all() {
    let text = "
@id(\"far\") permit (principal, action, resource) when { principal.kind == \"x\" && context.open_tasks < 2 };
@id(\"near\") permit (principal, action, resource) when { principal.kind == \"ci\" && context.open_tasks < 2 };
@id(\"elsewhere\") permit (principal == Dayfly::Workload::\"agent\", action, resource);
@id(\"observed\") @mode(\"observe\") permit (principal, action, resource) when { context.open_tasks < 2 };
@id(\"no\") forbid (principal, action, resource) when { context.open_tasks < 2 };
";
    let verdict = Asks::default().of_text(text);
    let names: Vec<&str> = verdict.nearest.iter().map(|n| n.policy.as_str()).collect();
    assert_eq!(names, ["near", "far"]);
}

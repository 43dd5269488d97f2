//! What is permitted and what is not.

use super::super::Decision;
use super::{Action, Asks, load, shown, source};
use crate::policy::Policies;

const BASELINE: &str = "@id(\"base\") permit (principal, action, resource);\n";

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(shown(&Asks::default().of_text(text)), expected, "{text}");
}

#[test]
fn nothing_is_permitted_unless_a_policy_says_so() {
    let (none, warnings) = load(&[]).unwrap();
    assert_eq!(shown(&Asks::default().of(&none)), "deny by [] errors []");
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(
        warning
            .message
            .starts_with("there are no policies, so nothing is permitted")
    );
    check(BASELINE, "allow by [base] errors []");
}

#[test]
fn a_forbid_outweighs_every_permit() {
    let forbid =
        "@id(\"stop\") forbid (principal, action, resource) when { context.open_tasks >= 3 };";
    check(&format!("{BASELINE}{forbid}"), "deny by [stop] errors []");
    let few = Asks {
        open_tasks: 2,
        ..Asks::default()
    };
    let verdict = few.of_text(&format!("{BASELINE}{forbid}"));
    assert_eq!(shown(&verdict), "allow by [base] errors []");
}

#[test]
fn a_policy_that_errs_denies() {
    let overflow = "when { context.open_tasks * 9223372036854775807 > 0 };";
    let forbid = format!("{BASELINE}@id(\"bad\") forbid (principal, action, resource) {overflow}");
    check(&forbid, "deny by [base] errors [bad]");
    let permit = format!("{BASELINE}@id(\"bad\") permit (principal, action, resource) {overflow}");
    check(&permit, "deny by [base] errors [bad]");
}

#[test]
fn all_facts_can_be_asked_for() {
    for clause in [
        "principal == Dayfly::Workload::\"release\"",
        "principal in Dayfly::Owner::\"team\"",
        "principal.kind == \"ci\"",
        "Dayfly::Workload::\"agent\".kind == \"agent\"",
        "resource == Dayfly::Resource::\"artifacts\"",
        "context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") like \"refs/heads/*\"",
        "context.now == datetime(\"2026-11-21T19:01:29.123Z\")",
        "context has address && context.address.isInRange(ip(\"192.0.2.0/24\"))",
        "context.open_tasks == 3 && context.starts_last_hour == 5",
        "context.types == [\"artifact\"]",
        "context.actions.containsAll([\"read\", \"publish\"])",
        "context.identifiers.contains(\"octo/*\")",
    ] {
        let text = format!("@id(\"p\") permit (principal, action, resource) when {{ {clause} }};");
        check(&text, "allow by [p] errors []");
    }
    let unknown = Asks {
        address: None,
        ..Asks::default()
    };
    let text = "permit (principal, action, resource) when { context has address };";
    assert_eq!(unknown.of_text(text).decision, Decision::Deny);
}

#[test]
fn a_scope_names_action_workload_owner_and_resource() {
    for (scope, permitted) in [
        (
            "principal == Dayfly::Workload::\"release\", action, resource",
            true,
        ),
        (
            "principal == Dayfly::Workload::\"agent\", action, resource",
            false,
        ),
        (
            "principal in Dayfly::Owner::\"team\", action, resource",
            true,
        ),
        (
            "principal in Dayfly::Owner::\"other\", action, resource",
            false,
        ),
        ("principal is Dayfly::Workload, action, resource", true),
        (
            "principal is Dayfly::Workload in Dayfly::Owner::\"team\", action, resource",
            true,
        ),
        (
            "principal, action == Dayfly::Action::\"issue\", resource",
            true,
        ),
        (
            "principal, action == Dayfly::Action::\"start\", resource",
            false,
        ),
        (
            "principal, action in [Dayfly::Action::\"use\", Dayfly::Action::\"issue\"], resource",
            true,
        ),
        (
            "principal, action, resource == Dayfly::Resource::\"artifacts\"",
            true,
        ),
        (
            "principal, action, resource == Dayfly::Resource::\"queue\"",
            false,
        ),
        ("principal, action, resource is Dayfly::Resource", true),
    ] {
        let verdict = Asks::default().of_text(&format!("permit ({scope});"));
        assert_eq!(verdict.decision == Decision::Allow, permitted, "{scope}");
    }
    let start = Asks {
        action: Action::Start,
        ..Asks::default()
    };
    let text = "permit (principal, action == Dayfly::Action::\"start\", resource);";
    assert_eq!(start.of_text(text).decision, Decision::Allow);
}

#[test]
fn what_is_only_observed_decides_nothing_and_is_told() {
    let forbid = "@id(\"soon\") @mode(\"observe\") forbid (principal, action, resource);";
    let verdict = Asks::default().of_text(&format!("{BASELINE}{forbid}"));
    assert_eq!(shown(&verdict), "allow by [base] errors []");
    let observed = verdict.observed.unwrap();
    assert_eq!(observed.decision, Decision::Deny);
    assert_eq!(observed.policies, ["soon"]);

    let permit = "@id(\"soon\") @mode(\"observe\") permit (principal, action, resource);";
    let verdict = Asks::default().of_text(permit);
    assert_eq!(shown(&verdict), "deny by [] errors []");
    assert_eq!(verdict.observed.unwrap().decision, Decision::Allow);

    let erring = "@id(\"soon\") @mode(\"observe\") forbid (principal, action, resource) when { context.open_tasks * 9223372036854775807 > 0 };";
    let verdict = Asks::default().of_text(&format!("{BASELINE}{erring}"));
    assert_eq!(shown(&verdict), "allow by [base] errors []");
    let observed = verdict.observed.unwrap();
    assert_eq!(observed.decision, Decision::Deny);
    assert_eq!(observed.errors.len(), 1);
}

#[test]
fn policies_in_force_that_do_not_load_permit_nothing() {
    let source = source(&[("p.cedar", BASELINE), ("q.cedar", "permit (nobody);")]);
    let (policies, warnings) = Policies::in_force(&source, &super::declared(&source));
    let verdict = Asks::default().of(&policies);
    assert_eq!(verdict.decision, Decision::Deny);
    assert_eq!(verdict.errors.len(), 1);
    assert!(
        warnings[0]
            .message
            .starts_with("nothing is permitted, for a policy in force")
    );
}

#[test]
fn more_than_can_be_looked_at_is_denied() {
    let mut asks = Asks::default();
    asks.claims.insert("big".to_owned(), "x".repeat(70_000));
    let verdict = asks.of_text(BASELINE);
    assert_eq!(verdict.decision, Decision::Deny);
    assert_eq!(
        verdict.errors[0].message,
        "the claims of the proof are too large to be evaluated"
    );
}

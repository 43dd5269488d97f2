//! Folders that load, and folders that are refused with the place of the mistake.

use super::{load, said};

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let said = said(&[("p.cedar", text)]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(
            line.contains(expected),
            "wanted: {expected}\n   got: {line}"
        );
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_a_hint() {
    check(
        "// a comment\npermit (principal, action, resource)\n  when { context.opentasks < 3 };",
        &["/t/policies/p.cedar:3:10: for policy `policies/p.cedar:2`"],
    );
    check(
        "permit (principal, action, resource) when { context.opentasks < 3 };",
        &["did you mean `open_tasks`?"],
    );
    check(
        "permit (principal, action resource);",
        &["/t/policies/p.cedar:1:27: cannot be read: unexpected token `resource`"],
    );
    check(
        "permit (principal, action == Dayfly::Action::\"strat\", resource);",
        &["/t/policies/p.cedar:1:"],
    );
    check(
        "permit (principal, action, resource) when { context.proof.getTag(\"ref\") == \"x\" };",
        &["try testing for the tag's presence"],
    );
}

#[test]
fn an_approval_lifts_a_forbid_of_a_start_and_nothing_else() {
    let start = "(principal, action == Dayfly::Action::\"start\", resource);";
    check(
        &format!("@approval(\"30m\") @people(\"2\") forbid {start}"),
        &[],
    );
    for (annotations, rule, message) in [
        ("@approval(\"30m\")", format!("permit {start}"), "stands on a `forbid`"),
        (
            "@approval(\"30m\")",
            "forbid (principal, action, resource);".to_owned(),
            "`Dayfly::Action::\"start\"` alone",
        ),
        (
            "@approval(\"30m\")",
            "forbid (principal, action in [Dayfly::Action::\"start\", Dayfly::Action::\"issue\"], resource);".to_owned(),
            "`Dayfly::Action::\"start\"` alone",
        ),
        ("@approval(\"soon\")", format!("forbid {start}"), "from 1m to 24h"),
        ("@approval(\"30s\")", format!("forbid {start}"), "from 1m to 24h"),
        ("@approval(\"30m\") @people(\"3\")", format!("forbid {start}"), "`1` or `2`"),
        ("@people(\"2\")", format!("forbid {start}"), "goes with `@approval`"),
        (
            "@approval(\"30m\") @mode(\"observe\")",
            format!("forbid {start}"),
            "an observed policy forbids nothing",
        ),
    ] {
        check(&format!("{annotations} {rule}"), &[message]);
    }
}

#[test]
fn names_are_one_policy_s_own() {
    check(
        "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
        &[
            "/t/policies/p.cedar:2:1: another policy is called `a` already, at /t/policies/p.cedar:1:1",
        ],
    );
    check(
        "@id(\"\") permit (principal, action, resource);",
        &["`@id` wants 1 to 128 bytes"],
    );
    check(
        "@mode(\"observ\") permit (principal, action, resource);",
        &[
            "/t/policies/p.cedar:1:1: `@mode` knows `observe` alone, and here is `observ`: did you mean `observe`?",
        ],
    );
}

#[test]
fn names_that_nothing_has_are_warned_of() {
    check(
        "permit (principal == Dayfly::Workload::\"relase\", action, resource);",
        &["nothing is declared as `Dayfly::Workload::\"relase\"`: did you mean `release`?"],
    );
    check(
        "permit (principal == ?principal, action, resource);",
        &[
            "there are no policies",
            "a template stands for no policy by itself",
        ],
    );
}

#[test]
fn files_stand_beside_each_other() {
    let (policies, _) = load(&[
        ("a.cedar", "permit (principal, action, resource);"),
        ("b.cedar", "\n\nforbid (principal, action, resource);"),
        ("c.cedar", "// nothing"),
    ])
    .unwrap();
    assert_eq!(policies.count(), 2);
    let (other, _) = load(&[("a.cedar", "permit (principal, action, resource); ")]).unwrap();
    assert_ne!(policies.hash(), other.hash());
    let twice = said(&[
        (
            "a.cedar",
            "@id(\"x\") permit (principal, action, resource);",
        ),
        (
            "b.cedar",
            "@id(\"x\") permit (principal, action, resource);",
        ),
    ]);
    assert!(
        twice.starts_with("/t/policies/b.cedar:1:1: another policy"),
        "{twice}"
    );
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let policy = |when: &str| format!("permit (principal, action, resource) when {{ {when} }};");
    let cases = [
        (
            policy(&format!("{}true{}", "(".repeat(5000), ")".repeat(5000))),
            "brackets stand more than 32 deep",
        ),
        (
            policy(&vec!["true"; 5000].join(" || ")),
            "more than 512 operators",
        ),
        (policy(&"!".repeat(5000)), "more than 512 operators"),
        (
            policy(&format!("{}true", "if true then true else ".repeat(5000))),
            "more than 512 operators",
        ),
        (
            policy(&format!(
                "[{}].contains(\"x\")",
                "\"0123456789\",".repeat(6000)
            )),
            "more than 65536 bytes",
        ),
        (
            "permit (principal, action, resource);\n".repeat(20_001),
            "a tenant may have 20000 policies",
        ),
        (
            format!("//{}", "x".repeat(9 << 20)),
            "the policies have 9437186 bytes together",
        ),
    ];
    for (text, expected) in cases {
        check(&text, &[expected]);
    }
    // What is within the bounds is read on the stack of any thread.
    check(
        &policy(&vec!["context.open_tasks > 1"; 160].join(" || ")),
        &[],
    );
    check(
        &policy(&format!("{}true{}", "(".repeat(28), ")".repeat(28))),
        &[],
    );
    check(
        &policy(&format!(
            "[{}].contains(\"x\")",
            "\"0123456789\",".repeat(4000)
        )),
        &[],
    );
}

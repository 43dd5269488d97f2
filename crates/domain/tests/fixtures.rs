//! The rules of a task as data: every case of `tests/fixtures/*.txt` through one `check`.
//!
//! A case has a title after `==`. `given:` changes what is declared, `when:` has one step a line,
//! each at a time counted from the start of the case, with what the step brings indented below it;
//! `then:` says what came of the steps since the last one. `t1`, `t1/2` and `t1/2/3` are the first
//! task, its second client and that one's third credential. `UPDATE_FIXTURES=1 cargo test -p
//! dayfly-domain --test fixtures` writes what the domain says into the files.

#[cfg(test)]
mod world;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use dayfly_domain::{Rule, Stage};

/// The rules that `decide` and `admit` never say: others look at what these need.
const ELSEWHERE: &[Rule] = &[
    Rule::RootOnly,
    Rule::RateLimit,
    Rule::ApprovalNeeded,
    Rule::SlowDown,
    Rule::PollFlood,
    Rule::ApprovalDenied,
    Rule::DeferralCode,
];

#[test]
fn every_case_holds_and_every_rule_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut refused = BTreeSet::new();
    let mut failures = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        check(&entry.unwrap().path(), &mut refused, &mut failures);
    }
    assert!(failures.is_empty(), "{failures}");
    let silent: Vec<&Rule> = Rule::ALL
        .iter()
        .filter(|rule| {
            matches!(
                rule.stage(),
                Stage::Task | Stage::Access | Stage::Delegation
            )
        })
        .filter(|rule| !ELSEWHERE.contains(rule) && !refused.contains(rule))
        .collect();
    assert!(silent.is_empty(), "no case is refused by {silent:?}");
}

/// Runs every case of a file and writes the difference of those that do not hold.
fn check(file: &Path, refused: &mut BTreeSet<Rule>, failures: &mut String) {
    let Ok(text) = fs::read_to_string(file) else {
        failures.push_str(&format!("{} cannot be read\n", file.display()));
        return;
    };
    let mut updated: String = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    for case in world::cases(&text) {
        let wanted = case.wanted();
        let (got, world) = case.got();
        refused.extend(world.refused);
        updated += &format!("\n{got}");
        if got != wanted {
            let _ = writeln!(
                failures,
                "\n{}: {}\n{}",
                file.display(),
                case.title,
                difference(&wanted, &got)
            );
        }
    }
    if option_env!("UPDATE_FIXTURES").is_some() {
        failures.clear();
        if fs::write(file, updated).is_err() {
            failures.push_str(&format!("{} cannot be written\n", file.display()));
        }
    }
}

/// Both texts line by line: `-` stands in the fixture only, `+` is what the domain says.
fn difference(wanted: &str, got: &str) -> String {
    let wanted: Vec<&str> = wanted.lines().collect();
    let got: Vec<&str> = got.lines().collect();
    let mut text = String::new();
    let (mut w, mut g) = (wanted.as_slice(), got.as_slice());
    while let (Some((a, rest_w)), Some((b, rest_g))) = (w.split_first(), g.split_first()) {
        if a == b {
            let _ = writeln!(text, "  {a}");
            (w, g) = (rest_w, rest_g);
        } else if let Some(skip) = g.iter().position(|line| line == a) {
            let (new, rest) = g.split_at(skip);
            new.iter().for_each(|line| text += &format!("+ {line}\n"));
            g = rest;
        } else {
            let _ = writeln!(text, "- {a}");
            w = rest_w;
        }
    }
    w.iter().for_each(|line| text += &format!("- {line}\n"));
    g.iter().for_each(|line| text += &format!("+ {line}\n"));
    text
}

//! What a dry run prints.

use super::{Folder, GOOD, good_but};
use crate::declared::{Source, SourceFile, diff};

fn source(files: &[(&str, &str)]) -> Source {
    let files = files
        .iter()
        .map(|(name, text)| SourceFile {
            name: (*name).into(),
            text: (*text).into(),
        })
        .collect();
    Source::new(Folder::new().path(), files)
}

fn changes(old: &[(&str, &str)], new: &[(&str, &str)]) -> String {
    let lines: Vec<_> = diff(&source(old), &source(new))
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}

#[test]
fn equal_states_have_none_however_they_are_written() {
    assert_eq!(changes(&[("a.toml", GOOD)], &[("a.toml", GOOD)]), "");
    let (one, two) = GOOD.split_at(GOOD.find("[owner").unwrap());
    let commented = format!("# moved\n{two}");
    assert_eq!(
        changes(
            &[("a.toml", GOOD)],
            &[("x.toml", &commented), ("y.toml", one)]
        ),
        ""
    );
}

#[test]
fn each_change_is_named_with_its_keys() {
    let new = good_but("[issuer.gitlab]\n", "")
        .replace(
            "purpose = \"publish release artifacts\"",
            "purpose = \"publish\"\nwindow = \"2h\"\nheartbeat = { grace = \"9m\" }",
        )
        .replace("actions = [\"read\"]", "actions = [\"read\", \"publish\"]")
        .replace("members = [\"group:platform\"]\n", "")
        .replace(
            "[resource.artifacts]",
            "[owner.ops]\nname = \"Ops\"\ncontact = \"ops\"\n[resource.artifacts]",
        );
    let new = format!("dpop_nonce = \"required\"\n{new}");
    assert_eq!(
        changes(&[("a.toml", GOOD)], &[("a.toml", &new)]),
        "+ setting dpop_nonce\n\
         - issuer gitlab\n\
         + owner ops\n\
         ~ owner team-platform\n    \
             members: [\"group:platform\"] -> (not written)\n\
         ~ workload release\n    \
             access[0].actions: [\"read\"] -> [\"read\", \"publish\"]\n    \
             heartbeat.grace: (not written) -> \"9m\"\n    \
             purpose: \"publish release artifacts\" -> \"publish\"\n    \
             window: (not written) -> \"2h\""
    );
}

#[test]
fn policies_are_compared_by_content() {
    let old = [("policies/a.cedar", "permit(principal, action, resource);")];
    assert_eq!(changes(&[], &old), "+ policy policies/a.cedar");
    let text = changes(&old, &[("policies/a.cedar", "")]);
    assert!(
        text.starts_with("~ policy policies/a.cedar\n    sha256: "),
        "{text}"
    );
}

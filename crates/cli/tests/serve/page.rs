//! A page of the runbook, walked line by line.

use crate::stage::Stage;

pub(crate) const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");
/// How often it is looked whether something has happened that happens soon.
const LOOKS: usize = 400;

/// Gives the line again and again until it says what is wanted.
#[track_caller]
pub(crate) fn until(stage: &Stage, line: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut said = String::new();
    for _ in 0..LOOKS {
        said = stage.shell(line).1;
        if wanted(&said) {
            return said;
        }
    }
    panic!("`{line}` says: {said}\n{}", stage.log());
}

/// A line of the page, with a word of it filled in.
pub(crate) fn step(line: &str, of: &[(&str, &str)]) -> String {
    assert!(
        RUNBOOK.contains(&format!("\n{line}\n")),
        "the page has no line `{line}`"
    );
    of.iter().fold(line.to_owned(), |line, (word, value)| {
        line.replace(word, value)
    })
}

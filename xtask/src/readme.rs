//! The README's list of commands against the binary's own.

use std::collections::BTreeSet;
use std::fs;

use crate::step::{Invocation, binary, root};

/// Where the list stands in the README: between these two lines.
const BEGIN: &str = "<!-- commands -->";
const END: &str = "<!-- end of commands -->";

/// Compares the two lists.
pub(crate) fn check() -> Result<(), String> {
    let readme = fs::read_to_string(root().join("README.md"))
        .map_err(|why| format!("README.md cannot be read: {why}"))?;
    let listed = listed(&readme)
        .ok_or_else(|| format!("README.md has no list between `{BEGIN}` and `{END}`"))?;
    let served = served(&[])?;
    if listed == served {
        return Ok(());
    }
    let show = |set: BTreeSet<&String>| set.into_iter().cloned().collect::<Vec<_>>().join(", ");
    Err(format!(
        "README.md and `dayfly --help` differ: not in the README: {}; not in the binary: {}",
        show(served.difference(&listed).collect()),
        show(listed.difference(&served).collect()),
    ))
}

/// The commands of a list like ``- `dayfly task list|show TASK`: …``: the words up to the first that
/// is no command, alternatives parted by `|`.
fn listed(readme: &str) -> Option<BTreeSet<String>> {
    let (_, rest) = readme.split_once(BEGIN)?;
    let (list, _) = rest.split_once(END)?;
    let mut commands = BTreeSet::new();
    for quoted in list.split("`dayfly ").skip(1) {
        let line = quoted.split('`').next().unwrap_or_default();
        let mut whole = vec![String::new()];
        for word in line.split(' ') {
            if !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                break;
            }
            whole = whole
                .iter()
                .flat_map(|before| {
                    word.split('|')
                        .map(move |name| format!("{before} {name}").trim().to_owned())
                })
                .collect();
        }
        commands.extend(whole);
    }
    Some(commands)
}

/// The commands that the binary has: its own, and those below them.
fn served(before: &[&str]) -> Result<BTreeSet<String>, String> {
    let mut help = Invocation::of(binary().display().to_string(), "");
    for word in before {
        help = help.with(*word);
    }
    let help = help.with("--help");
    let text = help
        .output()
        .ok_or_else(|| format!("`{help}` does not answer"))?;
    let mut commands = BTreeSet::new();
    for name in names(&text) {
        let words: Vec<&str> = before.iter().copied().chain([name]).collect();
        let below = served(&words)?;
        if below.is_empty() {
            commands.insert(words.join(" "));
        } else {
            commands.extend(below);
        }
    }
    Ok(commands)
}

/// The names that a help text lists under `Commands:`.
fn names(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            // Two spaces and a name; deeper lines go on with the one above.
            let name = line.strip_prefix("  ")?;
            (!name.starts_with(' ')).then(|| name.split(' ').next())?
        })
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_commands_is_read() {
        let readme = format!(
            "{BEGIN}\n- `dayfly run -- COMMAND…` runs\n- `dayfly task list|show TASK` and `dayfly owner offboard`\n{END} `dayfly not`"
        );
        let found: Vec<String> = listed(&readme).unwrap().into_iter().collect();
        assert_eq!(found, ["owner offboard", "run", "task list", "task show"]);
        assert!(listed("nothing").is_none());
    }

    #[test]
    fn names_are_read_off_a_help_text() {
        let help = "About\n\nUsage: x\n\nCommands:\n  run    Runs\n         on\n  token  Prints\n  help   Print\n\nOptions:\n  -h  x\n";
        assert_eq!(names(help), ["run", "token"]);
        assert!(names("Usage: x\n").is_empty());
    }
}

//! Links and headings of Markdown, as far as our documents use it.

/// The targets of inline links, code left out.
pub(crate) fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Whatever stands between backticks is no link.
        let spoken: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in spoken.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The anchors of headings, as they are made from their text.
pub(crate) fn anchors(text: &str) -> impl Iterator<Item = String> + '_ {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}

/// The lines outside blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

#[test]
fn links_and_anchors_are_read() {
    let text = "# A `b` – c\n[x](a.md#b) and `[y](z)`\n```\n# no\n[n](o)\n```\n";
    assert_eq!(links(text), ["a.md#b"]);
    assert_eq!(anchors(text).collect::<Vec<_>>(), ["a-b--c"]);
}

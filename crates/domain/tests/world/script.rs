//! Reading a fixture file: cases of `given:`, `when:` and `then:`.

use std::collections::BTreeMap;

use dayfly_domain::access::{AccessRequest, RawField, RequestDetail};
use dayfly_domain::{Claims, Span};
use serde_json::Value;

use super::{Step, World, ZERO};

/// One case: its title and its sections in order.
pub(crate) struct Case {
    /// What must hold.
    pub(crate) title: String,
    sections: Vec<(String, Vec<String>)>,
}

/// Reads the cases of a file. `#` begins a comment line, `==` the title of a case.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    for line in lines {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                title: title.into(),
                sections: Vec::new(),
            });
        } else if matches!(line, "given:" | "when:" | "then:") {
            let case = cases.last_mut().unwrap();
            case.sections.push((line.into(), Vec::new()));
        } else {
            let sections = &mut cases.last_mut().unwrap().sections;
            let body = line
                .strip_prefix("    ")
                .unwrap_or_else(|| panic!("neither a section nor indented: {line}"));
            sections.last_mut().unwrap().1.push(body.into());
        }
    }
    cases
}

impl Case {
    /// The case as it stands in the file.
    pub(crate) fn wanted(&self) -> String {
        self.write(&self.sections)
    }

    /// The case with what the domain says after each `then:`, and the world it leaves.
    pub(crate) fn got(&self) -> (String, World) {
        let mut world = World::new();
        let mut said: Vec<String> = Vec::new();
        let mut sections = Vec::new();
        for (kind, lines) in &self.sections {
            match kind.as_str() {
                "given:" => lines.iter().for_each(|line| world.given(line)),
                "when:" => said.extend(steps(lines).iter().map(|step| world.run(step))),
                _ => {}
            }
            let lines = if kind == "then:" {
                let said = std::mem::take(&mut said).join("\n");
                said.lines()
                    .filter(|line| !line.is_empty())
                    .map(Into::into)
                    .collect()
            } else {
                lines.clone()
            };
            sections.push((kind.clone(), lines));
        }
        assert!(
            said.is_empty(),
            "`{}`: a `when:` without `then:`",
            self.title
        );
        (self.write(&sections), world)
    }

    fn write(&self, sections: &[(String, Vec<String>)]) -> String {
        let mut text = format!("== {}\n", self.title);
        for (kind, lines) in sections {
            text += &format!("{kind}\n");
            for line in lines {
                text += &format!("    {line}\n");
            }
        }
        text
    }
}

/// A line that begins with a time is a step; one that is indented below it adds to it.
fn steps(lines: &[String]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        if let Some(more) = line.strip_prefix("    ") {
            let (word, rest) = more.split_once(' ').unwrap();
            add(steps.last_mut().unwrap(), word, rest);
            continue;
        }
        let mut words = line.split_whitespace().map(ToString::to_string);
        steps.push(Step {
            now: ZERO + span(&words.next().unwrap()),
            verb: words.next().unwrap(),
            args: words.collect(),
            claims: claims(),
            request: AccessRequest::default(),
            within: None,
            given: AccessRequest::default(),
        });
    }
    steps
}

fn add(step: &mut Step, word: &str, rest: &str) {
    match word {
        "scope" => step.request.scopes.push(rest.into()),
        "resource" => step.request.resources.push(rest.into()),
        "detail" => step.request.details.push(detail(rest)),
        "gives" if rest.starts_with('{') => step.given.details.push(detail(rest)),
        "gives" => step.given.scopes.push(rest.into()),
        "within" => step.within = Some(rest.into()),
        "claim" => {
            let (claim, value) = rest.split_once(' ').unwrap();
            let value: String = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            step.claims.insert(claim.into(), value);
        }
        "without" => {
            step.claims.remove(rest);
        }
        other => panic!("a step has no `{other}`"),
    }
}

/// The claims of a proof of which nothing else is said.
fn claims() -> Claims {
    let claims = [
        ("repository_id", "1"),
        ("run_id", "7"),
        ("check_run_id", "c1"),
        ("run_attempt", "1"),
        ("pod_uid", "pod-1"),
        ("repository", "octo/hello"),
    ];
    BTreeMap::from(claims.map(|(claim, value)| (claim.into(), value.into())))
}

fn detail(json: &str) -> RequestDetail {
    let value: BTreeMap<String, Value> = serde_json::from_str(json).unwrap();
    let mut detail = RequestDetail {
        kind: String::new(),
        locations: None,
        fields: BTreeMap::new(),
    };
    for (name, value) in value {
        match (name.as_str(), raw(value)) {
            ("type", RawField::Text(text)) => detail.kind = text,
            ("locations", RawField::List(urls)) => detail.locations = Some(urls),
            (_, field) => {
                detail.fields.insert(name, field);
            }
        }
    }
    detail
}

fn raw(value: Value) -> RawField {
    match value {
        Value::String(text) => RawField::Text(text),
        Value::Bool(value) => RawField::Bool(value),
        Value::Number(number) => number
            .as_i64()
            .map_or(RawField::Other("a number"), RawField::Int),
        Value::Array(items) => items
            .into_iter()
            .map(|item| item.as_str().map(Into::into))
            .collect::<Option<_>>()
            .map_or(RawField::Other("a list"), RawField::List),
        Value::Null => RawField::Other("null"),
        Value::Object(_) => RawField::Other("an object"),
    }
}

/// Reads a length: `0s`, `1500ms`, `90s`, `5m`, `1h`.
pub(crate) fn span(text: &str) -> Span {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let millis = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => panic!("no unit `{other}` in `{text}`"),
    };
    Span::from_millis(digits.parse::<u64>().unwrap() * millis)
}

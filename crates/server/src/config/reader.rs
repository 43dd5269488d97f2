//! Reads TOML tables key by key, so that every mistake is reported with its place and no key is passed over.

use std::ops::Range;
use std::path::{Path, PathBuf};

use dayfly_domain::Span;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::report::{LoadError, Place, Report, nearest};
use super::span::parse_span;

/// One parsed file.
pub(crate) struct Document<'s> {
    source: Source<'s>,
    table: DeTable<'s>,
}

struct Source<'s> {
    name: String,
    text: &'s str,
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Node<'d> {
    source: &'d Source<'d>,
    /// The keys that lead to it, like `workload.release.window`.
    path: String,
    span: Range<usize>,
    value: &'d DeValue<'d>,
}

/// A table that is being read: what was not asked for by the end is an unknown key.
pub(crate) struct Table<'d> {
    source: &'d Source<'d>,
    path: String,
    span: Range<usize>,
    entries: &'d DeTable<'d>,
    asked: Vec<&'static str>,
}

impl<'s> Document<'s> {
    /// Parses a text; none after a mistake of syntax, all of which are reported.
    pub(crate) fn parse(name: String, text: &'s str, report: &mut Report) -> Option<Self> {
        let source = Source { name, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            report.error(LoadError::new(source.place(at), error.message()));
        }
        errors.is_empty().then(|| Self {
            source,
            table: table.into_inner(),
        })
    }

    /// Its outermost table.
    pub(crate) fn root(&self) -> Table<'_> {
        Table {
            source: &self.source,
            path: String::new(),
            span: 0..0,
            entries: &self.table,
            asked: Vec::new(),
        }
    }
}

impl Source<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            file: self.name.clone(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before
                .get(line_start..)
                .map_or(0, |line| line.chars().count())
                + 1,
        }
    }
}

impl<'d> Table<'d> {
    /// The value of a key, if it stands there.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Node<'d>> {
        self.asked.push(key);
        let (key, value) = self.entries.get_key_value(key)?;
        Some(self.node(key, value))
    }

    /// The value of a key that must stand there.
    pub(crate) fn require(&mut self, key: &'static str, report: &mut Report) -> Option<Node<'d>> {
        let node = self.get(key);
        if node.is_none() {
            let message = match self.path.as_str() {
                "" => format!("`{key}` is missing"),
                path => format!("`{key}` is missing in `{path}`"),
            };
            self.error(message, report);
        }
        node
    }

    /// Refuses a key that the design knows and this build does not serve.
    pub(crate) fn not_served(&mut self, key: &'static str, report: &mut Report) {
        let Some((found, _)) = self.entries.get_key_value(key) else {
            return;
        };
        self.asked.push(key);
        let message = format!("`{}` is not served by this build", join(&self.path, key));
        report.error(LoadError::new(
            self.source.place(found.span().start),
            message,
        ));
    }

    /// What was not asked for, in the order in which it stands, for tables whose keys are free.
    pub(crate) fn others(&self) -> Vec<(&'d str, Node<'d>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.retain(|(key, _)| !self.asked.contains(&key.get_ref().as_ref()));
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
            .into_iter()
            .map(|(key, value)| (key.get_ref().as_ref(), self.node(key, value)))
            .collect()
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self, report: &mut Report) {
        for key in self.entries.keys() {
            let text = key.get_ref().as_ref();
            if !self.asked.contains(&text) {
                let near = nearest(text, self.asked.iter().copied());
                let message = format!("unknown key `{}`", join(&self.path, text));
                report.error(
                    LoadError::new(self.source.place(key.span().start), message).nearest(near),
                );
            }
        }
    }

    /// Where it stands.
    pub(crate) fn place(&self) -> Place {
        match self.path.as_str() {
            "" => Place::of_file(self.source.name.clone()),
            _ => self.source.place(self.span.start),
        }
    }

    /// Reports a mistake that concerns the table as a whole.
    pub(crate) fn error(&self, message: impl Into<String>, report: &mut Report) {
        report.error(LoadError::new(self.place(), message));
    }

    fn node(&self, key: &Spanned<DeString<'d>>, value: &'d Spanned<DeValue<'d>>) -> Node<'d> {
        Node {
            source: self.source,
            path: join(&self.path, key.get_ref()),
            span: key.span(),
            value: value.get_ref(),
        }
    }
}

impl<'d> Node<'d> {
    /// The keys that lead to it.
    pub(crate) fn name_of(&self) -> &str {
        &self.path
    }

    /// Where it stands.
    pub(crate) fn place(&self) -> Place {
        self.source.place(self.span.start)
    }

    /// Reports a mistake at its place.
    pub(crate) fn error(&self, message: impl Into<String>, report: &mut Report) {
        report.error(LoadError::new(self.place(), message));
    }

    /// Reports a mistake at its place, with the nearest of the known names.
    pub(crate) fn unknown<'a>(
        &self,
        message: impl Into<String>,
        text: &str,
        known: impl IntoIterator<Item = &'a str>,
        report: &mut Report,
    ) {
        report.error(LoadError::new(self.place(), message).nearest(nearest(text, known)));
    }

    /// The value as TOML has it.
    pub(crate) fn value(&self) -> &'d DeValue<'d> {
        self.value
    }

    /// A text that is not empty and holds no control characters.
    pub(crate) fn text(&self, report: &mut Report) -> Option<&'d str> {
        let text = self.value.as_str();
        match text {
            None => self.wrong_kind("a text", report),
            Some("") => self.error(format!("`{}` is empty", self.path), report),
            Some(text) if text.chars().any(char::is_control) => {
                self.error(format!("`{}` holds a control character", self.path), report);
            }
            Some(_) => return text,
        }
        None
    }

    /// An integer.
    pub(crate) fn integer(&self, report: &mut Report) -> Option<i64> {
        let integer = self.value.as_integer();
        let number = integer.and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        if number.is_none() {
            self.wrong_kind("an integer", report);
        }
        number
    }

    /// A count within bounds.
    pub(crate) fn count_between(
        &self,
        least: usize,
        most: usize,
        report: &mut Report,
    ) -> Option<usize> {
        let number = self.integer(report)?;
        let count = usize::try_from(number)
            .ok()
            .filter(|count| (least..=most).contains(count));
        if count.is_none() {
            self.error(
                format!("`{}` is {number}, wanted {least} to {most}", self.path),
                report,
            );
        }
        count
    }

    /// A truth value.
    pub(crate) fn boolean(&self, report: &mut Report) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_kind("true or false", report);
        }
        value
    }

    /// A length of time.
    pub(crate) fn span(&self, report: &mut Report) -> Option<Span> {
        let text = self.text(report)?;
        let span = parse_span(text);
        if span.is_none() {
            let message = format!(
                "`{}` is `{text}`, wanted a length of time like `90s`, `5m` or `1h`",
                self.path
            );
            self.error(message, report);
        }
        span
    }

    /// A length of time within bounds.
    pub(crate) fn span_between(
        &self,
        least: Span,
        most: Span,
        report: &mut Report,
    ) -> Option<Span> {
        let span = self.span(report)?;
        if (least..=most).contains(&span) {
            return Some(span);
        }
        self.error(
            format!("`{}` is {span}, wanted {least} to {most}", self.path),
            report,
        );
        None
    }

    /// A path, made relative to a folder.
    pub(crate) fn path(&self, folder: &Path, report: &mut Report) -> Option<PathBuf> {
        self.text(report).map(|text| folder.join(text))
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &self,
        known: &[(&'static str, T)],
        report: &mut Report,
    ) -> Option<T> {
        let text = self.text(report)?;
        let found = known
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            let message = format!("`{}` is `{text}`, wanted {}", self.path, any_of(&words));
            self.unknown(message, text, words, report);
        }
        found
    }

    /// A table.
    pub(crate) fn table(&self, report: &mut Report) -> Option<Table<'d>> {
        let entries = self.value.as_table();
        if entries.is_none() {
            self.wrong_kind("a table", report);
        }
        Some(Table {
            source: self.source,
            path: self.path.clone(),
            span: self.span.clone(),
            entries: entries?,
            asked: Vec::new(),
        })
    }

    /// The items of a list that is not empty.
    pub(crate) fn list(&self, report: &mut Report) -> Option<Vec<Node<'d>>> {
        match self.value.as_array() {
            None => self.wrong_kind("a list", report),
            Some(items) if items.is_empty() => {
                self.error(format!("`{}` is an empty list", self.path), report)
            }
            Some(items) => {
                let node = |(index, item): (usize, &'d Spanned<DeValue<'d>>)| Node {
                    source: self.source,
                    path: format!("{}[{index}]", self.path),
                    span: item.span(),
                    value: item.get_ref(),
                };
                return Some(items.iter().enumerate().map(node).collect());
            }
        }
        None
    }

    /// The items of a list, or the value itself as the only one.
    pub(crate) fn one_or_more(&self, report: &mut Report) -> Vec<Node<'d>> {
        match self.value.as_array() {
            None => vec![self.clone()],
            Some(_) => self.list(report).unwrap_or_default(),
        }
    }

    /// Reports a value of another kind than wanted.
    pub(crate) fn wrong_kind(&self, wanted: &str, report: &mut Report) {
        let message = format!(
            "`{}` is {}, wanted {wanted}",
            self.path,
            kind_of(self.value)
        );
        self.error(message, report);
    }
}

/// `a`, `b` or `c`, for messages.
pub(crate) fn any_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_string(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!("`{}` or `{last}`", first.join("`, `")),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_string(),
        path => format!("{path}.{key}"),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

//! What loading finds wrong or doubtful, each with its place and the nearest known name.

use std::fmt;

/// Where something stands; `line` and `column` count from 1 and are 0 for a file or folder as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was named when it was read.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A mistake: what was read cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoadError {
    /// Where it stands.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// The known key or name that is nearest to what stands there.
    pub nearest: Option<String>,
}

/// Something a person should look at, though it can be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// What is doubtful, and what to do about it.
    pub message: String,
    /// The known key or name that is nearest to what stands there.
    pub nearest: Option<String>,
}

impl Place {
    /// A file or folder as a whole.
    #[must_use]
    pub fn of_file(file: String) -> Self {
        Self {
            file,
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

impl LoadError {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            nearest: None,
        }
    }

    pub(crate) fn nearest(mut self, nearest: Option<&str>) -> Self {
        self.nearest = nearest.map(ToString::to_string);
        self
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        say(f, &self.place, &self.message, self.nearest.as_deref())
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for Warning {
    /// What would be a mistake if it were new.
    fn from(error: LoadError) -> Self {
        Self {
            place: error.place,
            message: error.message,
            nearest: error.nearest,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        say(f, &self.place, &self.message, self.nearest.as_deref())
    }
}

fn say(
    f: &mut fmt::Formatter<'_>,
    place: &Place,
    message: &str,
    nearest: Option<&str>,
) -> fmt::Result {
    write!(f, "{place}: {message}")?;
    match nearest {
        Some(nearest) => write!(f, ": did you mean `{nearest}`?"),
        None => Ok(()),
    }
}

/// Mistakes and doubts as they are collected, so that one run shows all of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<LoadError>,
    warnings: Vec<Warning>,
}

impl Report {
    pub(crate) fn error(&mut self, error: LoadError) {
        self.errors.push(error);
    }

    pub(crate) fn warn(&mut self, place: Place, message: impl Into<String>, nearest: Option<&str>) {
        let nearest = nearest.map(ToString::to_string);
        self.warnings.push(Warning {
            place,
            message: message.into(),
            nearest,
        });
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors in order of their places.
    pub(crate) fn into_errors(self) -> Vec<LoadError> {
        self.into_parts().0
    }

    /// Errors and warnings, each in order of their places.
    pub(crate) fn into_parts(mut self) -> (Vec<LoadError>, Vec<Warning>) {
        self.errors.sort();
        self.warnings.sort();
        (self.errors, self.warnings)
    }
}

/// The known name that `text` most likely means, if any is near.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = |candidate: &str| {
        text.chars()
            .count()
            .max(candidate.chars().count())
            .div_ceil(3)
    };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= close_enough(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

//! Where heads go besides the log: files, a head a line, so that a cut-off tail is noticed later.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use dayfly_domain::Name;
use serde_json::json;

/// The configured sinks.
#[derive(Clone, Debug, Default)]
pub struct HeadSinks(Vec<PathBuf>);

impl HeadSinks {
    /// Sinks that append to these files.
    #[must_use]
    pub const fn new(files: Vec<PathBuf>) -> Self {
        Self(files)
    }

    /// Appends a head to each file. A sink that fails is reported and does not hold up the others.
    pub(super) fn write(&self, tenant: &Name, note: &str) {
        let line = format!("{}\n", json!({"tenant": tenant, "head": note}));
        for path in &self.0 {
            let written = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(why) = written {
                tracing::error!(%why, path = %path.display(), "a head is not written");
            }
        }
    }
}

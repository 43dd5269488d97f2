//! Where heads go besides the log: files, a head a line, and URLs, so that a cut-off tail is noticed later.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use dayfly_domain::Name;
use serde_json::json;

use crate::config::HeadSink;
use crate::sinks::{HeadPost, HeadPosts};
use crate::telemetry::Metrics;

/// The configured sinks.
#[derive(Clone, Debug, Default)]
pub struct HeadSinks {
    files: Vec<PathBuf>,
    posts: HeadPosts,
}

impl HeadSinks {
    /// Sinks that append to these files.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            posts: HeadPosts::default(),
        }
    }

    /// The sinks as `dayfly.toml` names them, for the heads of these tenants.
    #[must_use]
    pub fn of(sinks: &[HeadSink], tenants: &[Name]) -> Self {
        let (mut files, mut posts) = (Vec::new(), Vec::new());
        for (number, sink) in sinks.iter().enumerate() {
            match sink {
                HeadSink::File(path) => files.push(path.clone()),
                HeadSink::Http(url) => posts.push((format!("heads[{number}]"), url.clone())),
            }
        }
        Self {
            files,
            posts: HeadPosts::new(posts, tenants),
        }
    }

    /// Those over HTTP, to be sent to.
    pub(crate) fn posts(&self, metrics: &Arc<Metrics>) -> Vec<HeadPost> {
        self.posts.posts(metrics)
    }

    /// Appends a head to each file and leaves it to be posted. A sink that fails is reported and
    /// does not hold up the others.
    pub(super) fn write(&self, tenant: &Name, note: &str) {
        self.posts.leave(tenant, note);
        let line = format!("{}\n", json!({"tenant": tenant, "head": note}));
        for path in &self.files {
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

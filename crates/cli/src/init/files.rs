//! The files of a new configuration: their texts, and writing them where nothing stands yet.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::github::{Pinned, Repository};
use crate::random;

/// The server's configuration.
pub(super) const CONFIG: &str = "dayfly.toml";
/// What may run.
pub(super) const TENANT: &str = "tenants/main/tenant.toml";
/// The policy that permits what is declared.
pub(crate) const BASELINE: &str = include_str!("templates/baseline.cedar");
/// What version control is to leave out; may be there already.
pub(super) const IGNORE: &str = ".gitignore";

const POLICY: &str = "tenants/main/policies/baseline.cedar";
const SECRET: &str = "tenants/main/artifacts.secret";
const ALL: [&str; 4] = [CONFIG, TENANT, POLICY, SECRET];

const SHARED: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// A file to write.
#[derive(Debug)]
pub(super) struct File {
    /// Its path within the folder.
    pub(super) path: &'static str,
    /// What it is, for whoever sees it written.
    pub(super) what: &'static str,
    text: String,
    mode: u32,
}

/// The files for a repository, with the id that GitHub gave for it.
pub(super) fn all(repository: Option<&Repository>, pinned: Option<&Pinned>) -> Result<Vec<File>> {
    let file = |path, what, text: &str| File {
        path,
        what,
        text: text.to_owned(),
        mode: SHARED,
    };
    Ok(vec![
        file(
            CONFIG,
            "where the server listens and keeps its data",
            include_str!("templates/dayfly.toml"),
        ),
        File {
            text: tenant(repository, pinned),
            ..file(TENANT, "one issuer, owner, resource and workload", "")
        },
        file(POLICY, "permits what is declared", BASELINE),
        File {
            text: format!("{}\n", random::name()?),
            mode: PRIVATE,
            ..file(SECRET, "how the resource authenticates", "")
        },
        file(
            IGNORE,
            "keeps keys and data out of version control",
            include_str!("templates/gitignore"),
        ),
    ])
}

fn tenant(repository: Option<&Repository>, pinned: Option<&Pinned>) -> String {
    let name = repository.map_or_else(|| "octo-org/octo-repo".to_owned(), ToString::to_string);
    let matching = match pinned {
        Some(pinned) => include_str!("templates/match.toml")
            .replace("@ID@", &pinned.id.to_string())
            .replace("@BRANCH@", &pinned.branch),
        None => include_str!("templates/unfinished.toml")
            .replace("@ID@", "…")
            .replace("@BRANCH@", "main"),
    };
    include_str!("templates/tenant.toml")
        .replace("@MATCH@", matching.trim_end())
        .replace("@REPOSITORY@", &name)
}

/// The folder that is written to.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Refuses to begin where one of the files stands already, dangling links included.
    pub(super) fn refuse_existing(&self) -> Result<()> {
        let there: Vec<String> = ALL
            .iter()
            .map(|path| self.0.join(path))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| format!("`{}`", path.display()))
            .collect();
        match there.is_empty() {
            true => Ok(()),
            false => bail!(
                "nothing is overwritten, and there is already {}",
                there.join(", ")
            ),
        }
    }

    /// Writes the files, and gives those that were not there.
    pub(super) fn write<'a>(&self, files: &'a [File]) -> Result<Vec<&'a File>> {
        let mut written = Vec::new();
        for file in files {
            if self.write_one(file)? {
                written.push(file);
            }
        }
        Ok(written)
    }

    fn write_one(&self, file: &File) -> Result<bool> {
        let path = self.0.join(file.path);
        let shown = path.display();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        }
        let opened = OpenOptions::new()
            .write(true)
            // INVARIANT: this alone is what makes overwriting impossible, whatever was looked at before.
            .create_new(true)
            .mode(file.mode)
            .open(&path);
        match opened {
            Ok(mut open) => open
                .write_all(file.text.as_bytes())
                .map(|()| true)
                .with_context(|| format!("cannot write `{shown}`")),
            Err(why) if why.kind() == ErrorKind::AlreadyExists && file.path == IGNORE => Ok(false),
            Err(why) => Err(why).with_context(|| format!("cannot make `{shown}`")),
        }
    }
}

//! The texts of a tenant's folder, which together are one revision of its declared state.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dayfly_domain::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{Document, LoadError, Place, Report};

/// The `*.toml` files and `policies/*.cedar` of a folder, in order of their names.
///
/// What the files name by path (secrets, keys) is no part of it: those files are read anew at each
/// load, relative to `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    base: PathBuf,
    files: Vec<SourceFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path within the folder, with `/`.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// Why stored bytes are no source.
#[derive(Debug)]
pub enum SourceError {
    /// They are not the JSON that [`Source::to_bytes`] writes.
    Form(serde_json::Error),
    /// Their version is not one that this build reads.
    Version(u32),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(_) => f.write_str("the stored declared state has another form"),
            Self::Version(v) => write!(
                f,
                "the stored declared state has version {v}, this build reads {VERSION}"
            ),
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Form(why) => Some(why),
            Self::Version(_) => None,
        }
    }
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    files: Vec<SourceFile>,
}

impl Source {
    /// Reads a tenant's folder. Names that begin with a dot are passed over.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or a file is not UTF-8 or no regular file.
    pub fn read_folder(base: &Path) -> Result<Self, LoadError> {
        let mut files = Vec::new();
        read_files(base, "", ".toml", &mut files)?;
        let policies = base.join("policies");
        if policies.is_dir() {
            refuse_hidden(&policies)?;
            read_files(&policies, "policies/", ".cedar", &mut files)?;
        }
        Ok(Self::new(base, files))
    }

    /// A source of files at hand; paths in them are relative to `base`.
    #[must_use]
    pub fn new(base: &Path, mut files: Vec<SourceFile>) -> Self {
        files.sort();
        Self {
            base: base.to_path_buf(),
            files,
        }
    }

    /// The bytes to store a revision as.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            v: VERSION,
            files: self.files.clone(),
        };
        // INVARIANT: a struct of texts has no value that JSON cannot write.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads a stored revision; paths in it are relative to `base`, wherever that lies now.
    ///
    /// # Errors
    /// The bytes are not those of a source that this build reads.
    pub fn from_bytes(bytes: &[u8], base: &Path) -> Result<Self, SourceError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(SourceError::Form)?;
        if stored.v != VERSION {
            return Err(SourceError::Version(stored.v));
        }
        Ok(Self::new(base, stored.files))
    }

    /// The address of the content: SHA-256 over the length and bytes of each name and text.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"dayfly declared state 1\n");
        for part in self.files.iter().flat_map(|file| [&file.name, &file.text]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Digest(hash.finalize().into())
    }

    /// The folder that paths are relative to.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// All files, in order of their names.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The files of declared state.
    pub fn tables(&self) -> impl Iterator<Item = &SourceFile> {
        self.files
            .iter()
            .filter(|file| file.name.ends_with(".toml"))
    }

    /// The policy files, which [`crate::policy::Policies::load`] reads.
    pub fn policies(&self) -> impl Iterator<Item = &SourceFile> {
        self.files
            .iter()
            .filter(|file| file.name.ends_with(".cedar"))
    }

    /// The parsed files of declared state; those with mistakes of syntax are left out.
    pub(super) fn documents(&self, report: &mut Report) -> Vec<Document<'_>> {
        self.tables()
            .filter_map(|file| {
                let shown = self.base.join(&file.name).display().to_string();
                Document::parse(shown, &file.text, report)
            })
            .collect()
    }
}

/// A policy that is not read could be one that forbids: no folder below, no other spelling.
fn refuse_hidden(policies: &Path) -> Result<(), LoadError> {
    let failed =
        |path: &Path, why: String| LoadError::new(Place::of_file(path.display().to_string()), why);
    let entries = std::fs::read_dir(policies);
    for entry in entries.map_err(|why| failed(policies, format!("cannot be read: {why}")))? {
        let path = entry
            .map_err(|why| failed(policies, format!("cannot be read: {why}")))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            let why = "is a folder, and policies are read from this one alone".to_owned();
            return Err(failed(&path, why));
        }
        if !name.ends_with(".cedar") && name.to_ascii_lowercase().contains(".cedar") {
            let why = "is not read: the name of a policy file ends with `.cedar`".to_owned();
            return Err(failed(&path, why));
        }
    }
    Ok(())
}

fn read_files(
    folder: &Path,
    under: &str,
    suffix: &str,
    files: &mut Vec<SourceFile>,
) -> Result<(), LoadError> {
    let failed = |path: &Path, why: std::io::Error| {
        LoadError::new(
            Place::of_file(path.display().to_string()),
            format!("cannot be read: {why}"),
        )
    };
    for entry in std::fs::read_dir(folder).map_err(|why| failed(folder, why))? {
        let path = entry.map_err(|why| failed(folder, why))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || !name.ends_with(suffix) {
            continue;
        }
        let text = read_regular(&path).map_err(|why| failed(&path, why))?;
        let text = text.ok_or_else(|| {
            let place = Place::of_file(path.display().to_string());
            LoadError::new(place, "is no regular file")
        })?;
        files.push(SourceFile {
            name: format!("{under}{name}"),
            text,
        });
    }
    Ok(())
}

/// The text of a regular file; none of anything else, which might be waited for or have no end.
fn read_regular(path: &Path) -> std::io::Result<Option<String>> {
    // A pipe that nobody writes to is opened without a wait, and what was opened is judged.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let mut file = match options.open(path) {
        Ok(file) => file,
        // A socket is there and cannot be opened.
        Err(_) if path.metadata().is_ok_and(|found| !found.is_file()) => return Ok(None),
        Err(why) => return Err(why),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

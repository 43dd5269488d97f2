//! The files of the repository that are ours.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what is built, installed or made elsewhere.
const NOT_OURS: [&str; 4] = [".git", "target", "node_modules", "vectors"];

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Every file, in order.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    below(&root(), &mut found);
    found.sort();
    found
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if !path.is_dir() {
            found.push(path);
        } else if !NOT_OURS.iter().any(|other| name == *other) {
            below(&path, found);
        }
    }
}

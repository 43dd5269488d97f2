//! Bundles as files: read within a bound, written beside and synced before they have their names.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{BundleError, MOST_BYTES, unwritten};

pub(super) fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MOST_BYTES + 1);
    if file.read_to_string(&mut text)? as u64 > MOST_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is too large"));
    }
    Ok(text)
}

/// Makes the folders above a bundle, for nobody else to read, and syncs that they are there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    for above in folder.ancestors().skip(1).take(2) {
        sync_folder(above)?;
    }
    Ok(())
}

/// Puts a text into a file of this name, whole and synced, or leaves what is there.
pub(super) fn put(path: &Path, text: &str) -> Result<(), BundleError> {
    put_by(path, text, |part, path| fs::rename(part, path))
}

/// The same, where `give` gives the synced file its name.
pub(super) fn put_by(
    path: &Path,
    text: &str,
    give: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<(), BundleError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One process has one writer of bundles; what a killed one left is written over or stays.
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // From here on a crash is clean: the name has the former bytes or these.
        give(&part, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|why| {
        // What is left has no name that anybody reads.
        let _ = fs::remove_file(&part);
        unwritten(path, &why)
    })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder == Path::new("") {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

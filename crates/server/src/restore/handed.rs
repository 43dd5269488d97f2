//! The last head that was handed out of each ledger, in a file beside the database.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dayfly_domain::Name;
use dayfly_ledger::{Hash, Head, root_at};
use dayfly_store::Store;
use serde::{Deserialize, Serialize};

use crate::record::Tiles;

/// How long the file grows before it is written anew with one line a tenant.
const LONGEST: u64 = 256 * 1024;

/// A head that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedHead {
    /// The ledger.
    pub origin: String,
    /// How many entries it had.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// One line of the file; the last of a tenant counts.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    tenant: std::borrow::Cow<'a, str>,
    #[serde(flatten)]
    head: HandedHead,
}

/// The file of the heads that were handed out: so that a database that lies behind one of them is
/// found out at the next start (DESIGN section 7).
///
/// A head is written before it is handed out, so that a killed process has left it. What was
/// written is synced every half second: after a loss of power the file may lie that much behind,
/// while the database, which is synced at each commit, does not.
#[derive(Debug)]
pub struct HandedOut {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heads: BTreeMap<Name, HandedHead>,
    /// The file that is appended to; none after an error, when what it holds is not known.
    file: Option<File>,
    bytes: u64,
    unsynced: bool,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// It cannot be read or written.
    #[error("the file `{}` of the heads that were handed out cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("the file `{}` of the heads that were handed out is damaged at line {line}: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// A database that does not hold a head that was handed out.
#[derive(Debug, thiserror::Error)]
pub enum Behind {
    /// Entries are missing at its end.
    #[error(
        "the ledger of `{tenant}` lies behind its own last head: the database has {size} entries with the root `{root}`, the head that was handed out {handed_size} with the root `{handed_root}`; put the right database back, or see the page \"Restore\" of docs/runbook.md", handed_size = .handed.size, handed_root = .handed.root
    )]
    CutOff {
        /// The tenant.
        tenant: Name,
        /// The head that was handed out.
        handed: Box<HandedHead>,
        /// How many entries the database has.
        size: u64,
        /// The root over them.
        root: Hash,
    },
    /// It holds other entries.
    #[error(
        "the ledger of `{tenant}` is not that of its own last head: the first {size} entries of the database have the root `{root}`, the head that was handed out has `{handed_root}`; put the right database back, or see the page \"Restore\" of docs/runbook.md", size = .handed.size, handed_root = .handed.root
    )]
    Differs {
        /// The tenant.
        tenant: Name,
        /// The head that was handed out.
        handed: Box<HandedHead>,
        /// The root over as many entries of the database.
        root: Hash,
    },
    /// The database cannot be read.
    #[error("the ledger of `{tenant}` cannot be compared with its own last head: {why}")]
    Unreadable {
        /// The tenant.
        tenant: Name,
        /// What the store said.
        why: String,
    },
}

impl HandedOut {
    /// The last head of each tenant that a file holds; none where there is no file. A last line
    /// that was not written to its end was not handed out.
    ///
    /// # Errors
    /// [`HandedError`].
    pub fn read(path: &Path) -> Result<BTreeMap<Name, HandedHead>, HandedError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(failed(path, source)),
        };
        let mut heads = BTreeMap::new();
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        lines.pop();
        for (at, line) in lines.into_iter().enumerate() {
            let damaged = |why: String| HandedError::Damaged {
                path: path.to_path_buf(),
                line: at + 1,
                why,
            };
            let Line { tenant, head } =
                serde_json::from_slice(line).map_err(|why| damaged(why.to_string()))?;
            let tenant = tenant
                .parse()
                .map_err(|_| damaged(format!("`{tenant}` is no name of a tenant")))?;
            heads.insert(tenant, head);
        }
        Ok(heads)
    }

    /// Writes a file with these heads and no others, synced before it takes its name.
    ///
    /// # Errors
    /// [`HandedError`].
    pub fn write(path: &Path, heads: &BTreeMap<Name, HandedHead>) -> Result<(), HandedError> {
        replace(path, heads)
            .map(drop)
            .map_err(|source| failed(path, source))
    }

    /// Opens the file to go on with it, and makes it where there is none.
    ///
    /// # Errors
    /// [`HandedError`].
    pub fn open(path: PathBuf) -> Result<Self, HandedError> {
        let heads = Self::read(&path)?;
        let (file, bytes) = replace(&path, &heads).map_err(|source| failed(&path, source))?;
        Ok(Self {
            path,
            state: Mutex::new(State {
                heads,
                file: Some(file),
                bytes,
                unsynced: false,
            }),
        })
    }

    /// Compares each head with the database: it must hold as many entries, with that root over
    /// the first of them.
    ///
    /// # Errors
    /// The first [`Behind`].
    pub fn check(&self, store: &dyn Store) -> Result<(), Behind> {
        let heads = self.state().heads.clone();
        for (tenant, handed) in heads {
            let handed = Box::new(handed);
            let unreadable = |why: &dyn std::fmt::Display| Behind::Unreadable {
                tenant: tenant.clone(),
                why: why.to_string(),
            };
            let present = store.head(&tenant).map_err(|why| unreadable(&why))?;
            if present.size < handed.size {
                let (size, root) = (present.size, present.root);
                return Err(Behind::CutOff {
                    tenant,
                    handed,
                    size,
                    root,
                });
            }
            let tiles = Tiles {
                store,
                tenant: &tenant,
            };
            let root = root_at(handed.size, &tiles).map_err(|why| unreadable(&why))?;
            if root != handed.root {
                return Err(Behind::Differs {
                    tenant,
                    handed,
                    root,
                });
            }
        }
        Ok(())
    }

    /// Keeps a head that is about to be handed out; one that is not later than the last is kept
    /// by that.
    ///
    /// # Errors
    /// The system's, and then the head must not be handed out.
    pub fn keep(&self, tenant: &Name, head: &Head) -> io::Result<()> {
        let mut state = self.state();
        let known = state.heads.get(tenant);
        if known.is_some_and(|known| known.origin == head.origin && known.size >= head.size) {
            return Ok(());
        }
        let head = HandedHead {
            origin: head.origin.clone(),
            size: head.size,
            root: head.root,
        };
        let line = line(tenant, &head)?;
        let bytes = state.bytes + line.len() as u64;
        let former = state.heads.insert(tenant.clone(), head);
        let written = match state.file.as_mut() {
            Some(file) if bytes <= LONGEST => file.write_all(&line).map(|()| bytes),
            Some(_) | None => return self.begin_anew(&mut state, tenant, former),
        };
        match written {
            Ok(bytes) => {
                state.bytes = bytes;
                state.unsynced = true;
                Ok(())
            }
            Err(why) => {
                // Part of the line may stand there: the file is written anew before the next.
                state.put_back(tenant, former);
                Err(why)
            }
        }
    }

    fn begin_anew(
        &self,
        state: &mut State,
        tenant: &Name,
        former: Option<HandedHead>,
    ) -> io::Result<()> {
        match replace(&self.path, &state.heads) {
            Ok((file, bytes)) => {
                state.file = Some(file);
                state.bytes = bytes;
                state.unsynced = false;
                Ok(())
            }
            Err(why) => {
                state.put_back(tenant, former);
                Err(why)
            }
        }
    }

    /// Presses what was written onto the disk. It waits for that, so it belongs on a thread that
    /// may.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        let file = {
            let mut state = self.state();
            if !std::mem::take(&mut state.unsynced) {
                return Ok(());
            }
            state.file.as_ref().map(File::try_clone).transpose()?
        };
        // Whoever keeps a head meanwhile does not wait for this.
        file.map_or(Ok(()), |file| file.sync_data())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// After a head that could not be kept: what is known of the tenant is what was known before.
    fn put_back(&mut self, tenant: &Name, former: Option<HandedHead>) {
        self.file = None;
        match former {
            Some(former) => self.heads.insert(tenant.clone(), former),
            None => self.heads.remove(tenant),
        };
    }
}

/// Writes the file under another name, syncs it and gives it its own; gives it open to append to
/// and how long it is.
fn replace(path: &Path, heads: &BTreeMap<Name, HandedHead>) -> io::Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut text = Vec::new();
    for (tenant, head) in heads {
        text.extend(line(tenant, head)?);
    }
    let mut other = path.as_os_str().to_owned();
    other.push(".new");
    let other = PathBuf::from(other);
    match fs::remove_file(&other) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&other)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&other, path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok((file, text.len() as u64))
}

fn line(tenant: &Name, head: &HandedHead) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line {
        tenant: tenant.as_str().into(),
        head: head.clone(),
    })?;
    line.push(b'\n');
    Ok(line)
}

fn failed(path: &Path, source: io::Error) -> HandedError {
    HandedError::Io {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn head(size: u64) -> Head {
        Head {
            origin: "ledger.example/acme".to_owned(),
            size,
            root: Hash([7; 32]),
        }
    }

    #[test]
    fn the_last_head_is_kept_in_a_file_that_does_not_grow_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads");
        let tenant: Name = "acme".parse().unwrap();
        let handed = HandedOut::open(path.clone()).unwrap();
        for size in 1..=5000 {
            handed.keep(&tenant, &head(size)).unwrap();
            // An earlier one that comes late takes nothing back.
            handed.keep(&tenant, &head(size / 2)).unwrap();
        }
        handed.sync().unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.len() <= LONGEST);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(HandedOut::read(&path).unwrap()[&tenant].size, 5000);
    }

    #[test]
    fn a_line_that_was_cut_short_was_not_handed_out_and_any_other_damage_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads");
        let tenant: Name = "acme".parse().unwrap();
        let handed = HandedOut::open(path.clone()).unwrap();
        handed.keep(&tenant, &head(1)).unwrap();
        handed.keep(&tenant, &head(2)).unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert_eq!(HandedOut::read(&path).unwrap()[&tenant].size, 1);
        // Opened again, it goes on from there and the rest of the line is gone.
        let handed = HandedOut::open(path.clone()).unwrap();
        handed.keep(&tenant, &head(3)).unwrap();
        assert_eq!(HandedOut::read(&path).unwrap()[&tenant].size, 3);
        fs::write(&path, b"nonsense\n").unwrap();
        let why = HandedOut::read(&path).unwrap_err().to_string();
        assert!(why.contains("damaged at line 1"), "{why}");
    }
}

//! Logins as they are kept on disk: a file a server, for its owner alone, one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dayfly_domain::Time;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use serde_json::json;

use super::AdminUrl;
use crate::environment;
use crate::secret::Secret;

/// A login.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The provider.
    pub(super) issuer: String,
    /// The client that the tokens were given to.
    pub(super) client_id: String,
    /// What the server is shown.
    pub(super) id_token: Secret,
    /// When the server takes it no longer.
    pub(super) expires: Time,
    /// What the provider gives another one for.
    pub(super) refresh_token: Option<Secret>,
}

/// Where the login for a server is kept.
#[derive(Debug)]
pub(super) struct Kept {
    file: PathBuf,
}

/// The same while no other process may touch it.
#[derive(Debug)]
pub(super) struct Held {
    file: PathBuf,
    _lock: Flock<File>,
}

impl Kept {
    pub(super) fn of(server: &AdminUrl) -> Result<Self> {
        let state = match absolute(environment::XDG_STATE_HOME) {
            Some(state) => state,
            None => absolute(environment::HOME)
                .context("neither XDG_STATE_HOME nor HOME says where logins are kept")?
                .join(".local/state"),
        };
        let folder = state.join("dayfly/logins");
        Ok(Self {
            file: folder.join(format!("{}.json", server.file_name())),
        })
    }

    /// Waits until no other process has it.
    pub(super) fn hold(self) -> Result<Held> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let path = self.file.with_extension("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot use {}", path.display()))?;
        match Flock::lock(lock, FlockArg::LockExclusive) {
            Ok(lock) => Ok(Held {
                file: self.file,
                _lock: lock,
            }),
            Err((_, why)) => bail!("cannot lock {}: {why}", path.display()),
        }
    }
}

impl Held {
    /// The login, where there is one.
    pub(super) fn read(&self) -> Result<Option<Login>> {
        let shown = self.file.display();
        let metadata = match fs::metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why).with_context(|| format!("cannot read {shown}")),
        };
        let mode = metadata.permissions().mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "{shown} has mode {mode:04o}, and others may have read the login in it: log out and in again"
        );
        let text = fs::read(&self.file).with_context(|| format!("cannot read {shown}"))?;
        // What is wrong with it is not shown: the text around it is a token.
        let login = serde_json::from_slice(&text)
            .map_err(|_| anyhow::anyhow!("{shown} is no login: remove it and log in again"))?;
        Ok(Some(login))
    }

    /// Writes the login beside the former one and then puts it in its place, so that a crash
    /// leaves one of them whole.
    pub(super) fn write(&self, login: &Login) -> Result<()> {
        let text = json!({
            "issuer": login.issuer, "client_id": login.client_id,
            "id_token": login.id_token.expose(), "expires": login.expires,
            "refresh_token": login.refresh_token.as_ref().map(Secret::expose),
        });
        let next = self.file.with_extension("next");
        let written = || -> std::io::Result<()> {
            let _former = fs::remove_file(&next);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(text.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &self.file)
        };
        written().with_context(|| format!("cannot write {}", self.file.display()))
    }

    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.file)
            .with_context(|| format!("cannot remove {}", self.file.display()))
    }
}

/// A folder that a variable names; a relative one counts as none (XDG Base Directory Specification).
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(environment::variable(variable)?);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(folder: &Path) -> Kept {
        Kept {
            file: folder.join("dayfly/logins/x.json"),
        }
    }

    #[test]
    fn a_login_is_kept_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let held = kept(folder.path()).hold().unwrap();
        assert!(held.read().unwrap().is_none());
        let login = Login {
            issuer: "https://idp.example".to_owned(),
            client_id: "dayfly".to_owned(),
            id_token: Secret::new("a.b.c".to_owned()),
            expires: Time::from_seconds(7),
            refresh_token: Some(Secret::new("again".to_owned())),
        };
        held.write(&login).unwrap();
        held.write(&login).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&held.file), 0o600);
        assert_eq!(mode(held.file.parent().unwrap()), 0o700);
        let read = held.read().unwrap().unwrap();
        assert_eq!(read.id_token.expose(), "a.b.c");
        assert_eq!(read.expires, login.expires);
        assert!(!format!("{read:?}").contains("a.b.c"));
        held.remove().unwrap();
        assert!(held.read().unwrap().is_none());
    }

    #[test]
    fn a_login_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = kept(folder.path()).hold().unwrap();
        fs::write(&held.file, "{\"id_token\":\"secret.of.mine\"}").unwrap();
        fs::set_permissions(&held.file, fs::Permissions::from_mode(0o640)).unwrap();
        let why = held.read().unwrap_err().to_string();
        assert!(why.contains("0640"), "{why}");
        fs::set_permissions(&held.file, fs::Permissions::from_mode(0o600)).unwrap();
        let why = format!("{:#}", held.read().unwrap_err());
        assert!(
            why.contains("is no login") && !why.contains("secret"),
            "{why}"
        );
    }
}

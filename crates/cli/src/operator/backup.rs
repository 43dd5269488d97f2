//! `dayfly backup`: a copy of the database in a file of its own, whole and checked or not there.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dayfly_server::config::Config;
use dayfly_store::{BackupFailure, BackupOptions, BackupProgress, FsckReport, TenantReport};
use dayfly_store::{SqliteOptions, SqliteStore};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::statvfs;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::place::PlaceArgs;
use super::{database, print, print_json};
use crate::clock::instant;
use crate::output::say;
use crate::serve::BUNDLES;

/// Between two steps the disk is left to the server for as long as the step took, and this at most.
const REST: Duration = Duration::from_millis(100);
/// So many bytes are pressed onto the disk at once, lest a commit has to wait behind many more.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;
/// So much room must be left beside the copy: where the server's own files share the disk, a full
/// one would stall its grants.
const ROOM_LEFT: u64 = 64 * 1024 * 1024;

/// Options of `dayfly backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The file to write; it must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    tenants: Vec<Held>,
    /// Without it the private keys in the file are of no use; it is not in the file.
    key_file: PathBuf,
}

/// The ledger of a tenant in the file.
#[derive(Debug, Serialize)]
struct Held {
    tenant: String,
    entries: u64,
    open: u64,
    root: String,
    /// The signed head; none where it could not be signed, which is said.
    note: Option<String>,
}

pub(super) async fn backup(args: BackupArgs) -> Result<ExitCode> {
    let place = args.place.read()?;
    let source = database::path(&place.config)?;
    // Taken before there is anything that a signal would leave behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Nobody else reads the copy, nor what lies beside it while it is made.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let unfinished = Unfinished::beside(&args.file)?;
    let (copy, file) = (unfinished.path(), unfinished.file()?);
    let rest = Handle::current();
    let making = tokio::task::spawn_blocking(move || {
        let bytes = copied(&source, &copy, &file, &rest)?;
        let bundles = source.with_file_name(BUNDLES);
        let checked = dayfly_store::fsck_with(&copy, &bundles).map_err(|why| {
            anyhow!(why)
                .context("the copy does not hold, `dayfly ledger fsck` tells of the database")
        })?;
        file.sync_all().context("the copy cannot be synced")?;
        Ok::<_, anyhow::Error>((
            bytes,
            held(&place.config, &copy, checked)?,
            place.config.key_file,
        ))
    });
    let (bytes, tenants, key_file) = tokio::select! {
        made = making => made.context("the copy was broken off")??,
        _ = async { tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () } } => {
            drop(unfinished);
            say("stopped, and nothing is left of the copy");
            // The thread that copies is not waited for: what it writes has no name any more.
            std::process::exit(1);
        }
    };
    unfinished.finish(&args.file)?;
    let written = Written {
        file: args.file,
        bytes,
        tenants,
        key_file,
    };
    if args.json {
        return print_json(&written);
    }
    print(&lines(&written))
}

/// The copy under a name of its own, until it is whole.
struct Unfinished {
    file: NamedTempFile,
    folder: PathBuf,
}

impl Unfinished {
    fn beside(target: &Path) -> Result<Self> {
        let name = target
            .file_name()
            .with_context(|| format!("`{}` names no file", target.display()))?;
        ensure!(
            target.symlink_metadata().is_err(),
            "`{}` is there already, and a backup is written over nothing",
            target.display()
        );
        let folder = match target.parent() {
            Some(folder) if folder != Path::new("") => folder.to_path_buf(),
            Some(_) | None => PathBuf::from("."),
        };
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .tempfile_in(&folder)
            .with_context(|| format!("nothing can be written in `{}`", folder.display()))?;
        Ok(Self { file, folder })
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_path_buf()
    }

    fn file(&self) -> Result<File> {
        self.file
            .as_file()
            .try_clone()
            .context("the copy cannot be opened")
    }

    /// Gives the synced copy its name, where nothing has taken it meanwhile, and syncs that.
    fn finish(self, target: &Path) -> Result<()> {
        let Self { file, folder } = self;
        match file.persist_noclobber(target) {
            Ok(_) => {}
            Err(why) if why.error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "`{}` was made meanwhile, and a backup is written over nothing",
                target.display()
            ),
            Err(why) => {
                return Err(why.error)
                    .with_context(|| format!("the copy cannot be named `{}`", target.display()));
            }
        }
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("the folder `{}` cannot be synced", folder.display()))
    }
}

/// Copies the database and gives the copy's bytes.
pub(super) fn copied(source: &Path, copy: &Path, file: &File, rest: &Handle) -> Result<u64> {
    let (mut since, mut synced) = (instant(), 0);
    let mut why = None;
    let between = |progress: &BackupProgress| {
        let took = since.elapsed();
        if let Err(error) = heed(progress, copy, file, &mut synced) {
            why = Some(error);
            return ControlFlow::Break(());
        }
        // A log that grows towards its bound leaves no time to rest.
        if progress.copied > 0 && progress.log < progress.log_limit / 2 {
            rest.block_on(tokio::time::sleep(took.min(REST)));
        }
        since = instant();
        ControlFlow::Continue(())
    };
    let copied = dayfly_store::backup(source, copy, BackupOptions::default(), between);
    match (copied, why) {
        (Ok(bytes), _) => Ok(bytes),
        (Err(BackupFailure::Stopped), Some(why)) => Err(why),
        (Err(failure), _) => Err(failure.into()),
    }
}

/// Looks whether there is room before anything is written, and syncs from time to time.
fn heed(progress: &BackupProgress, copy: &Path, file: &File, synced: &mut u64) -> Result<()> {
    if progress.copied == 0 {
        let room = statvfs(copy).context("the room on the disk cannot be read")?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        let needed = progress.total.saturating_add(ROOM_LEFT);
        ensure!(
            free >= needed,
            "there is no room for the copy: it needs {} with what must stay free, and there are {}",
            size(needed),
            size(free)
        );
    }
    if progress.copied.saturating_sub(*synced) >= SYNC_BYTES {
        file.sync_data().context("the copy cannot be synced")?;
        *synced = progress.copied;
    }
    Ok(())
}

/// What the checked copy holds, with the heads signed from what stands in it.
fn held(config: &Config, copy: &Path, checked: FsckReport) -> Result<Vec<Held>> {
    let store =
        SqliteStore::open_read_only(&SqliteOptions::new(copy)).context("the copy does not open")?;
    let held = checked.tenants.into_iter().map(|ledger| {
        let TenantReport {
            name,
            size,
            root,
            open,
            lost,
        } = ledger;
        for why in lost {
            say(format_args!("{name}: {why}"));
        }
        let note = match database::head(config, &store, &name) {
            Ok(head) => Some(head.note),
            Err(why) => {
                say(format_args!("the head of {name} is not signed: {why:#}"));
                None
            }
        };
        Held {
            tenant: name.to_string(),
            entries: size,
            open,
            root: root.to_string(),
            note,
        }
    });
    Ok(held.collect())
}

fn lines(written: &Written) -> String {
    let mut text = format!(
        "{}: {}, checked\n",
        written.file.display(),
        size(written.bytes)
    );
    for held in &written.tenants {
        let Held {
            tenant,
            entries,
            open,
            root,
            note,
        } = held;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{tenant}: {entries} entries, root {root}, {open} open tasks"
        );
        if let Some(note) = note {
            let _ = writeln!(text, "\n{note}");
        }
    }
    let _ = writeln!(
        text,
        "the private keys in it are wrapped under {}, which is not in it: keep a copy of that file in another place",
        written.key_file.display()
    );
    text
}

/// Bytes as a person reads them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = "bytes";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "bytes" {
        return format!("{bytes} bytes");
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_told_before_anything_is_written() {
        let file = NamedTempFile::new().unwrap();
        let heed = |total| {
            let progress = BackupProgress {
                copied: 0,
                total,
                log: 0,
                log_limit: total,
            };
            heed(&progress, file.path(), file.as_file(), &mut 0)
        };
        heed(8192).unwrap();
        let why = heed(1 << 60).unwrap_err().to_string();
        assert!(why.contains("there is no room for the copy"), "{why}");
    }

    #[test]
    fn sizes_are_read_by_people() {
        for (bytes, read) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "1677721.5 TiB"),
        ] {
            assert_eq!(size(bytes), read);
        }
    }
}

//! `dayfly restore`: puts a backup into the place of the database, so that nothing of the time before counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dayfly_domain::Name;
use dayfly_ledger::Hash;
use dayfly_server::app::{JOURNAL, Journal, WORDS};
use dayfly_server::config::Config;
use dayfly_server::restore::{
    HandedHead, HandedOut, RestoreRequest, Restored, first_origin, restore as restore_ledger,
};
use dayfly_store::{DatabaseLock, SqliteOptions, SqliteStore};
use nix::sys::stat::{Mode, umask};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;

use super::change::says_something;
use super::place::PlaceArgs;
use super::record::now;
use super::{backup, print, print_json};
use crate::output::say;
use crate::serve::{BUNDLES, DATABASE, HEADS};

/// The folder within `data` where the database is made ready.
const FOLDER: &str = "restoring";
/// The file within it that is there from when the old database is touched until the new one is in
/// place. It holds the name under which the old one is kept.
const PLACING: &str = "placing";

/// Options of `dayfly restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The backup, as `dayfly backup` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was restored.
#[derive(Debug, Serialize)]
struct Done {
    database: PathBuf,
    /// Where the former database is; none where there was none.
    aside: Option<PathBuf>,
    /// Where a containment journal is that held ends for the former database.
    journal: Option<PathBuf>,
    /// Where the journal is of what providers said of people meanwhile.
    people_journal: Option<PathBuf>,
    tenants: Vec<Ledger>,
}

/// The ledger of a tenant after it.
#[derive(Debug, Serialize)]
struct Ledger {
    tenant: Name,
    #[serde(flatten)]
    restored: Described,
    /// The last head that was handed out before, where one is known.
    handed_out: Option<HandedHead>,
}

#[derive(Debug, Serialize)]
struct Described {
    origin: String,
    size: u64,
    root: Hash,
    /// How many entries the backup had.
    from: u64,
}

impl From<Restored> for Described {
    fn from(restored: Restored) -> Self {
        Self {
            origin: restored.origin,
            size: restored.size,
            root: restored.root,
            from: restored.former.size,
        }
    }
}

/// Refuses while a restore was begun and not finished: then there is no telling what the database
/// in its place is.
pub(crate) fn check_finished(data: &Path) -> Result<()> {
    let placing = data.join(FOLDER).join(PLACING);
    ensure!(
        !placing.exists(),
        "a restore was begun and not finished, as {} says: run `dayfly restore` with the backup again, see the page \"Restore\" of docs/runbook.md",
        placing.display()
    );
    Ok(())
}

pub(super) async fn restore(args: RestoreArgs) -> Result<ExitCode> {
    says_something(&args.reason)?;
    let place = args.place.read()?;
    ensure!(
        place.socket().await?.is_none(),
        "a server runs on this database: stop it first"
    );
    // What is written is for the server's own user alone, as by `serve`.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let config = place.config;
    let data = &config.data;
    fs::create_dir_all(data)
        .with_context(|| format!("cannot make the folder {}", data.display()))?;
    let database = data.join(DATABASE);
    // Held to the end, so that no server starts in between.
    let _lock = DatabaseLock::take(&database)?;
    let handed_out = known_heads(&data.join(HEADS));
    let ready = Ready::make(&args.file, &config).await?;
    let tenants = ready.restored(&config, &handed_out, &args.reason).await?;
    let (aside, [journal, people_journal]) =
        ready.put_in_place(&heads_after(handed_out, &tenants))?;
    let done = Done {
        database,
        aside,
        journal,
        people_journal,
        tenants,
    };
    if args.json {
        return print_json(&done);
    }
    print(&lines(&done))
}

/// The last heads that were handed out; none of a file that cannot be read, which is said: the
/// restore writes it anew.
fn known_heads(path: &Path) -> BTreeMap<Name, HandedHead> {
    HandedOut::read(path).unwrap_or_else(|why| {
        let why = anyhow!(why);
        say(format_args!("the last heads are not known: {why:#}"));
        BTreeMap::new()
    })
}

/// The heads that the restored ledgers begin with: no database may lie behind these.
fn heads_after(
    mut heads: BTreeMap<Name, HandedHead>,
    tenants: &[Ledger],
) -> BTreeMap<Name, HandedHead> {
    for ledger in tenants {
        let Described {
            origin, size, root, ..
        } = &ledger.restored;
        let head = HandedHead {
            origin: origin.clone(),
            size: *size,
            root: *root,
        };
        heads.insert(ledger.tenant.clone(), head);
    }
    heads
}

/// A database that is ready to take its place.
struct Ready {
    data: PathBuf,
    folder: PathBuf,
    /// The tenants of the backup.
    tenants: BTreeSet<Name>,
}

impl Ready {
    /// Copies the backup beside the database and checks the copy.
    async fn make(file: &Path, config: &Config) -> Result<Self> {
        ensure!(file.is_file(), "there is no backup {}", file.display());
        let data = config.data.clone();
        let folder = data.join(FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let copy = folder.join(DATABASE);
        // What an earlier run left there was never in place.
        for name in names(&folder)? {
            if name != PLACING {
                remove(&folder.join(name))?;
            }
        }
        let opened =
            File::create_new(&copy).with_context(|| format!("cannot write {}", copy.display()))?;
        let (source, rest) = (file.to_path_buf(), Handle::current());
        let bundles = data.join(BUNDLES);
        let copying = tokio::task::spawn_blocking(move || {
            backup::copied(&source, &copy, &opened, &rest)
                .with_context(|| format!("`{}` cannot be copied", source.display()))?;
            dayfly_store::fsck_with(&copy, &bundles)
                .map_err(|why| anyhow!(why).context("the backup does not hold"))
        });
        let checked = copying.await.context("the copy was broken off")??;
        Ok(Self {
            data,
            folder,
            tenants: checked.tenants.into_iter().map(|of| of.name).collect(),
        })
    }

    /// Has each ledger of the copy go on under an origin of its own. A tenant of which heads were
    /// handed out and that the backup does not know begins with its restore.
    async fn restored(
        &self,
        config: &Config,
        handed_out: &BTreeMap<Name, HandedHead>,
        reason: &str,
    ) -> Result<Vec<Ledger>> {
        let copy = self.folder.join(DATABASE);
        let options = SqliteOptions {
            leaf_bytes: config.bounds.leaf_bytes,
            bundles: self.data.join(BUNDLES),
            ..SqliteOptions::new(&copy)
        };
        let store = SqliteStore::open(options).context("the copy does not open")?;
        let uid = nix::unistd::getuid().as_raw();
        let annex = json!({"by": {"uid": uid}, "reason": reason});
        let mut ledgers = Vec::new();
        for tenant in self
            .tenants
            .iter()
            .chain(handed_out.keys())
            .collect::<BTreeSet<_>>()
        {
            let request = RestoreRequest {
                tenant,
                first_origin: &first_origin(config, tenant),
                handed_out: handed_out.get(tenant),
                now: now(),
                annex: &annex,
            };
            let restored = restore_ledger(&store, &request)
                .await
                .map_err(|why| anyhow!(why).context(format!("the ledger of {tenant}")))?;
            ledgers.push(Ledger {
                tenant: tenant.clone(),
                restored: restored.into(),
                handed_out: handed_out.get(tenant).cloned(),
            });
        }
        // It leaves one file that holds everything.
        drop(store);
        ensure!(
            fs::metadata(beside(&copy, "-wal")).map_or(0, |log| log.len()) == 0,
            "the log of the copy could not be moved into it"
        );
        File::open(&copy)
            .and_then(|copy| copy.sync_all())
            .with_context(|| format!("{} cannot be synced", copy.display()))?;
        Ok(ledgers)
    }

    /// Moves the former database aside, the copy into its place, and writes the heads that go with
    /// it. Gives where the former one is now, and the journals of what it could not record.
    fn put_in_place(
        self,
        heads: &BTreeMap<Name, HandedHead>,
    ) -> Result<(Option<PathBuf>, [Option<PathBuf>; 2])> {
        let database = self.data.join(DATABASE);
        self.finish_moving_aside(&database)?;
        let aside = free_name(&database)?;
        // From here on no server starts before this is done, by this run or by the next.
        self.mark(&aside)?;
        let moved = move_aside(&database, &aside)?;
        let journals = move_journals(&self.data, &aside)?;
        sync_folder(&self.data)?;
        for name in names(&self.data)? {
            // The search index is one of the former database; it is made anew.
            if name
                .to_string_lossy()
                .starts_with(&format!("{DATABASE}.search"))
            {
                remove(&self.data.join(name))?;
            }
        }
        fs::rename(self.folder.join(DATABASE), &database)
            .with_context(|| format!("the copy cannot be named {}", database.display()))?;
        sync_folder(&self.data)?;
        HandedOut::write(&self.data.join(HEADS), heads)?;
        // What was begun is done once this file is gone; the rest of the folder is of no use.
        fs::remove_file(self.folder.join(PLACING)).context("the restore cannot be closed")?;
        sync_folder(&self.folder)?;
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("{} cannot be removed", self.folder.display()))?;
        sync_folder(&self.data)?;
        Ok((moved.then_some(aside), journals))
    }

    /// A run that was killed may have moved the former database and not its log, which no other
    /// database may be opened with.
    fn finish_moving_aside(&self, database: &Path) -> Result<()> {
        let aside = match fs::read_to_string(self.folder.join(PLACING)) {
            Ok(name) => self.data.join(name.trim_end()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(why) => return Err(why).context("what a former restore began cannot be read"),
        };
        if !database.exists() && aside.exists() {
            move_aside(database, &aside)?;
        }
        Ok(())
    }

    fn mark(&self, aside: &Path) -> Result<()> {
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        let other = self.folder.join("placing.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&other)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        fs::rename(&other, self.folder.join(PLACING))?;
        sync_folder(&self.folder)?;
        sync_folder(&self.data)
    }
}

/// Moves a database and its log; gives whether there was one.
fn move_aside(database: &Path, aside: &Path) -> Result<bool> {
    let mut moved = false;
    for end in ["", "-wal"] {
        let (from, to) = (beside(database, end), beside(aside, end));
        match fs::rename(&from, &to) {
            Ok(()) => moved = true,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => {
                return Err(why)
                    .with_context(|| format!("{} cannot be moved aside", from.display()));
            }
        }
    }
    // Only a server that runs needs it.
    remove(&beside(database, "-shm"))?;
    Ok(moved)
}

/// Moves the journals aside where they hold something, or cannot be read: their ends are of tasks
/// that are over now, and what they contain may have been lifted in the time that is lost. Gives
/// where they are now.
fn move_journals(data: &Path, aside: &Path) -> Result<[Option<PathBuf>; 2]> {
    let files = [(JOURNAL, ".journal"), (WORDS, ".people.journal")];
    let any = files.iter().any(|(name, _)| data.join(name).exists());
    if !any || Journal::open(data).is_ok_and(|(_, held)| held.is_empty()) {
        return Ok([None, None]);
    }
    let moved = |(name, end): (&str, &str)| {
        let from = data.join(name);
        if !from.exists() {
            return Ok(None);
        }
        let to = beside(aside, end);
        fs::rename(&from, &to)
            .with_context(|| format!("{} cannot be moved aside", from.display()))?;
        anyhow::Ok(Some(to))
    };
    let [ends, words] = files;
    Ok([moved(ends)?, moved(words)?])
}

/// A dated name that nothing has, for the former database.
fn free_name(database: &Path) -> Result<PathBuf> {
    let day = now().to_string().replace([':', '-'], "");
    let day = day.split('.').next().unwrap_or(&day).trim_end_matches('Z');
    for number in 1..1000 {
        let end = match number {
            1 => format!(".before-{day}Z"),
            _ => format!(".before-{day}Z-{number}"),
        };
        let aside = beside(database, &end);
        if !aside.exists() && !beside(&aside, "-wal").exists() {
            return Ok(aside);
        }
    }
    bail!("there is no free name for the former database")
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn names(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .with_context(|| format!("{} cannot be read", folder.display()))
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(why).with_context(|| format!("{} cannot be removed", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("the folder {} cannot be synced", folder.display()))
}

fn lines(done: &Done) -> String {
    let mut text = format!("{} is in place\n", done.database.display());
    // Writing to a String cannot fail.
    if let Some(aside) = &done.aside {
        let _ = writeln!(text, "the former database is kept as {}", aside.display());
    }
    if let Some(journal) = &done.journal {
        let _ = writeln!(
            text,
            "ends or words about people waited in the journals: they are in no ledger, the ends are kept as {}",
            journal.display()
        );
    }
    if let Some(journal) = &done.people_journal {
        let _ = writeln!(
            text,
            "what was said of people is kept as {}: have their providers send it again",
            journal.display()
        );
    }
    for ledger in &done.tenants {
        let Ledger {
            tenant,
            restored,
            handed_out,
        } = ledger;
        let _ = writeln!(
            text,
            "{tenant}: {} entries of the backup; the ledger goes on as {}",
            restored.from, restored.origin
        );
        match handed_out {
            Some(head) if head.size > restored.from => {
                let _ = writeln!(
                    text,
                    "{tenant}: {} entries that a head was handed out for are lost, containment and keys given up among them",
                    head.size - restored.from
                );
            }
            Some(_) | None => {}
        }
    }
    text.push_str(
        "open tasks are over (cause restored), proofs made before now are refused, and no block is lifted; `dayfly serve` makes new keys\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_journals_are_moved_aside_and_named() {
        let data = tempfile::tempdir().unwrap();
        let aside = data.path().join("dayfly.db.before-1");
        // Neither can be read.
        for name in [JOURNAL, WORDS] {
            fs::write(data.path().join(name), "no journal").unwrap();
        }
        let [journal, people_journal] = move_journals(data.path(), &aside).unwrap();
        let done = Done {
            database: data.path().join(DATABASE),
            aside: None,
            journal,
            people_journal,
            tenants: Vec::new(),
        };
        let said = lines(&done);
        for end in [".journal", ".people.journal"] {
            let moved = beside(&aside, end);
            assert!(
                moved.exists() && said.contains(&moved.display().to_string()),
                "{said}"
            );
        }
        assert!(said.contains("providers send it again"), "{said}");
    }
}

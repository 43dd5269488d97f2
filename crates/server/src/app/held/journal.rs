//! The containment journal: files beside the database that keep ends while the ledger cannot.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::{self, FIRST, PAYLOAD, Torn};
use super::places::{Places, WORDS, WORDS_BYTES};
use super::record::{Held, Unread};
use super::words::Word;

/// Its name within the data folder.
pub const JOURNAL: &str = "containment.journal";
/// Its size: some ten thousand ends. All of it is written when it is made, so that no disk that
/// fills up later can stop it.
pub const JOURNAL_BYTES: usize = 4 << 20;
/// How much of it closes of runs by platforms may take that change no task; the rest is for ends.
pub(super) const BARE_BYTES: usize = JOURNAL_BYTES / 4;
/// The mode of the file: it names tasks, reasons and people.
const MODE: u32 = 0o600;
/// How much is written at a time when it is made.
const PIECE: usize = 64 * 1024;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system says no.
    #[error("the containment journal `{}` cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds ends that were acknowledged, and some of them cannot be read.
    #[error(
        "the containment journal `{}` is damaged at byte {at}: nothing is served until it is known what ended, see \"Server down\" in the runbook",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
    },
}

/// The journal of one server, open: of ends, and of words about people.
#[derive(Debug)]
pub struct Journal {
    pub(super) ends: Keeper<File>,
    pub(super) words: Places,
}

/// A journal on whatever holds its bytes.
#[derive(Debug)]
pub(super) struct Keeper<D> {
    path: PathBuf,
    disk: D,
    generation: u64,
    next: usize,
    /// Up to where the disk may hold anything of frames, of former generations too.
    used: usize,
    /// Whether the header on the disk may still be that of the former generation.
    unclear: bool,
}

/// What a journal asks of the file under it.
pub(super) trait Disk {
    /// Writes all of these bytes there; durable once [`Disk::sync`] has answered.
    fn put(&self, bytes: &[u8], at: usize) -> io::Result<()>;
    /// Has the disk keep what was written (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn put(&self, bytes: &[u8], at: usize) -> io::Result<()> {
        self.write_all_at(bytes, u64::try_from(at).unwrap_or(u64::MAX))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Journal {
    /// Opens the journal of a data folder, and makes it where there is none. Gives with it what it
    /// holds that is not in the ledger yet, or may not be.
    ///
    /// # Errors
    /// [`JournalError`]; nothing may be served then.
    pub fn open(folder: &Path) -> Result<(Self, Backlog), JournalError> {
        let (path, file, bytes) = opened(folder, JOURNAL, JOURNAL_BYTES)?;
        let (mut ends, mut backlog) = Keeper::over(path.clone(), file, &bytes)?;
        // A server of before left them there, and so does one that is killed as it clears.
        ends.wipe()
            .map_err(|source| JournalError::Io { path, source })?;
        let (path, file, bytes) = opened(folder, WORDS, WORDS_BYTES)?;
        let (places, words) = Places::over(&path, file, &bytes)?;
        let journal = Self {
            ends,
            words: places,
        };
        backlog.words.extend(words);
        Ok((journal, backlog))
    }

    /// Forgets everything, now that the ledger has it.
    ///
    /// # Errors
    /// Why the disk may still hold it; what it holds is then recorded once more, which changes
    /// nothing.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.ends.clear()?;
        self.words.clear()
    }
}

impl<D: Disk> Keeper<D> {
    /// The journal that these bytes are, on the disk that holds them.
    pub(super) fn over(
        path: PathBuf,
        disk: D,
        bytes: &[u8],
    ) -> Result<(Self, Backlog), JournalError> {
        let damaged = |at| JournalError::Damaged {
            path: path.clone(),
            at,
        };
        let generation = frame::generation(bytes)
            .filter(|_| bytes.len() == JOURNAL_BYTES)
            .ok_or_else(|| damaged(0))?;
        let (payloads, next) = frame::read(bytes, generation).map_err(|Torn { at }| damaged(at))?;
        let mut backlog = Backlog::default();
        for payload in payloads {
            let (held, words) = Held::read(payload).map_err(|Unread| damaged(FIRST))?;
            backlog.held.push(held);
            backlog.words.extend(words);
        }
        let journal = Self {
            path,
            disk,
            generation,
            next,
            used: FIRST.max(
                bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1),
            ),
            unclear: false,
        };
        Ok((journal, backlog))
    }

    /// Keeps an end: it outlives process and machine once this has answered.
    ///
    /// # Errors
    /// Why it is not kept; the journal is as it was.
    pub(super) fn keep(&mut self, held: &Held) -> io::Result<()> {
        if self.unclear {
            self.clear()?;
        }
        let payload = held.bytes();
        let end = self.next + frame::room(payload.len());
        if payload.len() > PAYLOAD || end > JOURNAL_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the containment journal is full",
            ));
        }
        let frame = frame::frame(self.generation, self.next, &payload);
        self.used = self.used.max(end);
        self.disk.put(&frame, self.next)?;
        self.disk.sync()?;
        self.next = end;
        Ok(())
    }

    /// Forgets everything, now that the ledger has it, and what it said of people is gone from the
    /// file.
    ///
    /// # Errors
    /// Why the disk may still hold it; nothing is kept until the header has been written.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.next > FIRST && !self.unclear {
            self.generation += 1;
            self.next = FIRST;
            self.unclear = true;
        }
        if self.unclear {
            self.disk.put(&frame::header(self.generation), 0)?;
            self.disk.sync()?;
            // From here on a crash is clean: no frame on the disk is of this generation.
            self.unclear = false;
        }
        self.wipe()
    }

    /// Writes zeros where frames were, where no frame is.
    fn wipe(&mut self) -> io::Result<()> {
        if self.next > FIRST || self.used == FIRST {
            return Ok(());
        }
        let zeros = vec![0; PIECE];
        for at in (FIRST..self.used).step_by(PIECE) {
            let piece = zeros.get(..PIECE.min(self.used - at)).unwrap_or_default();
            self.disk.put(piece, at)?;
        }
        self.disk.sync()?;
        self.used = FIRST;
        Ok(())
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Backlog {
    pub(super) held: Vec<Held>,
    pub(super) words: Vec<Word>,
}

impl Backlog {
    /// How many ends and words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len() + self.words.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Opens a file of a journal, and makes it where there is none; with its bytes.
fn opened(
    folder: &Path,
    name: &str,
    bytes: usize,
) -> Result<(PathBuf, File, Vec<u8>), JournalError> {
    let path = folder.join(name);
    let opened = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path)?;
        let mut found = content(&file, bytes)?;
        // The header is what is written last, so a file without one has never held an end.
        if found.iter().all(|byte| *byte == 0) {
            make(&file, folder, bytes)?;
            found = content(&file, bytes)?;
        }
        Ok((file, found))
    };
    match opened() {
        Ok((file, found)) => Ok((path, file, found)),
        Err(source) => Err(JournalError::Io { path, source }),
    }
}

fn content(file: &File, whole: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(whole + 1)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Takes the room for good: reserved first, so that a disk without it says so at once, and then
/// written, because some file systems reserve less than a write needs.
fn make(file: &File, folder: &Path, bytes: usize) -> io::Result<()> {
    let length = nix::libc::off_t::try_from(bytes).unwrap_or(nix::libc::off_t::MAX);
    match nix::fcntl::posix_fallocate(file, 0, length) {
        // Where it cannot be reserved, writing it takes it.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => {}
        Err(why) => return Err(why.into()),
    }
    let zeros = vec![0; PIECE];
    for at in (0..bytes).step_by(PIECE) {
        let piece = zeros.get(..PIECE.min(bytes - at)).unwrap_or_default();
        file.put(piece, at)?;
    }
    file.sync_all()?;
    file.put(&frame::header(1), 0)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

//! The journal of words about people: a file beside the other journal with one place a person, which a later word does not use up.
//!
//! A place is `word`, the generation it was written in (eight bytes, big-endian), the length of its
//! payload (four), the SHA-256 of generation, place and payload, and the payload. A later word about
//! a person is written to a place that is free, and only once it is durable the former place of the
//! person is. So a write that is torn takes nothing that was acknowledged; and since what fails is
//! written to next, no more than one place is ever torn.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dayfly_domain::{Digest, Name};
use dayfly_token::hash::sha256_of_parts;

use super::frame;
use super::journal::{Disk, JournalError};
use super::words::{Part, Word};

/// Its name within the data folder.
pub const WORDS: &str = "people.journal";
/// How many places there are: one for each person, and one that is free.
pub(super) const PLACES: usize = 4096;
/// The bytes of a place. The longest word fits into it: two names, and twice whose word it was.
const PLACE: usize = 1152;
/// Where the first place begins, behind the header.
const FIRST: usize = 64;
/// The size of the file.
pub(super) const WORDS_BYTES: usize = FIRST + PLACES * PLACE;
const MARK: &[u8; 4] = b"word";
/// The bytes before a payload.
const BEFORE: usize = 4 + 8 + 4 + 32;

/// A journal of words on whatever holds its bytes.
#[derive(Debug)]
pub(super) struct Places<D = File> {
    disk: D,
    generation: u64,
    /// Where the word about a person is, by whose part it is of.
    taken: HashMap<(Name, Name), HashMap<Digest, usize>>,
    /// The places that hold nothing which is needed; the last is written to next.
    free: Vec<usize>,
    /// Whether the header on the disk may still be that of the former generation.
    unclear: bool,
}

/// What lies in a place.
enum Found {
    Nothing,
    Word(Word),
    Torn,
    /// It is whole, and this program cannot read it.
    Unread,
}

impl<D: Disk> Places<D> {
    /// The journal that these bytes are, on the disk that holds them, and its words.
    pub(super) fn over(
        path: &Path,
        disk: D,
        bytes: &[u8],
    ) -> Result<(Self, Vec<Word>), JournalError> {
        let damaged = |at| JournalError::Damaged {
            path: PathBuf::from(path),
            at,
        };
        let generation = frame::generation(bytes)
            .filter(|_| bytes.len() == WORDS_BYTES)
            .ok_or_else(|| damaged(0))?;
        let mut places = Self {
            disk,
            generation,
            taken: HashMap::new(),
            free: Vec::new(),
            unclear: false,
        };
        let mut words: HashMap<(Name, Name, Digest), Word> = HashMap::new();
        let mut torn = None;
        for place in (0..PLACES).rev() {
            match found(bytes, generation, place) {
                Found::Nothing => places.free.push(place),
                // The write of one was cut off, and never acknowledged.
                Found::Torn if torn.is_none() => torn = Some(place),
                Found::Torn | Found::Unread => return Err(damaged(start(place))),
                Found::Word(word) => {
                    let key = (word.tenant.clone(), word.from.clone(), word.person);
                    let both = words
                        .get(&key)
                        .map(|other| (other.covers(&word), other.with(&word)));
                    match both {
                        // The former word of the person, which another has taken the place of.
                        Some((true, _)) => places.free.push(place),
                        Some((false, both)) => {
                            places.take(&word, place);
                            words.insert(key, both);
                        }
                        None => {
                            places.take(&word, place);
                            words.insert(key, word);
                        }
                    }
                }
            }
        }
        places.free.extend(torn);
        Ok((places, words.into_values().collect()))
    }

    /// Keeps a word, within the part of its transmitter: it outlives process and machine once this
    /// has answered, and what was kept of the person by the same transmitter is not needed any more.
    ///
    /// # Errors
    /// Why it is not kept; the journal is as it was.
    pub(super) fn keep(&mut self, word: &Word, part: Part) -> io::Result<()> {
        if self.unclear {
            self.clear()?;
        }
        let own = self.taken.get(&(word.tenant.clone(), word.from.clone()));
        let is_known = own.is_some_and(|own| own.contains_key(&word.person));
        let full = |what| io::Error::new(io::ErrorKind::StorageFull, what);
        if !is_known && own.map_or(0, HashMap::len) >= part.of(PLACES - 1) {
            return Err(full("the transmitter's part of the journal is full"));
        }
        let payload = serde_json::to_vec(word)?;
        if payload.len() > PLACE - BEFORE {
            return Err(full("the word is too long for the journal"));
        }
        let place = self.free.pop().ok_or_else(|| full("the journal is full"))?;
        let bytes = written(self.generation, place, &payload);
        let kept = self.disk.put(&bytes, start(place));
        if let Err(why) = kept.and_then(|()| self.disk.sync()) {
            self.free.push(place);
            return Err(why);
        }
        self.take(word, place);
        Ok(())
    }

    /// Notes where the word about a person is now; its former place is free, and written to last.
    fn take(&mut self, word: &Word, place: usize) {
        let key = (word.tenant.clone(), word.from.clone());
        let own = self.taken.entry(key).or_default();
        if let Some(former) = own.insert(word.person, place) {
            self.free.insert(0, former);
        }
    }

    /// Forgets everything, now that the ledger has it.
    ///
    /// # Errors
    /// Why the disk may still hold it; nothing is kept until this has succeeded.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.taken.is_empty() && !self.unclear {
            return Ok(());
        }
        if !self.unclear {
            self.generation += 1;
            self.unclear = true;
            let taken = self.taken.drain().flat_map(|(_, own)| own.into_values());
            // One that may be torn stays the next to be written to.
            self.free.splice(0..0, taken);
        }
        self.disk.put(&frame::header(self.generation), 0)?;
        self.disk.sync()?;
        self.unclear = false;
        Ok(())
    }
}

const fn start(place: usize) -> usize {
    FIRST + place * PLACE
}

/// A word for this place.
fn written(generation: u64, place: usize, payload: &[u8]) -> Vec<u8> {
    // INVARIANT: a payload is shorter than a place, which fits into four bytes.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = MARK.to_vec();
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&hash(generation, place, payload));
    bytes.extend_from_slice(payload);
    bytes
}

fn found(bytes: &[u8], generation: u64, place: usize) -> Found {
    let at = start(place);
    let bytes = bytes.get(at..at + PLACE).unwrap_or_default();
    // What was begun and did not get as far as its first bytes was never acknowledged either.
    if bytes.iter().take(BEFORE).all(|byte| *byte == 0) {
        return Found::Nothing;
    }
    match read(bytes, place) {
        Some((own, _)) if own < generation => Found::Nothing,
        Some((own, payload)) if own == generation => {
            serde_json::from_slice(payload).map_or(Found::Unread, Found::Word)
        }
        Some(_) | None => Found::Torn,
    }
}

/// The generation and payload of a place that holds as it was written.
fn read(bytes: &[u8], place: usize) -> Option<(u64, &[u8])> {
    let rest = bytes.strip_prefix(MARK)?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (stored, rest) = rest.split_first_chunk::<32>()?;
    let generation = u64::from_be_bytes(*generation);
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let payload = rest.get(..length)?;
    (*stored == hash(generation, place, payload)).then_some((generation, payload))
}

fn hash(generation: u64, place: usize, payload: &[u8]) -> [u8; 32] {
    let place = u64::try_from(place).unwrap_or(u64::MAX).to_be_bytes();
    sha256_of_parts(&[MARK, &generation.to_be_bytes(), &place, payload])
}

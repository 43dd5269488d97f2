//! The journal on a disk that loses what was not synced, and on one that fails.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use dayfly_domain::{Block, BlockOn, Cause, ClientEnded, EpochOf, Event, Name, TaskId, Time};
use dayfly_store::clock::ManualClock;
use dayfly_store::{Annex, Drafted, EntryRange, FactsQuery, MemoryStore, Store as _};

use super::ObeyingStore;
use super::journal::{Disk, JOURNAL, JOURNAL_BYTES, Journal, JournalError, Keeper};
use super::record::{Held, HeldBlock, HeldEnd, HeldMove};

/// A disk of which a power failure leaves what was synced.
#[derive(Clone, Debug, Default)]
pub(super) struct Platter(Rc<RefCell<Sectors>>);

#[derive(Debug, Default)]
struct Sectors {
    kept: Vec<u8>,
    written: Vec<u8>,
    /// What was written since the last sync.
    dirty: Vec<std::ops::Range<usize>>,
    fails: bool,
    /// How many bytes of the next write get as far as the disk, which then fails.
    tears: Option<usize>,
}

impl Platter {
    /// A disk with an empty journal.
    fn new() -> Self {
        Self::with(JOURNAL, JOURNAL_BYTES)
    }

    /// A disk with one of the files of an empty journal.
    pub(super) fn with(name: &str, length: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(Journal::open(folder.path()).unwrap());
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(bytes.len(), length);
        let platter = Self::default();
        platter.0.borrow_mut().kept.clone_from(&bytes);
        platter.0.borrow_mut().written = bytes;
        platter
    }

    pub(super) fn lose_power(&self) {
        let mut sectors = self.0.borrow_mut();
        sectors.written = sectors.kept.clone();
        sectors.dirty.clear();
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().written.clone()
    }

    /// Has the next write fail after so many bytes.
    pub(super) fn tear(&self, after: usize) {
        self.0.borrow_mut().tears = Some(after);
    }

    pub(super) fn flip(&self, at: usize) {
        self.0.borrow_mut().written[at] ^= 1;
    }

    pub(super) fn fail(&self, fails: bool) {
        self.0.borrow_mut().fails = fails;
    }

    fn open(&self) -> Result<(Keeper<Self>, Vec<Held>), JournalError> {
        let bytes = self.0.borrow().written.clone();
        let (keeper, backlog) = Keeper::over(PathBuf::from(JOURNAL), self.clone(), &bytes)?;
        Ok((keeper, backlog.held))
    }

    fn held(&self) -> Vec<u64> {
        let (_, held) = self.open().unwrap();
        held.iter().map(|held| held.at.millis()).collect()
    }
}

impl Disk for Platter {
    fn put(&self, bytes: &[u8], at: usize) -> io::Result<()> {
        let mut sectors = self.0.borrow_mut();
        if sectors.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(most) = sectors.tears.take() {
            let part = &bytes[..most.min(bytes.len())];
            sectors.written[at..at + part.len()].copy_from_slice(part);
            sectors.kept = sectors.written.clone();
            return Err(io::ErrorKind::Other.into());
        }
        sectors.written[at..at + bytes.len()].copy_from_slice(bytes);
        sectors.dirty.push(at..at + bytes.len());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let sectors = &mut *self.0.borrow_mut();
        for range in sectors.dirty.drain(..) {
            sectors.kept[range.clone()].copy_from_slice(&sectors.written[range]);
        }
        Ok(())
    }
}

fn held(at: u64) -> Held {
    let annex = Annex {
        salt: [7; 16],
        data: r#"{"reason":"leaked"}"#.to_owned(),
    };
    let event = Event::ClientEnded(ClientEnded {
        client: 1,
        cause: Cause::Operator,
        at: Time::from_millis(at),
        by: None,
        last_expiry: None,
    });
    Held {
        tenant: "acme".parse().unwrap(),
        at: Time::from_millis(at),
        ends: vec![HeldEnd {
            task: TaskId([3; 16]),
            events: vec![Drafted {
                event,
                annex: Some(annex.clone()),
            }],
        }],
        blocks: vec![HeldBlock {
            block: Block {
                on: BlockOn::Tenant,
                task: None,
                since: Time::from_millis(at),
            },
            to: Some("heirs".parse().unwrap()),
            data: "{}".to_owned(),
            annex: Some(annex),
        }],
        moves: vec![HeldMove {
            of: EpochOf::Owner("team".parse().unwrap()),
            data: "{}".to_owned(),
            annex: None,
        }],
        closings: Vec::new(),
        sought: Vec::new(),
    }
}

#[test]
fn an_end_outlives_a_power_failure_from_its_acknowledgement_on() {
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    for at in 1..=3 {
        journal.keep(&held(at)).unwrap();
        platter.lose_power();
        assert_eq!(platter.held(), (1..=at).collect::<Vec<_>>());
    }
    let (_, read) = platter.open().unwrap();
    let (wrote, read) = (held(3), &read[2]);
    assert_eq!(read.bytes(), wrote.bytes());
    assert_eq!(read.ends[0].events[0].event, wrote.ends[0].events[0].event);
    assert_eq!(read.ends[0].events[0].annex, wrote.ends[0].events[0].annex);
    assert_eq!(read.blocks[0].block, wrote.blocks[0].block);
    assert_eq!(read.blocks[0].to, wrote.blocks[0].to);
    assert_eq!(read.moves[0].of, wrote.moves[0].of);
}

#[test]
fn what_was_cleared_stays_so_and_the_next_end_is_kept() {
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    journal.keep(&held(1)).unwrap();
    journal.keep(&held(2)).unwrap();
    journal.clear().unwrap();
    platter.lose_power();
    assert!(platter.held().is_empty());
    journal.keep(&held(3)).unwrap();
    platter.lose_power();
    assert_eq!(platter.held(), [3]);
}

fn says(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|some| some == text.as_bytes())
}

/// Reasons and people are in the ledger by then, where they can be erased.
#[test]
fn what_was_cleared_is_gone_from_the_disk() {
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    journal.keep(&held(1)).unwrap();
    // One that was never acknowledged is there in part.
    platter.tear(300);
    journal.keep(&held(2)).unwrap_err();
    assert!(says(&platter.bytes(), "leaked"));
    // The disk fails once the header is written: the next try does the rest.
    platter.tear(0);
    journal.clear().unwrap_err();
    journal.clear().unwrap();
    platter.lose_power();
    assert!(!says(&platter.bytes(), "leaked") && platter.held().is_empty());
    // What comes meanwhile is not wiped.
    journal.keep(&held(3)).unwrap();
    platter.lose_power();
    assert_eq!(platter.held(), [3]);
    journal.clear().unwrap();
    platter.lose_power();
    assert!(!says(&platter.bytes(), "leaked"));
}

#[test]
fn what_a_former_server_left_is_gone_with_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(JOURNAL);
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.ends.keep(&held(1)).unwrap();
    let kept = std::fs::read(&path).unwrap();
    drop(Journal::open(folder.path()).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), kept, "it waits");
    // Killed behind the header of the next generation.
    let mut cleared = kept;
    let header = super::frame::header(2);
    cleared[..header.len()].copy_from_slice(&header);
    std::fs::write(&path, &cleared).unwrap();
    let (mut journal, backlog) = Journal::open(folder.path()).unwrap();
    assert!(backlog.is_empty() && !says(&std::fs::read(&path).unwrap(), "leaked"));
    journal.ends.keep(&held(2)).unwrap();
    assert_eq!(Journal::open(folder.path()).unwrap().1.len(), 1);
}

#[test]
fn a_journal_that_could_not_be_cleared_keeps_nothing_that_would_be_lost() {
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    journal.keep(&held(1)).unwrap();
    platter.fail(true);
    journal.clear().unwrap_err();
    // An end of the next generation would not be read under the header of this one.
    journal.keep(&held(2)).unwrap_err();
    assert_eq!(platter.held(), [1]);
    platter.fail(false);
    journal.keep(&held(3)).unwrap();
    platter.lose_power();
    assert_eq!(platter.held(), [3]);
}

#[test]
fn a_full_journal_says_so_and_keeps_what_it_has() {
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    let mut kept = 0;
    let full = loop {
        match journal.keep(&held(kept + 1)) {
            Ok(()) => kept += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert!(kept > 4000, "{kept} ends are few");
    assert_eq!(platter.held().len() as u64, kept);
}

#[test]
fn the_file_is_whole_and_private_from_the_first_start_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(JOURNAL);
    // A start that was cut off before the header leaves zeros, of whatever length.
    std::fs::write(&path, [0; 100]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (mut journal, backlog) = Journal::open(folder.path()).unwrap();
    assert!(backlog.is_empty());
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let allocated = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    assert!(allocated >= JOURNAL_BYTES as u64, "{allocated} bytes");
    for at in 1..=3 {
        journal.ends.keep(&held(at)).unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(Journal::open(folder.path()).unwrap().1.len(), 3);
    let mut damaged = whole.clone();
    damaged[64 + 60] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let refused = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(
        refused.contains("damaged at byte 64") && refused.contains("runbook"),
        "{refused}"
    );
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Journal::open(folder.path()).is_err(), "a cut file");
}

/// A block whose entry does not fit into a leaf, as an earlier build may have left one.
fn too_long() -> Held {
    let on = BlockOn::Instance {
        issuer: "github".parse().unwrap(),
        instance: "x".repeat(9 * 1024),
    };
    let mut held = held(1);
    held.ends.clear();
    held.moves.clear();
    held.closings.clear();
    held.blocks[0].to = None;
    held.blocks[0].block.on = on.clone();
    held.blocks[0].data = format!(r#"{{"on":"{on}","by":"{}"}}"#, "b".repeat(64));
    held
}

#[tokio::test]
async fn a_journal_with_an_entry_that_fits_nowhere_does_not_stop_the_ledger() {
    let held = too_long();
    assert!(!held.fits() && held.shortened().fits());
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.ends.keep(&held).unwrap();
    let clock = Arc::new(ManualClock::at(Time::from_seconds(100)));
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    let opened = Journal::open(folder.path()).unwrap();
    let store = ObeyingStore::new(inner.clone(), clock, Some(opened));
    let acme: Name = "acme".parse().unwrap();
    assert!(store.resume(std::slice::from_ref(&acme)).await);
    let blocks = inner.facts(&acme, &FactsQuery::default()).unwrap().blocks;
    assert_eq!(
        blocks.to_vec(),
        [held.blocks[0].block.clone()],
        "the block is whole"
    );
    let entries = inner.entries(&acme, EntryRange::From(0), 1).unwrap();
    let leaf: serde_json::Value = serde_json::from_str(&entries[0].leaf).unwrap();
    assert_eq!(leaf["data"]["shortened"], true);
    assert_eq!(leaf["data"]["by"], "b".repeat(64));
}

#[test]
fn an_end_of_much_is_kept_in_frames_that_fit() {
    let mut whole = held(1);
    let mut annex = whole.blocks[0].annex.clone().unwrap();
    annex.data = "r".repeat(2048);
    let first = whole.ends[0].events[0].clone();
    let events = vec![
        Drafted {
            annex: Some(annex),
            ..first
        };
        40
    ];
    whole.ends = (0..10)
        .map(|task| HeldEnd {
            task: TaskId([task; 16]),
            events: events.clone(),
        })
        .collect();
    let platter = Platter::new();
    let (mut journal, _) = platter.open().unwrap();
    assert!(journal.keep(&whole).is_err());
    assert_eq!(held(2).parts().len(), 1, "what fits stays whole");
    for part in whole.clone().parts() {
        journal.keep(&part).unwrap();
    }
    let (_, read) = platter.open().unwrap();
    let of = |held: &[Held], task: u8| {
        let ends = held.iter().flat_map(|held| &held.ends);
        let of_task = ends.filter(|end| end.task == TaskId([task; 16]));
        of_task.map(|end| end.events.len()).sum::<usize>()
    };
    for task in 0..10 {
        assert_eq!(of(&read, task), 40);
    }
    let first = &read[0];
    assert_eq!(
        (first.blocks.len(), first.ends.len()),
        (1, 0),
        "the block comes first"
    );
    assert_eq!(read.iter().map(|held| held.moves.len()).sum::<usize>(), 1);
}

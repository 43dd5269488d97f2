//! Words about people on a disk that loses, tears or fails, and in a stall in which one transmitter says too much.

use std::path::Path;
use std::sync::Arc;

use dayfly_domain::{BlockOn, Digest, EpochOf, Name, Time};
use dayfly_store::clock::ManualClock;
use dayfly_store::{FactsQuery, Fault, MemoryStore, Store as _, Unavailable};

use super::journal::{Journal, JournalError};
use super::places::{PLACES, Places, WORDS, WORDS_BYTES};
use super::tests::Platter;
use super::words::{PEOPLE, Part, Said, Word};
use super::{Acknowledged, ObeyingStore};

/// All of it for one transmitter.
const ALONE: Part = Part {
    tenants: 1,
    transmitters: 1,
};
/// A small part, beside one that is as large.
const TWO: Part = Part {
    tenants: 64,
    transmitters: 2,
};

fn person(number: u32) -> Digest {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Digest(digest)
}

fn word(from: &str, number: u32, upto: u64) -> Word {
    let said = Said {
        upto: Time::from_seconds(upto),
        at: Time::from_seconds(200),
        said: format!("signals.{from}: account-disabled"),
    };
    Word {
        tenant: "acme".parse().unwrap(),
        from: from.parse().unwrap(),
        person: person(number),
        barred: Some(said.clone()),
        over: said,
    }
}

fn disk() -> Platter {
    Platter::with(WORDS, WORDS_BYTES)
}

fn open(disk: &Platter) -> Result<(Places<Platter>, Vec<Word>), JournalError> {
    Places::over(Path::new(WORDS), disk.clone(), &disk.bytes())
}

#[test]
fn a_later_word_about_a_person_takes_no_place_more() {
    let disk = disk();
    let (mut places, _) = open(&disk).unwrap();
    for upto in 1..=2 * PLACES as u64 {
        places.keep(&word("okta", 1, upto), ALONE).unwrap();
    }
    disk.lose_power();
    let (_, words) = open(&disk).unwrap();
    assert_eq!(words, [word("okta", 1, 2 * PLACES as u64)]);
}

#[test]
fn a_write_that_is_torn_takes_nothing_that_was_acknowledged() {
    for torn in [1, 4, 11, 16, 40, 48, 60, 200] {
        let disk = disk();
        let (mut places, _) = open(&disk).unwrap();
        // Every place has been written to, so that no zeros tell which hold nothing.
        for number in 0..PLACES as u32 - 1 {
            places.keep(&word("okta", number, 10), ALONE).unwrap();
        }
        places.clear().unwrap();
        places.keep(&word("okta", 1, 20), ALONE).unwrap();
        for _ in 0..3 {
            disk.tear(torn);
            places.keep(&word("okta", 1, 30), ALONE).unwrap_err();
        }
        disk.lose_power();
        let (mut places, words) = open(&disk).unwrap();
        assert_eq!(words, [word("okta", 1, 20)], "torn at {torn}");
        // What is written next goes where it is torn, and leaves nothing torn behind.
        places.keep(&word("okta", 2, 40), ALONE).unwrap();
        disk.tear(torn);
        places.keep(&word("okta", 3, 40), ALONE).unwrap_err();
        disk.lose_power();
        assert_eq!(open(&disk).unwrap().1.len(), 2, "torn at {torn}");
    }
}

#[test]
fn more_than_one_damaged_place_is_refused() {
    let disk = disk();
    let (mut places, _) = open(&disk).unwrap();
    for number in 0..3 {
        places.keep(&word("okta", number, 10), ALONE).unwrap();
    }
    let first = 64;
    disk.flip(first + 60);
    assert_eq!(open(&disk).unwrap().1.len(), 2);
    disk.flip(first + 1152 + 60);
    let refused = open(&disk).unwrap_err().to_string();
    assert!(
        refused.contains(WORDS) && refused.contains("runbook"),
        "{refused}"
    );
}

#[test]
fn what_was_cleared_stays_so_and_a_journal_that_cannot_be_cleared_keeps_nothing() {
    let disk = disk();
    let (mut places, _) = open(&disk).unwrap();
    places.keep(&word("okta", 1, 10), ALONE).unwrap();
    disk.fail(true);
    places.clear().unwrap_err();
    places.keep(&word("okta", 2, 10), ALONE).unwrap_err();
    disk.fail(false);
    assert_eq!(open(&disk).unwrap().1, [word("okta", 1, 10)]);
    places.keep(&word("okta", 3, 10), ALONE).unwrap();
    disk.lose_power();
    assert_eq!(open(&disk).unwrap().1, [word("okta", 3, 10)]);
}

#[test]
fn the_longest_word_fits_into_a_place() {
    let disk = disk();
    let (mut places, _) = open(&disk).unwrap();
    let name: Name = "n".repeat(63).parse().unwrap();
    let said = |upto| Said {
        upto,
        at: Time::from_millis(u64::MAX >> 12),
        // The longest name, event and `jti` (see `verify::signal`).
        said: format!(
            "signals.{name}: credential-change (jti {})",
            "j".repeat(255)
        ),
    };
    let longest = Word {
        tenant: name.clone(),
        from: name.clone(),
        person: person(1),
        over: said(Time::from_millis(u64::MAX >> 12)),
        barred: Some(said(Time::from_millis(u64::MAX >> 13))),
    };
    places.keep(&longest, ALONE).unwrap();
    assert_eq!(open(&disk).unwrap().1, [longest]);
}

struct Bench {
    inner: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    acme: Name,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Time::from_seconds(300)));
        let inner = Arc::new(MemoryStore::new(clock.clone()));
        inner.fail([Fault::BeforeWrite; 64]);
        Self {
            inner,
            clock,
            folder: tempfile::tempdir().unwrap(),
            acme: "acme".parse().unwrap(),
        }
    }

    fn started(&self) -> ObeyingStore {
        let journal = Journal::open(self.folder.path()).unwrap();
        ObeyingStore::new(self.inner.clone(), self.clock.clone(), Some(journal))
    }

    /// Up to when a person's rights are over, and whether the person is barred.
    fn obeyed(&self, store: &ObeyingStore, number: u32) -> (u64, bool) {
        let query = FactsQuery {
            epochs: &[EpochOf::Person(person(number))],
            ..FactsQuery::default()
        };
        let facts = store.facts(&self.acme, &query).unwrap();
        let on = BlockOn::Barred(person(number));
        (facts.epochs[0].at / 1000, facts.blocks.stands(&on))
    }
}

async fn hold(store: &ObeyingStore, word: &Word, part: Part) -> Result<bool, Unavailable> {
    let why = Unavailable("it is down".to_owned());
    match store.hold_word(word, part, why).await? {
        Acknowledged::Held { journaled } => Ok(journaled),
        Acknowledged::Recorded => panic!("nothing records"),
    }
}

#[tokio::test]
async fn a_transmitter_that_says_much_takes_no_place_of_another_and_is_obeyed() {
    let bench = Bench::new();
    let store = bench.started();
    let most = TWO.of(PLACES - 1) as u32;
    for number in 0..most {
        assert!(hold(&store, &word("loud", number, 10), TWO).await.unwrap());
    }
    // There is no place left for one more person, and it is obeyed until the ledger records.
    let one_more = word("loud", most, 10);
    for _ in 0..2 {
        assert!(!hold(&store, &one_more, TWO).await.unwrap());
        assert_eq!(bench.obeyed(&store, most), (10, true));
    }
    assert!(!store.keeps(&bench.acme, &person(most)));
    // Those who have a place keep it, and nobody else goes short.
    assert!(hold(&store, &word("loud", 0, 20), TWO).await.unwrap());
    assert!(
        hold(&store, &one_more_of("quiet", most), TWO)
            .await
            .unwrap()
    );
    let again = bench.started();
    assert_eq!(bench.obeyed(&again, 0), (20, true));
    assert_eq!(bench.obeyed(&again, most - 1), (10, true));
    bench.inner.heal();
    for store in [&again, &store] {
        assert!(store.resume(std::slice::from_ref(&bench.acme)).await);
        assert_eq!(store.waiting(), 0);
    }
    let facts = bench.inner.facts(&bench.acme, &FactsQuery::default());
    assert_eq!(facts.unwrap().blocks.iter().count(), most as usize + 1);
    let (_, backlog) = Journal::open(bench.folder.path()).unwrap();
    assert!(backlog.is_empty());
}

fn one_more_of(from: &str, number: u32) -> Word {
    word(from, number, 10)
}

#[tokio::test]
async fn what_is_held_of_people_is_bounded_and_what_is_beyond_is_told_to_come_again() {
    let bench = Bench::new();
    // No journal: the bound is the memory's alone.
    let store = ObeyingStore::new(bench.inner.clone(), bench.clock.clone(), None);
    let part = Part {
        tenants: PEOPLE / 8,
        transmitters: 4,
    };
    for number in 0..2 {
        assert!(!hold(&store, &word("loud", number, 10), part).await.unwrap());
    }
    assert!(hold(&store, &word("loud", 2, 10), part).await.is_err());
    assert_eq!(bench.obeyed(&store, 2), (0, false));
    assert!(!hold(&store, &word("loud", 1, 30), part).await.unwrap());
    assert!(!hold(&store, &word("quiet", 2, 10), part).await.unwrap());
    for (number, upto) in [(0, 10), (1, 30), (2, 10)] {
        assert_eq!(bench.obeyed(&store, number), (upto, true));
    }
}

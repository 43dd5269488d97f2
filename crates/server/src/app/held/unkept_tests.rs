//! What a journal could not keep, what it keeps once it can, and what a former build has left in one.

use std::sync::Arc;

use dayfly_domain::{Block, BlockOn, Digest, EpochOf, Name, Time};
use dayfly_store::clock::ManualClock;
use dayfly_store::{
    Append, AppendError, EntryRange, FactsQuery, Fault, MemoryStore, Note, Store as _, Unavailable,
};

use super::ObeyingStore;
use super::frame;
use super::journal::{JOURNAL, Journal};
use super::record::Held;

fn acme() -> Name {
    "acme".parse().unwrap()
}

fn series(name: &str) -> BlockOn {
    BlockOn::Series {
        issuer: "github".parse().unwrap(),
        series: name.to_owned(),
    }
}

/// A block by hand.
fn block(name: &str) -> Append {
    Append {
        now: Time::from_seconds(100),
        notes: vec![Note {
            kind: "block.set",
            data: format!(r#"{{"on":"{}"}}"#, series(name)),
            annex: None,
        }],
        blocks: vec![Block {
            on: series(name),
            task: None,
            since: Time::from_seconds(100),
        }],
        ..Append::default()
    }
}

fn stores(journal: Option<(Journal, super::Backlog)>) -> (ObeyingStore, Arc<MemoryStore>) {
    let clock = Arc::new(ManualClock::at(Time::from_seconds(100)));
    let inner = Arc::new(MemoryStore::new(clock.clone()));
    (ObeyingStore::new(inner.clone(), clock, journal), inner)
}

async fn hold(store: &ObeyingStore, name: &str) -> bool {
    let why = Unavailable("it is down".to_owned());
    let done = store.hold_append(&acme(), &block(name), why).await;
    done.is_durable()
}

#[tokio::test]
async fn what_the_journal_could_not_keep_is_kept_by_whatever_comes_next() {
    for next in ["a repeat", "another end", "a try to go on"] {
        let (store, inner) = stores(None);
        inner.fail([Fault::BeforeWrite; 64]);
        assert!(!hold(&store, "one").await);
        assert!(!hold(&store, "two").await);
        assert!(
            !store.keeps_all(&acme()).await,
            "it is lost with the process"
        );
        let other = "other".parse().unwrap();
        assert!(store.keeps_all(&other).await, "it is not another's");
        // The disk is mended.
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path()).unwrap();
        *store.shared.open_journal() = Some(journal);
        let kept = match next {
            "a repeat" => {
                assert!(store.keeps_all(&acme()).await);
                2
            }
            "another end" => {
                assert!(hold(&store, "three").await);
                3
            }
            _ => {
                assert!(!store.resume(&[acme()]).await);
                2
            }
        };
        let (journal, backlog) = Journal::open(folder.path()).unwrap();
        assert_eq!(backlog.len(), kept, "after {next}");
        assert!(store.keeps_all(&acme()).await);
        let (again, _) = stores(Some((journal, backlog)));
        let blocks = again.facts(&acme(), &FactsQuery::default()).unwrap().blocks;
        assert!(blocks.stands(&series("one")) && blocks.stands(&series("two")));
    }
}

#[tokio::test]
async fn what_was_recorded_meanwhile_is_not_put_into_the_journal() {
    let (store, inner) = stores(None);
    inner.fail([Fault::BeforeWrite; 2]);
    assert!(!hold(&store, "one").await);
    inner.heal();
    assert!(store.resume(&[acme()]).await);
    let folder = tempfile::tempdir().unwrap();
    *store.shared.open_journal() = Some(Journal::open(folder.path()).unwrap().0);
    assert!(hold(&store, "two").await);
    assert_eq!(Journal::open(folder.path()).unwrap().1.len(), 1);
}

#[tokio::test]
async fn a_block_whose_first_try_was_made_late_is_recorded_once() {
    let (store, inner) = stores(None);
    assert!(!hold(&store, "one").await);
    let held = Held::of(&acme(), &block("one"));
    let tries = [(); 2].map(|()| store.append_of(&held).unwrap().unwrap());
    let mut done = Vec::new();
    for again in tries {
        done.push(inner.append(&acme(), again).await);
    }
    assert!(done[0].is_ok());
    assert!(matches!(done[1], Err(AppendError::Conflict)), "{done:?}");
    assert!(
        store.append_of(&held).unwrap().is_none(),
        "the next look sees it"
    );
    let entries = inner.entries(&acme(), EntryRange::From(0), 9).unwrap();
    assert_eq!(entries.len(), 1);
}

/// The frames of a former build: a word that bars a person, one that does not, and a later one.
const FORMER: [&str; 3] = [
    r#"{"v":1,"tenant":"acme","at":200000,"ends":[],"blocks":[{"block":{"on":{"person":"PERSON"},"task":null,"since":200000},"data":"{\"on\":\"person:PERSON\"}","annex":{"salt":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data":"{}"}}],"people":[{"person":"PERSON","upto":190000,"said":"signals.okta: account-disabled","until":900000},{"person":"MARK","upto":190000,"said":"signals.okta: account-disabled","until":990000}]}"#,
    r#"{"v":1,"tenant":"acme","at":210000,"ends":[],"blocks":[],"people":[{"person":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg","upto":180000,"said":"something else","until":900000}]}"#,
    r#"{"v":1,"tenant":"acme","at":220000,"ends":[],"blocks":[],"people":[{"person":"PERSON","upto":195000,"said":"signals.okta: session-revoked","until":900000}]}"#,
];

#[tokio::test]
async fn words_that_a_former_build_left_among_the_ends_are_obeyed_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    drop(Journal::open(folder.path()).unwrap());
    let path = folder.path().join(JOURNAL);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = frame::FIRST;
    for text in FORMER {
        let text = text.replace("PERSON", PERSON).replace("MARK", MARK);
        let frame = frame::frame(1, at, text.as_bytes());
        bytes[at..at + frame.len()].copy_from_slice(&frame);
        at += frame::room(text.len());
    }
    std::fs::write(&path, &bytes).unwrap();
    let (store, inner) = stores(Some(Journal::open(folder.path()).unwrap()));
    let (gone, other): (Digest, Digest) = (
        PERSON.parse().unwrap(),
        "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"
            .parse()
            .unwrap(),
    );
    let epochs = [EpochOf::Person(gone), EpochOf::Person(other)];
    let query = FactsQuery {
        epochs: &epochs,
        ..FactsQuery::default()
    };
    let upto = |facts: &dayfly_store::Facts| {
        let of = |epoch: &EpochOf| facts.epochs.iter().find(|own| own.of == *epoch);
        epochs
            .each_ref()
            .map(|epoch| of(epoch).map_or(0, |own| own.at))
    };
    let held = store.facts(&acme(), &query).unwrap();
    assert_eq!(upto(&held), [195_000, 180_000]);
    assert!(held.blocks.stands(&BlockOn::Barred(gone)));
    assert!(!held.blocks.stands(&BlockOn::Barred(other)));
    assert!(store.resume(&[acme()]).await);
    let recorded = inner.facts(&acme(), &query).unwrap();
    assert_eq!(upto(&recorded), [195_000, 180_000]);
    // The word of the provider sets it, and nobody set one by hand.
    let blocks: Vec<BlockOn> = recorded
        .blocks
        .iter()
        .map(|block| block.on.clone())
        .collect();
    assert_eq!(blocks, [BlockOn::Barred(gone)]);
    assert!(Journal::open(folder.path()).unwrap().1.is_empty());
}

const PERSON: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
/// The mark that the person was barred, as that build wrote it.
const MARK: &str = "bOMQ4jL0FFOCMclxDgeiKTLBecWitaPLVUhhOcQjihg";

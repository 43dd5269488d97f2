//! Ends that come faster than they are recorded, and the way back all the same.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use dayfly_domain::{Block, BlockOn, Name, TaskId, Time};
use dayfly_ledger::Hash;
use dayfly_store::clock::ManualClock;
use dayfly_store::{
    Answer, Append, AppendError, Committed, EntryRange, Facts, FactsQuery, Fault, MemoryStore,
    Note, Observed, OpenFilter, OpenTask, SearchKey, Store, StoredEntry, Touch, TreeHead,
    Unavailable, Use,
};
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::{Acknowledged, ObeyingStore};

/// More than any number of tries would record one by one.
const MANY: u32 = 400;

/// A ledger during each append of which somebody ends something more.
struct Busy {
    inner: MemoryStore,
    front: OnceLock<ObeyingStore>,
    begun: AtomicU32,
    ends: Mutex<Vec<JoinHandle<Acknowledged>>>,
}

fn acme() -> Name {
    "acme".parse().unwrap()
}

fn on(number: u32) -> BlockOn {
    BlockOn::Series {
        issuer: "github".parse().unwrap(),
        series: format!("run {number}"),
    }
}

/// A block by hand.
fn block(number: u32) -> Append {
    let since = Time::from_seconds(100);
    Append {
        now: since,
        notes: vec![Note {
            kind: "block.set",
            data: format!(r#"{{"on":"{}"}}"#, on(number)),
            annex: None,
        }],
        unblocked: vec![on(number)],
        blocks: vec![Block {
            on: on(number),
            task: None,
            since,
        }],
        ..Append::default()
    }
}

/// Ends something, deciding anew as often as it is told to.
async fn end(front: ObeyingStore, number: u32) -> Acknowledged {
    loop {
        match front.end(&acme(), block(number)).await {
            Ok(done) => return done,
            Err(AppendError::Conflict) => {}
            Err(why) => panic!("{number}: {why}"),
        }
    }
}

impl Store for Busy {
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        if let Some(front) = self.front.get() {
            let number = self.begun.fetch_add(1, Ordering::SeqCst);
            if number < MANY {
                let end = tokio::spawn(end(front.clone(), number));
                self.ends.lock().unwrap().push(end);
            }
        }
        let answer = self.inner.append(tenant, append);
        Box::pin(async move {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            answer.await
        })
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        self.inner.observe(tenant, uses)
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        self.inner.touch(tenant, touch);
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.inner.facts(tenant, query)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.inner.open(tenant, filter, cursor, limit)
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        self.inner.entries(tenant, range, limit)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.inner.find(tenant, key, cursor, limit)
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.inner.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.inner.tile(tenant, level, index, width)
    }
}

#[tokio::test]
async fn a_stall_is_left_although_ends_come_faster_than_they_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Time::from_seconds(100)));
    let busy = Arc::new(Busy {
        inner: MemoryStore::new(clock.clone()),
        front: OnceLock::new(),
        begun: AtomicU32::new(1),
        ends: Mutex::default(),
    });
    let opened = Journal::open(folder.path()).unwrap();
    let store = ObeyingStore::new(busy.clone(), clock, Some(opened));
    busy.inner.fail([Fault::BeforeWrite]);
    assert!(end(store.clone(), 0).await.is_durable());
    assert_eq!(store.waiting(), 1);
    assert!(busy.front.set(store.clone()).is_ok());
    // One after the other they would be recorded in as many tries as there are.
    let mut tries = 1;
    while !store.resume(&[acme()]).await {
        tries += 1;
        assert!(tries < 10, "{} wait", store.waiting());
    }
    assert!(store.stall().is_none());
    // Those that came last went through the ledger, and so do those behind them.
    loop {
        let ends = std::mem::take(&mut *busy.ends.lock().unwrap());
        if ends.is_empty() {
            break;
        }
        for end in ends {
            assert!(end.await.unwrap().is_durable());
        }
    }
    assert_eq!((store.waiting(), store.stall()), (0, None));
    let blocks = busy.facts(&acme(), &FactsQuery::default()).unwrap().blocks;
    for number in 0..MANY {
        assert!(blocks.stands(&on(number)), "{number}");
    }
    let entries = busy.entries(&acme(), EntryRange::From(0), 2000).unwrap();
    let set = entries
        .iter()
        .filter(|entry| entry.leaf.contains("block.set"));
    assert_eq!(set.count(), MANY as usize, "each once");
    drop(store);
    drop(busy);
    assert!(Journal::open(folder.path()).unwrap().1.is_empty());
}

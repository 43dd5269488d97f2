//! Temporary.
#![allow(
    clippy::all,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    dead_code,
    unused,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic
)]
#[path = "../tests/store/fixture.rs"]
mod fixture;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
use dayfly_domain::*;
use dayfly_store::clock::*;
use dayfly_store::*;
use fixture::*;
use std::sync::Arc;
use std::time::*;

fn cpu(name: &str) -> f64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let p = task.unwrap().path();
        let Ok(comm) = std::fs::read_to_string(p.join("comm")) else {
            continue;
        };
        if comm.trim() == name {
            let s = std::fs::read_to_string(p.join("schedstat")).unwrap();
            return s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9;
        }
    }
    0.0
}
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn make(n: u64) -> Append {
    let mut s = start_with(n, |st| {
        st.opened = SystemClock.now();
        st.deadline = SystemClock.now() + Span::from_seconds(3600);
    });
    let now = SystemClock.now();
    s.append.now = now;
    let mut start = s.append;
    for c in &mut start.changes[0].events {
        if let Event::ClientRegistered(r) = &mut c.event {
            r.jwk = Some("x".repeat(130));
        }
        c.annex = Some(Annex {
            salt: [1; 16],
            data: format!(
                "{{\"claims\":{{\"sub\":\"repo:o/r\",\"x\":\"{}\"}}}}",
                "y".repeat(370)
            ),
        });
    }
    start.changes[0].next.clients[0].jwk = Some("x".repeat(130));
    let mut cl = claim(&s.task);
    cl.until = now + Span::from_seconds(36 * 86400);
    start.claims.push(cl);
    let until = now + Span::from_seconds(600);
    for k in ["proof", "dpop"] {
        start.spends.push(Spend {
            key: OneTimeKey {
                digest: digest(&format!("{k} {n}")),
                at: now,
                until,
            },
            by: by(n),
        });
    }
    start
}

fn main() {
    let total: u64 = std::env::args()
        .nth(1)
        .map_or(100_000, |a| a.parse().unwrap());
    let wide: usize = std::env::args().nth(2).map_or(128, |a| a.parse().unwrap());
    let dir = std::path::PathBuf::from("/work/main/target/speed");
    if total == 0 {
        let r0 = rss();
        let t = Instant::now();
        let store = SqliteStore::open(SqliteOptions::new(dir.join("db"))).unwrap();
        println!("open: {:?}, rss +{} MiB", t.elapsed(), (rss() - r0) >> 20);
        let n = {
            let mut c = None;
            let mut n = 0;
            loop {
                let p = store.open(&acme(), &OpenFilter::All, c, 10000).unwrap();
                n += p.len();
                match p.last() {
                    Some(l) => c = Some(l.task.id),
                    None => break,
                }
            }
            n
        };
        println!("{n} open, {} B each", (rss() - r0) / n as u64);
        let t = Instant::now();
        println!(
            "due: {} in {:?}",
            store
                .open(&acme(), &OpenFilter::Due(SystemClock.now()), None, 100)
                .unwrap()
                .len(),
            t.elapsed()
        );
        let t = Instant::now();
        println!(
            "due: {} in {:?}",
            store
                .open(&acme(), &OpenFilter::Due(SystemClock.now()), None, 100)
                .unwrap()
                .len(),
            t.elapsed()
        );
        let t = Instant::now();
        let r = fsck(&dir.join("db"));
        println!("fsck {} in {:?}", r.is_ok(), t.elapsed());
        return;
    }
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let options = SqliteOptions::new(dir.join("db"));
    let store = SqliteStore::open(options.clone()).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let entry: usize = {
        let s = make(1);
        s.changes[0]
            .events
            .iter()
            .map(|e| serde_json::to_vec(&e.event).unwrap().len() + 300)
            .sum::<usize>()
    };
    println!(
        "leaf bytes per start ~{entry}, snapshot {}",
        serde_json::to_vec(&make(1).changes[0].next).unwrap().len()
    );
    let r0 = rss();
    let c0 = cpu("dayfly-writer");
    let s0 = cpu("dayfly-search");
    let t0 = Instant::now();
    let mut ids = Vec::new();
    rt.block_on(async {
        let mut set = tokio::task::JoinSet::new();
        for n in 0..total {
            let append = make(n + 1);
            ids.push(append.changes[0].next.clone());
            if set.len() >= wide {
                set.join_next().await.unwrap().unwrap();
            }
            set.spawn_local_on_dummy(store.append(&acme(), append));
        }
        while let Some(r) = set.join_next().await {
            r.unwrap();
        }
    });
    let wall = t0.elapsed().as_secs_f64();
    println!(
        "{total} starts in {wall:.2} s = {:.0}/s; writer cpu {:.1} us each; search cpu {:.1} us each",
        total as f64 / wall,
        (cpu("dayfly-writer") - c0) / total as f64 * 1e6,
        (cpu("dayfly-search") - s0) / total as f64 * 1e6
    );
    println!(
        "rss +{} MiB = {} B/task (with ids)",
        (rss() - r0) >> 20,
        (rss() - r0) / total
    );
    let t = Instant::now();
    let f = store.find(
        &acme(),
        &SearchKey::Key(digest(&format!("key {total}"))),
        None,
        1,
    );
    println!("find: {f:?} in {:?}", t.elapsed());
    let t = Instant::now();
    for task in ids.iter().take(20000) {
        let series = (&github(), task.series.as_str());
        let one = key("x");
        store
            .facts(
                &acme(),
                &FactsQuery {
                    tasks: &[task.id],
                    series: Some((series.0, series.1)),
                    one_time: Some(&one),
                    ..FactsQuery::default()
                },
            )
            .unwrap();
    }
    println!(
        "facts with claims: {:?} each",
        t.elapsed() / ids.len().min(20000) as u32
    );
    let t = Instant::now();
    for task in ids.iter().take(20000) {
        store
            .facts(
                &acme(),
                &FactsQuery {
                    tasks: &[task.id],
                    ..FactsQuery::default()
                },
            )
            .unwrap();
    }
    println!(
        "facts of a task: {:?} each",
        t.elapsed() / ids.len().min(20000) as u32
    );
    let t = Instant::now();
    for i in 0..200 {
        let mut a = Append::default();
        a.now = SystemClock.now();
        a.notes.push(note("x", "{}"));
        rt.block_on(store.append(&acme(), a)).unwrap();
    }
    println!("lone append: {:?}", t.elapsed() / 200);
    drop(store);
    for f in std::fs::read_dir(&dir).unwrap() {
        let f = f.unwrap();
        println!(
            "{:?} {} MiB",
            f.file_name(),
            f.metadata().unwrap().len() >> 20
        );
    }
    drop(ids);
    let r0 = rss();
    let t = Instant::now();
    let store = SqliteStore::open(options).unwrap();
    println!(
        "open: {:?}, rss +{}",
        t.elapsed(),
        (rss() as i64 - r0 as i64) / total as i64
    );
    let t = Instant::now();
    println!(
        "due: {} in {:?}",
        store
            .open(&acme(), &OpenFilter::Due(SystemClock.now()), None, 100)
            .unwrap()
            .len(),
        t.elapsed()
    );
}
trait D<T> {
    fn spawn_local_on_dummy(&mut self, a: Answer<T>);
}
impl<T: Send + 'static + std::fmt::Debug, E: Send + 'static + std::fmt::Debug> D<Result<T, E>>
    for tokio::task::JoinSet<()>
{
    fn spawn_local_on_dummy(&mut self, a: Answer<Result<T, E>>) {
        self.spawn(async move {
            a.await.unwrap();
        });
    }
}

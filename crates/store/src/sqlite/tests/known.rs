//! The memory of claims and keys denies nothing that the rows have: drawn orders, days, failures
//! and starts, each compared with what a reader of the rows alone sees.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dayfly_domain::{Cause, Claim, ClaimState, Digest, Name, Span, Spent, TaskId, Time};
use tempfile::TempDir;

use super::{Faults, KEPT, LOST, wait};
use crate::clock::{Clock, ManualClock};
use crate::sqlite::schema::Sync;
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::{Append, ClaimWrite, FactsQuery, Note, OneTimeKey, Spend, Store, Touch};

const DAY: u64 = 86_400;
const SERIES: u64 = 6;
const KEYS: u64 = 40;

/// Numbers drawn from a seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.0;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % most
    }
}

struct World {
    draws: Draws,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    options: SqliteOptions,
    store: Option<SqliteStore>,
    tasks: u64,
    _folder: TempDir,
}

fn tenants() -> [Name; 2] {
    ["acme", "other"].map(|name| name.parse().unwrap())
}

fn issuer() -> Name {
    "github".parse().unwrap()
}

fn key(number: u64, from: Time) -> OneTimeKey {
    let mut digest = [3; 32];
    digest[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let at = from + Span::from_seconds(number % 12 * DAY / 2);
    OneTimeKey {
        digest: Digest(digest),
        at,
        until: at + Span::from_seconds(300),
    }
}

const START: Time = Time::from_seconds(20_000 * DAY);

impl World {
    fn new(seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let mut options = SqliteOptions::new(folder.path().join("db"));
        options.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let mut world = Self {
            draws: Draws(seed),
            clock,
            faults: Arc::default(),
            options,
            store: None,
            tasks: 0,
            _folder: folder,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.store = None;
        let (options, faults) = (self.options.clone(), Arc::clone(&self.faults));
        self.store = Some(SqliteStore::open_with(options, Sync::Full, faults).unwrap());
    }

    fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    fn tenant(&mut self) -> Name {
        let [acme, other] = tenants();
        if self.draws.below(2) == 0 {
            acme
        } else {
            other
        }
    }

    fn claims(store: &SqliteStore, tenant: &Name, series: &str) -> Vec<Claim> {
        let query = FactsQuery {
            series: Some((&issuer(), series)),
            ..FactsQuery::default()
        };
        let mut claims = store.facts(tenant, &query).unwrap().claims;
        claims.sort_by_key(|claim| claim.key.clone());
        claims
    }

    fn spent(store: &SqliteStore, tenant: &Name, key: &OneTimeKey) -> Option<Spent> {
        let query = FactsQuery {
            one_time: Some(key),
            ..FactsQuery::default()
        };
        store.facts(tenant, &query).unwrap().spent
    }

    /// An append of claims, some in the place of others, and of keys, some of them spent before.
    fn append(&mut self, tenant: &Name) -> Append {
        let now = self.clock.now();
        self.tasks += 1;
        let task = TaskId::new(self.tasks, [7; 10]);
        let series = format!("run-{}", self.draws.below(SERIES));
        let name = format!("{series}/{}", self.draws.below(3));
        let held = Self::claims(self.store(), tenant, &series);
        let held = held.iter().find(|claim| claim.key == name);
        let replaces = held.map(|claim| claim.task);
        let until = now + Span::from_seconds(self.draws.below(40) * DAY);
        let claim = ClaimWrite {
            issuer: issuer(),
            series,
            claim: Claim {
                workload: "release".parse().unwrap(),
                key: name,
                attempt: None,
                task,
                state: ClaimState::Ended {
                    cause: Cause::Completed,
                    deadline: now,
                },
            },
            replaces,
            until,
        };
        let by = Spent { task, client: 1 };
        let spends = (0..self.draws.below(3)).map(|_| Spend {
            key: key(self.draws.below(KEYS), START),
            by,
        });
        Append {
            now,
            notes: vec![Note {
                kind: "finding.opened",
                data: "{}".into(),
                annex: None,
            }],
            spends: spends.collect(),
            claims: vec![claim],
            ..Append::default()
        }
    }

    fn step(&mut self) {
        let tenant = self.tenant();
        match self.draws.below(12) {
            0 => {
                let day = Span::from_seconds(self.draws.below(DAY * 2));
                self.clock.set(self.clock.now() + day);
            }
            1 | 2 => {
                let until = self.clock.now() + Span::from_seconds(self.draws.below(40) * DAY);
                let series = format!("run-{}", self.draws.below(SERIES));
                let touch = Touch::Claim {
                    issuer: issuer(),
                    series,
                    until,
                };
                self.store().touch(&tenant, touch);
            }
            3 if self.draws.below(4) == 0 => self.start(),
            4 => {
                let fault = if self.draws.below(2) == 0 { LOST } else { KEPT };
                let append = self.append(&tenant);
                self.faults.0.store(fault, Ordering::SeqCst);
                drop(wait(self.store().append(&tenant, append)));
                self.faults.0.store(0, Ordering::SeqCst);
            }
            _ => {
                // Together, so that some of them share a batch.
                let orders: Vec<(Name, Append)> = (0..1 + self.draws.below(3))
                    .map(|_| {
                        let tenant = self.tenant();
                        let append = self.append(&tenant);
                        (tenant, append)
                    })
                    .collect();
                let answers: Vec<_> = orders
                    .into_iter()
                    .map(|(tenant, append)| self.store().append(&tenant, append))
                    .collect();
                for answer in answers {
                    drop(wait(answer));
                }
            }
        }
        // A touch is saved with the next commit, and what failed is read back before it.
        let nothing = Append {
            now: self.clock.now(),
            ..Append::default()
        };
        wait(self.store().append(&tenant, nothing)).unwrap();
    }

    /// Compares with the rows; how many claims and keys there were.
    fn compare(&self, rows: &SqliteStore, when: &str) -> usize {
        let mut there = 0;
        for tenant in tenants() {
            for series in (0..SERIES).map(|number| format!("run-{number}")) {
                let found = Self::claims(self.store(), &tenant, &series);
                assert_eq!(found, Self::claims(rows, &tenant, &series), "{when}");
                let keys: BTreeSet<&str> = found.iter().map(|claim| claim.key.as_str()).collect();
                assert_eq!(keys.len(), found.len(), "{when}: a claim lies in one table");
                there += found.len();
            }
            for key in (0..KEYS).map(|number| key(number, START)) {
                let found = Self::spent(self.store(), &tenant, &key);
                assert_eq!(found, Self::spent(rows, &tenant, &key), "{when}");
                there += usize::from(found.is_some());
            }
        }
        there
    }
}

#[test]
fn nothing_is_denied_that_the_rows_have() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        let rows = SqliteStore::open_read_only(&world.options).unwrap();
        let mut most = 0;
        for step in 0..100 {
            world.step();
            most = most.max(world.compare(&rows, &format!("seed {seed}, step {step}")));
        }
        assert!(most > 20, "{most}");
        let tasks = world.tasks;
        assert!(tasks > 60, "{tasks}");
    }
}

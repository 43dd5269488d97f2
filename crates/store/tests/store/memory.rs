//! The in-memory backend under the suite, and its faults.

use std::sync::Arc;

use dayfly_store::clock::ManualClock;
use dayfly_store::{AppendError, Fault, MemoryStore, Store, Touch};

use super::conformance;
use super::fixture::*;

pub(crate) struct Memory(MemoryStore);

impl Subject for Memory {
    fn fresh(clock: Arc<ManualClock>) -> Self {
        Self(MemoryStore::new(clock))
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {
        self.0.save();
        self.0.crash();
    }
}

conformance!(Memory);

#[test]
fn faults_say_what_they_prove() {
    let bench = Bench::<Memory>::new();
    bench.start(1);
    bench
        .subject
        .0
        .fail([Fault::BeforeWrite, Fault::Lost, Fault::Kept]);
    let fail = |n| bench.append(start(n).append).unwrap_err();
    assert!(matches!(fail(2), AppendError::Unavailable(_)));
    assert!(matches!(fail(2), AppendError::Unknown(_)));
    assert_eq!(bench.task(id(2)), None);
    assert!(matches!(fail(2), AppendError::Unknown(_)));
    assert!(bench.task(id(2)).is_some());
    bench.subject.0.crash();
    assert!(bench.task(id(2)).is_some());
    bench.start(3);
}

#[test]
fn a_crash_forgets_touches_that_no_append_saved() {
    let bench = Bench::<Memory>::new();
    bench.start(1);
    let seen = || bench.task(id(1)).unwrap().heard.last_seen;
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: id(1),
            at: after(1),
        },
    );
    bench.subject.0.crash();
    assert_eq!(seen(), None);
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: id(1),
            at: after(2),
        },
    );
    bench.commit(noted(NOON, "{}"));
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: id(1),
            at: after(3),
        },
    );
    bench.subject.0.crash();
    assert_eq!(seen(), Some(after(2)));
}

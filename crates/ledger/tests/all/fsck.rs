//! The check of a whole ledger finds the first entry that was touched, and only that.

use dayfly_ledger::fsck::FsckFault;
use dayfly_ledger::{ChainError, Fsck, FsckError, Hash, leaf_hash, sha256};

use crate::book::{Book, TENANT};

/// Ten tasks, interleaved, the last two still open.
fn book() -> Book {
    let mut book = Book::default();
    book.write("", 1, "declared.changed", "{}");
    for task in 0..10 {
        book.write(&name(task), 2 + task, "task.started", r#"{"n":0}"#);
    }
    for step in 1..40 {
        for task in 0..10 {
            book.write(
                &name(task),
                20 + step,
                "use.allowed",
                &format!(r#"{{"n":{step}}}"#),
            );
        }
    }
    for task in 0..8 {
        book.write(&name(task), 100, "task.ended", r#"{"count":41}"#);
    }
    book
}

fn name(task: u64) -> String {
    format!("task_{task}")
}

type Row = (u64, String, Hash);

fn rows(book: &Book) -> Vec<Row> {
    (0..)
        .zip(&book.leaves)
        .map(|(pos, leaf)| (pos, leaf.clone(), leaf_hash(leaf.as_bytes())))
        .collect()
}

fn run(rows: &[Row], against: &Book) -> Result<Fsck, FsckError> {
    let mut fsck = Fsck::new(TENANT);
    for (pos, leaf, hash) in rows {
        fsck.feed(*pos, leaf.as_bytes(), hash)?;
    }
    fsck.finish(against.head().size, &against.head().root)?;
    Ok(fsck)
}

/// The first fault, with its position.
fn fault(rows: &[Row], against: &Book) -> (u64, FsckFault) {
    match run(rows, against).map(|_| ()) {
        Err(FsckError::Entry { pos, source }) => (pos, source),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_honest_ledger_holds() {
    let book = book();
    let fsck = run(&rows(&book), &book).unwrap();
    assert_eq!(fsck.open_tasks().collect::<Vec<_>>(), ["task_8", "task_9"]);
    assert_eq!(fsck.root(), book.head().root);
    let mut fsck = Fsck::new(TENANT);
    let tiles = rows(&book)
        .iter()
        .flat_map(|(pos, leaf, hash)| fsck.feed(*pos, leaf.as_bytes(), hash).unwrap())
        .count();
    assert_eq!(tiles, book.leaves.len() / 256);
}

#[test]
fn every_edit_is_found_where_it_was_made() {
    let book = book();
    let honest = rows(&book);
    for at in 0..honest.len() {
        let pos = u64::try_from(at).unwrap();
        let mut edited = honest.clone();
        edited[at].1 = edited[at].1.replacen("\"at\":", "\"at\":9", 1);
        let (found, source) = fault(&edited, &book);
        assert_eq!(found, pos);
        assert!(matches!(source, FsckFault::Hash { got, .. } if got == honest[at].2));
        // With its hash made to fit, the next entry of the task, or the root, tells.
        edited[at].1 = honest[at]
            .1
            .replacen("\"data\":{", "\"data\":{\"x\":0,", 1)
            .replace(",}", "}");
        edited[at].2 = leaf_hash(edited[at].1.as_bytes());
        match run(&edited, &book).map(|_| ()) {
            Err(FsckError::Entry { pos: found, .. }) => assert!(found > pos && found <= pos + 10),
            Err(FsckError::Root { .. }) => assert!(at == 0 || at > 390),
            other => panic!("{at}: {other:?}"),
        }
        // Removed, there is a hole.
        let mut removed = honest.clone();
        removed.remove(at);
        match run(&removed, &book).map(|_| ()) {
            Err(FsckError::Entry { pos: found, source }) => {
                assert_eq!((found, source), (pos, FsckFault::Position { got: pos + 1 }));
            }
            Err(FsckError::Size { wanted, got }) => assert_eq!((wanted, got), (pos + 1, pos)),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn each_rule_is_named() {
    let with = |change: &dyn Fn(&mut Book)| {
        let mut book = book();
        change(&mut book);
        let (pos, source) = fault(&rows(&book), &book);
        assert_eq!(pos, u64::try_from(book.leaves.len() - 1).unwrap());
        source
    };
    let task = |task: &str, source| FsckFault::Chain {
        task: task.into(),
        source,
    };
    let earlier = with(&|book| {
        book.write("", 99, "key.rotated", "{}");
    });
    assert_eq!(
        earlier,
        FsckFault::Time {
            before: 100,
            got: 99
        }
    );
    let after = with(&|book| {
        book.write("task_0", 100, "use.allowed", "{}");
    });
    assert_eq!(
        after,
        task("task_0", ChainError::Seq { wanted: 1, got: 42 })
    );
    let count = with(&|book| {
        book.write("task_9", 100, "task.ended", r#"{"count":40}"#);
    });
    assert_eq!(
        count,
        task(
            "task_9",
            ChainError::Count {
                wanted: 41,
                got: Some(40)
            }
        )
    );
    let opening = with(&|book| {
        book.write("task_x", 100, "use.allowed", "{}");
    });
    assert_eq!(
        opening,
        task(
            "task_x",
            ChainError::Opening {
                got: "use.allowed".into()
            }
        )
    );
    let tenant = with(&|book| {
        let leaf = book.leaves[0].replace("acme", "other");
        book.append(leaf, None);
    });
    assert_eq!(
        tenant,
        FsckFault::Tenant {
            wanted: "acme".into(),
            got: "other".into()
        }
    );
    let leaf = with(&|book| {
        book.append("{}".into(), None);
    });
    assert!(matches!(leaf, FsckFault::Leaf(_)));
}

#[test]
fn the_head_is_compared_at_the_end() {
    let book = book();
    let mut longer = book.clone();
    longer.write("", 200, "key.rotated", "{}");
    let size = book.head().size;
    let cut = run(&rows(&book), &longer).map(|_| ());
    assert_eq!(
        cut,
        Err(FsckError::Size {
            wanted: size + 1,
            got: size
        })
    );
    let more = run(&rows(&longer), &book).map(|_| ());
    assert_eq!(
        more,
        Err(FsckError::Size {
            wanted: size,
            got: size + 1
        })
    );
    let mut fsck = run(&rows(&book), &book).unwrap();
    assert!(matches!(
        fsck.finish(size, &sha256(b"x")),
        Err(FsckError::Root { .. })
    ));
    let (_, leaf, hash) = &rows(&longer)[usize::try_from(size).unwrap()];
    fsck.feed(size, leaf.as_bytes(), hash).unwrap();
    assert_eq!(fsck.finish(size + 1, &longer.head().root), Ok(()));
}

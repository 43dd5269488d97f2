//! Receipts that hold, and every way of forging one that must not.

use dayfly_ledger::leaf::LeafError;
use dayfly_ledger::receipt::{EntryError, ReceiptEntry, VerifiedAnnex};
use dayfly_ledger::{
    ChainError, Link, Receipt, ReceiptError, SignerKey, leaf_hash, sha256, sign_head,
};

use crate::book::{Book, ORIGIN, signer};

const TASK: &str = "task_01hzy3v7q8e9r0t1y2u3i4o5pa";
const OTHER: &str = "task_01hzy3v7q8e9r0t1y2u3i4o5pb";

/// Two tasks side by side and entries of none; the first task has the positions 1, 3, 4, 6.
fn book() -> Book {
    let mut book = Book::default();
    book.write("", 10, "declared.changed", r#"{"revision":1}"#);
    book.write_with(
        TASK,
        10,
        "task.started",
        r#"{"workload":"release"}"#,
        Some(r#"{"ref":"refs/heads/main"}"#),
    );
    book.write(OTHER, 11, "task.requested", r#"{"workload":"deploy"}"#);
    book.write(TASK, 11, "client.registered", r#"{"n":1}"#);
    book.write_with(
        TASK,
        12,
        "credential.issued",
        r#"{"n":1}"#,
        Some(r#"{"claims":{}}"#),
    );
    book.write(OTHER, 12, "task.denied", "{}");
    book.write(TASK, 13, "task.ended", r#"{"cause":"completed","count":4}"#);
    book.write(
        "",
        14,
        "finding.opened",
        &format!(r#"{{"about":"{TASK}"}}"#),
    );
    book
}

const POSITIONS: [u64; 4] = [1, 3, 4, 6];

fn receipt() -> Receipt {
    book().receipt(TASK, &POSITIONS)
}

fn refusal(receipt: &Receipt) -> ReceiptError {
    receipt.verify(signer().verifier()).map(|_| ()).unwrap_err()
}

/// What differs in the entry of that number.
fn fault(receipt: &Receipt, wanted: usize) -> EntryError {
    match refusal(receipt) {
        ReceiptError::Entry {
            number,
            pos,
            source,
        } => {
            assert_eq!((number, pos), (wanted, receipt.entries[wanted - 1].pos));
            source
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_complete_receipt_holds() {
    let json = serde_json::to_string(&receipt()).unwrap();
    let receipt = Receipt::parse(json.as_bytes()).unwrap();
    let verified = receipt.verify(signer().verifier()).unwrap();
    assert!(verified.complete());
    assert_eq!((verified.task(), verified.head()), (TASK, &book().head()));
    let kinds: Vec<_> = verified
        .entries()
        .iter()
        .map(|entry| entry.leaf.kind.as_ref())
        .collect();
    assert_eq!(
        kinds,
        [
            "task.started",
            "client.registered",
            "credential.issued",
            "task.ended"
        ]
    );
    assert_eq!(
        verified.entries()[0].annex,
        VerifiedAnnex::Shown(r#"{"ref":"refs/heads/main"}"#)
    );
    assert_eq!(verified.entries()[1].annex, VerifiedAnnex::None);
}

#[test]
fn the_json_is_exactly_this() {
    let json = serde_json::to_value(receipt()).unwrap();
    let names = |value: &serde_json::Value| {
        // Which members there are; their order means nothing.
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&json), ["entries", "head", "origin", "task", "v"]);
    assert_eq!(
        names(&json["entries"][0]),
        ["annex", "leaf", "pos", "proof"]
    );
    assert_eq!(names(&json["entries"][1]), ["leaf", "pos", "proof"]);
    assert_eq!(
        json["entries"][0]["annex"]["salt"],
        "AQEBAQEBAQEBAQEBAQEBAQ"
    );
    assert_eq!(json["entries"][0]["leaf"], book().leaves[1]);
    assert_eq!(json["entries"][0]["proof"][0].as_str().unwrap().len(), 44);
    let text = serde_json::to_string(&receipt()).unwrap();
    assert!(text.starts_with(r#"{"v":1,"origin":"dayfly.example/acme","task":"task_"#));
}

#[test]
fn an_open_task_has_an_open_receipt() {
    let book = book();
    let receipt = book.receipt(OTHER, &[2, 5]);
    assert!(!receipt.verify(signer().verifier()).unwrap().complete());
    // The same of an ended task whose end is left out: it holds, and does not claim to be complete.
    let receipt = book.receipt(TASK, &POSITIONS[..3]);
    assert!(!receipt.verify(signer().verifier()).unwrap().complete());
}

#[test]
fn an_annex_may_be_missing_and_not_another() {
    let mut erased = receipt();
    erased.entries[0].annex = None;
    let verified = erased.verify(signer().verifier()).unwrap();
    assert!(verified.complete());
    assert_eq!(verified.entries()[0].annex, VerifiedAnnex::Withheld);
    let mut other = receipt();
    other.entries[0].annex.as_mut().unwrap().data.push(' ');
    assert!(matches!(fault(&other, 1), EntryError::Annex { .. }));
    let mut other = receipt();
    other.entries[0].annex.as_mut().unwrap().salt[0] ^= 1;
    assert!(matches!(fault(&other, 1), EntryError::Annex { .. }));
    let mut other = receipt();
    other.entries[1].annex = other.entries[0].annex.clone();
    assert_eq!(fault(&other, 2), EntryError::AnnexUnknown);
}

#[test]
fn a_receipt_of_other_entries_does_not_hold() {
    let book = book();
    let chain = |positions: &[u64], number| fault(&book.receipt(TASK, positions), number);
    let seq = |wanted, got| EntryError::Chain(ChainError::Seq { wanted, got });
    assert_eq!(chain(&[1, 4, 6], 2), seq(2, 3), "the middle dropped");
    assert_eq!(chain(&[3, 4, 6], 1), seq(1, 2), "the start dropped");
    assert_eq!(chain(&[1, 3, 6], 3), seq(3, 4), "the last but one dropped");
    assert_eq!(chain(&[1, 4, 3, 6], 2), seq(2, 3), "reordered");
    assert_eq!(
        chain(&[1, 1, 3, 4, 6], 2),
        EntryError::Position { before: 1 },
        "doubled"
    );
    assert_eq!(
        chain(&[1, 3, 4, 6, 7], 5),
        EntryError::AfterEnd,
        "after the end"
    );
    let foreign = EntryError::Task {
        wanted: TASK.into(),
        got: Some(OTHER.into()),
    };
    assert_eq!(
        chain(&[1, 2, 3, 4, 6], 2),
        foreign,
        "another task's entry spliced in"
    );
    assert_eq!(
        chain(&[0, 1], 1),
        EntryError::Task {
            wanted: TASK.into(),
            got: None
        },
        "an entry of no task"
    );
    assert_eq!(refusal(&book.receipt(TASK, &[])), ReceiptError::Empty);
    let renamed = book.receipt(OTHER, &POSITIONS);
    assert_eq!(
        fault(&renamed, 1),
        EntryError::Task {
            wanted: OTHER.into(),
            got: Some(TASK.into())
        }
    );
}

#[test]
fn a_changed_field_is_named() {
    let change = |change: fn(&mut Receipt)| {
        let mut receipt = receipt();
        change(&mut receipt);
        receipt
    };
    let moved = change(|receipt| receipt.entries[1].pos = 2);
    assert!(matches!(fault(&moved, 2), EntryError::Proof(_)));
    let beyond = change(|receipt| receipt.entries[3].pos = u64::MAX);
    assert!(matches!(fault(&beyond, 4), EntryError::Proof(_)));
    let edited = change(|receipt| {
        receipt.entries[1].leaf = receipt.entries[1].leaf.replace("\"n\":1", "\"n\":2")
    });
    assert!(matches!(fault(&edited, 2), EntryError::Proof(_)));
    let unproven = change(|receipt| receipt.entries[1].proof.clear());
    assert!(matches!(fault(&unproven, 2), EntryError::Proof(_)));
    let renamed = change(|receipt| receipt.origin = "dayfly.example/acmf".into());
    let wanted = ReceiptError::Origin {
        wanted: ORIGIN.into(),
        got: "dayfly.example/acmf".into(),
    };
    assert_eq!(refusal(&renamed), wanted);
    let resized = change(|receipt| receipt.head = receipt.head.replace("\n8\n", "\n9\n"));
    assert!(matches!(refusal(&resized), ReceiptError::Head(_)));
}

#[test]
fn a_head_of_another_key_or_ledger_is_refused() {
    let mut book = book();
    let mut receipt = book.receipt(TASK, &POSITIONS);
    receipt.head = sign_head(
        &book.head(),
        &SignerKey::from_seed(ORIGIN, &[4; 32]).unwrap(),
    )
    .unwrap();
    assert!(matches!(refusal(&receipt), ReceiptError::Head(_)));
    // Of the same key and another size, the proofs are of another tree.
    book.write("", 15, "key.rotated", "{}");
    receipt.head = sign_head(&book.head(), &signer()).unwrap();
    assert!(matches!(fault(&receipt, 1), EntryError::Proof(_)));
    // The same leaves in another tenant's ledger.
    let other = SignerKey::from_seed("dayfly.example/other", &[3; 32]).unwrap();
    let mut head = book.head();
    head.origin = "dayfly.example/other".into();
    let mut receipt = book.receipt(TASK, &POSITIONS);
    receipt.origin.clone_from(&head.origin);
    receipt.head = sign_head(&head, &other).unwrap();
    let refused = receipt.verify(other.verifier()).map(|_| ()).unwrap_err();
    let source = EntryError::Tenant {
        wanted: "other".into(),
        got: "acme".into(),
    };
    assert_eq!(
        refused,
        ReceiptError::Entry {
            number: 1,
            pos: 1,
            source
        }
    );
}

#[test]
fn what_the_operator_s_own_key_signed_is_checked_all_the_same() {
    let start = |book: &mut Book| {
        leaf_hash(book_leaf(book, |book| book.write(TASK, 5, "task.started", "{}")).as_bytes())
    };
    let link = |seq, prev| {
        Some(Link {
            task: TASK.into(),
            seq,
            prev,
        })
    };

    let mut book = Book::default();
    book.write(TASK, 5, "client.registered", "{}");
    let opening = ChainError::Opening {
        got: "client.registered".into(),
    };
    assert_eq!(
        fault(&book.receipt(TASK, &[0]), 1),
        EntryError::Chain(opening)
    );

    let mut book = Book::default();
    let first = start(&mut book);
    book.write(TASK, 4, "client.ended", "{}");
    assert_eq!(
        fault(&book.receipt(TASK, &[0, 1]), 2),
        EntryError::Time { before: 5, got: 4 }
    );

    let mut book = Book::default();
    start(&mut book);
    book.write_linked(
        link(2, Some(sha256(b"else"))),
        5,
        "client.ended",
        "{}",
        None,
    );
    let prev = ChainError::Prev {
        wanted: Some(first),
        got: Some(sha256(b"else")),
    };
    assert_eq!(
        fault(&book.receipt(TASK, &[0, 1]), 2),
        EntryError::Chain(prev)
    );

    for (data, got) in [
        (r#"{"count":3}"#, Some(3)),
        ("{}", None),
        (r#"{"count":"2"}"#, None),
        (r#"{"count":1}"#, Some(1)),
    ] {
        let mut book = Book::default();
        start(&mut book);
        book.write(TASK, 5, "task.ended", data);
        let count = ChainError::Count { wanted: 2, got };
        assert_eq!(
            fault(&book.receipt(TASK, &[0, 1]), 2),
            EntryError::Chain(count)
        );
    }

    let mut book = Book::default();
    let spaced = book_leaf(&mut Book::default(), |book| {
        book.write(TASK, 5, "task.started", "{}")
    })
    .replace(",", ", ");
    book.append(spaced, None);
    assert!(matches!(
        fault(&book.receipt(TASK, &[0]), 1),
        EntryError::Leaf(LeafError::Spelling { .. })
    ));
}

fn book_leaf(book: &mut Book, write: impl FnOnce(&mut Book) -> u64) -> String {
    let pos = write(book);
    book.leaves[usize::try_from(pos).unwrap()].clone()
}

#[test]
fn a_task_continued_after_its_end_is_refused() {
    let mut book = book();
    let pos = book.write(TASK, 20, "use.allowed", "{}");
    assert_eq!(
        fault(&book.receipt(TASK, &[1, 3, 4, 6, pos]), 5),
        EntryError::AfterEnd
    );
}

#[test]
fn a_later_leaf_version_still_verifies() {
    let mut book = Book::default();
    let first = book_leaf(&mut book, |book| book.write(TASK, 5, "task.started", "{}"));
    let prev = leaf_hash(first.as_bytes());
    let later = format!(
        r#"{{"v":2,"new":true,"tenant":"acme","task":"{TASK}","seq":2,"prev":"{prev}","at":6,"kind":"task.ended","data":{{"count":2}},"h":null}}"#
    );
    book.append(later, None);
    let receipt = book.receipt(TASK, &[0, 1]);
    let verified = receipt.verify(signer().verifier()).unwrap();
    assert!(verified.complete());
    assert_eq!(verified.entries()[1].v, 2);
}

#[test]
fn malformed_json_is_refused() {
    let json = serde_json::to_string(&receipt()).unwrap();
    for (from, to) in [
        ("\"v\":1", "\"v\":1,\"v\":1"),
        ("\"v\":1", "\"v\":1,\"note\":\"trust me\""),
        ("\"v\":1", "\"v\":null"),
        ("\"v\":1,", ""),
        ("\"pos\":1", "\"pos\":1,\"pos\":1"),
        ("\"pos\":1", "\"pos\":1,\"at\":1"),
        ("\"pos\":1", "\"pos\":-1"),
        ("\"pos\":1", "\"pos\":1.0"),
        ("\"annex\":{", "\"annex\":{\"by\":\"me\","),
        ("\"annex\":{", "\"annex\":null,\"annex\":{"),
        ("\"salt\":\"AQ", "\"salt\":\"A"),
        ("\"proof\":[", "\"proof\":[\"\","),
        ("\"proof\":[", "\"proof\":[null,"),
    ] {
        let other = json.replacen(from, to, 1);
        assert_ne!(other, json);
        assert!(
            matches!(Receipt::parse(other.as_bytes()), Err(ReceiptError::Json(_))),
            "{from} to {to}"
        );
    }
    let later = json.replacen("\"v\":1", "\"v\":2,\"more\":{}", 1);
    assert_eq!(
        Receipt::parse(later.as_bytes()),
        Err(ReceiptError::Version { got: 2 })
    );
    let null = ReceiptEntry {
        annex: None,
        ..receipt().entries.remove(0)
    };
    let null = serde_json::to_string(&null)
        .unwrap()
        .replace("\"proof\"", "\"annex\":null,\"proof\"");
    assert!(serde_json::from_str::<ReceiptEntry>(&null).is_err());
}

#[test]
fn no_changed_byte_verifies_to_something_else() {
    let honest = book().receipt(TASK, &POSITIONS);
    let key = signer().verifier().clone();
    let json = serde_json::to_vec(&honest).unwrap();
    let mut refused = 0;
    for at in 0..json.len() {
        // Another letter or digit where there is one, and something that breaks the syntax.
        for byte in [json[at] ^ 1, b' '] {
            let mut other = json.clone();
            other[at] = byte;
            if other == json {
                continue;
            }
            let Ok(other) = Receipt::parse(&other) else {
                continue;
            };
            match other.verify(&key) {
                Ok(verified) => assert!(other == honest && verified.complete(), "byte {at}"),
                Err(_) => refused += 1,
            }
        }
        let mut shorter = json.clone();
        shorter.remove(at);
        if let Ok(other) = Receipt::parse(&shorter) {
            assert!(
                other == honest || other.verify(&key).is_err(),
                "byte {at} removed"
            );
        }
    }
    assert!(
        refused > json.len() / 2,
        "most changes are well-formed JSON, and caught by hashes"
    );
}

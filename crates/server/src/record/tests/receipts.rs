//! Receipts and heads, held and tampered with.

use dayfly_domain::Cause;
use dayfly_ledger::Receipt;

use super::*;
use crate::record::{compare, head_view, receipt};

fn busy() -> (Hand, TaskId) {
    let mut hand = Hand::new();
    let mut last = None;
    for minute in 0..40 {
        let task = hand.start(at(3, minute, 0), &Spec::default());
        for number in 2..8 {
            hand.issue(
                at(3, minute, u64::from(number)),
                task,
                number,
                150,
                at(3, 59, 0),
            );
        }
        if minute % 3 != 0 {
            let said = r#"{"by":{"uid":0},"reason":"done with"}"#;
            hand.end(at(3, minute, 30), task, Cause::Operator, Some(said));
            last = Some(task);
        }
    }
    (hand, last.unwrap())
}

fn made(hand: &Hand, head: &str, task: TaskId, with_annex: bool) -> Option<Receipt> {
    receipt(
        hand.store.as_ref(),
        &hand.tenant,
        ORIGIN,
        head,
        task,
        with_annex,
    )
    .unwrap()
}

#[test]
fn a_receipt_verifies_and_a_tampered_one_does_not() {
    let (hand, task) = busy();
    let key = hand.signer.verifier();
    for with_annex in [false, true] {
        let receipt = made(&hand, &hand.head(), task, with_annex).unwrap();
        let json = serde_json::to_string(&receipt).unwrap();
        assert_eq!(json.contains("done with"), with_annex);
        let read = Receipt::parse(json.as_bytes()).unwrap();
        let verified = read.verify(key).unwrap();
        assert!(verified.complete());
        assert_eq!(verified.entries().len(), 10);
        let tampered = json.replacen("operator", "deadline", 1);
        assert!(
            Receipt::parse(tampered.as_bytes())
                .unwrap()
                .verify(key)
                .is_err()
        );
        let mut missing = read.clone();
        missing.entries.remove(4);
        assert!(missing.verify(key).is_err());
    }
}

#[test]
fn a_receipt_shows_what_its_head_covers() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let early = hand.head();
    hand.end(at(3, 1, 0), task, Cause::Completed, None);
    let key = hand.signer.verifier();
    let open = made(&hand, &early, task, true).unwrap();
    assert!(!open.verify(key).unwrap().complete());
    let whole = made(&hand, &hand.head(), task, true).unwrap();
    assert!(whole.verify(key).unwrap().complete());
    assert_eq!(made(&hand, &early, TaskId::new(0, [1; 10]), true), None);
    let nonsense = receipt(
        hand.store.as_ref(),
        &hand.tenant,
        ORIGIN,
        "no head",
        task,
        true,
    );
    assert!(nonsense.is_err());
}

#[test]
fn an_earlier_head_is_compared_with_the_present() {
    let mut hand = Hand::new();
    let earlier = hand.head();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let held = hand.head();
    hand.end(at(3, 1, 0), task, Cause::Completed, None);
    let keys = std::slice::from_ref(hand.signer.verifier());
    let present = || head_view(&hand.head(), keys).unwrap();
    for held in [&earlier, &held, &hand.head()] {
        let compared = compare(hand.store.as_ref(), &hand.tenant, held, present(), keys).unwrap();
        assert!(compared.holds, "{:?}", compared.why);
        assert_eq!(compared.check(held, keys), Ok(()));
    }
    // The present ledger is the shorter one: its tail was cut off.
    let long = hand.head();
    let mut short = Hand::new();
    short.start(at(3, 0, 0), &Spec::default());
    let present = head_view(&short.head(), keys).unwrap();
    let cut = compare(
        short.store.as_ref(),
        &short.tenant,
        &long,
        present.clone(),
        keys,
    )
    .unwrap();
    assert!(!cut.holds);
    assert_eq!(
        cut.why.as_deref(),
        Some(
            "the ledger was cut off: 3 entries, where the held head has 4: what stood from position 3 on is gone"
        )
    );
    // Another history of the same length.
    let mut other = Hand::new();
    let spec = Spec {
        workload: "other",
        ..Spec::default()
    };
    other.start(at(3, 0, 0), &spec);
    let rewritten = compare(
        short.store.as_ref(),
        &short.tenant,
        &other.head(),
        present.clone(),
        keys,
    )
    .unwrap();
    assert!(
        rewritten
            .why
            .unwrap()
            .starts_with("the first 3 entries are not those of the held head")
    );
    let stranger = compare(
        short.store.as_ref(),
        &short.tenant,
        "no head",
        present,
        keys,
    )
    .unwrap();
    assert!(
        stranger
            .why
            .unwrap()
            .starts_with("the earlier head is not one of this ledger")
    );
}

//! The bytes of a leaf: golden, and nothing but them is read as version 1.

use dayfly_ledger::leaf::{LeafError, MAX_LEAF_BYTES};
use dayfly_ledger::{Hash, Leaf, Link, RawValue, ReadLeaf, annex_hash, leaf_hash, sha256};
use proptest::prelude::*;

const FIRST: &str = concat!(
    r#"{"v":1,"tenant":"acme","task":"task_01hzy3v7q8e9r0t1y2u3i4o5pa","seq":1,"prev":null,"at":1767225600000,"#,
    r#""kind":"task.started","data":{"workload":"release","attempt":1},"#,
    r#""h":"a-bx0o9eO14SeHFuWQED3qCXNZCTvBU5usswBxTYknA"}"#,
);

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

fn leaf<'a>(data: &'a RawValue, link: Option<Link<'a>>) -> Leaf<'a> {
    Leaf {
        tenant: "acme".into(),
        link,
        at: 1_767_225_600_000,
        kind: "task.started".into(),
        data,
        h: None,
    }
}

fn link(seq: u64, prev: Option<Hash>) -> Option<Link<'static>> {
    Some(Link {
        task: "task_01hzy3v7q8e9r0t1y2u3i4o5pa".into(),
        seq,
        prev,
    })
}

#[test]
fn golden_bytes() {
    let data = raw(r#"{"workload":"release","attempt":1}"#);
    let h = annex_hash(&[1; 16], br#"{"reason":"x"}"#);
    assert_eq!(
        h,
        sha256(&[[1; 16].as_slice(), br#"{"reason":"x"}"#].concat())
    );
    let first = Leaf {
        h: Some(h),
        ..leaf(&data, link(1, None))
    }
    .encode()
    .unwrap();
    assert_eq!(first, FIRST);
    let prev = leaf_hash(first.as_bytes());
    assert_eq!(
        prev.to_string(),
        "H6XPHAg5VdtUCDJM4QyVSPz4wtAXX11_YZ9cM1Xi8no"
    );
    let data = raw(r#"{"count":2}"#);
    let second = Leaf {
        kind: "task.ended".into(),
        ..leaf(&data, link(2, Some(prev)))
    };
    assert_eq!(
        second.encode().unwrap(),
        concat!(
            r#"{"v":1,"tenant":"acme","task":"task_01hzy3v7q8e9r0t1y2u3i4o5pa","seq":2,"#,
            r#""prev":"H6XPHAg5VdtUCDJM4QyVSPz4wtAXX11_YZ9cM1Xi8no","at":1767225600000,"kind":"task.ended","#,
            r#""data":{"count":2},"h":null}"#,
        )
    );
    let data = raw("{}");
    let about = Leaf {
        tenant: "q\"\\\u{1}\n\u{7f}é".into(),
        kind: "declared.changed".into(),
        ..leaf(&data, None)
    };
    assert_eq!(
        about.encode().unwrap(),
        concat!(
            r#"{"v":1,"tenant":"q\"\\\u0001\n"#,
            "\u{7f}é",
            r#"","task":null,"seq":null,"prev":null,"at":1767225600000,"kind":"declared.changed","data":{},"h":null}"#,
        )
    );
}

#[test]
fn what_is_no_leaf_is_not_written() {
    let data = raw("{}");
    let some = Some(sha256(b"x"));
    for (seq, prev) in [(0, None), (0, some), (1, some), (2, None)] {
        assert_eq!(leaf(&data, link(seq, prev)).encode(), Err(LeafError::Link));
    }
    for text in ["[]", "1", "null", r#""x""#] {
        assert_eq!(leaf(&raw(text), None).encode(), Err(LeafError::Data));
    }
}

#[test]
fn the_longest_leaf() {
    let empty = leaf(&raw(r#"{"a":""}"#), None).encode().unwrap().len();
    let fill = "x".repeat(MAX_LEAF_BYTES - empty);
    let mut out = String::from("before");
    leaf(&raw(&format!(r#"{{"a":"{fill}"}}"#)), None)
        .encode_into(&mut out)
        .unwrap();
    assert_eq!(out.len(), "before".len() + MAX_LEAF_BYTES);
    assert!(ReadLeaf::parse(&out.as_bytes()[6..]).is_ok());
    let long = raw(&format!(r#"{{"a":"{fill}x"}}"#));
    let mut out = String::from("before");
    assert_eq!(
        leaf(&long, None).encode_into(&mut out),
        Err(LeafError::TooLong {
            got: MAX_LEAF_BYTES + 1
        })
    );
    assert_eq!(out, "before");
    assert_eq!(
        ReadLeaf::parse(&[b' '; 65_536]).map(|_| ()),
        Err(LeafError::TooLong { got: 65_536 })
    );
}

#[test]
fn another_spelling_is_no_leaf() {
    assert!(ReadLeaf::parse(FIRST.as_bytes()).is_ok());
    for (from, to) in [
        ("{\"v\"", "{ \"v\""),
        ("\"acme\"", "\"\\u0061cme\""),
        ("\"v\":1,\"tenant\":\"acme\"", "\"tenant\":\"acme\",\"v\":1"),
        ("\"v\":1,", "\"v\":1,\"more\":0,"),
        ("\"v\":1,", "\"v\":1,\"v\":1,"),
        ("\"v\":1,", "\"v\":1.0,"),
        ("\"v\":1,", "\"v\":\"1\","),
        ("\"v\":1,", ""),
        ("\"prev\":null,", ""),
        ("\"seq\":1", "\"seq\":null"),
        ("\"seq\":1", "\"seq\":0"),
        ("\"seq\":1", "\"seq\":2"),
        (
            "\"task\":\"task_01hzy3v7q8e9r0t1y2u3i4o5pa\"",
            "\"task\":null",
        ),
        ("\"at\":1", "\"at\":-1"),
        ("\"at\":1", "\"at\":01"),
        ("{\"workload\":\"release\",\"attempt\":1}", "[]"),
        ("{\"workload\":\"release\",\"attempt\":1}", "null"),
        ("{\"workload\":\"release\",", "{\"attempt\":\"release\","),
        ("knA", "knB"),
        ("knA", "knA="),
        ("\"}", "\"} "),
        ("\"}", "\"}{}"),
    ] {
        let other = FIRST.replacen(from, to, 1);
        assert_ne!(other, FIRST);
        assert!(ReadLeaf::parse(other.as_bytes()).is_err(), "{other}");
    }
    assert!(ReadLeaf::parse(&[b'{', 0xff, b'}']).is_err());
    let spaced = FIRST.replacen(",\"at\"", ", \"at\"", 1);
    let at = FIRST.find("\"at\"").unwrap();
    assert_eq!(
        ReadLeaf::parse(spaced.as_bytes()).map(|_| ()),
        Err(LeafError::Spelling { at })
    );
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let later = r#"{"more":[1],"v":2,"tenant":"acme","task":"t","seq":1,"prev":null,"at":5,"kind":"task.new","data":7}"#;
    assert_eq!(
        ReadLeaf::parse(later.as_bytes()).map(|_| ()),
        Err(LeafError::Data)
    );
    let later = later.replace(":7", ": {\"x\": 7}");
    let read = ReadLeaf::parse(later.as_bytes()).unwrap();
    assert_eq!(
        (read.v, read.leaf.at, read.leaf.link.unwrap().seq),
        (2, 5, 1)
    );
    assert!(ReadLeaf::parse(later.replace("\"x\": 7", "\"x\":7,\"x\":8").as_bytes()).is_err());
    assert!(ReadLeaf::parse(later.replace("\"at\":5,", "").as_bytes()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_json_and_comes_back(
        tenant in any::<String>(), task in any::<String>(), kind in any::<String>(), text in any::<String>(),
        seq in 1..=u64::MAX, at: u64, prev: [u8; 32], linked: bool, annexed: bool,
    ) {
        let data = raw(&serde_json::json!({ "text": text }).to_string());
        let prev = (seq > 1).then_some(Hash(prev));
        let leaf = Leaf {
            tenant: tenant.as_str().into(),
            link: linked.then(|| Link { task: task.as_str().into(), seq, prev }),
            at,
            kind: kind.as_str().into(),
            data: &data,
            h: annexed.then(|| sha256(b"annex")),
        };
        let bytes = leaf.encode().unwrap();
        let value: serde_json::Value = serde_json::from_str(&bytes).unwrap();
        prop_assert_eq!(value["tenant"].as_str(), Some(tenant.as_str()));
        prop_assert_eq!(value["data"]["text"].as_str(), Some(text.as_str()));
        let read = ReadLeaf::parse(bytes.as_bytes()).unwrap();
        prop_assert_eq!(read.v, 1);
        prop_assert_eq!(&read.leaf.link, &leaf.link);
        prop_assert_eq!(read.leaf.kind.as_ref(), kind);
        prop_assert_eq!(read.leaf.encode().unwrap(), bytes);
    }

    #[test]
    fn no_changed_byte_is_read_as_the_same_version_1_leaf(at in 0..FIRST.len(), byte: u8) {
        let mut bytes = FIRST.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(read) = ReadLeaf::parse(&bytes) && read.v == 1 {
            let again = read.leaf.encode().unwrap();
            prop_assert_eq!(again.as_bytes(), bytes.as_slice());
        }
    }
}

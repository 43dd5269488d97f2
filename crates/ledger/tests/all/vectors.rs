//! Proofs and a tile log that others made (tests/vectors/README.md).

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_ledger::tile::{encode_bundle, encode_hashes, parse_bundle, parse_hashes};
use dayfly_ledger::{
    Hash, Head, ReadTiles, TileWriter, VerifierKey, consistency_proof, inclusion_proof, leaf_hash,
    open_head, root_at, verify_consistency, verify_extends, verify_inclusion,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const LOG_KEY: &str =
    "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
const LOG_SIZE: u64 = 15;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    name: String,
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    name: String,
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn inclusion_proofs_made_elsewhere() {
    let cases: Vec<Inclusion> = read_json("merkle-inclusion.json");
    assert_eq!(cases.len(), 98);
    for case in cases {
        let (root, proof) = (hash(&case.root), hashes(case.proof.as_deref()));
        // A leaf that is no hash does not even reach the verifier.
        let verified = Hash::from_base64(&case.leaf_hash).is_ok_and(|leaf| {
            verify_inclusion(case.leaf_idx, case.tree_size, &leaf, &proof, &root).is_ok()
        });
        assert_eq!(verified, !case.want_err, "{}", case.name);
    }
}

#[test]
fn consistency_proofs_made_elsewhere() {
    let cases: Vec<Consistency> = read_json("merkle-consistency.json");
    assert_eq!(cases.len(), 98);
    for case in cases {
        let (old, new, proof) = (
            hash(&case.root1),
            hash(&case.root2),
            hashes(case.proof.as_deref()),
        );
        let verified = verify_consistency(case.size1, case.size2, &old, &new, &proof);
        assert_eq!(
            verified.is_err(),
            case.want_err,
            "{}: {verified:?}",
            case.name
        );
    }
}

#[test]
fn a_log_made_elsewhere_is_rebuilt_bit_by_bit() {
    let mut writer = TileWriter::new();
    assert_eq!(head(0).root, writer.root());
    let all = read_bytes(&format!("tile-log/tile/entries/000.p/{LOG_SIZE}"));
    for (entry, size) in parse_bundle(&all).unwrap().into_iter().zip(1..) {
        writer.push(leaf_hash(entry));
        assert_eq!(
            head(size),
            Head {
                origin: "example.com/log/testdata".into(),
                size,
                root: writer.root()
            }
        );
        assert_eq!(
            encode_hashes(writer.partial(0)),
            read_bytes(&format!("tile-log/tile/0/000.p/{size}"))
        );
        let bundle = read_bytes(&format!("tile-log/tile/entries/000.p/{size}"));
        let entries = parse_bundle(&bundle).unwrap();
        assert_eq!(entries.len(), usize::try_from(size).unwrap());
        assert_eq!(encode_bundle(&entries).unwrap(), bundle);
    }
    assert_eq!(writer.size(), LOG_SIZE);
}

#[test]
fn every_head_of_that_log_extends_every_former_one() {
    for new in 0..=LOG_SIZE {
        assert_eq!(root_at(new, &Folder), Ok(head(new).root));
        for held in 0..=new {
            let proof = consistency_proof(held, new, &Folder).unwrap();
            assert_eq!(
                verify_extends(&head(held), &head(new), &proof),
                Ok(()),
                "{held} to {new}"
            );
        }
        for index in 0..new {
            let proof = inclusion_proof(index, new, &Folder).unwrap();
            let leaf = Folder.tile(0, 0, LOG_SIZE.try_into().unwrap()).unwrap()
                [usize::try_from(index).unwrap()];
            assert_eq!(
                verify_inclusion(index, new, &leaf, &proof, &head(new).root),
                Ok(())
            );
        }
    }
}

/// Tiles as a server would serve them: a partial one in exactly the width asked for.
struct Folder;

impl ReadTiles for Folder {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        assert_eq!((level, index), (0, 0));
        parse_hashes(&read_bytes(&format!("tile-log/tile/0/000.p/{width}")))
            .map_err(|error| error.to_string())
    }
}

fn head(size: u64) -> Head {
    let note = String::from_utf8(read_bytes(&format!("tile-log/checkpoint.{size}"))).unwrap();
    let key: VerifierKey = LOG_KEY.parse().unwrap();
    open_head(&note, &key).unwrap()
}

/// Some cases name a root or a sibling that is no hash, where any bytes would do. What stands in
/// for it here differs as those bytes do, so that the proof decides and not the decoding.
fn hash(text: &str) -> Hash {
    let bytes = STANDARD.decode(text).unwrap();
    let mut hash = [0xff; 32];
    hash[..bytes.len()].copy_from_slice(&bytes);
    Hash(hash)
}

fn hashes(texts: Option<&[String]>) -> Vec<Hash> {
    texts
        .unwrap_or_default()
        .iter()
        .map(|text| hash(text))
        .collect()
}

fn read_json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&read_bytes(name)).unwrap()
}

fn read_bytes(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

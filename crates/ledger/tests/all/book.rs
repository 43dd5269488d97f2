//! A small ledger in memory, honest or not, for tests to take heads and receipts from.

use std::collections::BTreeMap;

use dayfly_ledger::receipt::{Annex, ReceiptEntry};
use dayfly_ledger::{
    FullTile, Hash, Head, Leaf, Link, RawValue, ReadTiles, Receipt, SignerKey, TileWriter,
    annex_hash, inclusion_proofs, leaf_hash, sign_head,
};

pub(crate) const ORIGIN: &str = "dayfly.example/acme";
pub(crate) const TENANT: &str = "acme";

pub(crate) fn signer() -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[3; 32]).unwrap()
}

/// The full tiles that a store would have persisted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored(BTreeMap<(u8, u64), Vec<Hash>>);

impl Stored {
    pub(crate) fn keep(&mut self, tiles: Vec<FullTile>) {
        for tile in tiles {
            assert_eq!(tile.hashes.len(), 256);
            assert_eq!(
                self.0.insert((tile.level, tile.index), tile.hashes),
                None,
                "a tile is written once"
            );
        }
    }
}

impl ReadTiles for Stored {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        let tile = self
            .0
            .get(&(level, index))
            .ok_or(format!("no tile {level}/{index}"))?;
        Ok(tile[..width.into()].to_vec())
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) leaves: Vec<String>,
    annexes: Vec<Option<Annex>>,
    tails: BTreeMap<String, (u64, Hash)>,
    writer: TileWriter,
    stored: Stored,
}

impl Book {
    /// Appends the next entry of a task, or one of none.
    pub(crate) fn write(&mut self, task: &str, at: u64, kind: &str, data: &str) -> u64 {
        self.write_with(task, at, kind, data, None)
    }

    pub(crate) fn write_with(
        &mut self,
        task: &str,
        at: u64,
        kind: &str,
        data: &str,
        annex: Option<&str>,
    ) -> u64 {
        let former = self.tails.get(task);
        let link = (!task.is_empty()).then(|| Link {
            task: task.into(),
            seq: former.map_or(1, |(seq, _)| seq + 1),
            prev: former.map(|(_, hash)| *hash),
        });
        self.write_linked(link, at, kind, data, annex)
    }

    pub(crate) fn write_linked(
        &mut self,
        link: Option<Link<'_>>,
        at: u64,
        kind: &str,
        data: &str,
        annex: Option<&str>,
    ) -> u64 {
        let salt = [self.leaves.len().to_le_bytes()[0]; 16];
        let annex = annex.map(|data| Annex {
            salt,
            data: data.into(),
        });
        let h = annex
            .as_ref()
            .map(|annex| annex_hash(&annex.salt, annex.data.as_bytes()));
        let data = RawValue::from_string(data.into()).unwrap();
        let place = link.clone().map(|link| (link.task.to_string(), link.seq));
        let leaf = Leaf {
            tenant: TENANT.into(),
            link,
            at,
            kind: kind.into(),
            data: &data,
            h,
        };
        let leaf = leaf.encode().unwrap();
        if let Some((task, seq)) = place {
            self.tails.insert(task, (seq, leaf_hash(leaf.as_bytes())));
        }
        self.append(leaf, annex)
    }

    /// Appends any bytes as a leaf.
    pub(crate) fn append(&mut self, leaf: String, annex: Option<Annex>) -> u64 {
        let pos = self.writer.size();
        self.writer.push(leaf_hash(leaf.as_bytes()));
        self.stored.keep(self.writer.take_full());
        self.leaves.push(leaf);
        self.annexes.push(annex);
        pos
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            origin: ORIGIN.into(),
            size: self.writer.size(),
            root: self.writer.root(),
        }
    }

    pub(crate) fn receipt(&self, task: &str, positions: &[u64]) -> Receipt {
        let tiles = self.writer.over(&self.stored);
        let proofs = inclusion_proofs(positions, self.writer.size(), &tiles).unwrap();
        let entry = |(pos, proof): (&u64, Vec<Hash>)| {
            let index = usize::try_from(*pos).unwrap();
            ReceiptEntry {
                pos: *pos,
                leaf: self.leaves[index].clone(),
                annex: self.annexes[index].clone(),
                proof,
            }
        };
        let entries = positions.iter().zip(proofs).map(entry).collect();
        Receipt::new(
            ORIGIN.into(),
            task.into(),
            entries,
            sign_head(&self.head(), &signer()).unwrap(),
        )
    }
}

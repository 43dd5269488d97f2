//! Bundles: sealed entries in files of their own, one whole tile a file, so that a database may drop them.
//!
//! A bundle is a text of JSON lines. The first is the header,
//! `{"bundle":1,"origin","tenant","first","count":256,"proof":{"head","rest":{"before","after"}}?,"of":{"from","to"}?}`;
//! then comes one line for each entry in order of their positions,
//! `{"pos","leaf","annex":{"salt","data"}?}`, spelled as in a receipt. Nothing stands after them.
//! The 256 leaf hashes are the hash tile of level 0 that begins at `first`, which is how a bundle is
//! held against the tree; an annex is held against the hash in its leaf. The header is bound by
//! nothing: it says where to look, and its proof leads from the leaves to a signed head, for whoever
//! has no tree to hold them against. `of` is the range of the export that a bundle is part of.
//!
//! A file called `<tenant>/<first, 12 digits>.bundle` is whole and synced: it is written beside
//! under another name first. An export ends with the ledger, and its last bundle may have fewer
//! entries: it is called `<first>.<count>.bundle`, and no database ever drops what stands in it.

mod file;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dayfly_domain::Name;
use dayfly_ledger::tile::TILE_WIDTH;
use dayfly_ledger::{Hash, RangeProof, ReadLeaf, annex_hash, leaf_hash, receipt, sha256};
use serde::{Deserialize, Serialize};

use crate::{Annex, StoredEntry};
use file::{bounded, make_folder, put, put_by};

/// How many entries a bundle holds: those of one hash tile of level 0.
pub const BUNDLE_ENTRIES: u64 = TILE_WIDTH as u64;

/// The version of the form.
const FORM: u64 = 1;

/// The most bytes of a bundle, read or written.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// The entries of one tile, each with the leaf hash that its bytes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    origin: String,
    tenant: String,
    entries: Vec<StoredEntry>,
    proof: Option<Evidence>,
    of: Option<Exported>,
}

/// What leads from the entries of a bundle to a signed head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The head, a signed note that nobody has looked at yet.
    pub head: String,
    /// What the rest of its tree comes to.
    pub rest: RangeProof,
}

/// The range of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// The first position.
    pub from: u64,
    /// The position after the last.
    pub to: u64,
}

/// What is wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is none.
    #[error("the bundle `{}` is missing", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the bundle `{}` cannot be read: {why}", .path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It is not what was written.
    #[error("the bundle `{}` is damaged: {why}", .path.display())]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What differs, and where.
        why: String,
    },
    /// It cannot be written.
    #[error("the bundle `{}` cannot be written: {why}", .path.display())]
    Unwritten {
        /// Where it should be.
        path: PathBuf,
        /// What the system said, or what cannot be in a bundle.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    bundle: u64,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    first: u64,
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Exported>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    pos: u64,
    #[serde(borrow)]
    leaf: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annex: Option<receipt::Annex>,
}

impl BundleError {
    /// Which bundle.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Unreadable { path, .. }
            | Self::Damaged { path, .. }
            | Self::Unwritten { path, .. } => path,
        }
    }
}

/// The file of the bundle that holds a position, within a folder of bundles.
#[must_use]
pub fn path(folder: &Path, tenant: &str, pos: u64) -> PathBuf {
    let first = pos - pos % BUNDLE_ENTRIES;
    folder.join(tenant).join(name(first, BUNDLE_ENTRIES))
}

/// The name of the file of a bundle with so many entries.
#[must_use]
pub fn name(first: u64, count: u64) -> String {
    if count == BUNDLE_ENTRIES {
        return format!("{first:012}.bundle");
    }
    format!("{first:012}.{count}.bundle")
}

/// Writes a bundle again without the annexes at these positions, beside it first; true when it
/// held one of them. Positions of other bundles are passed over.
///
/// # Errors
/// [`BundleError`]; then the bundle is what it was.
pub fn without(path: &Path, positions: &[u64]) -> Result<bool, BundleError> {
    let mut bundle = Bundle::read(path)?;
    let mut changed = false;
    for entry in &mut bundle.entries {
        if positions.contains(&entry.pos) {
            changed |= entry.annex.take().is_some();
        }
    }
    if changed {
        put(path, &bundle.text(path)?)?;
    }
    Ok(changed)
}

/// Takes the annexes at these positions out of whichever bundles hold them.
///
/// # Errors
/// [`BundleError`] of the first that cannot be written; those before it are done.
pub(crate) fn erase(folder: &Path, tenant: &str, positions: &[u64]) -> Result<(), BundleError> {
    let mut of: BTreeMap<PathBuf, Vec<u64>> = BTreeMap::new();
    for pos in positions {
        of.entry(path(folder, tenant, *pos)).or_default().push(*pos);
    }
    for (path, positions) in of {
        if path.exists() {
            without(&path, &positions)?;
        }
    }
    Ok(())
}

impl Bundle {
    /// The bundle of these entries, which are those of one whole tile; none where they are not.
    #[must_use]
    pub fn of(origin: &str, tenant: &Name, entries: Vec<StoredEntry>) -> Option<Self> {
        Self::begun(origin, tenant, entries).filter(Self::is_whole)
    }

    /// The same of a tile that the ledger may not have filled yet.
    #[must_use]
    pub fn begun(origin: &str, tenant: &Name, entries: Vec<StoredEntry>) -> Option<Self> {
        let first = entries.first()?.pos;
        let in_place = (first..)
            .zip(&entries)
            .all(|(pos, entry)| entry.pos == pos && entry.hash == leaf_hash(entry.leaf.as_bytes()));
        let fits = first.is_multiple_of(BUNDLE_ENTRIES) && entries.len() as u64 <= BUNDLE_ENTRIES;
        (in_place && fits).then(|| Self {
            origin: origin.to_owned(),
            tenant: tenant.to_string(),
            entries,
            proof: None,
            of: None,
        })
    }

    /// The same with what leads to a head.
    #[must_use]
    pub fn proven(self, proof: Evidence) -> Self {
        let proof = Some(proof);
        Self { proof, ..self }
    }

    /// The same as part of an export.
    #[must_use]
    pub fn part_of(self, of: Exported) -> Self {
        let of = Some(of);
        Self { of, ..self }
    }

    /// Writes it to its place within a folder of bundles and syncs it, the same bytes or none.
    ///
    /// One that is there with the same leaves is replaced. One with other leaves, of a ledger that a
    /// restore left behind, is kept under another name.
    ///
    /// # Errors
    /// [`BundleError::Unwritten`]; then nothing has its name that had not before.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, BundleError> {
        let path = path(folder, &self.tenant, self.first());
        let text = self.text(&path)?;
        make_folder(&path).map_err(|why| unwritten(&path, &why))?;
        if let Ok(there) = Self::read(&path)
            && there.hashes().ne(self.hashes())
        {
            let print = sha256(there.text(&path)?.as_bytes()).to_string();
            let aside = path.with_extension(format!("bundle.{print}"));
            fs::rename(&path, aside).map_err(|why| unwritten(&path, &why))?;
        }
        put(&path, &text)?;
        Ok(path)
    }

    /// Writes it into a file that is not there yet and syncs it.
    ///
    /// # Errors
    /// [`BundleError::Unwritten`], also where the name is taken; then what has it is as it was.
    pub fn write_new(&self, path: &Path) -> Result<(), BundleError> {
        let text = self.text(path)?;
        make_folder(path).map_err(|why| unwritten(path, &why))?;
        put_by(path, &text, |part, path| {
            // Unlike a rename, a link takes no name that something has.
            fs::hard_link(part, path)?;
            fs::remove_file(part)
        })
    }

    /// Reads the bundle of a whole tile, as [`Self::read_begun`] does.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let bundle = Self::read_begun(path)?;
        if bundle.is_whole() {
            return Ok(bundle);
        }
        let count = bundle.entries.len();
        Err(damaged(path, &format!("it has {count} entries")))
    }

    /// Reads a bundle and checks all that can be without the tree: that it has as many entries as it
    /// says, that each is a leaf of its tenant, and that each annex is the one that its leaf names.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read_begun(path: &Path) -> Result<Self, BundleError> {
        let text = match bounded(path) {
            Ok(text) => text,
            Err(why) if why.kind() == ErrorKind::NotFound => {
                let path = path.to_path_buf();
                return Err(BundleError::Missing { path });
            }
            Err(why) if why.kind() == ErrorKind::InvalidData => return Err(damaged(path, &why)),
            Err(why) => {
                return Err(BundleError::Unreadable {
                    path: path.to_path_buf(),
                    why: why.to_string(),
                });
            }
        };
        Self::parse(&text).map_err(|why| damaged(path, &why))
    }

    /// Whether a file begins as a bundle does.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(br#"{"bundle":"#)
    }

    /// Reads the text of a bundle, as [`Self::read_begun`] does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.strip_suffix('\n').ok_or("it is cut off")?.split('\n');
        let header: Header<'_> = serde_json::from_str(lines.next().unwrap_or_default())
            .map_err(|why| format!("its first line is no header: {why}"))?;
        if header.bundle != FORM || !(1..=BUNDLE_ENTRIES).contains(&header.count) {
            return Err(format!("its form {} is not known", header.bundle));
        }
        if !header.first.is_multiple_of(BUNDLE_ENTRIES) {
            return Err(format!("no tile begins at position {}", header.first));
        }
        let mut entries = Vec::new();
        for (pos, line) in (header.first..).zip(lines) {
            let entry = entry(line, pos, &header.tenant)
                .map_err(|why| format!("at position {pos}: {why}"))?;
            entries.push(entry);
        }
        if entries.len() as u64 != header.count {
            return Err(format!(
                "it has {} entries and says {}",
                entries.len(),
                header.count
            ));
        }
        Ok(Self {
            origin: header.origin.into_owned(),
            tenant: header.tenant.into_owned(),
            entries,
            proof: header.proof,
            of: header.of,
        })
    }

    /// The position of its first entry.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.pos)
    }

    /// The ledger it was written from, as the header says.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The tenant, which every leaf names.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its entries, in order of their positions.
    #[must_use]
    pub fn entries(&self) -> &[StoredEntry] {
        &self.entries
    }

    /// The position after its last entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first() + self.entries.len() as u64
    }

    /// Whether its tile is full.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.entries.len() as u64 == BUNDLE_ENTRIES
    }

    /// What leads from it to a signed head, where it has that: nobody has checked it yet.
    #[must_use]
    pub fn proof(&self) -> Option<&Evidence> {
        self.proof.as_ref()
    }

    /// The range of the export that it is part of.
    #[must_use]
    pub fn exported(&self) -> Option<Exported> {
        self.of
    }

    /// The hashes of its leaves, computed: those of a hash tile of level 0.
    pub fn hashes(&self) -> impl Iterator<Item = Hash> {
        self.entries.iter().map(|entry| entry.hash)
    }

    fn text(&self, path: &Path) -> Result<String, BundleError> {
        self.to_text().map_err(|why| unwritten(path, &why))
    }

    /// The text of the bundle, as [`Self::parse`] reads it.
    ///
    /// # Errors
    /// What cannot be in a bundle.
    pub fn to_text(&self) -> Result<String, String> {
        let header = Header {
            bundle: FORM,
            origin: self.origin.as_str().into(),
            tenant: self.tenant.as_str().into(),
            first: self.first(),
            count: self.entries.len() as u64,
            proof: self.proof.clone(),
            of: self.of,
        };
        let failed = |why: serde_json::Error| why.to_string();
        let mut text = serde_json::to_string(&header).map_err(failed)?;
        for entry in &self.entries {
            let annex = entry.annex.as_ref().map(|annex| receipt::Annex {
                salt: annex.salt,
                data: annex.data.clone(),
            });
            let line = Line {
                pos: entry.pos,
                leaf: entry.leaf.as_str().into(),
                annex,
            };
            text.push('\n');
            text.push_str(&serde_json::to_string(&line).map_err(failed)?);
        }
        text.push('\n');
        if text.len() as u64 > MOST_BYTES {
            return Err("it would be too large".to_owned());
        }
        Ok(text)
    }
}

/// Reads the line of an entry and checks it as far as it goes by itself.
fn entry(line: &str, pos: u64, tenant: &str) -> Result<StoredEntry, String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|why| why.to_string())?;
    if line.pos != pos {
        return Err(format!("an entry of position {} stands there", line.pos));
    }
    let ReadLeaf { leaf, .. } =
        ReadLeaf::parse(line.leaf.as_bytes()).map_err(|why| format!("no leaf: {why}"))?;
    if leaf.tenant != tenant {
        return Err(format!("its leaf is of the tenant `{}`", leaf.tenant));
    }
    let h = line.annex.as_ref();
    let h = h.map(|annex| annex_hash(&annex.salt, annex.data.as_bytes()));
    if h.is_some() && h != leaf.h {
        return Err("its annex is not the one that its leaf names".to_owned());
    }
    Ok(StoredEntry {
        pos,
        hash: leaf_hash(line.leaf.as_bytes()),
        leaf: line.leaf.into_owned(),
        annex: line.annex.map(|annex| Annex {
            salt: annex.salt,
            data: annex.data,
        }),
    })
}

pub(crate) fn damaged(path: &Path, why: &impl ToString) -> BundleError {
    BundleError::Damaged {
        path: path.to_path_buf(),
        why: why.to_string(),
    }
}

fn unwritten(path: &Path, why: &impl ToString) -> BundleError {
    BundleError::Unwritten {
        path: path.to_path_buf(),
        why: why.to_string(),
    }
}

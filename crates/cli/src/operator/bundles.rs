//! `dayfly ledger verify` of bundles: whether entries in files are those of a signed head, with nothing but a key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dayfly_ledger::head::{HeadError, tenant_of};
use dayfly_ledger::{Frontier, Hash, Head, VerifierKey, open_head, verify_range};
use dayfly_store::{Bundle, BundleError};
use serde_json::{Value, json};

/// Bundles that were found to hold.
#[derive(Debug)]
pub(super) struct Proven {
    tenant: String,
    /// The first position, and the last.
    from: u64,
    to: u64,
    /// How many annexes are with them, each the one that its leaf names.
    annexes: u64,
    /// The head that they are proven by: the one that was given, or else the largest of their own.
    head: Head,
    /// The note that it stands in.
    pub(super) note: String,
}

/// Why bundles do not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Their bytes are not those that were written.
    #[error("tampered: {0}")]
    Tampered(String),
    /// One is not there.
    #[error("missing: {0}")]
    Missing(String),
    /// A head is not of this ledger.
    #[error("foreign: {0}")]
    Foreign(String),
}

/// What a verification came to; an error is that it cannot be told.
pub(super) type Judged = Result<std::result::Result<Proven, Fault>>;

/// What a verification came to, for programs.
pub(super) fn json(judged: &std::result::Result<Proven, Fault>) -> Value {
    match judged {
        Ok(Proven {
            tenant,
            from,
            to,
            annexes,
            head,
            note,
        }) => json!({
            "holds": true, "tenant": tenant, "from": from, "to": to, "annexes": annexes,
            "origin": head.origin, "size": head.size, "root": head.root, "note": note,
        }),
        Err(why) => {
            let what = match why {
                Fault::Tampered(_) => "tampered",
                Fault::Missing(_) => "missing",
                Fault::Foreign(_) => "foreign",
            };
            json!({ "holds": false, "what": what, "why": why.to_string() })
        }
    }
}

impl Proven {
    /// What holds, in a line.
    pub(super) fn line(&self) -> String {
        let Self {
            tenant,
            from,
            to,
            annexes,
            head,
            note: _,
        } = self;
        format!(
            "holds: the entries at positions {from} to {to} of {tenant}, {annexes} of them with their annexes, are those of the head of {} entries of {}",
            head.size, head.origin
        )
    }
}

impl Fault {
    /// The fault with the file it is about.
    pub(super) fn said(&self, path: &Path) -> anyhow::Error {
        anyhow!("`{}` is not written: {self}", path.display())
    }
}

/// The bundles that a path names: a file, or a folder, or a folder that holds the folder of one
/// tenant; none where the file is something else.
pub(super) fn find(path: &Path, tenant: Option<&str>) -> Result<Option<Vec<PathBuf>>> {
    if !path.is_dir() {
        if path == Path::new("-") {
            return Ok(None);
        }
        let mut beginning = [0; 16];
        let read = fs::File::open(path)
            .and_then(|mut file| std::io::Read::read(&mut file, &mut beginning))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let beginning = beginning.get(..read).unwrap_or_default();
        return Ok(Bundle::is_one(beginning).then(|| vec![path.to_owned()]));
    }
    let mut files = within(path)?;
    let folders: Vec<PathBuf> = entries_of(path)?
        .into_iter()
        .filter(|of| of.is_dir())
        .collect();
    if files.is_empty() {
        files = match (
            tenant.filter(|tenant| !tenant.is_empty()),
            folders.as_slice(),
        ) {
            (Some(tenant), _) => within(&path.join(tenant))?,
            (None, [only]) => within(only)?,
            (None, []) => Vec::new(),
            (None, _) => bail!(
                "there are bundles of several tenants in {}: name one with --tenant",
                path.display()
            ),
        };
    }
    ensure!(
        !files.is_empty(),
        "there is no bundle in {}",
        path.display()
    );
    Ok(Some(files))
}

/// The bundles in a folder, in order of their positions. What a restore left aside is none.
fn within(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = entries_of(folder)?;
    files.retain(|file| file.extension().is_some_and(|end| end == "bundle") && !is_hidden(file));
    files.sort();
    Ok(files)
}

fn is_hidden(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).and_then(|of| of.map(|entry| Ok(entry?.path())).collect());
    read.with_context(|| format!("cannot read {}", folder.display()))
}

/// Checks that the entries of a bundle are those of its own head, which one of these keys signed;
/// none where it has no head.
pub(super) fn check_proof(
    bundle: &Bundle,
    keys: &[VerifierKey],
) -> std::result::Result<Option<Signed>, Fault> {
    let Some(proof) = bundle.proof() else {
        return Ok(None);
    };
    let signed = opened(&proof.head, keys)
        .map_err(|why| Fault::Foreign(format!("its head is not signed by the key: {why}")))?;
    let head = &signed.head;
    let (first, hashes) = (bundle.first(), bundle.hashes());
    verify_range(first, hashes, head.size, &head.root, &proof.rest).map_err(|why| {
        Fault::Tampered(format!(
            "its entries, positions {first} to {}, are not those of its head: {why}",
            bundle.end() - 1
        ))
    })?;
    check_tenant(bundle, head)?;
    Ok(Some(signed))
}

fn check_tenant(bundle: &Bundle, head: &Head) -> std::result::Result<(), Fault> {
    let of = tenant_of(&head.origin);
    if of == bundle.tenant() {
        return Ok(());
    }
    Err(Fault::Foreign(format!(
        "the head is of the tenant `{of}`, the entries are of `{}`",
        bundle.tenant()
    )))
}

/// Opens a head by the latest of these keys that signed it.
fn opened(note: &str, keys: &[VerifierKey]) -> std::result::Result<Signed, String> {
    let mut why = String::from("there is no key");
    for key in keys.iter().rev() {
        match open_head(note, key) {
            Ok(head) => {
                let note = note.to_owned();
                return Ok(Signed { head, note });
            }
            Err(HeadError::Origin { got, .. }) => why = format!("it is of the ledger {got}"),
            Err(other) => why = other.to_string(),
        }
    }
    Err(why)
}

/// A head that one of the keys signed, with its note.
pub(super) struct Signed {
    pub(super) head: Head,
    note: String,
}

/// What is known so far of bundles that are read in order.
struct Reading<'k> {
    keys: &'k [VerifierKey],
    given: Option<Signed>,
    tenant: Option<String>,
    /// The first position, and the one after the last.
    from: u64,
    end: u64,
    annexes: u64,
    /// The tree as far as the bundles reach from its first entry on.
    tree: Frontier,
    /// The roots that it must have at these sizes.
    roots: BTreeMap<u64, Hash>,
    /// The ranges of exports that bundles say they are part of.
    exported: Vec<(u64, u64)>,
    /// The largest head of their own, and whether all of them are proven by the given one.
    own: Option<Signed>,
    all_by_given: bool,
    /// Bundles that no head of their own proves.
    unproven: u64,
}

/// Verifies bundles, in order of their positions, by the heads that they hold, and against one that
/// is given. Of one file alone is not asked whether others are missing.
pub(super) fn judge(
    files: &[PathBuf],
    alone: bool,
    keys: &[VerifierKey],
    given: Option<&str>,
) -> Judged {
    let given = match given.map(|note| opened(note, keys)).transpose() {
        Ok(given) => given,
        Err(why) => {
            let why = format!("the head given is not signed by the key: {why}");
            return Ok(Err(Fault::Foreign(why)));
        }
    };
    let mut reading = Reading {
        keys,
        roots: given
            .iter()
            .map(|of| (of.head.size, of.head.root))
            .collect(),
        given,
        tenant: None,
        from: 0,
        end: 0,
        annexes: 0,
        tree: Frontier::new(),
        exported: Vec::new(),
        own: None,
        all_by_given: true,
        unproven: 0,
    };
    for file in files {
        let bundle = match Bundle::read_begun(file) {
            Ok(bundle) => bundle,
            Err(why @ BundleError::Damaged { .. }) => {
                return Ok(Err(Fault::Tampered(why.to_string())));
            }
            Err(why @ BundleError::Missing { .. }) => {
                return Ok(Err(Fault::Missing(why.to_string())));
            }
            Err(why @ (BundleError::Unreadable { .. } | BundleError::Unwritten { .. })) => {
                return Err(why.into());
            }
        };
        if let Err(fault) = reading.take(&bundle) {
            return Ok(Err(fault.of(file)));
        }
    }
    if !alone && let Err(fault) = reading.check_whole() {
        return Ok(Err(fault));
    }
    reading.finish().map(Ok)
}

impl Fault {
    fn of(self, file: &Path) -> Self {
        let named = |why: String| format!("`{}`: {why}", file.display());
        match self {
            Self::Tampered(why) => Self::Tampered(named(why)),
            Self::Missing(why) => Self::Missing(why),
            Self::Foreign(why) => Self::Foreign(named(why)),
        }
    }
}

impl Reading<'_> {
    fn take(&mut self, bundle: &Bundle) -> std::result::Result<(), Fault> {
        let first = bundle.first();
        match &self.tenant {
            None => {
                self.tenant = Some(bundle.tenant().to_owned());
                (self.from, self.end) = (first, first);
            }
            Some(tenant) if tenant != bundle.tenant() => {
                return Err(Fault::Foreign(format!(
                    "its entries are of the tenant `{}`, those before of `{tenant}`",
                    bundle.tenant()
                )));
            }
            Some(_) => {}
        }
        if let Some(given) = &self.given {
            check_tenant(bundle, &given.head)?;
        }
        match check_proof(bundle, self.keys)? {
            None => (self.unproven, self.all_by_given) = (self.unproven + 1, false),
            Some(own) => {
                let head = &own.head;
                let known = self.roots.insert(head.size, head.root);
                if known.is_some_and(|root| root != head.root) {
                    return Err(Fault::Foreign(format!(
                        "two heads of {} entries have different roots: they are of two histories",
                        head.size
                    )));
                }
                let given = self.given.as_ref();
                self.all_by_given &= given.is_some_and(|given| given.head.size == head.size);
                let largest = self.own.as_ref();
                if largest.is_none_or(|largest| largest.head.size < head.size) {
                    self.own = Some(own);
                }
            }
        }
        if first > self.end {
            return Err(missing(self.end, first));
        }
        self.exported
            .extend(bundle.exported().map(|of| (of.from, of.to)));
        self.grow(bundle)
    }

    /// Takes the entries that no bundle before held: the last one of an export may have been filled
    /// by a later export.
    fn grow(&mut self, bundle: &Bundle) -> std::result::Result<(), Fault> {
        for entry in bundle
            .entries()
            .iter()
            .filter(|entry| entry.pos >= self.end)
        {
            self.annexes += u64::from(entry.annex.is_some());
            if self.from != 0 {
                continue;
            }
            self.tree.push(entry.hash);
            let size = self.tree.size();
            if let Some(root) = self.roots.get(&size)
                && *root != self.tree.root()
            {
                return Err(Fault::Tampered(format!(
                    "the entries up to position {} do not make the root of the head of {size} entries",
                    size - 1
                )));
            }
        }
        self.end = self.end.max(bundle.end());
        Ok(())
    }

    /// Whether everything is there that the bundles themselves speak of.
    fn check_whole(&self) -> std::result::Result<(), Fault> {
        for (from, to) in &self.exported {
            if *from < self.from {
                return Err(missing(*from, self.from));
            }
            if *to > self.end {
                return Err(missing(self.end, *to));
            }
        }
        // What a server moved out of its database goes from the first entry on.
        if self.exported.is_empty() && self.from > 0 {
            return Err(missing(0, self.from));
        }
        Ok(())
    }

    fn finish(self) -> Result<Proven> {
        let from_the_first = self.from == 0;
        let covered = |of: &Signed| from_the_first && of.head.size <= self.end;
        let all = |of: &Signed| covered(of) && of.head.size == self.end;
        let Signed { head, note } = match (self.given, self.own) {
            (Some(given), own) => {
                // Entries beyond the given head are proven by heads of their own, and those begin
                // with what it covers: both are roots of one tree that was computed here.
                let by_both = covered(&given) && self.unproven == 0;
                ensure!(
                    self.all_by_given || all(&given) || by_both,
                    no_way(&given.head, own.as_ref().map(|own| &own.head), self.end)
                );
                given
            }
            (None, Some(own)) if self.unproven == 0 || all(&own) => own,
            (None, _) => bail!(
                "nothing leads from the bundles to a signed head: name one with --head, of the {} entries that they hold",
                self.end
            ),
        };
        Ok(Proven {
            tenant: self.tenant.unwrap_or_default(),
            from: self.from,
            to: self.end.saturating_sub(1),
            annexes: self.annexes,
            head,
            note,
        })
    }
}

fn missing(from: u64, end: u64) -> Fault {
    Fault::Missing(format!(
        "there is no bundle of the positions {from} to {}",
        end - 1
    ))
}

fn no_way(given: &Head, own: Option<&Head>, end: u64) -> String {
    let size = given.size;
    match own {
        Some(own) => format!(
            "the bundles are proven by a head of {} entries, and nothing leads from it to the given one of {size}: export from the first entry on, or have `dayfly ledger verify` compare both heads by a server",
            own.size
        ),
        None => format!(
            "the bundles hold {end} entries and no proof, and the head is of {size}: it must be of as many, or they exported anew"
        ),
    }
}

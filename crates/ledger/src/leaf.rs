//! The bytes of one entry: written by hand because every event passes here, read strictly.

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};
use core::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hash::{Hash, sha256_parts};
use crate::json::check_unambiguous;

/// The version that [`Leaf::encode`] writes.
pub const LEAF_VERSION: u64 = 1;

/// The longest leaf that is written or, of this version, read (DESIGN section 3, "Bounds").
pub const MAX_LEAF_BYTES: usize = 8192;

/// One entry of the ledger (DESIGN section 9).
///
/// Its bytes are one JSON object without white space between its members, which always stand in
/// the order `v, tenant, task, seq, prev, at, kind, data, h`. Strings are escaped only where JSON
/// demands it, in its shortest way.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// The tenant whose ledger it is in.
    pub tenant: Cow<'a, str>,
    /// Its place in the chain of a task; none for an entry about no open task.
    pub link: Option<Link<'a>>,
    /// Milliseconds since 1970-01-01T00:00:00Z; never decreases with the position.
    pub at: u64,
    /// What happened, as `task.started`.
    pub kind: Cow<'a, str>,
    /// The event, a JSON object without persons, as serde_json writes a struct: no member twice,
    /// no white space.
    pub data: &'a RawValue,
    /// [`annex_hash`] of the entry's annex; none where it has no annex.
    pub h: Option<Hash>,
}

/// The place of an entry in the chain of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// The public id of the task.
    pub task: Cow<'a, str>,
    /// Which entry of the task it is, from 1.
    pub seq: u64,
    /// The leaf hash of the task's former entry; none for the first.
    pub prev: Option<Hash>,
}

/// An entry as it was read.
#[derive(Clone, Debug)]
pub struct ReadLeaf<'a> {
    /// The version it was written in. Of a version above [`LEAF_VERSION`] only the members known
    /// here are read, which are enough to verify its chain.
    pub v: u64,
    /// What it says.
    pub leaf: Leaf<'a>,
}

/// Why an entry cannot be written, or bytes are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Longer than [`MAX_LEAF_BYTES`].
    #[error("the leaf has {got} bytes, more than {MAX_LEAF_BYTES}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// The event is no JSON object.
    #[error("the leaf's `data` is no object")]
    Data,
    /// A task without a number, a first entry with a predecessor, or a later one without.
    #[error("the leaf's `task`, `seq` and `prev` do not belong together")]
    Link,
    /// Not the JSON of a leaf.
    #[error("the leaf cannot be read: {0}")]
    Json(String),
    /// It says what a leaf says and not as version 1 writes it: another order, spaces, needless
    /// escapes, members missing or unknown.
    #[error("the leaf differs at byte {at} from how version {LEAF_VERSION} is written")]
    Spelling {
        /// The first byte that differs.
        at: usize,
    },
}

/// The hash that binds an annex to its leaf: SHA-256 of the salt and the annex bytes. Without the
/// salt nobody can guess an erased annex from it.
#[must_use]
pub fn annex_hash(salt: &[u8; 16], annex: &[u8]) -> Hash {
    sha256_parts(&[salt, annex])
}

impl Leaf<'_> {
    /// The bytes of the leaf.
    ///
    /// # Errors
    /// As [`encode_into`](Leaf::encode_into).
    pub fn encode(&self) -> Result<String, LeafError> {
        let mut out = String::with_capacity(self.data.get().len() + 320);
        self.encode_into(&mut out)?;
        Ok(out)
    }

    /// Appends the bytes of the leaf; nothing on an error.
    ///
    /// # Errors
    /// [`LeafError::TooLong`], [`LeafError::Data`] and [`LeafError::Link`].
    pub fn encode_into(&self, out: &mut String) -> Result<(), LeafError> {
        self.check()?;
        let start = out.len();
        self.write(out);
        let got = out.len() - start;
        if got > MAX_LEAF_BYTES {
            out.truncate(start);
            return Err(LeafError::TooLong { got });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), LeafError> {
        if let Some(link) = &self.link
            && (link.seq == 0 || (link.seq == 1) != link.prev.is_none())
        {
            return Err(LeafError::Link);
        }
        if self.data.get().starts_with('{') {
            Ok(())
        } else {
            Err(LeafError::Data)
        }
    }

    fn write(&self, out: &mut String) {
        out.push_str(r#"{"v":1,"tenant":"#);
        write_string(out, &self.tenant);
        out.push_str(r#","task":"#);
        match &self.link {
            None => out.push_str(r#"null,"seq":null,"prev":null"#),
            Some(link) => {
                write_string(out, &link.task);
                out.push_str(r#","seq":"#);
                write_number(out, link.seq);
                out.push_str(r#","prev":"#);
                write_hash(out, link.prev.as_ref());
            }
        }
        out.push_str(r#","at":"#);
        write_number(out, self.at);
        out.push_str(r#","kind":"#);
        write_string(out, &self.kind);
        out.push_str(r#","data":"#);
        out.push_str(self.data.get());
        out.push_str(r#","h":"#);
        write_hash(out, self.h.as_ref());
        out.push('}');
    }
}

impl<'a> ReadLeaf<'a> {
    /// Reads the bytes of a leaf. Version 1 has one spelling and no other member; a later one may
    /// have more and is read as far as it is known.
    ///
    /// # Errors
    /// [`LeafError`] naming the first rule that is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        // A later version may allow longer leaves; no bundle can hold more than these.
        if bytes.len() > usize::from(u16::MAX) {
            return Err(LeafError::TooLong { got: bytes.len() });
        }
        let text =
            core::str::from_utf8(bytes).map_err(|error| LeafError::Json(error.to_string()))?;
        check_unambiguous(text).map_err(LeafError::Json)?;
        let wire = serde_json::from_str::<Wire<'_>>(text)
            .map_err(|error| LeafError::Json(error.to_string()))?;
        let read = wire.read()?;
        read.leaf.check()?;
        if read.v == LEAF_VERSION {
            check_spelling(&read.leaf, bytes)?;
        }
        Ok(read)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    v: u64,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow)]
    task: Option<Text<'a>>,
    seq: Option<u64>,
    prev: Option<Hash>,
    at: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    h: Option<Hash>,
}

/// A string within an option, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Wire<'a> {
    fn read(self) -> Result<ReadLeaf<'a>, LeafError> {
        let link = match (self.task, self.seq, self.prev) {
            (None, None, None) => None,
            (Some(Text(task)), Some(seq), prev) => Some(Link { task, seq, prev }),
            _ => return Err(LeafError::Link),
        };
        let Self {
            v,
            tenant,
            at,
            kind,
            data,
            h,
            ..
        } = self;
        Ok(ReadLeaf {
            v,
            leaf: Leaf {
                tenant,
                link,
                at,
                kind,
                data,
                h,
            },
        })
    }
}

/// Compares with what would be written; so order, white space, escapes, and members missing or
/// unknown need no rule of their own.
fn check_spelling(leaf: &Leaf<'_>, bytes: &[u8]) -> Result<(), LeafError> {
    let wanted = leaf.encode()?;
    if wanted.as_bytes() == bytes {
        return Ok(());
    }
    let at = wanted
        .bytes()
        .zip(bytes)
        .take_while(|(wanted, got)| wanted == *got)
        .count();
    Err(LeafError::Spelling { at })
}

fn write_number(out: &mut String, number: u64) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{number}");
}

fn write_hash(out: &mut String, hash: Option<&Hash>) {
    match hash {
        None => out.push_str("null"),
        Some(hash) => {
            out.push('"');
            hash.push_base64url(out);
            out.push('"');
        }
    }
}

/// Writes a JSON string with only the escapes that RFC 8259 section 7 demands.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    if text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        out.push_str(text);
    } else {
        text.chars().for_each(|c| write_escaped(out, c));
    }
    out.push('"');
}

fn write_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        c if c < ' ' => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

//! Signed checkpoints: what a ledger claims to be, and what anyone can hold against it.

use alloc::format;
use alloc::string::String;

use crate::hash::Hash;
use crate::note::{Note, NoteError, SignerKey, VerifierKey, cosign_note, sign_note};
use crate::proof::{ProofError, is_empty_tree, verify_consistency};

/// A tree of one ledger: size and root (C2SP tlog-checkpoint).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The ledger: its public URL without scheme, which is the name of its key.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The Merkle tree hash over them.
    pub root: Hash,
}

/// Why a head cannot be signed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// No note, or not one of this key.
    #[error("the head is not a note signed by its key")]
    Note(#[from] NoteError),
    /// The first line and the key disagree.
    #[error("the head is of `{got}` instead of `{wanted}`")]
    Origin {
        /// The name of the key.
        wanted: String,
        /// The first line.
        got: String,
    },
    /// A line that is missing or malformed.
    #[error("line {line} of the head is not {wanted}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Why a head does not continue one that is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendsError {
    /// The heads are of two ledgers.
    #[error("the new head is of `{got}` instead of `{wanted}`")]
    Origin {
        /// The origin of the held head.
        wanted: String,
        /// The origin of the new one.
        got: String,
    },
    /// Entries that were there are gone from the end.
    #[error("the ledger was cut off: {got} entries, where the held head has {held}")]
    CutOff {
        /// The size of the held head.
        held: u64,
        /// The size of the new one.
        got: u64,
    },
    /// Entries that were there are others now, or the proof is not one of these two heads.
    #[error("the first {held} entries are not those of the held head")]
    Rewritten {
        /// The size of the held head.
        held: u64,
        /// What differs.
        source: ProofError,
    },
}

/// Signs a head. Sign committed state only: a ledger never signs two trees that contradict each
/// other (C2SP tlog-checkpoint).
///
/// # Errors
/// [`HeadError::Origin`] where the origin is not the name of the key.
pub fn sign_head(head: &Head, key: &SignerKey) -> Result<String, HeadError> {
    if head.origin != key.name() {
        return Err(HeadError::Origin {
            wanted: key.name().into(),
            got: head.origin.clone(),
        });
    }
    let body = format!(
        "{}\n{}\n{}\n",
        head.origin,
        head.size,
        head.root.to_base64()
    );
    Ok(sign_note(&body, key)?)
}

/// Signs a signed head by another key of the same ledger, so that it holds by either.
///
/// # Errors
/// [`HeadError`] where the note is no head of the key's ledger.
pub fn cosign_head(note: &str, key: &SignerKey) -> Result<String, HeadError> {
    let both = cosign_note(note, key)?;
    open_head(&both, key.verifier()).map(|_| both)
}

/// Reads a head that the key signed. Extension lines are allowed and left out.
///
/// # Errors
/// [`HeadError`] naming the first rule that is broken.
pub fn open_head(note: &str, key: &VerifierKey) -> Result<Head, HeadError> {
    let body = Note::parse(note)?.verify(key)?;
    let mut lines = body.strip_suffix('\n').unwrap_or(body).split('\n');
    let origin = lines.next().unwrap_or_default();
    if origin != key.name() {
        return Err(HeadError::Origin {
            wanted: key.name().into(),
            got: origin.into(),
        });
    }
    let size = lines.next().and_then(parse_size);
    let size = size.ok_or(HeadError::Line {
        line: 2,
        wanted: "a tree size",
    })?;
    let root = lines.next().and_then(|line| Hash::from_base64(line).ok());
    let root = root.ok_or(HeadError::Line {
        line: 3,
        wanted: "the base64 of a root",
    })?;
    if let Some(empty) = lines.position(str::is_empty) {
        return Err(HeadError::Line {
            line: 4 + empty,
            wanted: "an extension",
        });
    }
    Ok(Head {
        origin: origin.into(),
        size,
        root,
    })
}

/// Checks that the new head's ledger begins with the held head's, by a consistency proof.
///
/// # Errors
/// [`ExtendsError`], which tells a tail cut off from a history rewritten.
pub fn verify_extends(held: &Head, new: &Head, proof: &[Hash]) -> Result<(), ExtendsError> {
    if held.origin != new.origin {
        return Err(ExtendsError::Origin {
            wanted: held.origin.clone(),
            got: new.origin.clone(),
        });
    }
    if new.size < held.size {
        return Err(ExtendsError::CutOff {
            held: held.size,
            got: new.size,
        });
    }
    // Every ledger begins with nothing; there is no proof of it.
    if is_empty_tree(held.size, &held.root)
        && proof.is_empty()
        && (new.size > 0 || new.root == held.root)
    {
        return Ok(());
    }
    let verified = verify_consistency(held.size, new.size, &held.root, &new.root, proof);
    verified.map_err(|source| ExtendsError::Rewritten {
        held: held.size,
        source,
    })
}

/// The tenant of a ledger: the last segment of its origin (DESIGN section 9).
#[must_use]
pub fn tenant_of(origin: &str) -> &str {
    origin.rsplit('/').next().unwrap_or(origin)
}

/// A decimal number with no sign and no leading zero.
fn parse_size(line: &str) -> Option<u64> {
    let size = line.parse::<u64>().ok()?;
    (format!("{size}") == line).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{empty_root, sha256};
    use crate::tree::Frontier;

    fn key() -> SignerKey {
        SignerKey::from_seed("ledger.example/acme", &[1; 32]).unwrap()
    }

    fn head(size: u64, root: Hash) -> Head {
        Head {
            origin: "ledger.example/acme".into(),
            size,
            root,
        }
    }

    #[test]
    fn signed_and_opened() {
        let head = head(u64::MAX, sha256(b"x"));
        let note = sign_head(&head, &key()).unwrap();
        assert_eq!(open_head(&note, key().verifier()), Ok(head.clone()));
        let successor = SignerKey::from_seed("ledger.example/acme", &[2; 32]).unwrap();
        let both = cosign_head(&note, &successor).unwrap();
        assert_eq!(open_head(&both, key().verifier()), Ok(head.clone()));
        assert_eq!(open_head(&both, successor.verifier()), Ok(head.clone()));
        let elsewhere = SignerKey::from_seed("ledger.example/other", &[2; 32]).unwrap();
        assert!(matches!(
            cosign_head(&note, &elsewhere),
            Err(HeadError::Origin { .. })
        ));
        let stranger = Head {
            origin: "ledger.example/other".into(),
            ..head
        };
        assert!(matches!(
            sign_head(&stranger, &key()),
            Err(HeadError::Origin { .. })
        ));
    }

    #[test]
    fn bodies() {
        let root = sha256(b"x").to_base64();
        let line = |line| {
            Some(HeadError::Line {
                line,
                wanted: if line == 2 { "a tree size" } else { "" },
            })
        };
        let origin = "ledger.example/acme";
        for (body, wanted) in [
            (format!("{origin}\n1\n{root}\n"), None),
            (format!("{origin}\n1\n{root}\nextension\nanother\n"), None),
            (format!("{origin}\n1\n{root}\n\nextension\n"), line(4)),
            (format!("{origin}\n01\n{root}\n"), line(2)),
            (format!("{origin}\n+1\n{root}\n"), line(2)),
            (format!("{origin}\n-1\n{root}\n"), line(2)),
            (format!("{origin}\n18446744073709551616\n{root}\n"), line(2)),
            (format!("{origin}\n\n{root}\n"), line(2)),
            (format!("{origin}\n"), line(2)),
            (format!("{origin}\n1\n"), line(3)),
            (format!("{origin}\n1\n{root}A\n"), line(3)),
            (format!("{origin}\n1\nAAAA\n"), line(3)),
        ] {
            let note = sign_note(&body, &key()).unwrap();
            let got = open_head(&note, key().verifier()).err();
            let number = |error: &HeadError| match error {
                HeadError::Line { line, .. } => *line,
                HeadError::Note(_) | HeadError::Origin { .. } => 0,
            };
            assert_eq!(
                got.as_ref().map(number),
                wanted.as_ref().map(number),
                "{body}"
            );
        }
        let foreign = sign_note(&format!("ledger.example/other\n1\n{root}\n"), &key()).unwrap();
        assert!(matches!(
            open_head(&foreign, key().verifier()),
            Err(HeadError::Origin { .. })
        ));
    }

    #[test]
    fn a_cut_is_told_from_a_rewrite() {
        let mut tree = Frontier::new();
        tree.push(sha256(b"a"));
        let one = head(1, tree.root());
        tree.push(sha256(b"b"));
        let two = head(2, tree.root());
        assert_eq!(verify_extends(&one, &two, &[sha256(b"b")]), Ok(()));
        assert_eq!(verify_extends(&two, &two, &[]), Ok(()));
        assert_eq!(
            verify_extends(&two, &one, &[]),
            Err(ExtendsError::CutOff { held: 2, got: 1 })
        );
        let other = head(2, sha256(b"z"));
        assert!(matches!(
            verify_extends(&two, &other, &[]),
            Err(ExtendsError::Rewritten { held: 2, .. })
        ));
        assert!(matches!(
            verify_extends(&one, &two, &[]),
            Err(ExtendsError::Rewritten { held: 1, .. })
        ));
        let nothing = head(0, empty_root());
        assert_eq!(verify_extends(&nothing, &two, &[]), Ok(()));
        assert_eq!(verify_extends(&nothing, &nothing, &[]), Ok(()));
        assert!(verify_extends(&nothing, &two, &[sha256(b"b")]).is_err());
        assert!(verify_extends(&head(0, sha256(b"x")), &two, &[]).is_err());
        assert!(verify_extends(&nothing, &head(0, sha256(b"x")), &[]).is_err());
        let elsewhere = Head {
            origin: "else.example/acme".into(),
            ..two.clone()
        };
        assert!(matches!(
            verify_extends(&two, &elsewhere, &[]),
            Err(ExtendsError::Origin { .. })
        ));
    }
}

//! C2SP signed notes: a text and the lines that sign it.

pub use key::{KeyError, SignerKey, VerifierKey};

mod key;

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 65_536;

/// The most signature lines that are read.
pub const MAX_SIGNATURES: usize = 64;

const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A note as it was read; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature<'a> {
    name: &'a str,
    key_hash: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a text is no signed note, or not one of the expected key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`].
    #[error("the note has {got} bytes, more than {MAX_NOTE_BYTES}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// A character below U+0020 that is no line feed.
    #[error("the note has a control character at byte {at}")]
    Control {
        /// Where it stands.
        at: usize,
    },
    /// No blank line, or a text or signatures that do not end with a line feed.
    #[error("the note has no text and signatures parted by a blank line")]
    Shape,
    /// A signature line that is none, counted from 1.
    #[error("signature line {line} of the note is malformed")]
    Line {
        /// Which line, from 1.
        line: usize,
    },
    /// More than [`MAX_SIGNATURES`] lines.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// No line is of the expected key.
    #[error("the note is not signed by `{wanted}`")]
    Unsigned {
        /// The key in its text form.
        wanted: String,
    },
    /// A line claims to be of the expected key and is not.
    #[error("the note's signature by `{name}` does not hold")]
    Forged {
        /// The name of the key.
        name: String,
    },
}

/// Writes the text and its signature (C2SP signed-note). Ed25519 is deterministic, so the same
/// text and key give the same bytes.
///
/// # Errors
/// [`NoteError`] where the text cannot be signed: empty, without a last line feed, with control
/// characters, or too long.
pub fn sign_note(text: &str, key: &SignerKey) -> Result<String, NoteError> {
    check_characters(text)?;
    if !text.ends_with('\n') {
        return Err(NoteError::Shape);
    }
    let mut note = String::from(text);
    note.push('\n');
    note.push_str(SIGNATURE_PREFIX);
    note.push_str(key.verifier().name());
    note.push(' ');
    note.push_str(
        &STANDARD.encode(
            [
                key.verifier().key_hash().as_slice(),
                &key.sign(text.as_bytes()),
            ]
            .concat(),
        ),
    );
    note.push('\n');
    check_characters(&note).map(|()| note)
}

/// Adds a signature by another key to a note. What the note is signed by already is not judged.
///
/// # Errors
/// [`NoteError`] where it is no note, or has no place for another signature.
pub fn cosign_note(note: &str, key: &SignerKey) -> Result<String, NoteError> {
    let Note { text, signatures } = Note::parse(note)?;
    if signatures.len() >= MAX_SIGNATURES {
        return Err(NoteError::TooMany);
    }
    let signed = sign_note(text, key)?;
    let (_, line) = signed.rsplit_once("\n\n").ok_or(NoteError::Shape)?;
    let note = [note, line].concat();
    check_characters(&note).map(|()| note)
}

impl<'a> Note<'a> {
    /// Reads the shape of a note.
    ///
    /// # Errors
    /// [`NoteError`] naming the first rule that is broken.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        check_characters(note)?;
        // The text may have blank lines of its own: the last one parts it from the signatures.
        let (before, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Shape)?;
        let text = note.get(..=before.len()).ok_or(NoteError::Shape)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
        let mut signatures = Vec::new();
        for (number, line) in lines.split('\n').enumerate() {
            if number >= MAX_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::Line { line: number + 1 })?);
        }
        Ok(Self { text, signatures })
    }

    /// The text with its last line feed, if the key signed it. Signatures of other keys are
    /// ignored; every one of this key must hold.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] and [`NoteError::Forged`].
    pub fn verify(&self, key: &VerifierKey) -> Result<&'a str, NoteError> {
        let mut signed = false;
        for signature in &self.signatures {
            if signature.name != key.name() || signature.key_hash != *key.key_hash() {
                continue;
            }
            if !key.verifies(self.text.as_bytes(), &signature.bytes) {
                return Err(NoteError::Forged {
                    name: key.name().into(),
                });
            }
            signed = true;
        }
        if signed {
            Ok(self.text)
        } else {
            Err(NoteError::Unsigned {
                wanted: alloc::format!("{key}"),
            })
        }
    }
}

fn parse_signature(line: &str) -> Option<Signature<'_>> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    if !key::is_name(name) {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    let (key_hash, signature) = bytes.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(Signature {
        name,
        key_hash: *key_hash,
        bytes: signature.to_vec(),
    })
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong { got: text.len() });
    }
    match text.bytes().position(|byte| byte < 0x20 && byte != b'\n') {
        Some(at) => Err(NoteError::Control { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString as _;

    fn signer() -> SignerKey {
        SignerKey::from_seed("example.com/acme", &[7; 32]).unwrap()
    }

    #[test]
    fn signed_and_opened() {
        let note = sign_note("a\n\nb\n", &signer()).unwrap();
        let key: VerifierKey = signer().verifier().to_string().parse().unwrap();
        assert_eq!(Note::parse(&note).unwrap().verify(&key), Ok("a\n\nb\n"));
    }

    #[test]
    fn strangers_are_ignored_and_forgers_are_not() {
        let key = signer().verifier().clone();
        let note = sign_note("text\n", &signer()).unwrap();
        let other = SignerKey::from_seed("example.com/acme", &[8; 32]).unwrap();
        let stranger = sign_note("text\n", &other).unwrap();
        let stranger_line = stranger.rsplit_once("\n\n").unwrap().1;
        let both = format!("{note}{stranger_line}");
        assert_eq!(Note::parse(&both).unwrap().verify(&key), Ok("text\n"));
        assert!(matches!(
            Note::parse(&stranger).unwrap().verify(&key),
            Err(NoteError::Unsigned { .. })
        ));
        let forged = note.replacen("text", "tExt", 1);
        assert!(matches!(
            Note::parse(&forged).unwrap().verify(&key),
            Err(NoteError::Forged { .. })
        ));
        // A good signature does not make up for a bad one of the same key.
        let forged_line = sign_note("else\n", &signer())
            .unwrap()
            .rsplit_once("\n\n")
            .unwrap()
            .1
            .to_string();
        let mixed = format!("{note}{forged_line}");
        assert!(matches!(
            Note::parse(&mixed).unwrap().verify(&key),
            Err(NoteError::Forged { .. })
        ));
    }

    #[test]
    fn a_note_is_signed_by_several() {
        let other = SignerKey::from_seed("example.com/acme", &[8; 32]).unwrap();
        let note = sign_note("a\n\nb\n", &signer()).unwrap();
        let both = cosign_note(&note, &other).unwrap();
        let read = Note::parse(&both).unwrap();
        assert_eq!(read.verify(signer().verifier()), Ok("a\n\nb\n"));
        assert_eq!(read.verify(other.verifier()), Ok("a\n\nb\n"));
        let full = (2..MAX_SIGNATURES).fold(both, |note, _| cosign_note(&note, &other).unwrap());
        assert_eq!(cosign_note(&full, &other), Err(NoteError::TooMany));
        assert_eq!(cosign_note("text\n", &other), Err(NoteError::Shape));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = sign_note("text\n", &signer()).unwrap();
        let line = good.rsplit_once("\n\n").unwrap().1;
        for (bad, wanted) in [
            (String::new(), NoteError::Shape),
            ("text\n".into(), NoteError::Shape),
            ("text\n\n".into(), NoteError::Shape),
            (good.trim_end().into(), NoteError::Shape),
            (good.replace("text", "te\tt"), NoteError::Control { at: 2 }),
            (good.replace("text", "te\rt"), NoteError::Control { at: 2 }),
            (good.replace('\u{2014}', "-"), NoteError::Line { line: 1 }),
            (
                good.replace("\u{2014} ", "\u{2014}"),
                NoteError::Line { line: 1 },
            ),
            (
                good.replace("example.com/acme", "example+com"),
                NoteError::Line { line: 1 },
            ),
            (
                good.replace("example.com/acme", ""),
                NoteError::Line { line: 1 },
            ),
            (
                good.replace("example.com/acme", "a\u{a0}b"),
                NoteError::Line { line: 1 },
            ),
            (
                format!("{good}\u{2014} x AAAAAA==\n"),
                NoteError::Line { line: 2 },
            ),
            (
                format!("{good}\u{2014} x AAAA\n"),
                NoteError::Line { line: 2 },
            ),
            (format!("{good}\u{2014} x !\n"), NoteError::Line { line: 2 }),
            (format!("text\n\n{}", line.repeat(65)), NoteError::TooMany),
            ("x".repeat(65_537), NoteError::TooLong { got: 65_537 }),
        ] {
            assert_eq!(Note::parse(&bad), Err(wanted), "{bad}");
        }
        assert_eq!(sign_note("text", &signer()), Err(NoteError::Shape));
        assert_eq!(sign_note("", &signer()), Err(NoteError::Shape));
        assert_eq!(
            sign_note("a\0\n", &signer()),
            Err(NoteError::Control { at: 1 })
        );
    }
}

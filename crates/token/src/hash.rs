//! SHA-256 and the two names made of it: key thumbprints and token hashes.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq;

use crate::b64::{self, NotBase64Url};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of_parts(&[bytes])
}

/// SHA-256 of the parts one after the other; the caller keeps the joints unambiguous.
#[must_use]
pub fn sha256_of_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    // INVARIANT: SHA-256 gives 32 bytes, so every byte of `hash` is overwritten.
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// Equality of two secrets in time that does not depend on where they differ.
#[must_use]
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The JWK SHA-256 thumbprint of a public key (RFC 7638), base64url as text; `jkt` in `cnf` (RFC 9449 section 6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint(pub [u8; 32]);

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64::encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = NotBase64Url;

    fn from_str(text: &str) -> Result<Self, NotBase64Url> {
        b64::decode_array(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_like_the_whole() {
        assert_eq!(sha256(b"abc"), sha256_of_parts(&[b"a", b"", b"bc"]));
        // FIPS 180-4, "abc"
        assert_eq!(
            b64::encode(sha256(b"abc")),
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"
        );
    }

    #[test]
    fn a_thumbprint_has_one_text() {
        let print = Thumbprint(sha256(b"abc"));
        assert_eq!(print.to_string().parse(), Ok(print));
        assert_eq!("ungWv48".parse::<Thumbprint>(), Err(NotBase64Url));
    }
}

//! The bytes of a tile and of a bundle of entries, as C2SP tlog-tiles serves them.

use alloc::vec::Vec;

use super::TILE_WIDTH;
use crate::hash::Hash;

/// Why bytes are no tile or bundle, or entries fit into none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry is longer than its 16-bit length can say.
    #[error("entry {entry} of the bundle has {got} bytes, more than {}", u16::MAX)]
    TooLong {
        /// Which entry, from 0.
        entry: usize,
        /// Its length in bytes.
        got: usize,
    },
    /// There is none, or there are more than 256.
    #[error("{got} instead of 1 to {TILE_WIDTH} in one tile")]
    Count {
        /// How many there are.
        got: usize,
    },
    /// The bytes end within an entry or a hash.
    #[error("the bytes end within item {item}")]
    Cut {
        /// Which entry or hash, from 0.
        item: usize,
    },
}

/// Writes up to 256 entries, each after its length as a big-endian 16-bit integer.
///
/// # Errors
/// [`BundleError::TooLong`] and [`BundleError::Count`].
pub fn encode_bundle<T: AsRef<[u8]>>(entries: &[T]) -> Result<Vec<u8>, BundleError> {
    check_count(entries.len())?;
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 2).sum());
    for (number, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let too_long = BundleError::TooLong {
            entry: number,
            got: entry.len(),
        };
        let length = u16::try_from(entry.len()).map_err(|_| too_long)?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads [`encode_bundle`].
///
/// # Errors
/// [`BundleError::Cut`] and [`BundleError::Count`].
pub fn parse_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = BundleError::Cut {
            item: entries.len(),
        };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(cut)?;
        let (entry, after) = after
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or(cut)?;
        entries.push(entry);
        check_count(entries.len())?;
        rest = after;
    }
    check_count(entries.len())?;
    Ok(entries)
}

/// Writes the hashes of a tile, one after the other.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads [`encode_hashes`].
///
/// # Errors
/// [`BundleError::Cut`] and [`BundleError::Count`].
pub fn parse_hashes(bytes: &[u8]) -> Result<Vec<Hash>, BundleError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(BundleError::Cut { item: hashes.len() });
    }
    check_count(hashes.len())?;
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

fn check_count(got: usize) -> Result<(), BundleError> {
    if (1..=usize::from(TILE_WIDTH)).contains(&got) {
        Ok(())
    } else {
        Err(BundleError::Count { got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn there_and_back() {
        let entries = [b"one".as_slice(), b"", b"three"];
        let bytes = encode_bundle(&entries).unwrap();
        assert_eq!(bytes, b"\0\x03one\0\0\0\x05three");
        assert_eq!(parse_bundle(&bytes).unwrap(), entries);
        let hashes = [Hash([1; 32]), Hash([2; 32])];
        assert_eq!(parse_hashes(&encode_hashes(&hashes)).unwrap(), hashes);
    }

    #[test]
    fn bounds() {
        assert!(encode_bundle(&[vec![0; 65_535]]).is_ok());
        assert_eq!(
            encode_bundle(&[vec![0; 65_536]]),
            Err(BundleError::TooLong {
                entry: 0,
                got: 65_536
            })
        );
        assert_eq!(
            encode_bundle(&[[0_u8; 1]; 257]),
            Err(BundleError::Count { got: 257 })
        );
        assert_eq!(
            parse_bundle(&[0; 514]),
            Err(BundleError::Count { got: 257 })
        );
        assert_eq!(parse_bundle(&[]), Err(BundleError::Count { got: 0 }));
        assert_eq!(
            parse_bundle(b"\0\x01a\0"),
            Err(BundleError::Cut { item: 1 })
        );
        assert_eq!(parse_bundle(b"\0\x02a"), Err(BundleError::Cut { item: 0 }));
        assert_eq!(parse_hashes(&[0; 33]), Err(BundleError::Cut { item: 1 }));
        assert_eq!(
            parse_hashes(&[0; 257 * 32]),
            Err(BundleError::Count { got: 257 })
        );
    }
}

//! The bytes of the containment journal: a header that names a generation, and frames of that generation.
//!
//! A frame is `hold`, the length of its payload (four bytes, big-endian), the SHA-256 of generation,
//! place and payload, and the payload; it begins at a multiple of 64 bytes. The journal is emptied
//! by a header of the next generation alone: what is left of earlier ones has other hashes.

use dayfly_token::hash::sha256_of_parts;

/// The most bytes of a payload.
pub(super) const PAYLOAD: usize = 64 * 1024;
/// Where the first frame begins.
pub(super) const FIRST: usize = ALIGN;
/// Frames begin at multiples of this.
const ALIGN: usize = 64;
/// The bytes before a payload.
const BEFORE: usize = 4 + 4 + 32;
const MARK: &[u8; 4] = b"hold";
const MAGIC: &[u8; 8] = b"dayflyj1";

/// A frame that is damaged although another follows it: an end that was acknowledged is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Where it begins.
    pub(super) at: usize,
}

/// The header of a generation. It lies within one sector, which a disk writes whole or not at all.
pub(super) fn header(generation: u64) -> Vec<u8> {
    let number = generation.to_be_bytes();
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&number);
    header.extend_from_slice(&sha256_of_parts(&[MAGIC, &number]));
    header
}

/// The generation that a file's header names; none where it has no header of ours.
pub(super) fn generation(bytes: &[u8]) -> Option<u64> {
    let number = bytes.get(MAGIC.len()..)?.first_chunk::<8>()?;
    let generation = u64::from_be_bytes(*number);
    bytes.starts_with(&header(generation)).then_some(generation)
}

/// A frame for this place.
pub(super) fn frame(generation: u64, at: usize, payload: &[u8]) -> Vec<u8> {
    // INVARIANT: a payload is no longer than PAYLOAD, which fits into four bytes.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = MARK.to_vec();
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&hash(generation, at, payload));
    frame.extend_from_slice(payload);
    frame
}

/// How much of the file a frame takes.
pub(super) const fn room(payload: usize) -> usize {
    (BEFORE + payload).next_multiple_of(ALIGN)
}

/// The payloads of a generation, in order, and where the next frame goes.
///
/// A last frame that is torn was never acknowledged and counts as not there.
///
/// # Errors
/// [`Torn`] when a frame follows one that is damaged.
pub(super) fn read(bytes: &[u8], generation: u64) -> Result<(Vec<&[u8]>, usize), Torn> {
    let mut found = Vec::new();
    let mut at = FIRST;
    while let Some(payload) = payload(bytes, generation, at) {
        found.push(payload);
        at += room(payload.len());
    }
    let follows = |at: &usize| payload(bytes, generation, *at).is_some();
    match (at..bytes.len()).step_by(ALIGN).find(follows) {
        Some(_) => Err(Torn { at }),
        None => Ok((found, at)),
    }
}

fn payload(bytes: &[u8], generation: u64, at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?.strip_prefix(MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (stored, rest) = rest.split_first_chunk::<32>()?;
    let payload = rest.get(..length).filter(|_| length <= PAYLOAD)?;
    (*stored == hash(generation, at, payload)).then_some(payload)
}

fn hash(generation: u64, at: usize, payload: &[u8]) -> [u8; 32] {
    let place = u64::try_from(at).unwrap_or(u64::MAX).to_be_bytes();
    sha256_of_parts(&[&generation.to_be_bytes(), &place, payload])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(generation: u64, payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = vec![0; 8192];
        let head = header(generation);
        bytes[..head.len()].copy_from_slice(&head);
        let (mut at, mut places) = (FIRST, Vec::new());
        for payload in payloads {
            let frame = frame(generation, at, payload);
            bytes[at..at + frame.len()].copy_from_slice(&frame);
            places.push(at);
            at += room(payload.len());
        }
        (bytes, places)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, _) = written(7, &[b"one", &[b'x'; 200], b""]);
        assert_eq!(generation(&bytes), Some(7));
        let (found, _) = read(&bytes, 7).unwrap();
        assert_eq!(found, [b"one".as_slice(), &[b'x'; 200], b""]);
    }

    #[test]
    fn a_torn_last_frame_is_not_there_and_a_torn_middle_is_refused() {
        let (whole, places) = written(1, &[b"one", &[b'x'; 200], b"three"]);
        for byte in places[2]..places[2] + BEFORE + 5 {
            let mut torn = whole.clone();
            torn[byte] ^= 1;
            let (found, next) = read(&torn, 1).unwrap();
            assert_eq!((found.len(), next), (2, places[2]), "byte {byte}");
        }
        for place in &places[..2] {
            for byte in [*place, place + 5, place + 20, place + BEFORE] {
                let mut torn = whole.clone();
                torn[byte] ^= 1;
                assert_eq!(read(&torn, 1), Err(Torn { at: *place }), "byte {byte}");
            }
        }
    }

    #[test]
    fn another_generation_and_another_place_do_not_count() {
        let (mut bytes, places) = written(1, &[b"one", b"two"]);
        let head = header(2);
        bytes[..head.len()].copy_from_slice(&head);
        assert_eq!(read(&bytes, 2).unwrap(), (vec![], FIRST));
        // A frame that is copied elsewhere is none.
        let copy = bytes[places[0]..places[1]].to_vec();
        bytes[places[1] + 64..places[1] + 64 + copy.len()].copy_from_slice(&copy);
        assert_eq!(read(&bytes, 1).unwrap().0.len(), 2);
        bytes[3] ^= 1;
        assert_eq!(generation(&bytes), None);
    }
}

//! Base64url without padding in its one accepted spelling (RFC 7515 section 2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The text is not base64url, carries padding or has a second spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64url without padding")]
pub struct NotBase64Url;

/// Encodes `bytes`.
#[must_use]
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes `text`; refuses padding, whitespace and non-zero trailing bits, so that no two texts give the same bytes.
pub fn decode(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url)
}

/// Decodes `text` to exactly `N` bytes.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], NotBase64Url> {
    decode(text)?.try_into().map_err(|_| NotBase64Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_spellings_are_refused() {
        assert_eq!(decode("AQ"), Ok(vec![1]));
        for text in [
            "AQ==", "AQ=", "AR", "A", " AQ", "AQ\n", "A+8", "A/8", "AQAB=",
        ] {
            assert_eq!(decode(text), Err(NotBase64Url), "{text:?}");
        }
    }

    #[test]
    fn arrays_have_their_length() {
        assert_eq!(decode_array::<1>("AQ"), Ok([1]));
        assert_eq!(decode_array::<2>("AQ"), Err(NotBase64Url));
    }
}

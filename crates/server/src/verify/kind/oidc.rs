//! Any OpenID provider: nothing is known of its tokens but `iss`, `aud` and `exp`.

use dayfly_domain::{Claims, Digest};

use super::Reading;

/// The longest `jti` that names an instance as it stands.
const MAX_JTI_BYTES: usize = 128;

/// The instance is the token itself: which claims name a run only the workload's `task` says, and
/// `sub` names a class or even a person, who has no place in the ledger's leaves.
pub(super) fn read(digest: Digest, claims: Claims) -> Reading {
    let jti = claims.get("jti").filter(|jti| is_plain(jti));
    let instance = match jti {
        Some(jti) => format!("jti={jti}"),
        None => format!("token={digest}"),
    };
    Reading {
        claims,
        instance,
        run_url: None,
        one_time: true,
    }
}

fn is_plain(jti: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    (1..=MAX_JTI_BYTES).contains(&jti.len()) && jti.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_the_token_by_its_id_or_digest() {
        let instance = |claims: &[(&str, &str)]| {
            let claims = claims
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            read(Digest([0; 32]), claims.collect()).instance
        };
        assert_eq!(instance(&[("jti", "a-1"), ("sub", "mona")]), "jti=a-1");
        let digest = format!("token={}", Digest([0; 32]));
        assert_eq!(instance(&[("sub", "mona")]), digest);
        assert_eq!(instance(&[("jti", "mona@example.com")]), digest);
        assert_eq!(instance(&[("jti", "")]), digest);
    }
}

//! The token of the person on whose behalf a run acts: where it is found, and as what it is shown.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dayfly_token::b64;
use serde_json::Value;

use crate::clock;
use crate::environment;
use crate::runner::wire::Failure;
use crate::secret::Secret;

/// The types of tokens (RFC 8693, section 3).
const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Where a person's token is. It is no option of its own: options are for everybody to see.
#[derive(Clone, Debug)]
pub(crate) enum PersonSource {
    /// A variable holds it.
    Variable(Secret),
    /// A file holds it, which may be replaced.
    File(PathBuf),
}

/// A person's token as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct PersonToken {
    token: Secret,
    kind: &'static str,
    /// Until when it may be shown, in seconds since 1970, where it says so.
    expires: Option<u64>,
}

impl PersonSource {
    /// The file that is named, else what a variable holds or names; none where no person is meant.
    pub(crate) fn find(named: Option<&Path>) -> Option<Self> {
        if let Some(file) = named {
            return Some(Self::File(file.to_owned()));
        }
        if let Some(token) = environment::variable(environment::SUBJECT_TOKEN) {
            return Some(Self::Variable(Secret::new(token)));
        }
        let file = environment::variable(environment::SUBJECT_TOKEN_FILE)?;
        Some(Self::File(file.into()))
    }

    /// The token as it is now.
    pub(crate) async fn token(&self) -> Result<PersonToken, Failure> {
        match self {
            Self::Variable(token) => PersonToken::read(token),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
                PersonToken::read(&Secret::new(text))
            }
        }
    }
}

impl PersonToken {
    /// What it is, its own type says: an access token has one (RFC 9068, section 2.1).
    fn read(token: &Secret) -> Result<Self, Failure> {
        let text = token.expose().trim();
        let kind = kind_of(text).context("the person's token is not a signed JWT")?;
        Ok(Self {
            token: Secret::new(text.to_owned()),
            kind,
            expires: expiry_of(text),
        })
    }

    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// Whether it is to be read anew: its file may hold another one by now.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires
            .is_some_and(|expires| expires <= clock::now_seconds())
    }

    pub(crate) const fn kind(&self) -> &'static str {
        self.kind
    }
}

fn kind_of(token: &str) -> Option<&'static str> {
    let mut parts = token.split('.');
    let (header, _, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let header = dayfly_token::json::object(&b64::decode(header).ok()?).ok()?;
    let typ = header.get("typ").and_then(Value::as_str);
    let typ = typ.unwrap_or_default().to_ascii_lowercase();
    let is_access = matches!(typ.as_str(), "at+jwt" | "application/at+jwt");
    Some(if is_access {
        TYPE_ACCESS_TOKEN
    } else {
        TYPE_ID_TOKEN
    })
}

fn expiry_of(token: &str) -> Option<u64> {
    let payload = b64::decode(token.split('.').nth(1)?).ok()?;
    let claims = dayfly_token::json::object(&payload).ok()?;
    claims.get("exp")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_over_is_read_anew() {
        let read = |claims: &str| {
            let token = format!("{}.{}.sig", b64::encode("{}"), b64::encode(claims));
            PersonToken::read(&Secret::new(token)).unwrap()
        };
        assert!(read(r#"{"exp":1}"#).has_expired());
        assert!(!read(r#"{"exp":99999999999}"#).has_expired());
        assert!(!read("{}").has_expired());
    }

    #[test]
    fn a_token_is_shown_as_what_its_type_says() {
        let kind = |header: &str| kind_of(&format!("{}.e30.sig", b64::encode(header)));
        assert_eq!(kind(r#"{"alg":"ES256"}"#), Some(TYPE_ID_TOKEN));
        assert_eq!(kind(r#"{"typ":"JWT"}"#), Some(TYPE_ID_TOKEN));
        assert_eq!(kind(r#"{"typ":"at+jwt"}"#), Some(TYPE_ACCESS_TOKEN));
        let long = kind(r#"{"typ":"application/at+JWT"}"#);
        assert_eq!(long, Some(TYPE_ACCESS_TOKEN));
        assert_eq!(kind("{"), None);
        assert_eq!(kind_of("a.b"), None);
    }
}
